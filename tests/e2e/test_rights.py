# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the service's user can do, should the daemon be taken over: nothing that amounts to root.

The same with systemd's filters, and a real polkitd, is in tests/system.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import uuid
from pathlib import Path

import libvirt
import pytest

from harness import escapes, system
from harness.daemon import FAST, VIRTJOULE, VIRTJOULED, Daemon, DescriptorStore
from harness.libvirtd import URI

ESCAPES = system.BUILD / "tests/e2e/escapes"
NOBODY = 65534
SETTINGS = {"source": {"energy": "estimate"}}
ENERGY_URI = "urn:virtjoule:energy"


def unit_capabilities():
    text = (system.SOURCE_ROOT / "systemd/virtjoule.service.in").read_text()
    names = re.search("^AmbientCapabilities=(.*)$", text, re.MULTILINE)[1].lower().split()
    return ",".join("+" + name.removeprefix("cap_") for name in names)


def as_service():
    """Runs a command as the service's user would, without its system call filter."""
    capabilities = unit_capabilities()
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
            f"--inh-caps=-all,{capabilities}", f"--ambient-caps=-all,{capabilities}",
            f"--bounding-set=-all,{capabilities}"]


class Victim:
    """A process of root's."""

    def __init__(self):
        self._child = system.start_child([ESCAPES, "--victim"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)
        self.arguments = self._child.stdout.readline().split()

    def text(self):
        """Ends it."""
        return self._child.communicate(timeout=system.PATIENCE_S)[0].strip()


@pytest.fixture
def settings():
    return SETTINGS


@pytest.fixture
def runtime_directory(directory):
    """As tmpfiles.d makes it, with the mount point and the socket that root makes in it."""
    text = (system.SOURCE_ROOT / "systemd/virtjoule.tmpfiles").read_text()
    mode = re.search("^d /run/virtjoule ([0-7]+) root virtjoule-daemon -$", text, re.MULTILINE)[1]
    directory.chmod(0o755)
    path = directory / "run"
    (path / "vms").mkdir(parents=True)
    (path / "control.sock").touch()
    os.chown(path, 0, NOBODY)
    path.chmod(int(mode, 8))
    return path


def test_escapes(libvirtd, runtime_directory):
    for prefix, check, text in ((as_service(), escapes.check_all_refused, "untouched"),
                                ([], escapes.check_all_done, "overrun")):
        victim = Victim()
        result = subprocess.run([*prefix, ESCAPES, *victim.arguments, runtime_directory],
                                check=True, capture_output=True, text=True,
                                timeout=system.PATIENCE_S).stdout
        print(result)
        check(result)
        assert victim.text() == text


# What root does in the daemon's directories.


@pytest.mark.parametrize("link", ["parent", "parent/vms"])
def test_mount_follows_no_link(link, directory, unstarted):
    target = directory / "target"
    (target / "vms").mkdir(parents=True)
    unstarted.mountpoint = directory / "parent/vms"
    unstarted.configure(SETTINGS)
    (directory / link).parent.mkdir(exist_ok=True)
    (directory / link).symlink_to(target)
    for action in ("--mount", "--unmount"):
        subprocess.run([VIRTJOULED, action, "--config", unstarted.config],
                       timeout=system.PATIENCE_S)
        assert not system.mounts_below(target)
    unstarted.launch()
    assert unstarted.wait_exit() == 1
    assert "mount point is reached through a link" in unstarted.log()
    assert not system.mounts_below(target)
    assert not any((target / "vms").iterdir())


class LyingDaemon:
    """Names another directory for a VM's tree; use as a context."""

    def __init__(self, path):
        self.socket_path = path
        self.tree = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, client.makefile() as request:
                asked = json.loads(request.readline())["vm"]
                client.sendall(json.dumps({"uuid": asked, "tree": self.tree}).encode())

    def run(self, *arguments):
        return subprocess.run([VIRTJOULE, "--socket", self.socket_path, *arguments],
                              capture_output=True, text=True, timeout=system.PATIENCE_S)


def lies(daemon, directory, vm, other):
    """Directories that are not the tree of the VM, whatever their names."""
    daemon.cli("prepare", other)
    daemon.cli("prepare", vm)
    for name in (vm, "vms"):
        (directory / "plant" / name).mkdir(parents=True, exist_ok=True)
    (directory / "link").symlink_to(daemon.mountpoint)
    trees = ["/", "/etc", f"/../etc/{vm}", daemon.mountpoint, daemon.mountpoint / other,
             daemon.mountpoint / vm / "class", f"{daemon.mountpoint}/{vm}/../{other}",
             f"{daemon.mountpoint}/./{vm}", directory / "plant" / vm, directory / "link" / vm, "",
             "x" * 5000]
    return [str(tree) for tree in trees] + [None], str(daemon.mountpoint / vm)


def test_prepare_believes_no_directory(directory, start_daemon):
    """Proxmox's hookscript gives it to virtiofsd, as root."""
    daemon, vm, other = start_daemon(SETTINGS), str(uuid.uuid4()), str(uuid.uuid4())
    trees, truth = lies(daemon, directory, vm, other)
    with LyingDaemon(directory / "lying.sock") as liar:
        for tree in trees:
            liar.tree = tree
            result = liar.run("prepare", vm)
            assert (result.returncode, result.stdout) == (1, ""), tree
            assert "names a directory that is not this VM's" in result.stderr
        liar.tree = truth
        assert liar.run("prepare", vm).stdout == f"{truth}\n"


def test_attach_believes_no_directory(directory, start_daemon, libvirtd):
    daemon, other = start_daemon(SETTINGS), str(uuid.uuid4())
    name = f"{system.PREFIX}believer"
    domain = libvirtd.connection.defineXML(
        f"<domain type='qemu'><name>{name}</name><memory>32768</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>")
    before = domain.XMLDesc()
    trees, truth = lies(daemon, directory, domain.UUIDString(), other)
    with LyingDaemon(directory / "lying.sock") as liar:
        for tree in trees:
            liar.tree = tree
            result = liar.run("attach", name)
            assert result.returncode == 1, (tree, result)
            assert "names a directory that is not this VM's" in result.stderr
        assert domain.XMLDesc() == before
        liar.tree = truth
        assert liar.run("attach", name).returncode == 0
        assert f"<source dir='{truth}'/>" in domain.XMLDesc()


# libvirt.


@pytest.fixture
def writer(directory, stack):
    """virtjouled --write-metadata, for the daemon that starts next."""
    runtime_dir = directory / "run"
    runtime_dir.mkdir()
    config = directory / "writer.conf"
    config.write_text(f"[discovery]\nlibvirt_uri = {URI}\n")
    store = DescriptorStore()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(runtime_dir / "metadata.sock"))
        listening.listen()
        store.add("metadata", listening.fileno())
    child = store.start([VIRTJOULED, "--write-metadata", "--config", config], dict(os.environ))
    stack.callback(store.remove)
    stack.callback(system.stop_child, child)
    return child


