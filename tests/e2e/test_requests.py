# SPDX-License-Identifier: LGPL-2.1-or-later
"""Energy of HTTP requests: the guest's daemon, here beside the servers on the host's loopback.

The counter is simulated: a watt for each CPU's busy time, so that energy is CPU time, and what
the daemon makes of it can be checked against the counter itself.
"""

import csv
import http.client
import os
import socket
import subprocess
import time
import urllib.request

import pytest
from harness import system
from harness.cgroup import Cgroup
from harness.powercap import Package, SimulatedPowercap
from harness.requests import FIELD, PROGRAM, Load, RequestsDaemon, load, workload_server

WATTS_PER_CPU = 20
CAPABILITIES = "+bpf,+perfmon,+net_admin"
# As virtjoule-requests@.service runs it.
CONFINED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
            f"--inh-caps=-all,{CAPABILITIES}", f"--ambient-caps=-all,{CAPABILITIES}",
            f"--bounding-set=-all,{CAPABILITIES}"]


@pytest.fixture
def powercap(directory, stack):
    return stack.enter_context(make_powercap(directory / "tree"))


def make_powercap(path, **options):
    return SimulatedPowercap(path, [Package(tuple(range(os.cpu_count())), static_watts=0,
                                            watts_per_cpu=WATTS_PER_CPU, **options)])


@pytest.fixture
def start_server(stack):
    """start_server(mode): the workload server in a cgroup of its own."""
    return lambda mode="threads": stack.enter_context(workload_server(mode))


@pytest.fixture
def start_requests(directory, stack):
    """start_requests({key: value}); its log is shown when the test fails."""

    def start(settings, wrapper=(), **options):
        daemon = RequestsDaemon(directory, {"tree": directory / "tree", **settings},
                                wrapper=[*system.REALTIME, *wrapper], **options)
        stack.callback(lambda: print(daemon.log()))
        return stack.enter_context(daemon)

    return start


def ask(server, target="/cpu?iters=100000"):
    """The microjoules that a response's header tells, or None."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{target}",
                                timeout=system.PATIENCE_S) as answer:
        answer.read()
        value = answer.headers[FIELD]
        return None if value is None else int(value)


def wait_energy(server):
    """Waits until the daemon knows what work costs."""
    system.wait_until(lambda: ask(server), "the header tells energy")


def all_joules(metrics):
    return float(metrics.sum("virtjoule_request_energy_joules_sum")
                 + metrics.value("virtjoule_request_background_joules_total"))


def test_every_response_tells(directory, powercap, start_server, start_requests):
    """With the rights of its unit: the field, the access log and the metrics say the same."""
    server = start_server()
    directory.chmod(0o777)
    daemon = start_requests({"cgroup": server.cgroup.path, "psys_interval_ms": 200},
                            wrapper=CONFINED)
    wait_energy(server)
    before = daemon.wait_requests_over()
    told = load(server, "--profile", "web", "--connections", "4", "--duration", "2s")
    after = daemon.wait_requests_over()
    answers, scores = told["all"]["answers"], told["all"]["energy_score"]
    assert scores["answers"] == answers > 0
    assert scores["missing"] == scores["wrong"] == 0
    requests = after[len(before):]
    assert len(requests) == answers
    assert sum(request["header_uj"] for request in requests) == scores["sum_uj"]
    assert all(request["header_uj"] <= request["energy_uj"] for request in requests)
    for row in told["paths"]:
        path = row["target"].split("?")[0]
        expected = sum(other["answers"] for other in told["paths"]
                       if (other["method"], other["target"].split("?")[0]) == (row["method"], path))
        assert expected == sum((request["method"], request["path"], request["status"])
                               == (row["method"], path, 200) for request in requests)
    metrics = daemon.metrics()
    assert metrics.sum("virtjoule_request_energy_joules_count") == len(after)
    assert int(metrics.sum("virtjoule_request_energy_joules_sum") * 10**6) == sum(
        request["energy_uj"] for request in after)
    assert metrics.value("virtjoule_request_missed_total") == 0
    assert "warning" not in daemon.log()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["threads", "events", "pool"])
def test_energy_follows_the_work(mode, powercap, start_server, start_requests):
    """1, 2, 4 and 8 units of work on 16 connections cost 1:2:4:8 within 10 %."""
    server = start_server(mode)
    start_requests({"cgroup": server.cgroup.path})
    wait_energy(server)
    told = load(server, "--profile", "units", "--connections", "16", "--duration", "10s")
    assert told["all"]["energy_score"]["missing"] == 0
    means = [row["energy_score"]["mean_uj"] for row in told["paths"]]
    print("means", means)
    per_unit = [mean / 2 ** i for i, mean in enumerate(means)]
    middle = sum(per_unit) / len(per_unit)
    assert all(value == pytest.approx(middle, rel=0.1) for value in per_unit)


@pytest.mark.slow
def test_sum_is_the_counter(directory, stack, start_server, start_requests):
    """Requests and background are the counter's energy within 1 %, however often it wraps."""
    tree = stack.enter_context(make_powercap(directory / "tree", max_energy_uj=30_000_000))
    server = start_server("pool")
    daemon = start_requests({"cgroup": server.cgroup.path, "psys_interval_ms": 100})
    wait_energy(server)
    daemon.wait_requests_over()
    joules, total_uj = all_joules(daemon.metrics()), tree.total_uj(0)
    told = load(server, "--profile", "units", "--connections", "16", "--duration", "30s")
    daemon.wait_requests_over()
    metrics = daemon.metrics()
    used = (tree.total_uj(0) - total_uj) / 1e6
    print("counter", used, "told", all_joules(metrics) - joules)
    assert used > 5 * 30  # it wrapped
    assert all_joules(metrics) - joules == pytest.approx(used, rel=0.01)
    # The server was busy all the time: its requests are the most part of its cgroup's work.
    in_log = sum(request["cpu_us"] for request in daemon.requests()) / 1e6
    assert in_log == pytest.approx(server.cgroup.cpu_seconds(), rel=0.05)
    assert told["errors"] == 0


