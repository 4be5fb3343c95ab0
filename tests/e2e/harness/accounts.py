# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's account of CPU time and energy beside the truth, whatever else the machine does.

The truth is read on both sides of the daemon's account, so that none of it is compared with
another moment: what the daemon has counted is at least what was used before, and at most what is
afterwards. How long anything took in between does not matter.
"""

from pathlib import Path
from typing import NamedTuple

from .margins import AT_REST_S, CPU_S


class Between(NamedTuple):
    """Amounts since some moment."""

    least: float  # truly used, before
    counted: float  # by the daemon
    most: float  # truly used, afterwards

    def growth(self, later):
        return Between(later.least - self.most, later.counted - self.counted,
                       later.most - self.least)

    def check(self, margin=CPU_S):
        """All was counted, and once."""
        print(f"{self.least:.4f} <= {self.counted:.4f} <= {self.most:.4f}")
        assert self.least - margin <= self.counted <= self.most + margin, self


def look(daemon, vm):
    """At the CPU time of a VM, of which `vm.cpu_seconds()` is the kernel's account. What the daemon
    works for a VM's readers is the VM's."""
    least = vm.cpu_seconds()
    counted = cpu_seconds(daemon.wait_ticks(2), vm)
    return Between(least, counted, vm.cpu_seconds() + serving_seconds(daemon))


def look_at_energy(daemon, host):
    """Joules of a simulated host's first package."""
    least = host.total_uj(0) / 1e6
    counted = daemon.wait_ticks(2).sum("virtjoule_source_energy_joules_total", zone="package-0")
    return Between(least, float(counted), host.total_uj(0) / 1e6)


def check_all(daemon, *vms, at_rest=True):
    """Of processes under QEMU's name: all that they have used since their exec."""
    is_exact = at_rest and daemon.metrics().select("virtjoule_build_info", usage_provider="bpf")
    for vm in vms:
        seen = look(daemon, vm)
        Between(seen.least - vm.begun_s, seen.counted, seen.most).check(
            AT_REST_S if is_exact else CPU_S)


def cpu_seconds(metrics, vm):
    """As the daemon counted it; 0: it does not know the VM yet."""
    return float(metrics.sum("virtjoule_vm_cpu_seconds_total", uuid=vm.uuid))


def serving_seconds(daemon):
    """CPU time of the thread that answers readers of the trees; they pay for it."""
    for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        if (task / "comm").read_text() == "powercapfs\n":
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise LookupError("no such thread")
