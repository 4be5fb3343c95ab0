# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of what the daemon stands on: sources, mounts, directories, its log, descriptors, memory.

docs/failures.md lists all faults that are tested, here and elsewhere. What holds
in each: the daemon lives or ends in order, measured energy is divided without
rest, no counter that a guest sees falls.
"""

import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress

import pytest

from harness import system
from harness.accounts import look_at_energy
from harness.audit import Audit
from harness.daemon import FAST, Daemon, DescriptorStore
from harness.faults import HANG, CutConnection, FaultAlloc, FaultFs
from harness.guest import Guest
from harness.margins import CUT_J
from harness.powercap import Package, SimulatedPowercap

pytestmark = pytest.mark.slow

INTERVAL_S = 0.2
PACKAGE = Package(cpus=tuple(range(os.cpu_count())))


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    return stack.enter_context(SimulatedPowercap(directory / "sys", [PACKAGE]))


@pytest.fixture
def settings(host):
    return {"daemon": FAST, "rapl": {"sysfs_root": host.root},
            "baseline": {"package-0": f"{PACKAGE.static_watts}W"},
            "attribution": {"static_policy": "equal"}}


@pytest.fixture
def daemon(settings, start_daemon):
    return start_daemon(settings)


@pytest.fixture
def vm(start_vm):
    return start_vm(duty=10)


def energy_uj(daemon, vm):
    return int((daemon.tree(vm.uuid) / "energy_uj").read_text())


def wait_energy(daemon, vm):
    daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid, "static_") > 0, what="energy")


def measured(daemon):
    return daemon.metrics().sum("virtjoule_source_energy_joules_total")


def assert_all_measured(daemon, host, before):
    """Since that look."""
    before.growth(look_at_energy(daemon, host)).check(CUT_J)


def assert_goes_on(daemon, vm):
    """It measures, divides without rest, and the guest's counter runs."""
    before, seen = measured(daemon), energy_uj(daemon, vm)
    metrics = daemon.wait_ticks(3)
    assert metrics.sum("virtjoule_source_energy_joules_total") > before
    assert metrics.balance("package-0") == 0
    assert energy_uj(daemon, vm) > seen


def missed(daemon):
    return int(daemon.metrics().value("virtjoule_ticks_missed_total"))


# The energy source.


@pytest.fixture
def fault_sys(directory, stack, host):
    """The simulated host's sysfs, seen through a file system that fails on demand."""
    fs = FaultFs(directory, "fault-sys")
    shutil.rmtree(fs.backing)
    fs.backing.symlink_to(host.root)
    return stack.enter_context(fs)


@pytest.mark.parametrize("number", [errno.EIO, errno.EAGAIN, errno.ENODATA, errno.EACCES],
                         ids=lambda number: errno.errorcode[number])
def test_energy_file_fails(settings, start_daemon, fault_sys, host, vm, number):
    settings["rapl"] = {"sysfs_root": fault_sys.path}
    daemon = start_daemon(settings)
    wait_energy(daemon, vm)
    before = look_at_energy(daemon, host)
    with Audit(daemon) as audit:
        audit.watch_tree(vm.uuid)
        fault_sys.fault("read", "energy_uj", number)
        daemon.wait_log("energy zone unreadable")
        assert os.strerror(number) in daemon.log()
        frozen = daemon.wait_ticks(2).sum("virtjoule_source_energy_joules_total")
        assert daemon.wait_ticks(3).sum("virtjoule_source_energy_joules_total") == frozen
        assert daemon.log().count("energy zone unreadable") == 1
        fault_sys.heal()
        daemon.wait_log("energy zone readable again")
        # Nothing was lost: the counter went on.
        assert_all_measured(daemon, host, before)
        assert_goes_on(daemon, vm)


def set_energy(host, microjoules):
    host.spoil(0, b"%010d\n" % microjoules)


@pytest.mark.parametrize("watts", [6000, 65535], ids=lambda watts: f"{watts}W")
def test_more_power_than_physics(host, daemon, vm, watts):
    """A counter that jumps was reset: its energy is nobody's."""
    wait_energy(daemon, vm)
    before = measured(daemon)
    with Audit(daemon) as audit:
        audit.watch_tree(vm.uuid)
        set_energy(host, (host.total_uj(0) + 2 * watts * 200_000) % PACKAGE.max_energy_uj)
        daemon.wait_log("energy counter was reset")
        metrics = daemon.wait_ticks(2)
        assert float(metrics.sum("virtjoule_source_energy_joules_total") - before) < 5000
        host.repair(0)
        daemon.wait_ticks(2)
        assert_goes_on(daemon, vm)


