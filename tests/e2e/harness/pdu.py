# SPDX-License-Identifier: LGPL-2.1-or-later
"""A power distribution unit: Debian's snmpd, which asks a program of ours (pass_persist, see
snmpd.conf(5)) for the power of each outlet.

    test --(a file: type and value, replaced at once)--> outlet program --> snmpd --> meter
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# Of rPDU2OutletMeteredStatusPower in APC's PowerNet-MIB: the outlets are numbered from 1.
OUTLETS = ".1.3.6.1.4.1.318.1.1.26.9.4.3.1.7"

_OUTLET_PROGRAM = """
import sys

def read():
    return dict(line.split(" ", 1) for line in open(sys.argv[1]).read().splitlines())

for line in iter(sys.stdin.readline, ""):
    if line == "PING\\n":
        print("PONG", flush=True)
        continue
    oid = sys.stdin.readline().rstrip()
    value = read().get(oid) if line == "get\\n" else None
    print(f"{oid}\\n" + value.replace(" ", "\\n", 1) if value else "NONE", flush=True)
"""


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Pdu:
    """The agent; SNMPv2c with a community, SNMPv3 with a user."""

    def __init__(self, directory: Path, community="public", user="monitor",
                 password="outlet-secret", snmpd="/usr/sbin/snmpd"):
        self.directory, self.snmpd = directory, snmpd
        self.port = free_udp_port()
        self.address = f"udp:127.0.0.1:{self.port}"
        self.process = None
        self._outlets = {}
        self._values = directory / "outlets"
        self._program = directory / "outlet.py"
        self._program.write_text(_OUTLET_PROGRAM)
        self._configuration = directory / "snmpd.conf"
        self._configuration.write_text(
            f"agentaddress {self.address}\n"
            f"rocommunity {community} 127.0.0.1\n"
            f"createUser {user} SHA-256 {password} AES {password}\n"
            f"rouser {user} auth\n"
            f"pass_persist {OUTLETS} {sys.executable} {self._program} {self._values}\n")
        self.tell(1, 291)
        self.start()

    @staticmethod
    def oid(outlet):
        return f"{OUTLETS}.{outlet}"

    def tell(self, outlet, value, kind="gauge"):
        """From now on; kind: gauge, integer, counter, string. Value None: no such outlet."""
        if value is None:
            self._outlets.pop(outlet, None)
        else:
            self._outlets[outlet] = (kind, value)
        new = self._values.with_suffix(".new")
        new.write_text("".join(f"{self.oid(number)} {kind} {value}\n"
                               for number, (kind, value) in self._outlets.items()))
        new.replace(self._values)

    def start(self):
        """Comes (back), at the same port; waits until it listens."""
        self.process = subprocess.Popen(
            [self.snmpd, "-f", "-Lf", str(self.directory / "snmpd.log"), "-C", "-c",
             str(self._configuration), "-p", str(self.directory / "snmpd.pid"),
             "-I", "-ifTable"],
            env={**os.environ, "SNMP_PERSISTENT_DIR": str(self.directory / "persistent"),
                 "MIBS": ""})
        port = f":{self.port:04X} "
        for _ in range(200):
            if port in Path("/proc/net/udp").read_text():
                return
            time.sleep(0.05)
        raise TimeoutError((self.directory / "snmpd.log").read_text())

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def hang(self):
        """It takes questions, and answers none."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)
