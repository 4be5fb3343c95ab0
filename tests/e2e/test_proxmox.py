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
        assert list(vm.run_directory.iterdir()) == [vm.run_directory / "empty"]
        vm.start()


def test_starts_without_a_share(daemon, make_vm):
    """No UUID in the configuration: the VM starts, and its share is empty."""
    vm = make_vm(smbios="manufacturer=x")
    assert vm.check(f"ls -A {vm.SHARE}") == ""
    vm.stop()
    daemon.stop()
    assert "without its energy share" in vm.phase("pre-start")
    vm.start_qemu()


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


def test_pid_of_another_process(make_vm):
    """The file is from before a reboot, say: no process is ended by its number alone."""
    vm = make_vm()
    vm.stop()
    # Its command line names the socket, as virtiofsd's does.
    socket = f"{vm.run_directory}/{vm.vmid}.sock"
    other = system.start_child(["sh", "-c", "sleep 900; :", "sh", socket])
    try:
        for text in (f"{other.pid}", f"{other.pid} 1", f"{other.pid} ", "0 0", "-1 1", "x", ""):
            (vm.run_directory / f"{vm.vmid}.pid").write_text(text)
            vm.phase("post-stop")
            assert other.poll() is None, text
    finally:
        system.stop_child(other)


def test_directory_of_root(make_vm):
    """No other user can put anything into it."""
    status = make_vm().run_directory.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o700)
