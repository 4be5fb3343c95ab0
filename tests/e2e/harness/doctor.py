# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that `virtjoule doctor` finds nothing wrong with: simulated sensors, a daemon, libvirt.

What packages install is in a directory of its own, the rest of the system is the machine's.
"""

import json
import os
import struct
import subprocess
from contextlib import ExitStack, contextmanager

from . import libvirtd as libvirt
from . import system
from .daemon import FAST, VIRTJOULE, Daemon
from .powercap import Package, SimulatedPowercap

_LINKS = {"proc": "/proc", "sys/kernel/btf": "/sys/kernel/btf",
          "sys/devices/system/clocksource": "/sys/devices/system/clocksource"}
_FILTERING_MSR = 0xbc


def parse(result):
    """{id: finding} of a run with --json; checks that the exit status agrees with them."""
    answer = json.loads(result.stdout)
    wrong = {finding["id"]: finding for finding in answer["findings"]
             if finding["severity"] != "info"}
    assert answer["healthy"] == (not wrong)
    assert result.returncode == (1 if wrong else 0), result.stderr
    for finding in answer["findings"]:
        assert "\n" not in finding["problem"] + finding["cure"]
    return wrong


def check_found(found, text, identity, cure):
    """The fault is among the findings with its cure, and people are told the same."""
    assert identity in found, found
    assert cure in found[identity]["cure"]
    assert text.returncode == 1
    assert f"[{identity}]\n    cure: {found[identity]['cure']}\n" in text.stdout


class DoctorHost:
    """Use as a context: healthy, until a test plants a fault."""

    def __init__(self, libvirtd, directory, store=None):
        self.libvirtd = libvirtd
        self.directory = directory
        self.root = directory / "root"
        self.hook = self.root / "etc/libvirt/hooks/qemu.d/virtjoule"
        self.virtiofsd = self.root / "usr/lib/qemu/virtiofsd"
        self.msr = self.root / "dev/cpu/0/msr"
        self.powercap = SimulatedPowercap(directory / "sensors",
                                          [Package(cpus=tuple(range(os.cpu_count())))])
        self.settings = {"daemon": FAST, "rapl": {"sysfs_root": self.powercap.root},
                         "discovery": {"libvirt_uri": libvirt.URI}}
        self.daemon = Daemon(directory, self.settings, store)
        self._contexts = ExitStack()

    def __enter__(self):
        for name, target in _LINKS.items():
            link = self.root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        for path in (self.hook, self.virtiofsd):
            path.parent.mkdir(parents=True)
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
        self.msr.parent.mkdir(parents=True)
        self.set_filtering(0)
        self._contexts.enter_context(self.powercap)
        self._contexts.enter_context(self.daemon)
        return self

    def __exit__(self, *exception):
        self._contexts.__exit__(*exception)

    def run(self, *arguments, **options):
        return subprocess.run([VIRTJOULE, "doctor", "--host", "--root", self.root, "--config",
                               self.daemon.config, *arguments],
                              capture_output=True, text=True, timeout=system.PATIENCE_S, **options)

    def findings(self):
        return parse(self.run("--json"))

    def set_filtering(self, value):
        self.msr.write_bytes(b"\0" * _FILTERING_MSR + struct.pack("<Q", value))

    def restart_daemon(self, settings=None):
        """Under other settings, or its usual ones."""
        self.daemon.stop()
        self.daemon.configure(_merge(self.settings, settings or {}))
        self.daemon.start()

    @contextmanager
    def configured(self, settings):
        """The configuration says so, the daemon does not know."""
        self.daemon.configure(_merge(self.settings, settings))
        yield
        self.daemon.configure(self.settings)

    @contextmanager
    def mounted(self, *arguments):
        """mount(8) while the context lasts; its last argument is the directory."""
        subprocess.run(["mount", *arguments], check=True)
        yield
        system.detach_mount(arguments[-1])


def _merge(settings, others):
    return {section: {**settings.get(section, {}), **others.get(section, {})}
            for section in {**settings, **others}}
