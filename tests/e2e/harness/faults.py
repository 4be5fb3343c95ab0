# SPDX-License-Identifier: LGPL-2.1-or-later
"""Things that fail on demand: a file system, allocations, the connection to libvirtd."""

import mmap
import selectors
import socket
import struct
import threading
from contextlib import suppress

from . import system

HANG = "hang"
SLOW = "slow"


class FaultFs:
    """A directory whose operations fail or hang on demand; use as a context.

    `backing` holds what `path` shows.
    """

    def __init__(self, directory, name):
        self.backing = directory / f"{name}-backing"
        self.path = directory / name
        self._faults = directory / f"{name}-faults"
        self._process = None
        for made in (self.backing, self.path):
            made.mkdir()
        self.heal()

    def __enter__(self):
        self._process = system.start_child(
            [system.BUILD / "tests/e2e/fault-fs", self.backing, self._faults, self.path])
        system.wait_until(lambda: system.mounts_below(self.path), "fault-fs is mounted")
        return self

    def __exit__(self, *_):
        self.heal()
        for path in system.mounts_below(self.path):
            system.detach_mount(path)
        system.stop_child(self._process)

    def fault(self, operation, suffix, result):
        """From now on the operation gives that errno, is SLOW, or HANGs, on paths with that end."""
        self._write(f"{operation} {suffix} {result}\n")

    def heal(self):
        self._write("")

    def _write(self, text):
        new = self._faults.with_suffix(".new")
        new.write_text(text)
        new.rename(self._faults)


class FaultAlloc:
    """Allocations of the daemon that fail: `wrapper` is for Daemon; use as a context."""

    _FORMAT = "4Q"

    def __init__(self, directory):
        path = directory / "fault-alloc"
        path.write_bytes(bytes(struct.calcsize(self._FORMAT)))
        self.wrapper = ("env", f"LD_PRELOAD={system.BUILD / 'tests/e2e/fault-alloc.so'}",
                        f"FAULT_ALLOC={path}")
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._memory.close()

    def _word(self, index, value=None):
        place = slice(8 * index, 8 * index + 8)
        if value is not None:
            self._memory[place] = struct.pack("Q", value)
        return struct.unpack("Q", self._memory[place])[0]

    @property
    def n(self):
        """How many allocations there were."""
        return self._word(0)

    @property
    def n_failed(self):
        return self._word(1)

    def fail(self, at=0, one_in=0):
        """Counts anew; fails the allocation of that number, or every so manieth."""
        for index, value in ((2, 0), (3, 0), (0, 0), (1, 0), (2, at), (3, one_in)):
            self._word(index, value)


class CutConnection:
    """Stands between the daemon and libvirtd's socket; use as a context.

    `bytes_left` is what libvirtd may still answer on the connections that are
    there: then they break. None: all of it. `stalled` holds everything back.
    """

    LIBVIRTD = "/run/libvirt/libvirt-sock-ro"

    def __init__(self, directory):
        self._path = directory / "libvirt.sock"
        self.uri = f"qemu+unix:///system?socket={self._path}"
        self.bytes_left = None
        self.stalled = False
        self.n_cut = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._selector = selectors.DefaultSelector()
        self._pairs = {}  # socket: its other side
        self._from_libvirtd = set()

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        for end in (self._listener, *self._pairs):
            end.close()

    def _run(self):
        while not self._end.wait(0.01 if self.stalled else 0):
            if self.stalled:
                continue
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._pairs:
                    self._pass_on(key.fileobj)

    def _accept(self):
        client = self._listener.accept()[0]
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.LIBVIRTD)
        except OSError:
            client.close()
            return
        self._pairs |= {client: server, server: client}
        self._from_libvirtd.add(server)
        for end in (client, server):
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end):
        data = b""
        with suppress(ConnectionError):
            data = end.recv(65536)
        is_last = not data
        if data and end in self._from_libvirtd and self.bytes_left is not None:
            data = data[:self.bytes_left]
            self.bytes_left -= len(data)
            is_last = self.bytes_left == 0
        with suppress(OSError):
            self._pairs[end].sendall(data)
        if is_last:
            self._close(end)
        if is_last and self.bytes_left == 0:
            self.n_cut += 1
            self.bytes_left = None

    def _close(self, end):
        for side in (end, self._pairs[end]):
            self._selector.unregister(side)
            self._from_libvirtd.discard(side)
            del self._pairs[side]
            side.close()
