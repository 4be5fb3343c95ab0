# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that reads as fast as it can keeps no other from being answered, and pays for it.

In which order requests are answered is seen in tests/unit/test-powercapfs-queue.c, and how long a
read takes beside a flood in tests/bench/flood_latency.py.
"""

import json
import os
import subprocess

import pytest

from harness import libvirtd as libvirts
from harness import system
from harness.accounts import cpu_seconds, look, serving_seconds
from harness.margins import CPU_S
from harness.powercap import Package, SimulatedPowercap

POLL_READER = system.BUILD / "tests/e2e/poll-reader"
FEW, MANY = 2, 64  # threads
READS = 1000


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
    """Reads without a pause while the context lasts, and sees no fault."""

    def __init__(self, file, threads):
        self._command = reader(POLL_READER, file, threads)

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


def wait_answered(daemon, vm, n_reads):
    """Beside the flood the VM is answered, and ticks go on."""
    def reads(metrics):
        return metrics.value("virtjoule_fuse_reads_total", uuid=vm.uuid)

    before = reads(daemon.wait_ticks(2))  # both read
    daemon.wait_metrics(lambda m: reads(m) > before + n_reads, f"{n_reads} reads")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, MANY])
def test_flood(daemon, start_vm, threads):
    vm, flooder = start_vm(duty=1), start_vm(duty=1)
    daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
    missed = daemon.metrics().value("virtjoule_ticks_missed_total")
    with Flood(daemon.tree(vm.uuid) / "energy_uj", FEW), \
            Flood(daemon.tree(flooder.uuid) / "energy_uj", threads):
        wait_answered(daemon, vm, READS)
    assert daemon.metrics().value("virtjoule_ticks_missed_total") == missed


@pytest.mark.slow
def test_flooding_guest(settings, start_daemon, start_guest):
    """The same of two real guests over virtiofs."""
    daemon = start_daemon({**settings, "discovery": {"libvirt_uri": libvirts.URI}})
    guest, flooder = start_guest(daemon), start_guest(daemon)
    daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
    energy = f"{flooder.POWERCAP}/intel-rapl:0/energy_uj"
    program = guest.install(POLL_READER)
    assert flooder.install(POLL_READER) == program
    missed = daemon.metrics().value("virtjoule_ticks_missed_total")
    with GuestFlood(guest, program, energy, FEW), GuestFlood(flooder, program, energy, MANY):
        wait_answered(daemon, guest, READS)
    assert daemon.metrics().value("virtjoule_ticks_missed_total") == missed


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
