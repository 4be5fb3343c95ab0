# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real libvirt guests read their own energy with tools made for bare metal.

Two guests are booted once and handed out, idle, with one daemon.
"""

import os
import re
from decimal import Decimal

import pytest

from harness import libvirtd as libvirt
from harness.accounts import look
from harness.daemon import Daemon
from harness.guest import Guest
from harness.margins import ENERGY
from harness.metrics import Metrics
from harness.system import wait_until

IDLE_WATTS, MAX_WATTS = 40, 120
SETTINGS = {
    "source": {"energy": "auto"},
    "rapl": {"sysfs_root": "/nonexistent"},
    "estimate": {"idle_watts": f"{IDLE_WATTS}W", "max_watts": f"{MAX_WATTS}W"},
    "discovery": {"libvirt_uri": libvirt.URI},
}
# With a straight curve, what a second of CPU time costs beyond the idle power.
JOULES_PER_CPU_SECOND = (MAX_WATTS - IDLE_WATTS) / os.cpu_count()
QUANTUM = Decimal("0.001")
TICKS = 5  # that a load is compared over

# Tries every way to change something, below and at every name of the share;
# prints what succeeded.
WRITE_ATTEMPTS = """
cd {share} || exit 1
try() {{ "$@" 2>>/tmp/refusals && echo "$@"; }}
find . | while read -r path; do
    if [ -d "$path" ]; then
        try touch "$path/new"
        try mkdir "$path/newdir"
        try ln -s /etc/passwd "$path/newlink"
        try mknod "$path/newnode" c 1 3
        try rmdir "$path"
    else
        try sh -c "echo 1 >'$path'"
        try sh -c "echo 1 >>'$path'"
        try truncate -s 0 "$path"
        try ln "$path" "$path-hard"
        try rm -f "$path"
    fi
    try mv "$path" "$path-moved"
    [ -L "$path" ] || try chmod 777 "$path"
    [ -L "$path" ] || try chown 1000 "$path"
done
true
"""


@pytest.fixture(scope="module")
def module_daemon(module_directory, module_stack, provider):
    return module_stack.enter_context(
        Daemon(module_directory, {**SETTINGS, "usage": {"provider": provider}}))


@pytest.fixture
def daemon(module_daemon):
    yield module_daemon
    print(module_daemon.log())


@pytest.fixture(scope="module")
def guests(session_libvirtd, module_directory, module_stack, module_daemon):
    return [module_stack.enter_context(Guest(session_libvirtd, module_directory,
                                             mountpoint=module_daemon.mountpoint))
            for _ in range(2)]


@pytest.fixture
def guest(guests):
    return guests[0]


@pytest.fixture
def busy(guest):
    """The guest at work."""
    guest.start_load()
    yield guest
    guest.stop_load()


def start_node_exporter(guest):
    guest.check("prometheus-node-exporter --collector.disable-defaults --collector.rapl"
                " --web.listen-address=127.0.0.1:9100 >/tmp/node_exporter.log 2>&1 &")
    wait_until(lambda: guest.run("wget -q -O /dev/null http://127.0.0.1:9100/").status == 0,
               "node_exporter answers")


def read_node_exporter(guest):
    text = guest.check("wget -q -O - http://127.0.0.1:9100/metrics")
    return Metrics(text).value("node_rapl_package_joules_total")


def read_powercap_info(guest):
    text = guest.check("powercap-info -p intel-rapl")
    assert re.search(r"^ *name: package-0$", text, re.M), text
    assert re.search(r"^ *max_energy_range_uj: [1-9]\d*$", text, re.M), text
    return Decimal(re.search(r"^ *energy_uj: (\d+)$", text, re.M)[1]) / 10**6


def read_sysfs(guest):
    return Decimal(guest.energy_uj()) / 10**6


def test_tools_agree_with_ledger(daemon, busy):
    """A guest follows the ledger one interval late: what it reads is at least what the ledger had
    two ticks ago, cut to the quantum, and at most what it has afterwards."""
    start_node_exporter(busy)
    for _ in range(5):
        before = daemon.metrics().vm_energy(busy.uuid)
        daemon.wait_ticks(2)
        values = {read.__name__: read(busy)
                  for read in (read_sysfs, read_node_exporter, read_powercap_info)}
        after = daemon.metrics().vm_energy(busy.uuid)
        assert before > 0
        for reader, joules in values.items():
            assert before - QUANTUM <= joules <= after, reader


def test_tree_comes_to_rest_at_the_ledger(daemon, busy):
    """A guest that is paused uses nothing: its ramp ends at the ledger's total, to the quantum."""
    busy.domain.suspend()
    daemon.wait_ticks(3)
    total = daemon.metrics().vm_energy(busy.uuid)
    assert total > 0
    published = Decimal((daemon.tree(busy.uuid) / "energy_uj").read_text()) / 10**6
    busy.domain.resume()
    assert total - QUANTUM <= published <= total


