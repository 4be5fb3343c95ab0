# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ledger outlives the daemon and the host: no counter that anybody has seen falls."""

import itertools
import os
import random
import shutil
import subprocess
import time

import pytest

from harness.accounts import look_at_energy
from harness.daemon import FAST
from harness.margins import CUT_J
from harness.powercap import Package, SimulatedPowercap

PACKAGE = Package(cpus=tuple(range(os.cpu_count())))
COUNTERS = tuple(f"virtjoule_{row}_joules_total" for row in (
    "source_energy", "vm_energy", "vm_static_energy", "host_energy", "static_energy",
    "unattributed_energy")) + ("virtjoule_vm_cpu_seconds_total",)


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    return stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))


@pytest.fixture
def settings(host):
    return {"daemon": dict(FAST), "rapl": {"sysfs_root": host.root}}


@pytest.fixture
def daemon(unstarted):
    """The tests start it again and again."""
    return unstarted


@pytest.fixture
def vms(start_vm):
    return [start_vm(name="busy", duty=40), start_vm(name="calm", duty=5)]


class Seen:
    """What was seen of all counters: metrics, and the guests' own."""

    def __init__(self, daemon, vms):
        self.metrics = daemon.metrics()
        self.counters = {(name, tuple(sorted(labels.items()))): value
                         for name, labels, value in self.metrics.samples if name in COUNTERS}
        self.trees = {vm.uuid: int((daemon.tree(vm.uuid) / "energy_uj").read_text()) for vm in vms}
        self.inodes = {vm.uuid: (daemon.tree(vm.uuid) / "energy_uj").stat().st_ino for vm in vms}

    def assert_not_below(self, earlier):
        for counter, value in earlier.counters.items():
            assert self.counters[counter] >= value, counter
        for uuid, value in earlier.trees.items():
            assert self.trees[uuid] >= value
        assert self.inodes == earlier.inodes
        for zone in self.metrics.zones():
            assert self.metrics.balance(zone) == 0, self.metrics.text

    def joules(self, row):
        return float(self.metrics.sum(f"virtjoule_{row}_energy_joules_total"))


def assert_counted(daemon, host, first):
    """Since that look: exact totals, no reserve."""
    first.growth(look_at_energy(daemon, host)).check(CUT_J)
    assert "reserve" not in daemon.log()


def wait_energy(daemon, vms):
    daemon.wait_metrics(lambda m: all(m.vm_energy(vm.uuid) > 0 for vm in vms), what="energy")


def test_killed_at_random_moments(host, daemon, vms):
    moments = random.Random(1)
    daemon.start()
    wait_energy(daemon, vms)
    first = look_at_energy(daemon, host)
    seen = Seen(daemon, vms)
    for _ in range(20):
        time.sleep(moments.uniform(0, 0.5))
        before = Seen(daemon, vms)
        before.assert_not_below(seen)
        daemon.kill()
        used_before = host.total_uj(0)
        time.sleep(moments.uniform(0, 0.5))
        used_meanwhile = (host.total_uj(0) - used_before) / 1e6
        daemon.start()
        seen = Seen(daemon, vms)
        seen.assert_not_below(before)
        assert seen.joules("unattributed") - before.joules("unattributed") >= used_meanwhile
    # Nothing was lost and nothing counted twice, in all the kills together.
    assert_counted(daemon, host, first)


POLICIES = ("exclude", "equal", "proportional", "vcpu")
POLICY_ROUND = [POLICIES[i] for i in (0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3, 0)]
assert set(itertools.pairwise(POLICY_ROUND)) == set(itertools.permutations(POLICIES, 2))


def test_policy_change_moves_nothing_back(daemon, settings, vms):
    settings["baseline"] = {"package-0": f"{PACKAGE.static_watts}W"}
    earlier = None
    for number, policy in enumerate(POLICY_ROUND):
        settings["attribution"] = {"static_policy": policy}
        daemon.configure(settings)
        daemon.start()
        if earlier:
            Seen(daemon, vms).assert_not_below(earlier)
        at_start = daemon.metrics()
        wait_energy(daemon, vms)
        daemon.wait_ticks(3)
        now = Seen(daemon, vms)
        if earlier:
            now.assert_not_below(earlier)
        for vm in vms:
            grown = [now.metrics.value(name, uuid=vm.uuid) - at_start.sum(name, uuid=vm.uuid)
                     for name in ("virtjoule_vm_energy_joules_total",
                                  "virtjoule_vm_static_energy_joules_total")]
            assert grown[0] > 0
            assert (grown[1] > 0) == (policy != "exclude"), policy
        earlier = Seen(daemon, vms)
        if number % 2:
            assert daemon.stop() == 0
        else:
            daemon.kill()


