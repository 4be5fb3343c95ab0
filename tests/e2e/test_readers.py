# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readers much faster than the interval see a ramp: never a stair, a fall, a torn value."""

import json
import os
import subprocess

import pytest

from harness import system
from harness.powercap import Package, SimulatedPowercap

POLL_READER = system.BUILD / "tests/e2e/poll-reader"


@pytest.mark.slow
@pytest.mark.parametrize("readers, seconds", [(1, 20), (50, 60)])
def test_polling_at_20_hz(directory, stack, start_daemon, start_vm, readers, seconds):
    (directory / "sys").mkdir()
    host = stack.enter_context(
        SimulatedPowercap(directory / "sys", [Package(cpus=tuple(range(os.cpu_count())))]))
    daemon = start_daemon({"rapl": {"sysfs_root": host.root}})
    vm = start_vm(duty=60)
    daemon.wait_ticks(4)
    tree = daemon.tree(vm.uuid)
    maximum = (tree / "max_energy_range_uj").read_text().strip()
    result = subprocess.run([POLL_READER, tree / "energy_uj", maximum, str(readers), "20",
                             str(seconds)],
                            check=True, capture_output=True, text=True, timeout=system.PATIENCE_S)
    seen = json.loads(result.stdout)
    assert seen["readers"] == readers
    assert seen["reads"] > readers
    for fault in ("torn", "errors", "decreases", "zero_windows"):
        assert seen[fault] == 0, seen
    assert (tree / "max_energy_range_uj").read_text().strip() == maximum
