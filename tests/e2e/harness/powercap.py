# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host with energy counters: a sysfs root whose packages draw

    static_watts + watts_per_cpu x (their CPUs' busy time on this machine per second)

Busy time is what passed less idle, iowait and steal time. The kernel measures
idle time at its edges, while it samples user and system time at ticks, so that
short bursts would be missed; steal time is nobody's here, and the kernel keeps
it out of its processes' CPU time as well. /proc/stat prints clock ticks, but
cumulative ones: what is cut off now shows later.

A real-time thread writes the counters: hardware does not wait for a busy machine.

The counters are written as zero-padded decimals of constant width, each in one
write, since readers may keep the file open: a shorter text after a wrap would
leave a digit behind, and truncating first would show an empty file.
"""

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_UPDATE_S = 0.01


@dataclass
class Package:
    """A socket: its CPUs, what it draws, and its counter's range."""

    cpus: tuple[int, ...]
    static_watts: int = 40
    watts_per_cpu: int = 500
    max_energy_uj: int = 10_000_000_000
    total_uj: int = 0  # not wrapped
    _offset_uj: int = 0  # its static power has not been the same since the start
    _fd: int = field(default=-1, repr=False)


class SimulatedPowercap:
    """Use as a context, in which the counters run. The directory becomes the sysfs root."""

    def __init__(self, directory: Path, packages: list[Package]):
        self.root = directory
        self.packages = packages
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._busy_ns = {}
        self._start_ns = time.monotonic_ns()
        self._idle_at_start = read_idle_ns()
        self._make_tree()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        for package in self.packages:
            if package._fd >= 0:
                os.close(package._fd)

    def zone(self, number) -> Path:
        """A package's directory."""
        return self.root / f"devices/virtual/powercap/intel-rapl/intel-rapl:{number}"

    def total_uj(self, number) -> int:
        """What the package has used since the start, not wrapped."""
        with self._lock:
            return self.packages[number].total_uj

    def draw(self, number, static_watts):
        """The package's static power from now on."""
        with self._lock:
            package = self.packages[number]
            elapsed_ns = time.monotonic_ns() - self._start_ns
            package._offset_uj += (package.static_watts - static_watts) * elapsed_ns // 1000
            package.static_watts = static_watts

    def spoil(self, number, text: bytes):
        """The energy_uj of a zone reads as this text from now on."""
        with self._lock:
            fd = self._take_fd(number)
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)
            os.close(fd)

    def repair(self, number):
        """It counts again, in the same file; the energy in between was used all the same."""
        with self._lock:
            package = self.packages[number]
            fd = os.open(self.zone(number) / "energy_uj", os.O_WRONLY)
            os.ftruncate(fd, _width(package) + 1)
            package._fd = fd
            self._write(package)

    def remove(self, number):
        """The zone goes as with its driver: open descriptors read no value, the names are gone."""
        self.spoil(number, b"")
        for path in self.zone(number).iterdir():
            path.unlink()
        self.zone(number).rmdir()
        (self.root / f"class/powercap/intel-rapl:{number}").unlink()

    def _take_fd(self, number):
        package = self.packages[number]
        fd, package._fd = package._fd, -1
        return fd

    def _make_tree(self):
        control_type = self.root / "devices/virtual/powercap/intel-rapl"
        control_type.mkdir(parents=True)
        (control_type / "enabled").write_text("1\n")
        class_dir = self.root / "class/powercap"
        class_dir.mkdir(parents=True)
        (class_dir / "intel-rapl").symlink_to("../../devices/virtual/powercap/intel-rapl")
        for number, package in enumerate(self.packages):
            self._make_zone(number, package)
            (class_dir / f"intel-rapl:{number}").symlink_to(
                f"../../devices/virtual/powercap/intel-rapl/intel-rapl:{number}")
            for cpu in package.cpus:
                topology = self.root / f"devices/system/cpu/cpu{cpu}/topology"
                topology.mkdir(parents=True)
                (topology / "physical_package_id").write_text(f"{number}\n")

    def _make_zone(self, number, package):
        zone = self.zone(number)
        zone.mkdir()
        (zone / "name").write_text(f"package-{number}\n")
        (zone / "enabled").write_text("1\n")
        (zone / "max_energy_range_uj").write_text(f"{package.max_energy_uj}\n")
        package._fd = os.open(zone / "energy_uj", os.O_WRONLY | os.O_CREAT, 0o444)
        self._write(package)

    def _run(self):
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
        while not self._end.wait(_UPDATE_S):
            self._update()

    def _update(self):
        with self._lock:
            elapsed_ns = time.monotonic_ns() - self._start_ns
            for cpu, idle_ns in read_idle_ns().items():
                busy_ns = elapsed_ns - (idle_ns - self._idle_at_start[cpu])
                self._busy_ns[cpu] = max(busy_ns, self._busy_ns.get(cpu, 0))
            for package in self.packages:
                busy_ns = sum(self._busy_ns[cpu] for cpu in package.cpus)
                package.total_uj = package._offset_uj + (package.static_watts * elapsed_ns
                                                         + package.watts_per_cpu * busy_ns) // 1000
                if package._fd >= 0:
                    self._write(package)

    @staticmethod
    def _write(package):
        energy_uj = package.total_uj % package.max_energy_uj
        os.pwrite(package._fd, f"{energy_uj:0{_width(package)}}\n".encode(), 0)


def _width(package):
    return len(str(package.max_energy_uj))


def read_idle_ns() -> dict[int, int]:
    """Per CPU, the time since boot in which it did nothing for anybody here."""
    idle = {}
    with open("/proc/stat") as stat:
        for line in stat:
            if not line.startswith("cpu"):
                break
            words = line.split()
            if words[0] != "cpu":
                idle[int(words[0][3:])] = sum(int(words[i]) for i in (4, 5, 8)) * _TICK_NS
    return idle
