# SPDX-License-Identifier: LGPL-2.1-or-later
"""What administrators do to real guests, in the middle of intervals, while an audit goes on and
another VM works: neither loses or gains a microjoule by it.

The guest is booted once: each test leaves it running and idle.
"""

import os
import time
from contextlib import suppress

import libvirt
import pytest

from harness import accounts, cgroup, system
from harness import libvirtd as libvirts
from harness.accounts import Between, cpu_seconds, look
from harness.audit import Audit
from harness.daemon import FAST, Daemon
from harness.guest import Guest
from harness.margins import CPU_S, ENERGY, PREPARE_S
from harness.powercap import Package, SimulatedPowercap

PACKAGE = Package(cpus=tuple(range(os.cpu_count())))
INTERVAL_S = 0.2
LIST_S = 60  # libvirt is asked for all of its domains so often


@pytest.fixture(scope="module")
def module_daemon(module_directory, module_stack, provider):
    (module_directory / "sys").mkdir()
    host = module_stack.enter_context(SimulatedPowercap(module_directory / "sys", [PACKAGE]))
    return module_stack.enter_context(Daemon(module_directory, {
        "daemon": FAST, "rapl": {"sysfs_root": host.root}, "usage": {"provider": provider},
        "discovery": {"libvirt_uri": libvirts.URI},
        "baseline": {"package-0": f"{PACKAGE.static_watts}W"}}))


@pytest.fixture
def daemon(module_daemon):
    yield module_daemon
    print(module_daemon.log())


@pytest.fixture(scope="module")
def module_guest(session_libvirtd, module_directory, module_stack, module_daemon):
    return module_stack.enter_context(Guest(session_libvirtd, module_directory,
                                            mountpoint=module_daemon.mountpoint,
                                            vcpus=2, max_vcpus=3))


@pytest.fixture
def audit(daemon, libvirtd, start_vm):
    """The audit, and at its end the bystander's account: its CPU time was paid for, no more.

    Nobody reads its tree: that is paid for by the VM as well.
    """
    bystander = start_vm(name="bystander", duty=20)
    with Audit(daemon) as audit:
        wait_energy(daemon, bystander)
        yield audit
        truth = bystander.stop_load()
        accounts.check_all(daemon, bystander)
    metrics = daemon.wait_ticks(2)
    assert joules(metrics, bystander) == pytest.approx(truth * PACKAGE.watts_per_cpu, rel=ENERGY)


@pytest.fixture
def guest(daemon, audit, module_guest):
    audit.watch_tree(module_guest.uuid)
    return module_guest


def wait_energy(daemon, vm):
    return daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid) > 0, what=f"energy of {vm.name}")


def joules(metrics, vm):
    return float(metrics.vm_energy(vm.uuid))


def assert_counts(daemon, vm):
    """Its work is paid for at this moment."""
    before = daemon.metrics().vm_energy(vm.uuid)
    daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid) > before, what=f"{vm.name} counts")


def assert_counted_since(daemon, vm, first):
    """All of its work since that look, by the kernel's account."""
    first.growth(look(daemon, vm)).check()


def listed(daemon, vm):
    return next(row for row in daemon.cli("list")["vms"] if row["uuid"] == vm.uuid)


def test_paused_guest_uses_nothing(daemon, guest):
    guest.start_load()
    guest.domain.suspend()
    before, joules_before = look(daemon, guest), joules(daemon.metrics(), guest)
    daemon.wait_ticks(10)
    paused, joules_paused = look(daemon, guest), joules(daemon.metrics(), guest)
    # Its virtiofsd still serves the audit's reads, which it pays for.
    before.growth(paused).check()

    for _ in range(5):  # at another place in its interval each time
        guest.domain.resume()
        time.sleep(2.3 * INTERVAL_S)
        guest.domain.suspend()
    after, joules_after = look(daemon, guest), joules(daemon.metrics(), guest)
    worked = paused.growth(after)
    worked.check()
    idle = before.growth(paused)
    assert worked.counted > 10 * idle.counted
    for used, growth in ((idle, joules_paused - joules_before),
                         (worked, joules_after - joules_paused)):
        assert growth == pytest.approx(used.counted * PACKAGE.watts_per_cpu, rel=ENERGY,
                                       abs=CPU_S * PACKAGE.watts_per_cpu)
    guest.domain.resume()
    assert_counts(daemon, guest)
    guest.stop_load()


