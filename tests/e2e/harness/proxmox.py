# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as Proxmox VE runs it: QEMU with the configuration's `args` and the hookscript around it."""

import os
import random
import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

from . import system
from .daemon import VIRTJOULE
from .guest import Guest

_SOURCE = system.SOURCE_ROOT / "hooks/proxmox/virtjoule-hookscript"
_DOCUMENTATION = system.SOURCE_ROOT / "docs/hypervisors.md"
_QM = """#!/bin/sh
[ "$1 $2" = "config {vmid}" ] || exit 1
cat <<'END'
boot: order=scsi0
name: web01
scsi0: local-lvm:vm-{vmid}-disk-0,size=32G
smbios1: {smbios}
END
"""


def documented_args(vmid, megabytes, run):
    """What an operator is told to give `qm set --args`."""
    args = re.search(r'qm set 100 --args "(.*)"', _DOCUMENTATION.read_text())[1]
    args = args.replace("/run/virtjoule-proxmox/100.sock", f"{run}/{vmid}.sock")
    return shlex.split(args.replace("size=2048M", f"size={megabytes}M"))


class ProxmoxVm(Guest):
    """Use as a context, which starts it; `smbios` is of its configuration."""

    MEGABYTES = 192

    def __init__(self, daemon, directory, smbios=None):
        super().__init__(None, directory, mountpoint=daemon.mountpoint)
        self.vmid = str(random.randrange(100, 10**9))
        self.run_directory = directory / "proxmox"
        self._pid_file = directory / f"{self.name}.pid"
        self._script = directory / "virtjoule-hookscript"
        text = _SOURCE.read_text()
        for key, value in (
                ("virtjoule", f'"{VIRTJOULE} --socket {daemon.runtime_dir}/control.sock"'),
                ("run", self.run_directory)):
            text, n = re.subn(f"^{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
            assert n == 1
        self._script.write_text(text)
        self._script.chmod(0o755)
        qm = directory / "bin/qm"
        qm.parent.mkdir(exist_ok=True)
        qm.write_text(_QM.format(vmid=self.vmid, smbios=smbios or f"uuid={self.uuid}"))
        qm.chmod(0o755)

    def phase(self, name):
        """Runs the hookscript, which always succeeds; returns what it said."""
        environment = {**os.environ, "PATH": f"{self._directory}/bin:{os.environ['PATH']}"}
        result = subprocess.run([self._script, self.vmid, name], env=environment, text=True,
                                capture_output=True, timeout=system.PATIENCE_S)
        assert result.returncode == 0, result.stderr
        return result.stdout

    @property
    def virtiofsd(self):
        """Its PID, or None where none serves the VM."""
        try:
            pid = int((self.run_directory / f"{self.vmid}.pid").read_text().split()[0])
        except FileNotFoundError:
            return None
        return pid if Path(f"/proc/{pid}/exe").exists() else None

    @property
    def pid(self):
        return int(self._pid_file.read_text())

    def define(self):
        pass

    def start(self):
        self.phase("pre-start")
        self.start_qemu()
        self.phase("post-start")
        self._connect()

    def start_qemu(self):
        images = system.BUILD / "guest"
        directory = self._directory
        subprocess.run(
            ["qemu-system-x86_64", "-name", "web01,debug-threads=on", "-daemonize",
             "-pidfile", self._pid_file, "-smbios", f"type=1,uuid={self.uuid}", "-nodefaults",
             "-display", "none", "-machine", "pc,accel=tcg", "-m", str(self.MEGABYTES),
             "-kernel", images / "vmlinux", "-initrd", images / "initramfs.cpio",
             "-append", "console=ttyS0 quiet panic=1 mitigations=off",
             "-serial", f"file:{directory}/{self.name}.log",
             "-serial", f"unix:{directory}/{self.name}.sock,server=on,wait=off",
             *documented_args(self.vmid, self.MEGABYTES, self.run_directory)],
            check=True, capture_output=True, timeout=system.PATIENCE_S)

    def stop(self):
        """As `qm stop` does."""
        self.phase("pre-stop")
        self._disconnect()
        pid = self.pid
        os.kill(pid, 15)
        system.wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), "QEMU is gone")
        self.phase("post-stop")

    def __exit__(self, *_):
        self._disconnect()
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(self.pid, 9)
        self.phase("post-stop")
