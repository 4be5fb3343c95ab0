# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures over the harness. Run with: /usr/bin/python3 -m pytest tests/e2e"""

import os
import signal
from contextlib import ExitStack

import pytest

from harness import system
from harness.daemon import VIRTJOULED, Daemon
from harness.fake_qemu import FakeQemu
from harness.guest import Guest
from harness.isolation import isolate
from harness.libvirtd import Libvirtd

# These files begin first: they take longest, and several files run at once.
LONGEST = ("test_attacks_bounds", "test_calibrate", "test_faults", "test_ipmi",
           "test_kills_under_guest", "test_lifecycle", "test_migration", "test_request_servers",
           "test_two_packages")


def pytest_addoption(parser):
    parser.addoption("--provider", default="auto", choices=("auto", "bpf", "procfs"),
                     help="who tells the daemon of usage")


def pytest_configure(config):
    # SIGTERM like Ctrl-C: fixtures take down what they started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if os.geteuid() != 0:
        return
    if not hasattr(config, "workerinput"):
        system.remove_leftovers()
    isolate()


def pytest_collection_modifyitems(items):
    if not VIRTJOULED.exists():
        raise pytest.UsageError(f"{VIRTJOULED} has not been built")
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root, to mount and to run guests"))
    items.sort(key=lambda item: item.module.__name__ not in LONGEST)


@pytest.fixture
def directory():
    with system.TemporaryDirectory() as path:
        yield path


@pytest.fixture
def stack(directory):
    """Whatever a test starts is stopped before its directory goes, last first."""
    with ExitStack() as contexts:
        yield contexts


@pytest.fixture(scope="session")
def session_libvirtd():
    if not (system.BUILD / "guest/stamp").exists():
        pytest.skip("no guest image: run tests/guest/build-guest.sh build/guest")
    with Libvirtd() as libvirtd:
        yield libvirtd


@pytest.fixture
def libvirtd(session_libvirtd):
    """Of a test; what its module has started goes on."""
    before = session_libvirtd.domains()
    yield session_libvirtd
    session_libvirtd.remove_domains(keep=before)


@pytest.fixture(scope="session")
def provider(pytestconfig):
    """The daemon's [usage] provider."""
    name = pytestconfig.getoption("provider")
    with system.TemporaryDirectory() as directory:
        daemon = Daemon(directory, {"usage": {"provider": name}})
        if daemon.check_config() != 0:
            pytest.skip(f"this virtjouled has no provider {name}: {daemon.log().strip()}")
    return name


@pytest.fixture(scope="module")
def module_directory():
    """Of what the tests of a module share."""
    with system.TemporaryDirectory() as path:
        yield path


@pytest.fixture(scope="module")
def module_stack(module_directory):
    with ExitStack() as contexts:
        yield contexts


@pytest.fixture
def start_daemon(directory, stack, provider):
    """start_daemon({section: {key: value}}); its log is shown when the test fails."""

    def start(settings=None):
        daemon = Daemon(directory, {"usage": {"provider": provider}, **(settings or {})})
        stack.callback(lambda: print(daemon.log()))
        return stack.enter_context(daemon)

    return start


@pytest.fixture
def unstarted(directory, settings, stack):
    """A daemon of the test's `settings`: to be started by the test, or to fail."""
    daemon = Daemon(directory, settings)
    stack.callback(lambda: print(daemon.log()))
    stack.callback(daemon.__exit__, None)
    return daemon


@pytest.fixture
def start_vm(directory, stack):
    """start_vm(duty=50, ...): a process under QEMU's name."""
    return lambda **options: stack.enter_context(FakeQemu(directory, **options))


@pytest.fixture
def start_guest(directory, stack, libvirtd):
    """start_guest(daemon, ...): a real guest with its energy share attached, or with none."""

    def start(daemon, share=True, **options):
        guest = Guest(libvirtd, directory, mountpoint=daemon.mountpoint if share else None,
                      **options)
        return stack.enter_context(guest)

    return start
