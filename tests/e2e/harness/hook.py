# SPDX-License-Identifier: LGPL-2.1-or-later
"""The libvirt hook of this build, as it is installed but for its paths."""

import os
import subprocess
from pathlib import Path

from . import system

_SOURCE = system.SOURCE_ROOT / "hooks/qemu.d/virtjoule"
_PROGRAM = system.BUILD / "hooks/libvirt-hook"


class Hook:
    """A copy that asks the daemon of a control socket."""

    def __init__(self, path, control_socket):
        self.path = path
        text = _SOURCE.read_text()
        for key, value in (("program", _PROGRAM), ("socket", control_socket)):
            before = text
            text = "".join(f"{key}={value}\n" if line.startswith(f"{key}=") else line
                           for line in text.splitlines(keepends=True))
            assert text != before, f"the hook sets no {key}"
        path.write_text(text)
        path.chmod(0o755)

    def call(self, xml, operation="prepare"):
        """As libvirt calls it; it must print nothing and succeed."""
        result = subprocess.run([self.path, "name", operation, "begin", "-"], input=xml,
                                capture_output=True, timeout=system.PATIENCE_S)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


class InstalledHook(Hook):
    """Where libvirt finds it; use as a context. libvirtd looks when it starts: only our own can
    be used."""

    def __init__(self, libvirtd, control_socket):
        directory = Path("/etc/libvirt/hooks/qemu.d")
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory / f"{system.PREFIX}hook", control_socket)
        self._libvirtd = libvirtd

    def _restart_libvirtd(self):
        self._libvirtd.stop()
        self._libvirtd.start()

    def __enter__(self):
        self._restart_libvirtd()
        return self

    def __exit__(self, *_):
        os.unlink(self.path)
        self._restart_libvirtd()
