# SPDX-License-Identifier: LGPL-2.1-or-later
"""`virtjoule doctor` in a real guest: each fault is planted there, found, and cured.

The guest has the command and its libraries in memory: its devices may go.
"""

import re
import subprocess
from contextlib import contextmanager

import pytest

from harness import doctor, system
from harness.daemon import VIRTJOULE, DescriptorStore
from harness.guest import Guest
from harness.guest_host import copy_with_libraries

pytestmark = [pytest.mark.slow, pytest.mark.alone]

FAULTS = []
POWERCAP, SHARE = Guest.POWERCAP, Guest.SHARE
_MEMORY = 384  # MiB: half of it may be files
_PREPARE = f"""
set -e
mkdir /tools /tmp/programs
mount -t virtiofs {Guest.TOOLS_TAG} /tools
cp /tools/* /tmp/programs
umount /tools
cp /tmp/programs/ld-linux* /lib64
echo nobody:x:65534:65534::/:/bin/sh >>/etc/passwd
chmod 1777 /tmp
"""
_DOCTOR = "LD_LIBRARY_PATH=/tmp/programs /tmp/programs/virtjoule doctor"
_READER = ("prometheus-node-exporter --collector.disable-defaults --collector.rapl"
           " --web.listen-address=127.0.0.1:9100 >/dev/null 2>&1")
_MOUNT = f"mount -t virtiofs virtjoule {SHARE}"
_BIND = f"mount --bind {SHARE}/class/powercap {POWERCAP}"
_UNMOUNT = f"umount {POWERCAP}; umount {SHARE}"


def fault(identity, cure):
    """The function plants the fault, yields, and cures it."""

    def add(plant):
        FAULTS.append(pytest.param(identity, cure, contextmanager(plant),
                                   id=f"{identity}-{plant.__name__}"))
        return plant

    return add


class Patient:
    """A guest with its share, of a host without a fault."""

    def __init__(self, host, guest):
        self.host = host
        self.guest = guest

    def run(self, arguments="--json", user=None):
        command = f"{_DOCTOR} {arguments}"
        if user:
            command = f"su {user} -c '{command}'"
        answer = self.guest.run(command)
        return subprocess.CompletedProcess(command, answer.status, answer.output, answer.output)

    def findings(self):
        return doctor.parse(self.run())


@contextmanager
def _patient(libvirtd, directory, **options):
    tools = directory / "tools"
    tools.mkdir()
    copy_with_libraries(VIRTJOULE, tools)
    with doctor.DoctorHost(libvirtd, directory, DescriptorStore()) as host:
        with Guest(libvirtd, directory, host.daemon.mountpoint, tools=tools, memory_mib=_MEMORY,
                   **options) as guest:
            guest.check(_PREPARE)
            yield Patient(host, guest)


@pytest.fixture(scope="module")
def patient(session_libvirtd):
    with system.TemporaryDirectory() as directory, _patient(session_libvirtd, directory) as healthy:
        yield healthy


@pytest.mark.parametrize("identity, cure, plant", FAULTS)
def test_fault(patient, identity, cure, plant):
    with plant(patient):
        found, text = patient.findings(), patient.run("")
    # Now that it is cured: a fault that was not found must not stay.
    doctor.check_found(found, text, identity, cure)
    assert not patient.findings()


def test_healthy_guest(patient):
    """With a reader, and without root."""
    patient.guest.check(f"su nobody -c '{_READER} &' >/dev/null 2>&1; sleep 1")
    assert not patient.findings()
    result = patient.run("")
    assert re.fullmatch(r"Nothing is wrong with this guest \(\d+ checks\)\.\n*", result.stdout)
    assert not doctor.parse(patient.run(user="nobody"))
    assert not patient.host.findings()
    patient.guest.check("killall prometheus-node-exporter")


def _restore(patient):
    patient.guest.check(f"{_MOUNT} && {_BIND}")


# The device and the kernel.


def _remove_devices(patient, which):
    """Takes PCI devices away whose virtiofs tag is one of those; the others stay."""
    patient.guest.check(f"""
        {_UNMOUNT}
        for device in /sys/bus/virtio/devices/*; do
            [ "$(cat $device/device)" = 0x001a ] || continue
            pci=$(readlink -f $device/..)
            # As libvirt made them: the share is the first.
            number=$((number + 1))
            case " {which} " in *" $number "*) echo 1 >$pci/remove ;; esac
        done""")


@fault("share-not-attached", "virtjoule attach")
def no_device(patient):
    _remove_devices(patient, "1 2")
    yield
    patient.guest.check("echo 1 >/sys/bus/pci/rescan; sleep 1")
    _restore(patient)


@fault("tag-missing", "virtjoule attach")
def wrong_tag(patient):
    """Another virtiofs device is left."""
    _remove_devices(patient, "1")
    yield
    patient.guest.check("echo 1 >/sys/bus/pci/rescan; sleep 1")
    _restore(patient)


def _unload(patient):
    patient.guest.check(f"{_UNMOUNT}; rmmod virtiofs")


def _load(patient):
    patient.guest.check("insmod /modules/*-virtiofs.ko")
    _restore(patient)


