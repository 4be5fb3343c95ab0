# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs leave and come back, or arrive from another host: their counters go on, never backwards.

Real live migrations between two libvirtds, each with a virtjouled of its own.
"""

import os
import re
import shutil
import time
import uuid

import libvirt
import pytest

from harness import system
from harness.audit import Audit, check_division
from harness.guest import Guest
from harness.migration_host import URI, MigrationHost
from harness.powercap import Package, SimulatedPowercap

pytestmark = pytest.mark.slow

INTERVAL_S = 0.2


@pytest.fixture
def start_host(directory, stack):
    """start_host(name): both measure the one machine there is, each by a counter of its own."""

    def start(name):
        (directory / name / "sys").mkdir(parents=True)
        package = Package(cpus=tuple(range(os.cpu_count())))
        powercap = stack.enter_context(SimulatedPowercap(directory / name / "sys", [package]))
        host = MigrationHost(directory, name, {
            "rapl": {"sysfs_root": powercap.root},
            "baseline": {"package-0": f"{package.static_watts}W"}})
        stack.callback(lambda: print(f"{name}:\n{host.daemon.log() if host.daemon else ''}"))
        return stack.enter_context(host)

    return start


@pytest.fixture
def start_guest(directory, stack):
    """start_guest(host): QEMU 7.2 does not migrate virtiofs, so it has no share."""
    return lambda host: stack.enter_context(Guest(host, directory, mountpoint=None))


class Watch(Audit):
    """Of one VM's tree on a host: it never falls."""

    def __init__(self, host, vm):
        super().__init__(host.daemon)
        self.last = 0
        self._host, self._vm = host, vm

    def look(self):
        value = self._host.tree_uj(self._vm)
        self.scrapes += 1
        if value is not None:
            assert value >= self.last, f"{self.last} uJ, then {value} uJ"
            self.last = value


def carried(host, guest):
    """Total and bound in the domain's metadata, if they are good."""
    metadata = host.metadata(guest.uuid) or {}
    numbers = re.fullmatch(r"(\d{1,15}) (\d{1,15})", metadata.get("package", ""))
    if not numbers or metadata["uuid"] != guest.uuid:
        return None
    return int(numbers[1]), int(numbers[2])


def wait_carried(host, guest):
    return system.wait_until(lambda: carried(host, guest), "the domain carries energy")


def wait_written(host, guest):
    """Until it is written, or written anew."""
    before = carried(host, guest)
    return system.wait_until(lambda: carried(host, guest) != before and carried(host, guest),
                             "the metadata is written", interval=0.2)


def wait_energy(host, guest, more_uj):
    least = (host.tree_uj(guest.uuid) or 0) + more_uj
    system.wait_until(lambda: (host.tree_uj(guest.uuid) or 0) >= least, f"{more_uj} uJ more")


def vm_uj(host, guest):
    """What the host's own ledger has of it."""
    metrics = host.daemon.metrics()
    check_division(metrics)
    return int(metrics.vm_energy(guest.uuid) * 10**6)


def migrate(guest, source, destination):
    """Returns what the source showed at last, never less than before."""
    with Watch(source, guest.uuid) as watch:
        source.migrate(guest.uuid, destination)
        time.sleep(2 * INTERVAL_S)
    check_division(source.daemon.metrics())
    shown = destination.tree_uj(guest.uuid)
    print(f"source showed {watch.last} uJ, destination {shown} uJ")
    assert watch.last <= shown
    return shown


def test_live_migration_there_and_back(start_host, start_guest):
    east, west = start_host("east"), start_host("west")
    guest = start_guest(east)
    guest.start_load()
    wait_carried(east, guest)
    wait_written(east, guest)
    written_by = east.metadata(guest.uuid)["machine"]
    migrate(guest, east, west)
    system.wait_until(lambda: west.metadata(guest.uuid)["machine"] != written_by,
                      "west has written it as its own")
    shown = migrate(guest, west, east)
    with Watch(east, guest.uuid) as watch:
        # It stands where it is until that has been used, then goes on.
        system.wait_until(lambda: watch.last > shown + 10**6, "the counter goes on")
    print(f"used {vm_uj(east, guest)} and {vm_uj(west, guest)} uJ, shown {watch.last} uJ")
    # Once it goes on, no more is shown than was used on both.
    assert watch.last <= vm_uj(east, guest) + vm_uj(west, guest)


def lose_state(host):
    """Its daemon starts anew, knowing nothing."""
    host.daemon.stop()
    for path in (host.daemon.runtime_dir, host.daemon.state_dir):
        shutil.rmtree(path)
    host.start_daemon()


def test_restored_after_the_state_was_lost(start_host, start_guest):
    host = start_host("east")
    guest = start_guest(host)
    guest.start_load()
    wait_carried(host, guest)
    wait_energy(host, guest, 10**9)
    with Watch(host, guest.uuid) as watch:
        guest.save()
        time.sleep(2 * INTERVAL_S)
    lose_state(host)
    guest.start()
    system.wait_until(lambda: host.tree_uj(guest.uuid) >= watch.last, "the counter continues")
    assert "a VM continues its counter" in host.daemon.log()
    used = vm_uj(host, guest)
    with Watch(host, guest.uuid):
        time.sleep(10 * INTERVAL_S)
    assert vm_uj(host, guest) > used  # it goes on, though nothing of before is known


def test_metadata_that_is_not_to_be_used(start_host, start_guest):
    """Of a domain whose XML was copied; broken; beyond all measure."""
    host = start_host("east")
    guest = start_guest(host)
    wait_carried(host, guest)
    host.daemon.stop()
    head = f"version='1' uuid='{guest.uuid}'"
    for element, told in ((f"<energy {head} package='{2**63} {2**63}'/>", "more energy than"),
                          (f"<energy {head} package='12 x'/>", "not of the form"),
                          (f"<energy version='1' uuid='{uuid.uuid4()}' "
                           f"package='{10**15} {10**15}'/>", "")):
        guest.domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, "virtjoule", URI,
                                 libvirt.VIR_DOMAIN_AFFECT_LIVE)
        before = len(host.daemon.log())
        host.start_daemon()
        wait_carried(host, guest)  # good ones: written anew
        assert host.tree_uj(guest.uuid) < 10**12
        log = host.daemon.log()[before:]
        assert told in log and ("cannot be used" in log) == bool(told), log
        host.daemon.stop()
    host.start_daemon()
