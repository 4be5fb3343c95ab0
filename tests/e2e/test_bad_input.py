# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes wrong on real hosts: a clear message names the thing, the daemon goes on where
it can and ends with the right status where it cannot, and no counter jumps."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid as uuids
from contextlib import suppress
from pathlib import Path

import pytest

from harness import libvirtd as libvirt
from harness import system
from harness.accounts import cpu_seconds
from harness.daemon import FAST, Daemon
from harness.guest import Guest
from harness.margins import CPU_S, ENERGY, ENERGY_SHORT
from harness.powercap import Package, SimulatedPowercap

EX_UNAVAILABLE, EX_CONFIG = 69, 78
# CPU 0 on the first package, the others on the second.
CPUS = ((0,), tuple(range(1, os.cpu_count())))


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    return stack.enter_context(
        SimulatedPowercap(directory / "sys", [Package(cpus=cpus) for cpus in CPUS]))


@pytest.fixture
def settings(host):
    return {"daemon": FAST, "rapl": {"sysfs_root": host.root},
            "baseline": {f"package-{i}": f"{package.static_watts}W"
                         for i, package in enumerate(host.packages)}}


@pytest.fixture
def unstarted(directory, settings, stack):
    """A daemon that is to fail, or to be started by the test."""
    daemon = Daemon(directory, settings)
    stack.callback(daemon.__exit__, None)
    return daemon


def source_joules(daemon, zone):
    return daemon.metrics().sum("virtjoule_source_energy_joules_total", zone=zone)


def assert_grows(daemon, zone):
    before = source_joules(daemon, zone)
    metrics = daemon.wait_metrics(
        lambda m: m.sum("virtjoule_source_energy_joules_total", zone=zone) > before,
        what=f"{zone} counts")
    assert metrics.balance(zone) == 0


def wait_energy(daemon, vm):
    """Waits until a VM has been given energy."""
    return daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid) > 0, what=f"energy of {vm.name!r}")


# Energy sources.


def test_sysfs_root_missing(unstarted, directory):
    missing = directory / "not-there"
    unstarted.configure({"source": {"energy": "rapl"}, "rapl": {"sysfs_root": missing}})
    unstarted.launch()
    assert unstarted.wait_exit() == EX_UNAVAILABLE
    assert str(missing) in unstarted.log()


def test_sysfs_root_missing_estimates(unstarted, directory):
    missing = directory / "not-there"
    unstarted.configure({"daemon": FAST, "rapl": {"sysfs_root": missing}})
    unstarted.start()
    assert unstarted.log().count("ESTIMATE") == 1
    assert str(missing) in unstarted.log()
    assert_grows(unstarted, "package-0")
    assert unstarted.metrics().select("virtjoule_source_energy_joules_total", source="estimate")


@pytest.mark.parametrize("text", [b"", b"\n", b"junk\n", b"12 34\n", b"-5\n", b"9" * 30 + b"\n"])
def test_energy_garbage_from_the_start(host, settings, start_daemon, text):
    host.spoil(0, text)
    daemon = start_daemon(settings)
    assert_grows(daemon, "package-1")
    assert "intel-rapl:0" in daemon.log()
    host.repair(0)
    assert_grows(daemon, "package-0")
    # What was used before the first good reading is nobody's.
    assert float(source_joules(daemon, "package-0")) < host.total_uj(0) / 1e6


@pytest.mark.parametrize("text", [b"", b"garbage\n"])
def test_energy_garbage_while_running(host, settings, start_daemon, start_vm, text):
    daemon = start_daemon(settings)
    vm = start_vm(duty=50, cpu=0)
    wait_energy(daemon, vm)
    host.spoil(0, text)
    daemon.wait_log("package-0")
    daemon.wait_ticks(2)
    frozen = source_joules(daemon, "package-0")
    daemon.wait_ticks(5)
    assert source_joules(daemon, "package-0") == frozen
    assert daemon.log().count("unreadable") == 1
    assert_grows(daemon, "package-1")
    host.repair(0)
    assert_grows(daemon, "package-0")
    metrics = daemon.wait_ticks(2)
    assert metrics.balance("package-0") == 0
    assert float(metrics.vm_energy(vm.uuid)) < host.total_uj(0) / 1e6


