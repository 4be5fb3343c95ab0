# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's Prometheus scrapes the metrics; promtool finds nothing to complain about."""

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress

import pytest

from harness import system

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: virtjoule
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


@pytest.fixture
def daemon(start_daemon):
    return start_daemon({"source": {"energy": "estimate"}})


@pytest.fixture
def query(directory, daemon, stack):
    """query(expression): the result list of Prometheus' HTTP API."""
    config = directory / "prometheus.yml"
    config.write_text(CONFIG.format(port=daemon.port))
    port = system.free_port()
    with open(directory / "prometheus.log", "w") as log:
        prometheus = system.start_child(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    stack.callback(system.stop_child, prometheus)

    def ask(expression):
        url = (f"http://127.0.0.1:{port}/api/v1/query?"
               + urllib.parse.urlencode({"query": expression}))
        with suppress(urllib.error.URLError), \
                urllib.request.urlopen(url, timeout=system.PATIENCE_S) as response:
            return json.load(response)["data"]["result"]
        return []

    return ask


def test_prometheus_scrapes(daemon, start_vm, query):
    hostile = 'a "quoted\\" name\nwith a line'
    vm = start_vm(name=hostile, duty=50)
    rates = system.wait_until(
        lambda: [sample for sample in
                 query(f'rate(virtjoule_vm_energy_joules_total{{uuid="{vm.uuid}"}}[10s])')
                 if float(sample["value"][1]) > 0],
        "Prometheus has a rate of the VM", interval=0.5)
    assert rates[0]["metric"]["name"] == hostile
    # A busy machine may miss one scrape, and then tells nothing until the next.
    for expression in ('up{job="virtjoule"}', "sum(virtjoule_source_energy_joules_total)"):
        system.wait_until(
            lambda: [float(sample["value"][1]) for sample in query(expression)] > [0],
            f"Prometheus has {expression}", interval=0.5)


def test_promtool_accepts(daemon, start_vm):
    start_vm(name="some", duty=10)
    metrics = daemon.wait_metrics(lambda m: m.select("virtjoule_vm_info", name="some"))
    result = subprocess.run(["promtool", "check", "metrics"], input=metrics.text,
                            capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
