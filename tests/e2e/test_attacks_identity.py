# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who a VM is does not depend on what a process says of itself.

Each attack is a process of an unprivileged user that works as hard as the VM. Its work counts to
the host, and the VM has its CPU time and joules, its name, its vCPUs and its directory as without
the attack. Joules are compared with those of a VM that is not attacked, by CPU time.
"""

import json
import os
import re
import shutil
import subprocess
import uuid as uuids
from contextlib import suppress
from pathlib import Path

import pytest

from harness import accounts, system
from harness import libvirtd as libvirt
from harness.audit import Audit
from harness.bpf_maps import BpfMaps
from harness.daemon import FAST
from harness.fake_qemu import FakeQemu
from harness.margins import CPU_S, ENERGY_SHORT
from harness.powercap import Package, SimulatedPowercap

# A user of this test run's own: the log tells of a few processes of each user, and others' tests
# have such processes as well.
ATTACKER = 100_000 + 32 * os.getpid() + os.getpid() % 30
AS_ATTACKER = (f"--reuid={ATTACKER}", "--regid=nogroup", "--clear-groups")
USED_S = 0.4  # by the VM, while the attack goes on
REFUSED = "a process under the name of a VM's program is no VM's"
LOG_LINES = 10  # at most, for any number of such processes


@pytest.fixture
def host(directory, stack):
    (directory / "sys").mkdir()
    packages = [Package(cpus=tuple(range(os.cpu_count())))]
    return stack.enter_context(SimulatedPowercap(directory / "sys", packages))


@pytest.fixture(params=("auto", "procfs"))
def settings(request, host):
    """With eBPF, where discovery looks at what the kernel side reports, and without."""
    return {"daemon": FAST, "rapl": {"sysfs_root": host.root},
            "usage": {"provider": request.param},
            "baseline": {"package-0": f"{host.packages[0].static_watts}W"}}


@pytest.fixture
def witness(directory, stack):
    """Another VM, which nothing is done to."""
    return stack.enter_context(FakeQemu(directory, name="witness", duty=20))


@pytest.fixture
def attack(directory, stack):
    """attack(...): a process of the attacker's."""
    programs = directory / "attacker"
    programs.mkdir(mode=0o755)

    def start(**options):
        options = {"duty": 25, "users": AS_ATTACKER, **options}
        return stack.enter_context(FakeQemu(programs, **options))

    return start


def refusals(daemon):
    """[(uid, pid)] of the lines about processes that are no VMs'."""
    lines = [line for line in daemon.log().splitlines() if REFUSED in line]
    return [(int(re.search(r"uid=(\d+)", line)[1]), int(re.search(r"pid=(\d+)", line)[1]))
            for line in lines]


def wait_refused(daemon, pid, ticks=2):
    """One line tells of the process, and goes on to be the only one."""
    key = (ATTACKER, pid)
    system.wait_until(lambda: key in refusals(daemon), f"{key} in the log:\n{daemon.log()}")
    daemon.wait_ticks(ticks)
    assert refusals(daemon).count(key) == 1, daemon.log()


def wait_row(daemon, name):
    """The labels of the VM with that name."""
    metrics = daemon.wait_metrics(lambda m: m.select("virtjoule_vm_info", name=name))
    return metrics.select("virtjoule_vm_info", name=name)[0][0]


def check_untouched(daemon, witness, vm, *helpers, vcpus=1):
    """The VM while others attack it: what it has, and what it is."""
    for process in (witness, vm, *helpers):
        system.wait_until(lambda process=process: process.cpu_seconds() > USED_S, "work")
    witness.stop_load()
    used = sum(process.stop_load() for process in (vm, *helpers))
    metrics = daemon.wait_ticks(3)
    counted = accounts.cpu_seconds(metrics, vm)
    accounts.Between(used - vm.begun_s - sum(helper.begun_s for helper in helpers), counted,
                     used + accounts.serving_seconds(daemon)).check(CPU_S * (1 + len(helpers)))
    watts = float(metrics.vm_energy(witness.uuid)) / accounts.cpu_seconds(metrics, witness)
    assert float(metrics.vm_energy(vm.uuid)) == pytest.approx(counted * watts, rel=ENERGY_SHORT)
    labels = [labels for labels, _ in metrics.select("virtjoule_vm_info", uuid=vm.uuid)]
    assert [(label["name"], label["vcpus"]) for label in labels] == [(vm.name, str(vcpus))]
    assert os.readlink(daemon.mountpoint / "by-name" / vm.name) == f"../{vm.uuid}"
    assert daemon.cli("show", vm.name)["uuid"] == vm.uuid


