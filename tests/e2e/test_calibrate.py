# SPDX-License-Identifier: LGPL-2.1-or-later
"""`virtjoule calibrate` on a simulated host whose static power and load are given."""

import json
import math
import os
import re
import subprocess
import threading
import time

import pytest

from harness import powercap, system
from harness.daemon import VIRTJOULE, Daemon
from harness.powercap import Package, SimulatedPowercap

CPUS = 4
STATIC_WATTS = 40
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class SimulatedCpus:
    """CPUs of a given load, for the daemon's programs (a proc root) as for the simulated RAPL.

    The tests' own machine may be busy with anything.
    """

    def __init__(self, directory, busy):
        self.root = directory
        self.root.mkdir()
        self._busy = busy  # share of the CPU time, as a function of the seconds since the start
        self._start = self._last = time.monotonic()
        self._idle = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()
        self._write()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def idle_ns(self):
        """Like powercap.read_idle_ns()."""
        with self._lock:
            now = time.monotonic()
            self._idle += (now - self._last) * (1 - self._busy(now - self._start))
            self._last = now
            return dict.fromkeys(range(CPUS), int(self._idle * 1e9))

    def _write(self):
        ticks = self.idle_ns()[0] * TICKS_PER_SECOND // 10**9
        lines = "".join(f"cpu{cpu} 0 0 0 {ticks} 0 0 0 0 0 0\n" for cpu in range(CPUS))
        new = self.root / "stat.new"
        new.write_text(f"cpu  0 0 0 {CPUS * ticks} 0 0 0 0 0 0\n{lines}")
        new.rename(self.root / "stat")

    def _run(self):
        # As the counters' thread, and for the same reason.
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
        while not self._end.wait(0.01):
            self._write()


@pytest.fixture
def simulate(directory, stack, monkeypatch):
    """simulate(busy): a host; its sysfs and proc roots are in the directory."""

    def start(busy):
        cpus = stack.enter_context(SimulatedCpus(directory / "proc", busy))
        monkeypatch.setattr(powercap, "read_idle_ns", cpus.idle_ns)
        (directory / "sys").mkdir()
        package = Package(cpus=tuple(range(CPUS)), static_watts=STATIC_WATTS, watts_per_cpu=20)
        return stack.enter_context(SimulatedPowercap(directory / "sys", [package]))

    return start


@pytest.fixture
def calibrate(directory):
    def run(*arguments):
        return subprocess.run(
            [*system.REALTIME, VIRTJOULE, "calibrate", "--duration", "8s",
             "--output", directory / "baseline.conf", "--sysfs-root", directory / "sys",
             "--proc-root", directory / "proc", *arguments],
            capture_output=True, text=True, timeout=system.PATIENCE_S)

    return run


def test_idle_host(directory, simulate, calibrate, start_daemon):
    # Every other second 0.3 s of work: some windows are quiet, some are not.
    simulate(lambda seconds: 0.2 if seconds % 2 < 0.3 else 0.002)
    result = calibrate("--strict", "--json")
    assert result.returncode == 0, result.stderr
    zone = json.loads(result.stdout)["zones"][0]
    assert zone["name"] == "package-0"
    assert zone["watts"] == pytest.approx(STATIC_WATTS, rel=0.02)
    assert 0 < zone["uncertainty_watts"] < 1
    assert zone["windows_used"] < zone["windows"]
    assert zone["problems"] == []

    baseline = directory / "baseline.conf"
    text = baseline.read_text()
    assert re.search(r"^package-0 = [\d.]+W \+- [\d.]+W$", text, re.M), text
    assert not list(directory.glob("baseline.conf.*"))

    daemon = start_daemon({"rapl": {"sysfs_root": directory / "sys"},
                           "baseline": {"file": baseline}})
    metrics = daemon.wait_ticks(2)
    labels = {"zone": "package-0", "origin": "calibrated", "state": "fixed"}
    assert float(metrics.value("virtjoule_baseline_watts", **labels)) == zone["watts"]
    assert metrics.balance("package-0") == 0
    shown = daemon.cli("show", "--host")
    assert shown["zones"][0]["baseline"]["origin"] == "calibrated"