def test_counter_stands_still(host, daemon, vm):
    wait_energy(daemon, vm)
    set_energy(host, host.total_uj(0))
    with Audit(daemon) as audit:
        audit.watch_tree(vm.uuid)
        before = daemon.wait_ticks(2)
        after = daemon.wait_ticks(4)
        for name in ("source", "vm", "host"):
            name = f"virtjoule_{name}_energy_joules_total"
            assert before.sum(name) == after.sum(name)


def test_range_shrinks(host, daemon, vm):
    """A counter above what its zone said is its maximum is no energy."""
    wait_energy(daemon, vm)
    host.spoil(0, b"%d\n" % (PACKAGE.max_energy_uj + 1))
    daemon.wait_log("energy zone unreadable")
    assert os.strerror(errno.ERANGE) in daemon.log()
    assert daemon.wait_ticks(2).balance("package-0") == 0
    host.repair(0)
    assert_goes_on(daemon, vm)


# The mount.


def umount(daemon, *options):
    subprocess.run(["umount", *options, daemon.mountpoint], check=True)


@pytest.fixture
def kept(directory, settings, stack, vm):
    """With a service manager that keeps descriptors; started."""
    made = Daemon(directory, settings, DescriptorStore())
    stack.callback(lambda: print(made.log()))
    stack.enter_context(made)
    wait_energy(made, vm)
    return made


def remove_mountpoint(daemon):
    daemon.mountpoint.rmdir()


@pytest.mark.parametrize("then", [lambda daemon: None, remove_mountpoint],
                         ids=["stays", "directory-removed"])
@pytest.mark.parametrize("options", [[], ["-l"]], ids=["umount", "lazy"])
def test_unmounted_by_hand(kept, vm, stack, options, then):
    """A guest's virtiofsd holds its directory: it reads on, and the mount is put back."""
    if options:
        held = os.open(kept.mountpoint / vm.uuid, os.O_PATH)
        stack.callback(os.close, held)
    # Without -l nobody holds the directory, as with a guest that is off: umount would be refused.
    umount(kept, *options)
    then(kept)
    if options:
        held_tree = f"/proc/self/fd/{held}/class/powercap/intel-rapl:0/energy_uj"
        with open(held_tree) as file:
            before = int(file.read())
        kept.wait_log("is put back")
        time.sleep(3 * INTERVAL_S)
        with open(held_tree) as file:
            assert int(file.read()) > before
    kept.wait_log("is put back")
    assert system.mounts_below(kept.mountpoint) == [str(kept.mountpoint)]
    assert_goes_on(kept, vm)
    # It is the same file system: the next daemon continues it.
    kept.kill()
    kept.start()
    assert "the former daemon's mount is continued" in kept.log()
    assert_goes_on(kept, vm)


def test_unmounted_by_force(kept, vm):
    """The connection is cut, which nothing can mend; what is mounted anew serves new VMs."""
    before = energy_uj(kept, vm)
    umount(kept, "-f")
    kept.wait_log("the mount is a new one")
    assert energy_uj(kept, vm) >= before
    assert_goes_on(kept, vm)
    assert [name for name, _ in kept.store.descriptors].count("powercapfs") == 3
    kept.kill()
    kept.start()
    assert "the former daemon's mount is continued" in kept.log()
    assert_goes_on(kept, vm)


def test_mounted_over(daemon, vm):
    """What somebody mounted there is his: it is told, and ours is put back when it has gone."""
    wait_energy(daemon, vm)
    umount(daemon)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", daemon.mountpoint], check=True)
    daemon.wait_log("cannot be put back yet")
    assert "mount point is in use" in daemon.log()
    umount(daemon)
    daemon.wait_log("is put back")
    assert_goes_on(daemon, vm)


def in_mount_namespace(directory, settings, script):
    """A daemon before which a shell changes what is mounted, for that daemon alone."""
    return Daemon(directory, settings,
                  wrapper=["unshare", "-m", "sh", "-ec", f'{script}; exec "$@"', "sh"])


