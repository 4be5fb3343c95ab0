# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtjoule.service under the real systemd: from its installation to its removal, in this order.

Whatever happens to the daemon, a reader of a VM's counter sees no fault, and
no energy is lost.
"""

import re

import pytest

from conftest import COUNTERS
from daemon import UNIT, VMS, Daemon, FakeVm, Victim
from harness import escapes, system
from harness.bmc import Bmc
from package import NEXT
from survival import no_energy_lost, survive

WATCHDOG_S = 5
POWERS = (291, 0xA0AA)  # watts; on the wire 0xa0 and 0xaa are marks of the protocol
# systemd's device policy "closed", the mount's device, the clock that ProtectClock lets be read.
DEVICES = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx", "fuse", "rtc0",
           "ipmi0"}
UUID = "5ca1ab1e-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def bmc():
    with system.TemporaryDirectory() as directory:
        bmc = Bmc(directory / "bmc.sock")
        yield bmc
        bmc.stop()


@pytest.fixture(scope="module")
def devices(bmc):
    return bmc.qemu_arguments


@pytest.fixture(scope="module")
def daemon(host, package):
    """Installed and running."""
    host.tell(host.check(f"apt-get install -y {host.put(package.file)}", timeout=180))
    daemon = Daemon(host)
    daemon.wait_active()
    return daemon


@pytest.fixture(scope="module")
def vm(host, daemon):
    with FakeVm(host, "web", UUID) as vm:
        daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid) > 0, "energy of the VM")
        yield vm


def test_installed(host, daemon, vm):
    """It measures, with eBPF, in the sandbox."""
    assert host.run(f"systemctl is-enabled {UNIT}").output.strip() == "enabled"
    labels, _ = daemon.metrics().select("virtjoule_build_info")[0]
    host.tell(f"{labels}\n{host.check('virtjoule show --host; virtjoule list')}\n{daemon.log()}")
    assert labels["usage_provider"] == "bpf"
    assert daemon.metrics().zones() == {"package-0", "dram"}
    assert {label["source"] for label, _ in
            daemon.metrics().select("virtjoule_source_energy_joules_total")} == {"rapl"}
    assert host.check(f"ls {VMS}").split() == [vm.uuid, "by-name"]
    assert host.check("systemctl --failed --quiet") == ""


def test_exposure(host, daemon):
    report = host.check(f"systemd-analyze security --no-pager {UNIT}")
    host.tell(report)
    level = re.search(r"Overall exposure level .*: ([\d.]+)", report)[1]
    assert float(level) <= 2.0


def test_escapes(host, daemon):
    """Whoever takes over the daemon is its user, with its capabilities and system calls."""
    with Victim(host) as victim:
        refused = victim.escapes_of_service()
        host.tell(refused)
        escapes.check_all_refused(refused)
        assert victim.text() == "untouched"
    with Victim(host) as victim:
        escapes.check_all_done(victim.escapes_of_root())
        assert victim.text() == "overrun"


def test_counters_are_of_a_group(host, daemon):
    """The daemon reads them by its group; who may only ask the daemon does not."""
    files = host.check("ls -l /sys/class/powercap/*/energy_uj | cut -d ' ' -f 1,3,4 | sort -u")
    assert files.strip() == "-r--r----- root virtjoule-daemon"
    host.check("useradd --groups virtjoule asker")
    assert host.run("runuser -u asker -- virtjoule list").status == 0
    assert host.run("runuser -u asker -- cat /sys/class/powercap/intel-rapl:0/energy_uj").status


def test_restarted(host, daemon, vm):
    survive(daemon, vm, lambda: host.check(f"systemctl restart {UNIT}"), rounds=3)


def test_killed(host, daemon, vm):
    survive(daemon, vm, lambda: host.check(f"systemctl kill -s KILL {UNIT}"), rounds=5)


def test_hung(host, daemon, vm):
    """systemd's watchdog ends it."""
    host.check(f"mkdir -p /run/systemd/system/{UNIT}.d && systemctl daemon-reload && "
               f"printf '[Service]\\nWatchdogSec={WATCHDOG_S}s\\n' "
               f">/run/systemd/system/{UNIT}.d/watchdog.conf && "
               f"systemctl daemon-reload && systemctl restart {UNIT}")
    survive(daemon, vm, lambda: host.check(f"kill -STOP {daemon.pid()}"), hung_s=WATCHDOG_S)
    assert "Watchdog timeout" in daemon.log()
    host.check(f"rm -r /run/systemd/system/{UNIT}.d; systemctl daemon-reload; "
               f"systemctl restart {UNIT}")


