# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that reads as fast as it can slows nobody but itself, and pays for it.

How long a read takes beside it is measured by tests/bench/flood_latency.py.
"""

import json
import os
import subprocess

import pytest

from harness import libvirtd as libvirts
from harness import system
from harness.accounts import cpu_seconds, look, serving_seconds
from harness.margins import CPU_S, TURNS
from harness.powercap import Package, SimulatedPowercap

POLL_READER = system.BUILD / "tests/e2e/poll-reader"
FEW, MANY = 2, 64  # threads
READS = 20000


@pytest.fixture
def settings(directory, stack):
    (directory / "sys").mkdir()
    package = Package(cpus=tuple(range(os.cpu_count())))
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [package]))
    return {"rapl": {"sysfs_root": host.root}}


@pytest.fixture
def daemon(settings, start_daemon):
    return start_daemon(settings)


def reader(program, file, threads):
    """Reads without a pause until it is ended."""
    return [str(program), str(file), "262143328850", str(threads), "0", str(system.PATIENCE_S)]


def check_seen(text):
    """Of what the program printed."""
    print(text)
    seen = json.loads(text)
    assert seen["reads"] > 0 and seen["torn"] == seen["errors"] == seen["decreases"] == 0


class Flood:
    """Reads without a pause while the context lasts, and sees no fault.

    One that runs `first`, before all else, has always asked again when its turn comes.
    """

    def __init__(self, file, threads, first=()):
        self._command = [*first, *reader(POLL_READER, file, threads)]

    def __enter__(self):
        self._process = system.start_child(self._command, stdout=subprocess.PIPE, text=True)

    def __exit__(self, kind, *_):
        self._process.terminate()
        text = self._process.communicate(timeout=system.PATIENCE_S)[0]
        if not kind:
            check_seen(text)


class GuestFlood:
    """The same in a guest that has the program."""

    def __init__(self, guest, program, file, threads):
        self._guest = guest
        self._command = " ".join(reader(program, file, threads))

    def __enter__(self):
        self._guest.check(f"{self._command} >/tmp/flood.out 2>&1 & echo $! >/tmp/flood.pid")

    def __exit__(self, kind, *_):
        self._guest.check("kill $(cat /tmp/flood.pid)")
        if not kind:
            check_seen(system.wait_until(lambda: self._guest.read("/tmp/flood.out"),
                                         "the reader's end"))


def compare(daemon, few, many, n_reads):
    """VMs that read at once: until so many reads are answered. Each has its turn, as often as the
    other, however many it asks for at a time. The queue's order is seen in who is served, not in
    how soon: that is the machine's."""
    def reads(metrics):
        return [int(metrics.value("virtjoule_fuse_reads_total", uuid=vm.uuid))
                for vm in (few, many)]

    before = reads(daemon.wait_ticks(2))  # both read
    after = reads(daemon.wait_metrics(lambda m: sum(reads(m)) > sum(before) + n_reads,
                                      f"{n_reads} reads"))
    answered = [b - a for a, b in zip(before, after)]
    print(f"answered: {answered}")
    assert answered[0] >= answered[1] / TURNS


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, MANY])
def test_flood(daemon, start_vm, threads):
    """Were they answered in the order in which they ask, the others would be served for each of
    their threads."""
    vm, flooder = start_vm(duty=1), start_vm(duty=1)
    daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
    with Flood(daemon.tree(vm.uuid) / "energy_uj", FEW, first=system.REALTIME), \
            Flood(daemon.tree(flooder.uuid) / "energy_uj", threads):
        compare(daemon, vm, flooder, READS)


@pytest.mark.slow
def test_flooding_guest(settings, start_daemon, start_guest):
    """The same of two real guests over virtiofs."""
    daemon = start_daemon({**settings, "discovery": {"libvirt_uri": libvirts.URI}})
    guest, flooder = start_guest(daemon), start_guest(daemon)
    daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
    energy = f"{flooder.POWERCAP}/intel-rapl:0/energy_uj"
    program = guest.install(POLL_READER)
    assert flooder.install(POLL_READER) == program
    with GuestFlood(guest, program, energy, FEW), GuestFlood(flooder, program, energy, MANY):
        compare(daemon, guest, flooder, READS // 10)


def test_cost_is_the_readers(daemon, start_vm):
    """What the daemon spends on a VM's requests is the VM's CPU time, not the host's."""
    vm, other = start_vm(duty=0), start_vm(duty=0)
    daemon.wait_metrics(lambda m: all(m.select("virtjoule_vm_info", uuid=one.uuid)
                                      for one in (vm, other)))
    before = [look(daemon, one) for one in (vm, other)]
    served = serving_seconds(daemon)
    with Flood(daemon.tree(vm.uuid) / "energy_uj", 2):
        system.wait_until(lambda: serving_seconds(daemon) > served + 0.5, "half a second's work")
    served = serving_seconds(daemon) - served
    own = vm.cpu_seconds() - before[0].least
    after = daemon.wait_ticks(2)
    paid, others = (cpu_seconds(after, one) - seen.counted
                    for one, seen in zip((vm, other), before))
    print(f"served {served} s, paid {paid} s, the other {others} s")
    assert served - CPU_S <= paid <= served + own + CPU_S
    assert others <= CPU_S
