# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real libvirt guests read their own energy with tools made for bare metal."""

import os
import re
import time
from decimal import Decimal

import pytest

from harness import libvirtd as libvirt
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


@pytest.fixture
def daemon(libvirtd, start_daemon):
    return start_daemon(SETTINGS)


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


def read_all(guest, daemon):
    """What each reader says, between two looks at the ledger: (before, {reader: joules}, after)."""
    before = daemon.metrics().vm_energy(guest.uuid)
    values = {read.__name__: read(guest)
              for read in (read_sysfs, read_node_exporter, read_powercap_info)}
    return before, values, daemon.metrics().vm_energy(guest.uuid)


def test_tools_agree_with_ledger(daemon, start_guest):
    guest = start_guest(daemon)
    start_node_exporter(guest)
    guest.start_load()
    daemon.wait_ticks(3)
    # A guest follows the ledger one interval late: what it reads lies between the
    # ledger's total an interval before and the total now, cut to the quantum.
    interval_joules = Decimal(MAX_WATTS - IDLE_WATTS) * Decimal("1.2")
    quantum = Decimal("0.001")
    for _ in range(5):
        before, values, after = read_all(guest, daemon)
        assert before > 0
        for reader, joules in values.items():
            assert before - interval_joules - quantum <= joules <= after, reader
        time.sleep(0.7)


def test_tree_comes_to_rest_at_the_ledger(daemon, start_guest):
    """A guest that is paused uses nothing: its ramp ends at the ledger's total, to the quantum."""
    guest = start_guest(daemon)
    guest.start_load()
    daemon.wait_ticks(2)
    guest.domain.suspend()
    daemon.wait_ticks(3)
    total = daemon.metrics().vm_energy(guest.uuid)
    assert total > 0
    published = Decimal((daemon.tree(guest.uuid) / "energy_uj").read_text()) / 10**6
    assert total - Decimal("0.001") <= published <= total


def test_second_guest_sees_and_changes_nothing(daemon, start_guest):
    first, second = start_guest(daemon), start_guest(daemon)
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


def test_busy_grows_at_the_source_s_rate_and_idle_hardly(daemon, start_guest):
    busy, idle = start_guest(daemon), start_guest(daemon)
    busy.start_load()
    daemon.wait_ticks(3)
    cpu_before = daemon.metrics().value("virtjoule_vm_cpu_seconds_total", uuid=busy.uuid)
    busy_before, idle_before = busy.energy_uj(), idle.energy_uj()
    start = time.monotonic()
    time.sleep(15)
    busy_joules = (busy.energy_uj() - busy_before) / 1e6
    idle_joules = (idle.energy_uj() - idle_before) / 1e6
    seconds = time.monotonic() - start
    cpu = daemon.metrics().value("virtjoule_vm_cpu_seconds_total", uuid=busy.uuid) - cpu_before

    # One vCPU keeps about one CPU of the host busy; others may compete for it.
    assert 0.5 * seconds < cpu < 1.5 * seconds
    assert busy_joules == pytest.approx(float(cpu) * JOULES_PER_CPU_SECOND, rel=0.1)
    assert 0 < idle_joules < 0.1 * busy_joules


def test_estimate_is_labelled(daemon, start_guest):
    guest = start_guest(daemon)
    daemon.wait_ticks()
    assert daemon.metrics().select("virtjoule_source_energy_joules_total", source="estimate")
    assert guest.read(f"{guest.SHARE}/virtjoule/source").strip() == "estimate"
    assert "warning: no RAPL zone" in daemon.log() and "ESTIMATE" in daemon.log()


def test_tree_is_there_before_the_guest_starts_and_goes_on_after_reset(
        daemon, start_guest, libvirtd):
    guest = start_guest(daemon)
    daemon.wait_ticks()
    before = guest.energy_uj()
    guest.reset()
    assert guest.energy_uj() > before

    guest.destroy()
    daemon.wait_ticks()
    assert (daemon.tree(guest.uuid) / "name").read_text() == "package-0\n"
    guest.start()
    assert guest.energy_uj() > before