def test_no_fuse_device(directory, settings, stack):
    daemon = in_mount_namespace(directory, settings, "mount --bind /dev/null /dev/fuse")
    stack.callback(daemon.kill)
    daemon.launch()
    assert daemon.wait_exit() == 1
    assert "cannot mount the powercap trees" in daemon.log()
    assert not system.mounts_below(daemon.mountpoint)


def mount_tmpfs(path, size="256k", **options):
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)


def remount(path, how):
    subprocess.run(["mount", "-o", f"remount,{how}", path], check=True)


def test_mountpoint_on_read_only_file_system(directory, settings, unstarted):
    mount_tmpfs(directory / "read-only")
    remount(directory / "read-only", "ro")
    mountpoint = directory / "read-only/vms"
    unstarted.configure({**settings, "powercapfs": {"mountpoint": mountpoint}})
    unstarted.launch()
    assert unstarted.wait_exit() == 1
    assert str(mountpoint) in unstarted.log()
    assert os.strerror(errno.EROFS) in unstarted.log()


# The directories of the ledger.


def remove_directory(path):
    shutil.rmtree(path)


def replace_directory(path):
    path.rename(path.with_suffix(".old"))
    path.mkdir()


def remove_ledger(path):
    (path / "ledger").unlink()


def empty_ledger(path):
    os.truncate(path / "ledger", 0)


def directory_for_ledger(path):
    (path / "ledger").unlink(missing_ok=True)
    (path / "ledger").mkdir()


@pytest.mark.parametrize("which", ["runtime_dir", "state_dir"])
@pytest.mark.parametrize("change", [remove_directory, replace_directory, remove_ledger,
                                    empty_ledger], ids=lambda change: change.__name__)
def test_directory_changes_while_running(unstarted, vm, which, change):
    """The totals are in memory; what is gone is made again, before or at the end."""
    unstarted.start()
    wait_energy(unstarted, vm)
    change(getattr(unstarted, which))
    assert_goes_on(unstarted, vm)
    before, seen = measured(unstarted), energy_uj(unstarted, vm)
    if which == "runtime_dir":
        unstarted.wait_ticks(6)
        unstarted.kill()
    else:
        assert unstarted.stop() == 0
    unstarted.start()
    assert measured(unstarted) >= before
    assert energy_uj(unstarted, vm) >= seen


def test_directory_in_the_ledgers_place(unstarted, vm):
    """Set aside, like any file that is no ledger."""
    for path in (unstarted.runtime_dir, unstarted.state_dir):
        path.mkdir()
        directory_for_ledger(path)
    unstarted.start()
    wait_energy(unstarted, vm)
    assert unstarted.log().count("set aside") == 2
    assert_goes_on(unstarted, vm)


def test_state_directory_of_one_page(unstarted, vm):
    mount_tmpfs(unstarted.state_dir, size="4k")
    (unstarted.state_dir / "filler").write_bytes(bytes(4096))
    unstarted.start()
    wait_energy(unstarted, vm)
    unstarted.wait_log("the ledger cannot be written")
    assert os.strerror(errno.ENOSPC) in unstarted.log()
    assert_goes_on(unstarted, vm)
    (unstarted.state_dir / "filler").unlink()
    unstarted.wait_log("the ledger is written again")


def test_state_directory_becomes_read_only(unstarted, vm):
    mount_tmpfs(unstarted.state_dir)
    unstarted.start()
    wait_energy(unstarted, vm)
    remount(unstarted.state_dir, "ro")
    assert_goes_on(unstarted, vm)
    assert unstarted.stop() == 0
    assert "the ledger cannot be written" in unstarted.log()


@pytest.fixture
def fault_state(directory, stack):
    return stack.enter_context(FaultFs(directory, "fault-state"))


@pytest.mark.parametrize("operation", ["create", "write", "fsync", "rename"])
def test_disk_fails(settings, start_daemon, fault_state, vm, operation):
    fault_state.fault(operation, "ledger" if operation == "rename" else "ledger.new", errno.EIO)
    daemon = start_daemon({**settings, "daemon": {**FAST, "state_dir": fault_state.path}})
    wait_energy(daemon, vm)
    daemon.wait_log("the ledger cannot be written")
    assert os.strerror(errno.EIO) in daemon.log()
    assert_goes_on(daemon, vm)
    fault_state.heal()
    daemon.wait_log("the ledger is written again")


