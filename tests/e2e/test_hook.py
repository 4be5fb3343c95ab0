# SPDX-License-Identifier: LGPL-2.1-or-later
"""The share of a VM that is about to start: virtjoule prepare and libvirt's hook."""

import os
import signal
import uuid

import pytest

from harness.hook import Hook, InstalledHook

SETTINGS = {"source": {"energy": "estimate"}}


def domain_xml(uuid, mountpoint):
    return f"""<domain type='kvm'>
  <name>new</name>
  <uuid>{uuid}</uuid>
  <devices>
    <filesystem type='mount' accessmode='passthrough'>
      <driver type='virtiofs'/>
      <source dir='{mountpoint}/{uuid}'/>
      <target dir='virtjoule'/>
    </filesystem>
  </devices>
</domain>
""".encode()


@pytest.fixture
def daemon(start_daemon):
    return start_daemon(SETTINGS)


@pytest.fixture
def hook(daemon):
    return Hook(daemon.directory / "hook", daemon)


def test_prepare(daemon):
    """A VM that nobody has heard of."""
    new = str(uuid.uuid4())
    assert not (daemon.mountpoint / new).exists()
    assert daemon.cli("prepare", new)["tree"] == str(daemon.mountpoint / new)
    assert int((daemon.tree(new) / "energy_uj").read_text()) == 0
    assert daemon.cli("prepare", new.upper())["uuid"] == new  # again: nothing changes
    daemon.wait_ticks()
    assert daemon.tree(new).is_dir()


def test_prepare_refused(daemon):
    assert "UUID" in daemon.cli("prepare", "web", status=1)["error"]
    daemon.cli("prepare", status=2)


def test_hook_makes_the_share(daemon, hook):
    new = str(uuid.uuid4())
    hook.call(domain_xml(new, daemon.mountpoint))
    assert daemon.tree(new).is_dir()


def test_hook_leaves_others_alone(daemon, hook):
    """Other operations, and domains without a share."""
    new = str(uuid.uuid4())
    for operation in ("start", "started", "stopped", "release", "migrate", "restore", "reconnect"):
        hook.call(domain_xml(new, daemon.mountpoint), operation)
    hook.call(domain_xml(new, daemon.mountpoint).replace(b"/" + new.encode(), b"/other"))
    assert not (daemon.mountpoint / new).exists()


def test_hook_tolerates_bad_xml(daemon, hook):
    """What comes is drained, and nothing stops the VM."""
    good = domain_xml(uuid.uuid4(), daemon.mountpoint)
    for xml in (b"", b"<", b"\xff\0" * 1000, good[:100], good[:-150], b"<uuid>" * 1_000_000,
                good.replace(b"-", b"+"), good + bytes(3_000_000)):
        hook.call(xml)


def test_hook_without_a_daemon(daemon, hook):
    """Absent, or there and silent."""
    xml = domain_xml(uuid.uuid4(), daemon.mountpoint)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        hook.call(xml)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    daemon.stop()
    hook.call(xml)


def test_hook_without_its_program(daemon, hook):
    """A package that was removed leaves its configuration, and so the hook."""
    hook.remove_program()
    hook.call(domain_xml(uuid.uuid4(), daemon.mountpoint) * 1000)


def test_defined_and_started_at_once(daemon, libvirtd, start_guest, stack):
    """The daemon hears of the domain from the hook alone, before its virtiofsd opens the share."""
    stack.enter_context(InstalledHook(libvirtd, daemon))
    guest = start_guest(daemon, wait_for_share=False)
    assert guest.energy_uj() >= 0
