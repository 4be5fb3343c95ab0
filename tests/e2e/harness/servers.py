# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's HTTP servers (tests/guest/build-servers.sh), in a guest and on this machine's kernel."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack

from . import system
from .guest import Guest
from .requests import WORKLOAD, Server

_CONFIG = "/usr/local/etc/virtjoule/requests/all.conf"
_SERVERS = system.SOURCE_ROOT / "tests/e2e/servers"
_GUEST_UNITS = ("virtjoule-share.service", "run-virtjoule-share.mount", "sys-class-powercap.mount")


class ServersGuest(Guest):
    """Use as a context: the servers are then up, the share mounted, requests not yet measured.

    The daemon is installed with its units as the package does it.
    """

    IMAGES = system.BUILD / "servers"
    DISK = "servers.img"
    UNITS = ("nginx", "apache2", "node", "python", "uvicorn")

    def __init__(self, libvirtd, directory, mountpoint, largest):
        """Their files are of up to so many bytes."""
        self._largest = largest
        tools = directory / "tools"
        shutil.copytree(_SERVERS, tools)
        for path in (system.BUILD / "src/requests/virtjoule-requests",
                     system.BUILD / "systemd/virtjoule-requests@.service",
                     WORKLOAD / "workload-server", WORKLOAD / "workload-load",
                     *(system.SOURCE_ROOT / "systemd" / name for name in _GUEST_UNITS)):
            shutil.copy(path, tools)
        super().__init__(libvirtd, directory, mountpoint, vcpus=2, tools=tools, memory_mib=1024)

    def start(self):
        super().start()
        self.check(f"""
            mkdir -p /root/tools && mount -t virtiofs {self.TOOLS_TAG} /mnt
            cp /mnt/* /root/tools && umount /mnt && cd /root/tools
            cp *.service *.mount /etc/systemd/system && cp virtjoule-requests /usr/local/sbin
            systemctl daemon-reload && systemctl start virtjoule-share
            ./start.sh {self._largest}""")

    def measure(self, **settings):
        """Starts virtjoule-requests on all of the servers; returns when it has begun."""
        lines = [f"{key} = {value}" for key, value in settings.items()]
        lines += [f"cgroup = {unit}.service" for unit in self.UNITS]
        text = "\n".join(lines)
        self.check(f"mkdir -p $(dirname {_CONFIG}) && cat >{_CONFIG} <<'END'\n{text}\nEND\n"
                   "systemctl start virtjoule-requests@all")

    def requests_log(self):
        return self.check("journalctl -q -o cat -u virtjoule-requests@all")

    def talk(self, responses):
        """What servers/client.py prints."""
        command = f"/root/tools/client.py {responses} {self._largest}"
        return json.loads(self.check(command))


class NativeServers:
    """The servers of the guest's disk on this machine's kernel, each in a cgroup of its own.

    Use as a context: they are then up, with files of up to so many bytes.
    """

    NAMES = ("nginx", "apache", "node", "python", "uvicorn")

    def __init__(self, directory, largest):
        self._root = directory / "root"
        self._largest = largest
        self._stack = ExitStack()
        self.cgroups = []

    def __enter__(self):
        self._root.mkdir()
        # It ends with 0 whatever happened; without its files no server starts.
        disk = ServersGuest.IMAGES / ServersGuest.DISK
        subprocess.run(["debugfs", "-R", f"rdump / {self._root}", disk], check=True,
                       capture_output=True)
        shutil.copytree(_SERVERS, self._root / "root/tools")
        subprocess.run(self._inside("prepare.sh", self._largest), check=True,
                       stdout=subprocess.DEVNULL)
        with ExitStack() as stack:
            servers = [stack.enter_context(Server(name, self._inside("run.sh", name)))
                       for name in self.NAMES]
            for server in servers:
                system.wait_until(server.listens, f"{server.cgroup.path.name} listens")
            self.cgroups = [server.cgroup.path for server in servers]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _inside(self, script, argument):
        """The command that runs a script of tests/e2e/servers below the root."""
        return ["unshare", "--mount", "sh", "-c", """
            mount --rbind /dev "$0"/dev && mount -t proc proc "$0"/proc &&
            exec chroot "$0" /root/tools/"$@" """, self._root, script, str(argument)]

    def talk(self, responses):
        """What servers/client.py prints."""
        run = subprocess.run([sys.executable, _SERVERS / "client.py", str(responses),
                              str(self._largest)], stdout=subprocess.PIPE, check=True)
        return json.loads(run.stdout)


def check_bytes(without, measured):
    """Of what servers/client.py saw; a pipelining client's field may find no room."""
    for what, seen in ("without", without), ("measured", measured):
        total = {key: sum(each[key] for each in seen.values()) for key in ("responses", "fields")}
        slowest = max(seen, key=lambda name: seen[name]["longest_s"])
        print(what, total, f"longest wait {seen[slowest]['longest_s']:.3f} s by {slowest}")
    assert without.keys() == measured.keys()
    for name, before in without.items():
        after = measured[name]
        assert (before["error"], after["error"]) == (None, None), name
        assert before["responses"] == after["responses"] == before["asked"], name
        assert before["digest"] == after["digest"], name
        assert before["fields"] == 0, name
        assert "pipelined" in name or after["fields"] == after["responses"], name
