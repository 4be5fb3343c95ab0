# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages of virtjoule, and the same under another version."""

import re
import subprocess

from harness import system

PACKAGES = system.BUILD / "package"
NEXT = "+next"  # of a version: sorts after it


class Package:
    """The one that `make package` built; `next_file` is of a newer version, with nothing new."""

    def __init__(self, name, directory):
        files = sorted(PACKAGES.glob(f"{name}_*.deb"))
        if not files:
            raise FileNotFoundError(f"no {name}_*.deb in {PACKAGES}: run make package")
        self.file = files[-1]
        self.next_file = directory / "next.deb"
        root = directory / "next"
        subprocess.run(["dpkg-deb", "--raw-extract", self.file, root], check=True)
        control = root / "DEBIAN/control"
        control.write_text(re.sub(r"^(Version: .*)$", rf"\1{NEXT}", control.read_text(),
                                  flags=re.MULTILINE))
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, self.next_file],
                       check=True, stdout=subprocess.DEVNULL)
