# SPDX-License-Identifier: LGPL-2.1-or-later
"""Meters of the whole machine that misbehave: the operator sees which and why, the energy of
the processors goes on, and nothing is invented."""

import os
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import no_fork, system
from harness.audit import Audit
from harness.daemon import FAST, Daemon
from harness.fake_qemu import FakeQemu
from harness.pdu import Pdu
from harness.powercap import Package, SimulatedPowercap
from harness.redfish import Certificates, Redfish, dell, endless, hpe, html, openbmc, redirect


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def service(certificates):
    redfish = Redfish(certificates.server())
    yield redfish
    redfish.stop()


@pytest.fixture
def pdu(tmp_path):
    directory = tmp_path / "pdu"
    directory.mkdir()
    pdu = Pdu(directory)
    yield pdu
    pdu.stop()


def secret(tmp_path, **lines):
    path = tmp_path / "credentials"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    path.chmod(0o600)
    return path


def asking_redfish(tmp_path, certificates, url, password="secret"):
    return {"daemon": FAST, "redfish": {
        "url": url, "credentials": secret(tmp_path, user="monitor", password=password),
        "ca_file": certificates.ca, "interval": "1s"}}


def asking_pdu(tmp_path, pdu, oids=None, **credentials):
    return {"daemon": FAST, "snmp": {
        "address": pdu.address, "oids": oids or pdu.oid(1), "interval": "1s",
        "credentials": secret(tmp_path, **(credentials or {"community": "public"}))}}


def wait_state(daemon, source, state):
    daemon.wait_metrics(lambda metrics: metrics.select("virtjoule_meter_info", source=source,
                                                       state=state),
                        f"{source} to be {state}")


def watts(daemon, source):
    return daemon.metrics().value("virtjoule_platform_watts", source=source)


@pytest.mark.parametrize("vendor", [dell, hpe, openbmc])
def test_redfish_of(vendor, tmp_path, certificates, service):
    service.vendor = vendor
    with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url)) as daemon:
        wait_state(daemon, "redfish", "ok")
        assert watts(daemon, "redfish") == 291
        service.watts = 305
        daemon.wait_metrics(lambda metrics: metrics.value("virtjoule_platform_watts",
                                                          source="redfish") == 305)


def test_redfish_hangs(tmp_path, certificates, service):
    """No tick waits for it."""
    service.delay = 1000
    with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url)) as daemon:
        daemon.wait_ticks(10)
        wait_state(daemon, "redfish", "waiting")


@pytest.mark.parametrize("name,days", [("elsewhere.example", 2), ("localhost", -1)],
                         ids=["of-another-host", "expired"])
def test_redfish_certificate(name, days, tmp_path, certificates):
    """Nothing is asked, and no password told, before the certificate is verified."""
    service = Redfish(certificates.server(name, days))
    try:
        with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url)) as daemon:
            wait_state(daemon, "redfish", "untrusted")
        assert service.requests == []
    finally:
        service.stop()


def test_redfish_password(tmp_path, certificates, service):
    """It is tried once: a BMC may lock the account."""
    with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url,
                                         password="wrong")) as daemon:
        wait_state(daemon, "redfish", "unauthorised")
        time.sleep(3)
        assert len(service.requests) == 1
        assert "wrong" not in daemon.log()


def test_credentials_open_to_others(tmp_path, certificates, service):
    settings = asking_redfish(tmp_path, certificates, service.url)
    settings["redfish"]["credentials"].chmod(0o644)
    with Daemon(tmp_path, settings) as daemon:
        wait_state(daemon, "redfish", "unauthorised")
        assert service.requests == []


def test_pdu(tmp_path, pdu):
    """A machine with two supplies."""
    pdu.tell(2, 100)
    with Daemon(tmp_path, asking_pdu(tmp_path, pdu, f"{pdu.oid(1)} {pdu.oid(2)}")) as daemon:
        wait_state(daemon, "snmp", "ok")
        assert watts(daemon, "snmp") == 391
        pdu.tell(2, None)
        wait_state(daemon, "snmp", "absent")


def test_pdu_version_3(tmp_path, pdu):
    settings = asking_pdu(tmp_path, pdu, user="monitor", password="outlet-secret",
                          privacy="AES", privacy_password="outlet-secret")
    with Daemon(tmp_path, settings) as daemon:
        wait_state(daemon, "snmp", "ok")


@pytest.mark.parametrize("user,password", [("monitor", "outlet-wrong"), ("who", "outlet-secret")])
def test_pdu_refuses(user, password, tmp_path, pdu):
    with Daemon(tmp_path, asking_pdu(tmp_path, pdu, user=user, password=password)) as daemon:
        wait_state(daemon, "snmp", "unauthorised")


