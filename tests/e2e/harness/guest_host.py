# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest as the hypervisor: what must not be done to the machine of the tests is done there.

virtjouled runs in it beside processes under QEMU's name, over a simulated
package for each CPU: the guest's sockets have one each.
"""

import re
import shutil
import subprocess
import uuid

from . import system
from .daemon import VIRTJOULED
from .guest import Guest
from .metrics import Metrics

WATTS = 10  # of each package at any load: 100000 uJ in each centisecond of the uptime
_FAKE_QEMU = system.BUILD / "tests/e2e/fake-qemu"
_PROGRAMS = f"{Guest.SHARE}/programs"
_LIBRARIES = f"LD_LIBRARY_PATH={_PROGRAMS}"
# A sysfs root whose CPUs are the guest's; counters as in powercap.py, never cut short.
_PREPARE = """
cp {programs}/ld-linux* /lib64
powercap=/tmp/sys/class/powercap
mkdir -p $powercap/intel-rapl /tmp/sys/devices/system
ln -s /sys/devices/system/cpu /tmp/sys/devices/system/cpu
for i in {packages}; do
    mkdir $powercap/intel-rapl:$i
    echo package-$i >$powercap/intel-rapl:$i/name
    echo 1000000000000 >$powercap/intel-rapl:$i/max_energy_range_uj
    echo 0000000000000 >$powercap/intel-rapl:$i/energy_uj
done
cat >/tmp/draw <<'EOF'
cd /tmp/sys/class/powercap
while read up idle </proc/uptime; do
    for i in {packages}; do
        printf '%013d\\n' ${{up%.*}}${{up#*.}}00000 1<>intel-rapl:$i/energy_uj
    done
    usleep 20000
done
EOF
cat >/tmp/virtjouled.conf <<'EOF'
{config}
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


class GuestHost:
    """Use as a context: the guest is then up, the daemon not yet started."""

    def __init__(self, libvirtd, directory, provider, cpus=2):
        self._config = _CONFIG.format(provider=provider)
        self._guest = Guest(libvirtd, directory, mountpoint=directory / "hosts", vcpus=cpus)
        self._packages = " ".join(str(i) for i in range(cpus))
        self._programs = directory / "hosts" / self._guest.uuid / "programs"

    def __enter__(self):
        self._programs.mkdir(parents=True)
        for program in (VIRTJOULED, _FAKE_QEMU):
            copy_with_libraries(program, self._programs)
        (self._programs / _FAKE_QEMU.name).rename(self._programs / "qemu-system-x86_64")
        self._guest.__enter__()
        self.check(_PREPARE.format(programs=_PROGRAMS, packages=self._packages,
                                   config=self._config))
        return self

    def __exit__(self, *exception):
        self._guest.__exit__(*exception)

    def check(self, script, timeout=30):
        return self._guest.check(script, timeout)

    def start_daemon(self):
        self.check(f"{_LIBRARIES} {_PROGRAMS}/virtjouled --config /tmp/virtjouled.conf "
                   ">/tmp/virtjouled.log 2>&1 &")
        system.wait_until(lambda: "info: ready" in self.log(), 20, "virtjouled is ready")

    def log(self):
        return self.check("cat /tmp/virtjouled.log")

    def metrics(self):
        return Metrics(self.check("wget -q -O - http://127.0.0.1:9177/metrics"))

    def uptime(self):
        """Seconds of the clock that its packages draw by."""
        return float(self.check("cat /proc/uptime").split()[0])

    def step_clock(self, seconds):
        """Of CLOCK_REALTIME."""
        self.check(f"date -s @$(($(date +%s) + {seconds}))")

    def switch_cpu(self, cpu, on):
        self.check(f"echo {int(on)} >/sys/devices/system/cpu/cpu{cpu}/online")

    def tree_uj(self, vm):
        """What a guest of this host would read."""
        tree = f"/run/virtjoule/vms/{vm}/class/powercap/intel-rapl:0"
        return int(self.check(f"cat {tree}/energy_uj"))

    def start_vm(self, name, cpu, duty=50):
        """A process under QEMU's name, pinned to a CPU; stop_vm() ends its work."""
        identity = str(uuid.uuid4())
        self.check(f"""
            mkfifo /tmp/{name}.in
            FAKE_QEMU_DUTY={duty} {_LIBRARIES} taskset {1 << cpu:x} {_PROGRAMS}/qemu-system-x86_64 \
                -name {name} -uuid {identity} -m 128 </tmp/{name}.in >/tmp/{name}.out 2>&1 &
            sleep 100000 >/tmp/{name}.in 2>/dev/null &""")
        return identity

    def stop_vm(self, name):
        """Ends its work, not the process; returns the CPU seconds it has used."""
        answer = self.check(f"echo stop >/tmp/{name}.in; "
                            f"while [ ! -s /tmp/{name}.out ]; do usleep 20000; done; "
                            f"cat /tmp/{name}.out")
        return int(answer) / 1e9


def copy_with_libraries(program, directory):
    """And the loader, all side by side."""
    shutil.copy(program, directory)
    libraries = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for path in re.findall(r"(/\S+) \(0x", libraries):
        shutil.copy(path, directory)