def test_upgraded_and_downgraded(host, daemon, vm, package):
    next_file, file = host.put(package.next_file), host.put(package.file)

    def installed_version():
        return host.check("dpkg-query -W -f '${Version}' virtjoule")

    version = installed_version()
    survive(daemon, vm, lambda: host.check(f"apt-get install -y {next_file}", timeout=180))
    assert installed_version() == version + NEXT
    survive(daemon, vm,
            lambda: host.check(f"apt-get install -y --allow-downgrades {file}", timeout=180))
    assert installed_version() == version


def test_zones_vanish_and_appear(host, daemon, vm):
    """The driver is unloaded and loaded: nothing restarts, no energy is lost."""
    def all_readable(value):
        return lambda m: [v for _, v in m.select("virtjoule_zone_readable",
                                                 source="rapl")] == [value] * 2

    pid, before = daemon.pid(), daemon.totals()
    with no_energy_lost(daemon), vm.reader() as reader:
        host.check("rmmod powercap_test")
        gone = daemon.wait_metrics(all_readable(0), "zones are gone")
        assert int(host.check(f"cat {reader.file}")) <= gone.vm_energy(vm.uuid) * 10**6
        host.load_energy_counters(**COUNTERS)
        back = daemon.wait_metrics(all_readable(1), "zones are back")
        daemon.wait_metrics(lambda m: m.vm_energy(vm.uuid) > back.vm_energy(vm.uuid) + 1,
                            "energy of the VM")
        reader.result()
    after = daemon.totals()
    host.tell(f"joules {before} -> {after}\n{host.check(f'journalctl -u {UNIT} -o cat -n 10')}")
    assert daemon.pid() == pid
    assert all(after[row] >= before[row] for row in before), (before, after)


def test_bmc(host, daemon, bmc):
    """The daemon in its sandbox asks the BMC through a device that is root's and its group's;
    freeipmi beside it is told the same."""
    host.check("modprobe -a ipmi_si ipmi_devintf && udevadm settle")
    assert host.check("stat -c '%U:%G %a' /dev/ipmi0").strip() == "root:virtjoule-daemon 640"
    host.check(f"systemctl restart {UNIT}")
    pid = daemon.wait_active()
    assert host.check(f"ps -o user= -p {pid}").strip() == "virtjoule"
    for watts in POWERS:
        bmc.watts = watts
        daemon.wait_metrics(lambda m: m.sum("virtjoule_platform_watts", source="dcmi") == watts,
                            f"the BMC's {watts} W")
        told = host.check("ipmi-dcmi --get-system-power-statistics")
        assert re.search(rf"^Current Power +: {watts} Watts$", told, re.MULTILINE), told
    host.tell(host.check("virtjoule show --host"))
    opened = host.check(f"readlink /proc/{pid}/fd/* | grep ^/dev/ | sort -u").split()
    assert set(opened) == {"/dev/null", "/dev/fuse", "/dev/ipmi0"}


def test_other_devices(host, daemon, bmc):
    """Root may open none from within the service."""
    group = daemon.property("ControlGroup")
    devices = host.check("cd /dev; find * -type c -o -type b").split()
    errors = host.check(f"""
        echo $BASHPID >/sys/fs/cgroup{group}/cgroup.procs
        cd /dev
        for device in {" ".join(devices)}; do
            true <$device
        done || true""")
    refused = re.findall(r"(\S+): Operation not permitted", errors)
    opened = {device for device in devices if not re.fullmatch(r"pts/\d+", device)} - set(refused)
    host.tell(f"{len(refused)} refused, but not {sorted(opened)}")
    assert "ipmi0" in opened and opened <= DEVICES


def test_removed(host, daemon, vm):
    """Nothing is left, and the VM runs on."""
    host.tell(host.check("apt-get purge -y virtjoule", timeout=180))
    assert vm.runs()
    assert host.check("systemctl list-units --all --plain --no-legend 'virtjoule*'") == ""
    assert host.check("systemctl list-unit-files --no-legend 'virtjoule*' || true") == ""
    assert "virtjoule" not in host.check("cat /proc/self/mountinfo")
    assert daemon_files(host) == ""
    assert host.check("pgrep virtjouled || true") == ""


def daemon_files(host):
    return host.check("ls -d /run/virtjoule /var/lib/virtjoule /etc/virtjoule /usr/sbin/virtjoule* "
                      "/usr/bin/virtjoule* /usr/lib/systemd/system/virtjoule* "
                      "/etc/systemd/system/*/virtjoule* 2>/dev/null || true")
