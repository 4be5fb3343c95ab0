# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that reads as fast as it can slows nobody but itself, and pays for it."""

import json
import os
import statistics
import subprocess

import pytest

from harness import system
from harness.powercap import Package, SimulatedPowercap

POLL_READER = system.BUILD / "tests/e2e/poll-reader"
TICK_HZ = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def daemon(directory, stack, start_daemon):
    (directory / "sys").mkdir()
    package = Package(cpus=tuple(range(os.cpu_count())))
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [package]))
    return start_daemon({"rapl": {"sysfs_root": host.root}})


def reader(file, threads, hertz, seconds):
    return [POLL_READER, file, "262143328850", str(threads), str(hertz), str(seconds)]


class Flood:
    """Reads without a pause while the context lasts."""

    def __init__(self, file, threads):
        self._command = reader(file, threads, 0, 60)

    def __enter__(self):
        self._process = system.start_child(self._command, stdout=subprocess.DEVNULL)

    def __exit__(self, *_):
        system.stop_child(self._process)


def p99_us(file):
    result = subprocess.run(reader(file, 2, 100, 3), check=True, capture_output=True, text=True,
                            timeout=30)
    seen = json.loads(result.stdout)
    print(seen)
    assert seen["reads"] > 100 and seen["errors"] == seen["decreases"] == 0
    return seen["p99_us"]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 64])
def test_flood(directory, daemon, start_vm, threads):
    """Beside it, the other's slowest reads take at most twice as long as beside the same readers
    of a file that is not ours: what is left then is the machine's own contention."""
    measured, flooder = start_vm(duty=1), start_vm(duty=1)
    daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
    plain = directory / "energy_uj"
    plain.write_text("1\n")
    file, flooded = (daemon.tree(vm.uuid) / "energy_uj" for vm in (measured, flooder))
    missed = daemon.metrics().value("virtjoule_ticks_missed_total")
    beside = {plain: [], flooded: []}
    for _ in range(5):
        for what, durations in beside.items():
            with Flood(what, threads):
                durations.append(p99_us(file))
    assert daemon.metrics().value("virtjoule_ticks_missed_total") == missed
    assert statistics.median(beside[flooded]) <= 2 * statistics.median(beside[plain]), beside


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
