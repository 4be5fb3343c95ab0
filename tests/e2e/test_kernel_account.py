# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMs' CPU time beside the kernel's own account of it, for half a minute."""

import pytest

from harness import accounts
from harness import libvirtd as libvirts
from harness.accounts import Between, cpu_seconds, look
from harness.cgroup import Cgroup
from harness.margins import PREPARE_S

TICKS = 30
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


@pytest.mark.slow
def test_processes(stack, start_daemon, start_vm):
    daemon = start_daemon()
    cgroups = {name: stack.enter_context(Cgroup(name)) for name in LOADS}
    vms = {name: start_vm(name=name, cgroup=cgroups[name], **load)
           for name, load in LOADS.items()}
    for _ in range(TICKS // 2):
        # One that never yields counts all the time, not when it is switched out at last.
        accounts.check_all(daemon, vms["spinning"], at_rest=False)
    for vm in vms.values():
        vm.stop_load()
    # The process' own clock leaves out how long its threads took to end.
    least = {name: group.cpu_seconds() - vms[name].begun_s for name, group in cgroups.items()}
    metrics = daemon.wait_ticks(2)
    for name, group in cgroups.items():
        Between(least[name], cpu_seconds(metrics, vms[name]), group.cpu_seconds()).check()


@pytest.mark.slow
def test_real_guests(libvirtd, start_daemon, start_guest):
    """Two vCPUs that work, and a guest that hardly does."""
    daemon = start_daemon({"discovery": {"libvirt_uri": libvirts.URI}})
    guests = [start_guest(daemon, vcpus=2, label="busy-"), start_guest(daemon, label="idle-")]
    first = [look(daemon, guest) for guest in guests]
    guests[0].start_load()
    daemon.wait_ticks(TICKS)
    for guest in guests:
        guest.domain.suspend()
    for guest, before in zip(guests, first):
        before.growth(look(daemon, guest)).check()
        # From the start of QEMU, which libvirt prepares within the group.
        since_start = look(daemon, guest)
        Between(since_start.least - PREPARE_S, *since_start[1:]).check()
