# SPDX-License-Identifier: LGPL-2.1-or-later
"""The system's libvirtd where one answers, else one of our own for the time of the tests.

A lock makes test runs take turns: a machine has only one qemu:///system.
"""

import grp
import os
from contextlib import suppress
from pathlib import Path

import libvirt

from . import system

URI = "qemu:///system"
_KVM = "/dev/kvm"

# Failures come back as exceptions; libvirt's printing them too only confuses.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


class Libvirtd:
    """Use as a context; `connection` is then open."""

    def __init__(self):
        self.connection = None
        self._children = []
        self._lock = system.Lock("libvirt")
        self._directory = None
        self._kvm_before = None

    @property
    def own(self):
        """It is ours: a test may stop it."""
        return self._directory is not None

    def __enter__(self):
        self._lock.__enter__()
        try:
            system.remove_stale_directories()
            self._connect()
            self.remove_domains()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.own and any(child.poll() is not None for child in self._children):
                self.stop()
                self.start()  # it died: its domains did not
            if self.connection:
                self.remove_domains()
        finally:
            self.stop()
            if self._directory:
                self._directory.__exit__()
            if self._kvm_before:
                self._set_kvm_device(self._kvm_before.st_mode, self._kvm_before.st_gid)
            self._lock.__exit__()

    def _connect(self):
        with suppress(libvirt.libvirtError):
            self.connection = libvirt.open(URI)
            return
        self._directory = system.TemporaryDirectory()
        self._open_kvm_device()
        self.start()

    def start(self):
        """Starts our own libvirtd, at first or after stop()."""
        try:
            self.connection = system.wait_until(self._try_start, "libvirtd answers")
        except system.TestTimeout as error:
            log = (self._directory.path / "libvirtd.log").read_text()
            raise system.TestTimeout(f"{error}; its log:\n{log}") from error

    def _try_start(self):
        """One that finds its predecessor still going down ends at once: try again."""
        if any(child.poll() is not None for child in self._children):
            self.stop()
        if not self._children:
            self._launch()
        with suppress(libvirt.libvirtError):
            return libvirt.open(URI)
        return None

    def _launch(self):
        with open(self._directory.path / "libvirtd.log", "a") as log:
            for program in ("virtlogd", "libvirtd"):
                pid_file = self._directory.path / f"{program}.pid"
                self._children.append(system.start_child(
                    [f"/usr/sbin/{program}", "-p", pid_file], stdout=log, stderr=log))

    def _open_kvm_device(self):
        """Does udev's part where none runs.

        libvirtd may use /dev/kvm, QEMU's user may not: libvirt then takes what
        it knows of QEMU for outdated, and asks anew for seconds at every call.
        """
        if not os.path.exists(_KVM):
            return
        status = os.stat(_KVM)
        if status.st_gid == 0:
            self._kvm_before = status
            self._set_kvm_device(0o660, grp.getgrnam("kvm").gr_gid)

    @staticmethod
    def _set_kvm_device(mode, group):
        os.chown(_KVM, 0, group)
        os.chmod(_KVM, mode & 0o777)

    def stop(self):
        """Stops our own libvirtd; its domains go on. The system's is only left."""
        if self.connection:
            with suppress(libvirt.libvirtError):
                self.connection.close()
        self.connection = None
        for child in reversed(self._children):
            system.stop_child(child)
        self._children = []

    def domains(self):
        """Names of those of the tests."""
        return {domain.name() for domain in self.connection.listAllDomains()
                if domain.name().startswith(system.PREFIX)}

    def remove_domains(self, keep=frozenset()):
        """Takes down every domain of the tests, those of an earlier, killed run as well."""
        for name in self.domains() - keep:
            remove_domain(self.connection.lookupByName(name))


def remove_domain(domain):
    name = domain.name()
    with suppress(libvirt.libvirtError):
        domain.destroy()
    with suppress(libvirt.libvirtError):
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
    # libvirt keeps the logs of the domain and its virtiofsd for ever.
    for log in Path("/var/log/libvirt/qemu").glob(f"{name}*.log"):
        os.unlink(log)
