# SPDX-License-Identifier: LGPL-2.1-or-later
"""`virtjoule doctor` on a host: each fault is planted, found under its name, and cured."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import test_doctor_guest
from harness import doctor, system
from harness.daemon import Daemon
from harness.guest import Guest
from harness.libvirtd import remove_domain

pytestmark = [pytest.mark.slow, pytest.mark.alone]

FAULTS = []
SLOW_FAULTS = []


def fault(identity, cure, slow=False):
    """The function plants the fault, yields, and cures it."""

    def add(plant):
        (SLOW_FAULTS if slow else FAULTS).append(
            pytest.param(identity, cure, contextmanager(plant), id=f"{identity}-{plant.__name__}"))
        return plant

    return add


@pytest.fixture(scope="module")
def host(session_libvirtd):
    with system.TemporaryDirectory() as directory:
        with doctor.DoctorHost(session_libvirtd, directory) as healthy:
            healthy.daemon.wait_ticks()
            yield healthy
    session_libvirtd.remove_domains()


def wait_healthy(host):
    """libvirt and the daemon learn of a cure in their own time."""
    found = {}

    def is_healthy():
        found.clear()
        found.update(host.findings())
        return not found

    try:
        system.wait_until(is_healthy, "nothing is wrong")
    except system.TestTimeout:
        print(host.daemon.log())
    assert not found


def check_fault(host, identity, cure, plant):
    with plant(host):
        found, text = host.findings(), host.run()
    # Now that it is cured: a fault that was not found must not stay.
    doctor.check_found(found, text, identity, cure)
    wait_healthy(host)


@pytest.mark.parametrize("identity, cure, plant", FAULTS)
def test_fault(host, identity, cure, plant):
    check_fault(host, identity, cure, plant)


@pytest.mark.parametrize("identity, cure, plant", SLOW_FAULTS)
def test_slow_fault(host, identity, cure, plant):
    check_fault(host, identity, cure, plant)


def test_healthy_host(host):
    wait_healthy(host)
    result = host.run()
    assert result.returncode == 0
    assert re.fullmatch(r"Nothing is wrong with this host \(\d+ checks\)\.\n", result.stdout)


def test_without_root(host):
    """Nobody may see little, and nothing goes wrong with that."""
    result = host.run("--json", user=65534, group=65534, extra_groups=[])
    assert result.returncode == 1
    assert '"id":"not-root"' in result.stdout
    assert "daemon-refuses" in doctor.parse(result)


def test_wrong_usage(host):
    assert host.run("--no-such-option").returncode == 2
    assert host.run("argument").returncode == 2


def test_every_finding_is_documented_and_planted():
    """But for what is only good to know, and what another test finds."""
    documented = set(re.findall(r"^\| `([a-z-]+)`", (
        system.SOURCE_ROOT / "docs/doctor.md").read_text(), re.M))
    source = "".join(path.read_text() for path in
                     (system.SOURCE_ROOT / "src/doctor").glob("doctor_*.c"))
    reported = set(re.findall(r'doctor_report\(\s*doctor,[^"]*"([a-z-]+)"', source))
    assert documented == reported
    planted = {parameters.values[0] for parameters in
               FAULTS + SLOW_FAULTS + test_doctor_guest.FAULTS}
    informative = set(re.findall(r'doctor_report\(\s*doctor,\s*SEVERITY_INFO,\s*"([a-z-]+)"',
                                 source))
    elsewhere = {"daemon-refuses", "counter-frozen", "share-dead"}
    assert planted | informative | elsewhere == reported


# Configuration.


@fault("config-invalid", "virtjouled --check-config")
def unknown_key(host):
    text = host.daemon.config.read_text()
    host.daemon.write_config(text + "[daemon]\nintervall = 1s\n")
    yield
    host.daemon.write_config(text)


@fault("config-unreadable", "apt install --reinstall virtjoule")
def no_configuration(host):
    hidden = host.daemon.config.with_suffix(".hidden")
    host.daemon.config.rename(hidden)
    yield
    hidden.rename(host.daemon.config)


@fault("config-not-applied", "systemctl restart virtjoule")
def other_interval(host):
    with host.configured({"daemon": {"interval": "1s"}}):
        yield


# Sensors, kernel, clock, packages.


@fault("sensor-missing", "modprobe intel_rapl_msr")
def driver_unloaded(host):
    zones = host.powercap.root / "class/powercap"
    zones.rename(zones.with_name("gone"))
    yield
    zones.with_name("gone").rename(zones)


@fault("sensor-unreadable", "energy_uj")
def sensor_cannot_be_opened(host):
    counter = host.powercap.zone(0) / "energy_uj"
    counter.rename(counter.with_name("hidden"))
    counter.symlink_to(counter)
    yield
    counter.unlink()
    counter.with_name("hidden").rename(counter)


@fault("zone-unreadable", "modprobe")
def sensor_gives_nothing(host):
    host.powercap.spoil(0, b"")
    host.daemon.wait_ticks()
    yield
    host.powercap.repair(0)
    host.daemon.wait_ticks()


@fault("zone-frozen", "modprobe")
def sensor_stands_still(host):
    host.powercap.spoil(0, (host.powercap.zone(0) / "energy_uj").read_bytes())
    host.daemon.wait_ticks()
    yield
    host.powercap.repair(0)
    host.daemon.wait_ticks()


@fault("source-estimate", "modprobe intel_rapl_msr && systemctl restart virtjoule")
def daemon_before_the_driver(host):
    zones = host.powercap.root / "class/powercap"
    zones.rename(zones.with_name("gone"))
    host.restart_daemon()
    zones.with_name("gone").rename(zones)
    host.daemon.wait_ticks()
    yield
    host.restart_daemon()


@fault("usage-fallback", "provider = procfs")
def daemon_without_ebpf(host):
    host.restart_daemon({"usage": {"provider": "procfs"}})
    with host.configured({}):
        yield
    host.restart_daemon()


@fault("filtering-on", "interval = 1s")
def filtering(host):
    host.set_filtering(1)
    yield
    host.set_filtering(0)


@fault("kernel-without-btf", "CONFIG_DEBUG_INFO_BTF=y")
def no_btf(host):
    link = host.root / "sys/kernel/btf"
    target = os.readlink(link)
    link.unlink()
    yield
    link.symlink_to(target)


@fault("clocksource-slow", "clocksource=tsc")
def acpi_clock(host):
    link = host.root / "sys/devices/system/clocksource"
    target = os.readlink(link)
    link.unlink()
    (link / "clocksource0").mkdir(parents=True)
    (link / "clocksource0/current_clocksource").write_text("acpi_pm\n")
    yield
    shutil.rmtree(link)
    link.symlink_to(target)


@fault("virtiofsd-missing", "apt install qemu-system-common")
def no_virtiofsd(host):
    host.virtiofsd.unlink()
    yield
    host.virtiofsd.write_text("#!/bin/sh\n")
    host.virtiofsd.chmod(0o755)


@fault("hook-missing", "apt install --reinstall")
def no_hook(host):
    hidden = host.hook.with_name("hidden")
    host.hook.rename(hidden)
    yield
    hidden.rename(host.hook)


@fault("hook-not-executable", "chmod 0755 /etc/libvirt/hooks/qemu.d/virtjoule")
def hook_not_executable(host):
    host.hook.chmod(0o644)
    yield
    host.hook.chmod(0o755)


# The daemon.


@fault("daemon-not-running", "systemctl start virtjoule")
def no_daemon(host):
    host.daemon.stop()
    yield
    host.daemon.start()


@fault("daemon-hangs", "systemctl restart virtjoule", slow=True)
@fault("mount-hangs", "systemctl restart virtjoule", slow=True)
def stopped_daemon(host):
    host.daemon.process.send_signal(signal.SIGSTOP)
    yield
    host.daemon.process.send_signal(signal.SIGCONT)
    host.restart_daemon()


@fault("ticks-missed", "longer [daemon] interval")
def late_ticks(host):
    host.restart_daemon()
    host.daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    host.daemon.process.send_signal(signal.SIGCONT)
    host.daemon.wait_ticks(1)
    yield
    host.restart_daemon()


@fault("two-daemons", "systemctl stop virtjoule")
def second_daemon(host):
    directory = host.directory / "second"
    directory.mkdir()
    with Daemon(directory):
        yield


@fault("version-mismatch", "systemctl restart virtjoule")
def older_daemon(host):
    with _changed_answers(host, rb'"version":"[^"]*"', b'"version":"0.0.1"'):
        yield


@fault("daemon-not-measuring", "journalctl -u virtjoule")
def daemon_without_an_interval(host):
    with _changed_answers(host, rb".*", b'{"error":"no interval has been measured yet"}'):
        yield


@contextmanager
def _changed_answers(host, pattern, text):
    """Between the command and the daemon somebody changes what it says, once."""
    path = host.daemon.runtime_dir / "control.sock"
    real = path.with_name("real.sock")
    path.rename(real)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_answer, args=(listener, real, pattern, text),
                                  daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    path.unlink()
    real.rename(path)


def _answer(listener, real, pattern, text):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(str(real))
            daemon.sendall(client.makefile("rb").readline())
            answer = b"".join(iter(lambda: daemon.recv(65536), b""))
            client.sendall(re.sub(pattern, text, answer, count=1))


# What it keeps.


@fault("ledger-unwritable", "mount -o remount,rw")
def read_only_state(host):
    with host.mounted("-t", "tmpfs", "-o", "ro", "none", host.daemon.state_dir):
        yield


@fault("ledger-disk-full", "free space")
def full_disk(host):
    with host.mounted("-t", "tmpfs", "-o", "size=64k", "none", host.daemon.state_dir):
        with pytest.raises(OSError), open(host.daemon.state_dir / "filler", "wb") as filler:
            filler.write(b"x" * 2**20)
        yield


@fault("ledger-owner", "chown -R --reference=")
def state_of_another_user(host):
    os.chown(host.daemon.state_dir, 65534, -1)
    yield
    os.chown(host.daemon.state_dir, 0, -1)


@fault("ledger-set-aside", "rm ")
def damaged_ledger(host):
    host.daemon.stop()
    for directory in (host.daemon.runtime_dir, host.daemon.state_dir):
        (directory / "ledger").write_bytes(b"x" * 4096)
    host.daemon.start()
    yield
    for directory in (host.daemon.runtime_dir, host.daemon.state_dir):
        for path in directory.glob("ledger.bad-*"):
            path.unlink()


# What it publishes.


@fault("mount-dead", "systemctl restart virtjoule")
def dead_mount(host):
    host.daemon.kill()
    yield
    host.daemon.start()


@fault("mount-missing", "systemctl restart virtjoule")
def unmounted(host):
    """By somebody else, and the daemon cannot put it back: the directory is in use."""
    system.detach_mount(host.daemon.mountpoint)
    file = host.daemon.mountpoint / "in-the-way"
    file.touch()
    yield
    file.unlink()
    host.restart_daemon()


@fault("mount-foreign", "umount")
def mounted_over(host):
    with host.mounted("-t", "tmpfs", "none", host.daemon.mountpoint):
        yield


@fault("exporter-unreachable", "systemctl restart virtjoule")
def no_exporter(host):
    with host.configured({"exporter": {"listen": f"127.0.0.1:{system.free_port()}"}}):
        yield


@fault("exporter-foreign", "[exporter] listen")
def other_exporter(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve_others, args=(server,), daemon=True)
        thread.start()
        port = server.getsockname()[1]
        with host.configured({"exporter": {"listen": f"127.0.0.1:{port}"}}):
            yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@fault("exporter-foreign", "[exporter] listen")
def silent_listener(host):
    """It has the port, accepts, and never answers: the doctor names it, and does not wait."""
    port = host.daemon.port
    host.daemon.stop()
    other = system.start_child([sys.executable, "-c", _LISTEN, str(port)], stdout=subprocess.PIPE)
    other.stdout.readline()
    host.daemon.start()
    assert f"with PID {other.pid}," in host.findings()["exporter-foreign"]["problem"]
    yield
    other.kill()
    other.wait()
    other.stdout.close()
    host.daemon.wait_log("metrics are served now")


_LISTEN = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("listening", flush=True)
    time.sleep(1e6)
"""


