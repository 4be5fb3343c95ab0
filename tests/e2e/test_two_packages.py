# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two sockets: a package's dynamic energy goes only to the VMs that ran there."""

import os
import time

import pytest

from harness.powercap import Package, SimulatedPowercap

SECONDS = 15
# Different loads, different costs: mixing the packages up would show.
PACKAGES = [Package(cpus=(0,), static_watts=40, watts_per_cpu=400),
            Package(cpus=(1,), static_watts=30, watts_per_cpu=200)]


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two CPUs")
@pytest.mark.parametrize("threads", ["long", "short"])
def test_energy_stays_on_its_socket(directory, stack, start_daemon, start_vm, threads):
    # CPUs beyond the second, where there are any, are on the second package.
    PACKAGES[1].cpus = tuple(range(1, os.cpu_count()))
    (directory / "sys").mkdir()
    host = stack.enter_context(SimulatedPowercap(directory / "sys", PACKAGES))
    daemon = start_daemon({"rapl": {"sysfs_root": host.root},
                           "baseline": {f"package-{i}": f"{package.static_watts}W"
                                        for i, package in enumerate(PACKAGES)}})
    vms = [start_vm(name="on-0", duty=60, cpu=0, threads=threads),
           start_vm(name="on-1", duty=30, cpu=1, threads=threads)]
    time.sleep(SECONDS)
    cpu_seconds = [vm.stop_load() / 1e9 for vm in vms]
    metrics = daemon.wait_ticks()

    for i, package in enumerate(PACKAGES):
        zone, other = f"package-{i}", f"package-{1 - i}"
        assert metrics.balance(zone) == 0
        energy = {name: float(metrics.sum("virtjoule_vm_energy_joules_total", uuid=vms[i].uuid,
                                          zone=name)) for name in (zone, other)}
        assert energy[zone] == pytest.approx(cpu_seconds[i] * package.watts_per_cpu, rel=0.03)
        assert energy[other] == 0
