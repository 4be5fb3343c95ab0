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

from harness import libvirtd as libvirt  # noqa: E402
from harness import system  # noqa: E402
from harness.daemon import Daemon  # noqa: E402
from harness.guest import Guest  # noqa: E402
from harness.isolation import isolate  # noqa: E402
from harness.libvirtd import Libvirtd  # noqa: E402

SECONDS = 40
STEP = 2
LABELS = ("busy", "idle")


class Row(NamedTuple):
    """One guest at one moment."""

    time: float
    host_joules: float
    guest_joules: float


def package_joules(vm):
    return sum(joules for zone, joules in vm["energy_joules"].items()
               if zone.startswith("package-"))


def look(daemon, guest):
    """The ledger is read last: it is never behind what the guest has read."""
    now = time.monotonic()
    guest_joules = guest.energy_uj() / 1e6
    return Row(now, package_joules(daemon.cli("show", guest.uuid)), guest_joules)


def print_origin(daemon):
    host = daemon.cli("show", "--host")
    if host["estimate"]:
        print("NOTE: this machine has no energy sensor that can be read. Every figure here"
              "\n      is an ESTIMATE from CPU utilisation, not a measurement.")
    else:
        print(f"Every figure here is from this machine's own sensors ({host['source']}).")


def print_header():
    columns = f"{'watts':^15} {'joules':^18}"
    print(f"{'':>4} | {'BUSY GUEST':^34} | {'IDLE GUEST':^34}")
    print(f"{'':>4} | {columns} | {columns}")
    columns = f"{'host':>7} {'guest':>7} {'host':>9} {'guest':>8}"
    print(f"{'s':>4} | {columns} | {columns}")
    print(f"{'-' * 4}-+-{'-' * 34}-+-{'-' * 34}")


def format_row(before, row):
    """Watts are what a tool makes of two of its readings, on the host and in the guest."""
    seconds = row.time - before.time
    host_watts = (row.host_joules - before.host_joules) / seconds
    guest_watts = (row.guest_joules - before.guest_joules) / seconds
    return f"{host_watts:7.2f} {guest_watts:7.2f} {row.host_joules:9.2f} {row.guest_joules:8.2f}"


def watch(daemon, guests):
    """Prints a row every STEP seconds; returns all of them."""
    start = time.monotonic()
    table = [[look(daemon, guest) for guest in guests]]
    for seconds in range(STEP, SECONDS + 1, STEP):
        time.sleep(max(0, start + seconds - time.monotonic()))
        rows = [look(daemon, guest) for guest in guests]
        cells = " | ".join(map(format_row, table[-1], rows))
        print(f"{seconds:4} | {cells}", flush=True)
        table.append(rows)
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
    daemon.wait_ticks(3)  # booting is over for both
    print()
    print_origin(daemon)
    print("\nhost:  the ledger of virtjouled, from `virtjoule show --json`"
          f"\nguest: its own {Guest.POWERCAP}/intel-rapl:0/energy_uj,"
          "\n       which follows the ledger one interval (1 s) late, as an even ramp\n")
    print_header()
    table = watch(daemon, guests)
    print()
    for number, label in enumerate(LABELS):
        joules = table[-1][number].guest_joules - table[0][number].guest_joules
        print(f"The {label} guest read {joules:.2f} J of its own in {SECONDS} s.")
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
    system.remove_leftovers()
    isolate()
    try:
        with ExitStack() as stack:
            return run(stack)
    except KeyboardInterrupt:
        print("\ninterrupted; everything has been taken down")
        return 130


if __name__ == "__main__":
    sys.exit(main())
