# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests to unmodified servers: in a real Debian guest, their energy coming through virtiofs, and
on this machine's kernel (`make responses`), there many and large ones."""

import os
import re

import pytest

from harness import libvirtd as libvirt
from harness import system
from harness.requests import RequestsDaemon
from harness.servers import IMAGES, NativeServers, ServersGuest

pytestmark = pytest.mark.slow

SETTINGS = {
    "source": {"energy": "auto"},
    "rapl": {"sysfs_root": "/nonexistent"},
    "estimate": {"idle_watts": "40W", "max_watts": "120W"},
    "discovery": {"libvirt_uri": libvirt.URI},
}
FIELD = re.compile(r"^X-Energy-Score: (\d+)\r$", re.MULTILINE)
PORTS = {"nginx": 8081, "apache": 8084, "node": 8085, "python": 8086, "uvicorn": 8087}
# Of each server: every manner and framing comes at least once.
GUEST_RESPONSES, GUEST_LARGEST = 100, 1_000_000
RESPONSES, LARGEST = int(os.environ.get("VIRTJOULE_RESPONSES", 200)), 100_000_000


@pytest.fixture(scope="module", autouse=True)
def images():
    if not (IMAGES / "stamp").exists():
        pytest.skip("no disk with servers: run make servers")


@pytest.fixture
def guest(start_daemon, directory, stack, libvirtd):
    daemon = start_daemon(SETTINGS)
    return stack.enter_context(
        ServersGuest(libvirtd, directory, daemon.mountpoint, GUEST_LARGEST))


@pytest.mark.shared
def test_guest(guest):
    """The field is in every response, all else is as it was, byte for byte."""
    without = guest.talk(GUEST_RESPONSES)
    other = guest.check("sh /root/tools/other.sh", timeout=60)
    guest.measure()
    try:
        check_field(guest)
        check_bytes(without, guest.talk(GUEST_RESPONSES))
        # What is not HTTP/1 passes.
        assert guest.check("sh /root/tools/other.sh", timeout=60) == other
        log = guest.requests_log()
        assert "energy tree found" in log and "error" not in log
    finally:
        print(guest.requests_log())


@pytest.mark.long
def test_native(directory, stack):
    servers = stack.enter_context(NativeServers(directory, LARGEST))
    without = servers.talk(RESPONSES)
    settings = {"cgroup": servers.cgroups, "attribution_mode": "model"}
    with RequestsDaemon(directory, settings) as daemon:
        check_bytes(without, servers.talk(RESPONSES))
        assert daemon.metrics().value("virtjoule_request_missed_total") == 0


def check_field(guest):
    def told():
        values = {}
        for name, port in PORTS.items():
            head = guest.check(f"curl -sv localhost:{port}/4096 2>&1 >/dev/null | sed 's/^< //'")
            values[name] = FIELD.findall(head)
        print("fields", values)
        return all(len(fields) == 1 and int(fields[0]) > 0 for fields in values.values())

    # Before the share's first intervals are over nobody knows what work costs.
    system.wait_until(told, 30, "fields tell energy", interval=1)


def check_bytes(without, measured):
    """Of what servers/client.py saw; a pipelining client's field may find no room."""
    for what, seen in ("without", without), ("measured", measured):
        total = {key: sum(each[key] for each in seen.values()) for key in ("responses", "fields")}
        slowest = max(seen, key=lambda name: seen[name]["longest_s"])
        print(what, total, f"longest wait {seen[slowest]['longest_s']:.3f} s by {slowest}")
    assert without.keys() == measured.keys()
    for name, before in without.items():
        after = measured[name]
        assert (before["error"], after["error"]) == (None, None), name
        assert before["responses"] == after["responses"] == before["asked"], name
        assert before["digest"] == after["digest"], name
        assert before["fields"] == 0, name
        assert "pipelined" in name or after["fields"] == after["responses"], name
