# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine that runs scripts of bash as root, through QEMU's guest agent in it."""

import base64
import time
from typing import NamedTuple

from harness import system

# Ends a command that hangs; no verdict. A guest in the machine may be much slower than it.
PATIENCE_S = 3 * system.PATIENCE_S


class Answer(NamedTuple):
    """What a command printed (both streams) and its exit status, negative for a signal."""

    status: int
    output: str


class MachineError(Exception):
    pass


class Machine:
    """What it is made of says how its agent is asked, and where it is written what was."""

    POLL_S = (0.01, 0.2)  # whether a command has ended: at first, at most

    def ask(self, command, **arguments):
        """A request of the guest agent's protocol."""
        raise NotImplementedError

    def log(self, text):
        raise NotImplementedError

    def run(self, script, patience_s=PATIENCE_S):
        return self.start(script).wait(patience_s)

    def check(self, script, patience_s=PATIENCE_S):
        """Runs a script that must succeed; returns its output."""
        return self.start(script).check(patience_s)

    def start(self, script, logged=True):
        """Starts a script; returns the Job."""
        return Job(self, script, logged)

    def tell(self, text):
        """Prints what was seen; it is in the log as well."""
        print(text)
        self.log(text)


class Job:
    """A script that runs in the machine."""

    def __init__(self, machine, script, logged):
        self._machine = machine
        self._script = script
        self._logged = logged
        started = machine.ask("guest-exec", **{
            "path": "/bin/bash", "arg": ["-c", f"exec 2>&1\n{script}"], "capture-output": True})
        self.pid = started["pid"]
        self._answer = None

    def wait(self, patience_s=PATIENCE_S):
        """Waits for its end."""
        end = time.monotonic() + patience_s
        interval, longest = self._machine.POLL_S
        while not self.has_ended():
            if time.monotonic() > end:
                raise system.TestTimeout(f"{self._script!r}: not within {patience_s} s")
            time.sleep(interval)
            interval = min(interval * 1.5, longest)
        return self._answer

    def check(self, patience_s=PATIENCE_S):
        """Waits for it to succeed; returns its output."""
        answer = self.wait(patience_s)
        if answer.status != 0:
            raise MachineError(f"{self._script!r} gave {answer.status}:\n{answer.output}")
        return answer.output

    def has_ended(self):
        if self._answer:
            return True
        status = self._machine.ask("guest-exec-status", pid=self.pid)
        if status["exited"]:
            output = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
            self._answer = Answer(status.get("exitcode", -status.get("signal", 0)), output)
            if self._logged:
                self._machine.log(f"{self._script}\n{output}= {self._answer.status}")
        return self._answer is not None