def test_model(start_server, start_requests):
    """The weights are microjoules: no tree is needed, and energy is CPU time to the digit."""
    server = start_server("events")
    daemon = start_requests({"cgroup": server.cgroup.path, "attribution_mode": "model",
                             "default_multiplier": 0.0625, "tree": "/nonexistent"})
    told = load(server, "--profile", "units", "--connections", "4", "--requests", "20")
    assert told["all"]["energy_score"]["missing"] == 0
    requests = daemon.wait_requests_over()
    assert len(requests) == 80
    for request in requests:
        # Both are cut to whole microseconds and microjoules.
        assert request["energy_uj"] == pytest.approx(62.5 * request["cpu_us"], abs=64)
    assert "tree" not in daemon.log()


COLUMNS = ("sample_time_ns,label,mode,interval_ns,interval_psys_uj,active_psys_uj,idle_uj,"
           "total_score,runtime_ns,wakeups,cycles,instructions,cache_misses,migrations,"
           "freq_runtime_ns")


def test_collect(directory, powercap, start_server, start_requests):
    """Rows to fit weights from, one per interval."""
    rows_file = directory / "rows.csv"
    start_ns = time.time_ns()
    start_requests({"psys_interval_ms": 200, "idle_power_uw": 1_000_000},
                   options=["--collect-csv", rows_file, "--collect-label", "a, b"])
    system.wait_until(lambda: len(rows_file.read_text().splitlines()) > 5, "five rows")
    lines = rows_file.read_text().splitlines()
    assert lines[0] == COLUMNS
    rows = list(csv.DictReader(lines))
    assert sum(int(row["interval_ns"]) for row in rows) < time.time_ns() - start_ns
    for row in rows:
        numbers = {key: int(row[key]) for key in COLUMNS.split(",")[3:-1]}
        assert (row["label"], row["mode"], row["freq_runtime_ns"]) == ("a, b", "psys", "")
        assert numbers["active_psys_uj"] + numbers["idle_uj"] == numbers["interval_psys_uj"]
        assert numbers["idle_uj"] <= numbers["interval_ns"] // 1000
        # One unit a nanosecond; scores are cut to whole ones, runtimes to 2^-10 of one in a slice.
        assert numbers["total_score"] == pytest.approx(numbers["runtime_ns"], rel=1e-3)
        assert numbers["wakeups"] > 0
        assert numbers["interval_ns"] >= 200e6
    assert sum(int(row["interval_psys_uj"]) for row in rows) <= powercap.total_uj(0)
    ends = [int(row["sample_time_ns"]) for row in rows]
    assert ends == sorted(ends) and start_ns < ends[0] and ends[-1] < time.time_ns()


def test_tree_comes_goes_and_returns(directory, start_server, start_requests):
    """Without a tree the field says what it said; what was used meanwhile comes later."""
    server = start_server()
    daemon = start_requests({"cgroup": server.cgroup.path, "psys_interval_ms": 100})
    daemon.wait_log("no energy tree, the search goes on")
    assert not ask(server)
    with make_powercap(directory / "tree") as tree:
        daemon.wait_log("energy tree found")
        wait_energy(server)
        mounted = directory / "tree/class"
        # It is lost under load: the rate of a tick without work may be far off.
        with Load(server, "--profile", "units", "--connections", "2", "--duration", "4s"):
            time.sleep(1)
            mounted.rename(directory / "gone")
            # Its files go as well when a share is unmounted; open ones read no more.
            tree.spoil(0, b"")
            daemon.wait_log("energy tree lost")
            joules, total_uj = all_joules(daemon.metrics()), tree.total_uj(0)
        assert ask(server) > 0
        tree.repair(0)
        (directory / "gone").rename(mounted)
        daemon.wait_log("energy tree found", count=2)
        # What is owed goes onto the work of the next ticks.
        load(server, "--profile", "units", "--connections", "2", "--duration", "3s")
        daemon.wait_requests_over()
        used = (tree.total_uj(0) - total_uj) / 1e6
        # A tick and a half of all CPUs, at either end; what is owed, a tick's.
        assert all_joules(daemon.metrics()) - joules == pytest.approx(
            used, abs=4 * 0.1 * WATTS_PER_CPU * os.cpu_count())


