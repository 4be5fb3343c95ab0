# SPDX-License-Identifier: LGPL-2.1-or-later
"""A domain with the share starts whatever has become of virtjouled, and its share is filled when
virtjouled is there."""

import os
import signal
import subprocess
from contextlib import contextmanager

import pytest

from harness import libvirtd as harness_libvirtd
from harness.daemon import VIRTJOULED, Daemon, DescriptorStore
from harness.hook import InstalledHook
from harness.system import wait_until

pytestmark = pytest.mark.slow

SETTINGS = {
    "source": {"energy": "estimate"},
    "discovery": {"libvirt_uri": harness_libvirtd.URI},
}
PARTS = ["class", "devices", "virtjoule"]


class Host:
    """A daemon that a test starts and stops as the service manager would, and the hook."""

    def __init__(self, daemon, hook):
        self.daemon = daemon
        self.hook = hook

    def start(self):
        self.daemon.start()
        self.run("--fill")

    def stop(self):
        self.daemon.stop()
        self.run("--unmount")

    def run(self, action):
        subprocess.run([VIRTJOULED, action, "--config", self.daemon.config], check=True)


@pytest.fixture
def host(directory, libvirtd, stack):
    daemon = Daemon(directory, SETTINGS, store=DescriptorStore())
    stack.callback(lambda: print(daemon.log()))
    stack.callback(daemon.__exit__, None)
    return Host(daemon, stack.enter_context(InstalledHook(libvirtd, daemon)))


def is_empty(guest):
    return guest.check(f"cd {guest.SHARE} && find . -type d | sort").split() == \
        [".", *(f"./{part}" for part in PARTS)]


def counts(guest):
    """The guest reads its own energy, and it grows."""
    def read():
        answer = guest.run(f"cat {guest.SHARE}/class/powercap/intel-rapl:0/energy_uj")
        return int(answer.output) if answer.status == 0 else 0

    first = wait_until(read, "the guest's counter is there")
    wait_until(lambda: read() > first, "the guest's counter goes on")


def test_never_started(host, start_guest):
    """The share is filled in the guest that runs, and is empty again while there is no daemon."""
    guest = start_guest(host.daemon, wait_for_share=False)
    assert is_empty(guest)
    for _ in range(2):
        host.start()
        counts(guest)
        host.stop()
        assert is_empty(guest)
