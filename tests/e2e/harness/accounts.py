# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's account of a VM's CPU time beside the kernel's, whatever else the machine does.

The kernel's is read on both sides of the daemon's, so that none of it is compared with another
moment: what the daemon has counted is at least what the kernel had before, and at most what it
has afterwards. How long anything took in between does not matter.
"""

from pathlib import Path
from typing import NamedTuple

from .margins import CPU_S


class CpuLook(NamedTuple):
    """Seconds of CPU time since some moment."""

    least: float  # of the kernel, before
    counted: float  # of the daemon
    most: float  # of the kernel, afterwards, with what the daemon worked for VMs until then

    def growth(self, later):
        return CpuLook(later.least - self.most, later.counted - self.counted,
                       later.most - self.least)

    def check(self):
        """All was counted, and once."""
        print(f"CPU time: {self.least:.4f} <= {self.counted:.4f} <= {self.most:.4f} s")
        assert self.least - CPU_S <= self.counted <= self.most + CPU_S, self


def look(daemon, vm):
    """At a VM, of which `vm.cpu_seconds()` is the kernel's account."""
    least = vm.cpu_seconds()
    counted = cpu_seconds(daemon.wait_ticks(2), vm)
    return CpuLook(least, counted, vm.cpu_seconds() + serving_seconds(daemon))


def check_all(daemon, *vms):
    """Of processes under QEMU's name: all that they have used since their exec."""
    looks = [(look(daemon, vm), vm) for vm in vms]
    for seen, vm in looks:
        CpuLook(seen.least - vm.begun_s, seen.counted, seen.most).check()


def cpu_seconds(metrics, vm):
    """As the daemon counted it; 0: it does not know the VM yet."""
    return float(metrics.sum("virtjoule_vm_cpu_seconds_total", uuid=vm.uuid))


def serving_seconds(daemon):
    """CPU time of the thread that answers readers of the trees; they pay for it."""
    for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        if (task / "comm").read_text() == "powercapfs\n":
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise LookupError("no such thread")
