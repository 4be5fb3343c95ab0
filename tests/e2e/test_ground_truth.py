# SPDX-License-Identifier: LGPL-2.1-or-later
"""Against a simulated host whose true energy per VM is known."""

import os
import time
from dataclasses import replace

import pytest

from harness import accounts, system
from harness.accounts import Between
from harness.cgroup import Cgroup
from harness.margins import ENERGY, ENERGY_WANDERS
from harness.powercap import Package, SimulatedPowercap

DUTIES = (100, 50, 10, 1)
WRAPS = 3  # a minute, on a machine that has nothing else to do
LEAST_USED_S = 0.4  # by the VM of 1 %
PACKAGE = Package(cpus=tuple(range(os.cpu_count())))


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    return stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["long", "short"])
def test_shares_and_conservation(host, stack, start_daemon, start_vm, threads):
    daemon = start_daemon({"rapl": {"sysfs_root": host.root},
                           "baseline": {"package-0": f"{PACKAGE.static_watts}W"}})
    cgroups = {duty: stack.enter_context(Cgroup(f"duty-{duty}")) for duty in DUTIES}
    vms = {duty: start_vm(name=f"duty-{duty}", duty=duty, threads=threads, cgroup=cgroups[duty])
           for duty in DUTIES}

    wraps, raw_before = 0, 0
    while wraps < WRAPS or vms[1].cpu_seconds() < LEAST_USED_S:
        metrics = daemon.metrics()
        assert metrics.balance("package-0") == 0, metrics.text
        raw = int((host.zone(0) / "energy_uj").read_text())
        wraps += raw < raw_before
        raw_before = raw
        time.sleep(0.2)
    for vm in vms.values():
        vm.stop_load()
    # The process' own clock leaves out how long its threads took to end.
    cpu_seconds = {duty: cgroup.cpu_seconds() for duty, cgroup in cgroups.items()}
    metrics = daemon.wait_ticks()

    assert metrics.balance("package-0") == 0
    for duty, vm in vms.items():
        truth = cpu_seconds[duty] * PACKAGE.watts_per_cpu
        joules = float(metrics.vm_energy(vm.uuid))
        tolerance = ENERGY if duty == 1 else ENERGY_WANDERS
        assert joules == pytest.approx(truth, rel=tolerance), f"VM of {duty} %"
        Between(cpu_seconds[duty] - vm.begun_s, accounts.cpu_seconds(metrics, vm),
                cgroups[duty].cpu_seconds()).check()


@pytest.mark.slow
def test_source_is_counted_over_every_wrap(directory, stack, start_daemon, start_vm):
    # A wrap takes three seconds, three of the daemon's intervals, of a machine that is fully busy,
    # and longer of one that is busy with this VM alone.
    most_watts = PACKAGE.static_watts + PACKAGE.watts_per_cpu * len(PACKAGE.cpus)
    package = replace(PACKAGE, max_energy_uj=3 * most_watts * 10**6)
    root = directory / "sys"
    root.mkdir()
    host = stack.enter_context(SimulatedPowercap(root, [package]))
    daemon = start_daemon({"rapl": {"sysfs_root": host.root}})
    start_vm(duty=100)

    first = host.total_uj(0)
    counted_before = daemon.wait_ticks(2).sum("virtjoule_source_energy_joules_total")
    second = host.total_uj(0)
    system.wait_until(lambda: host.total_uj(0) - second > WRAPS * package.max_energy_uj, "wraps")
    third = host.total_uj(0)
    counted = daemon.wait_ticks(2).sum("virtjoule_source_energy_joules_total")
    assert (third - second) / 1e6 <= float(counted - counted_before) \
        <= (host.total_uj(0) - first) / 1e6
