# SPDX-License-Identifier: LGPL-2.1-or-later
"""Another eBPF program on a cgroup's sockets, which counts its calls."""

import json
import subprocess
import uuid
from pathlib import Path

_SOURCE = """
unsigned long calls = 0;
__attribute__((section("sockops"), used)) int other(void *context)
{
    __sync_fetch_and_add(&calls, 1);
    return 1;
}
"""
_BPFFS = Path("/sys/fs/bpf")


class OtherSockops:
    """Use as a context, in which it is attached. flags: "multi" lives with others, "" does not."""

    def __init__(self, directory, cgroup, flags):
        self._object = directory / "other.o"
        self._pinned = _BPFFS / f"virtjoule-test-{uuid.uuid4()}"
        self._attachment = [cgroup, "sock_ops", "pinned", self._pinned]
        self._flags = [flags] if flags else []

    def __enter__(self):
        subprocess.run(["clang", "-target", "bpf", "-O2", "-x", "c", "-", "-c", "-o",
                        self._object], input=_SOURCE, text=True, check=True)
        _bpftool("prog", "load", self._object, self._pinned, "type", "sockops")
        try:
            _bpftool("cgroup", "attach", *self._attachment, *self._flags)
        except subprocess.CalledProcessError:
            self._pinned.unlink()
            raise
        return self

    def __exit__(self, *_):
        _bpftool("cgroup", "detach", *self._attachment)
        self._pinned.unlink()

    def calls(self):
        program = json.loads(_bpftool("prog", "show", "pinned", self._pinned))
        data = json.loads(_bpftool("map", "dump", "id", program["map_ids"][0]))
        return int.from_bytes(bytes(int(byte, 16) for byte in data[0]["value"]), "little")


def _bpftool(*arguments):
    command = ["bpftool", "--json", *[str(argument) for argument in arguments]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
