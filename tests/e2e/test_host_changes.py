# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens to a host while it is watched: clock jumps, CPUs that go and come back, sleep.

The host is a guest of this machine: nobody else's clock and CPUs are touched. It is booted once,
and its daemon started, for emulated the kernel takes long to verify the programs.
"""

import pytest

from harness.accounts import Between
from harness.audit import Audit
from harness.guest_host import WATTS, GuestHost

HOUR = 3600
INTERVAL_S = 0.5
# Of a counter that begins at zero what looks like a wrap would be below what a socket can draw.
RANGE_UJ = 2 * 10**10
SLEEP_S = 8  # from the order on; falling asleep takes its part


@pytest.fixture(scope="module")
def module_host(module_directory, session_libvirtd, provider):
    with GuestHost(session_libvirtd, module_directory, provider, range_uj=RANGE_UJ,
                   memory_mib=512, kernel="vmlinuz") as host:
        host.leave_share()
        host.start_daemon()
        yield host


@pytest.fixture
def host(module_host):
    yield module_host
    print(module_host.log())
    module_host.remove_vms()


def joules(metrics, uuid, package):
    return float(metrics.sum("virtjoule_vm_energy_joules_total", uuid=uuid,
                             zone=f"package-{package}"))


def cpu_seconds(metrics, uuid):
    return float(metrics.value("virtjoule_vm_cpu_seconds_total", uuid=uuid))


def ticks(metrics):
    return int(metrics.value("virtjoule_tick_seconds_count")
               + metrics.value("virtjoule_ticks_missed_total"))


def assert_no_tick_lost(start, end):
    """Nor one made up. The one that published a scrape is not in it, nor what that one missed."""
    grown = ticks(end.metrics) - ticks(start.metrics)
    assert (end.before.awake_s - start.after.awake_s) / INTERVAL_S - 1 <= grown
    assert grown <= (end.after.awake_s - start.before.awake_s) / INTERVAL_S + 1


def look_for(audit, host, n):
    """For so many ticks."""
    end = ticks(host.metrics()) + n
    while ticks(host.metrics()) < end:
        audit.look()


def assert_works_on(host, uuid, package):
    """A VM's energy grows on that package, and on no other, once an interval has gone by."""
    before = host.wait_ticks(2)
    after = host.wait_metrics(lambda m: joules(m, uuid, package) > joules(before, uuid, package))
    assert joules(after, uuid, 1 - package) == joules(before, uuid, 1 - package)


def assert_paid_for(host, uuid, name, used):
    """Of what stop_vm() returned; it has done hardly more since, and paid for whoever read its
    tree."""
    counted = cpu_seconds(host.wait_ticks(2), uuid)
    Between(used, counted, host.vm_seconds(name) + host.serving_seconds()).check()


def test_ebpf_loads(host, provider):
    """Debian 12's kernel, 6.1, takes the same programs as this machine's."""
    assert host.metrics().value("virtjoule_build_info",
                                usage_provider="procfs" if provider == "procfs" else "bpf") == 1
    vm = host.start_vm("some", cpu=1)
    assert_works_on(host, vm, 1)
    assert_paid_for(host, vm, "some", host.stop_vm("some"))


@pytest.mark.slow
def test_clock_jumps(host):
    """Neither energies nor ramps nor ticks notice."""
    vm = host.start_vm("some", cpu=1)
    host.wait_metrics(lambda m: m.vm_energy(vm) > 0)
    audit = Audit(host)
    start, tree_uj = host.look(), host.tree_uj(vm)
    for step in (6 * HOUR, -12 * HOUR, 48 * HOUR, -30 * 365 * 24 * HOUR, 60 * 365 * 24 * HOUR, -1):
        host.step_clock(step)
        look_for(audit, host, 2)
        last_uj, tree_uj = tree_uj, host.tree_uj(vm)
        assert last_uj < tree_uj
    end = host.look()
    host.assert_all_measured(start, end)
    assert_no_tick_lost(start, end)
    assert_paid_for(host, vm, "some", host.stop_vm("some"))


def test_cpu_goes_and_comes_back(host):
    vm = host.start_vm("moved", cpu=1)
    audit = Audit(host)
    assert_works_on(host, vm, 1)
    host.switch_cpu(1, on=False)
    look_for(audit, host, 4)
    assert_works_on(host, vm, 0)
    host.switch_cpu(1, on=True)
    look_for(audit, host, 4)
    used = host.stop_vm("moved")
    assert_works_on(host, host.start_vm("later", cpu=1), 1)
    audit.look()
    assert_paid_for(host, vm, "moved", used)


@pytest.mark.slow
def test_cpu_comes_after_the_daemon(host):
    """It is on the socket that it names only now."""
    host.stop_daemon()
    host.switch_cpu(1, on=False)
    host.start_daemon()
    host.switch_cpu(1, on=True)
    vm = host.start_vm("some", cpu=1)
    assert_works_on(host, vm, 1)
    Audit(host).look()


def unattributed(metrics):
    return float(metrics.sum("virtjoule_unattributed_energy_joules_total"))


def test_suspended(host):
    vm = host.start_vm("some", cpu=1)
    host.wait_metrics(lambda m: m.vm_energy(vm) > 0)
    audit = Audit(host)
    audit.look()
    sleep_with_counters_running(host, vm, audit)
    sleep_with_counters_reset(host, vm, audit)
    # Where it was, or on CPU 0: Linux forgets where a process is pinned when it takes CPUs off.
    before = host.metrics().vm_energy(vm)
    host.wait_metrics(lambda m: m.vm_energy(vm) > before, "the VM goes on")


def sleep(host, vm, **options):
    """What was seen before; the host lies down again when it could not sleep."""
    for _ in range(3):
        before = host.look(), host.tree_uj(vm)
        refusal = host.suspend(SLEEP_S, **options)
        if not refusal:
            return before
        print(refusal)
    raise RuntimeError("the host does not sleep")


def slept_between(start, end):
    """Seconds at least, and what its packages drew at most while it was awake, joules."""
    awake_s = end.after.awake_s - start.before.awake_s
    slept_s = (end.before.uptime_s[0] - end.before.awake_s
               - (start.after.uptime_s[1] - start.after.awake_s))
    print(f"awake {awake_s:.2f} s, slept {slept_s:.2f} s")
    assert slept_s > 1
    # The guest may not have had the time yet to draw all.
    late = 2 * WATTS * start.before.uptime_s[1] - start.before.joules
    return slept_s, 2 * WATTS * awake_s + late


def sleep_with_counters_running(host, vm, audit):
    """The sleep's energy is measured, and nobody's; no tick was missed, and none is made up for."""
    start, tree_uj = sleep(host, vm)
    look_for(audit, host, 4)
    end = host.look()
    slept_s, awake_joules = slept_between(start, end)
    host.assert_all_measured(start, end)
    assert_no_tick_lost(start, end)
    # And that of a package on which nothing ran afterwards.
    assert unattributed(end.metrics) - unattributed(start.metrics) >= 2 * WATTS * slept_s
    assert float(end.metrics.vm_energy(vm) - start.metrics.vm_energy(vm)) <= awake_joules
    assert host.tree_uj(vm) > tree_uj


def sleep_with_counters_reset(host, vm, audit):
    """No wrap: neither the VM nor anybody is given what the counter did not count."""
    start, tree_uj = sleep(host, vm, reset=True)
    look_for(audit, host, 4)
    end = host.look()
    assert host.log().count("energy counter was reset") == 2  # of both packages
    _, awake_joules = slept_between(start, end)
    assert end.joules() - start.joules() <= awake_joules
    assert host.tree_uj(vm) > tree_uj