def _serve_others(server):
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client:
            client.recv(4096)
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\nnode_load1 0.5\n")


# libvirt and its domains.


@fault("libvirt-unreachable", "systemctl start libvirtd")
def no_libvirt(host):
    with host.configured({"discovery": {"libvirt_uri": "qemu+unix:///system?socket=/none"}}):
        yield


@fault("domain-unknown", "systemctl restart virtjoule")
def daemon_without_libvirt(host):
    host.restart_daemon({"discovery": {"libvirt_uri": ""}})
    guest = Guest(host.libvirtd, host.directory, host.daemon.mountpoint)
    guest.define()
    with host.configured({}):
        yield
    remove_domain(guest.domain)
    host.restart_daemon()


@contextmanager
def _domain(host, change=None):
    """A domain with its share, defined and not started; `change` spoils its XML."""
    guest = Guest(host.libvirtd, host.directory, host.daemon.mountpoint)
    guest.define()
    try:
        wait_healthy(host)
        if change:
            xml = guest.domain.XMLDesc()
            assert change(xml) != xml
            host.libvirtd.connection.defineXML(change(xml))
        yield guest
    finally:
        remove_domain(guest.domain)


def _domain_fault(identity, cure, change):
    def plant(host):
        with _domain(host, change):
            yield

    plant.__name__ = "domain"
    fault(identity, cure)(plant)


