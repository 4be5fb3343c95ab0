# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest as the hypervisor: what must not be done to the machine of the tests is done there.

virtjouled runs in it beside processes under QEMU's name, over a simulated
package for each CPU: the guest's sockets have one each.
"""

import json
import re
import shutil
import subprocess
import uuid
from contextlib import contextmanager
from typing import NamedTuple

from . import system
from .daemon import VIRTJOULED
from .guest import Guest
from .margins import CUT_J
from .metrics import Metrics, Scraped

WATTS = 10  # of each package at any load: 100000 uJ in each centisecond of the uptime
_FAKE_QEMU = system.BUILD / "tests/e2e/fake-qemu"
_SHARED_PROGRAMS = f"{Guest.SHARE}/programs"
# A sysfs root whose CPUs are the guest's; counters as in powercap.py, never cut short.
_PREPARE = """
cp {programs}/ld-linux* /lib64
powercap=/tmp/sys/class/powercap
mkdir -p $powercap/intel-rapl /tmp/sys/devices/system
ln -s /sys/devices/system/cpu /tmp/sys/devices/system/cpu
for i in {packages}; do
    mkdir $powercap/intel-rapl:$i
    echo package-$i >$powercap/intel-rapl:$i/name
    echo {range_uj} >$powercap/intel-rapl:$i/max_energy_range_uj
    echo 0000000000000 >$powercap/intel-rapl:$i/energy_uj
