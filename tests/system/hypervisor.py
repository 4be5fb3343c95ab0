# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Debian virtual machine with systemd, libvirt and QEMU that is the hypervisor.

    with Hypervisor(Path("build/results/system/mine")) as host:     # up in about 15 s
        host.load_energy_counters()             # real /sys/class/powercap/intel-rapl:0
        host.put("build/virtjoule.deb")         # a file or directory, now /share/virtjoule.deb
        print(host.check("apt-get install -y /share/virtjoule.deb"))
        answer = host.run("systemctl is-active virtjoule")
        answer.status, answer.output            # bash's exit status; both output streams
        job = host.start("sleep 5; echo done")  # meanwhile others may run
        job.wait().output
        host.get("/var/log/dpkg.log")           # the path of a copy beside the logs
        host.reboot()

It is made by build-root.sh (`make system-root`), runs under software emulation, in
which it has a KVM of its own (QEMU emulates AMD's SVM), and forgets at its end
whatever it wrote to its disk. It has no network: what is installed must be there
already or come with put(). /dev/vdb is the disk of its own guest, see guest.py.
The directory keeps console.log (the kernel), journal.log (all else), system.log
(what was run in it and what that printed), the files that were got, also when a
test fails.

Its QEMU goes by another name: to the daemons of other tests on this machine it
is no VM.
"""

import json
import os
import shlex
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

from harness import system
from machine import PATIENCE_S, Machine, MachineError

IMAGES = system.BUILD / "system"
SHARE = "/share"
_QEMU = "/usr/bin/qemu-system-x86_64"
_QEMU_MODULES = "/usr/lib/x86_64-linux-gnu/qemu"  # a QEMU elsewhere does not find them
_MEMORY_MIB = 3072
# libvirt asks but once, when it starts, whether there is a KVM; udev may load it later.
_KERNEL_ARGUMENTS = ("console=ttyS0 quiet mitigations=off panic=1 tsc=reliable clocksource=tsc "
                     "modules-load=kvm_amd")


class Hypervisor(Machine):
    """Use as a context, which boots it. `options` are further ones of QEMU."""

    def __init__(self, directory, cpus=2, options=()):
        self.directory = directory
        self._options = options
        self._cpus = cpus
        self._process = None
        self._agent = None
        self._temporary = None
        self._share = None

    def __enter__(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self._temporary = system.TemporaryDirectory()
        self._share = self._temporary.path / "share"
        self._share.mkdir()
        try:
            self._launch()
            self._wait_for_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with suppress(Exception):  # one that hangs has at least its console
            self._save_journal()
            self.run(f"sync; umount {SHARE}", patience_s=30)
        if self._process:
            system.stop_child(self._process)
        self._disconnect()
        self._temporary.__exit__()

    def put(self, path, name=None):
        """Copies a file or a directory into the machine's /share; returns its path there."""
        target = self._share / (name or Path(path).name)
        if Path(path).is_dir():
            shutil.copytree(path, target, symlinks=True)
        else:
            shutil.copy(path, target)
        return f"{SHARE}/{target.name}"

    def get(self, path):
        """Copies a file or a directory out of the machine; returns the path of the copy."""
        name = Path(path).name
        self.check(f"cp -rL {shlex.quote(path)} {SHARE}/.got-{name}")
        return Path(shutil.move(self._share / f".got-{name}", self.directory / name))

    def load_energy_counters(self, **parameters):
        """Loads powercap-module with its parameters; rmmod powercap_test unloads it."""
        if not (self._share / "powercap-test.ko").exists():
            self.put(IMAGES / "powercap-test.ko")
        values = " ".join(f"{name}={value}" for name, value in parameters.items())
        self.check(f"insmod {SHARE}/powercap-test.ko {values}")

    def reboot(self):
        """Cleanly; what is on the disk stays."""
        self._save_journal()
        self.run("touch /run/before-reboot; systemctl --no-block reboot")
        self._wait_for_boot("test ! -e /run/before-reboot")

    def log(self, text):
        with open(self.directory / "system.log", "a") as log:
            log.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")

    def ask(self, command, **arguments):
        """A request of the guest agent's protocol."""
        if not self._agent:
            self._agent = _Agent(self._temporary.path / "agent.sock")
        try:
            return self._agent.ask(command, arguments)
        except system.TestTimeout:
            self._disconnect()  # or its answer would be taken for the next one's
            raise

    def _launch(self):
        directory = self._temporary.path
        qemu = directory / "hypervisor"
        shutil.copy(_QEMU, qemu)
        log = open(self.directory / "qemu.log", "w")
        self._process = system.start_child([
            qemu, "-name", "hypervisor", "-L", "/usr/share/qemu", "-L", "/usr/share/seabios",
            "-nodefaults", "-display", "none",
            "-machine", "pc,accel=tcg", "-cpu", "max", "-smp", self._cpus, "-m", _MEMORY_MIB,
            "-kernel", IMAGES / "vmlinux", "-initrd", IMAGES / "initramfs.cpio",
            "-append", _KERNEL_ARGUMENTS,
            "-drive", f"file={IMAGES}/root.img,if=virtio,format=raw,snapshot=on",
            "-drive", f"file={IMAGES}/guest.img,if=virtio,format=raw,snapshot=on",
            "-virtfs", f"local,path={self._share},mount_tag=share,security_model=none",
            "-serial", f"file:{self.directory}/console.log",
            "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={directory}/agent.sock,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            *self._options],
            stdout=log, stderr=log, env={**os.environ, "QEMU_MODULE_DIR": _QEMU_MODULES})
        log.close()

    def _wait_for_boot(self, condition="true"):
        def is_up():
            if self._process.poll() is not None:
                raise MachineError(f"QEMU ended with {self._process.returncode}")
            self._disconnect()
            with suppress(system.TestTimeout, OSError, MachineError):
                return self.run(condition, patience_s=30).status == 0
            return False

        system.wait_until(is_up, "the hypervisor boots", interval=0.5)
        # "degraded" is as good: some unit of Debian's always fails in such a machine.
        self.run("systemctl is-system-running --wait")

    def _disconnect(self):
        if self._agent:
            self._agent.close()
            self._agent = None

    def _save_journal(self):
        self.check(f"journalctl -b -o short-precise >{SHARE}/.journal", patience_s=60)
        with open(self.directory / "journal.log", "a") as log:
            log.write((self._share / ".journal").read_text(errors="replace"))


class _Agent:
    """The line to QEMU's guest agent."""

    _CONNECT_S = 10  # it may go while the machine boots

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(self._CONNECT_S)
        self._socket.connect(str(path))
        self._received = b""
        # What an earlier connection did not read comes first; after the mark all is ours.
        mark = time.monotonic_ns()
        self._send({"execute": "guest-sync", "arguments": {"id": mark}})
        while self._receive().get("return") != mark:
            pass
        self._socket.settimeout(PATIENCE_S)

    def close(self):
        self._socket.close()

    def ask(self, command, arguments):
        self._send({"execute": command, "arguments": arguments})
        answer = self._receive()
        if "error" in answer:
            raise MachineError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def _send(self, request):
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _receive(self):
        while b"\n" not in self._received:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise system.TestTimeout("the guest agent does not answer") from error
            if not data:
                raise MachineError("the hypervisor is gone")
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        return json.loads(line)
