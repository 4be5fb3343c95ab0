# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens to a host while it is watched: its clock jumps, its CPUs go and come back, it sleeps.

The host is a guest of this machine: nobody else's clock and CPUs are touched.
"""

import time

import pytest

from harness import system
from harness.audit import Audit
from harness.guest_host import WATTS, GuestHost

HOUR = 3600
INTERVAL_S = 0.5
# A process is a VM's from the exec of QEMU on; the shell's child that became it worked before,
# which takes its time under emulation.
BEFORE_EXEC_S = 0.1


@pytest.fixture
def host(directory, libvirtd, provider):
    with GuestHost(libvirtd, directory, provider) as host:
        yield host
        print(host.log())


def joules(metrics, uuid, package):
    return float(metrics.sum("virtjoule_vm_energy_joules_total", uuid=uuid,
                             zone=f"package-{package}"))


def measured(metrics):
    return float(metrics.sum("virtjoule_source_energy_joules_total"))


def cpu_seconds(metrics, uuid):
    return float(metrics.value("virtjoule_vm_cpu_seconds_total", uuid=uuid))


def ticks(metrics):
    return int(metrics.value("virtjoule_tick_seconds_count")
               + metrics.value("virtjoule_ticks_missed_total"))


def assert_all_measured(start, end):
    """Two packages draw; a scrape is up to an interval behind."""
    assert measured(end.metrics) - measured(start.metrics) == pytest.approx(
        2 * WATTS * (end.uptime_s - start.uptime_s), abs=2 * WATTS * 2 * INTERVAL_S)


def assert_no_tick_lost(start, end):
    """Nor one made up."""
    assert ticks(end.metrics) - ticks(start.metrics) == pytest.approx(
        (end.awake_s - start.awake_s) / INTERVAL_S, abs=2)


def look_for(audit, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        audit.look()
        time.sleep(INTERVAL_S / 3)


def assert_works_on(host, uuid, package):
    """A VM's energy grows on that package, and on no other, once an interval has gone by."""
    time.sleep(2 * INTERVAL_S)
    before = host.metrics()
    time.sleep(4 * INTERVAL_S)
    after = host.metrics()
    assert joules(after, uuid, package) > joules(before, uuid, package)
    assert joules(after, uuid, 1 - package) == joules(before, uuid, 1 - package)


def test_ebpf_loads(host, provider):
    """Debian 12's kernel, 6.1, takes the same programs as this machine's."""
    host.start_daemon()
    assert host.metrics().value("virtjoule_build_info",
                                usage_provider="procfs" if provider == "procfs" else "bpf") == 1
    vm = host.start_vm("some", cpu=1)
    assert_works_on(host, vm, 1)
    truth = host.stop_vm("some")
    time.sleep(3 * INTERVAL_S)
    assert cpu_seconds(host.metrics(), vm) == pytest.approx(truth, rel=0.005, abs=BEFORE_EXEC_S)


@pytest.mark.slow
def test_clock_jumps(host):
    """Neither energies nor ramps nor ticks notice."""
    host.start_daemon()
    vm = host.start_vm("some", cpu=1)
    system.wait_until(lambda: host.metrics().vm_energy(vm) > 0, "the VM has energy")
    audit = Audit(host)
    start, tree_uj = host.look(), host.tree_uj(vm)
    for step in (6 * HOUR, -12 * HOUR, 48 * HOUR, -30 * 365 * 24 * HOUR, 60 * 365 * 24 * HOUR, -1):
        host.step_clock(step)
        look_for(audit, 2 * INTERVAL_S)
        last_uj, tree_uj = tree_uj, host.tree_uj(vm)
        assert last_uj < tree_uj
    end = host.look()
    assert_all_measured(start, end)
    assert_no_tick_lost(start, end)
    truth = host.stop_vm("some")
    time.sleep(3 * INTERVAL_S)
    assert cpu_seconds(host.metrics(), vm) == pytest.approx(truth, rel=0.005, abs=BEFORE_EXEC_S)


