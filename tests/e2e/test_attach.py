# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtjoule attach and detach on domains of a real libvirt."""

import json
import re
import shutil
import subprocess
import tempfile
import uuid
from collections import Counter

import libvirt
import pytest

from harness import libvirtd as harness_libvirtd
from harness import system
from harness.daemon import VIRTJOULE
from harness.system import wait_until

pytestmark = pytest.mark.slow

SETTINGS = {
    "source": {"energy": "estimate"},
    "discovery": {"libvirt_uri": harness_libvirtd.URI},
}
DOMAINS = sorted((system.SOURCE_ROOT / "tests/data/domains").glob("*.xml"))
INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
# All that an attach may add; a mode that is in the way may be replaced.
ADDED = re.compile(r"""
    </?metadata> | <virtjoule:share\ [^>]*/> | </?memoryBacking> | <source\ type='memfd'/> |
    <access\ mode='shared'/> | <cell\ .*memAccess='shared'.*> | </?filesystem\b[^>]*> |
    <driver\ type='virtiofs'/> | <binary(\ path='/usr/lib/qemu/virtiofsd')?> | </binary> |
    <cache\ mode='none'/> | <source\ dir='[^']*/[0-9a-f-]{36}'/> | <target\ dir='virtjoule'/> |
    <address\ type='pci'\ [^>]*/> | </?controller\b[^>]*> | <model\ name='pcie-root-port'/> |
    <target\ chassis=[^>]*/>""", re.VERBOSE)
REPLACED = re.compile(r"<source type='anonymous'/>|<access mode='private'/>|"
                      r"<cell .*memAccess='private'.*>")


def changed_lines(before, after):
    """(removed, added)"""
    old, new = (Counter(line.strip() for line in text.splitlines()) for text in (before, after))
    return list((old - new).elements()), list((new - old).elements())


def validate(xml):
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(xml)
        file.flush()
        result = subprocess.run(["virt-xml-validate", file.name, "domain"], capture_output=True,
                                text=True)
    assert result.returncode == 0, result.stdout + result.stderr + xml


class Command:
    """virtjoule attach and detach, asking a daemon."""

    def __init__(self, daemon):
        self._socket = daemon.runtime_dir / "control.sock"

    def start(self, command, name, *options):
        return subprocess.Popen([VIRTJOULE, "--socket", self._socket, command, name, *options],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, command, name, *options, status=0):
        """Its answer, or what it said where it is to refuse."""
        process = self.start(command, name, "--json", *options)
        output, errors = process.communicate(timeout=system.PATIENCE_S)
        assert process.returncode == status, errors
        return json.loads(output) if status == 0 else errors

    def attach(self, name, *options, **arguments):
        return self.run("attach", name, *options, **arguments)

    def detach(self, name, *options, **arguments):
        return self.run("detach", name, *options, **arguments)


@pytest.fixture
def daemon(libvirtd, start_daemon):
    return start_daemon(SETTINGS)


@pytest.fixture
def command(daemon):
    return Command(daemon)


@pytest.fixture
def define(libvirtd):
    """define(path): a domain of the test data; no KVM is needed for it."""

    def define(path):
        name = f"{system.PREFIX}{path.stem}"
        xml = re.sub(r"<name>.*?</name>", f"<name>{name}</name>", path.read_text(), count=1)
        xml = re.sub("<domain type=.kvm.", "<domain type='qemu'", xml)
        xml = re.sub(r"<cpu mode=.host-(passthrough|model)[^>/]*", "<cpu mode='maximum'", xml)
        if not shutil.which("swtpm"):
            xml = re.sub("<tpm .*?</tpm>", "", xml, flags=re.DOTALL)
        # Twice: what libvirt adds to a new domain has its place when it is read again.
        first = libvirtd.connection.defineXML(xml)
        return libvirtd.connection.defineXML(first.XMLDesc(INACTIVE))

    return define


def mount_share(guest):
    """By hand, in a guest that booted without."""
    def mounts():
        return guest.run(f"mount -t virtiofs virtjoule {guest.SHARE}").status == 0

    guest.check(f"mkdir -p {guest.SHARE}")
    wait_until(mounts, "the share is mounted")


def read_share(guest):
    return int(guest.read(f"{guest.SHARE}/class/powercap/intel-rapl:0/energy_uj"))


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: path.stem)
def test_there_and_back(command, daemon, define, path):
    domain = define(path)
    before = domain.XMLDesc(INACTIVE)
    validate(before)
    shown = command.attach(domain.name(), "--dry-run")
    assert shown["changed"] and domain.XMLDesc(INACTIVE) == before
    assert command.attach(domain.name())["diff"] == shown["diff"]
    attached = domain.XMLDesc(INACTIVE)
    validate(attached)
    removed, added = changed_lines(before, attached)
    assert f"<source dir='{daemon.mountpoint}/{domain.UUIDString()}'/>" in added
    assert [line for line in added if not ADDED.fullmatch(line)] == []
    assert [line for line in removed if not REPLACED.fullmatch(line)] == []
    again = command.attach(domain.UUIDString())
    assert not again["changed"] and not again["restart_needed"]
    assert domain.XMLDesc(INACTIVE) == attached
    assert command.detach(domain.name())["changed"]
    assert domain.XMLDesc(INACTIVE) == before
    assert not command.detach(domain.name())["changed"]
    assert domain.XMLDesc(INACTIVE) == before


def test_no_password_is_shown(command, define):
    domain = define(next(path for path in DOMAINS if "passwd" in path.read_text()))
    assert "passwd" not in command.attach(domain.name())["diff"]
    assert "passwd" in domain.XMLDesc(INACTIVE)


