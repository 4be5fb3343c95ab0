# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real /dev/ipmi0: the daemon and freeipmi's ipmi-dcmi ask one BMC through Debian's kernel, and
the BMC misbehaves.

The machine is a guest, booted once; its BMC is QEMU's external one, the test's own.
"""

import re
import time
from contextlib import contextmanager

import pytest

from harness import bmc, system
from harness.audit import check_division
from harness.daemon import VIRTJOULE
from harness.guest_host import GuestHost
from harness.margins import LATE_TICKS

pytestmark = pytest.mark.slow

INTERVAL_S = 0.5
PACKAGES = {"package-0", "package-1"}
EVERY_SECOND = "[dcmi]\ninterval = 1s\n"
# On the wire 0xa0 and 0xaa are marks of the protocol.
POWERS = [0xA0AA, 291, 60000]


@pytest.fixture(scope="module")
def the_bmc():
    with system.TemporaryDirectory() as directory:
        peer = bmc.Bmc(directory / "bmc.sock")
        yield peer
        peer.stop()


@pytest.fixture(scope="module")
def host(session_libvirtd, the_bmc):
    """The modules are not loaded, the daemon is not started."""
    programs = [VIRTJOULE, "/usr/sbin/ipmi-dcmi", "/usr/bin/setpriv"]
    with (system.TemporaryDirectory() as directory,
          GuestHost(session_libvirtd, directory, "procfs", memory_mib=512,
                    programs=programs, bmc=the_bmc) as host):
        host.leave_share()  # programs start sooner
        yield host


@pytest.fixture(scope="module")
def running(host):
    """The daemon asks every second, and a VM uses energy."""
    load_modules(host)
    with host.daemon(EVERY_SECOND):
        host.start_vm("some", cpu=1, duty=20)
        yield host


@pytest.fixture
def log(host):
    """Shown when the test fails."""
    yield
    print(host.log())


def load_modules(host):
    host.check("[ -e /dev/ipmi0 ] || for module in /ipmi/*; do insmod $module || exit; done")


def remove_modules(host):
    host.check("rmmod ipmi_devintf ipmi_si ipmi_msghandler")


def ask_freeipmi(host, question="--get-system-power-statistics"):
    return host.check(f"{host.program('ipmi-dcmi')} {question}")


def freeipmi_watts(host):
    return int(re.search(r"^Current Power +: (\d+) Watts$", ask_freeipmi(host), re.MULTILINE)[1])


def meter(host):
    """As `virtjoule show --host` tells of it; None: there is none. The metrics say the same."""
    shown = host.show_host()["meters"]
    exported = host.metrics().select("virtjoule_meter_info")
    assert len(shown) == len(exported) <= 1
    if not shown:
        return None
    # A tick may have come between the two.
    return shown[0] if shown[0]["state"] == exported[0][0]["state"] else {"state": "changing"}


def wait_state(host, state):
    """For longer than the BMC's silence and the pause after it last; returns the meter."""
    return system.wait_until(lambda: (found := meter(host))["state"] == state and found,
                             f"the meter is {state}")


def wait_exported_state(host, state):
    system.wait_until(lambda: host.metrics().select("virtjoule_meter_info", state=state),
                      f"the meter is {state}")


def watts(host):
    """The last reading's, as of the metrics; 0: there was none."""
    return host.metrics().sum("virtjoule_platform_watts", source="dcmi")


def wait_watts(host, value):
    system.wait_until(lambda: watts(host) == value, f"{value} W")


def ticks(metrics):
    return metrics.value("virtjoule_tick_seconds_count")


def missed(metrics):
    return metrics.value("virtjoule_ticks_missed_total")


@contextmanager
def unnoticed(host):
    """What happens meanwhile stops no ticks, and gives no energy that the packages did not draw."""
    start = host.look()
    yield
    end = host.look()
    check_division(end.metrics)
    # One that waited for the BMC would have missed all of the seconds that this is silent for.
    assert missed(end.metrics) - missed(start.metrics) \
        < LATE_TICKS * (ticks(end.metrics) - ticks(start.metrics))
    assert end.metrics.zones() == PACKAGES
    host.assert_all_measured(start, end)


@contextmanager
def misbehaving(host, peer, **how):
    """Afterwards it behaves, and the meter is well again."""
    before = {name: getattr(peer, name) for name in how}
    with unnoticed(host):
        for name, value in how.items():
            setattr(peer, name, value)
        yield
        for name, value in before.items():
            setattr(peer, name, value)
        wait_exported_state(host, "ok")


