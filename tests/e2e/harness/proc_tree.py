# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory of /proc's form: thousands of QEMU processes that only seem to be there."""

import os
import shutil
import uuid as uuids

_STAT = ("{pid} (qemu-system-x86) S 1 1 1 0 -1 4194304 0 0 0 0 1 1 0 0 20 0 1 0 {start} 0 0"
         + " 0" * 15 + " 17 0 0 0 0 0 0\n")


class ProcTree:
    """For `[discovery] proc_root`; all its processes are root's."""

    def __init__(self, root):
        self.root = root
        for name in ("stat", "meminfo"):
            shutil.copyfile(f"/proc/{name}", root / name)

    def add(self, pid, name="fake", sockets=0, uuid=None):
        """A QEMU process with that many sockets on its command line; returns its UUID."""
        uuid = uuid or str(uuids.uuid4())
        arguments = ["qemu-system-x86_64", "-name", f"guest={name}", "-uuid", uuid]
        for number in range(sockets):
            arguments += ["-chardev", f"socket,path=/{pid}/{number}"]
        directory = self.root / str(pid)
        (directory / "task").mkdir(parents=True)
        (directory / "exe").symlink_to("/usr/bin/qemu-system-x86_64")
        (directory / "stat").write_text(_STAT.format(pid=pid, start=pid))
        (directory / "status").write_text("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n")
        (directory / "cgroup").write_text("0::/\n")
        (directory / "cmdline").write_bytes(b"".join(os.fsencode(argument) + b"\0"
                                                     for argument in arguments))
        return uuid

    def remove(self, pid):
        shutil.rmtree(self.root / str(pid))
