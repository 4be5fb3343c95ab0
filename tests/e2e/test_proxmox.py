# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Proxmox hookscript through all its phases, with real virtiofsd and QEMU."""

import pytest

from harness import system
from harness.proxmox import ProxmoxVm
from harness.system import wait_until

pytestmark = pytest.mark.slow

SETTINGS = {"source": {"energy": "estimate"}}


@pytest.fixture
def daemon(start_daemon):
    return start_daemon(SETTINGS)


@pytest.fixture
def make_vm(daemon, directory, stack):
    if not (system.BUILD / "guest/stamp").exists():
        pytest.skip("no guest image: run tests/guest/build-guest.sh build/guest")
    return lambda **options: stack.enter_context(ProxmoxVm(daemon, directory, **options))


def test_all_phases(daemon, make_vm):
    """The guest reads its energy, its virtiofsd is its own and ends with it, twice."""
    vm = make_vm()
    for _ in range(2):
        first = vm.energy_uj()
        wait_until(lambda: vm.energy_uj() > first, "the guest's counter goes on")
        daemon.wait_ticks()
        shown = daemon.cli("show", vm.uuid)
        assert (shown["name"], shown["running"]) == ("web01", True)
        assert shown["tree_reads"] > 0
        assert vm.virtiofsd
        vm.stop()
        assert not vm.virtiofsd
        assert list(vm.run_directory.iterdir()) == []
        vm.start()


def test_starts_without_a_share(daemon, make_vm):
    """No UUID in the configuration: the VM starts, and its share is empty. The guest cannot write
    to it."""
    vm = make_vm(smbios="manufacturer=x")
    assert vm.check(f"ls -A {vm.SHARE}") == ""
    assert "Read-only" in vm.check(f"! touch {vm.SHARE}/x")


def test_starts_without_a_daemon(daemon, make_vm):
    """The guest has its counter when there is a daemon again."""
    vm = make_vm()
    vm.stop()
    daemon.stop()
    assert "without its energy share" in vm.phase("pre-start")
    vm.start_qemu()
    vm.connect()
    assert vm.check(f"ls -A {vm.SHARE}/class") == ""
    daemon.start()

    def counter():
        vm.phase("post-start")
        answer = vm.run(f"cat {vm.SHARE}/class/powercap/intel-rapl:0/energy_uj")
        return int(answer.output) if answer.status == 0 else 0

    wait_until(counter, "the guest's counter is there")


def test_start_that_comes_to_nothing(make_vm):
    """A virtiofsd whose QEMU never came is replaced, and ended by post-stop."""
    vm = make_vm()
    vm.stop()
    vm.phase("pre-start")
    former = vm.virtiofsd
    vm.phase("pre-start")
    assert vm.virtiofsd not in (None, former)
    vm.phase("post-stop")
    assert not vm.virtiofsd
    vm.phase("no-such-phase")
    vm.phase("post-stop")