def _substitute(pattern, text):
    return lambda xml: re.sub(pattern, text, xml)


_domain_fault("domain-cache-mode", "virtjoule attach",
              _substitute(r"<cache mode='none'/>", "<cache mode='always'/>"))
_domain_fault("domain-cache-mode", "virtjoule attach", _substitute(r"<cache mode='none'/>", ""))
_domain_fault("domain-share-foreign", "virtjoule attach",
              lambda xml: re.sub(r"(<source dir='.*/)[0-9a-f-]{36}", rf"\g<1>{uuid.uuid4()}", xml))
_domain_fault("domain-share-elsewhere", "virtjoule attach",
              _substitute(r"<source dir='[^']*'", "<source dir='/srv/data'"))
_domain_fault("domain-wrong-tag", "virtjoule attach",
              _substitute(r"<target dir='virtjoule'", "<target dir='energy'"))
_domain_fault("domain-virtiofsd-missing", "apt install --reinstall qemu-system-common",
              _substitute(r"<binary[^>]*", "<binary path='/usr/lib/qemu/no-virtiofsd'"))


@fault("domain-memory-not-shared", "virtjoule attach")
def memory_by_hand(host):
    """libvirt refuses such a definition, but takes what it finds in its directory at its start."""
    with _domain(host) as guest:
        file = Path(f"/etc/libvirt/qemu/{guest.name}.xml")
        text = file.read_text()
        host.libvirtd.stop()
        file.write_text(text.replace("<access mode='shared'/>", ""))
        host.libvirtd.start()
        yield