def test_max_energy_range_zero(host, settings, start_daemon):
    (host.zone(0) / "max_energy_range_uj").write_text("0\n")
    daemon = start_daemon(settings)
    assert_grows(daemon, "package-1")
    assert daemon.metrics().zones() == {"package-1"}
    assert "intel-rapl:0" in daemon.log()


def test_zone_vanishes(host, settings, start_daemon, start_vm):
    daemon = start_daemon(settings)
    vm = start_vm(duty=50, cpu=0)
    before = wait_energy(daemon, vm).vm_energy(vm.uuid)
    host.remove(0)
    daemon.wait_log("package-0")
    assert_grows(daemon, "package-1")
    metrics = daemon.wait_ticks(3)
    assert metrics.balance("package-0") == 0
    assert metrics.vm_energy(vm.uuid) >= before


def test_all_zones_vanish(host, settings, start_daemon, start_vm):
    daemon = start_daemon(settings)
    vm = start_vm(duty=50)
    wait_energy(daemon, vm)
    for number in range(len(CPUS)):
        host.remove(number)
    daemon.wait_log("package-1")
    before = daemon.wait_ticks(2).vm_energy(vm.uuid)
    after = daemon.wait_ticks(3).vm_energy(vm.uuid)
    assert after == before
    assert (daemon.tree(vm.uuid) / "energy_uj").read_text().strip().isdigit()


# Virtual machines.

HOSTILE_NAMES = {
    "path": "../../etc",
    "long": "n" * 4096,
    "quotes": "new\nline \"and\" 'quotes' \\ {uuid=\"x\"} 1",
    "control": "\x1b[2J\x01\x7f",
    "forged": 'x\nerror: forged line uuid="y"',
    "dots": "..",
    "equals": "a=b,,guest=c",
    "blank": " ",
}


def assert_tree_is_sane(daemon):
    """Only UUIDs and by-name at the top; by-name's links lead to a VM's directory."""
    for entry in daemon.mountpoint.iterdir():
        if entry.name != "by-name":
            assert str(uuids.UUID(entry.name)) == entry.name
    for link in (daemon.mountpoint / "by-name").iterdir():
        target = link.readlink()
        assert target.parts[0] == ".." and len(target.parts) == 2, (link, target)
        assert str(uuids.UUID(target.parts[1])) == target.parts[1]


def assert_log_is_sane(daemon):
    for line in daemon.log().splitlines():
        assert re.match(r"(error|warning|info|debug): (?!forged)", line), line


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
def test_hostile_name(settings, start_daemon, start_vm, name):
    daemon = start_daemon(settings)
    vm = start_vm(name=name.replace(",", ",,"), duty=20)
    labels = wait_energy(daemon, vm).select("virtjoule_vm_info", uuid=vm.uuid)[0][0]
    # Long names are cut; what a terminal would obey is replaced.
    shown = re.sub(r"[\0-\x09\x0b-\x1f\x7f]", "\ufffd", name)
    assert labels["name"] == shown[:255]
    assert (daemon.tree(vm.uuid) / "name").read_text() == "package-0\n"
    assert_tree_is_sane(daemon)
    assert_log_is_sane(daemon)
    assert vm.uuid in [row["uuid"] for row in daemon.cli("list")["vms"]]


def test_no_name_no_uuid(settings, start_daemon, start_vm):
    """Its UUID is derived, and stays the same when it starts again."""
    seen = set()
    daemon = start_daemon(settings)
    known = {labels["uuid"] for labels, _ in daemon.metrics().select("virtjoule_vm_info")}
    for _ in range(2):
        vm = start_vm(duty=20, arguments=["-id", "virtjoule-test-7", "-m", "128"])
        pid = str(vm.process.pid)
        metrics = daemon.wait_metrics(
            lambda m: {labels["uuid"] for labels, _ in m.select("virtjoule_vm_info")} - known,
            what=f"the VM of process {pid}")
        seen |= {labels["uuid"] for labels, _ in metrics.select("virtjoule_vm_info")} - known
        vm.kill()
        daemon.wait_ticks(2)
    assert len(seen) == 1
    assert_tree_is_sane(daemon)


