# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of an installation, in this order: from the README's first command to the removal.

A real guest of the hypervisor's libvirt reads its own energy all the time, and lives on.
"""

import json
import re
import shutil
import time

import pytest

from daemon import INTERVAL_S, UNIT, Daemon
from guest import POWERCAP, SHARE, Guest
from harness import system
from package import NEXT, Package
from survival import survive

NAME = "web"  # which the README's commands are about
METADATA_URI = "urn:virtjoule:energy"
# Of two restarts only the last is timed; systemd lets no other take longer to stop and start.
LONGEST_RESTART_S = 10 + 60


def readme_commands():
    """The two commands that the README begins with: on the host, in the guest."""
    text = (system.SOURCE_ROOT / "README.md").read_text()
    section = text.split("## Two commands\n")[1].split("\n## ")[0]
    host, guest = re.split(r"\bin\s+the\s+guest:", section)
    return [re.findall(r"^    (\S.*)$", part, re.MULTILINE) for part in (host, guest)]


HOST_COMMANDS, GUEST_COMMANDS = readme_commands()


def type_in(machine, directory, command, timeout):
    """As an operator would. Nothing asks back: there is no terminal."""
    machine.check(f"cd {directory} && {command}", timeout)


@pytest.fixture(scope="module")
def guest_package(tmp_path_factory):
    return Package("virtjoule-guest", tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def guest(host, guest_package):
    """Defined, not running."""
    with Guest(host, NAME, packages=[guest_package.file]) as guest:
        yield guest


@pytest.fixture(scope="module")
def daemon(host):
    return Daemon(host)


def doctor_finds_nothing(machine, timeout=60):
    answer = machine.run("virtjoule doctor", timeout)
    assert answer.status == 0, answer.output


def test_few_commands():
    assert len(HOST_COMMANDS) <= 2
    assert len(GUEST_COMMANDS) == 1


def test_installed(host, daemon, guest, package):
    host.put(package.file)
    type_in(host, "/share", HOST_COMMANDS[0], timeout=180)
    daemon.wait_active()
    doctor_finds_nothing(host)


def test_attached(host, guest):
    for command in HOST_COMMANDS[1:]:
        type_in(host, "/share", command, timeout=60)
    assert "virtiofs" in guest.xml("--inactive")
    guest.power_on()


def test_daemon_only_reads_from_libvirt(host, guest):
    """Its user is to libvirt what every user is."""
    def can_list(user, *options):
        return host.run(f"runuser -u {user} -- virsh -c qemu:///system {' '.join(options)} list "
                        "</dev/null").status == 0

    for user in ("virtjoule", "nobody"):
        assert can_list(user, "--readonly")
        assert not can_list(user)


def test_guest_has_watts(host, daemon, guest):
    """What its own node_exporter shows is what the host's ledger says, with no setting changed."""
    guest.wait_for_boot()
    assert not guest.scrape().select("node_rapl_package_joules_total")
    type_in(guest, "/root", GUEST_COMMANDS[0], timeout=400)

    lowest = daemon.metrics().vm_energy(guest.uuid)
    time.sleep(2 * INTERVAL_S)  # the guest's counter is one interval late
    start_s = time.monotonic()
    joules = [guest.scrape().sum("node_rapl_package_joules_total") for _ in range(2)]
    watts = float(joules[1] - joules[0]) / (time.monotonic() - start_s)
    highest = daemon.metrics().vm_energy(guest.uuid)
    guest.tell(f"{joules} J of {lowest} to {highest}: at least {watts:.1f} W")
    assert 0 < lowest <= joules[0] < joules[1] <= highest


def test_host_shows_it(host, daemon, guest):
    """Each command that README and manual name for it."""
    assert NAME in host.check("virtjoule list")
    host.check(f"virtjoule show {NAME} && virtjoule show --host")
    manual = (system.SOURCE_ROOT / "man/virtjoule.1.scd").read_text()
    example = re.search(r"^\t(virtjoule show .*) \| jq \.(\w+)$", manual, re.MULTILINE)
    command, key = example.groups()
    assert json.loads(host.check(command))[key] > 0


def test_share_by_hand(guest):
    """It is a root of sysfs."""
    guest.check("mount -t virtiofs virtjoule /mnt && cat /mnt/class/powercap/intel-rapl:0/energy_uj"
                " && umount /mnt")


def test_doctor_of_both(host, guest):
    doctor_finds_nothing(host)
    doctor_finds_nothing(guest, timeout=120)


def test_domain_carries_its_energy(host, daemon, guest):
    """libvirt has it from the process that writes for the daemon."""
    def element():
        return host.run(f"virsh metadata {NAME} --uri {METADATA_URI} --live")

    # It is written once a minute.
    system.wait_until(lambda: element().status == 0, "the domain carries its energy", interval=2)
    used_uj, bound_uj = map(int, re.search(r'package="(\d+) (\d+)"', element().output).groups())
    energy_uj = int(daemon.metrics().vm_energy(guest.uuid) * 10**6)
    host.tell(f"used {used_uj} uJ, up to {bound_uj} uJ; the ledger has {energy_uj} uJ")
    assert 0 < used_uj <= min(energy_uj, bound_uj)
    assert METADATA_URI in guest.xml()


def test_restarted(host, daemon, guest):
    survive(daemon, guest, lambda: host.check(f"systemctl restart {UNIT}"))


def test_upgraded_by_the_playbook(host, daemon, guest, package, tmp_path):
    """Which also changes a setting, attaches what is attached already, and asks the doctor."""
    file = host.put(package.next_file)
    shutil.copytree(system.SOURCE_ROOT / "guest/ansible", tmp_path / "ansible")
    (tmp_path / "ansible/inventory.json").write_text(json.dumps({"hypervisors": {"hosts": {
        "localhost": {"ansible_connection": "local", "virtjoule_deb": file,
                      "virtjoule_domains": [NAME],
                      "virtjoule_settings": {"attribution": {"static_policy": "vcpu"}}}}}}))
    directory = host.put(tmp_path / "ansible")
    survive(daemon, guest, lambda: host.check(
        f"ansible-playbook -i {directory}/inventory.json {directory}/site.yml", timeout=600),
        hung_s=LONGEST_RESTART_S)
    assert host.check("dpkg-query -W -f '${Version}' virtjoule").endswith(NEXT)
    assert guest.check(f"cat {SHARE}/virtjoule/policy").strip() == "vcpu"


def test_detached(host, guest):
    """The definition is the guest's own again; the running one lets go of the share."""
    host.check(f"virtjoule detach {NAME}", timeout=120)
    assert "virtiofs" not in guest.xml("--inactive")
    system.wait_until(lambda: "virtiofs" not in guest.xml(), "the share is gone", interval=2)
    lives_on_without_a_counter(guest)


def test_removed(host, guest):
    host.check("apt-get purge -y virtjoule", timeout=180)
    assert host.run("virsh list --name").output.split() == [NAME]
    lives_on_without_a_counter(guest)


def lives_on_without_a_counter(guest):
    assert guest.run(f"cat {POWERCAP}/intel-rapl:0/energy_uj").status != 0
    assert guest.scrape().select("node_load1")
