# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in the eBPF maps of a process, seen from outside."""

import ctypes
import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

_libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
KEYED = ("hash", "sockhash")
QUEUE = "queue"


class BpfMaps:
    """Use as a context. Maps that hold what comes and goes, by name."""

    def __init__(self, pid):
        self._maps = {}
        self._pid = pid

    def __enter__(self):
        for number in _map_ids(self._pid):
            told = subprocess.run(["bpftool", "--json", "map", "show", "id", str(number)],
                                  check=True, capture_output=True)
            info = json.loads(told.stdout)
            if info["type"] in (*KEYED, QUEUE):
                self._maps[info["name"]] = (_libbpf.bpf_map_get_fd_by_id(number), info)
        return self

    def __exit__(self, *_):
        for fd, _ in self._maps.values():
            os.close(fd)

    def entries(self):
        """{name: number}; of a queue whether there is one."""
        return {name: _count(fd, info) for name, (fd, info) in self._maps.items()}

    def memory(self):
        """Bytes of all its maps, by the kernel's account."""
        return sum(int(re.search(r"memlock:\s+(\d+)", text)[1]) for text in _map_infos(self._pid))


def _map_infos(pid):
    """What the kernel tells of its descriptors that are maps; others come and go meanwhile."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            text = path.read_text()
            if "map_id:" in text:
                yield text


def _map_ids(pid):
    return sorted({int(re.search(r"map_id:\s+(\d+)", text)[1]) for text in _map_infos(pid)})


def _count(fd, info):
    if info["type"] == QUEUE:
        value = ctypes.create_string_buffer(info["bytes_value"])
        return int(_libbpf.bpf_map_lookup_elem(fd, None, value) == 0)
    # An entry that goes while the next one is looked for begins the walk anew.
    keys, key = set(), None
    following = ctypes.create_string_buffer(info["bytes_key"])
    while len(keys) <= info["max_entries"] and \
            _libbpf.bpf_map_get_next_key(fd, key, following) == 0:
        keys.add(following.raw)
        key = ctypes.create_string_buffer(following.raw, info["bytes_key"])
    return len(keys)
