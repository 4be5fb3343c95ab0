# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that reads as fast as it can slows nobody but itself, and pays for it."""

import json
import os
import statistics
import subprocess

import pytest

from harness import libvirtd as libvirts
from harness import system
from harness.powercap import Package, SimulatedPowercap

POLL_READER = system.BUILD / "tests/e2e/poll-reader"
TICK_HZ = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def settings(directory, stack):
    (directory / "sys").mkdir()
    package = Package(cpus=tuple(range(os.cpu_count())))
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [package]))
    return {"rapl": {"sysfs_root": host.root}}


@pytest.fixture
def daemon(settings, start_daemon):
    return start_daemon(settings)


def reader(program, file, threads, hertz, seconds):
    return [str(program), str(file), "262143328850", str(threads), str(hertz), str(seconds)]


class Flood:
    """Reads without a pause while the context lasts."""

    def __init__(self, file, threads):
        self._command = reader(POLL_READER, file, threads, 0, 60)

    def __enter__(self):
        self._process = system.start_child(self._command, stdout=subprocess.DEVNULL)

    def __exit__(self, *_):
        system.stop_child(self._process)


class GuestFlood:
    """The same by one thread in a guest that has the program."""

    def __init__(self, guest, program, file):
        self._guest = guest
        self._command = " ".join(reader(program, file, 1, 0, 60))

    def __enter__(self):
        self._guest.check(f"{self._command} >/dev/null 2>&1 & echo $! >/tmp/flood.pid")

    def __exit__(self, *_):
        self._guest.check("kill $(cat /tmp/flood.pid)")


def p99_us(text):
    """Of what the program printed."""
    print(text)
    seen = json.loads(text)
    assert seen["reads"] > 100 and seen["errors"] == seen["decreases"] == 0
    return seen["p99_us"]


def compare(floods, measure):
    """Medians of what is measured beside each flood, in turn."""
    durations = [[] for _ in floods]
    for _ in range(4):
        for flood, seen in zip(floods, durations):
            with flood:
                seen.append(p99_us(measure()))
    return [statistics.median(seen) for seen in durations]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 64])
def test_flood(directory, daemon, start_vm, threads):
    """Beside it, the other's slowest reads take at most twice as long as beside the same readers
    of a file that is not ours: what is left then is the machine's own contention."""
    measured, flooder = start_vm(duty=1), start_vm(duty=1)
    daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
    plain = directory / "energy_uj"
    plain.write_text("1\n")
    missed = daemon.metrics().value("virtjoule_ticks_missed_total")
    command = reader(POLL_READER, daemon.tree(measured.uuid) / "energy_uj", 2, 100, 4)
    beside_plain, beside_flood = compare(
        [Flood(plain, threads), Flood(daemon.tree(flooder.uuid) / "energy_uj", threads)],
        lambda: subprocess.run(command, check=True, capture_output=True, text=True,
                               timeout=system.PATIENCE_S).stdout)
    assert daemon.metrics().value("virtjoule_ticks_missed_total") == missed
    assert beside_flood <= 2 * beside_plain


@pytest.mark.slow
def test_flooding_guest(settings, start_daemon, start_guest):
    """The same of two real guests over virtiofs."""
    daemon = start_daemon({**settings, "discovery": {"libvirt_uri": libvirts.URI}})
    measured, flooder = start_guest(daemon), start_guest(daemon)
    daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
    energy = f"{flooder.POWERCAP}/intel-rapl:0/energy_uj"
    program = measured.install(POLL_READER)
    assert flooder.install(POLL_READER) == program
    flooder.check("echo 1 >/tmp/energy_uj")
    before = daemon.metrics()
    command = " ".join(reader(program, energy, 2, 100, 8))  # few reads have a p99 of chance
    beside_plain, beside_flood = compare(
        [GuestFlood(flooder, program, "/tmp/energy_uj"), GuestFlood(flooder, program, energy)],
        lambda: measured.check(command))
    after = daemon.metrics()
    reads = [m.value("virtjoule_fuse_reads_total", uuid=flooder.uuid) for m in (before, after)]
    print(f"{reads[1] - reads[0]} reads of the flood")
    assert after.value("virtjoule_ticks_missed_total") == before.value(
        "virtjoule_ticks_missed_total")
    assert beside_flood <= 2 * beside_plain


def serving_seconds(daemon):
    """CPU time of the thread that answers FUSE requests."""
    for task in os.scandir(f"/proc/{daemon.process.pid}/task"):
        with open(f"{task.path}/stat") as stat:
            name, rest = stat.read().split("(", 1)[1].rsplit(")", 1)
        if name == "powercapfs":
            user, system_time = rest.split()[11:13]
            return (int(user) + int(system_time)) / TICK_HZ
    raise AssertionError("no such thread")


def test_cost_is_the_readers(daemon, start_vm):
    """What the daemon spends on a VM's requests is the VM's CPU time, not the host's."""
    vm, other = start_vm(duty=0), start_vm(duty=0)
    daemon.wait_metrics(lambda m: len(m.select("virtjoule_vm_info")) == 2)
    daemon.wait_ticks(2)

    def cpu_seconds():
        metrics = daemon.metrics()
        return [float(metrics.value("virtjoule_vm_cpu_seconds_total", uuid=one.uuid))
                for one in (vm, other)]

    before, serving_before = cpu_seconds(), serving_seconds(daemon)
    with Flood(daemon.tree(vm.uuid) / "energy_uj", 2):
        daemon.wait_ticks(5)
    serving = serving_seconds(daemon) - serving_before
    daemon.wait_ticks(2)
    after = cpu_seconds()
    print(before, after, serving)
    assert serving > 0.5
    assert after[0] - before[0] == pytest.approx(serving, rel=0.1, abs=0.05)
    assert after[1] - before[1] < 0.05
