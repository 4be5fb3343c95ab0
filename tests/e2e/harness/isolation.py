# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mounts and a network of this process' own, so that test runs need not take turns: each has its
qemu:///system, its ports, and what it mounts. Processes stay visible to all.
"""

import ctypes
import grp
import os
import subprocess
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
# Its hooks, and what libvirtd writes to and expects to be alone with. What it knows of QEMU, in
# /var/cache, takes seconds to ask and is the same for all.
_LIBVIRT = ("/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/etc/libvirt/qemu",
            "/etc/libvirt/hooks")
_KVM = Path("/dev/kvm")


def isolate():
    """For this thread and all that it starts. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")
    # A confined daemon asks the host's first process what is mounted.
    _run("mount", "--bind", f"/proc/{os.getpid()}/mountinfo", "/proc/1/mountinfo")
    _run("ip", "link", "set", "lo", "up")
    for directory in map(Path, _LIBVIRT):
        directory.mkdir(parents=True, exist_ok=True)
        _mount_tmpfs(directory)
    if _KVM.exists():
        _own_kvm_device()


def _own_kvm_device():
    """Does udev's part where none runs.

    libvirtd may use /dev/kvm, QEMU's user may not: libvirt then takes what
    it knows of QEMU for outdated, and asks anew for seconds at every call.
    """
    device = Path("/run/libvirt/kvm")
    os.mknod(device, 0o600 | 0o020000, _KVM.stat().st_rdev)
    os.chown(device, 0, grp.getgrnam("kvm").gr_gid)
    device.chmod(0o660)
    _run("mount", "--bind", device, _KVM)


def _mount_tmpfs(directory):
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)


def _run(*command):
    subprocess.run(command, check=True)