def check_absent(daemon, *texts):
    """No series, no row and no directory tells of the attacker."""
    metrics = daemon.metrics()
    for text in texts:
        assert text not in metrics.text
        assert text not in json.dumps(daemon.cli("list"))
        assert not [name for name in os.listdir(daemon.mountpoint / "by-name") if text in name]


def processes_in_kernel(daemon):
    """How many the kernel side has listed, if there is one."""
    with BpfMaps(daemon.process.pid) as maps:
        return maps.entries().get("processes", 0)


@pytest.mark.parametrize("older", (True, False), ids=("older", "younger"))
def test_claimed_uuid(witness, settings, start_daemon, start_vm, attack, older):
    """Another name, the VM's UUID, more vCPUs; before the VM is there, or after."""
    victim = str(uuids.uuid4())
    early = attack(name="impostor", uuid=victim, vcpus=2) if older else None
    daemon = start_daemon(settings)
    vm = start_vm(uuid=victim, name="victim", duty=25)
    with Audit(daemon) as audit:
        late = attack(name="impostor", uuid=victim, vcpus=2)
        daemon.wait_metrics(lambda m: m.select("virtjoule_vm_info", uuid=victim))
        audit.watch_tree(victim)
        for fake in filter(None, (early, late)):
            wait_refused(daemon, fake.process.pid, ticks=20)  # each is looked at again meanwhile
        check_untouched(daemon, witness, vm)
        check_absent(daemon, "impostor")


def test_real_binary(witness, settings, start_daemon, start_vm, stack):
    """root's own QEMU, run by the attacker."""
    daemon = start_daemon(settings)
    vm = start_vm(name="victim", duty=25)
    qemu = system.start_child(
        ["setpriv", *AS_ATTACKER, shutil.which("qemu-system-x86_64"), "-name", "guest=impostor",
         "-uuid", vm.uuid, "-machine", "pc,accel=tcg", "-m", "16", "-display", "none",
         "-nodefaults"],
        stdin=subprocess.DEVNULL)
    stack.callback(system.stop_child, qemu)
    with Audit(daemon):
        wait_refused(daemon, qemu.pid)
        check_untouched(daemon, witness, vm)
        check_absent(daemon, "impostor")
    assert qemu.poll() is None


def socket_arguments(name, uuid, path):
    return ["-name", f"guest={name},debug-threads=on", "-uuid", uuid, "-m", "128",
            "-chardev", f"socket,id=fs,path={path}"]


def test_fake_virtiofsd(witness, settings, start_daemon, start_vm, attack):
    """It says that it serves the VM, which would pay for it."""
    daemon = start_daemon(settings)
    uuid = str(uuids.uuid4())
    path = "/run/virtjoule-test/fs.sock"
    vm = start_vm(name="victim", uuid=uuid, duty=25,
                  arguments=socket_arguments("victim", uuid, path))
    helper = start_vm(program="virtiofsd", duty=25, arguments=[f"--socket-path={path}"])
    with Audit(daemon):
        fake = attack(program="virtiofsd", duty=40, arguments=[f"--socket-path={path}"])
        wait_refused(daemon, fake.process.pid)
        check_untouched(daemon, witness, vm, helper)


def test_claimed_socket(witness, settings, start_daemon, start_vm, attack):
    """It names the VM's socket, so that the VM's helper would count to it, or to neither."""
    daemon = start_daemon(settings)
    uuid = str(uuids.uuid4())
    path = "/run/virtjoule-test/fs.sock"
    fake = attack(name="thief", arguments=socket_arguments("thief", str(uuids.uuid4()), path))
    vm = start_vm(name="victim", uuid=uuid, duty=25,
                  arguments=socket_arguments("victim", uuid, path))
    helper = start_vm(program="virtiofsd", duty=25, arguments=[f"--socket-path={path}"])
    with Audit(daemon):
        wait_refused(daemon, fake.process.pid)
        check_untouched(daemon, witness, vm, helper)
        check_absent(daemon, "thief")


