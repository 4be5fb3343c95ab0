# SPDX-License-Identifier: LGPL-2.1-or-later
"""A domain with the share starts and stops while virtjoule is dead, misconfigured, or purged; its
guest reads its energy as soon as virtjoule is there."""

import pytest

from daemon import UNIT, VMS, Daemon
from guest import POWERCAP, Guest
from harness import system
from package import Package
from test_life import GUEST_COMMANDS, type_in

NAME = "web"
CONFIG = "/etc/virtjoule/virtjouled.conf"
HOOK = "/etc/libvirt/hooks/qemu.d/virtjoule"
INSTALL_S = 900  # ends a hang alone: the machine is emulated, and may be busy


@pytest.fixture(scope="module")
def guest(host, tmp_path_factory):
    package = Package("virtjoule-guest", tmp_path_factory.mktemp("package"))
    with Guest(host, NAME, packages=[package.file]) as guest:
        yield guest


@pytest.fixture(scope="module")
def daemon(host, package):
    """Installed, and known to libvirt."""
    host.check(f"apt-get install -y {host.put(package.file)}", timeout=INSTALL_S)
    host.check("systemctl restart libvirtd")
    daemon = Daemon(host)
    daemon.wait_active()
    return daemon


def state(host):
    return host.check(f"virsh domstate {NAME}").strip()


def starts_and_stops(host, guest):
    """A start that comes as far as the processors; what the guest does then is the same as ever."""
    guest.power_on()
    assert state(host) == "running"
    host.check(f"virsh -q destroy {NAME}")
    assert state(host) == "shut off"


def test_attached(host, daemon, guest):
    host.tell(host.check(f"virtjoule attach {NAME}"))
    assert "virtiofs" in guest.xml("--inactive")


def test_daemon_is_dead(host, daemon, guest):
    """Its units are stopped. The guest boots, with an empty share."""
    host.check(f"systemctl stop virtjoule.socket {UNIT}")
    # virtjoule-mount.service is stopped when it is not needed any more.
    host.check(f"while mountpoint -q {VMS}; do sleep 0.2; done")
    guest.power_on()
    guest.wait_for_boot()
    host.tell(host.check("journalctl -b -t virtjoule -o cat"))
    type_in(guest, "/root", GUEST_COMMANDS[0], timeout=INSTALL_S)
    assert guest.check("systemctl --failed --quiet") == ""
    assert guest.run(f"cat {POWERCAP}/intel-rapl:0/energy_uj").status != 0


def test_daemon_is_back(host, daemon, guest):
    """The guest's own unit finds the counter: nobody logs in to it."""
    host.check(f"systemctl start virtjoule.socket {UNIT}")
    daemon.wait_active()

    def energy_uj():
        answer = guest.run(f"cat {POWERCAP}/intel-rapl:0/energy_uj")
        return int(answer.output) if answer.status == 0 else 0

    first = system.wait_until(energy_uj, "the guest's counter is there", interval=2)
    system.wait_until(lambda: energy_uj() > first, "the guest's counter goes on", interval=2)
    assert daemon.metrics().vm_energy(guest.uuid) > 0
    host.check(f"virsh -q destroy {NAME}")


def test_misconfigured(host, daemon, guest):
    host.check(f"cp {CONFIG} {CONFIG}.good && echo 'nonsense = yes' >>{CONFIG} && "
               f"! systemctl restart {UNIT}", timeout=INSTALL_S)
    starts_and_stops(host, guest)
    host.check(f"mv {CONFIG}.good {CONFIG}")
    daemon.wait_active()


def test_hanging(host, daemon, guest):
    """The mount is kept for a daemon that does not come."""
    host.check(f"mkdir -p /run/systemd/system/{UNIT}.d && "
               f"printf '[Service]\\nRestartSec=1h\\n' >/run/systemd/system/{UNIT}.d/slow.conf && "
               f"systemctl daemon-reload && systemctl kill -s KILL {UNIT}")
    starts_and_stops(host, guest)
    host.check(f"rm -r /run/systemd/system/{UNIT}.d; systemctl daemon-reload; "
               f"systemctl restart {UNIT}")
    daemon.wait_active()
    starts_and_stops(host, guest)
    assert guest.uuid in host.check(f"ls {VMS}")


def test_purged(host, daemon, guest):
    """The share was put in by hand: it is not virtjoule's to take out, and the hook stays."""
    host.check(f"virsh dumpxml --inactive {NAME} | grep -v virtjoule:share >/run/domain.xml && "
               f"virsh -q define /run/domain.xml")
    host.tell(host.check("apt-get purge -y virtjoule", timeout=INSTALL_S))
    assert host.run("command -v virtjoule virtjouled").status != 0
    host.check(f"test -x {HOOK}")
    starts_and_stops(host, guest)


def test_installed_and_purged_again(host, daemon, guest, package):
    """What virtjoule attached goes with it. Then the domain can be saved again."""
    host.check(f"virsh dumpxml --inactive {NAME} | sed '/<filesystem/,/<.filesystem>/d' "
               f">/run/domain.xml && virsh -q define /run/domain.xml")
    host.check(f"apt-get install -y {host.put(package.file)}", timeout=INSTALL_S)
    daemon.wait_active()
    host.check(f"virtjoule attach {NAME}")
    host.tell(host.check("apt-get purge -y virtjoule", timeout=INSTALL_S))
    assert "virtiofs" not in guest.xml("--inactive")
    host.check(f"test ! -e {HOOK}")
    guest.power_on()
    host.check(f"virsh -q managedsave {NAME}", timeout=INSTALL_S)
    guest.power_on()
    assert state(host) == "running"
