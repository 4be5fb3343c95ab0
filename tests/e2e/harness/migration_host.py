# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts on one machine, between which libvirt migrates: each has a libvirtd with directories,
processes, a host name and a UUID of its own, and a virtjouled that sees these only.

A migration is refused between hosts of one name or UUID, and two QEMUs of one domain need two of
everything that libvirt keeps by the domain's name. The processes are in a PID namespace, since
each virtjouled must see its own host's QEMU only.
"""

import uuid
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from . import system
from .daemon import FAST, Daemon

URI = "urn:virtjoule:energy"  # of the metadata
# What libvirtd writes to, and where its settings are.
_DIRECTORIES = ("/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt",
                "/etc/libvirt")
_INIT = """set -e
hostname {name}
for i in {directories}; do
    mkdir -p {root}$i
    mount --bind {root}$i $i
done
while :; do
    libvirtd -p {root}/libvirtd.pid >>{root}/libvirtd.log 2>&1 || sleep 1
done
"""
# Files are the same on both hosts, so are the cgroups: nobody changes owners or makes groups.
_QEMU_CONF = """user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""


class MigrationHost:
    """Use as a context: libvirtd answers then at `connection`, and `daemon` is ready."""

    def __init__(self, directory, name, settings):
        self.connection = None
        self.daemon = None
        self._directory = directory / name
        self._root = self._directory / "root"  # of what libvirtd writes
        self._name = f"{system.PREFIX}{name}"
        self._settings = settings
        self._child = None

    def __enter__(self):
        try:
            self._start_libvirtd()
            self.start_daemon()
        except BaseException:
            self.__exit__(BaseException)
            raise
        return self

    def __exit__(self, kind=None, *_):
        try:
            if self.daemon:
                self.daemon.__exit__(kind)
        finally:
            if self.connection:
                with suppress(libvirt.libvirtError):
                    self.connection.close()
            if self._child:
                # The namespace's processes end with its first. unshare blocks SIGTERM meanwhile.
                self._child.kill()
                self._child.wait()

    @property
    def uri(self):
        return f"qemu+unix:///system?socket={self._root}/run/libvirt/libvirt-sock"

    def _start_libvirtd(self):
        settings = self._root / "etc/libvirt"
        settings.mkdir(parents=True)
        (settings / "libvirtd.conf").write_text(
            f'host_uuid = "{uuid.uuid4()}"\nauth_unix_rw = "none"\n')
        (settings / "qemu.conf").write_text(_QEMU_CONF)
        script = _INIT.format(name=self._name, root=self._root,
                              directories=" ".join(_DIRECTORIES))
        self._child = system.start_child(
            ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
             "sh", "-c", script])
        self.connection = system.wait_until(self._connect, f"{self._name}'s libvirtd answers")

    def _connect(self):
        if self._child.poll() is not None:
            raise RuntimeError(f"{self._name} did not start")
        with suppress(libvirt.libvirtError):
            return libvirt.open(self.uri)
        return None

    def _init_pid(self):
        pid = self._child.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def start_daemon(self):
        """With a machine-id of its own; its mounts are in its own namespace therefore."""
        machine_id = self._directory / "machine-id"
        if not machine_id.exists():
            machine_id.write_text(f"{uuid.uuid4().hex}\n")
        script = f'mount --bind {machine_id} /etc/machine-id && exec "$@"'
        self.daemon = self.daemon or Daemon(
            self._directory,
            {"daemon": FAST, "usage": {"provider": "procfs"}, **self._settings,
             "discovery": {"libvirt_uri": self.uri,
                           "proc_root": f"/proc/{self._init_pid()}/root/proc"}},
            wrapper=("unshare", "--mount", "sh", "-c", script, "sh"))
        self.daemon.start()
        self.daemon.wait_log("libvirt connected")

    def tree_uj(self, vm):
        """What its guest would read; None where it has no tree."""
        path = f"/proc/{self.daemon.process.pid}/root{self.daemon.tree(vm)}/energy_uj"
        with suppress(FileNotFoundError):
            return int(Path(path).read_text())
        return None

    def metadata(self, vm):
        """What the running domain carries, {attribute: value}; None: nothing."""
        with suppress(libvirt.libvirtError):
            text = self.connection.lookupByUUIDString(vm).metadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, URI,
                libvirt.VIR_DOMAIN_AFFECT_LIVE)
            return ElementTree.fromstring(text).attrib
        return None

    def migrate(self, vm, destination):
        """A live migration, which takes as long as it takes."""
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE \
            | libvirt.VIR_MIGRATE_PERSIST_DEST
        self.connection.lookupByUUIDString(vm).migrate3(
            destination.connection,
            {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://127.0.0.1:{system.free_port()}"}, flags)
