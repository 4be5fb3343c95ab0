#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows the whole path: two real guests, one busy and one idle, read their own energy.

Prints, live, what the host's ledger says of each and what each guest reads of
itself from its own /sys/class/powercap. Ends with 1 when the two do not agree.
"""

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

# pylint: disable=wrong-import-position
from harness import libvirtd as libvirt  # noqa: E402
from harness import system  # noqa: E402
from harness.daemon import Daemon  # noqa: E402
from harness.guest import Guest  # noqa: E402
from harness.libvirtd import Libvirtd  # noqa: E402

SECONDS = 40
STEP = 2
LABELS = ("busy", "idle")


class Row(NamedTuple):
    """One guest at one moment."""

    host_watts: float
    host_joules: float
    guest_joules: float


def package_joules(vm):
    return sum(joules for zone, joules in vm["energy_joules"].items()
               if zone.startswith("package-"))


def look(daemon, guest):
    """The ledger is read last: it is never behind what the guest has read."""
    guest_joules = guest.energy_uj() / 1e6
    vm = daemon.cli("show", guest.uuid)
    return Row(vm["package_watts"], package_joules(vm), guest_joules)


def print_origin(daemon):
    host = daemon.cli("show", "--host")
    if host["estimate"]:
        print("NOTE: this machine has no energy sensor that can be read. Every figure here is an"
              "\n      ESTIMATE from CPU utilisation, not a measurement.")
    else:
        print(f"Every figure here is measured by this machine's own sensors ({host['source']}).")
    print()


def print_header():
    print(f"{'':>5} | {'busy guest':^38} | {'idle guest':^38}")
    columns = f"{'host: W':>10} {'host: J':>12} {'guest reads: J':>14}"
    print(f"{'s':>5} | {columns} | {columns}")
    print(f"{'-' * 5}-+-{'-' * 38}-+-{'-' * 38}")


def print_rows(seconds, rows):
    cells = (f"{row.host_watts:10.3f} {row.host_joules:12.3f} {row.guest_joules:14.3f}"
             for row in rows)
    print(f"{seconds:5.0f} | {' | '.join(cells)}", flush=True)


def watch(daemon, guests):
    """Prints a row every STEP seconds; returns all of them."""
    start = time.monotonic()
    table = []
    while (elapsed := time.monotonic() - start) < SECONDS:
        table.append([look(daemon, guest) for guest in guests])
        print_rows(elapsed, table[-1])
        time.sleep(max(0, len(table) * STEP - (time.monotonic() - start)))
    return table


def find_faults(table):
    """A guest follows the ledger at most one interval behind, and never runs ahead or back."""
    faults = []
    for number, label in enumerate(LABELS):
        rows = [row[number] for row in table]
        for before, row in zip(rows, rows[1:]):
            if not before.guest_joules <= row.guest_joules <= row.host_joules + 1e-6:
                faults.append(f"the {label} guest read {row.guest_joules} J after "
                              f"{before.guest_joules} J; the ledger said {row.host_joules} J")
            if row.guest_joules < before.host_joules - 0.001:
                faults.append(f"the {label} guest read {row.guest_joules} J when the ledger had "
                              f"said {before.host_joules} J {STEP} s before")
    busy, idle = (table[-1][i].guest_joules - table[0][i].guest_joules for i in (0, 1))
    if busy < 5 * idle or busy <= 0:
        faults.append(f"the busy guest read {busy:.3f} J, the idle one {idle:.3f} J")
    return faults


def run(stack):
    directory = stack.enter_context(system.TemporaryDirectory())
    print("Starting libvirt, virtjouled and two guests (QEMU without KVM) ...", flush=True)
    libvirtd = stack.enter_context(Libvirtd())
    daemon = stack.enter_context(Daemon(directory, {"discovery": {"libvirt_uri": libvirt.URI}}))
    guests = [stack.enter_context(
        Guest(libvirtd, directory, mountpoint=daemon.mountpoint, label=f"{label}-"))
        for label in LABELS]
    guests[0].start_load()
    print()
    print_origin(daemon)
    print(f"In each guest: cat {Guest.POWERCAP}/intel-rapl:0/energy_uj")
    print("It follows the host's ledger one interval (1 s) late, as an even ramp.\n")
    print_header()
    table = watch(daemon, guests)
    print()
    for label, number in zip(LABELS, (0, 1)):
        joules = table[-1][number].guest_joules - table[0][number].guest_joules
        print(f"The {label} guest read {joules:.3f} J of its own in {SECONDS - STEP} s.")
    faults = find_faults(table)
    for fault in faults:
        print(f"WRONG: {fault}")
    if not faults:
        print("Both guests followed the host's ledger.")
    print()
    print_origin(daemon)
    return 1 if faults else 0


def main():
    # Like Ctrl-C: unwinds the stack, which leaves nothing behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    system.remove_stale_directories()
    try:
        with ExitStack() as stack:
            return run(stack)
    except KeyboardInterrupt:
        print("\ninterrupted; everything has been taken down")
        return 130


if __name__ == "__main__":
    sys.exit(main())
