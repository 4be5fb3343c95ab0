# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon is dead, its connection is kept, and no next one comes: a close() does not wait for
it, and a reader that waits can be killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import libvirtd as libvirts
from harness import system
from harness.daemon import FAST, Daemon, DescriptorStore
from harness.margins import PATIENCE_S
from harness.powercap import Package, SimulatedPowercap

PACKAGE = Package(cpus=tuple(range(os.cpu_count())))

OPEN = "fd = os.open('energy_uj', os.O_RDONLY)"
READ = OPEN + "; os.read(fd, 99)"
OPEN_DIRECTORY = "fd = os.open('.', os.O_DIRECTORY)"
MAP = OPEN + "; pages = mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ)"

# What a process does in the directory of a VM's zone: before the daemon dies, and afterwards.
ENDINGS = {
    "close": (READ, "os.close(fd)"),
    "close-unread": (OPEN, "os.close(fd)"),
    "exit": (READ, "pass"),
    "fork": (READ, "child = os.fork() or os._exit(0); os.waitpid(child, 0)"),
    "fork-before": (READ + "; child = os.fork() or (sys.stdin.read(), os._exit(0))",
                    "os.waitpid(child, 0)"),
    "duplicate": (READ + "; other = os.dup(fd)", "os.close(fd); os.close(other)"),
    "execute": (READ, "os.execvp('true', ['true'])"),
    "kill": (READ, "os.kill(os.getpid(), signal.SIGKILL)"),
    "closedir": (OPEN_DIRECTORY + "; os.listdir(fd)", "os.close(fd)"),
    "unmap": (MAP + "; pages[0]", "pages.close()"),
    "leave-directory": ("pass", "os.chdir('/')"),
}

# Each operation of a reader that asks the daemon.
WAITING = {
    "read": (OPEN, "os.read(fd, 99)"),
    "read-again": (READ, "os.pread(fd, 99, 0)"),
    "open": ("pass", "os.open('energy_uj', os.O_RDONLY)"),
    "open-to-write": ("pass", "os.open('energy_uj', os.O_WRONLY)"),
    "opendir": ("pass", "os.open('.', os.O_DIRECTORY)"),
    "readdir": (OPEN_DIRECTORY, "os.listdir(fd)"),
    "stat": ("pass", "os.stat('energy_uj')"),
    "fstat": (OPEN, "os.fstat(fd)"),
    "access": ("pass", "os.access('energy_uj', os.R_OK)"),
    "readlink": ("pass", "os.readlink('../../intel-rapl:0')"),
    "statfs": (OPEN, "os.fstatvfs(fd)"),
    "listxattr": (OPEN, "os.listxattr(fd)"),
    "getxattr": (OPEN, "os.getxattr(fd, 'user.x')"),
    "seek": (OPEN, "os.lseek(fd, 0, os.SEEK_END)"),
    "fsync": (OPEN, "os.fsync(fd)"),
    "poll": (OPEN, "poll = select.poll(); poll.register(fd); poll.poll(0)"),
    "ioctl": (OPEN, "fcntl.ioctl(fd, 0x5401)"),
    "map": (MAP, "pages[0]"),
    "sendfile": (OPEN, "os.sendfile(os.pipe()[1], fd, 0, 99)"),
    "splice": (OPEN, "os.splice(fd, os.pipe()[1], 99)"),
}


class Process:
    """Does one thing in a directory, and the other when it is told to; use as a context."""

    def __init__(self, directory, before, afterwards):
        code = ("import fcntl, mmap, os, select, signal, sys\n"
                f"{before}\nprint('ready', flush=True)\nsys.stdin.read()\n{afterwards}\n")
        self._process = system.start_child([sys.executable, "-c", code], cwd=directory, text=True,
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self._process.pid

    def __enter__(self):
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def go_on(self):
        self._process.stdin.close()

    def wait_waiting(self):
        """It sleeps in the kernel, and not for being told."""
        def sleeps():
            place = Path(f"/proc/{self.pid}/wchan").read_text()
            return place != "0" and "pipe" not in place

        system.wait_until(sleeps, f"process {self.pid} waits")

    def kill(self):
        self._process.kill()

    def end(self):
        """Waits until it has ended; returns its exit status."""
        return self._process.wait(PATIENCE_S)


@pytest.fixture
def store(stack):
    """As long as it keeps the connection, whoever waits for an answer waits."""
    made = DescriptorStore()
    stack.callback(made.remove)
    return made


@pytest.fixture
def daemon(directory, stack, store):
    (directory / "sys").mkdir()
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))
    made = Daemon(directory, {"daemon": FAST, "rapl": {"sysfs_root": host.root},
                              "discovery": {"libvirt_uri": libvirts.URI}}, store)
    stack.callback(lambda: print(made.log()))
    return stack.enter_context(made)


@pytest.fixture
def zone(daemon, start_vm):
    """Of a VM, no file of which has been closed yet: the first close() is the one that asked."""
    path = daemon.tree(start_vm(duty=10).uuid)
    system.wait_until(path.exists, f"{path} is there")
    return path


def start(stack, store, zone, scripts):
    # Last in, first out: without the connection, nothing waits any more.
    processes = [stack.enter_context(Process(zone, *script)) for script in scripts]
    stack.callback(store.remove)
    return processes


@pytest.mark.parametrize("script", ENDINGS.values(), ids=ENDINGS)
def test_ends_at_once(daemon, store, stack, zone, script):
    process, = start(stack, store, zone, [script])
    daemon.kill()
    process.go_on()
    assert process.end() in (0, -signal.SIGKILL)


def test_waiting_readers_can_be_killed(daemon, store, stack, zone):
    processes = start(stack, store, zone, WAITING.values())
    daemon.kill()
    for process in processes:
        process.go_on()
    for process in processes:
        process.wait_waiting()
    # All at once: one that seeks or syncs locks the file while it waits.
    for process in processes:
        process.kill()
    assert [process.end() for process in processes] == [-signal.SIGKILL] * len(WAITING)


def test_waiting_readers_are_answered(daemon, store, stack, zone):
    """By the next daemon; what the kernel refuses of itself is refused."""
    processes = start(stack, store, zone, WAITING.values())
    daemon.kill()
    for process in processes:
        process.go_on()
        process.wait_waiting()
    daemon.start()
    failed = {name for name, process in zip(WAITING, processes) if process.end() != 0}
    assert failed == {"open-to-write", "listxattr", "getxattr", "ioctl"}


def test_aborted(daemon, store, directory, stack, zone):
    """Whoever waits has an error."""
    control = directory / "control"
    control.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "none", control], check=True)
    stack.callback(system.detach_mount, control)
    number = subprocess.run(["mountpoint", "-d", daemon.mountpoint], check=True, text=True,
                            capture_output=True).stdout.strip().split(":")[1]
    process, = start(stack, store, zone, [WAITING["read"]])
    os.kill(daemon.process.pid, signal.SIGSTOP)
    process.go_on()
    process.wait_waiting()
    daemon.kill()
    (control / number / "abort").write_text("1")
    assert process.end() == 1


def test_guest_closes_its_counter(daemon, store, stack, start_guest):
    """Through virtiofsd as well."""
    guest = start_guest(daemon)
    guest.check(f"exec 8<{guest.POWERCAP}/intel-rapl:0/energy_uj; read value <&8;"
                "(sh -c 'while test ! -e /tmp/end; do usleep 1000; done'; touch /tmp/ended) &")
    stack.callback(store.remove)
    daemon.kill()
    guest.check("touch /tmp/end; while test ! -e /tmp/ended; do usleep 1000; done")