def test_two_vms_of_one_name(host, settings, start_daemon, start_vm):
    daemon = start_daemon(settings)
    # Pinned: a task that wanders counts to the socket it was last seen on.
    vms = [start_vm(name="twin", duty=duty, cpu=cpu) for cpu, duty in enumerate((40, 10))]
    for vm in vms:
        system.wait_until(lambda: vm.cpu_seconds() > 0.3, f"the work of {vm.name}")
    truth = [vm.stop_load() * host.packages[0].watts_per_cpu for vm in vms]
    metrics = daemon.wait_ticks(3)
    assert [float(metrics.vm_energy(vm.uuid)) for vm in vms] == pytest.approx(
        truth, rel=ENERGY_SHORT)
    assert_tree_is_sane(daemon)


def test_mention_of_qemu_is_no_vm(settings, start_daemon, start_vm, stack):
    daemon = start_daemon(settings)
    decoy = str(uuids.uuid4())
    process = system.start_child([sys.executable, "-c", "import time; time.sleep(60)",
                                  "/usr/bin/qemu-system-x86_64", "-name", "decoy",
                                  "-uuid", decoy])
    stack.callback(system.stop_child, process)
    vm = start_vm(duty=10)
    metrics = wait_energy(daemon, vm)
    assert not metrics.select("virtjoule_vm_info", uuid=decoy)
    assert not (daemon.mountpoint / decoy).exists()


def test_processes_that_die_at_once(settings, start_daemon, start_vm):
    daemon = start_daemon(settings)
    end = daemon.metrics().value("virtjoule_tick_seconds_count") + 10
    for number in itertools.count():
        start_vm(name="mayfly", duty=100).kill()
        if number % 20 == 0 and \
                daemon.metrics().value("virtjoule_tick_seconds_count") >= end:
            break
    metrics = daemon.wait_ticks(2)
    for zone in metrics.zones():
        assert metrics.balance(zone) == 0
    assert_grows(daemon, "package-0")


def test_first_and_last_interval_count(host, settings, start_daemon, start_vm):
    settings["daemon"] = {"interval": "1s"}
    daemon = start_daemon(settings)
    vm = start_vm(duty=80, cpu=0)
    daemon.wait_ticks(2)
    time.sleep(0.5)
    used = vm.cpu_seconds()
    vm.kill()
    metrics = daemon.wait_ticks(2)
    counted = cpu_seconds(metrics, vm)
    # Until it was killed it worked on, and its end is its own work.
    assert used - vm.begun_s - CPU_S <= counted
    assert float(metrics.vm_energy(vm.uuid)) == pytest.approx(
        counted * host.packages[0].watts_per_cpu, rel=ENERGY)


def set_next_pid(pid):
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))


@pytest.mark.skipif(not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK),
                    reason="the kernel cannot be told which PID comes next")
def test_pid_reused(settings, start_daemon, start_vm):
    daemon = start_daemon(settings)
    first = start_vm(name="first", duty=50)
    wait_energy(daemon, first)
    pid = first.process.pid
    first.kill()
    for _ in range(50):
        set_next_pid(pid)
        second = start_vm(name="second", duty=5)
        if second.process.pid == pid:
            break
        second.kill()
    else:
        pytest.skip("other processes took the PID each time")
    total = daemon.wait_ticks(2).vm_energy(first.uuid)
    metrics = daemon.wait_ticks(5)
    assert metrics.vm_energy(first.uuid) in (total, 0)
    # None of the first one's.
    assert 0 < cpu_seconds(metrics, second) <= second.cpu_seconds() + CPU_S


