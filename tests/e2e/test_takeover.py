# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readers notice nothing when the daemon dies or is restarted: its mount goes on."""

import json
import os
import random
import signal
import socket
import subprocess
import time

import pytest

from harness import system
from harness.daemon import FAST, Daemon, DescriptorStore, assert_watched_when_ready
from harness.powercap import Package, SimulatedPowercap

POLL_READER = system.BUILD / "tests/e2e/poll-reader"
INTERVAL_S = 0.2
PACKAGE = Package(cpus=tuple(range(os.cpu_count())))


@pytest.fixture
def settings(directory, stack):
    (directory / "sys").mkdir()
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))
    return {"daemon": FAST, "rapl": {"sysfs_root": host.root},
            "baseline": {"package-0": f"{PACKAGE.static_watts}W"},
            "attribution": {"static_policy": "equal"}}


@pytest.fixture
def daemon(directory, settings, stack):
    made = Daemon(directory, settings, DescriptorStore())
    stack.callback(lambda: print(made.log()))
    return stack.enter_context(made)


@pytest.fixture
def vm(daemon, start_vm):
    vm = start_vm(duty=10)
    daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid, "static_") > 0, what="energy")
    return vm


class Reader:
    """Half of its threads keep the file open, half open it each time; use as a context."""

    def __init__(self, daemon, vm, threads=2, hertz=50):
        self._daemon, self._vm = daemon, vm
        tree = daemon.tree(vm.uuid)
        self._file = tree / "energy_uj"
        self._command = [POLL_READER, self._file,
                         (tree / "max_energy_range_uj").read_text().strip(), str(threads),
                         str(hertz), str(system.PATIENCE_S)]

    def __enter__(self):
        self._first_uj = int(self._file.read_text())
        self.process = system.start_child(self._command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def wait_reads(self):
        """It reads on, of the daemon that runs now."""
        def reads(metrics):
            return metrics.value("virtjoule_fuse_reads_total", uuid=self._vm.uuid)

        before = reads(self._daemon.metrics())
        self._daemon.wait_metrics(lambda m: reads(m) > before, "reads")

    def result(self):
        """Ends it. It has seen no fault, and each thread's last read was answered."""
        assert self.process.poll() is None, "it has not read all the time"
        self.process.terminate()
        seen = json.loads(self.process.communicate(timeout=system.PATIENCE_S)[0])
        print(seen)
        for fault in ("torn", "errors", "decreases"):
            assert seen[fault] == 0, seen
        assert int(self._file.read_text()) > self._first_uj


def totals(daemon):
    metrics = daemon.metrics()
    assert metrics.balance("package-0") == 0, metrics.text
    return {row: metrics.sum(f"virtjoule_{row}_energy_joules_total")
            for row in ("source", "vm", "host", "static", "unattributed")}


def restart(daemon, end, run_s=0, pause_s=0):
    """After it has run for a while."""
    time.sleep(run_s)
    before = totals(daemon)
    end()
    time.sleep(pause_s)
    daemon.start()
    after = totals(daemon)
    assert all(after[row] >= before[row] for row in before), (before, after)


def test_killed_under_readers(daemon, vm):
    moments = random.Random(3)
    with Reader(daemon, vm) as reader:
        for _ in range(20):
            restart(daemon, daemon.kill, moments.uniform(0, 0.5), moments.uniform(0, 0.3))
            reader.wait_reads()
        reader.result()
    assert daemon.log().count("the former daemon's mount is continued") == 20
    assert [name for name, _ in daemon.store.descriptors].count("powercapfs") == 3


def test_killed_while_answering(daemon, vm):
    """So many requests that most kills hit one, which must be answered by the next daemon."""
    moments = random.Random(4)
    with Reader(daemon, vm, threads=8, hertz=20000) as reader:
        for _ in range(20):
            restart(daemon, daemon.kill, moments.uniform(0, 0.5))
        reader.result()


def test_killed_while_starting(daemon, vm):
    """Wherever in its start: the request that it had not come to answer is there for the next."""
    moments = random.Random(5)

    def begin_and_die():
        daemon.kill()
        for _ in range(4):
            daemon.launch()
            time.sleep(moments.uniform(0, 0.1))
            daemon.kill()

    with Reader(daemon, vm) as reader:
        for _ in range(10):
            restart(daemon, begin_and_die, INTERVAL_S * 2)
            reader.wait_reads()
        reader.result()


def is_listed(vm, answer):
    return vm.uuid in [listed["uuid"] for listed in answer["vms"]]


def test_control_socket_is_the_service_managers(daemon, vm):
    """Socket activation: who asks while no daemon runs waits for the next one."""
    daemon.stop()
    path = daemon.runtime_dir / "control.sock"
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        daemon.store.add("control", listening.fileno())
        for end in (daemon.stop, daemon.kill):
            daemon.start()
            assert is_listed(vm, daemon.cli("list"))
            end()
            assert path.exists()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b'{"command":"list"}\n')
            daemon.start()
            assert is_listed(vm, json.loads(client.makefile().read()))


