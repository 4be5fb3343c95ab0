# SPDX-License-Identifier: LGPL-2.1-or-later
"""What guests, and users of the host, learn of VMs that are not theirs.

How well a VM reads its neighbour's load from its own counter is measured on a simulated host
(tests/accuracy/side_channel.c); here it is the daemon as it runs.
"""

import os
import random
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from harness import libvirtd as libvirt
from harness import system
from harness.daemon import Daemon
from harness.margins import STATIC_DRIFT
from harness.powercap import Package, SimulatedPowercap

SLOTS = 16
IDLE_WATTS = 40
NOBODY = 65534
# Everything that a guest can ask about its share but the values, which move: names in the order
# of the listing, inode numbers, link counts, sizes, times, and the file system's own figures.
LOOK = """
cd /run/virtjoule/share
find . -exec stat -c '%n %i %h %s %a %u %g %X %Y %Z %d' '{}' ';'
find . -type d -exec ls -iaU '{}' ';'
stat -f -c '%i %l %t %s %S %b %f %a %c %d' .
cat virtjoule/interval_us virtjoule/policy virtjoule/source virtjoule/version
cat class/powercap/intel-rapl:0/max_energy_range_uj
"""


def as_user(uid, *command, groups="--clear-groups"):
    return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", groups, *command],
                          capture_output=True, text=True, timeout=system.PATIENCE_S)


@pytest.mark.slow
def test_idle_power_is_shown_to_no_vm(directory, stack, start_vm, provider):
    """The neighbour sends 16 bits by working or not, on a host whose power is all static. Without a
    baseline each slot's energy is idle power divided by all VMs' CPU time. By default, in the same
    slots, the observer is charged for the twentieth at most by which static power may drift, and
    this only after readings that came late have passed for load."""
    (directory / "sys").mkdir()
    host = stack.enter_context(SimulatedPowercap(directory / "sys", [
        Package(cpus=tuple(range(os.cpu_count())), static_watts=IDLE_WATTS, watts_per_cpu=0)]))
    observer, neighbour = start_vm(name="observer", duty=2), start_vm(name="neighbour", duty=100)
    daemons = []
    for default in ("auto", "none"):
        (directory / default).mkdir()
        daemons.append(stack.enter_context(Daemon(directory / default, {
            "rapl": {"sysfs_root": host.root}, "usage": {"provider": provider},
            "baseline": {"default": default}})))
    grown_uj = []
    for _ in range(SLOTS):
        bit = random.random() < 0.5
        os.kill(neighbour.process.pid, signal.SIGCONT if bit else signal.SIGSTOP)
        before = [energy_uj(daemon, observer) for daemon in daemons]
        for daemon in daemons:
            daemon.wait_ticks(2)
        grown_uj.append([energy_uj(daemon, observer) - uj for daemon, uj in zip(daemons, before)])
        print(bit, grown_uj[-1])
    os.kill(neighbour.process.pid, signal.SIGCONT)
    by_default, without = (sum(column) for column in zip(*grown_uj))
    assert without > 0
    assert by_default <= STATIC_DRIFT * without
    for daemon in daemons:
        assert daemon.metrics().balance("package-0") == 0


def energy_uj(daemon, vm):
    return int((daemon.tree(vm.uuid) / "energy_uj").read_text())


def test_guests_see_no_other_vms(directory, start_daemon, start_vm, start_guest):
    """The first guest sees the same before and after others have come, and so does a guest that
    comes after them."""
    daemon = start_daemon({"source": {"energy": "estimate"},
                           "discovery": {"libvirt_uri": libvirt.URI}})
    first = start_guest(daemon)
    alone = first.check(LOOK)
    assert "intel-rapl:0" in alone
    for n in range(5):
        start_vm(name=f"other-{n}")
    daemon.wait_ticks(2)
    assert first.check(LOOK) == alone
    daemon.stop()
    daemon.start()
    last = start_guest(daemon)
    assert last.check(LOOK) == alone


def test_trees_are_not_for_every_user(start_daemon, start_vm):
    """Users of the host see neither the trees nor which VMs there are."""
    vm = start_vm(name="private")
    daemon = start_daemon({"source": {"energy": "estimate"},
                           "powercapfs": {"file_gid": NOBODY - 1}})
    daemon.wait_ticks(1)
    os.chmod(daemon.directory, 0o755)
    energy = daemon.tree(vm.uuid) / "energy_uj"
    for path in (daemon.mountpoint, daemon.mountpoint / "by-name", energy):
        assert "Permission denied" in as_user(NOBODY, "ls", path).stderr
    # Members of the group may.
    assert as_user(NOBODY, "cat", energy, groups=f"--groups={NOBODY - 1}").returncode == 0
    assert int(energy.read_text()) >= 0


def status(daemon, uid):
    """The HTTP status that a user's request gets."""
    url = f"http://127.0.0.1:{daemon.port}/metrics"
    return int(as_user(uid, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url).stdout)


def test_metrics_are_not_for_every_user(start_daemon):
    """The user network of a guest connects as the user of its QEMU: refused, as any other."""
    daemon = start_daemon({"source": {"energy": "estimate"}, "exporter": {"users": "12345"}})
    assert status(daemon, 0) == 200
    assert status(daemon, 12345) == 200
    for _ in range(3):
        assert status(daemon, NOBODY) == 403
    daemon.wait_log("metrics are not for this user")
    assert daemon.log().count(f"uid={NOBODY}") == 1
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/other")
    assert error.value.code == 404