# libvirt.


def test_libvirt_absent(directory, settings, start_daemon, start_vm):
    uri = f"qemu+unix:///system?socket={directory}/no-libvirt.sock"
    daemon = start_daemon({**settings, "discovery": {"libvirt_uri": uri}})
    daemon.wait_log("no-libvirt.sock")
    wait_energy(daemon, start_vm(duty=20))


def test_libvirt_dies_and_returns(
        directory, stack, settings, libvirtd, start_daemon, start_guest):
    daemon = start_daemon({**settings, "discovery": {"libvirt_uri": libvirt.URI}})
    guest = start_guest(daemon)
    wait_energy(daemon, guest)
    libvirtd.stop()
    try:
        daemon.wait_log("libvirt")
        before = daemon.wait_ticks(2).vm_energy(guest.uuid)
        guest.start_load()
        daemon.wait_metrics(lambda m: m.vm_energy(guest.uuid) > before,
                            what="energy without libvirt")
        assert guest.energy_uj() > 0
    finally:
        libvirtd.start()
    defined_later = Guest(libvirtd, directory, mountpoint=daemon.mountpoint)
    stack.callback(defined_later.__exit__)
    defined_later.define()
    system.wait_until((daemon.mountpoint / defined_later.uuid).exists,
                      "a domain that libvirt defines after its return is seen")
    metrics = daemon.metrics()
    assert metrics.vm_energy(guest.uuid) > before
    assert [labels["name"] for labels, _ in metrics.select("virtjoule_vm_info", uuid=guest.uuid)
            ] == [guest.name]


# The mount point.


def test_mountpoint_not_empty(unstarted):
    unstarted.mountpoint.mkdir()
    (unstarted.mountpoint / "precious").write_text("data")
    unstarted.launch()
    assert unstarted.wait_exit() == 1
    assert str(unstarted.mountpoint) in unstarted.log()
    assert (unstarted.mountpoint / "precious").read_text() == "data"


def test_mountpoint_is_a_file(unstarted):
    unstarted.mountpoint.write_text("a file")
    unstarted.launch()
    assert unstarted.wait_exit() == 1
    assert str(unstarted.mountpoint) in unstarted.log()


def test_mountpoint_in_use(unstarted):
    unstarted.mountpoint.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", unstarted.mountpoint], check=True)
    unstarted.launch()
    assert unstarted.wait_exit() == 1
    assert str(unstarted.mountpoint) in unstarted.log()
    assert system.mounts_below(unstarted.mountpoint) == [str(unstarted.mountpoint)]


def test_second_daemon_on_the_same_mountpoint(directory, settings, start_daemon, start_vm, stack):
    daemon = start_daemon(settings)
    vm = start_vm(duty=20)
    wait_energy(daemon, vm)
    (directory / "second").mkdir()
    second = Daemon(directory / "second", {
        **settings, "powercapfs": {"mountpoint": daemon.mountpoint}})
    stack.callback(second.kill)
    second.launch()
    assert second.wait_exit() == 1
    assert str(daemon.mountpoint) in second.log()
    assert int((daemon.tree(vm.uuid) / "energy_uj").read_text()) > 0


def test_second_daemon_in_the_same_runtime_directory(
        directory, settings, start_daemon, start_vm, stack):
    daemon = start_daemon(settings)
    (directory / "second").mkdir()
    second = Daemon(directory / "second", {
        **settings, "daemon": {**FAST, "runtime_dir": daemon.runtime_dir}})
    stack.callback(second.kill)
    second.launch()
    assert second.wait_exit() == 1
    assert str(daemon.runtime_dir) in second.log()
    assert daemon.cli("list")["vms"] is not None


def test_mount_left_dead(unstarted, start_vm):
    unstarted.start()
    vm = start_vm(duty=20)
    wait_energy(unstarted, vm)
    unstarted.kill()
    with pytest.raises(OSError):
        os.listdir(unstarted.mountpoint)
    unstarted.start()
    wait_energy(unstarted, vm)
    assert int((unstarted.tree(vm.uuid) / "energy_uj").read_text()) >= 0
    assert system.mounts_below(unstarted.mountpoint) == [str(unstarted.mountpoint)]