def test_clean_reboot_is_exact(host, daemon, vms):
    daemon.start()
    wait_energy(daemon, vms)
    first = look_at_energy(daemon, host)
    seen = Seen(daemon, vms)
    for _ in range(3):
        assert daemon.stop() == 0
        shutil.rmtree(daemon.runtime_dir)
        daemon.start()
        before, seen = seen, Seen(daemon, vms)
        seen.assert_not_below(before)
    # The kernel has not been booted, so that the checkpoint's readings hold, too.
    assert_counted(daemon, host, first)
    assert daemon.log().count(f"{daemon.state_dir}/ledger") == 3


def test_power_loss_shows_nothing_less(daemon, vms):
    daemon.start()
    wait_energy(daemon, vms)
    for _ in range(3):
        daemon.wait_ticks(3)
        before = Seen(daemon, vms)
        daemon.kill()
        shutil.rmtree(daemon.runtime_dir)
        daemon.start()
        Seen(daemon, vms).assert_not_below(before)
    assert daemon.log().count("reserve") == 3


def flip_bit(path):
    """In the one of the two images that holds."""
    data = bytearray(path.read_bytes())
    slot, room = int.from_bytes(data[12:16], "little"), int.from_bytes(data[16:24], "little")
    data[4096 + slot * room + 200] ^= 1
    path.write_bytes(data)


def raise_version(path):
    data = bytearray(path.read_bytes())
    data[8] += 1
    path.write_bytes(data)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 64),
    "garbage": lambda path: path.write_bytes(os.urandom(100000)),
    "bit": flip_bit,
    "version": raise_version,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_runtime_file(daemon, vms, damage):
    daemon.start()
    wait_energy(daemon, vms)
    daemon.wait_ticks(2)
    before = Seen(daemon, vms)
    daemon.kill()
    path = daemon.runtime_dir / "ledger"
    DAMAGES[damage](path)
    daemon.start()
    Seen(daemon, vms).assert_not_below(before)
    assert str(path) in daemon.log()
    assert "set aside" in daemon.log()
    assert len(list(daemon.runtime_dir.glob("ledger.bad-*"))) == 1


def test_nothing_usable_is_left(daemon, vms):
    daemon.start()
    wait_energy(daemon, vms)
    assert daemon.stop() == 0
    for directory in (daemon.runtime_dir, daemon.state_dir):
        (directory / "ledger").write_text("[daemon]\n")
    daemon.start()
    wait_energy(daemon, vms)
    assert daemon.metrics().balance("package-0") == 0
    for directory in (daemon.runtime_dir, daemon.state_dir):
        assert [path.read_text() for path in directory.glob("ledger.bad-*")] == ["[daemon]\n"]


def mount_tmpfs(path, size="256k"):
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)


def fill(path):
    with open(path / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_full_disks(daemon, vms):
    mount_tmpfs(daemon.runtime_dir)
    mount_tmpfs(daemon.state_dir)
    daemon.start()
    wait_energy(daemon, vms)
    fill(daemon.runtime_dir)
    fill(daemon.state_dir)
    # What is full can be kept up to date: its space has been reserved.
    daemon.wait_ticks(10)
    before = Seen(daemon, vms)
    daemon.kill()
    daemon.start()
    Seen(daemon, vms).assert_not_below(before)
    daemon.wait_log("the ledger cannot be written")
    assert "No space left" in daemon.log()
    daemon.wait_ticks(10)
    (daemon.runtime_dir / "filler").unlink()
    (daemon.state_dir / "filler").unlink()
    daemon.wait_log("the ledger is written again")
    daemon.wait_ticks(2)
    before = Seen(daemon, vms)
    daemon.kill()
    daemon.start()
    Seen(daemon, vms).assert_not_below(before)


def test_read_only_state_directory(daemon, vms):
    mount_tmpfs(daemon.state_dir)
    subprocess.run(["mount", "-o", "remount,ro", daemon.state_dir], check=True)
    daemon.start()
    wait_energy(daemon, vms)
    daemon.wait_log("the ledger cannot be written")
    assert "Read-only" in daemon.log()
    before = Seen(daemon, vms)
    assert daemon.stop() == 0
    daemon.start()
    Seen(daemon, vms).assert_not_below(before)


def test_estimate_continues_on_its_own(daemon, settings, vms):
    """What was measured and what was estimated are never one total; guests see their sum."""
    daemon.start()
    wait_energy(daemon, vms)
    measured = Seen(daemon, vms)
    assert daemon.stop() == 0
    daemon.configure({**settings, "source": {"energy": "estimate"}})
    daemon.start()
    daemon.wait_ticks(2)
    estimated = Seen(daemon, vms)
    assert not estimated.metrics.select("virtjoule_source_energy_joules_total", source="rapl")
    assert all(estimated.trees[uuid] >= value for uuid, value in measured.trees.items())
    daemon.kill()
    daemon.start()
    again = Seen(daemon, vms)
    again.assert_not_below(estimated)
    assert "was reset" not in daemon.log()
    assert daemon.stop() == 0
    daemon.configure(settings)
    daemon.start()
    back = Seen(daemon, vms)
    back.assert_not_below(measured)
    assert all(back.trees[uuid] >= value for uuid, value in again.trees.items())
