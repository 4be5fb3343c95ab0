# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must hold at every moment, whatever happens to the VMs, looked at five times a second.

- Measured energy is divided without rest: VMs + host + static + unattributed.
- What VMs are shown of the static energy is at most the static energy.
- No total ever falls; no tree's counter does, but by its wrap, nor is it ahead of the ledger.
"""

import threading
from decimal import Decimal

from . import system

PERIOD_S = 0.2
LOOKS = 5  # an audit that hardly looked has not looked
_TOTALS = ("_energy_joules_total", "virtjoule_vm_cpu_seconds_total")


class Audit:
    """Use as a context of a running daemon; a promise that was broken is raised at its end."""

    def __init__(self, daemon):
        self.scrapes = 0
        self._daemon = daemon
        self._trees = {}  # UUID: last value
        self._totals = {}
        self._failure = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        if not kind:
            system.wait_until(lambda: self._failure or self.scrapes >= LOOKS, "the audit looked")
        self._end.set()
        self._thread.join()
        if self._failure and not kind:
            raise self._failure

    def watch_tree(self, uuid):
        """Reads a VM's tree as well; it must stay from now on."""
        self._trees[uuid] = 0

    def _run(self):
        try:
            while not self._end.wait(PERIOD_S):
                self.look()
        except Exception as error:
            self._failure = error

    def look(self):
        """One scrape; for a test that has to look by itself."""
        published = {uuid: self._read_tree(uuid) for uuid in list(self._trees)}
        metrics = self._daemon.metrics()
        check_division(metrics)
        self._check_totals(metrics)
        for uuid, energy_uj in published.items():
            total = metrics.vm_energy(uuid) + metrics.vm_energy(uuid, "static_")
            assert energy_uj <= total * 10**6, f"{uuid} is shown more than {total} J"
        self.scrapes += bool(metrics.zones())  # none before the first interval's end

    def _read_tree(self, uuid):
        tree = self._daemon.tree(uuid)
        energy_uj = int((tree / "energy_uj").read_text())
        last = self._trees[uuid]
        maximum = int((tree / "max_energy_range_uj").read_text())
        wrapped = energy_uj < maximum / 10 and last > maximum / 10 * 9
        assert energy_uj >= last or wrapped, f"{uuid}: {last} uJ, then {energy_uj} uJ"
        self._trees[uuid] = energy_uj
        return energy_uj

    def _check_totals(self, metrics):
        for name, labels, value in metrics.samples:
            if not name.endswith(_TOTALS):
                continue
            # A VM is its UUID; libvirt may tell its name after the process was found.
            key = (name, *(labels.get(label) for label in ("uuid", "zone")))
            before = self._totals.get(key, Decimal(0))
            assert value >= before, f"{key}: {before}, then {value}"
            self._totals[key] = value


def check_division(metrics):
    """The promises about one scrape."""
    for zone in metrics.zones():
        assert metrics.balance(zone) == 0, metrics.text
        shown = metrics.sum("virtjoule_vm_static_energy_joules_total", zone=zone)
        assert shown <= metrics.sum("virtjoule_static_energy_joules_total", zone=zone), metrics.text