def test_hot_plug(command, daemon, start_guest):
    """Into a running VM with shared memory, and out of it."""
    guest = start_guest(daemon, share=False)
    answer = command.attach(guest.name)
    assert (answer["changed"], answer["plugged"], answer["restart_needed"]) == (True, True, False)
    mount_share(guest)
    first = read_share(guest)
    wait_until(lambda: read_share(guest) > first, "the guest's counter goes on")
    answer = command.attach(guest.name)
    assert (answer["changed"], answer["plugged"], answer["restart_needed"]) == (False, False, False)
    guest.check(f"umount {guest.SHARE}")
    answer = command.detach(guest.name)
    assert (answer["changed"], answer["plugged"], answer["restart_needed"]) == (True, True, False)
    assert guest.run(f"mount -t virtiofs virtjoule {guest.SHARE}").status != 0
    assert "virtiofs" not in guest.domain.XMLDesc(0)


# In a guest whose share is dead, also where a reader has a file of it open.
REMOUNT = """
umount -l {powercap} {share}
mount -t virtiofs virtjoule {share} && mount --bind {share}/class/powercap {powercap}
"""


def test_dead_share_comes_back(command, daemon, start_guest):
    """The daemon was killed, and nothing kept its connection. A running VM has its counter back
    when its share is detached and attached, and mounted anew in the guest."""
    guest = start_guest(daemon, share=False)
    command.attach(guest.name)
    mount_share(guest)
    guest.check(f"mount --bind {guest.SHARE}/class/powercap {guest.POWERCAP}")
    before = guest.energy_uj()
    guest.check(f"sleep 1000 <{guest.POWERCAP}/intel-rapl:0/energy_uj >/dev/null 2>&1 &")
    daemon.kill()
    daemon.start()
    counter = f"{guest.POWERCAP}/intel-rapl:0/energy_uj"
    remount = REMOUNT.format(powercap=guest.POWERCAP, share=guest.SHARE)
    assert guest.run(f"cat {counter}").status != 0
    guest.run(remount)
    assert guest.run(f"cat {counter}").status != 0
    answer = command.detach(guest.name)
    assert (answer["plugged"], answer["restart_needed"]) == (True, False)
    answer = command.attach(guest.name)
    assert (answer["plugged"], answer["restart_needed"]) == (True, False)
    wait_until(lambda: guest.run(remount).status == 0, "the share is mounted")
    assert guest.energy_uj() >= before


def test_restart_needed(command, daemon, start_guest):
    """A running VM without shared memory has its share when it is started again."""
    guest = start_guest(daemon, share=False, shared_memory=False)
    before = guest.domain.XMLDesc(INACTIVE)
    for changed in (True, False):
        answer = command.attach(guest.name)
        assert (answer["changed"], answer["plugged"], answer["restart_needed"]) == \
            (changed, False, True)
    guest.destroy()
    assert not command.attach(guest.name)["restart_needed"]
    guest.start()
    assert guest.energy_uj() >= 0
    guest.destroy()
    command.detach(guest.name)
    assert guest.domain.XMLDesc(INACTIVE) == before


def test_transient(command, daemon, start_guest):
    """Without a definition the device can only be plugged in, and only into shared memory."""
    for shared in (False, True):
        guest = start_guest(daemon, share=False, shared_memory=shared)
        guest.domain.undefine()
        if not shared:
            assert "transient" in command.attach(guest.name, status=1)
            continue
        answer = command.attach(guest.name)
        assert (answer["changed"], answer["plugged"]) == (False, True)
        mount_share(guest)
        assert read_share(guest) >= 0


def test_managed_save(command, daemon, start_guest):
    """The saved image would not fit."""
    guest = start_guest(daemon, share=False)
    before = guest.domain.XMLDesc(INACTIVE)
    guest.save()
    assert "managedsave-remove" in command.attach(guest.name, status=1)
    assert guest.domain.XMLDesc(INACTIVE) == before
    guest.domain.managedSaveRemove()
    assert command.attach(guest.name)["changed"]


def test_refusals(command, daemon, define, libvirtd):
    assert "no domain of that name" in command.attach(f"{system.PREFIX}none", status=1)
    assert "no domain of that name" in command.detach(str(uuid.uuid4()), status=1)
    domain = define(DOMAINS[0])
    before = domain.XMLDesc(INACTIVE)
    assert "read" in command.attach(domain.name(), "--connect",
                                    f"{harness_libvirtd.URI}?socket=/run/libvirt/libvirt-sock-ro",
                                    status=1)
    assert "no libvirt" in command.attach(domain.name(), "--connect", "qemu+unix:///nonexistent",
                                          status=69)
    command.run("attach", "", "more", status=2)
    assert domain.XMLDesc(INACTIVE) == before
    command.attach(domain.name())
    daemon.stop()
    assert "is it running?" in command.attach(domain.name(), status=69)
    command.detach(domain.name())  # for which no daemon is needed
    assert domain.XMLDesc(INACTIVE) == before


def test_two_at_once(command, define):
    """The definition is the same, whoever comes first, and the detach brings back the old one."""
    domain = define(next(path for path in DOMAINS if path.stem == "virt-manager-linux"))
    before = domain.XMLDesc(INACTIVE)
    processes = [command.start("attach", domain.name()) for _ in range(4)]
    for process in processes:
        output, errors = process.communicate(timeout=system.PATIENCE_S)
        assert process.returncode == 0, output + errors
    assert domain.XMLDesc(INACTIVE).count("<target dir='virtjoule'/>") == 1
    assert not command.attach(domain.name())["changed"]
    command.detach(domain.name())
    assert domain.XMLDesc(INACTIVE) == before
