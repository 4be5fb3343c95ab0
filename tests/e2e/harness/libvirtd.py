# SPDX-License-Identifier: LGPL-2.1-or-later
"""The libvirtd of this process' isolation, whose qemu:///system is nobody else's."""

from contextlib import suppress

import libvirt

from . import system

URI = "qemu:///system"

# Failures come back as exceptions; libvirt's printing them too only confuses.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


class Libvirtd:
    """Use as a context; `connection` is then open."""

    def __init__(self):
        self.connection = None
        self._children = []
        self._directory = system.TemporaryDirectory()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if any(child.poll() is not None for child in self._children):
                self.stop()
                self.start()  # it died: its domains did not
            if self.connection:
                self.remove_domains()
        finally:
            self.stop()
            self._directory.__exit__()

    def start(self):
        """At first, or after stop()."""
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

    def stop(self):
        """Its domains go on."""
        if self.connection:
            with suppress(libvirt.libvirtError):
                self.connection.close()
        self.connection = None
        for child in reversed(self._children):
            system.stop_child(child)
        self._children = []

    def domains(self):
        """Their names."""
        return {domain.name() for domain in self.connection.listAllDomains()}

    def remove_domains(self, keep=frozenset()):
        """Takes down every domain but those."""
        for name in self.domains() - keep:
            remove_domain(self.connection.lookupByName(name))


def remove_domain(domain):
    with suppress(libvirt.libvirtError):
        domain.destroy()
    with suppress(libvirt.libvirtError):
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
