# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other eBPF programs on the sockets whose requests are measured: all of them live."""

import urllib.request
from contextlib import ExitStack

import pytest

from harness import system
from harness.requests import FIELD, RequestsDaemon, workload_server
from harness.sockops import OtherSockops


@pytest.fixture
def server():
    with workload_server("threads") as server:
        yield server


def fields(server):
    """How often the field is in a response."""
    url = f"http://127.0.0.1:{server.port}/cpu?iters=10"
    with urllib.request.urlopen(url, timeout=system.PATIENCE_S) as answer:
        answer.read()
        return len(answer.headers.get_all(FIELD, []))


def start_requests(directory, server):
    return RequestsDaemon(directory, {"cgroup": server.cgroup.path, "attribution_mode": "model"})


def test_another_program(directory, server):
    """One that tolerates others: both see the connections, whoever came first."""
    with OtherSockops(directory, server.cgroup.path, "multi") as other:
        with start_requests(directory, server):
            before = other.calls()
            assert fields(server) == 1
            assert other.calls() > before
        assert fields(server) == 0
        assert other.calls() > before


def test_exclusive_program(directory, server):
    """One that tolerates none: it is said, and the cgroup is followed when that has gone."""
    with ExitStack() as attached:
        other = attached.enter_context(OtherSockops(directory, server.cgroup.path, ""))
        with start_requests(directory, server) as daemon:
            daemon.wait_log("another program on the cgroup, or above it, tolerates none beside it")
            before = other.calls()
            assert fields(server) == 0
            assert other.calls() > before
            attached.close()
            daemon.wait_log("requests of a cgroup are followed")
            assert fields(server) == 1


def test_another_sockmap(directory, server):
    """Connections that are in another program's map of sockets are its own, and that is said."""
    second_directory = directory / "second"
    second_directory.mkdir()
    second = start_requests(second_directory, server)
    with start_requests(directory, server) as first:
        with second:
            assert fields(server) == 1
            second.wait_log("connections are in another program's map of sockets")
            assert len(first.wait_requests_over()) == 1
            assert not second.requests()
        # Each connection is one's: the second has left it alone.
        assert fields(server) == 1
    assert fields(server) == 0