def test_disk_hangs(settings, start_daemon, fault_state, vm):
    """Neither ticks nor readers nor the end wait for it."""
    fault_state.fault("fsync", "ledger.new", HANG)
    daemon = start_daemon({**settings, "daemon": {**FAST, "state_dir": fault_state.path}})
    wait_energy(daemon, vm)
    daemon.wait_log("the ledger cannot be written")
    assert os.strerror(errno.ETIMEDOUT) in daemon.log()
    assert_goes_on(daemon, vm)  # while it hangs
    assert missed(daemon) <= 1  # by the machine
    fault_state.heal()
    daemon.wait_log("the ledger is written again")
    fault_state.fault("fsync", "ledger.new", HANG)
    daemon.process.terminate()
    daemon.wait_log("after a reboot totals continue from an older one")
    assert not system.mounts_below(daemon.mountpoint)
    # The kernel keeps what is left of the process until the disk has answered.
    fault_state.heal()
    assert daemon.wait_exit() == 0


# The process: its log, signals, time.


def test_log_is_not_read(directory, settings, stack, vm):
    """A full pipe: lines are lost, and how many is told when it is read again."""
    log = directory / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    stack.callback(os.close, reader)
    writer = os.open(log, os.O_WRONLY | os.O_NONBLOCK)
    stack.callback(os.close, writer)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    daemon = Daemon(directory, settings, wrapper=["sh", "-c", f'exec "$@" 2>{log}', "sh"])
    stack.enter_context(daemon)
    wait_energy(daemon, vm)
    assert_goes_on(daemon, vm)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_ticks()
    with suppress(BlockingIOError):
        while os.read(reader, 65536):
            pass
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_ticks()
    text = os.read(reader, 65536).decode()
    assert "lines of the log were lost, its reader did not take them lines=" in text
    assert "SIGHUP has no effect" in text


def test_log_reader_dies(directory, settings, stack, vm):
    daemon = Daemon(directory, settings,
                    wrapper=["bash", "-c", 'exec "$@" 2> >(sleep 0.01)', "bash"])
    stack.enter_context(daemon)
    wait_energy(daemon, vm)
    daemon.process.send_signal(signal.SIGHUP)
    assert_goes_on(daemon, vm)