@fault("kernel-without-virtiofs", "apt install linux-image")
def no_virtiofs(patient):
    _unload(patient)
    yield
    _load(patient)


@fault("virtiofs-not-loaded", "modprobe virtiofs")
def module_not_loaded(patient):
    _unload(patient)
    patient.guest.check("""
        mkdir -p /lib/modules/$(uname -r)
        echo kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko \\
            >/lib/modules/$(uname -r)/modules.dep
        """)
    yield
    patient.guest.check("rm -r /lib/modules")
    _load(patient)


# The mounts.


@fault("share-not-mounted", "systemctl start virtjoule-share.service")
def not_mounted(patient):
    patient.guest.check(_UNMOUNT)
    yield
    _restore(patient)


@fault("share-hidden", "umount /run/virtjoule/share")
def mounted_over(patient):
    patient.guest.check(f"mount -t tmpfs none {SHARE}")
    yield
    patient.guest.check(f"umount {SHARE}")


@fault("share-foreign", "virtjoule doctor")
def other_share(patient):
    patient.guest.check(f"{_UNMOUNT}; mount -t virtiofs {Guest.TOOLS_TAG} {SHARE}")
    yield
    patient.guest.check(f"umount {SHARE}")
    _restore(patient)


@fault("powercap-not-bound", "systemctl start sys-class-powercap.mount")
def not_bound(patient):
    patient.guest.check(f"umount {POWERCAP}")
    yield
    patient.guest.check(_BIND)


@fault("kernel-without-powercap", "--path.sysfs=/run/virtjoule/share")
def no_powercap(patient):
    patient.guest.check("mount -t tmpfs none /sys/class")
    yield
    patient.guest.check("umount /sys/class")


@fault("units-missing", "apt install virtjoule-guest")
def no_units(patient):
    patient.guest.check("mkdir -p /run/systemd/system")
    yield
    patient.guest.check("rm -r /run/systemd")


@fault("units-disabled", "systemctl enable --now virtjoule-share.service")
def disabled_units(patient):
    patient.guest.check("""
        mkdir -p /run/systemd/system
        touch /run/systemd/system/virtjoule-share.service
        touch /run/systemd/system/sys-class-powercap.mount""")
    yield
    patient.guest.check("rm -r /run/systemd")


# The counter.


@fault("version-mismatch", "apt install virtjoule-guest")
def other_version(patient):
    patient.guest.check(f"""
        echo 0.0.1 >/tmp/version
        mount --bind /tmp/version {SHARE}/virtjoule/version""")
    yield
    patient.guest.check(f"umount {SHARE}/virtjoule/version")


@fault("counter-still", "virtjoule doctor")
def sensor_stands_still(patient):
    powercap = patient.host.powercap
    powercap.spoil(0, (powercap.zone(0) / "energy_uj").read_bytes())
    patient.host.daemon.wait_ticks(3)
    yield
    powercap.repair(0)
    patient.host.daemon.wait_ticks(3)


@fault("share-hangs", "systemctl restart virtjoule")
def daemon_down(patient):
    """Its connection is kept, and nobody answers."""
    patient.host.daemon.kill()
    yield
    patient.host.daemon.start()


@fault("clock-wrong", "timedatectl set-ntp true")
def wrong_clock(patient):
    now = patient.guest.check("date +%s").strip()
    patient.guest.check("date -s @86400")
    yield
    patient.guest.check(f"date -s @{now}")


# Readers.


@fault("counter-not-for-reader", "file_mode = 0444")
def reader_is_not_root(patient):
    patient.host.restart_daemon({"powercapfs": {"file_mode": "0400"}})
    patient.guest.check(f"su nobody -c '{_READER} &' >/dev/null 2>&1; sleep 1")
    yield
    patient.guest.check("killall prometheus-node-exporter")
    patient.host.restart_daemon()


@fault("reader-too-early", "systemctl restart prometheus-node-exporter")
def reader_before_the_share(patient):
    patient.guest.check(_UNMOUNT)
    patient.guest.check(f"unshare -m sh -c '{_READER}' >/dev/null 2>&1 & sleep 1")
    _restore(patient)
    yield
    patient.guest.check("killall prometheus-node-exporter")


# What takes a guest of its own.


def test_cached_share(session_libvirtd, directory):
    """Frozen in the guest, and wrong in the domain on the host."""
    with _patient(session_libvirtd, directory, cache="always") as patient:
        found = patient.findings()
        assert "cache mode='none'" in found["counter-frozen"]["cure"], found
        assert "virtjoule attach" in patient.host.findings()["domain-cache-mode"]["cure"]


def test_share_of_a_killed_daemon(session_libvirtd, directory):
    """Whose connection nobody kept: only a start of the VM makes it whole."""
    with _patient(session_libvirtd, directory) as patient:
        daemon = patient.host.daemon
        daemon.stop()
        daemon.store.remove()
        daemon.start()
        assert "shut the VM down" in patient.findings()["share-dead"]["cure"]
        assert "virsh start" in patient.host.findings()["domain-share-stale"]["cure"]
        patient.guest.destroy()
        patient.guest.start()
        patient.guest.check(_PREPARE)
        assert not patient.findings()
        assert f"{patient.guest.name}: its share is of" not in patient.host.run().stdout