def test_busy_host(directory, simulate, calibrate):
    simulate(lambda seconds: 0.3 + 0.2 * (seconds % 1))
    result = calibrate("--strict")
    assert result.returncode == 1
    assert "busy" in result.stderr and "refused" in result.stderr
    assert not (directory / "baseline.conf").exists()

    result = calibrate("--json")
    assert result.returncode == 0
    zone = json.loads(result.stdout)["zones"][0]
    assert "busy" in zone["problems"]
    assert abs(zone["watts"] - STATIC_WATTS) < 3 * zone["uncertainty_watts"]
    assert zone["uncertainty_watts"] > 0.1 * STATIC_WATTS
    assert "NOT RELIABLE" in (directory / "baseline.conf").read_text()


def test_no_rapl(directory, calibrate):
    (directory / "sys").mkdir()
    result = calibrate()
    assert result.returncode == 69
    assert "modprobe" in result.stderr


@pytest.mark.parametrize("arguments", [["--duration", "1s"], ["--duration", "60"], ["extra"],
                                       ["--nonsense"]])
def test_wrong_usage(calibrate, arguments):
    assert calibrate(*arguments).returncode == 2


def test_output_that_cannot_be_written(directory, simulate, calibrate):
    simulate(lambda seconds: 0)
    (directory / "file").write_text("")
    result = calibrate("--output", directory / "file/baseline.conf")
    assert result.returncode == 1
    assert "cannot write" in result.stderr


@pytest.mark.slow
def test_learned_while_running(directory, simulate, start_daemon):
    """From none to learned within three minutes of a load between 20 and 90 %."""
    host = simulate(lambda seconds: 0.55 + 0.35 * math.sin(seconds / 5))
    daemon = start_daemon({"rapl": {"sysfs_root": host.root},
                           "discovery": {"proc_root": directory / "proc"},
                           "baseline": {"default": "auto"}})
    rows, end = [0, 0, 0, 0], time.monotonic() + 180
    while time.monotonic() < end:
        metrics = daemon.wait_ticks(1)
        assert metrics.balance("package-0") == 0
        now = [metrics.sum(f"virtjoule_{row}_energy_joules_total")
               for row in ("source", "host", "static", "unattributed")]
        assert all(b >= a for a, b in zip(rows, now)), (rows, now)
        rows = now
    (labels, watts), = metrics.select("virtjoule_baseline_watts")
    assert (labels["origin"], labels["state"]) == ("learned", "learned")
    # It comes in with a time constant of a minute, and has had two.
    sigma = float(metrics.value("virtjoule_baseline_uncertainty_watts"))
    assert 0.7 * STATIC_WATTS < watts < 1.05 * STATIC_WATTS
    assert abs(float(watts) - STATIC_WATTS) < 2.5 * sigma
    assert rows[2] > 30 * STATIC_WATTS
    # The next daemon begins with it.
    daemon.stop()
    daemon.start()
    (labels, again), = daemon.wait_ticks(2).select("virtjoule_baseline_watts")
    assert (labels["origin"], labels["state"]) == ("learned", "learning")
    assert float(again) == pytest.approx(float(watts), abs=3 * sigma)


def test_baseline_file_of_another_machine(directory, simulate, start_daemon):
    simulate(lambda seconds: 0)
    baseline = directory / "other.conf"
    baseline.write_text("[baseline]\npackage-0 = 20W\npackage-7 = 30W\n")
    daemon = start_daemon({"rapl": {"sysfs_root": directory / "sys"},
                           "baseline": {"file": baseline}})
    assert f"file={baseline}" in daemon.log()
    assert "zone=package-7" in daemon.log()
    assert float(daemon.metrics().sum("virtjoule_baseline_watts")) == 20


@pytest.mark.parametrize("line", ["package-0 = -20W", "package-0 = 123456W", "package-0 = 20"])
def test_bad_baseline_file(directory, line):
    (directory / "bad.conf").write_text(f"[baseline]\n{line}\n")
    daemon = Daemon(directory, {"baseline": {"file": directory / "bad.conf"}})
    assert daemon.check_config() == 78
    for part in (f"{directory}/bad.conf", "line=2", "key=package-0", "not a power"):
        assert part in daemon.log()