@fault("domain-restart-needed", "virsh shutdown")
def attached_while_running(host):
    guest = Guest(host.libvirtd, host.directory, None)
    with ExitStack() as contexts:
        guest.define()
        contexts.callback(remove_domain, guest.domain)
        guest.domain.create()
        xml = guest.domain.XMLDesc(2)  # inactive
        with _domain(host) as other:
            device = re.search(r"<filesystem.*</filesystem>", other.domain.XMLDesc(), re.S)[0]
        device = re.sub(r"<address.*?/>", "", device.replace(other.uuid, guest.uuid))
        host.libvirtd.connection.defineXML(xml.replace("<devices>", f"<devices>{device}"))
        yield


@fault("domain-share-stale", "virtjoule attach")
def share_of_a_killed_daemon(host):
    with _domain(host) as guest:
        system.wait_until((host.daemon.mountpoint / guest.uuid).is_dir, "the share is there")
        guest.domain.create()
        host.daemon.kill()
        host.daemon.start()
        yield


@fault("libvirt-hangs", "systemctl restart libvirtd", slow=True)
def stopped_libvirt(host):
    for child in host.libvirtd._children:
        child.send_signal(signal.SIGSTOP)
    yield
    for child in host.libvirtd._children:
        child.send_signal(signal.SIGCONT)


@fault("guest-not-reading", "apt install virtjoule-guest", slow=True)
def nobody_reads(host):
    """The guest's kernel is up, and its init is busybox: only the test reads in it."""
    with _domain(host) as guest:
        system.wait_until((host.daemon.mountpoint / guest.uuid).is_dir, "the share is there")
        guest.domain.create()
        host.restart_daemon()
        system.wait_until(lambda: "guest-not-reading" in host.findings(), "it is found", 5)
        yield