def test_restarted_under_readers(daemon, vm):
    """As an upgrade does it: a clean stop, then the next one."""
    with Reader(daemon, vm) as reader:
        for _ in range(5):
            restart(daemon, daemon.stop, INTERVAL_S * 2)
            reader.wait_reads()
        reader.result()
    assert system.mounts_below(daemon.mountpoint) == [str(daemon.mountpoint)]


def without(daemon, kind):
    """Takes a descriptor away, by what the link in /proc calls it."""
    daemon.store.remove(lambda _, number: kind in os.readlink(f"/proc/self/fd/{number}"))


def without_connection(daemon):
    without(daemon, "/dev/fuse")


def without_memory(daemon):
    without(daemon, "memfd:")


def without_request(daemon):
    without(daemon, "socket:")


def with_garbage(daemon):
    without_request(daemon)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(bytes(104))
        daemon.store.add("powercapfs", ours.fileno())


def foreign(daemon):
    daemon.store.remove()
    with open("/dev/null") as null:
        daemon.store.add("powercapfs", null.fileno())
        daemon.store.add("other", null.fileno())


def unmounted(daemon):
    system.detach_mount(daemon.mountpoint)


@pytest.mark.parametrize("spoil", [without_connection, without_memory, without_request,
                                   with_garbage, foreign, unmounted])
def test_useless_descriptors(daemon, vm, spoil):
    """They are given up, told, and replaced by a new mount's."""
    daemon.kill()
    spoil(daemon)
    daemon.start()
    assert "cannot be continued" in daemon.log()
    assert int((daemon.tree(vm.uuid) / "energy_uj").read_text()) > 0
    restart(daemon, daemon.kill)
    assert "the former daemon's mount is continued" in daemon.log()
    assert [name for name, _ in daemon.store.descriptors].count("powercapfs") == 3


def test_confined(directory, settings, stack, start_vm):
    """As systemd/virtjoule.service has it; whatever becomes of the mount, there is one again."""
    daemon = Daemon(directory, settings, DescriptorStore(), confined=True)
    stack.callback(lambda: print(daemon.log()))
    stack.enter_context(daemon)
    vm = start_vm(duty=10)
    daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid, "static_") > 0, what="energy")
    with Reader(daemon, vm) as reader:
        for end in (daemon.kill, daemon.stop) * 2:
            restart(daemon, end, 0.3)
            reader.wait_reads()
        reader.result()
    for spoil in (daemon.store.remove, lambda: unmounted(daemon)):
        daemon.kill()
        spoil()
        daemon.start()
        assert int((daemon.tree(vm.uuid) / "energy_uj").read_text()) > 0
        assert [name for name, _ in daemon.store.descriptors].count("powercapfs") == 3
    assert "cannot be continued" not in daemon.log()


def test_nobody_waits_at_the_top(daemon):
    """Whoever looks at all mounts does not wait for a daemon that is away."""
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        subprocess.run(["stat", daemon.mountpoint], check=True, timeout=system.PATIENCE_S)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def test_watched_from_the_end_of_the_start_on(directory, settings, stack, monkeypatch):
    """As long as a start takes, no watchdog that has been fed once ends it."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    daemon = stack.enter_context(Daemon(directory, settings))
    assert_watched_when_ready(daemon.notifications())
