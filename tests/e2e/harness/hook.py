# SPDX-License-Identifier: LGPL-2.1-or-later
"""The libvirt hook of this build, as it is installed but for its paths."""

import os
import subprocess
from pathlib import Path

from . import system

_SOURCE = system.SOURCE_ROOT / "hooks/qemu.d/virtjoule"
_PROGRAM = system.BUILD / "hooks/libvirt-hook"


class Hook:
    """A copy that asks a daemon, which need not run."""

    def __init__(self, path, daemon):
        self.path = path
        text = _SOURCE.read_text()
        for key, value in (("program", _PROGRAM), ("socket", daemon.runtime_dir / "control.sock"),
                           ("config", daemon.config)):
            before = text
            text = "".join(f"{key}={value}\n" if line.startswith(f"{key}=") else line
                           for line in text.splitlines(keepends=True))
            assert text != before, f"the hook sets no {key}"
        path.write_text(text)
        path.chmod(0o755)

    def remove_program(self):
        """As the package's removal does."""
        text = self.path.read_text()
        assert str(_PROGRAM) in text
        self.path.write_text(text.replace(str(_PROGRAM), "/nonexistent"))

    def call(self, xml, operation="prepare"):
        """As libvirt calls it; it must print nothing and succeed."""
        result = subprocess.run([self.path, "name", operation, "begin", "-"], input=xml,
                                capture_output=True, timeout=system.PATIENCE_S)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


class InstalledHook(Hook):
    """Where libvirt finds it; use as a context. libvirtd looks when it starts: only our own can
    be used."""

    def __init__(self, libvirtd, daemon):
        directory = Path("/etc/libvirt/hooks/qemu.d")
        self._made = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory / f"{system.PREFIX}hook", daemon)
        self._libvirtd = libvirtd

    def _restart_libvirtd(self):
        self._libvirtd.stop()
        self._libvirtd.start()

    def __enter__(self):
        self._restart_libvirtd()
        return self

    def __exit__(self, *_):
        os.unlink(self.path)
        if self._made:
            self.path.parent.rmdir()
        self._restart_libvirtd()
