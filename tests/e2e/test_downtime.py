# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is used while no daemon runs is measured, and attributed to who used it."""

import os
import random
import time

import pytest

from harness.accounts import Between, check_all, cpu_seconds, look
from harness.daemon import FAST, Daemon, DescriptorStore
from harness.margins import END_S, ENERGY_SHORT
from harness.powercap import Package, SimulatedPowercap

pytestmark = pytest.mark.slow

ZONE = "package-0"
PACKAGE = Package(cpus=tuple(range(os.cpu_count())))
CONTINUES = "usage is counted on from the former daemon's last interval"


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    return stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))


@pytest.fixture(params=["bpf", "procfs"])
def daemon(directory, host, stack, request):
    made = Daemon(directory, {"daemon": FAST, "rapl": {"sysfs_root": host.root},
                              "usage": {"provider": request.param},
                              "baseline": {ZONE: f"{PACKAGE.static_watts}W"}},
                  DescriptorStore())
    stack.callback(lambda: print(made.log()))
    return stack.enter_context(made)


def unattributed(metrics):
    assert metrics.balance(ZONE) == 0, metrics.text
    return metrics.sum("virtjoule_unattributed_energy_joules_total")


def test_load_goes_on(host, daemon, start_vm):
    """As much as if it had been watched all the time, nothing of it twice."""
    moments = random.Random(6)
    vm = start_vm(duty=60)
    daemon.wait_metrics(lambda m: cpu_seconds(m, vm) > 0)
    nobodys = unattributed(daemon.metrics())
    least_j = host.total_uj(0) / 1e6
    look_before, before = look(daemon, vm), daemon.metrics()
    most_j = host.total_uj(0) / 1e6
    for _ in range(8):
        time.sleep(moments.uniform(0, 0.6))
        daemon.kill()
        time.sleep(moments.uniform(0.5, 1.5))
        daemon.start()
        assert unattributed(daemon.metrics()) == nobodys
    vm.stop_load()
    stopped_j = host.total_uj(0) / 1e6
    used = look_before.growth(look(daemon, vm))
    used.check()
    after = daemon.metrics()
    joules = float(after.vm_energy(vm.uuid) - before.vm_energy(vm.uuid))
    assert joules == pytest.approx(used.counted * PACKAGE.watts_per_cpu, rel=ENERGY_SHORT)
    measured = float(after.sum("virtjoule_source_energy_joules_total")
                     - before.sum("virtjoule_source_energy_joules_total"))
    assert stopped_j - most_j <= measured <= host.total_uj(0) / 1e6 - least_j
    assert daemon.log().count(CONTINUES) == 8


def test_vm_starts_meanwhile(daemon, start_vm):
    daemon.wait_ticks()
    daemon.kill()
    vm = start_vm(duty=50)
    time.sleep(1.5)
    daemon.start()
    vm.stop_load()
    check_all(daemon, vm)


def test_vm_ends_meanwhile(daemon, start_vm):
    """Its last CPU time is the VM's with eBPF; /proc has nothing of it any more."""
    vm = start_vm(duty=50)
    before = cpu_seconds(daemon.wait_metrics(lambda m: cpu_seconds(m, vm) > 0.2), vm)
    daemon.kill()
    time.sleep(1)
    used = vm.stop_load()
    vm.kill()
    daemon.start()
    after = cpu_seconds(daemon.metrics(), vm)
    if "usage=bpf" in daemon.log():
        # The end of a process is its own work, too.
        Between(used - vm.begun_s, after, used + END_S).check()
    else:
        assert after >= before
    # Once.
    assert cpu_seconds(daemon.wait_ticks(3), vm) == after


def test_killed_while_starting(daemon, start_vm):
    """What was known before is not forgotten by a daemon that did not live to use it."""
    moments = random.Random(7)
    vm = start_vm(duty=50)
    daemon.wait_metrics(lambda m: cpu_seconds(m, vm) > 0)
    nobodys = unattributed(daemon.metrics())
    for _ in range(5):
        daemon.kill()
        for _ in range(4):
            daemon.launch()
            time.sleep(moments.uniform(0, 0.1))
            daemon.kill()
        daemon.start()
        assert unattributed(daemon.metrics()) == nobodys
    vm.stop_load()
    check_all(daemon, vm)
    names = [name for name, _ in daemon.store.descriptors]
    assert names.count("usage") == ("usage=bpf" in daemon.log())


def without_programs(daemon):
    daemon.store.remove(lambda name, _: name == "usage")


def without_state(daemon):
    (daemon.runtime_dir / "usage").unlink()


def with_cut_state(daemon):
    os.truncate(daemon.runtime_dir / "usage", 4200)


@pytest.mark.parametrize("spoil", [without_programs, without_state, with_cut_state])
def test_not_known(daemon, start_vm, spoil):
    """Then it is nobody's, and all goes on from there."""
    vm = start_vm(duty=50)
    daemon.wait_metrics(lambda m: cpu_seconds(m, vm) > 0)
    if spoil is without_programs and "usage=procfs" in daemon.log():
        pytest.skip("the procfs provider has no programs")
    for _ in range(2):
        nobodys = unattributed(daemon.metrics())
        daemon.kill()
        spoil(daemon)
        time.sleep(0.5)
        daemon.start()
        assert unattributed(daemon.metrics()) > nobodys
    assert CONTINUES not in daemon.log()
    daemon.kill()
    daemon.start()
    assert CONTINUES in daemon.log()
    assert [name for name, _ in daemon.store.descriptors].count("usage") <= 1
