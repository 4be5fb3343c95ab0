# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtjouled under a configuration of the test's, everything of it in one directory."""

import fcntl
import json
import os
import socket
import subprocess
import threading
import urllib.request

from . import system
from .margins import PATIENCE_S
from .metrics import Metrics, Scraped

VIRTJOULED = system.BUILD / "src/daemon/virtjouled"
VIRTJOULE = system.BUILD / "src/cli/virtjoule"
FAST = {"interval": "200ms", "allow_fine_interval": "yes"}  # of section "daemon"


class DescriptorStore:
    """The service manager's: what a daemon stored with FDSTORE=1 the next one gets."""

    # In the started process: from 3 on, and LISTEN_PID is who execs.
    _HAND_OVER = ('n=3; for fd in $STORED; do eval "exec $n<&$fd $fd<&-"; n=$((n + 1)); done; '
                  'export LISTEN_PID=$$; exec "$@"')
    _LOWEST = 100  # above those that the started process gets

    def __init__(self):
        self.descriptors = []  # (name, number)

    def receive(self, fields, descriptors):
        """The fields of one message of sd_notify(3) and what came with it."""
        name = fields.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in fields:
            self.remove(lambda stored, _: stored == name)
        if "FDSTORE" in fields:
            for descriptor in descriptors:
                self.add(name, descriptor)

    def add(self, name, descriptor):
        """Stores a duplicate."""
        number = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, self._LOWEST)
        self.descriptors.append((name, number))

    def remove(self, condition=lambda name, number: True):
        """Closes all for which condition(name, number) holds."""
        for stored in list(self.descriptors):
            if condition(*stored):
                self.descriptors.remove(stored)
                os.close(stored[1])

    def start(self, command, env, **options):
        """Starts a child that gets the descriptors."""
        if not self.descriptors:
            return system.start_child(command, env=env, **options)
        names, numbers = zip(*self.descriptors)
        env = {**env, "STORED": " ".join(map(str, numbers)), "LISTEN_FDS": str(len(names)),
               "LISTEN_FDNAMES": ":".join(names)}
        return system.start_child(["bash", "-c", self._HAND_OVER, "bash", *command], env=env,
                                  pass_fds=numbers, **options)


class NotifySocket:
    """The service manager's end of sd_notify(3); without a store it keeps no descriptors."""

    def __init__(self, path, store=None):
        self.path = path
        self.messages = []
        self._store = store
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        # Always read: a full queue would block the daemon.
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self):
        while True:
            data, descriptors, *_ = socket.recv_fds(self._socket, 65536, 16)
            if not data:
                return
            lines = data.decode().split("\n")
            if self._store:
                self._store.receive(dict(line.split("=", 1) for line in lines if line),
                                    descriptors)
            # Closing BARRIER=1's tells that all before it has been received.
            for descriptor in descriptors:
                os.close(descriptor)
            self.messages += lines

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self.path.unlink()


