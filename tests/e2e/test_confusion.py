# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names and numbers made to confuse: no VM, and no tenant beside them, steals or gains by them."""

import os
from pathlib import Path

import pytest

from harness import accounts, system
from harness.accounts import Between, cpu_seconds
from harness.audit import Audit
from harness.cgroup import Cgroup
from harness.daemon import FAST
from harness.powercap import Package, SimulatedPowercap

USED_S = 0.4  # by each VM
N_THREADS = 10_000
# CPU 0 on the first package, the others on the second: threads are told apart by their sockets.
PACKAGES = [Package(cpus=(0,)), Package(cpus=tuple(range(1, os.cpu_count())))]

# At most 15 bytes, as the kernel keeps them.
COMMS = {
    "parenthesis": ") R 1 1 1 0 -1",
    "open": "((((((((((((((",
    "newline": "a\nb) Z 1\n2 (c)",
    "zombie": "x) Z 0 0 0 0 0",
    "number": "1 (qemu) S 1",
    "blank": " ",
    "empty": "",
    "not-utf-8": "\udcff\udcfe",
    "control": "\x1b[2J\x01\t",
}


@pytest.fixture
def settings(directory, stack):
    (directory / "sys").mkdir()
    host = stack.enter_context(SimulatedPowercap(directory / "sys", PACKAGES))
    return {"daemon": FAST, "rapl": {"sysfs_root": host.root},
            "baseline": {f"package-{i}": f"{package.static_watts}W"
                         for i, package in enumerate(PACKAGES)}}


@pytest.fixture
def start_in_cgroup(stack, start_vm):
    """start_in_cgroup(path, ...): a process in a control group of the unified hierarchy."""

    def start(path, **options):
        cgroup = stack.enter_context(Cgroup(path))
        process = start_vm(**options)
        cgroup.add(process.process.pid)
        return process

    return start


def wait_used(vm):
    """Until it has used as much CPU time as shows whether it is another's."""
    system.wait_until(lambda: vm.cpu_seconds() > USED_S, f"the work of {vm.name}")


def assert_paid_for(daemon, *vms):
    """What they used they are said to have used, and no others'.

    Nobody reads their trees meanwhile: that would be paid for by them as well.
    """
    accounts.check_all(daemon, *vms)


def test_thread_names(settings, start_daemon, start_vm):
    daemon = start_daemon(settings)
    vms = [start_vm(name=name, comm=comm, duty=10, threads=threads)
           for (name, comm), threads in zip(COMMS.items(), ["long", "short"] * len(COMMS))]
    # No part of a VM, whatever they are called.
    for comm in (f"vhost-{vms[0].process.pid}", "CPU 0/KVM", "qemu-system-x86"):
        start_vm(program="decoy", comm=comm, duty=15)
    with Audit(daemon):
        for vm in vms:
            wait_used(vm)
            vm.stop_load()
        assert_paid_for(daemon, *vms)


def test_cgroup_names(settings, start_daemon, start_in_cgroup):
    daemon = start_daemon(settings)
    machine = "machine/qemu-1-victim.libvirt-qemu"
    victim = start_in_cgroup(machine, name="victim", duty=20)
    helper = start_in_cgroup(f"{machine}/emulator", program="helper", duty=20)
    moved_s = helper.cpu_seconds()
    for path in ("tenant/qemu-1-victim.libvirt-qemu",
                 f"tenant/{machine}",
                 f"0::/{machine}",
                 "machine/qemu-1-victim.libvirt-qemu.libvirt-qemu",
                 "machine/qemu-1-victim.libvirt-qem",
                 f"x.libvirt-qemu/{machine}",
                 r"tenant/machine-qemu\x2d1\x2dvictim.scope",
                 r"machine-qemu\x2d1\x2dvictim.scope/victim"):
        start_in_cgroup(path, program="tenant", duty=10)
    with Audit(daemon):
        for process in (victim, helper):
            wait_used(process)
        # What the helper did before it was moved to the VM's group was not the VM's.
        least = victim.stop_load() - victim.begun_s + helper.stop_load() - moved_s
        counted = cpu_seconds(daemon.wait_ticks(3), victim)
        Between(least, counted, victim.cpu_seconds() + helper.cpu_seconds()).check()


def test_ten_thousand_threads(settings, start_daemon, start_vm):
    del settings["daemon"]  # the usual interval
    daemon = start_daemon(settings)
    crowd = start_vm(name="crowd", duty=30, threads="short", sleepers=N_THREADS)
    other = start_vm(name="other", duty=30)
    with Audit(daemon):
        system.wait_until(lambda: len(os.listdir(f"/proc/{crowd.process.pid}/task")) >= N_THREADS,
                          "all threads are there")
        for vm in (crowd, other):
            wait_used(vm)
            vm.stop_load()
        assert_paid_for(daemon, crowd, other)
    # Of the ticking thread: its CPU time, as the machine may be busy otherwise.
    tick_ns = int(Path(f"/proc/{daemon.process.pid}/schedstat").read_text().split()[0])
    assert tick_ns / 1e9 / float(daemon.metrics().value("virtjoule_tick_seconds_count")) < 0.5