def derived_uuid(name):
    """Of a VM that has only a name: by the machine's id."""
    machine = uuids.UUID(int=0)
    with suppress(OSError, ValueError):
        machine = uuids.UUID(Path("/etc/machine-id").read_text().strip())
    return str(uuids.uuid5(machine, f"name:{name}"))


def test_derived_uuid_taken(witness, settings, start_daemon, start_vm, attack):
    """A VM without a UUID has one of its name, whoever takes the name before."""
    name = f"victim-{os.getpid()}"
    arguments = ["-name", name, "-m", "128"]
    fake = attack(name=name, arguments=arguments)
    daemon = start_daemon(settings)
    with Audit(daemon):
        wait_refused(daemon, fake.process.pid)
        vm = start_vm(name=name, uuid=derived_uuid(name), duty=25, arguments=arguments)
        check_untouched(daemon, witness, vm)


@pytest.mark.parametrize("policy", ("vcpu", "equal"))
def test_idle_fakes(witness, settings, start_daemon, start_vm, attack, policy):
    """19 processes that do nothing, each with 65535 vCPUs, have no part in the static energy."""
    settings["attribution"] = {"static_policy": policy}
    daemon = start_daemon(settings)
    vm = start_vm(name="victim", duty=25)
    known = processes_in_kernel(daemon)
    fakes = [attack(name=f"idler{i}", vcpus=65535, duty=0) for i in range(19)]
    with Audit(daemon):
        system.wait_until(lambda: len(refusals(daemon)) == LOG_LINES, "the log tells of some")
        check_untouched(daemon, witness, vm)
        check_absent(daemon, "idler", *(fake.uuid for fake in fakes))
        # All of it goes to VMs; those of other test runs may be among them.
        daemon.wait_ticks(10)
        metrics = daemon.metrics()
        running = {labels["uuid"] for labels, value in metrics.select("virtjoule_vm_running")
                   if value == 1}
        assert vm.uuid in running and not running & {fake.uuid for fake in fakes}
        assert metrics.vm_energy(vm.uuid, "static_") > 0
    assert len(refusals(daemon)) == LOG_LINES, daemon.log()
    assert {uid for uid, _ in refusals(daemon)} == {ATTACKER}
    # None has a record: whatever others have started meanwhile is fewer.
    assert processes_in_kernel(daemon) < known + len(fakes)


def test_vcpus_of_a_trusted_command_line(witness, settings, start_daemon, start_vm):
    """A mistyped -smp counts for what the host can run."""
    daemon = start_daemon(settings)
    vm = start_vm(name="typo", duty=25, vcpus=65535)
    check_untouched(daemon, witness, vm, vcpus=os.sysconf("SC_NPROCESSORS_CONF"))


def test_not_dumpable(witness, settings, start_daemon, start_vm, attack):
    """It looks like root's in /proc."""
    daemon = start_daemon(settings)
    vm = start_vm(name="victim", duty=25)
    with Audit(daemon):
        fake = attack(name="impostor", uuid=vm.uuid, hidden=True)
        wait_refused(daemon, fake.process.pid)
        assert os.stat(f"/proc/{fake.process.pid}/status").st_uid == 0
        check_untouched(daemon, witness, vm)
        check_absent(daemon, "impostor")


@pytest.mark.parametrize("users", (
    (f"--ruid={ATTACKER}", "--euid=root", "--clear-groups"),
    ("--ruid=root", f"--euid={ATTACKER}", "--clear-groups"),
), ids=("real", "effective"))
def test_mixed_users(witness, settings, start_daemon, start_vm, attack, users):
    """As with a set-user-id program: all of real, effective and saved user must be trusted."""
    daemon = start_daemon(settings)
    vm = start_vm(name="victim", duty=25)
    with Audit(daemon):
        fake = attack(name="impostor", uuid=vm.uuid, users=users)
        wait_refused(daemon, fake.process.pid)
        check_untouched(daemon, witness, vm)
        check_absent(daemon, "impostor")


