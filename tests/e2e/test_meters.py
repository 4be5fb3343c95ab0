# SPDX-License-Identifier: LGPL-2.1-or-later
"""Meters of the whole machine that misbehave: the operator sees which and why, the energy of
the processors goes on, and nothing is invented."""

import subprocess
import time

import pytest

from harness.daemon import FAST, Daemon
from harness.pdu import Pdu
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


def wait_state(daemon, source, state, timeout=30):
    daemon.wait_metrics(lambda metrics: metrics.select("virtjoule_meter_info", source=source,
                                                       state=state),
                        timeout, f"{source} to be {state}")


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


@pytest.mark.parametrize("answer,state", [
    (html, "malformed"),
    (endless, "malformed"),
    (redirect("https://elsewhere.example/redfish/v1/Chassis"), "untrusted"),
    (redirect("/redfish/v1/Chassis"), "malformed"),
    (lambda handler: handler.reply(503, b""), "busy"),
], ids=["html", "10-mb", "redirect-elsewhere", "redirect-in-a-circle", "unavailable"])
def test_redfish_answers_wrongly(answer, state, tmp_path, certificates, service):
    """It is told, the last figure ages, and the counters are read meanwhile; then it is back."""
    with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url)) as daemon:
        wait_state(daemon, "redfish", "ok")
        service.answer = answer
        wait_state(daemon, "redfish", state)
        daemon.wait_ticks()
        service.answer = None
        wait_state(daemon, "redfish", "ok")


@pytest.mark.parametrize("figure,state", [(0, "absurd"), (65535, "absurd"), (None, "absent"),
                                          ("291", "malformed")])
def test_redfish_tells_nonsense(figure, state, tmp_path, certificates, service):
    service.watts = figure
    with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url)) as daemon:
        wait_state(daemon, "redfish", state)
        assert not daemon.metrics().select("virtjoule_platform_watts", source="redfish")


def test_redfish_goes_and_comes_back(tmp_path, certificates, service):
    with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url)) as daemon:
        wait_state(daemon, "redfish", "ok")
        service.stop()
        wait_state(daemon, "redfish", "silent")
        service.start()
        wait_state(daemon, "redfish", "ok")


def test_redfish_hangs(tmp_path, certificates, service):
    """No tick waits for it."""
    service.delay = 1000
    with Daemon(tmp_path, asking_redfish(tmp_path, certificates, service.url)) as daemon:
        daemon.wait_ticks(10)
        wait_state(daemon, "redfish", "waiting")
        assert daemon.metrics().sum("virtjoule_ticks_missed_total") == 0


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


@pytest.mark.parametrize("value,kind,state", [
    (291, "counter", "malformed"), ("much", "string", "malformed"), (-5, "integer", "absurd"),
    (0, "gauge", "absurd"), (65535, "gauge", "absurd"), (None, "gauge", "absent")])
def test_pdu_tells_nonsense(value, kind, state, tmp_path, pdu):
    with Daemon(tmp_path, asking_pdu(tmp_path, pdu)) as daemon:
        wait_state(daemon, "snmp", "ok")
        pdu.tell(1, value, kind)
        wait_state(daemon, "snmp", state)
        pdu.tell(1, 305)
        wait_state(daemon, "snmp", "ok")


def test_pdu_hangs_and_goes_on(tmp_path, pdu):
    with Daemon(tmp_path, asking_pdu(tmp_path, pdu)) as daemon:
        wait_state(daemon, "snmp", "ok")
        pdu.hang()
        wait_state(daemon, "snmp", "silent")
        pdu.go_on()
        wait_state(daemon, "snmp", "ok")


def test_no_fork_for_a_reading(tmp_path, certificates, service, pdu):
    settings = asking_pdu(tmp_path, pdu) | {
        "redfish": asking_redfish(tmp_path, certificates, service.url)["redfish"]}
    settings["snmp"]["credentials"] = tmp_path / "community"
    settings["snmp"]["credentials"].write_text("community = public\n")
    settings["snmp"]["credentials"].chmod(0o600)
    with Daemon(tmp_path, settings) as daemon:
        wait_state(daemon, "redfish", "ok")
        wait_state(daemon, "snmp", "ok")
        children = subprocess.run(["pgrep", "-P", str(daemon.process.pid)], capture_output=True,
                                  check=False)
        assert children.stdout == b""


@pytest.mark.parametrize("device", ["/dev/null", "/nowhere/ipmi0"])
def test_wrong_device(device, tmp_path):
    with Daemon(tmp_path, {"daemon": FAST, "dcmi": {"device": device}}) as daemon:
        wait_state(daemon, "dcmi", "absent")
