# SPDX-License-Identifier: LGPL-2.1-or-later
"""Against a simulated host whose true energy per VM is known."""

import os
import time
from decimal import Decimal

import pytest

from harness.cgroup import Cgroup
from harness.powercap import Package, SimulatedPowercap

DUTIES = (100, 50, 10, 1)
SECONDS = 60
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

    end = time.monotonic() + SECONDS
    wraps, raw_before, scrapes = 0, 0, 0
    while time.monotonic() < end:
        metrics = daemon.metrics()
        assert metrics.balance("package-0") == 0, metrics.text
        scrapes += 1
        raw = int((host.zone(0) / "energy_uj").read_text())
        wraps += raw < raw_before
        raw_before = raw
        time.sleep(0.2)
    for vm in vms.values():
        vm.stop_load()
    # The process' own clock leaves out how long its threads took to end.
    cpu_seconds = {duty: cgroup.cpu_seconds() for duty, cgroup in cgroups.items()}
    metrics = daemon.wait_ticks()

    assert scrapes > 2 * SECONDS
    assert wraps >= 3
    assert metrics.balance("package-0") == 0
    for duty, vm in vms.items():
        truth = cpu_seconds[duty] * PACKAGE.watts_per_cpu
        joules = float(metrics.vm_energy(vm.uuid))
        tolerance = 0.05 if duty == 1 else 0.02
        assert joules == pytest.approx(truth, rel=tolerance), f"VM of {duty} %"
        assert metrics.value("virtjoule_vm_cpu_seconds_total", uuid=vm.uuid) == pytest.approx(
            Decimal(cpu_seconds[duty]), rel=Decimal("0.005"), abs=Decimal("0.01"))


@pytest.mark.slow
def test_source_is_counted_over_every_wrap(host, start_daemon):
    daemon = start_daemon({"rapl": {"sysfs_root": host.root}})

    def totals():
        """The daemon's and the truth; they are read at different times within an interval."""
        return (daemon.wait_ticks(1).sum("virtjoule_source_energy_joules_total"),
                host.total_uj(0) / 1e6)

    counted_before, true_before = totals()
    time.sleep(SECONDS)
    counted, true = totals()
    most_of_an_interval = PACKAGE.static_watts + PACKAGE.watts_per_cpu * len(PACKAGE.cpus)
    assert float(counted - counted_before) == \
        pytest.approx(true - true_before, abs=most_of_an_interval)
