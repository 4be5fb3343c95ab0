# SPDX-License-Identifier: LGPL-2.1-or-later
"""A domain with the share starts whatever has become of virtjouled, and its share is filled when
virtjouled is there."""

import os
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from harness import libvirtd as harness_libvirtd
from harness.daemon import VIRTJOULED, Daemon, DescriptorStore
from harness.hook import InstalledHook
from harness.system import detach_mount, mounts_below, wait_until

pytestmark = pytest.mark.slow

SETTINGS = {
    "source": {"energy": "estimate"},
    "discovery": {"libvirt_uri": harness_libvirtd.URI},
}
EMPTY_SHARES = Path("/run/virtjoule-empty")
NOBODY = 65534
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
    """The share is filled in the guest that runs, and is empty again while there is no daemon.
    The guest need not mount it again; what is bound from the former tree is."""
    guest = start_guest(host.daemon, wait_for_share=False)
    assert is_empty(guest)
    for _ in range(2):
        host.start()
        counts(guest)
        guest.check(f"mount --bind {guest.SHARE}/class/powercap {guest.POWERCAP}")
        assert guest.energy_uj() > 0
        host.stop()
        assert is_empty(guest)
        guest.check(f"umount {guest.POWERCAP}")


def test_dead_mount(host, start_guest):
    """Of a daemon that was killed, and that no service manager keeps."""
    host.daemon.store = None
    host.daemon.start()
    host.daemon.kill()
    with pytest.raises(OSError):
        os.listdir(host.daemon.mountpoint)
    guest = start_guest(host.daemon, wait_for_share=False)
    assert is_empty(guest)
    host.start()
    counts(guest)


def test_mount_that_hangs(host, start_guest):
    """Reads of a VM that has its share wait for the next daemon, and go on; another VM starts."""
    host.start()
    former = start_guest(host.daemon)
    before = former.energy_uj()
    host.daemon.kill()
    guest = start_guest(host.daemon, wait_for_share=False)
    assert is_empty(guest)
    host.start()
    counts(guest)
    assert former.energy_uj() >= before
    counts(former)


def test_slow_daemon(host, start_guest):
    """Libvirt's next call of the hook finds out that there is a daemon after all."""
    host.start()
    os.kill(host.daemon.process.pid, signal.SIGSTOP)
    try:
        guest = start_guest(host.daemon, wait_for_share=False)
        assert is_empty(guest)
    finally:
        os.kill(host.daemon.process.pid, signal.SIGCONT)

    def is_filled():
        host.hook.call(guest.domain.XMLDesc().encode(), "started")
        return not is_empty(guest)

    wait_until(is_filled, "the share is filled")
    counts(guest)


def test_wrong_configuration(host, start_guest):
    text = host.daemon.config.read_text()
    host.daemon.write_config(f"{text}\nnonsense = yes\n")
    host.daemon.launch()
    assert host.daemon.wait_exit() == 78
    guest = start_guest(host.daemon, wait_for_share=False)
    assert is_empty(guest)
    host.daemon.write_config(text)
    host.start()
    counts(guest)


def test_removed(host, start_guest):
    """The hook alone is left; a daemon that is installed again fills what it made."""
    host.hook.remove_program()
    guest = start_guest(host.daemon, wait_for_share=False)
    assert is_empty(guest)
    host.start()
    counts(guest)


def test_guest_cannot_write(host, start_guest):
    """To memory of the host."""
    guest = start_guest(host.daemon, wait_for_share=False)
    guest.check("mkdir -p /mnt && mount -t virtiofs -o rw virtjoule /mnt")
    for command in ("touch /mnt/class/x", "mkdir /mnt/x", "rmdir /mnt/class", "chmod 777 /mnt"):
        assert "Read-only" in guest.check(f"! {command}")


def test_nothing_is_left(host, start_guest):
    """Of a VM that has ended; and another start finds an empty share again."""
    guest = start_guest(host.daemon, wait_for_share=False)
    for _ in range(2):
        host.start()
        counts(guest)
        share = EMPTY_SHARES / guest.uuid
        assert share.is_dir()
        guest.destroy()
        wait_until(lambda: not share.exists(), "the empty share is gone")
        host.stop()
        guest.start()
        assert is_empty(guest)


def share_xml(mountpoint, identity):
    """What the hook looks for in a domain."""
    return f"<uuid>{identity}</uuid><source dir='{mountpoint}/{identity}'/>".encode()


@pytest.mark.parametrize("part", ["", "class"])
def test_daemon_taken_over(host, directory, part):
    """A tree, or a part of one, is a link to what the guest must not have."""
    mountpoint, identity = host.daemon.mountpoint, str(uuid.uuid4())
    (directory / "secret/class").mkdir(parents=True)
    host.hook.call(share_xml(mountpoint, identity))
    assert (mountpoint / identity / "class").is_dir()
    detach_mount(mountpoint)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mountpoint], check=True)
    if part:
        (mountpoint / identity / "devices").mkdir(parents=True)
    (mountpoint / identity / part).symlink_to(directory / "secret" / part)
    host.run("--fill")
    mounted = [Path(path).name for path in mounts_below(EMPTY_SHARES / identity)]
    assert mounted == (["devices"] if part else [])
    host.hook.call(share_xml(mountpoint, identity), "release")
    assert not (EMPTY_SHARES / identity).exists()


@pytest.fixture
def planted(directory):
    """plant(name): the mount point of a hook, a link that a daemon's user has made."""
    victim = directory / "victim"
    victim.mkdir()
    (victim / "file").touch()
    run = directory / "planted"
    run.mkdir()
    os.chown(run, NOBODY, NOBODY)
    (run / "vms").symlink_to(victim)
    yield run / "vms"
    assert os.listdir(victim) == ["file"] and mounts_below(victim) == []


@pytest.mark.parametrize("removed", [False, True])
def test_planted_link(host, planted, removed):
    """Root's hook mounts nothing where the link leads, and makes nothing there."""
    host.daemon.mountpoint = planted
    host.daemon.configure(SETTINGS)
    if removed:
        host.hook.remove_program()
    host.hook.call(share_xml(planted, uuid.uuid4()))
