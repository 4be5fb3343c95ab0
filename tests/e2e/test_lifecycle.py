# SPDX-License-Identifier: LGPL-2.1-or-later
"""What administrators do to real guests, in the middle of intervals, while an audit goes on and
another VM works: neither loses or gains a microjoule by it."""

import os
import time
from contextlib import suppress

import libvirt
import pytest

from harness import libvirtd as libvirts
from harness import system
from harness.audit import Audit
from harness.daemon import FAST
from harness.powercap import Package, SimulatedPowercap

# What reading its tree five times a second for some seconds may cost a VM.
READING_S = 0.02
PACKAGE = Package(cpus=tuple(range(os.cpu_count())))
INTERVAL_S = 0.2


@pytest.fixture
def daemon(directory, stack, libvirtd, start_daemon):
    (directory / "sys").mkdir()
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))
    return start_daemon({"daemon": FAST, "rapl": {"sysfs_root": host.root},
                         "discovery": {"libvirt_uri": libvirts.URI},
                         "baseline": {"package-0": f"{PACKAGE.static_watts}W"}})


@pytest.fixture
def audit(daemon, start_vm):
    """The audit, and at its end the bystander's account: its CPU time was paid for, no more.

    Nobody reads its tree: that is paid for by the VM as well.
    """
    bystander = start_vm(name="bystander", duty=20)
    with Audit(daemon) as audit:
        wait_energy(daemon, bystander)
        yield audit
        truth = bystander.stop_load() / 1e9
        metrics = daemon.wait_ticks(2)
    assert cpu_seconds(metrics, bystander) == pytest.approx(truth, rel=0.01, abs=0.01)
    assert joules(metrics, bystander) == pytest.approx(truth * PACKAGE.watts_per_cpu, rel=0.05)


@pytest.fixture
def guest(daemon, audit, start_guest):
    guest = start_guest(daemon, vcpus=2, max_vcpus=3)
    audit.watch_tree(guest.uuid)
    return guest


def wait_energy(daemon, vm):
    return daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid) > 0, what=f"energy of {vm.name}")


def joules(metrics, vm):
    return float(metrics.vm_energy(vm.uuid))


def cpu_seconds(metrics, vm):
    return float(metrics.value("virtjoule_vm_cpu_seconds_total", uuid=vm.uuid))


def assert_counts(daemon, vm):
    """Its work is paid for at this moment."""
    before = daemon.metrics().vm_energy(vm.uuid)
    daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid) > before, what=f"{vm.name} counts")


def listed(daemon, vm):
    return next(row for row in daemon.cli("list")["vms"] if row["uuid"] == vm.uuid)


def test_paused_guest_uses_nothing(daemon, guest):
    guest.start_load()
    guest.domain.suspend()
    before, kernel_before = daemon.wait_ticks(2), guest.cgroup_cpu_seconds()
    time.sleep(2)
    paused, kernel_paused = daemon.metrics(), guest.cgroup_cpu_seconds()
    assert joules(paused, guest) - joules(before, guest) < READING_S * PACKAGE.watts_per_cpu

    for _ in range(5):  # at another place in its interval each time
        guest.domain.resume()
        time.sleep(2.3 * INTERVAL_S)
        guest.domain.suspend()
    after, kernel_after = daemon.wait_ticks(2), guest.cgroup_cpu_seconds()
    worked = cpu_seconds(after, guest) - cpu_seconds(paused, guest)
    assert worked > INTERVAL_S
    assert worked == pytest.approx(kernel_after - kernel_paused, rel=0.01, abs=READING_S)
    assert cpu_seconds(paused, guest) - cpu_seconds(before, guest) == pytest.approx(
        kernel_paused - kernel_before, abs=READING_S)
    assert joules(after, guest) - joules(paused, guest) == pytest.approx(
        worked * PACKAGE.watts_per_cpu, rel=0.05)
    guest.domain.resume()
    assert_counts(daemon, guest)


def test_reset_and_reboot(daemon, guest):
    before = guest.energy_uj()
    for restart in (guest.reset, guest.reboot):
        guest.start_load()
        restart()
        after = guest.energy_uj()
        assert after > before
        before = after
    daemon.wait_metrics(lambda m: cpu_seconds(m, guest) == pytest.approx(
        guest.cgroup_cpu_seconds(), rel=0.02, abs=INTERVAL_S), what="as the kernel counts")


def test_saved_and_restored(daemon, audit, start_guest):
    guest = start_guest(daemon, share=False)
    audit.watch_tree(guest.uuid)
    guest.start_load()
    guest.save()
    saved = daemon.wait_ticks(2)
    assert not listed(daemon, guest)["running"]
    time.sleep(1)
    # Saving is the VM's own work, too; a saved guest does none.
    assert joules(daemon.metrics(), guest) == joules(saved, guest)

    guest.start()
    assert guest.run("kill -0 $(cat /tmp/load)").status == 0  # it went on, it did not boot
    guest.domain.suspend()
    metrics = daemon.wait_ticks(2)
    assert cpu_seconds(metrics, guest) - cpu_seconds(saved, guest) == pytest.approx(
        guest.cgroup_cpu_seconds(), rel=0.02, abs=0.05)
    assert listed(daemon, guest)["running"]


def test_vcpus_plugged(daemon, guest):
    assert listed(daemon, guest)["vcpus"] == 2
    guest.start_load()
    guest.domain.setVcpusFlags(3, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    # Far sooner than libvirt_watch's list, once a minute.
    system.wait_until(lambda: listed(daemon, guest)["vcpus"] == 3, "the third vCPU is seen")
    guest.check("echo 1 >/sys/devices/system/cpu/cpu2/online")
    guest.check("(exec taskset 4 sh -c 'while :; do :; done') >/dev/null 2>&1 & sleep 1")
    daemon.wait_metrics(lambda m: cpu_seconds(m, guest) == pytest.approx(
        guest.cgroup_cpu_seconds(), rel=0.02, abs=INTERVAL_S), what="as the kernel counts")
    assert {labels["vcpus"] for labels, _ in
            daemon.metrics().select("virtjoule_vm_info", uuid=guest.uuid)} == {"3"}

    with suppress(libvirt.libvirtError):  # the guest may take longer than libvirt waits
        guest.domain.setVcpusFlags(2, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    system.wait_until(lambda: listed(daemon, guest)["vcpus"] == 2, "it is gone again")


def test_destroyed_killed_and_started_again(daemon, guest):
    guest.start_load()
    for end in (guest.destroy, guest.kill):
        before = daemon.metrics()
        kernel_before = guest.cgroup_cpu_seconds()
        time.sleep(3.4 * INTERVAL_S)
        kernel_worked = guest.cgroup_cpu_seconds() - kernel_before
        end()
        ended = daemon.wait_ticks(2)
        # What it did in its last interval counts; the end itself takes some CPU time.
        worked = cpu_seconds(ended, guest) - cpu_seconds(before, guest)
        assert worked >= 0.95 * kernel_worked
        assert worked <= kernel_worked + 3 * INTERVAL_S
        assert not listed(daemon, guest)["running"]
        time.sleep(2 * INTERVAL_S)
        assert joules(daemon.metrics(), guest) == joules(ended, guest)

        guest.start()
        guest.start_load()
        assert guest.energy_uj() / 1e6 >= joules(ended, guest) - 0.001
        assert_counts(daemon, guest)