def test_cgroups_come_and_go(powercap, stack, start_requests):
    """One that comes later is followed, and one that is made anew; one that is none is named."""
    later = Cgroup("threads")
    daemon = start_requests({"cgroup": [later.path, "/tmp", "nosuch.service"],
                             "psys_interval_ms": 200})
    daemon.wait_log(f"info: no such cgroup yet cgroup={later.path}")
    daemon.wait_log("info: no such cgroup yet cgroup=nosuch.service")
    daemon.wait_log("not a directory of the unified hierarchy (cgroup v2) cgroup=/tmp")
    for round_number in (1, 2):
        with workload_server("threads") as server:
            daemon.wait_log(f"requests of a cgroup are followed cgroup={later.path}",
                            count=round_number)
            wait_energy(server)
        daemon.wait_log(f"cgroup gone cgroup={later.path}", count=round_number)
    # Said once, not in every second.
    assert daemon.log().count("nosuch.service") == 1


def test_older_connections(powercap, start_server, start_requests):
    """A connection that was there before the daemon is told from its next request on."""
    server = start_server()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=system.PATIENCE_S)

    def ask_again():
        connection.request("GET", "/cpu?iters=100000")
        answer = connection.getresponse()
        answer.read()
        return answer.headers[FIELD]

    assert ask_again() is None
    socket = connection.sock
    start_requests({"cgroup": server.cgroup.path, "psys_interval_ms": 200})
    wait_energy(server)
    assert int(ask_again()) > 0
    assert connection.sock is socket
    connection.close()


def test_rotation(directory, powercap, start_server, start_requests):
    server = start_server()
    daemon = start_requests({"cgroup": server.cgroup.path})
    ask(server)
    daemon.wait_requests_over()
    old = directory / "access.log.1"
    daemon.access_log.rename(old)
    daemon.hang_up()
    system.wait_until(daemon.access_log.exists, "the log is opened anew")
    ask(server)
    assert len(daemon.wait_requests_over()) == 1
    assert len(old.read_text().splitlines()) == 1


def test_port_in_use(directory, powercap, start_requests, start_server):
    """Told once, and headers tell energy; metrics are there when the port is free."""
    server = start_server()
    with socket.create_server(("127.0.0.1", 0)) as other:
        daemon = start_requests({"cgroup": server.cgroup.path,
                                 "listen": f"127.0.0.1:{other.getsockname()[1]}"})
        daemon.port = other.getsockname()[1]
        wait_energy(server)
        time.sleep(4)  # while it has tried again, after one second and after two
        assert daemon.log().count("metrics cannot be served, it is tried again") == 1
    daemon.wait_log("metrics are served now")
    assert all_joules(daemon.metrics()) > 0


@pytest.mark.parametrize("text, problem", [
    ("psys_interval_ms = 5\n", "line=1 section=\"\" key=psys_interval_ms"),
    ("\nattribution = model\n", "line=2 section=\"\" key=attribution"),
    ("cgroup = ../x\n", "line=1 section=\"\" key=cgroup"),
])
def test_bad_configuration(directory, text, problem):
    config = directory / "bad.conf"
    config.write_text(text)
    for options in ([], ["--check-config"]):
        run = subprocess.run([PROGRAM, "--config", config, *options], capture_output=True,
                             text=True, timeout=system.PATIENCE_S)
        assert run.returncode == 78
        assert problem in run.stderr


@pytest.mark.parametrize("options", [["x"], ["--nosuch"], ["--collect-csv", "/tmp/x"]])
def test_bad_options(options):
    run = subprocess.run([PROGRAM, *options], capture_output=True, timeout=system.PATIENCE_S)
    assert run.returncode == 64


@pytest.mark.parametrize("wrapper, missing", [
    (["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"],
     "CONFIG_DEBUG_INFO_BTF"),
    (["setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf"], "CAP_PERFMON"),
    (["setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf,+perfmon"],
     "map 'sockets': failed to create"),
])
def test_what_the_kernel_lacks(directory, wrapper, missing):
    """No type information, no permission: it is named, and the exit status is 69."""
    daemon = RequestsDaemon(directory, {}, wrapper=wrapper)
    daemon.launch()
    try:
        assert daemon.process.wait(system.PATIENCE_S) == 69
        assert missing in daemon.log()
    finally:
        daemon.kill()