def test_stop_unmounts(unstarted):
    unstarted.start()
    assert system.mounts_below(unstarted.mountpoint)
    assert unstarted.stop() == 0
    assert not system.mounts_below(unstarted.mountpoint)
    assert not os.listdir(unstarted.mountpoint)


def test_sigint_stops_as_well(unstarted):
    unstarted.start()
    unstarted.process.send_signal(signal.SIGINT)
    assert unstarted.wait_exit() == 0
    assert not system.mounts_below(unstarted.mountpoint)


# The network.


def listen(port):
    """Accepts connections and never answers."""
    return socket.create_server(("127.0.0.1", port))


def test_port_in_use(unstarted, start_vm):
    """Told once, and nothing else is affected; metrics are there when the port is free."""
    vm = start_vm(duty=50)
    counter = unstarted.tree(vm.uuid) / "energy_uj"
    with listen(unstarted.port):
        unstarted.start()
        before = int(counter.read_text())
        # While it has tried again, after one second and after two.
        time.sleep(4)
        assert int(counter.read_text()) > before
        assert unstarted.cli("list")["ticks_missed"] <= 1
        assert unstarted.log().count("metrics cannot be served, it is tried again") == 1
        assert f"127.0.0.1:{unstarted.port}" in unstarted.log()
    unstarted.wait_log("metrics are served now")
    assert_grows(unstarted, "package-0")
    wait_energy(unstarted, vm)


def test_port_in_use_at_a_restart(unstarted, start_vm):
    """The same where the metrics' own last connections are still being closed, and where the port
    is taken by a socket that listens on all addresses."""
    unstarted.start()
    assert_grows(unstarted, "package-0")
    unstarted.stop()
    with socket.create_server(("0.0.0.0", unstarted.port)):
        unstarted.start()
        assert "metrics cannot be served, it is tried again" in unstarted.log()
    unstarted.wait_log("metrics are served now")
    assert_grows(unstarted, "package-0")


def test_metrics_on_a_unix_socket(unstarted, directory):
    path = directory / "metrics.sock"
    unstarted.configure({"exporter": {"listen": path}})
    for end in (unstarted.kill, unstarted.stop):
        unstarted.start()
        answer = subprocess.run(["curl", "-sSf", "--unix-socket", path, "http://localhost/metrics"],
                                capture_output=True, check=True, timeout=system.PATIENCE_S)
        assert b"virtjoule_source_energy_joules_total" in answer.stdout
        end()
    assert not path.exists()


def test_http_garbage(settings, start_daemon):
    daemon = start_daemon(settings)
    for request in (b"\0" * 4096, b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n",
                    b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"GET"):
        with socket.create_connection(("127.0.0.1", daemon.port)) as client, suppress(OSError):
            client.sendall(request)
    assert_grows(daemon, "package-0")


# The configuration: (text, line, key or section that the message must name).

