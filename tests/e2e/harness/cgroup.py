# SPDX-License-Identifier: LGPL-2.1-or-later
"""Control groups of the unified hierarchy."""

import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path

from . import system


class Cgroup:
    """Use as a context: made with those above it that are missing, and gone at the end."""

    def __init__(self, path):
        root = Path(system.cgroup2_mountpoint()) / f"{system.PREFIX}{os.getpid()}"
        self.path = root / path
        self._made = ExitStack()

    def __enter__(self):
        for directory in reversed([self.path, *self.path.parents]):
            if not directory.exists():
                directory.mkdir()
                self._made.callback(system.wait_until, lambda path=directory: _remove(path),
                                    f"{directory} is empty")
        return self

    def __exit__(self, *_):
        self._made.close()

    def add(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def cpu_seconds(self):
        """The kernel's account of all that ever worked in it."""
        return cpu_seconds(self.path)


def cpu_seconds(path):
    return int(re.search(r"usage_usec (\d+)", (Path(path) / "cpu.stat").read_text())[1]) / 1e6


def _remove(path):
    """Ended processes leave their group a moment later than their parent learns."""
    with suppress(OSError):
        path.rmdir()
    return not path.exists()