def test_set_user_id_program(witness, settings, start_daemon, start_vm, directory, stack):
    """A copy of QEMU that is root's and set-user-id, run by the attacker."""
    daemon = start_daemon(settings)
    vm = start_vm(name="victim", duty=25)
    programs = directory / "suid"
    programs.mkdir(mode=0o711)
    program = programs / "qemu-system-x86_64"
    shutil.copy(system.BUILD / "tests/e2e/fake-qemu", program)
    program.chmod(0o4755)
    fake = stack.enter_context(FakeQemu(programs, name="impostor", uuid=vm.uuid, duty=25,
                                        users=AS_ATTACKER))
    with Audit(daemon):
        wait_refused(daemon, fake.process.pid)
        text = Path(f"/proc/{fake.process.pid}/status").read_text()
        assert re.search(r"^Uid:\t(\d+)\t(\d+)\t(\d+)", text, re.M).groups() == (
            str(ATTACKER), "0", "0")
        check_untouched(daemon, witness, vm)
        check_absent(daemon, "impostor")


def test_trusted_users(witness, settings, start_daemon, attack):
    """What the operator trusts is taken at its word."""
    settings["discovery"] = {"trusted_users": f"libvirt-qemu {ATTACKER}"}
    daemon = start_daemon(settings)
    vm = attack(name="ours")
    check_untouched(daemon, witness, vm)
    assert not refusals(daemon)


def test_untrusted_vms(witness, settings, start_daemon, start_vm, attack):
    """With untrusted_vms the attacker has a VM, which is not the VM that it says it is."""
    settings["discovery"] = {"untrusted_vms": "1"}
    daemon = start_daemon(settings)
    vm = start_vm(name="victim", duty=25)
    fake = attack(name="victim", uuid=vm.uuid, vcpus=65535)
    name = f"uid{ATTACKER}/victim"
    with Audit(daemon):
        labels = wait_row(daemon, name)
        assert labels["uuid"] != vm.uuid and labels["vcpus"] == "1"
        second = attack(name="latecomer")
        wait_refused(daemon, second.process.pid)
        check_untouched(daemon, witness, vm)
        fake.uuid = labels["uuid"]
        system.wait_until(lambda: fake.cpu_seconds() > USED_S, "work")
        fake.stop_load()
        accounts.check_all(daemon, fake)
        link = daemon.mountpoint / "by-name" / name.replace("/", "_")
        assert os.readlink(link) == f"../{labels['uuid']}"
        check_absent(daemon, "latecomer")


def test_unknown_user(settings, unstarted):
    settings["discovery"] = {"trusted_users": "root no-such-user"}
    unstarted.configure(settings)
    assert unstarted.check_config() == 78
    assert re.search(r"line=\d+ section=discovery key=trusted_users", unstarted.log())


# By accident.


def test_one_uuid_twice(witness, settings, start_daemon, start_vm):
    """A clone that kept its UUID is a VM of its own, and said so."""
    daemon = start_daemon(settings)
    vm = start_vm(name="original", duty=25)
    daemon.wait_metrics(lambda m: m.select("virtjoule_vm_info", uuid=vm.uuid))
    clone = start_vm(name="clone", uuid=vm.uuid, duty=15)
    with Audit(daemon):
        labels = wait_row(daemon, "clone")
        assert labels["uuid"] != vm.uuid
        check_untouched(daemon, witness, vm)
        clone.uuid = labels["uuid"]
        check_untouched(daemon, witness, clone)
    warnings = [line for line in daemon.log().splitlines() if "two VMs have one UUID" in line]
    assert len(warnings) == 1
    assert f"pid={clone.process.pid}" in warnings[0] and vm.uuid in warnings[0]


def test_two_of_one_name(witness, settings, start_daemon, start_vm):
    """Told apart in metrics, list and by-name/ in the same way."""
    daemon = start_daemon(settings)
    first = start_vm(name="twin", duty=25)
    daemon.wait_metrics(lambda m: m.select("virtjoule_vm_info", uuid=first.uuid))
    second = start_vm(name="twin", duty=15)
    with Audit(daemon):
        daemon.wait_metrics(lambda m: m.select("virtjoule_vm_info", uuid=second.uuid))
        check_untouched(daemon, witness, first)
        second.name = f"twin@{second.uuid}"
        check_untouched(daemon, witness, second)
        named = {vm["uuid"]: vm["name"] for vm in daemon.cli("list")["vms"]}
        assert (named[first.uuid], named[second.uuid]) == ("twin", second.name)