def metadata_of(domain):
    try:
        return domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, ENERGY_URI,
                               libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError:
        return None


def connections_to_libvirt(pid):
    """The peers of a process' connected sockets that are libvirt's."""
    text = subprocess.run(["ss", "-xpH"], check=True, capture_output=True, text=True).stdout
    inodes = {line.split()[5]: line.split()[4] for line in text.splitlines()}
    mine = [line.split()[7] for line in text.splitlines() if f"pid={pid}," in line]
    return [inodes.get(peer, "") for peer in mine if "libvirt" in inodes.get(peer, "")]


def test_energy_is_written_by_another_process(writer, libvirtd, start_daemon, start_guest):
    """The daemon reads over the read-only socket alone, and the domain carries its energy."""
    daemon = start_daemon({**SETTINGS, "daemon": FAST, "discovery": {"libvirt_uri": URI}})
    guest = start_guest(daemon, wait_for_share=False, shared_memory=True)
    guest.start_load()
    element = system.wait_until(lambda: metadata_of(guest.domain), "the domain carries its energy")
    used_uj = int(re.search(r"package=['\"](\d+) \d+", element)[1])
    assert 0 < used_uj <= daemon.metrics().vm_energy(guest.uuid) * 10**6
    assert connections_to_libvirt(daemon.process.pid)
    assert all(path.endswith("-ro") for path in connections_to_libvirt(daemon.process.pid))
    assert any(not path.endswith("-ro") for path in connections_to_libvirt(writer.pid))


# Discovery, without the right to look at other users' programs.


class LateQemu:
    """A shell that becomes QEMU's namesake when it is told to; use as a context."""

    def __init__(self, program):
        self.uuid = str(uuid.uuid4())
        self._program = program

    def __enter__(self):
        self._child = system.start_child(
            ["sh", "-c", 'read line && exec "$@"', "sh", self._program, "-uuid", self.uuid],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *_):
        self._child.kill()
        self._child.wait()
        self._child.stdin.close()

    def become(self):
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        name = Path(f"/proc/{self._child.pid}/comm")
        system.wait_until(lambda: name.read_text().startswith("qemu-system"), "it is QEMU")


def test_program_that_starts_late(directory, stack):
    """What was long known as no VM becomes one: that shows at once, though /proc/PID/exe is
    closed to the daemon."""
    program = shutil.copy(system.BUILD / "tests/e2e/fake-qemu", directory / "qemu-system-x86_64")
    settings = {**SETTINGS, "daemon": FAST, "usage": {"provider": "procfs"}}
    daemon = Daemon(directory, settings, DescriptorStore(), confined=True)
    stack.callback(lambda: print(daemon.log()))
    stack.enter_context(daemon)
    vms = [stack.enter_context(LateQemu(program)) for _ in range(8)]
    daemon.wait_ticks(12)
    for vm in vms:
        vm.become()
    daemon.wait_ticks(3)
    found = {vm["uuid"] for vm in daemon.cli("list")["vms"]}
    assert found >= {vm.uuid for vm in vms}
