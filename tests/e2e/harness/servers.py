# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest with Debian's HTTP servers and virtjoule-requests, see tests/guest/build-servers.sh."""

import json
import shutil

from . import system
from .guest import Guest
from .requests import WORKLOAD

_BOOT_S = 90
_START_S = 120
_CONFIG = "/usr/local/etc/virtjoule/requests/all.conf"
_SERVERS = system.SOURCE_ROOT / "tests/e2e/servers"
_GUEST_UNITS = ("virtjoule-share.service", "run-virtjoule-share.mount", "sys-class-powercap.mount")


class ServersGuest(Guest):
    """Use as a context: the servers are then up, the share mounted, requests not yet measured.

    The daemon is installed with its units as the package does it.
    """

    IMAGES = system.BUILD / "servers"
    DISK = "servers.img"
    ANSWER_S = 5  # while systemd starts all else
    UNITS = ("nginx", "apache2", "node", "python", "uvicorn")

    def __init__(self, libvirtd, directory, mountpoint):
        tools = directory / "tools"
        shutil.copytree(_SERVERS, tools)
        for path in (system.BUILD / "src/guest/virtjoule-requests",
                     system.BUILD / "systemd/virtjoule-requests@.service",
                     WORKLOAD / "workload-server", WORKLOAD / "workload-load",
                     *(system.SOURCE_ROOT / "systemd" / name for name in _GUEST_UNITS)):
            shutil.copy(path, tools)
        super().__init__(libvirtd, directory, mountpoint, vcpus=2, tools=tools, memory_mib=1024)

    def start(self, timeout=_BOOT_S):
        super().start(timeout)
        self.check(f"""
            mkdir -p /root/tools && mount -t virtiofs {self.TOOLS_TAG} /mnt
            cp /mnt/* /root/tools && umount /mnt && cd /root/tools
            cp *.service *.mount /etc/systemd/system && cp virtjoule-requests /usr/local/sbin
            systemctl daemon-reload && systemctl start virtjoule-share
            sh start.sh""", _START_S)

    def measure(self, **settings):
        """Starts virtjoule-requests on all of the servers; returns when it has begun."""
        lines = [f"{key} = {value}" for key, value in settings.items()]
        lines += [f"cgroup = {unit}.service" for unit in self.UNITS]
        text = "\n".join(lines)
        self.check(f"mkdir -p $(dirname {_CONFIG}) && cat >{_CONFIG} <<'END'\n{text}\nEND\n"
                   "systemctl start virtjoule-requests@all", timeout=60)

    def requests_log(self):
        return self.check("journalctl -q -o cat -u virtjoule-requests@all")

    def talk(self, *servers, timeout=300):
        """What servers/client.py prints."""
        return json.loads(self.check(f"/root/tools/client.py {' '.join(servers)}", timeout))