# With libvirt.


class Session:
    """The attacker's qemu:///session; use as a context."""

    def __init__(self, directory):
        self._home = directory / "home"
        self._as_attacker = ["setpriv", *AS_ATTACKER, "env", f"HOME={self._home}",
                             *(f"XDG_{kind}_{base}={self._home}/{kind}" for kind, base in (
                                 ("RUNTIME", "DIR"), ("CONFIG", "HOME"), ("CACHE", "HOME")))]
        self._passwd = directory / "passwd"
        self._children = []

    def __enter__(self):
        self._home.mkdir(mode=0o700)
        os.chown(self._home, ATTACKER, -1)
        # libvirt wants a name; the mount is this test run's own.
        self._passwd.write_text(Path("/etc/passwd").read_text() +
                                f"attacker:x:{ATTACKER}:65534::{self._home}:/bin/sh\n")
        subprocess.run(["mount", "--bind", self._passwd, "/etc/passwd"], check=True)
        for program in ("virtlogd", "libvirtd"):
            self._children.append(
                system.start_child([*self._as_attacker, f"/usr/sbin/{program}"], cwd=self._home))
        system.wait_until(lambda: self._virsh("uri").returncode == 0, "the session answers")
        return self

    def __exit__(self, *_):
        for name in self._virsh("list", "--name").stdout.split():
            self._virsh("destroy", name)
        for child in reversed(self._children):
            system.stop_child(child)
        system.detach_mount("/etc/passwd")

    def create(self, name, uuid):
        """Starts a domain; returns the PID of its QEMU."""
        xml = self._home / "domain.xml"
        xml.write_text(f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>"
                       "<memory unit='MiB'>32</memory><vcpu>2</vcpu><os><type>hvm</type></os>"
                       "<devices><memballoon model='none'/></devices></domain>")
        created = self._virsh("create", xml)
        assert created.returncode == 0, created.stderr
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if entry.stat().st_uid == ATTACKER and uuid.encode() in (
                        entry / "cmdline").read_bytes():
                    return int(entry.name)
        raise LookupError("no QEMU of the session's")

    def _virsh(self, *arguments):
        return subprocess.run([*self._as_attacker, "virsh", "-c", "qemu:///session", *arguments],
                              capture_output=True, text=True, cwd=self._home)


def test_session_domain(settings, directory, stack, start_daemon, start_guest, libvirtd):
    """A domain copied to the attacker's qemu:///session with its UUID and name."""
    settings["discovery"] = {"libvirt_uri": libvirt.URI}
    daemon = start_daemon(settings)
    session = stack.enter_context(Session(directory))
    guest = start_guest(daemon, share=False)
    with Audit(daemon):
        before = accounts.look(daemon, guest)
        wait_refused(daemon, session.create(guest.name, guest.uuid))
        guest.start_load()
        system.wait_until(lambda: guest.cpu_seconds() > before.most + USED_S, "work")
        guest.stop_load()
        accounts.look(daemon, guest).growth(before).check()
        shown = daemon.cli("show", guest.name)
        assert (shown["uuid"], shown["vcpus"]) == (guest.uuid, 1)
        assert os.readlink(daemon.mountpoint / "by-name" / guest.name) == f"../{guest.uuid}"
        rows = daemon.cli("list")["vms"]
        assert [row["uuid"] for row in rows if guest.name in row["name"]] == [guest.uuid]


def test_domain_copied(settings, start_daemon, start_vm, start_guest, libvirtd):
    """root runs a copy of a domain by hand, before: libvirt tells which is the domain."""
    settings["discovery"] = {"libvirt_uri": libvirt.URI}
    daemon = start_daemon(settings)
    guest = start_guest(daemon, share=False)
    guest.destroy()
    copy = start_vm(name="copy", uuid=guest.uuid, duty=15)
    system.wait_until(lambda: copy.cpu_seconds() > USED_S, "work")
    with Audit(daemon):
        guest.start()
        assert wait_row(daemon, "copy")["uuid"] != guest.uuid
        shown = daemon.cli("show", guest.uuid)
        assert shown["name"] == guest.name
    assert "two VMs have one UUID" in daemon.log()
