# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real guest reads its counter at 50 Hz while the daemon is killed, again and again.

It sees no error, no step backwards, and reads on when there is a daemon again.
Whatever the moment of the kill, all energy is measured and divided, and the
guest gets its own of the time without a daemon as well.
"""

import json
import os
import random
import subprocess
import time

import pytest

from harness import libvirtd as libvirts
from harness import system
from harness.accounts import Between, look, serving_seconds
from harness.daemon import FAST, VIRTJOULED, Daemon, DescriptorStore
from harness.margins import ENERGY_LONG
from harness.powercap import Package, SimulatedPowercap

ZONE = "package-0"
INTERVAL_S = 0.2
PACKAGE = Package(cpus=tuple(range(os.cpu_count())))
ROUNDS = 200
HERTZ = 50
# Another build of the same protocol, that keeps its ledger in the same way.
OLDER_COMMIT = "10cee2a44540db6f04558929c22a25cb7e110218"
ROWS = ("source", "vm", "host", "static", "unattributed")


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    return stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))


@pytest.fixture
def daemon(libvirtd, directory, host, stack):
    made = Daemon(directory, {"daemon": FAST, "rapl": {"sysfs_root": host.root},
                              "discovery": {"libvirt_uri": libvirts.URI},
                              "usage": {"provider": "bpf"},
                              "baseline": {ZONE: f"{PACKAGE.static_watts}W"}},
                  DescriptorStore())
    stack.callback(lambda: print(made.log()[-20000:]))
    return stack.enter_context(made)


@pytest.fixture
def guest(daemon, start_guest):
    guest = start_guest(daemon)
    guest.start_load()
    daemon.wait_metrics(lambda m: m.vm_energy(guest.uuid) > 0, what="energy")
    return guest


@pytest.fixture(scope="module")
def older_virtjouled():
    """Built once from an earlier commit: another version of the programs, the same protocol."""
    directory = system.BUILD / f"older-{OLDER_COMMIT[:12]}"
    program = directory / "build/src/daemon/virtjouled"
    if program.exists():
        return program
    archive = subprocess.run(["git", "archive", OLDER_COMMIT], cwd=system.SOURCE_ROOT,
                             capture_output=True)
    if archive.returncode != 0:
        pytest.skip(f"no history to build {OLDER_COMMIT} from: {archive.stderr.decode().strip()}")
    directory.mkdir(exist_ok=True)
    subprocess.run(["tar", "x"], cwd=directory, input=archive.stdout, check=True)
    for command in (["meson", "setup", "build"], ["ninja", "-C", "build", "src/daemon/virtjouled"]):
        subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return program


class GuestReader:
    """In the guest; one thread keeps the file open, one opens it each time. Use as a context."""

    def __init__(self, guest):
        self._guest = guest
        self._zone = f"{guest.POWERCAP}/intel-rapl:0"

    def __enter__(self):
        program = self._guest.install(system.BUILD / "tests/e2e/poll-reader")
        maximum = self._guest.read(f"{self._zone}/max_energy_range_uj").strip()
        self._guest.check(f"{program} {self._zone}/energy_uj {maximum} 2 {HERTZ} 100000 "
                          ">/tmp/reader 2>&1 & echo $! >/tmp/reader.pid")
        return self

    def __exit__(self, *_):
        self._guest.run("kill -9 $(cat /tmp/reader.pid)")

    def wait_reads(self, daemon):
        """It reads on, of the daemon that runs now."""
        def reads(metrics):
            return metrics.value("virtjoule_fuse_reads_total", uuid=self._guest.uuid)

        before = reads(daemon.metrics())
        daemon.wait_metrics(lambda m: reads(m) > before, "reads")

    def result(self):
        """Ends it: no fault, and each thread's last read was answered."""
        self._guest.check("kill $(cat /tmp/reader.pid)")
        text = system.wait_until(lambda: self._guest.read("/tmp/reader"), "the reader's end")
        seen = json.loads(text)
        print(seen)
        for fault in ("torn", "errors", "decreases"):
            assert seen[fault] == 0, seen


def totals(daemon):
    metrics = daemon.metrics()
    assert metrics.balance(ZONE) == 0, metrics.text
    return {row: metrics.sum(f"virtjoule_{row}_energy_joules_total") for row in ROWS}


def restart(daemon, host, moments, program=VIRTJOULED):
    """Kills it at some moment, perhaps the next ones while they start as well.

    Returns what the host had used before the last start, joules, and the CPU time that the killed
    one had spent on readers.
    """
    time.sleep(moments.uniform(0, 2 * INTERVAL_S))
    served = serving_seconds(daemon)
    daemon.kill()
    daemon.program = program
    while moments.random() < 0.25:
        daemon.launch()
        time.sleep(moments.uniform(0, 0.15))
        daemon.kill()
    used = host.total_uj(0) / 1e6
    daemon.start()
    return used, served


class Rounds:
    """Restarts, and that nothing falls, and all that was used is measured: between what the
    host's counter has said on both sides."""

    def __init__(self, daemon, host, reader):
        self._daemon, self._host, self._reader = daemon, host, reader
        self._least = host.total_uj(0) / 1e6
        daemon.wait_ticks(2)
        self.first = self.seen = totals(daemon)
        self._most = host.total_uj(0) / 1e6
        self.served = 0

    def run(self, moments, program=VIRTJOULED):
        used, served = restart(self._daemon, self._host, moments, program)
        self.served += served
        after = totals(self._daemon)
        assert all(after[row] >= self.seen[row] for row in ROWS), (self.seen, after)
        measured = float(after["source"] - self.first["source"])
        assert used - self._most <= measured <= self._host.total_uj(0) / 1e6 - self._least
        self.seen = after
        self._reader.wait_reads(self._daemon)


@pytest.mark.slow
def test_kills(host, daemon, guest):
    moments = random.Random(8)
    before, joules = look(daemon, guest), daemon.metrics().vm_energy(guest.uuid)
    with GuestReader(guest) as reader:
        rounds = Rounds(daemon, host, reader)
        for _ in range(ROUNDS):
            rounds.run(moments)
        reader.result()
    # With nobody's share of all this time.
    assert rounds.seen["unattributed"] == rounds.first["unattributed"]
    assert daemon.log().count("usage is counted on from") >= ROUNDS
    guest.domain.suspend()
    used = before.growth(look(daemon, guest))
    Between(used.least, used.counted, used.most + rounds.served).check()
    joules_per_s = float(daemon.metrics().vm_energy(guest.uuid) - joules) / used.counted
    print(f"energy error {joules_per_s / PACKAGE.watts_per_cpu - 1:+.2%}")
    assert joules_per_s == pytest.approx(PACKAGE.watts_per_cpu, rel=ENERGY_LONG)


@pytest.mark.slow
def test_version_changes(host, daemon, guest, older_virtjouled):
    """Up and down, by a kill each time."""
    moments = random.Random(9)
    with GuestReader(guest) as reader:
        rounds = Rounds(daemon, host, reader)
        for number in range(ROUNDS // 5):
            rounds.run(moments, older_virtjouled if number % 2 == 0 else VIRTJOULED)
        reader.result()
    assert daemon.log().count("the former daemon's mount is continued") >= ROUNDS // 5
