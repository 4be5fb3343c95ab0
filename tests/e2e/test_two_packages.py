# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two sockets: a package's dynamic energy goes only to the VMs that ran there."""

import itertools
import os
import time

import pytest

from harness import accounts, system
from harness.margins import ENERGY_PINNED, ENERGY_WANDERS
from harness.powercap import Package, SimulatedPowercap

USED_S = 6  # by each VM, as long as that may take
# Different loads, different costs: mixing the packages up would show.
PACKAGES = [Package(cpus=(0,), static_watts=40, watts_per_cpu=400),
            Package(cpus=(1,), static_watts=30, watts_per_cpu=200)]


pytestmark = pytest.mark.skipif(os.cpu_count() < 2, reason="needs two CPUs")


@pytest.fixture
def start_on(directory, stack, start_daemon):
    """start_on(packages): the daemon over two simulated packages."""

    def start(packages):
        # CPUs beyond the second, where there are any, are on the second package.
        packages[1].cpus = tuple(range(1, os.cpu_count()))
        (directory / "sys").mkdir()
        host = stack.enter_context(SimulatedPowercap(directory / "sys", packages))
        return start_daemon({"rapl": {"sysfs_root": host.root},
                             "baseline": {f"package-{i}": f"{package.static_watts}W"
                                          for i, package in enumerate(packages)}})

    return start


@pytest.mark.parametrize("threads", ["long", "short"])
def test_energy_stays_on_its_socket(start_on, start_vm, threads):
    daemon = start_on(PACKAGES)
    vms = [start_vm(name="on-0", duty=60, cpu=0, threads=threads),
           start_vm(name="on-1", duty=30, cpu=1, threads=threads)]
    for vm in vms:
        system.wait_until(lambda: vm.cpu_seconds() > USED_S, f"the work of {vm.name}")
    for vm in vms:
        vm.stop_load()
    metrics = daemon.wait_ticks()
    cpu_seconds = [accounts.cpu_seconds(metrics, vm) for vm in vms]
    if threads == "long":  # whose ends cost nothing that the process' own clock leaves out
        accounts.check_all(daemon, *vms)

    for i, package in enumerate(PACKAGES):
        zone, other = f"package-{i}", f"package-{1 - i}"
        assert metrics.balance(zone) == 0
        energy = {name: float(metrics.sum("virtjoule_vm_energy_joules_total", uuid=vms[i].uuid,
                                          zone=name)) for name in (zone, other)}
        assert energy[zone] == pytest.approx(cpu_seconds[i] * package.watts_per_cpu,
                                             rel=ENERGY_PINNED)
        assert energy[other] == 0


def test_energy_follows_a_thread_that_wanders(start_on, start_vm, provider):
    """Many times in each interval. Here a CPU second costs the same on either package."""
    if provider == "procfs":
        pytest.skip("/proc tells only where a thread was last: the bpf provider's part")
    watts = 300
    daemon = start_on([Package(cpus=(0,), static_watts=40, watts_per_cpu=watts),
                       Package(cpus=(1,), static_watts=30, watts_per_cpu=watts)])
    wanderer = start_vm(name="wanderer", duty=60)
    resident = start_vm(name="resident", duty=20, cpu=0)
    for cpu in itertools.cycle(range(2)):
        for thread in os.listdir(f"/proc/{wanderer.process.pid}/task"):
            os.sched_setaffinity(int(thread), {cpu})
        time.sleep(0.07)
        if min(vm.cpu_seconds() for vm in (wanderer, resident)) > USED_S:
            break
    for vm in (wanderer, resident):
        vm.stop_load()
    metrics = daemon.wait_ticks()
    accounts.check_all(daemon, wanderer, resident)
    for vm in (wanderer, resident):
        assert float(metrics.vm_energy(vm.uuid)) == pytest.approx(
            accounts.cpu_seconds(metrics, vm) * watts, rel=ENERGY_WANDERS), vm.name
        assert metrics.value("virtjoule_vm_energy_joules_total", uuid=wanderer.uuid,
                             zone="package-1") > 0
