# SPDX-License-Identifier: LGPL-2.1-or-later
"""One hypervisor for each file of tests, with virtjoule's packages. Run by `make check-slow`."""

import os
import signal

import pytest

from harness import system
from hypervisor import IMAGES, Hypervisor
from package import Package

MAX_ENERGY_UJ = 20_000_000_000  # of the counters: they wrap every few minutes
COUNTERS = {"max_energy_range_uj": MAX_ENERGY_UJ, "dram_max_energy_range_uj": MAX_ENERGY_UJ}


def pytest_configure():
    # SIGTERM like Ctrl-C: fixtures take down what they started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.slow)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root, to read the disk's packages"))


@pytest.fixture(scope="module")
def devices():
    """Further ones of the hypervisor, as options of QEMU."""
    return ()


@pytest.fixture(scope="module")
def host(request, devices):
    """Up, with energy counters, without virtjoule."""
    if not (IMAGES / "stamp").exists():
        pytest.skip("no disk for the hypervisor: run make system-root")
    name = request.module.__name__.removeprefix("test_")
    with Hypervisor(system.BUILD / "results/system" / name, options=devices) as host:
        host.load_energy_counters(**COUNTERS)
        yield host


@pytest.fixture(scope="module")
def package():
    """virtjoule's, as `make package` built it."""
    with system.TemporaryDirectory() as directory:
        yield Package("virtjoule", directory)


@pytest.fixture(autouse=True)
def title(request):
    """Tells where a test begins in the log of its hypervisor."""
    if "host" in request.fixturenames:
        request.getfixturevalue("host").log(f"==== {request.node.name}")