def test_reset_and_reboot(daemon, guest):
    first = look(daemon, guest)
    before = guest.energy_uj()
    for restart in (guest.reset, guest.reboot):
        guest.start_load()
        restart()
        after = guest.energy_uj()
        assert after > before
        before = after
    assert_counted_since(daemon, guest, first)


def test_saved_and_restored(daemon, audit, start_guest):
    guest = start_guest(daemon, share=False)
    audit.watch_tree(guest.uuid)
    guest.start_load()
    guest.save()
    saved = daemon.wait_ticks(2)
    assert not listed(daemon, guest)["running"]
    # Saving is the VM's own work, too; a saved guest does none.
    assert joules(daemon.wait_ticks(5), guest) == joules(saved, guest)

    guest.start()
    assert guest.run("kill -0 $(cat /tmp/load)").status == 0  # it went on, it did not boot
    guest.domain.suspend()
    # The kernel's account of it began with its new process, which libvirt prepared.
    seen = look(daemon, guest)
    Between(seen.least - PREPARE_S, seen.counted - cpu_seconds(saved, guest), seen.most).check()
    assert listed(daemon, guest)["running"]


def test_vcpus_plugged(daemon, guest):
    assert listed(daemon, guest)["vcpus"] == 2
    first = look(daemon, guest)
    guest.start_load()
    guest.domain.setVcpusFlags(3, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    # By its event: libvirt_watch's list may as well have come just now, but seldom.
    system.wait_until(lambda: listed(daemon, guest)["vcpus"] == 3, "the third vCPU is seen",
                      patience_s=LIST_S / 2)
    guest.check("echo 1 >/sys/devices/system/cpu/cpu2/online")
    guest.check("(exec taskset 4 sh -c 'while :; do :; done') >/dev/null 2>&1 & "
                "echo $! >/tmp/third; sleep 1")
    assert_counted_since(daemon, guest, first)
    assert {labels["vcpus"] for labels, _ in
            daemon.metrics().select("virtjoule_vm_info", uuid=guest.uuid)} == {"3"}

    with suppress(libvirt.libvirtError):  # the guest may take longer than libvirt waits
        guest.domain.setVcpusFlags(2, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    system.wait_until(lambda: listed(daemon, guest)["vcpus"] == 2, "it is gone again")
    guest.check("kill $(cat /tmp/third)")
    guest.stop_load()


def machines_seconds(daemon, cgroup_path):
    """CPU time of all machines below a cgroup, those that have gone as well."""
    return cgroup.cpu_seconds(cgroup_path) + accounts.serving_seconds(daemon)


def test_destroyed_killed_and_started_again(daemon, guest):
    guest.start_load()
    machines = guest.cgroup.parent
    for end in (guest.destroy, guest.kill):
        machines_before = machines_seconds(daemon, machines)
        first = look(daemon, guest)
        time.sleep(3.4 * INTERVAL_S)
        least = guest.cpu_seconds()
        end()
        ended = daemon.wait_ticks(2)
        # What it did in its last interval counts; the end itself takes some CPU time.
        Between(least - first.most, cpu_seconds(ended, guest) - first.counted,
                machines_seconds(daemon, machines) - machines_before).check()
        assert not listed(daemon, guest)["running"]
        assert joules(daemon.wait_ticks(2), guest) == joules(ended, guest)

        guest.start()
        guest.start_load()
        assert guest.energy_uj() / 1e6 >= joules(ended, guest) - 0.001
        assert_counts(daemon, guest)
    guest.stop_load()
