# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real QEMU guest under libvirt, and the line on which it obeys commands."""

import atexit
import base64
import functools
import gzip
import itertools
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import libvirt

from . import cgroup, system
from .libvirtd import remove_domain
from .margins import PATIENCE_S

_XML = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory_mib}</memory>
{backing}  <vcpu{cpuset} current='{vcpus}'>{max_vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>console=ttyS0 quiet panic=1 mitigations=off</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
{disk}{share}    <serial type='file'>
      <source path='{directory}/{name}.log'/><target port='0'/>
    </serial>
    <serial type='unix'>
      <source mode='bind' path='{directory}/{name}.sock'/><target port='1'/>
    </serial>
    <memballoon model='none'/>
  </devices>
{arguments}</domain>
"""
_BACKING_XML = """
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
"""
_DISK_XML = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{path}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
"""
_SHARE_XML = """
    <filesystem type='mount' accessmode='passthrough'>
      <driver type='virtiofs'/>
      <binary><cache mode='{cache}'/></binary>
      <source dir='{directory}'/>
      <target dir='{tag}'/>
    </filesystem>
"""


def _arguments_xml(arguments):
    """What QEMU gets beside libvirt's own; libvirt marks a domain that has any."""
    if not arguments:
        return ""
    return ("  <qemu:commandline>"
            + "".join(f"<qemu:arg value='{argument}'/>" for argument in arguments)
            + "</qemu:commandline>\n")


@functools.cache
def _readable_copy(image):
    """For QEMU's user, who may not be let into the build directory; until this process ends."""
    directory = system.TemporaryDirectory()
    atexit.register(directory.__exit__)
    return shutil.copy(image, directory.path)


class Answer(NamedTuple):
    """What a command in the guest printed (both streams) and its exit status."""

    status: int
    output: str


class GuestError(Exception):
    pass


class Guest:
    """A domain named virtjoule-test-*; use as a context, which starts it.

    `mountpoint` is the daemon's: the guest is given the directory of its UUID
    there as its energy share. With None it has no share: libvirt cannot save
    a domain with virtiofs. Without wait_for_share the start is left to find it.
    `tools` is a directory that the guest is to have as well; `arguments` are QEMU's,
    for what libvirt does not know; `kernel` is an image's file.
    """

    POWERCAP = "/sys/class/powercap"
    SHARE = "/run/virtjoule/share"
    TOOLS_TAG = "tools"
    IMAGES = system.BUILD / "guest"
    DISK = None  # among the images

    def __init__(self, libvirtd, directory, mountpoint, vcpus=1, max_vcpus=None, cpus=None,
                 label="", wait_for_share=True, shared_memory=True, cache="none", tools=None,
                 memory_mib=192, arguments=(), kernel="vmlinux"):
        self.name = f"{system.PREFIX}{label}{random.randrange(16**6):06x}"
        self.uuid = str(uuid.uuid4())
        self._libvirtd = libvirtd
        self._directory = directory
        self._ids = itertools.count(1)
        self._socket = None
        self._received = b""
        self._share = mountpoint / self.uuid if mountpoint else None
        self._wait_for_share = mountpoint and wait_for_share
        shares = [(self._share, "virtjoule", cache)] if mountpoint else []
        shares += [(tools, self.TOOLS_TAG, "none")] if tools else []
        self._xml = _XML.format(name=self.name, uuid=self.uuid, directory=directory,
                                kernel=_readable_copy(self.IMAGES / kernel),
                                initramfs=_readable_copy(self.IMAGES / "initramfs.cpio"),
                                backing=_BACKING_XML if shared_memory else "",
                                disk=_DISK_XML.format(path=directory / self.DISK)
                                if self.DISK else "",
                                share="".join(
                                    _SHARE_XML.format(directory=path, tag=tag, cache=mode)
                                    for path, tag, mode in shares),
                                vcpus=vcpus, max_vcpus=max_vcpus or vcpus, memory_mib=memory_mib,
                                cpuset=f" cpuset='{cpus}'" if cpus else "",
                                arguments=_arguments_xml(arguments))

    def __enter__(self):
        try:
            self.define()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._disconnect()
        with suppress(libvirt.libvirtError):
            remove_domain(self.domain)

    @property
    def domain(self):
        """Looked up anew: a restarted libvirtd does not know the objects of the old one."""
        return self._libvirtd.connection.lookupByUUIDString(self.uuid)

    def define(self):
        if self.DISK:
            # It has more holes than files.
            subprocess.run(["cp", "--sparse=always", self.IMAGES / self.DISK, self._directory],
                           check=True)
        self._libvirtd.connection.defineXML(self._xml)

    def start(self):
        """Starts the domain and waits until it obeys."""
        if self._wait_for_share:
            # The daemon learns of a new domain from libvirt as we do: give it a moment.
            system.wait_until(self._share.is_dir, f"{self._share} is there")
        self.domain.create()
        self.connect()

    def destroy(self):
        self._disconnect()
        self.domain.destroy()

    def save(self):
        """The next start() goes on from here."""
        self._disconnect()
        self.domain.managedSave()

    def kill(self):
        """SIGKILL to QEMU; returns when libvirt knows."""
        self._disconnect()
        os.kill(self.pid, signal.SIGKILL)
        system.wait_until(lambda: not self.domain.isActive(), f"{self.name} is dead")

    @property
    def pid(self):
        """Of its QEMU."""
        return int(Path(f"/run/libvirt/qemu/{self.name}.pid").read_text())

    @property
    def cgroup(self):
        """Of all that works for the running domain."""
        path = re.search(r"^0::(.*?(\.libvirt-qemu|\.scope))(/|$)",
                         Path(f"/proc/{self.pid}/cgroup").read_text(), re.MULTILINE)[1]
        return Path(f"{system.cgroup2_mountpoint()}{path}")

    def cpu_seconds(self):
        """The kernel's own account of all that works for the running domain."""
        return cgroup.cpu_seconds(self.cgroup)

    def reset(self):
        """The reset button: the guest boots anew within the same QEMU process."""
        self.check("touch /tmp/before-reset")
        self.domain.reset()
        self._wait_for_boot()

    def reboot(self):
        """The same by the guest itself."""
        self.check("touch /tmp/before-reset; (sleep 0.1; reboot -f) >/dev/null 2>&1 &")
        self._wait_for_boot()

    def _wait_for_boot(self):
        self._wait_for("test ! -e /tmp/before-reset")

    def run(self, script):
        """Runs a shell script in the guest."""
        return self._read_answer(self._send(script))

    def _send(self, script):
        """Returns the command's number."""
        command = f"#{next(self._ids)}"
        encoded = base64.b64encode(script.encode() + b"\n").decode()
        self._socket.sendall(f"\n{command} {encoded}\n".encode())
        return command

    def check(self, script):
        """Runs a script that must succeed; returns its output."""
        answer = self.run(script)
        if answer.status != 0:
            raise GuestError(f"{self.name}: {script!r} gave {answer.status}:\n{answer.output}")
        return answer.output

    def install(self, program):
        """Copies a program that needs the C library alone into the guest; returns its path."""
        path = f"/tmp/{program.name}"
        text = base64.b64encode(gzip.compress(program.read_bytes())).decode()
        # Less than the terminal's buffer at a time.
        for i in range(0, len(text), 2000):
            self.check(f"echo {text[i:i + 2000]} >>{path}.base64")
        self.check(f"base64 -d {path}.base64 | gunzip >{path} && chmod 755 {path}")
        return path

    def read(self, path):
        return self.check(f"cat {shlex.quote(path)}")

    def energy_uj(self, zone="intel-rapl:0"):
        """What the guest reads of itself."""
        return int(self.read(f"{self.POWERCAP}/{zone}/energy_uj"))

    def start_load(self):
        """Keeps one vCPU busy until stop_load()."""
        self.check("(while :; do :; done) >/dev/null 2>&1 & echo $! >/tmp/load")

    def stop_load(self):
        self.check("kill $(cat /tmp/load)")

    def console(self):
        """What the kernel and init had to say."""
        path = self._directory / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def connect(self):
        """Waits until the guest obeys."""
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(str(self._directory / f"{self.name}.sock"))
        self._wait_for(":")

    def _wait_for(self, script):
        """Asks until the script succeeds, and anew when the guest begins to listen: what was sent
        before may be lost."""
        try:
            answer = None
            while not answer or answer.status != 0:
                answer = self._read_answer(self._send(script), until_listening=True)
        except system.TestTimeout as error:
            raise GuestError(f"{error}:\n{self.console()}") from error

    def _disconnect(self):
        if self._socket:
            self._socket.close()
            self._socket = None

    def _read_answer(self, command, until_listening=False):
        """None: the guest has begun to listen meanwhile."""
        lines = None
        while True:
            line = self._read_line()
            if line == "listening":
                # Whatever it was about to answer, it does no more.
                lines = None
                if until_listening:
                    return None
            elif line == f"begin {command}":
                lines = []
            elif lines is not None and line.startswith(f"end {command} "):
                return Answer(int(line.split()[2]),
                              base64.b64decode("".join(lines)).decode(errors="replace"))
            elif lines is not None:
                lines.append(line)

    def _read_line(self):
        while b"\n" not in self._received:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise system.TestTimeout(f"{self.name}: no answer in {PATIENCE_S} s") from error
            if not data:
                raise GuestError(f"{self.name} is gone:\n{self.console()}")
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        return line.decode(errors="replace").strip()
