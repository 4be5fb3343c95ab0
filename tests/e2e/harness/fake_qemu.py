# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes under QEMU's name whose CPU time is known."""

import os
import shutil
import subprocess
import uuid as uuids

from . import system


class FakeQemu:
    """Looks like a VM and uses `duty` percent of a CPU; use as a context.

    threads="short" does the work in threads that live for milliseconds, sleepers
    adds such that do nothing, comm names them all; cpu pins it, cgroup is where
    it is started; arguments replaces QEMU's usual ones, program its file's name.
    """

    def __init__(self, directory, name="fake", uuid=None, duty=0, threads="long", cpu=None,
                 vcpus=1, sleepers=0, comm=None, cgroup=None, arguments=None,
                 program="qemu-system-x86_64"):
        self.name = name
        self.uuid = uuid or str(uuids.uuid4())
        self.process = None
        self.begun_s = 0  # of its CPU time what was used before it was QEMU, once it was asked
        self._program = directory / program
        self._cpu = cpu
        self._cgroup = cgroup
        self._environment = {"FAKE_QEMU_DUTY": str(duty), "FAKE_QEMU_THREADS": threads,
                             "FAKE_QEMU_SLEEPERS": str(sleepers)}
        if comm is not None:
            self._environment["FAKE_QEMU_COMM"] = comm
        if arguments is None:
            arguments = ["-name", f"guest={name},debug-threads=on", "-machine", "pc", "-m", "128",
                         "-uuid", self.uuid, "-smp", str(vcpus)]
        self._arguments = arguments

    def __enter__(self):
        if not self._program.exists():
            shutil.copy(system.BUILD / "tests/e2e/fake-qemu", self._program)
        pin = ["taskset", "-c", str(self._cpu)] if self._cpu is not None else []
        join = (["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self._cgroup.path]
                if self._cgroup else [])
        self.process = system.start_child(
            [*join, *pin, self._program, *self._arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, **self._environment})
        return self

    def __exit__(self, *_):
        self.kill()

    def cpu_seconds(self):
        """CPU time used so far."""
        return self._ask("cpu")

    def stop_load(self):
        """Ends the work, not the process; returns all CPU time used, seconds."""
        return self._ask("stop")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def _ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        used, begun = self.process.stdout.readline().split()
        self.begun_s = int(begun) / 1e9
        return int(used) / 1e9