done
cat >/tmp/draw <<'EOF'
cd /tmp/sys/class/powercap
while read up idle </proc/uptime; do
    base=0
    [ ! -s /tmp/base ] || read base </tmp/base
    for i in {packages}; do
        printf '%013d\\n' $((${{up%.*}}${{up#*.}} - base))00000 1<>intel-rapl:$i/energy_uj
    done
    usleep 20000
done
EOF
sh /tmp/draw >/tmp/draw.log 2>&1 &
"""
_CONFIG = """[daemon]
interval = 500ms
allow_fine_interval = yes
[rapl]
sysfs_root = /tmp/sys
[usage]
provider = {provider}
[discovery]
libvirt_uri =
"""


class Moment(NamedTuple):
    """What is true of a host at one time."""

    joules: float  # of its counters, as far as the guest has found the time to let them draw
    awake_s: float  # CLOCK_MONOTONIC, the clock of ticks: it stands still while the host sleeps
    uptime_s: tuple[float, float]  # the clock that its packages draw by, before and after awake_s


class Look(NamedTuple):
    """What the daemon tells of a host, of a time between two moments."""

    before: Moment
    metrics: Metrics
    after: Moment

    def joules(self):
        """Measured."""
        return float(self.metrics.sum("virtjoule_source_energy_joules_total"))


class GuestHost(Scraped):
    """Use as a context: the guest is then up, the daemon not yet started.

    `programs` of this machine are there as well; with a `bmc` it is that BMC's machine.
    """

    def __init__(self, libvirtd, directory, provider, cpus=2, range_uj=10**12, memory_mib=192,
                 programs=(), bmc=None, kernel="vmlinux"):
        self._config = _CONFIG.format(provider=provider)
        self._copied = [VIRTJOULED, _FAKE_QEMU, *programs]
        self._guest = Guest(libvirtd, directory, mountpoint=directory / "hosts", vcpus=cpus,
                            memory_mib=memory_mib, arguments=bmc.qemu_arguments if bmc else (),
                            kernel=kernel)
        self._range_uj = range_uj
        self._packages = " ".join(str(i) for i in range(cpus))
        self._programs = directory / "hosts" / self._guest.uuid / "programs"
        self._bin = _SHARED_PROGRAMS  # where they are in the guest

    def __enter__(self):
        self._programs.mkdir(parents=True)
        for program in self._copied:
            copy_with_libraries(program, self._programs)
        (self._programs / _FAKE_QEMU.name).rename(self._programs / "qemu-system-x86_64")
        self._guest.__enter__()
        self.check(_PREPARE.format(programs=_SHARED_PROGRAMS, packages=self._packages,
                                   range_uj=self._range_uj))
        return self

    def __exit__(self, *exception):
        self._guest.__exit__(*exception)

    def check(self, script):
        return self._guest.check(script)

    def program(self, name):
        """How the guest's shell starts one."""
        return f"LD_LIBRARY_PATH={self._bin} {self._bin}/{name}"

    def start_daemon(self, settings="", through=()):
        """With more settings; `through` are commands of programs that are to run it."""
        commands = [*through, "virtjouled --config /tmp/virtjouled.conf"]
        self.check(f"cat >/tmp/virtjouled.conf <<'EOF'\n{self._config}{settings}\nEOF\n"
                   f"LD_LIBRARY_PATH={self._bin} "
                   f"{' '.join(f'{self._bin}/{command}' for command in commands)} "
                   ">/tmp/virtjouled.log 2>&1 &")
        system.wait_until(lambda: "info: ready" in self.log(), "virtjouled is ready")

    def stop_daemon(self):
        self.check("killall virtjouled; while pidof virtjouled; do usleep 20000; done")

    @contextmanager
    def daemon(self, settings="", through=()):
        self.start_daemon(settings, through)
        yield
        self.stop_daemon()

    def show_host(self):
        """What `virtjoule`, one of the programs, tells."""
        return json.loads(self.check(f"{self.program('virtjoule')} show --host --json"))

    def log(self):
        return self.check("cat /tmp/virtjouled.log 2>/dev/null || true")

    def metrics(self):
        return Metrics(self.check("wget -q -O - http://127.0.0.1:19177/metrics"))

    def moment(self):
        *counters, before, awake, after = self.check(
            "cat /tmp/sys/class/powercap/intel-rapl:*/energy_uj; "
            "cat /proc/uptime; grep -m 1 '^now at' /proc/timer_list; cat /proc/uptime").splitlines()
        return Moment(sum(map(int, counters)) / 1e6, int(awake.split()[2]) / 1e9,
                      (float(before.split()[0]), float(after.split()[0])))

    def look(self):
        """With all of a tick, and of those that it came too late for, that began in between."""
        return Look(self.moment(), self.wait_ticks(3), self.moment())

    def assert_all_measured(self, start, end):
        """Of two looks: between what the counters have said on both sides."""
        grown = end.joules() - start.joules()
        assert end.before.joules - start.after.joules - CUT_J <= grown
        assert grown <= end.after.joules - start.before.joules + CUT_J

    def step_clock(self, seconds):
        """Of CLOCK_REALTIME."""
        self.check(f"date -s @$(($(date +%s) + {seconds}))")

    def switch_cpu(self, cpu, on):
        self.check(f"echo {int(on)} >/sys/devices/system/cpu/cpu{cpu}/online")

    def leave_share(self):
        """Before anything is started: Linux does not suspend a machine with virtiofs."""
        self._bin = "/opt/programs"
        self.check(f"mkdir -p /opt && cp -r {_SHARED_PROGRAMS} /opt && umount {Guest.SHARE} && "
                   "rmmod virtiofs")

    def suspend(self, seconds, reset=False):
        """To RAM; the clock that goes on meanwhile wakes it. Linux may refuse, when a task is not
        frozen in time; then what it said.

        The counters run on, as in suspend-to-idle, or begin at zero. As hardware they have done so
        before anybody looks; what draws here has to be woken up first, and may be half way through
        the packages with an old time.
        """
        base = "read up idle </proc/uptime; echo ${up%.*}${up#*.} >/tmp/base"
        return self.check(f"""
            killall -STOP virtjouled
            cd /sys/class/rtc/rtc0; echo 0 >wakealarm; echo +{seconds} >wakealarm
            if ! echo mem >/sys/power/state; then
                killall -CONT virtjouled
                dmesg | tail -n 40
                exit 0
            fi
            {base if reset else ":"}
            cd /tmp/sys/class/powercap/intel-rapl:0
            for update in first second; do
                read old <energy_uj; new=$old
                while [ $new = $old ]; do usleep 10000; read new <energy_uj; done
            done
            killall -CONT virtjouled""")

    def tree_uj(self, vm):
        """What a guest of this host would read."""
        tree = f"/run/virtjoule/vms/{vm}/class/powercap/intel-rapl:0"
        return int(self.check(f"cat {tree}/energy_uj"))

    def start_vm(self, name, cpu, duty=50):
        """A process under QEMU's name, pinned to a CPU; stop_vm() ends its work."""
        identity = str(uuid.uuid4())
        self.check(f"""
            rm -f /tmp/{name}.*; mkfifo /tmp/{name}.in
            FAKE_QEMU_DUTY={duty} LD_LIBRARY_PATH={self._bin} \
                taskset {1 << cpu:x} {self._bin}/qemu-system-x86_64 \
                -name {name} -uuid {identity} -m 128 </tmp/{name}.in >>/tmp/{name}.out 2>&1 &
            sleep 100000 >/tmp/{name}.in 2>/dev/null &""")
        return identity

    def stop_vm(self, name):
        """Ends its work, not the process; returns the CPU seconds it has used since it was QEMU."""
        used, begun = self._ask_vm(name, "stop")
        return used - begun

    def vm_seconds(self, name):
        """All CPU time that the process has used so far, as another program as well."""
        return self._ask_vm(name, "cpu")[0]

    def serving_seconds(self):
        """As of accounts.py."""
        answer = self.check("for task in /proc/$(pidof virtjouled)/task/*; do "
                            "! grep -qx powercapfs $task/comm || cat $task/schedstat; done")
        return int(answer.split()[0]) / 1e9

    def _ask_vm(self, name, command):
        answer = self.check(f">/tmp/{name}.out; echo {command} >/tmp/{name}.in; "
                            f"while [ ! -s /tmp/{name}.out ]; do usleep 20000; done; "
                            f"cat /tmp/{name}.out")
        return [int(number) / 1e9 for number in answer.split()]

    def remove_vms(self):
        self.check("killall qemu-system-x86_64; while pidof qemu-system-x86_64; do usleep 20000; "
                   "done")


def copy_with_libraries(program, directory):
    """And the loader, all side by side."""
    shutil.copy(program, directory)
    libraries = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for path in re.findall(r"(/\S+) \(0x", libraries):
        shutil.copy(path, directory)
