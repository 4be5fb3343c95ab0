# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connections by the thousand, well-behaved and not: nothing is kept of those that have gone.

CONNECTIONS=1000000 makes it a million.
"""

import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

from harness import system
from harness.bpf_maps import BpfMaps
from harness.requests import WORKLOAD, RequestsDaemon, workload_server

CONNECTIONS = int(os.environ.get("CONNECTIONS", 10**4))
GROWTH_MAX = 2**20  # bytes of memory: 100 of each of ten thousand connections, one of a million


def anonymous_memory(pid):
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def entries_of(maps):
    """Of those maps that hold what is of connections."""
    return {name: n for name, n in maps.entries().items() if name != "frequencies"}


def count_sockets(process):
    n = 0
    for path in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # they go at any time
            n += os.readlink(path).startswith("socket:")
    return n


def server_is_idle(server, entries):
    """Only what waits in the server is there: connections, all answered, and its threads."""
    process = Path(f"/proc/{server.pid}")
    return entries["sockets"] == count_sockets(process) - 1 > 0 and \
        entries["workers"] <= len(list((process / "task").iterdir())) and \
        entries["requests"] == entries["abandoned"] == entries["listening"] == 0


def churn(server, maps):
    """Opens and closes them; returns what the tool tells, and the most entries that were seen."""
    with subprocess.Popen([WORKLOAD / "workload-churn", str(server.port), str(CONNECTIONS)],
                          stdout=subprocess.PIPE, text=True) as tool:
        peaks = entries_of(maps)
        while tool.poll() is None:
            peaks = {name: max(n, peaks[name]) for name, n in entries_of(maps).items()}
            try:
                tool.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        return json.loads(tool.stdout.read()), peaks


def test_nothing_is_left(directory, stack):
    server = workload_server("pool")
    with server:
        daemon = stack.enter_context(RequestsDaemon(directory, {
            "cgroup": server.cgroup.path, "attribution_mode": "model", "access_log": "/dev/null"}))
        pid = daemon.process.pid
        maps = stack.enter_context(BpfMaps(pid))
        before = anonymous_memory(pid), maps.memory()
        told, peaks = churn(server, maps)
        print(told, "peaks", peaks)
        assert told["failed"] == 0
        # Not even one kind of them stays.
        assert max(peaks.values()) < min(n for n in told["kinds"].values() if n > 64)
        # Of those whose clients have gone without a word the server does not know.
        system.wait_until(lambda: server_is_idle(server, entries_of(maps)),
                          "no more entries than the server has connections")
    system.wait_until(lambda: not any(entries_of(maps).values()), "the maps are empty")
    metrics = daemon.metrics()
    after = anonymous_memory(pid), maps.memory()
    print("requests", metrics.sum("virtjoule_request_energy_joules_count"), "memory", before, after)
    assert metrics.sum("virtjoule_request_energy_joules_count") >= told["answers"] > CONNECTIONS / 2
    assert metrics.value("virtjoule_request_missed_total") == 0
    assert after[0] - before[0] < GROWTH_MAX
    assert after[1] == before[1]
