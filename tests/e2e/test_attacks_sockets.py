# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients of the control socket and of the exporter that stall, babble or never read: others are
answered meanwhile, no tick is missed, and no memory is taken."""

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from harness.daemon import FAST
from harness.margins import PATIENCE_S
from harness.powercap import Package, SimulatedPowercap

PACKAGE = Package(cpus=tuple(range(os.cpu_count())))
CLIENTS_MAX = 16  # of the control socket
LIST = b'{"command": "list"}\n'


@pytest.fixture
def daemon(directory, stack, start_daemon):
    (directory / "sys").mkdir()
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))
    return start_daemon({"daemon": FAST, "rapl": {"sysfs_root": host.root}})


@pytest.fixture
def connect(daemon, stack):
    """connect(): a client of the control socket."""
    def connect():
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(PATIENCE_S)
        client.connect(str(daemon.runtime_dir / "control.sock"))
        return client

    return connect


def answer(client):
    """All that comes until the other side closes."""
    received = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def is_open(client):
    """Nothing has come, the end neither."""
    with suppress(BlockingIOError):
        client.recv(1, socket.MSG_DONTWAIT)
        return False
    return True


def kilobytes(daemon):
    """The most that it has had in memory."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path(
        f"/proc/{daemon.process.pid}/status").read_text())[1])


@pytest.mark.parametrize("request_", [b"", LIST[:-1], b"x" * 4095], ids=["silence", "half", "long"])
def test_control_stalled(daemon, connect, request_):
    """As many as are served at once, none of which goes on: who asks then does not wait."""
    clients = [connect() for _ in range(CLIENTS_MAX)]
    for client in clients:
        client.sendall(request_)
    assert daemon.cli("list")["zones"]
    # They were there: the oldest made room.
    assert not is_open(clients[0])


def test_control_byte_by_byte(daemon, connect):
    client = connect()
    for byte in LIST:
        client.sendall(bytes([byte]))
    assert b'"zones"' in answer(client)


def test_control_gigabyte_line(daemon, connect):
    before, sent = kilobytes(daemon), 0
    client, part = connect(), b"x" * 65536
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < 2 ** 30:
            sent += client.send(part)
    assert sent < 2 ** 20
    assert answer(client) == b""
    assert kilobytes(daemon) - before < 1024
    assert daemon.cli("list")["zones"]


def test_control_requests_in_a_row(daemon, connect):
    """One request is answered, whatever comes behind it."""
    client = connect()
    client.sendall(LIST * 100)
    assert answer(client).count(b'"zones"') == 1
