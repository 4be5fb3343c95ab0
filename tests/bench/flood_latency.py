#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a VM's reads of its tree take beside another VM that reads without a pause.

In turns beside the same readers of a file that is not ours, which is the machine's own contention;
prints the medians of the 99th percentiles, for 1 and 64 flooding threads, and their ratio.
"""

import json
import os
import statistics
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness import system  # noqa: E402
from harness.daemon import Daemon  # noqa: E402
from harness.fake_qemu import FakeQemu  # noqa: E402
from harness.powercap import Package, SimulatedPowercap  # noqa: E402

POLL_READER = system.BUILD / "tests/e2e/poll-reader"
MAXIMUM = "262143328850"
ROUNDS, SECONDS = 4, 4


@contextmanager
def flood(file, threads):
    process = system.start_child([POLL_READER, file, MAXIMUM, threads, 0, 60],
                                 stdout=subprocess.DEVNULL)
    yield
    system.stop_child(process)


def p99_us(file):
    """Of two threads, at 100 Hz each."""
    command = [POLL_READER, file, MAXIMUM, "2", "100", str(SECONDS)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["p99_us"]


def compare(measured, *floods):
    """Medians of what is measured beside each flood, in turn."""
    durations = [[] for _ in floods]
    for _ in range(ROUNDS):
        for (file, threads), seen in zip(floods, durations):
            with flood(file, threads):
                seen.append(p99_us(measured))
    return [statistics.median(seen) for seen in durations]


def main():
    with system.TemporaryDirectory() as directory:
        (directory / "sys").mkdir()
        plain = directory / "energy_uj"
        plain.write_text("1\n")
        package = Package(cpus=tuple(range(os.cpu_count())))
        with SimulatedPowercap(directory / "sys", [package]) as host, \
                Daemon(directory, {"rapl": {"sysfs_root": host.root}}) as daemon, \
                FakeQemu(directory, duty=1) as measured, FakeQemu(directory, duty=1) as flooder:
            daemon.wait_metrics(lambda m: m.vm_energy(flooder.uuid) > 0)
            files = [daemon.tree(vm.uuid) / "energy_uj" for vm in (measured, flooder)]
            for threads in (1, 64):
                beside_plain, beside_flood = compare(files[0], (plain, threads),
                                                     (files[1], threads))
                print(f"{threads} threads: p99 {beside_plain:.0f} us beside readers of a file, "
                      f"{beside_flood:.0f} us beside the flood: {beside_flood / beside_plain:.2f}")


if __name__ == "__main__":
    main()
