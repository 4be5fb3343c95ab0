# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every static policy: the ledger is divided without rest at each scrape, and VMs are shown
the static energy in the policy's proportions, interval by interval."""

import itertools
import os
import time

import pytest

from harness.audit import check_division
from harness.daemon import FAST
from harness.powercap import Package, SimulatedPowercap

INTERVALS = 20
PACKAGES = [Package(cpus=(0,), static_watts=41, watts_per_cpu=401),
            Package(cpus=tuple(range(1, os.cpu_count())), static_watts=17, watts_per_cpu=211)]
# Duty and vCPUs; the idle one is shown static energy by some policies all the same.
VMS = ((40, 1), (20, 4), (0, 3))
UJ = 10**6
QUANTUM_UJ = 1000


@pytest.fixture
def vms(start_vm):
    return [start_vm(name=f"duty-{duty}", duty=duty, vcpus=vcpus) for duty, vcpus in VMS]


@pytest.fixture
def start(directory, stack, start_daemon):
    """start(policy): the daemon over simulated packages."""

    def start(policy):
        (directory / "sys").mkdir()
        host = stack.enter_context(SimulatedPowercap(directory / "sys", PACKAGES))
        return start_daemon({
            "daemon": FAST, "rapl": {"sysfs_root": host.root},
            "attribution": {"static_policy": policy},
            "baseline": {f"package-{i}": f"{package.static_watts}W"
                         for i, package in enumerate(PACKAGES)}})

    return start


def growth_uj(before, after, name, **labels):
    """Of one interval, microjoules."""
    name = f"virtjoule_{name}_energy_joules_total"
    return int((after.sum(name, **labels) - before.sum(name, **labels)) * UJ)


def weigh(policy, dynamic_uj):
    return {"exclude": [0 for _ in VMS], "equal": [1 for _ in VMS],
            "vcpu": [vcpus for _, vcpus in VMS], "proportional": dynamic_uj}[policy]


def assert_proportions(policy, vms, zone, interval):
    """Whole microjoules, fractions are carried: each VM's part of an interval is off by two."""
    static_uj = [growth_uj(*interval, "vm_static", uuid=vm.uuid, zone=zone) for vm in vms]
    weights = weigh(policy, [growth_uj(*interval, "vm", uuid=vm.uuid, zone=zone) for vm in vms])
    if sum(weights) == 0:
        assert sum(static_uj) == 0
        return
    parts = [sum(static_uj) * weight / sum(weights) for weight in weights]
    assert static_uj == pytest.approx(parts, abs=2)
    shown_to_all = growth_uj(*interval, "vm_static", zone=zone)
    assert shown_to_all == pytest.approx(growth_uj(*interval, "static", zone=zone), abs=10)


def scrape_intervals(daemon):
    """(the scrape before, the scrape after) of single intervals."""
    def ticks(metrics):
        return metrics.value("virtjoule_tick_seconds_count")

    before = daemon.metrics()
    while True:
        time.sleep(0.05)
        metrics = daemon.metrics()
        check_division(metrics)
        if ticks(metrics) == ticks(before) + 1:
            yield before, metrics
        before = metrics


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two CPUs")
@pytest.mark.parametrize("policy", ["exclude", "equal", "proportional", "vcpu"])
def test_policy(start, vms, start_vm, policy):
    daemon = start(policy)
    daemon.wait_metrics(lambda m: m.vm_energy(vms[0].uuid) > 0 and m.vm_energy(vms[1].uuid) > 0)
    for interval in itertools.islice(scrape_intervals(daemon), INTERVALS):
        for zone in interval[1].zones():
            assert_proportions(policy, vms, zone, interval)

    # One that comes and goes takes its part and breaks nothing.
    for _ in range(3):
        another = start_vm(name="another", duty=50, vcpus=2)
        check_division(daemon.wait_metrics(lambda m: m.vm_energy(another.uuid) > 0))
        another.kill()
        metrics = daemon.wait_ticks(2)
        check_division(metrics)
        assert (metrics.vm_energy(another.uuid, "static_") > 0) == (policy != "exclude")


def total_uj(metrics, vm):
    return int((metrics.vm_energy(vm.uuid) + metrics.vm_energy(vm.uuid, "static_")) * UJ)


@pytest.mark.parametrize("policy", ["exclude", "equal"])
def test_guest_is_shown_the_policy_s_sum(start, vms, policy):
    """The tree follows dynamic and static energy; the idle VM's hardly more than the static."""
    daemon = start(policy)
    idle = vms[2]
    daemon.wait_ticks(5)
    for _ in range(5):
        before = total_uj(daemon.metrics(), idle)
        daemon.wait_ticks(3)  # the ramp to what was the total has ended
        published = int((daemon.tree(idle.uuid) / "energy_uj").read_text())
        assert before - QUANTUM_UJ <= published <= total_uj(daemon.metrics(), idle)
    assert (daemon.metrics().vm_energy(idle.uuid, "static_") > 0) == (policy == "equal")
