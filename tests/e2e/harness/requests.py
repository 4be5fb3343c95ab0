# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtjoule-requests, the workload server in a cgroup that it watches, and the load generator."""

import json
import os
import signal
import socket
import subprocess
import urllib.request

from . import system
from .cgroup import Cgroup
from .daemon import NotifySocket
from .margins import PATIENCE_S
from .metrics import Metrics

PROGRAM = system.BUILD / "src/requests/virtjoule-requests"
WORKLOAD = system.BUILD / "tests/workload"
FIELD = "X-Energy-Score"


class RequestsDaemon:
    """Use as a context, which starts it and waits until it is ready.

    `settings` are keys of its configuration, lists for those that may be given
    several times; `wrapper` is a command that is to run it.
    """

    def __init__(self, directory, settings, options=(), wrapper=()):
        self.port = system.free_port()
        self.access_log = directory / "access.log"
        self.config = directory / "requests.conf"
        self._log = directory / "virtjoule-requests.log"
        self._command = [*wrapper, PROGRAM, "--config", self.config, *options]
        self._notify_path = directory / "requests-notify.sock"
        self._notify = None
        self.process = None
        settings = {"listen": f"127.0.0.1:{self.port}", "access_log": self.access_log, **settings}
        self.config.write_text("".join(
            f"{key} = {value}\n" for key, values in settings.items()
            for value in (values if isinstance(values, list) else [values])))

    def __enter__(self):
        try:
            self.launch()
            system.wait_until(self._is_ready, "virtjoule-requests is ready")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            if self.process.poll() is None and system.stop_child(self.process) != 0 and not kind:
                raise RuntimeError(f"it ended with {self.process.returncode}:\n{self.log()}")
        finally:
            self.kill()

    def launch(self):
        """Starts it without waiting."""
        self._notify = NotifySocket(self._notify_path)
        self._notify_path.chmod(0o666)  # it may run as another user
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._notify_path)}
        environment.pop("JOURNAL_STREAM", None)
        with open(self._log, "ab") as log:
            self.process = system.start_child(self._command, stdout=log, stderr=log,
                                              env=environment)

    def _is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended with {self.process.returncode}:\n{self.log()}")
        return "READY=1" in self._notify.messages

    def notifications(self):
        """What it has sent to the service manager, and will: lines."""
        return self._notify.messages

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        if self._notify:
            self._notify.close()
            self._notify = None

    def log(self):
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait_log(self, text, count=1):
        """Waits until the log holds a text so often."""
        try:
            system.wait_until(lambda: self.log().count(text) >= count, f"{text!r}")
        except system.TestTimeout as error:
            raise system.TestTimeout(f"{error}:\n{self.log()}") from error

    def metrics(self):
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return Metrics(answer.read().decode())

    def requests(self):
        """What the access log tells, in order."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    def wait_requests_over(self):
        """Waits until no more are added to the access log; returns all."""
        last = []

        def is_still():
            last.append(self.requests())
            # It writes ten times a second.
            return len(last) > 1 and len(last[-1]) == len(last[-2]) > 0

        system.wait_until(is_still, "all requests are in the access log", interval=0.5)
        return last[-1]

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)


class Server:
    """A command in a cgroup of its own that prints its port first. Use as a context."""

    def __init__(self, name, command):
        self.cgroup = Cgroup(name)
        self._command = command
        self._process = None
        self.port = 0

    def __enter__(self):
        self.cgroup.__enter__()
        # It is in the cgroup before it makes a socket.
        self._process = system.start_child(
            ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', self.cgroup.path,
             *self._command], stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_):
        system.stop_child(self._process)
        self.cgroup.__exit__()

    @property
    def pid(self):
        return self._process.pid

    def listens(self):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


def workload_server(mode):
    """mode: threads, events or pool."""
    return Server(mode, [WORKLOAD / "workload-server", "--mode", mode])


class Load:
    """The load generator at work on a server. Use as a context, which waits for its end."""

    def __init__(self, server, *options):
        self.summary = None
        self._command = [WORKLOAD / "workload-load", "--server", f"127.0.0.1:{server.port}",
                         *options]
        self._process = None

    def __enter__(self):
        self._process = system.start_child(self._command, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind, *_):
        if kind:
            system.stop_child(self._process)
            return
        told, errors = self._process.communicate(timeout=PATIENCE_S)
        if self._process.returncode != 0:
            raise RuntimeError(
                f"load generator ended with {self._process.returncode}: {told}{errors}")
        self.summary = json.loads(told)


def load(server, *options):
    """What the load generator tells, which must have had no error."""
    with Load(server, *options) as generator:
        pass
    return generator.summary