BAD_CONFIGURATIONS = {
    "unknown-key": ("[daemon]\nintervall = 1s\n", 2, "intervall"),
    "unknown-section": ("[demon]\ninterval = 1s\n", 2, "demon"),
    "no-unit": ("[daemon]\n# a comment\ninterval = 1\n", 3, "interval"),
    "interval-zero": ("[daemon]\ninterval = 0s\n", 2, "interval"),
    "interval-too-long": ("[daemon]\ninterval = 61s\n", 2, "interval"),
    "interval-too-fine": ("[daemon]\n\n\ninterval = 100ms\n", 4, "interval"),
    "relative-path": ("[daemon]\nruntime_dir = run\n", 2, "runtime_dir"),
    "energy": ("[source]\nenergy = solar\n", 2, "energy"),
    "watts": ("[estimate]\nidle_watts = 40\n", 2, "idle_watts"),
    "idle-above-max": ("[estimate]\nidle_watts = 50W\nmax_watts = 10W\n", None, "idle_watts"),
    "exponent": ("[estimate]\nexponent = -1\n", 2, "exponent"),
    "bool": ("[discovery]\nprocfs = perhaps\n", 2, "procfs"),
    "policy": ("[attribution]\nstatic_policy = fair\n", 2, "static_policy"),
    "model": ("[attribution]\nmodel = magic\n", 2, "model"),
    "smt-ratio": ("[attribution]\nsmt_power_ratio = 3\n", 2, "smt_power_ratio"),
    "baseline": ("[baseline]\npackage-0 = 20.5\n", 2, "package-0"),
    "baseline-negative": ("[baseline]\npackage-0 = -20W\n", 2, "package-0"),
    "baseline-65535": ("[baseline]\npackage-0 = 65535W\n", 2, "package-0"),
    "baseline-huge": ("[baseline]\npackage-0 = 1e30W\n", 2, "package-0"),
    "baseline-zone": ("[baseline]\n" + "x" * 40 + " = 20W\n", 2, "x" * 40),
    "mode": ("[powercapfs]\nfile_mode = 0666\n", 2, "file_mode"),
    "uid": ("[powercapfs]\nfile_uid = root\n", 2, "file_uid"),
    "quantum": ("[powercapfs]\nquantum = 1\n", 2, "quantum"),
    "listen": ("[exporter]\nlisten = localhost\n", 2, "listen"),
    "listen-port": ("[exporter]\nlisten = 127.0.0.1:99999\n", 2, "listen"),
    "twice": ("[daemon]\ninterval = 1s\ninterval = 2s\n", 3, "interval"),
    "no-section": ("interval = 1s\n", 1, "interval"),
    "no-value": ("[daemon]\ninterval\n", 2, ""),
    "empty-value": ("[daemon]\ninterval =\n", 2, "interval"),
    "half-section": ("[daemon\ninterval = 1s\n", 1, ""),
    "long-line": ("[daemon]\nruntime_dir = /" + "x" * 10000 + "\n", 2, ""),
    "zero-byte": ("[daemon]\nruntime_dir = /\0run\n", 2, ""),
}


@pytest.mark.parametrize("text, line, key", BAD_CONFIGURATIONS.values(), ids=BAD_CONFIGURATIONS)
def test_bad_configuration(directory, text, line, key):
    daemon = Daemon(directory)
    daemon.write_config(text)
    assert daemon.check_config() == EX_CONFIG
    error = daemon.log()
    assert str(daemon.config) in error and key in error
    if line:
        assert f"line={line} " in error
    assert error.count("\n") == 1
    daemon.launch()
    assert daemon.wait_exit() == EX_CONFIG
    daemon.kill()


def test_configuration_missing(directory):
    daemon = Daemon(directory)
    daemon.config.unlink()
    assert daemon.check_config() == EX_CONFIG
    assert str(daemon.config) in daemon.log()


def test_good_configuration(directory):
    assert Daemon(directory).check_config() == 0


def in_pid_namespace(directory, stack, settings, provider):
    """There the kernel's PIDs are not the daemon's: it takes no eBPF programs."""
    daemon = Daemon(directory, {**settings, "usage": {"provider": provider}},
                    wrapper=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
    stack.callback(daemon.kill)
    return daemon


def test_without_ebpf(directory, stack, settings):
    daemon = in_pid_namespace(directory, stack, settings, "auto")
    daemon.start()
    assert daemon.wait_ticks().value("virtjoule_build_info", usage_provider="procfs") == 1
    assert daemon.log().count("eBPF cannot be used") == 1
    assert "PID namespace" in daemon.log()
    assert_grows(daemon, "package-0")


def test_without_ebpf_that_is_wanted(directory, stack, settings):
    daemon = in_pid_namespace(directory, stack, settings, "bpf")
    daemon.launch()
    assert daemon.wait_exit() == 1
    assert "error: eBPF cannot be used" in daemon.log()