def test_second_guest_sees_and_changes_nothing(daemon, guests):
    first, second = guests
    names = second.check(f"find {second.SHARE}").split("\n")
    assert any(name.endswith("intel-rapl:0/energy_uj") for name in names)
    assert not any(first.uuid in name or first.name in name for name in names)
    assert second.run(f"cat {second.SHARE}/../{first.uuid}/class/powercap/intel-rapl:0/energy_uj"
                      ).status != 0
    links = second.check(f"find {second.SHARE} -type l -exec readlink -f {{}} ';'").split()
    assert all(link.startswith(second.SHARE) for link in links)

    def trees():
        return [sorted(os.walk(daemon.mountpoint / guest.uuid)) for guest in (first, second)]

    before = trees()
    # The tools of the guest try; their success would be a line of output.
    assert second.check(WRITE_ATTEMPTS.format(share=second.SHARE)) == ""
    refusals = second.check("sort /tmp/refusals | uniq -c")
    assert "Read-only file system" in refusals
    assert trees() == before
    assert second.energy_uj() >= 0


def test_busy_grows_at_the_source_s_rate_and_idle_hardly(daemon, guests, busy):
    """For its CPU time, be it much or little of a busy machine's; all of that is counted."""
    def joules():
        """Of both, when they have come to rest."""
        for guest in guests:
            guest.domain.suspend()
        seen = [look(daemon, guest) for guest in guests]
        daemon.wait_ticks(1)  # the ramp's
        energies = [int((daemon.tree(guest.uuid) / "energy_uj").read_text()) / 1e6
                    for guest in guests]
        for guest in guests:
            guest.domain.resume()
        return seen, energies

    looks, energies = joules()
    daemon.wait_ticks(TICKS)
    later_looks, later_energies = joules()
    for before, after in zip(looks, later_looks):
        before.growth(after).check()
    used = [before.growth(after).counted for before, after in zip(looks, later_looks)]
    shown = [after - before for before, after in zip(energies, later_energies)]
    assert used[0] > used[1] > 0
    assert shown == pytest.approx([seconds * JOULES_PER_CPU_SECOND for seconds in used],
                                  rel=ENERGY)


def test_estimate_is_labelled(daemon, guest):
    daemon.wait_ticks()
    assert daemon.metrics().select("virtjoule_source_energy_joules_total", source="estimate")
    assert guest.read(f"{guest.SHARE}/virtjoule/source").strip() == "estimate"
    assert "warning: no RAPL zone" in daemon.log() and "ESTIMATE" in daemon.log()


def test_tree_is_there_before_the_guest_starts_and_goes_on_after_reset(daemon, guest):
    daemon.wait_ticks()
    before = guest.energy_uj()
    guest.reset()
    assert guest.energy_uj() > before

    guest.destroy()
    daemon.wait_ticks()
    assert (daemon.tree(guest.uuid) / "name").read_text() == "package-0\n"
    guest.start()
    assert guest.energy_uj() > before
