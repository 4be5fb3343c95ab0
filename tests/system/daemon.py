# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtjoule.service on the hypervisor: what systemd says of it, its metrics, its readers."""

import json
import time

from harness.metrics import Metrics
from harness import system

UNIT = "virtjoule.service"
VMS = "/run/virtjoule/vms"
INTERVAL_S = 1
_ROWS = ("source", "vm", "host", "static", "unattributed")
PROGRAMS_DIR = "/usr/local/bin"
_PROGRAMS = {"fake-qemu": "qemu-system-x86_64", "poll-reader": "poll-reader"}


class Daemon:
    """As installed on a Hypervisor."""

    def __init__(self, host):
        self.host = host

    def property(self, name):
        """Of the unit, as systemctl show has it."""
        return self.host.check(f"systemctl show -P {name} {UNIT}").strip()

    def pid(self):
        return int(self.property("MainPID"))

    def wait_active(self, other_than=0, timeout=60):
        """Until it is ready, by another process than that one. Returns its PID."""
        self.host.check(f"""
            until [ $(systemctl show -P ActiveState {UNIT}) = active ] &&
                  [ $(systemctl show -P MainPID {UNIT}) != {other_than} ]; do
                sleep 0.05
            done""", timeout)
        return self.pid()

    def metrics(self):
        return Metrics(self.host.check("curl -sSf http://127.0.0.1:19177/metrics"))

    def wait_metrics(self, condition, what):
        """Scrapes until condition(metrics) is true; returns that scrape."""

        def scrape():
            metrics = self.metrics()
            return metrics if condition(metrics) else None

        return system.wait_until(scrape, what, interval=0.5)

    def totals(self):
        """Joules of all zones by row; nothing of what was measured is missing.

        Waits for two ticks: the first closes the interval in which no daemon ran.
        """
        metrics = self.wait_metrics(lambda m: m.value("virtjoule_tick_seconds_count") >= 2, "ticks")
        for zone in metrics.zones():
            assert metrics.balance(zone) == 0, metrics.text
        return {row: metrics.sum(f"virtjoule_{row}_energy_joules_total") for row in _ROWS}

    def uncounted_uj(self, max_energy_uj):
        """By how much package-0's counter is ahead of the ledger, from some constant on: it
        grows when energy is lost, falls when energy is invented."""
        ledger = self.metrics().value("virtjoule_source_energy_joules_total", zone="package-0")
        counter = int(self.host.check("cat /sys/class/powercap/intel-rapl:0/energy_uj"))
        return (counter - int(ledger * 10**6)) % max_energy_uj

    def stored_descriptors(self):
        """What systemd keeps for it: their number, and what PID 1 holds open that tells of us."""
        links = self.host.check("readlink /proc/1/fd/* | sort | uniq -c | "
                                "grep -E 'fuse|bpf|memfd|virtjoule' || true")
        return int(self.property("NFileDescriptorStore")), links

    def last_downtime_s(self):
        """How long it was not active, from stop or death to being ready."""
        left, entered = (int(self.property(f"Active{what}TimestampMonotonic"))
                         for what in ("Exit", "Enter"))
        return max(entered - left, 0) / 1e6

    def log(self, since=0):
        """Since a time(1) of the machine."""
        return self.host.check(f"journalctl -u {UNIT} -o cat --since=@{since}")


class FakeVm:
    """A process under QEMU's name that keeps part of a CPU busy; use as a context."""

    READ_S = INTERVAL_S  # that a read may take when nothing is in its way

    def __init__(self, host, name, uuid, duty=30):
        self._host = host
        self._name = name
        self.uuid = uuid
        self._duty = duty

    def __enter__(self):
        install_programs(self._host)
        # It ends with its standard input.
        self._host.check(f"""
            systemd-run --quiet --unit={self._name} --slice=machine.slice \
                --setenv=FAKE_QEMU_DUTY={self._duty} \
                bash -c "exec {PROGRAMS_DIR}/qemu-system-x86_64 -name {self._name} \
                         -uuid {self.uuid} -m 128 < <(exec sleep infinity)" """)
        return self

    def __exit__(self, *_):
        self._host.run(f"systemctl stop {self._name}")

    @property
    def tree(self):
        return f"{VMS}/{self.uuid}/class/powercap/intel-rapl:0"

    def runs(self):
        return self._host.run(f"systemctl is-active {self._name}").status == 0

    def reader(self):
        """Of its tree on the host, as its virtiofsd is."""
        install_programs(self._host)
        return Reader(self._host, self.tree)


class Reader:
    """Two threads that read a tree's counter HERTZ times a second, one through a file kept open.

    Slow machines may read a tenth as often.
    """

    def __init__(self, machine, tree, hertz=50):
        self._machine = machine
        self._tree = tree
        self._hertz = hertz
        self.file = f"{tree}/energy_uj"

    def __enter__(self):
        self._start = time.monotonic()
        self._job = self._machine.start(
            f"exec poll-reader {self.file} $(cat {self._tree}/max_energy_range_uj) "
            f"2 {self._hertz} 900")
        return self

    def __exit__(self, *_):
        self._machine.run(f"kill {self._job.pid}")

    def result(self):
        """Ends it. It has read all the time and seen no fault; returns what it saw."""
        assert not self._job.has_ended()
        seconds = time.monotonic() - self._start
        self._machine.check(f"kill {self._job.pid}")
        seen = json.loads(self._job.check(timeout=60))
        self._machine.tell(f"reader: {seconds:.0f} s, {seen}")
        assert seen["reads"] > self._hertz / 5 * seconds, seen
        for fault in ("torn", "errors", "decreases"):
            assert seen[fault] == 0, seen
        return seen


def install_programs(host):
    """Those of the tests, as the hypervisor is to see them."""
    for name, installed in _PROGRAMS.items():
        if host.run(f"test -e {PROGRAMS_DIR}/{installed}").status != 0:
            path = host.put(system.BUILD / "tests/e2e" / name)
            host.check(f"install {path} {PROGRAMS_DIR}/{installed}")