def test_cpu_goes_and_comes_back(host):
    host.start_daemon()
    vm = host.start_vm("moved", cpu=1)
    audit = Audit(host)
    assert_works_on(host, vm, 1)
    host.switch_cpu(1, on=False)
    look_for(audit, 2)
    assert_works_on(host, vm, 0)
    host.switch_cpu(1, on=True)
    look_for(audit, 2)
    truth = host.stop_vm("moved")
    assert_works_on(host, host.start_vm("later", cpu=1), 1)
    audit.look()
    assert cpu_seconds(host.metrics(), vm) == pytest.approx(truth, rel=0.005, abs=BEFORE_EXEC_S)


@pytest.mark.slow
def test_cpu_comes_after_the_daemon(host):
    """It is on the socket that it names only now."""
    host.switch_cpu(1, on=False)
    host.start_daemon()
    host.switch_cpu(1, on=True)
    vm = host.start_vm("some", cpu=1)
    assert_works_on(host, vm, 1)
    Audit(host).look()


# Of a counter that begins at zero what looks like a wrap would be below what a socket can draw.
RANGE_UJ = 3 * 10**9
SLEEP_S = 8  # from the order on; falling asleep takes its part


def unattributed(metrics):
    return float(metrics.sum("virtjoule_unattributed_energy_joules_total"))


def test_suspended(directory, libvirtd, provider):
    with GuestHost(libvirtd, directory, provider, range_uj=RANGE_UJ, memory_mib=512) as host:
        host.leave_share()
        host.start_daemon()
        vm = host.start_vm("some", cpu=1)
        system.wait_until(lambda: host.metrics().vm_energy(vm) > 0, "the VM has energy")
        audit = Audit(host)
        audit.look()
        sleep_with_counters_running(host, vm, audit)
        sleep_with_counters_reset(host, vm, audit)
        # Where it was, or on CPU 0: Linux forgets where a process is pinned when it takes CPUs off.
        before = host.metrics().vm_energy(vm)
        system.wait_until(lambda: host.metrics().vm_energy(vm) > before, "the VM goes on")
        print(host.log())


def sleep(host, vm, **options):
    """What was seen before; the host lies down again when it could not sleep."""
    for _ in range(3):
        before = host.look(), host.tree_uj(vm)
        refusal = host.suspend(SLEEP_S, **options)
        if not refusal:
            return before
        print(refusal)
    raise RuntimeError("the host does not sleep")


def awake_between(start, end):
    """Seconds, and those of sleep."""
    awake_s = end.awake_s - start.awake_s
    slept_s = end.uptime_s - start.uptime_s - awake_s
    print(f"awake {awake_s:.2f} s, slept {slept_s:.2f} s")
    assert slept_s > 1
    return awake_s, slept_s


def sleep_with_counters_running(host, vm, audit):
    """The sleep's energy is measured, and nobody's; no tick was missed, and none is made up for."""
    start, tree_uj = sleep(host, vm)
    look_for(audit, 4 * INTERVAL_S)
    end = host.look()
    awake_s, slept_s = awake_between(start, end)
    assert_all_measured(start, end)
    assert_no_tick_lost(start, end)
    # And that of a package on which nothing ran afterwards.
    assert (unattributed(end.metrics) - unattributed(start.metrics)
            >= 2 * WATTS * (slept_s - INTERVAL_S))
    assert (float(end.metrics.vm_energy(vm) - start.metrics.vm_energy(vm))
            <= 2 * WATTS * (awake_s + INTERVAL_S))
    assert host.tree_uj(vm) > tree_uj


def sleep_with_counters_reset(host, vm, audit):
    """No wrap: neither the VM nor anybody is given what the counter did not count."""
    start, tree_uj = sleep(host, vm, reset=True)
    look_for(audit, 4 * INTERVAL_S)
    end = host.look()
    assert host.log().count("energy counter was reset") == 2  # of both packages
    awake_s, _ = awake_between(start, end)
    assert (measured(end.metrics) - measured(start.metrics)
            <= 2 * WATTS * (awake_s + 2 * INTERVAL_S))
    assert host.tree_uj(vm) > tree_uj
