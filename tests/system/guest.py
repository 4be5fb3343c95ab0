# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest of the hypervisor: Debian with systemd and node_exporter, a domain of its libvirt.

    with Guest(host, "web", packages=[path]) as guest:  # defined; packages are in its /root
        guest.power_on()                                # returns at once
        guest.wait_for_boot()
        guest.check("systemctl status")                 # as with a Hypervisor

It runs under KVM, on a CPU that is emulated: it is Debian without what it can do
without (see build-root.sh), such as udev. Its definition is as an operator would
have it who knows nothing of virtjoule. It runs on until the hypervisor ends.
"""

import json
import shlex
import time
from contextlib import suppress

from daemon import PROGRAMS_DIR, Reader
from harness import system
from harness.metrics import Metrics
from machine import PATIENCE_S, Machine, MachineError

POWERCAP = "/sys/class/powercap"
SHARE = "/run/virtjoule/share"
_CONSOLE = "/var/log/guest-console.log"
_MEMORY_MIB = 384
_ASK_S = system.PATIENCE_S  # until the agent has answered, once it can be reached
_UNREACHABLE = ("not connected", "synchroni", "not available for now")  # libvirt, of an agent
_XML = f"""
<domain type='kvm'>
  <name>{{name}}</name>
  <memory unit='MiB'>{_MEMORY_MIB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>/boot/vmlinux</kernel>
    <initrd>/boot/initramfs.cpio</initrd>
    <cmdline>console=ttyS0 quiet panic=1 mitigations=off no_timer_check</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/vdb'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{_CONSOLE}'/></serial>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Guest(Machine):
    """Use as a context, which defines the domain."""

    POLL_S = (0.5, 3)
    READ_S = 5  # that a read of its counter may take when nothing is in its way

    def __init__(self, host, name, packages=()):
        self.name = name
        self.uuid = None
        self._host = host
        self._packages = packages

    def __enter__(self):
        files = " ".join(shlex.quote(self._host.put(path)) for path in self._packages)
        reader = self._host.put(system.BUILD / "tests/e2e/poll-reader")
        self._host.check(f"""
            mount /dev/vdb /mnt
            cp {files} /mnt/root && install {reader} /mnt{PROGRAMS_DIR} && umount /mnt""")
        self._host.check(f"virsh -q define /dev/stdin <<'END'\n{_XML.format(name=self.name)}END\n")
        self.uuid = self._host.check(f"virsh domuuid {self.name}").strip()
        return self

    def __exit__(self, *_):
        with suppress(Exception):
            self._host.get(_CONSOLE)
        with suppress(Exception):  # it may not have booted
            journal = self.start("journalctl -b -o short-monotonic", logged=False).wait().output
            (self._host.directory / "guest-journal.log").write_text(journal)

    def power_on(self):
        """It boots meanwhile."""
        self._host.check(f"virsh -q start {self.name}")

    def wait_for_boot(self):
        def is_up():
            with suppress(MachineError, system.TestTimeout):
                return self.run("systemctl is-active multi-user.target", 120).status == 0
            return False

        system.wait_until(is_up, f"{self.name} boots", interval=3, patience_s=PATIENCE_S)

    def xml(self, *options):
        return self._host.check(f"virsh dumpxml {self.name} {' '.join(options)}")

    def ask(self, command, **arguments):
        request = json.dumps({"execute": command, "arguments": arguments})
        script = (f"virsh -q qemu-agent-command --timeout {_ASK_S} {self.name} "
                  f"{shlex.quote(request)}")
        end = time.monotonic() + _ASK_S
        while True:
            answer = self._host.start(script, logged=False).wait(_ASK_S + 30)
            if answer.status == 0:
                return json.loads(answer.output)["return"]
            # One that is busy is slow to answer whether it is there: it was not asked yet.
            if time.monotonic() > end or not any(why in answer.output for why in _UNREACHABLE):
                raise MachineError(f"{self.name}: {command}: {answer.output}")
            time.sleep(1)

    def log(self, text):
        self._host.log(f"{self.name}: {text}")

    def reader(self):
        """Of its own counter, twice a second."""
        return Reader(self, f"{POWERCAP}/intel-rapl:0", hertz=2)

    def scrape(self):
        """What its node_exporter has on energy, and its load; it may be about to start."""
        return Metrics(self.check("""
            until exec 3<>/dev/tcp/127.0.0.1/9100; do sleep 1; done 2>/dev/null
            printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3
            grep -E '^node_(rapl|load1)' <&3"""))
