# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real guest reads its counter at 50 Hz while the daemon is killed, again and again.

It sees no error, no step backwards, and no stall beyond the time without a daemon
and one interval. Whatever the moment of the kill, all energy is measured and
divided, and the guest gets its own of the time without a daemon as well.
"""

import json
import os
import random
import subprocess
import time

import pytest

from harness import libvirtd as libvirts
from harness import system
from harness.daemon import FAST, VIRTJOULED, Daemon, DescriptorStore
from harness.powercap import Package, SimulatedPowercap

ZONE = "package-0"
INTERVAL_S = 0.2
PACKAGE = Package(cpus=tuple(range(os.cpu_count())))
MAX_WATTS = PACKAGE.static_watts + PACKAGE.watts_per_cpu * len(PACKAGE.cpus)
ROUNDS = 200
HERTZ = 50
# Another build of the same protocol, that keeps its ledger in the same way.
OLDER_COMMIT = "10cee2a44540db6f04558929c22a25cb7e110218"
ROWS = ("source", "vm", "host", "static", "unattributed")


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    return stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))


@pytest.fixture
def daemon(libvirtd, directory, host, stack):
    made = Daemon(directory, {"daemon": FAST, "rapl": {"sysfs_root": host.root},
                              "discovery": {"libvirt_uri": libvirts.URI},
                              "usage": {"provider": "bpf"},
                              "baseline": {ZONE: f"{PACKAGE.static_watts}W"}},
                  DescriptorStore())
    stack.callback(lambda: print(made.log()[-20000:]))
    return stack.enter_context(made)


@pytest.fixture
def guest(daemon, start_guest):
    guest = start_guest(daemon)
    guest.start_load()
    daemon.wait_metrics(lambda m: m.vm_energy(guest.uuid) > 0, what="energy")
    return guest


@pytest.fixture(scope="module")
def older_virtjouled():
    """Built once from an earlier commit: another version of the programs, the same protocol."""
    directory = system.BUILD / f"older-{OLDER_COMMIT[:12]}"
    program = directory / "build/src/daemon/virtjouled"
    if program.exists():
        return program
    archive = subprocess.run(["git", "archive", OLDER_COMMIT], cwd=system.SOURCE_ROOT,
                             capture_output=True)
    if archive.returncode != 0:
        pytest.skip(f"no history to build {OLDER_COMMIT} from: {archive.stderr.decode().strip()}")
    directory.mkdir(exist_ok=True)
    subprocess.run(["tar", "x"], cwd=directory, input=archive.stdout, check=True)
    for command in (["meson", "setup", "build"], ["ninja", "-C", "build", "src/daemon/virtjouled"]):
        subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return program


class GuestReader:
    """In the guest; one thread keeps the file open, one opens it each time. Use as a context."""

    def __init__(self, guest):
        self._guest = guest
        self._zone = f"{guest.POWERCAP}/intel-rapl:0"

    def __enter__(self):
        program = self._guest.install(system.BUILD / "tests/e2e/poll-reader")
        maximum = self._guest.read(f"{self._zone}/max_energy_range_uj").strip()
        self._guest.check(f"{program} {self._zone}/energy_uj {maximum} 2 {HERTZ} 100000 "
                          ">/tmp/reader 2>&1 & echo $! >/tmp/reader.pid")
        self._start = time.monotonic()
        return self

    def __exit__(self, *_):
        self._guest.run("kill -9 $(cat /tmp/reader.pid)")

    def result(self, longest_s):
        """Ends it: no fault, and no read took longer than that and an interval."""
        seconds = time.monotonic() - self._start
        self._guest.check("kill $(cat /tmp/reader.pid)")
        text = system.wait_until(lambda: self._guest.read("/tmp/reader"), "the reader's end")
        seen = json.loads(text)
        print(seen, f"in {seconds:.0f} s, longest downtime {longest_s:.3f} s")
        assert seen["reads"] > 10 * seconds
        for fault in ("torn", "errors", "decreases"):
            assert seen[fault] == 0, seen
        assert seen["longest_ms"] <= 1000 * (longest_s + INTERVAL_S), seen


def totals(daemon):
    metrics = daemon.metrics()
    assert metrics.balance(ZONE) == 0, metrics.text
    return {row: metrics.sum(f"virtjoule_{row}_energy_joules_total") for row in ROWS}


def restart(daemon, moments, program=VIRTJOULED):
    """Kills it at some moment, perhaps the next ones while they start as well.

    Returns how long nobody served at most, in seconds.
    """
    time.sleep(moments.uniform(0, 2 * INTERVAL_S))
    start = time.monotonic()
    daemon.kill()
    daemon.program = program
    while moments.random() < 0.25:
        daemon.launch()
        time.sleep(moments.uniform(0, 0.15))
        daemon.kill()
    daemon.start()
    return time.monotonic() - start


def check_round(daemon, host, before, first):
    """Nothing fell, and all that was used is measured but for what is newer than an interval."""
    after = totals(daemon)
    truth = host.total_uj(0) / 1e6
    assert all(after[row] >= before[row] for row in ROWS), (before, after)
    measured = float(after["source"] - first["source"])
    assert measured == pytest.approx(truth - first["truth"], abs=2 * INTERVAL_S * MAX_WATTS)
    return after


@pytest.mark.slow
def test_kills(host, daemon, guest):
    moments = random.Random(8)
    first = {**totals(daemon), "truth": host.total_uj(0) / 1e6}
    joules = daemon.metrics().vm_energy(guest.uuid)
    used = guest.cgroup_cpu_seconds()
    down_s = []
    with GuestReader(guest) as reader:
        seen = first
        for _ in range(ROUNDS):
            down_s.append(restart(daemon, moments))
            seen = check_round(daemon, host, seen, first)
        reader.result(max(down_s))
    # With nobody's share of all this time.
    assert seen["unattributed"] == first["unattributed"]
    assert daemon.log().count("usage is counted on from") >= ROUNDS
    guest.domain.suspend()
    after = daemon.wait_ticks(2)
    truth = guest.cgroup_cpu_seconds()
    counted = float(after.value("virtjoule_vm_cpu_seconds_total", uuid=guest.uuid))
    joules_per_s = float(after.vm_energy(guest.uuid) - joules) / (truth - used)
    print(f"{sum(down_s):.1f} s without a daemon; CPU time {truth:.3f} s, error "
          f"{counted / truth - 1:+.3%}; energy error "
          f"{joules_per_s / PACKAGE.watts_per_cpu - 1:+.2%}")
    assert counted == pytest.approx(truth, rel=0.01, abs=0.02)
    assert joules_per_s == pytest.approx(PACKAGE.watts_per_cpu, rel=0.04)


@pytest.mark.slow
def test_version_changes(host, daemon, guest, older_virtjouled):
    """Up and down, by a kill each time."""
    moments = random.Random(9)
    first = {**totals(daemon), "truth": host.total_uj(0) / 1e6}
    down_s = []
    with GuestReader(guest) as reader:
        seen = first
        for number in range(ROUNDS // 5):
            program = older_virtjouled if number % 2 == 0 else VIRTJOULED
            down_s.append(restart(daemon, moments, program))
            seen = check_round(daemon, host, seen, first)
        reader.result(max(down_s))
    assert daemon.log().count("the former daemon's mount is continued") >= ROUNDS // 5