def test_no_standard_descriptors(directory, settings, stack, vm):
    """No log line goes into a file that happened to get the number."""
    daemon = Daemon(directory, settings, wrapper=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    stack.enter_context(daemon)
    wait_energy(daemon, vm)
    daemon.process.send_signal(signal.SIGHUP)
    for number in range(3):
        assert os.readlink(f"/proc/{daemon.process.pid}/fd/{number}") == "/dev/null"
    assert_goes_on(daemon, vm)


def test_configuration_replaced_while_running(daemon, vm):
    wait_energy(daemon, vm)
    daemon.write_config("[daemon]\ninterval = never\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_log("SIGHUP has no effect")
    assert_goes_on(daemon, vm)


def test_stopped_for_a_while(host, daemon, vm):
    """SIGSTOP, a debugger, a host that swaps: ticks are missed, energy is not."""
    wait_energy(daemon, vm)
    before = look_at_energy(daemon, host)
    with Audit(daemon) as audit:
        audit.watch_tree(vm.uuid)
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        daemon.process.send_signal(signal.SIGCONT)
        daemon.wait_log("ticks were missed")
        daemon.wait_ticks(2)
    assert missed(daemon) >= 8
    assert_all_measured(daemon, host, before)
    assert_goes_on(daemon, vm)


# Peers.


def control_path(daemon):
    return str(daemon.runtime_dir / "control.sock")


def connect(daemon):
    client = socket.socket(socket.AF_UNIX)
    client.connect(control_path(daemon))
    return client


CONTROL_GARBAGE = {
    "nothing": b"",
    "newline": b"\n",
    "binary": bytes(range(256)) * 8 + b"\n",
    "endless": b"x" * 100_000,
    "nested": b"[" * 4000 + b"\n",
    "unknown": b'{"command": "destroy"}\n',
}


@pytest.mark.parametrize("request_", CONTROL_GARBAGE.values(), ids=CONTROL_GARBAGE)
def test_control_garbage(daemon, vm, request_):
    wait_energy(daemon, vm)
    with connect(daemon) as client, suppress(OSError):
        client.sendall(request_)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(2)
        client.recv(65536)
    assert daemon.cli("list")["vms"]
    assert_goes_on(daemon, vm)


def test_thousand_control_connections(daemon, vm, stack):
    """Held open, saying nothing: they cost nobody a tick, and are closed after five seconds."""
    wait_energy(daemon, vm)
    before = missed(daemon)
    for _ in range(1000):
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        with suppress(OSError):  # the queue is full: not this one
            client.connect(control_path(daemon))
    assert_goes_on(daemon, vm)
    assert missed(daemon) <= before + 1
    assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) < 200
    system.wait_until(lambda: try_list(daemon), "the command is answered again")


def try_list(daemon):
    with suppress(RuntimeError, subprocess.TimeoutExpired):
        return daemon.cli("list")["vms"]


def test_control_peer_that_never_reads(daemon, vm, stack):
    wait_energy(daemon, vm)
    clients = [stack.enter_context(connect(daemon)) for _ in range(10)]
    for client in clients:
        client.sendall(b'{"command": "list"}\n')
    assert_goes_on(daemon, vm)
    assert daemon.cli("list")["vms"]


def test_thousand_exporter_connections(daemon, vm, stack):
    """Held, and never read or fed slowly: the next scrape is answered all the same."""
    wait_energy(daemon, vm)
    before = missed(daemon)
    for number in range(1000):
        client = stack.enter_context(socket.socket())
        client.settimeout(2)
        with suppress(OSError):
            client.connect(("127.0.0.1", daemon.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" if number % 2 else b"G")
    assert_goes_on(daemon, vm)
    assert missed(daemon) <= before + 1
    assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) < 200


# libvirt.


@pytest.fixture
def connection(directory, stack):
    return stack.enter_context(CutConnection(directory))


@pytest.fixture
def defined(directory, stack, libvirtd):
    """define(daemon): a domain that is off."""

    def define(daemon):
        guest = Guest(libvirtd, directory, mountpoint=daemon.mountpoint)
        stack.callback(guest.__exit__)
        guest.define()
        return guest

    return define


HANDSHAKE = 100  # bytes at least, of some hundreds in all


@pytest.mark.parametrize("n_bytes", [0, 40, 150, 400])
def test_libvirtd_dies_while_listing(settings, start_daemon, connection, defined, n_bytes):
    """What was known before stays; what is there is found at the next try."""
    connection.bytes_left = n_bytes
    daemon = start_daemon({**settings, "discovery": {"libvirt_uri": connection.uri}})
    guest = defined(daemon)
    share = daemon.mountpoint / guest.uuid
    # In the handshake it takes the other way at once: the read-only connection.
    if n_bytes > HANDSHAKE:
        daemon.wait_log("libvirt unavailable")
    system.wait_until(share.exists, "the domain is found")
    assert connection.n_cut == 1
    assert missed(daemon) <= 1
    # Again, in an event, with the domain known.
    connection.bytes_left = n_bytes // 4
    other = defined(daemon)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert share.exists()
        time.sleep(0.02)
    system.wait_until((daemon.mountpoint / other.uuid).exists, "the other one is found")
    assert connection.n_cut == 2


def test_libvirtd_hangs(settings, start_daemon, connection, defined, vm):
    """Ticks and readers wait for none of it; when it goes on nothing was missed."""
    daemon = start_daemon({**settings, "discovery": {"libvirt_uri": connection.uri}})
    guest = defined(daemon)
    system.wait_until((daemon.mountpoint / guest.uuid).exists, "the domain is found")
    wait_energy(daemon, vm)
    before = missed(daemon)
    connection.stalled = True
    other = defined(daemon)
    with Audit(daemon) as audit:
        audit.watch_tree(vm.uuid)
        daemon.wait_ticks(20)
        assert (daemon.mountpoint / guest.uuid).exists()
        assert_goes_on(daemon, vm)
    assert missed(daemon) <= before + 2  # by the machine
    connection.stalled = False
    system.wait_until((daemon.mountpoint / other.uuid).exists, "the other one is found")


# Descriptors and memory.


def test_few_descriptors_from_the_start(directory, settings, stack):
    """With so many it ends in order, with more it works; never anything else."""
    works = []
    for limit in (3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 128):
        daemon = Daemon(directory, settings, wrapper=["prlimit", f"--nofile={limit}:{limit}"])
        with ExitStack() as cleanup:
            cleanup.callback(daemon.kill)
            daemon.launch()
            works.append(has_started(daemon))
            status = daemon.stop()
            assert status == (0 if works[-1] else status)
            assert status in (0, 1, 69, 127), daemon.log()
            assert not system.mounts_below(daemon.mountpoint), limit
        daemon._log.unlink(missing_ok=True)
    assert works == sorted(works) and works[-1] and not works[0]


def has_started(daemon):
    """Waits until it is ready, or has ended."""
    return system.wait_until(
        lambda: "no" if daemon.process.poll() is not None else
        "yes" if "READY=1" in daemon._notify.messages else None, "it starts or ends") == "yes"


def set_descriptors(daemon, limit):
    """The soft limit; None: as high as may be."""
    highest = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (limit or highest, highest))


def test_out_of_descriptors_while_running(daemon, vm, start_vm):
    """No VM seems to have gone because the daemon cannot look; later all is counted."""
    wait_energy(daemon, vm)
    before = energy_uj(daemon, vm)
    used = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    set_descriptors(daemon, 4)
    later = start_vm(duty=10)
    ticks_start = cpu_ticks(daemon)
    start = time.monotonic()
    with connect(daemon):  # that cannot be accepted
        while time.monotonic() < start + 2:
            seen = energy_uj(daemon, vm)
            assert seen >= before
            before = seen
            time.sleep(0.05)
    assert cpu_ticks(daemon) - ticks_start < 0.5 * 100, "it spins"
    set_descriptors(daemon, None)
    wait_energy(daemon, later)
    assert_goes_on(daemon, vm)
    assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) < used + 20


