# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests to unmodified servers in a real Debian guest, their energy coming through virtiofs."""

import re

import pytest

from harness import libvirtd as libvirt
from harness import system
from harness.servers import ServersGuest, check_bytes

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
RESPONSES, LARGEST = 100, 1_000_000


@pytest.fixture
def guest(start_daemon, directory, stack, libvirtd):
    if not (ServersGuest.IMAGES / "stamp").exists():
        pytest.skip("no disk with servers: run make servers")
    daemon = start_daemon(SETTINGS)
    return stack.enter_context(ServersGuest(libvirtd, directory, daemon.mountpoint, LARGEST))


def test_servers(guest):
    """The field is in every response, all else is as it was, byte for byte."""
    without = guest.talk(RESPONSES)
    other = guest.check("sh /root/tools/other.sh")
    guest.measure()
    try:
        check_field(guest)
        check_bytes(without, guest.talk(RESPONSES))
        # What is not HTTP/1 passes.
        assert guest.check("sh /root/tools/other.sh") == other
        log = guest.requests_log()
        assert "energy tree found" in log and "error" not in log
    finally:
        print(guest.requests_log())


def check_field(guest):
    def told():
        values = {}
        for name, port in PORTS.items():
            head = guest.check(f"curl -sv localhost:{port}/4096 2>&1 >/dev/null | sed 's/^< //'")
            values[name] = FIELD.findall(head)
        print("fields", values)
        return all(len(fields) == 1 and int(fields[0]) > 0 for fields in values.values())

    # Before the share's first intervals are over nobody knows what work costs.
    system.wait_until(told, "fields tell energy", interval=1)