def test_modules_loaded_later(host, log):
    """A device that is named is found as soon as it is there; auto looks at the start."""
    with host.daemon(f"{EVERY_SECOND}device = /dev/ipmi0"):
        assert wait_state(host, "absent")["watts"] is None
        load_modules(host)
        wait_state(host, "ok")
    remove_modules(host)
    with host.daemon(EVERY_SECOND):
        assert meter(host) is None
        load_modules(host)
        host.wait_ticks(2)
        assert meter(host) is None


def test_no_permission(host, log):
    """Of a device that is another user's; the service's group is enough."""
    load_modules(host)
    host.check("chown 1:2 /dev/ipmi0; chmod 640 /dev/ipmi0")
    unprivileged = "setpriv --bounding-set=-dac_override,-dac_read_search"
    with host.daemon(EVERY_SECOND, [f"{unprivileged} --clear-groups"]):
        assert wait_state(host, "unauthorised")["watts"] is None
    with host.daemon(EVERY_SECOND, [f"{unprivileged} --groups=2"]):
        wait_state(host, "ok")
    host.check("chown 0:0 /dev/ipmi0; chmod 600 /dev/ipmi0")


def test_agrees_with_freeipmi(running, the_bmc, log):
    with misbehaving(running, the_bmc, watts=0):
        for value in POWERS:
            the_bmc.watts = value
            wait_watts(running, value)
            assert freeipmi_watts(running) == value
            assert meter(running)["watts"] == value


def test_freeipmi_knows_the_bmc(running):
    """What it is told of DCMI's capabilities is what the specification has."""
    told = ask_freeipmi(running, "--get-dcmi-capability-info")
    for line in (r"DCMI Specification Conformance +: 1\.5",
                 r"Power Management / Monitoring Support +: Available",
                 r"In-band System Interface Channel +: Available",
                 r"Power Management Device Slave Address +: 10h",
                 r"Primary LAN Out-of-band Channel Number +: Not supported"):
        assert re.search(f"^{line}$", told, re.MULTILINE), told


@pytest.mark.parametrize("how,state", [
    ({"completion": bmc.BUSY}, "busy"), ({"silent": True}, "silent"),
    ({"watts": 0}, "absurd"), ({"watts": 65535}, "absurd"),
], ids=["busy", "silent", "0-W", "65535-W"])
def test_gives_no_figure(running, the_bmc, how, state, log):
    """The last good one is told with its age."""
    last = the_bmc.figure()
    wait_watts(running, last)
    with misbehaving(running, the_bmc, **how):
        assert wait_state(running, state)["watts"] == last


def test_slow(running, the_bmc, log):
    """It takes longer to answer than the daemon's interval."""
    with misbehaving(running, the_bmc, delay=3 * INTERVAL_S):
        the_bmc.watts = 305
        wait_watts(running, 305)
        assert wait_state(running, "ok")["age_seconds"] >= INTERVAL_S


def test_lags_and_freezes(running, the_bmc, log):
    """Its figure is late, then stands still: what is told of it is what freeipmi is told."""
    start_s = time.monotonic()

    def rising(time_s):
        return 4000 + 7 * int(time_s - start_s)

    with misbehaving(running, the_bmc, watts=rising, lag=20):
        earlier = freeipmi_watts(running)
        system.wait_until(lambda: earlier < watts(running) < 4000, "a newer figure")
        assert watts(running) <= freeipmi_watts(running)
        the_bmc.frozen = True
        wait_watts(running, the_bmc.figure())
        assert freeipmi_watts(running) == the_bmc.figure()
        assert wait_state(running, "ok")["watts"] == the_bmc.figure()
        the_bmc.frozen = False


def test_stops_and_comes_back(running, the_bmc, log):
    """The kernel's driver is told that the BMC starts up."""
    with unnoticed(running):
        the_bmc.stop()
        wait_state(running, "busy")
        the_bmc.start()
        wait_state(running, "ok")


def test_driver_goes_and_comes_back(running, log):
    """The daemon has the device open meanwhile."""
    driver = "/sys/bus/platform/drivers/ipmi_si"
    with unnoticed(running):
        device = running.check(f"cd {driver}; basename *IPI0001*").strip()
        running.check(f"echo {device} >{driver}/unbind")
        wait_state(running, "absent")
        running.check(f"echo {device} >{driver}/bind")
        wait_state(running, "ok")