@pytest.mark.parametrize("device", ["/dev/null", "/nowhere/ipmi0"])
def test_wrong_device(device, tmp_path):
    with Daemon(tmp_path, {"daemon": FAST, "dcmi": {"device": device}}) as daemon:
        wait_state(daemon, "dcmi", "absent")


@pytest.fixture
def forbidden(tmp_path):
    """A device that may not be opened, by whomever."""
    tmp_path = tmp_path / "nodev"
    tmp_path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev", "tmpfs", tmp_path], check=True)
    os.mknod(tmp_path / "ipmi0", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    yield tmp_path / "ipmi0"
    system.detach_mount(tmp_path)


def test_forbidden_device(tmp_path, forbidden):
    with Daemon(tmp_path, {"daemon": FAST, "dcmi": {"device": forbidden}}) as daemon:
        wait_state(daemon, "dcmi", "unauthorised")


def test_no_fork_is_noticed():
    """What test_misbehaviours relies on."""
    result = subprocess.run([*no_fork.COMMAND, "sh", "-c", "true & wait"], check=False)
    assert result.returncode == -signal.SIGSYS


class Machine:
    """Draws 100 W beside its processors, and 1.5 W for each watt of theirs; so the daemon has
    learned already, of a Redfish service that is 3 s late. Its PDU feeds another machine too."""

    STATIC, SLOPE, LAG, OTHER = 100, 1.5, 3, 100
    QUIET, BUSY = 100, 300  # watts of the processors

    def __init__(self, powercap):
        self._powercap = powercap
        self._steps = [(0, self.QUIET)]

    def draw(self, watts):
        self._powercap.draw(0, watts)
        self._steps.append((time.monotonic(), watts))

    def watts(self, when):
        processors = next(watts for since, watts in reversed(self._steps) if since <= when)
        return round(self.STATIC + self.SLOPE * processors)

    @classmethod
    def write_learned(cls, runtime_dir):
        runtime_dir.mkdir()
        (runtime_dir / "platform").write_text("".join(
            f"{meter} watts {static} 1 {cls.SLOPE} 0.01 0 1 {delay} 1\n" for meter, static, delay in
            (("redfish", cls.STATIC, cls.LAG), ("snmp", cls.STATIC + cls.OTHER, 0))))


def wait_trust(daemon, source, *trusts):
    daemon.wait_metrics(
        lambda metrics: metrics.select("virtjoule_meter_info", source=source)[0][0]["trust"]
        in trusts, f"{source} to be {trusts}")


def energies(daemon):
    """Joules of the processors and of the whole machine, and when."""
    metrics = daemon.metrics()
    return (float(metrics.sum("virtjoule_source_energy_joules_total", zone="package-0")),
            float(metrics.sum("virtjoule_source_energy_joules_total", zone="platform")),
            time.monotonic())


def misbehave(daemon, source, faults):
    """Each fault, what the operator sees of it, and how it ends."""
    for begin, state, end in faults:
        begin()
        wait_state(daemon, source, state)
        end()
        wait_state(daemon, source, "ok")


def answering(service, answer, state):
    return (lambda: setattr(service, "answer", answer), state,
            lambda: setattr(service, "answer", None))


def telling(service, figure, state):
    honest = service.watts
    return (lambda: setattr(service, "watts", figure), state,
            lambda: setattr(service, "watts", honest))


def redfish_faults(service):
    return [
        answering(service, html, "malformed"),
        answering(service, endless, "malformed"),
        answering(service, redirect("https://elsewhere.example/redfish/v1/Chassis"), "untrusted"),
        answering(service, lambda handler: handler.reply(503, b""), "busy"),
        telling(service, 0, "absurd"),
        telling(service, None, "absent"),
        (service.stop, "silent", service.start),
    ]


def pdu_faults(pdu, honest):
    nonsense = [(honest, "counter", "malformed"), ("much", "string", "malformed"),
                (-5, "integer", "absurd"), (65535, "gauge", "absurd"), (None, "gauge", "absent")]
    faults = [(lambda value=value, kind=kind: pdu.tell(1, value, kind), state,
               lambda: pdu.tell(1, honest)) for value, kind, state in nonsense]
    return [*faults, (pdu.hang, "silent", pdu.go_on)]


def misbehave_redfish(daemon, machine, service):
    """Its faults, then what no answer tells: only who knows the machine sees it."""
    misbehave(daemon, "redfish", redfish_faults(service))
    machine.draw(machine.BUSY)
    daemon.wait_ticks(5 * (machine.LAG + 2))
    wait_trust(daemon, "redfish", "trusted")  # late, but as late as was learned
    service.frozen = True
    machine.draw(machine.QUIET)
    wait_trust(daemon, "redfish", "deviating", "frozen")
    service.frozen = False
    wait_trust(daemon, "redfish", "trusted")


def misbehave_pdu(daemon, machine, pdu):
    """It feeds another machine all the time; a lie, then its faults."""
    honest = machine.watts(0) + machine.OTHER
    wait_trust(daemon, "snmp", "contradicting")
    pdu.tell(1, 2 * honest)
    wait_trust(daemon, "snmp", "deviating", "frozen")
    pdu.tell(1, honest)
    misbehave(daemon, "snmp", pdu_faults(pdu, honest))


@pytest.mark.slow
def test_misbehaviours(tmp_path, directory, certificates, service, pdu):
    """Of every meter, at once, for a VM that is shown its part of the whole machine: the operator
    sees which and why, energy is divided without rest and never falls, no tick waits, no energy is
    invented, a meter that disagrees with the first is not used, and no process is made."""
    settings = asking_pdu(tmp_path, pdu)
    community = settings["snmp"]["credentials"].rename(tmp_path / "community")
    settings["snmp"]["credentials"] = community
    settings |= {"redfish": asking_redfish(tmp_path, certificates, service.url)["redfish"],
                 "dcmi": {"device": "/nowhere/ipmi0"}, "rapl": {"sysfs_root": tmp_path / "sys"},
                 "attribution": {"platform": "psys"}}
    Machine.write_learned(tmp_path / "run")
    package = Package(tuple(range(os.cpu_count())), Machine.QUIET, 0)
    with SimulatedPowercap(tmp_path / "sys", [package]) as powercap, \
            FakeQemu(directory, duty=20) as vm, \
            Daemon(tmp_path, settings, wrapper=no_fork.COMMAND) as daemon, \
            Audit(daemon) as audit:
        machine = Machine(powercap)
        service.watts, service.lag = machine.watts, machine.LAG
        pdu.tell(1, machine.watts(0) + machine.OTHER)
        wait_trust(daemon, "redfish", "trusted")
        daemon.wait_metrics(lambda metrics: metrics.sum("virtjoule_source_energy_joules_total",
                                                        zone="platform"))
        audit.watch_tree(vm.uuid)
        before, missed = energies(daemon), daemon.metrics().sum("virtjoule_ticks_missed_total")
        with ThreadPoolExecutor() as pool:
            for peer in [pool.submit(misbehave_redfish, daemon, machine, service),
                         pool.submit(misbehave_pdu, daemon, machine, pdu)]:
                peer.result()
        after = energies(daemon)
        shown = daemon.cli("show", "--host")
        assert [(meter["source"], meter["state"], meter["used"]) for meter in shown["meters"]] == [
            ("dcmi", "absent", False), ("redfish", "ok", True), ("snmp", "ok", False)]
        # Less than any meter is waited for.
        assert daemon.metrics().sum("virtjoule_ticks_missed_total") - missed < 1.5 / 0.2
        check_platform(daemon, vm, before, after)


def check_platform(daemon, vm, before, after):
    processors, whole, passed = (late - early for early, late in zip(before, after))
    # A tenth is what may be taken from or owed to a meter; an interval may end at either edge.
    edge = 2 * 0.2 * (Machine.STATIC + Machine.SLOPE * Machine.BUSY)
    truth = Machine.STATIC * passed + Machine.SLOPE * processors
    assert abs(whole - truth) <= 0.1 * truth + edge, (whole, truth)
    metrics = daemon.wait_ticks()
    assert metrics.value("virtjoule_source_energy_joules_total", zone="platform",
                         source="modelled") > 0
    part = metrics.value("virtjoule_vm_energy_joules_total", zone="platform", uuid=vm.uuid)
    assert part > 0
    check_psys(daemon, vm, part)


def check_psys(daemon, vm, part):
    """The guest has its part as a zone beside its package, no less than the ledger had before."""
    powercap = daemon.mountpoint / vm.uuid / "class/powercap"
    psys = next(path for path in powercap.glob("intel-rapl:?")
                if (path / "name").read_text() == "psys\n")
    system.wait_until(lambda: int((psys / "energy_uj").read_text()) >= int(part * 10**6) - 1000,
                      "psys to hold the VM's part of the machine")
