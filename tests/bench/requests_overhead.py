#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What virtjoule-requests costs the servers that it watches.

    wrk (CPU 0) --loopback--> nginx or Node.js (CPU 1, a cgroup of its own)

Short rounds without anything, with a map of sockets whose program does nothing (the kernel's part,
below which no such program gets) and with the daemon, in turns: neighbours give ratios, of
throughput, of the 99th percentile of latency and of the CPU time that the server's cgroup used
for a request, which other load on the machine disturbs least. Prints their medians and quartiles.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness import system
from harness.cgroup import Cgroup
from harness.powercap import Package, SimulatedPowercap
from harness.requests import FIELD, RequestsDaemon

PASS_ALL = system.BUILD / "tests/bench/pass-all"
CLIENT_CPU, SERVER_CPU = "0", "1"
BODY = b"x" * 1024

# As Debian installs it, but in a directory of its own.
NGINX_CONF = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    gzip on;
    access_log {directory}/nginx-access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; root {directory}; }}
}}
"""

NODE_JS = """
const body = require('fs').readFileSync(process.argv[2]);
require('http').createServer((request, response) => response.end(body))
    .listen(Number(process.argv[3]), '127.0.0.1');
"""

# Times in microseconds.
WRK_LUA = """
function done(summary, latency)
    print("result", summary.requests / summary.duration * 1e6, latency:percentile(99),
          summary.requests, summary.errors.connect + summary.errors.read +
          summary.errors.write + summary.errors.status + summary.errors.timeout)
end
"""

MEASURES = ("throughput", "p99", "cpu_per_request")


class Server:
    """A command in a cgroup of its own that serves BODY at /file. Use as a context."""

    def __init__(self, name, port, command):
        self.cgroup = Cgroup(name)
        self.url = f"http://127.0.0.1:{port}/file"
        self._command = command
        self._process = None

    def __enter__(self):
        self.cgroup.__enter__()
        # It is in the cgroup before it makes a socket.
        self._process = system.start_child(
            ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', self.cgroup.path,
             "taskset", "-c", SERVER_CPU, *self._command])
        try:
            system.wait_until(self._answers, f"{self.url} answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        system.stop_child(self._process)
        self.cgroup.__exit__()

    def _answers(self):
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return answer.read() == BODY
        except OSError:
            return False

    def tells_energy(self):
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            return FIELD in answer.headers


def nginx(directory):
    port = system.free_port()
    config = directory / "nginx.conf"
    config.write_text(NGINX_CONF.format(directory=directory, port=port))
    return Server("nginx", port, ["/usr/sbin/nginx", "-p", directory, "-c", config])


def node(directory):
    port = system.free_port()
    script = directory / "server.js"
    script.write_text(NODE_JS)
    return Server("node", port, ["node", script, directory / "file", port])


def measure(directory, server, seconds, connections, headers):
    """One round of wrk: {measure: value}; CPU time per request in microseconds."""
    before = server.cgroup.cpu_seconds()
    run = subprocess.run(
        ["taskset", "-c", CLIENT_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
         *headers, "-s", directory / "wrk.lua", server.url],
        capture_output=True, text=True, check=True)
    used = server.cgroup.cpu_seconds() - before
    line = next(line for line in run.stdout.splitlines() if line.startswith("result"))
    throughput, p99, requests, errors = map(float, line.split()[1:])
    if errors or not requests:
        raise RuntimeError(f"wrk:\n{run.stdout}")
    return dict(zip(MEASURES, (throughput, p99, used / requests * 1e6)))


@contextmanager
def nothing(directory, server):
    yield


@contextmanager
def sockmap(directory, server):
    process = system.start_child([PASS_ALL, server.cgroup.path], stdout=subprocess.PIPE)
    try:
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the map of sockets is not there")
        yield
    finally:
        system.stop_child(process)


@contextmanager
def requests_daemon(directory, server):
    settings = {"tree": directory / "tree", "cgroup": server.cgroup.path}
    with RequestsDaemon(directory, settings) as daemon:
        system.wait_until(server.tells_energy, "the header tells energy")
        yield
        daemon.access_log.unlink()


ROUNDS = (nothing, sockmap, requests_daemon)


def compare(directory, server, options, headers):
    """What each kind of round measured, by turns."""
    seen = {kind: [] for kind in ROUNDS}
    for _ in range(options.rounds):
        for kind in ROUNDS:
            with kind(directory, server):
                seen[kind].append(measure(directory, server, options.seconds,
                                          options.connections, headers))
            print(f"{kind.__name__:15}", *(f"{name} {seen[kind][-1][name]:.4g}"
                                           for name in MEASURES), file=sys.stderr)
    return seen


def print_ratios(title, seen):
    for kind in ROUNDS[1:]:
        print(f"{title}, {kind.__name__}:")
        for name in MEASURES:
            ratios = [b[name] / a[name] for a, b in zip(seen[nothing], seen[kind])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"  {name:15} {middle:.3f} ({low:.3f} .. {high:.3f})"
                  f"   {statistics.median(a[name] for a in seen[nothing]):.4g}"
                  f" -> {statistics.median(b[name] for b in seen[kind]):.4g}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="of each kind")
    parser.add_argument("--seconds", type=int, default=3, help="a round's length")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", default="", help="cases whose title holds this")
    options = parser.parse_args()
    # SIGTERM like Ctrl-C: what was started is taken down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        directory = stack.enter_context(system.TemporaryDirectory())
        (directory / "file").write_bytes(BODY)
        (directory / "wrk.lua").write_text(WRK_LUA)
        stack.enter_context(SimulatedPowercap(directory / "tree", [
            Package(tuple(range(os.cpu_count())), static_watts=0, watts_per_cpu=20)]))
        for make in nginx, node:
            with make(directory) as server:
                for title, headers in (("keep-alive", ()),
                                       ("connection per request", ("-H", "Connection: close"))):
                    title = f"{make.__name__}, {title}"
                    if options.only in title:
                        print_ratios(title, compare(directory, server, options, headers))


if __name__ == "__main__":
    main()
