# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many and large responses of unmodified servers on this machine's kernel: `make responses`."""

import os

from harness.requests import RequestsDaemon
from harness.servers import NativeServers, check_bytes

RESPONSES = int(os.environ["VIRTJOULE_RESPONSES"])  # of each server
LARGEST = 100_000_000


def test_many(directory, stack):
    servers = stack.enter_context(NativeServers(directory, LARGEST))
    without = servers.talk(RESPONSES)
    settings = {"cgroup": servers.cgroups, "attribution_mode": "model"}
    with RequestsDaemon(directory, settings) as daemon:
        check_bytes(without, servers.talk(RESPONSES))
        assert daemon.metrics().value("virtjoule_request_missed_total") == 0