class Daemon(Scraped):
    """Use as a context, which starts it and waits until it is ready.

    `settings` is {section: {key: value}} on top of the directories and the
    port, which are the test's own; libvirt is off unless a URI is given.
    With a DescriptorStore the mount outlives the daemon; `wrapper` is a command
    that is to run it. A confined daemon can neither mount nor see its mount, which
    `virtjouled --mount` makes before each start.

    It runs before all else on the machine: a tick that is missed, or late, is the daemon's fault.
    """

    # As root: with the capabilities of virtjoule.service.
    _CONFINE = ('umount --lazy "$0"; exec setpriv --inh-caps=-all '
                '--bounding-set=-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search "$@"')

    def __init__(self, directory, settings=None, store=None, wrapper=(), confined=False):
        self.directory = directory
        self.program = VIRTJOULED  # another build's, from the next start on
        self._confined = confined
        self._wrapper = wrapper
        self.runtime_dir = directory / "run"
        self.state_dir = directory / "state"
        self.mountpoint = directory / "vms"
        if confined:
            self._wrapper = ["unshare", "--mount", "sh", "-c", self._CONFINE, self.mountpoint]
        self.port = system.free_port()
        self.process = None
        self.store = store
        self._notify = None
        self.config = directory / "virtjouled.conf"
        self._log = directory / "virtjouled.log"
        self.configure(settings or {})

    def configure(self, settings):
        """Writes the configuration; takes effect at the next start."""
        sections = {
            "daemon": {"runtime_dir": self.runtime_dir, "state_dir": self.state_dir},
            "powercapfs": {"mountpoint": self.mountpoint},
            "exporter": {"listen": f"127.0.0.1:{self.port}"},
            "discovery": {"libvirt_uri": ""},
            # Tests know what their VMs used: a floor would take a part of it until much is learned.
            "baseline": {"default": "none"},
        }
        for section, keys in settings.items():
            sections.setdefault(section, {}).update(keys)
        self.write_config("".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
            for section, keys in sections.items()))

    def write_config(self, text):
        self.config.write_text(text)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            # A daemon that a test has killed has no exit status to check.
            if self.process and self.process.poll() is None and self.stop() != 0 and not kind:
                raise RuntimeError(
                    f"virtjouled ended with {self.process.returncode}:\n{self.log()}")
        finally:
            self.kill()
            for path in system.mounts_below(self.mountpoint):
                system.detach_mount(path)
            if self.store:
                self.store.remove()

    def start(self):
        self.launch()
        system.wait_until(self._is_ready, f"virtjouled is ready; its log:\n{self.log()}")

    def launch(self):
        """Starts it without waiting."""
        self._close_notify()
        self._notify = NotifySocket(self.directory / "notify.sock", self.store)
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._notify.path)}
        environment.pop("JOURNAL_STREAM", None)
        with open(self._log, "ab") as log:
            if self._confined:
                subprocess.run([VIRTJOULED, "--mount", "--config", self.config], check=True,
                               stdout=log, stderr=log, env=environment, timeout=PATIENCE_S)
            start = self.store.start if self.store else system.start_child
            self.process = start([*system.REALTIME, *self._wrapper, self.program,
                                  "--config", self.config],
                                 stdout=log, stderr=log, env=environment)

    def _is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"virtjouled ended with {self.process.returncode}:\n{self.log()}")
        return "READY=1" in self._notify.messages

    def wait_exit(self):
        """Waits for it to end by itself; returns its exit status."""
        return self.process.wait(PATIENCE_S)

    def stop(self):
        """SIGTERM; returns the exit status."""
        status = system.stop_child(self.process)
        self._close_notify()
        return status

    def kill(self):
        """SIGKILL, if it still runs; leaves its mount dead."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self._close_notify()

    def _close_notify(self):
        if self._notify:
            self._notify.close()
            self._notify = None

    def log(self):
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait_log(self, text):
        """Waits until the log holds a text."""
        try:
            system.wait_until(lambda: text in self.log(), f"{text!r} in the log")
        except system.TestTimeout as error:
            raise system.TestTimeout(f"{error}:\n{self.log()}") from error

    def metrics(self):
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return Metrics(response.read().decode())

    def cli(self, *arguments, status=0):
        """Runs `virtjoule ... --json`; returns what it printed, parsed."""
        result = subprocess.run(
            [VIRTJOULE, "--socket", self.runtime_dir / "control.sock", *arguments, "--json"],
            capture_output=True, text=True, timeout=PATIENCE_S)
        if result.returncode != status:
            raise RuntimeError(f"virtjoule {arguments}: {result.returncode}\n{result.stderr}")
        return json.loads(result.stdout) if result.stdout else None

    def check_config(self):
        """Exit status of --check-config; what it says goes to the log."""
        with open(self._log, "ab") as log:
            return subprocess.run([VIRTJOULED, "--check-config", "--config", self.config],
                                  stdout=log, stderr=log, timeout=PATIENCE_S).returncode

    def tree(self, uuid):
        """A VM's package zone as the host sees it."""
        return self.mountpoint / uuid / "class/powercap/intel-rapl:0"
