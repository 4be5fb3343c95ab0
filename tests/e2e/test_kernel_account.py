# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMs' CPU time beside the kernel's own account of it, for half a minute."""

import time

import pytest

from harness import libvirtd as libvirts
from harness.cgroup import Cgroup

SECONDS = 30
# Of a 50 ms period: bursts of 5 ms, threads that live for 1 ms, a thread that never yields.
LOADS = {
    "bursts": {"duty": 10},
    "short-lived": {"duty": 2, "threads": "short"},
    "spinning": {"duty": 100},
}


@pytest.fixture(autouse=True)
def only_bpf(provider):
    if provider == "procfs":
        pytest.skip("so exact is the bpf provider alone")


def cpu_seconds(metrics, uuid):
    return float(metrics.value("virtjoule_vm_cpu_seconds_total", uuid=uuid))


@pytest.mark.slow
def test_processes(stack, start_daemon, start_vm):
    daemon = start_daemon()
    cgroups = {name: stack.enter_context(Cgroup(name)) for name in LOADS}
    vms = {name: start_vm(name=name, cgroup=cgroups[name], **load)
           for name, load in LOADS.items()}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        daemon.wait_ticks()
        # One that never yields counts all the time, not when it is switched out at last.
        counted = cpu_seconds(daemon.metrics(), vms["spinning"].uuid)
        now = vms["spinning"].cpu_ns() / 1e9
        assert now - 2.5 < counted < now + 0.01
    for vm in vms.values():
        vm.stop_load()
    metrics = daemon.wait_ticks(2)
    for name, vm in vms.items():
        truth, counted = cgroups[name].cpu_seconds(), cpu_seconds(metrics, vm.uuid)
        print(f"{name}: {truth:.6f} s, error {counted / truth - 1:+.4%}")
        assert counted == pytest.approx(truth, rel=0.005), name


@pytest.mark.slow
def test_real_guests(libvirtd, start_daemon, start_guest):
    """From the start of QEMU: two vCPUs that work, and a guest that hardly does."""
    daemon = start_daemon({"discovery": {"libvirt_uri": libvirts.URI}})
    guests = [start_guest(daemon, vcpus=2, label="busy-"), start_guest(daemon, label="idle-")]
    guests[0].start_load()
    time.sleep(SECONDS)
    for guest in guests:
        guest.domain.suspend()
    metrics = daemon.wait_ticks(2)
    for guest in guests:
        truth = guest.cgroup_cpu_seconds()
        counted = cpu_seconds(metrics, guest.uuid)
        print(f"{guest.name}: {truth:.6f} s, error {counted / truth - 1:+.4%}")
        # libvirt prepares QEMU's process within the group for some milliseconds.
        assert counted == pytest.approx(truth, rel=0.005, abs=0.02)