def cpu_ticks(daemon):
    """Of the thread that ticks, in 1/100 s."""
    with open(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/stat") as stat:
        words = stat.read().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])


@pytest.fixture
def memory(directory, stack):
    return stack.enter_context(FaultAlloc(directory))


def test_no_memory_at_each_allocation_of_a_start(directory, settings, stack, vm, memory):
    """It ends with an error, or goes on; it never crashes nor leaves a mount behind."""
    settings["usage"] = {"provider": "procfs"}
    settings["exporter"] = {"listen": "127.0.0.1:0"}
    daemon = Daemon(directory, settings, wrapper=memory.wrapper)
    stack.callback(lambda: print(daemon.log()))
    stack.callback(daemon.__exit__, None)
    daemon.start()
    n_start = memory.n
    assert daemon.stop() == 0
    assert n_start > 50
    outcomes = []
    for number in range(1, n_start + 1):
        memory.fail(at=number)
        daemon.launch()
        outcomes.append(has_started(daemon))
        status = daemon.stop()
        assert status in ((0,) if outcomes[-1] else (1, 69, 78)), (number, status)
        assert outcomes[-1] or "error: " in daemon.log().splitlines()[-1], number
        assert memory.n_failed == 1, number
        assert not system.mounts_below(daemon.mountpoint), number
    print(f"{n_start} allocations, {sum(outcomes)} of them spared")
    assert not all(outcomes)


@pytest.mark.parametrize("one_in", [3, 20])
def test_no_memory_while_running(directory, settings, stack, start_vm, vm, memory, one_in):
    """Ticks fail, scrapes too; once there is memory all energy has been divided."""
    daemon = Daemon(directory, settings, wrapper=memory.wrapper)
    stack.callback(lambda: print(daemon.log()))
    stack.enter_context(daemon)
    wait_energy(daemon, vm)
    memory.fail(one_in=one_in)
    seen = energy_uj(daemon, vm)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        start_vm(name="short", duty=50).kill()
        with suppress(Exception):
            daemon.metrics()
        with suppress(Exception):
            daemon.cli("list")
        with suppress(OSError):
            last, seen = seen, energy_uj(daemon, vm)
            assert seen >= last
    assert memory.n_failed > 20
    memory.fail()
    daemon.wait_log("intervals are recorded again")
    assert energy_uj(daemon, vm) >= seen
    assert_goes_on(daemon, vm)
    with Audit(daemon) as audit:
        audit.watch_tree(vm.uuid)
        time.sleep(1)
