# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must hold whatever happens to the daemon: readers see no fault, no energy is lost."""

import time
from contextlib import contextmanager

from conftest import MAX_ENERGY_UJ
from daemon import INTERVAL_S

# What two looks at the ledger may differ by, late ticks included: 2 s at 80 W.
TOLERANCE_UJ = 160_000_000


@contextmanager
def no_energy_lost(daemon):
    """Nor invented: the ledger keeps its distance to the zone's own counter."""
    before_uj = daemon.uncounted_uj(MAX_ENERGY_UJ)
    yield
    lost_uj = (daemon.uncounted_uj(MAX_ENERGY_UJ) - before_uj) % MAX_ENERGY_UJ
    if lost_uj > MAX_ENERGY_UJ / 2:
        lost_uj -= MAX_ENERGY_UJ
    daemon.host.tell(f"the ledger fell back by {lost_uj} uJ")
    assert abs(lost_uj) < TOLERANCE_UJ


def survive(daemon, vm, event, rounds=1, hung_s=0):
    """Lets an event befall the daemon under a reader, and checks all that must hold."""
    before = daemon.totals()
    longest_s = 0
    with no_energy_lost(daemon), vm.reader() as reader:
        for _ in range(rounds):
            time.sleep(INTERVAL_S)
            pid = daemon.pid()
            event()
            daemon.wait_active(other_than=pid)
            longest_s = max(longest_s, daemon.last_downtime_s())
            after = daemon.totals()
            assert all(after[row] >= before[row] for row in before), (before, after)
            before = after
        waited_ms, steady_ms = reader.result()
    number, links = daemon.stored_descriptors()
    daemon.host.tell(f"longest downtime {longest_s:.2f} s; joules {after}\n"
                     f"NFileDescriptorStore={number}, of them in PID 1:\n{links}")
    # A read of the counter takes several processes, each of which a busy machine may hold up.
    assert waited_ms <= 1000 * (longest_s + hung_s + vm.READ_S) + 5 * steady_ms
    assert "/dev/fuse" in links
