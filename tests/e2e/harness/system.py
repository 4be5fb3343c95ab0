# SPDX-License-Identifier: LGPL-2.1-or-later
"""Temporary directories, child processes, waiting: nothing may be left behind."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from .margins import PATIENCE_S

SOURCE_ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("VIRTJOULE_BUILD", SOURCE_ROOT / "build"))
PREFIX = "virtjoule-test-"  # of every domain and directory the tests make

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_MNT_DETACH = 2


class TestTimeout(Exception):
    """Something has not happened for so long that it never will."""


def wait_until(condition, what, interval=0.05, patience_s=PATIENCE_S):
    """Polls until condition() is true and returns its value."""
    end = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TestTimeout(f"{what}: not within {patience_s} s")
        time.sleep(interval)


# Runs a command before all else on the machine: what it does too late is its own fault.
REALTIME = ("chrt", "--fifo", "1")


def start_child(arguments, **options):
    """A child that gets SIGTERM when this process dies, however it dies.

    It is in a process group of its own: Ctrl-C is for us, who take things down in order.
    """
    parent = os.getpid()

    def die_with_parent():
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen([str(argument) for argument in arguments],
                            preexec_fn=die_with_parent, process_group=0, **options)


def stop_child(child):
    """SIGTERM, and SIGKILL if it hangs; returns the exit status."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def free_port():
    """A TCP port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mounts_below(directory):
    """Mount points at or below a directory, the deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[4])
        if path == str(directory) or path.startswith(f"{directory}/"):
            found.append(path)
    return found[::-1]


def cgroup2_mountpoint():
    """Where the unified hierarchy is; a host of old keeps it beside the others."""
    return next(line.split(" ")[4] for line in
                Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line)


def detach_mount(path):
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(path))


class TemporaryDirectory:
    """/tmp/virtjoule-test-PID-*, which other users (QEMU's) may pass through."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.path.chmod(0o711)

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        remove_tree(self.path)


def remove_tree(directory):
    """rm -r that unmounts first, for it must not reach into a mount."""
    for path in mounts_below(directory):
        detach_mount(path)
    shutil.rmtree(directory)


def remove_leftovers():
    """What an earlier run that was killed left behind: directories, and processes that name one."""
    leftover = re.compile(rf"{tempfile.gettempdir()}/{PREFIX}(\d+)-")
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found = leftover.search(entry.read_bytes().decode(errors="replace"))
            if found and not Path(f"/proc/{found[1]}").exists():
                os.kill(int(entry.parent.name), signal.SIGKILL)
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        found = leftover.match(f"{directory}")
        if found and not Path(f"/proc/{found[1]}").exists():
            remove_tree(directory)
