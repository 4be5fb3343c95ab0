# SPDX-License-Identifier: LGPL-2.1-or-later
"""Thousands of idle processes under QEMU's name, of any user: some stay, others come and go."""

import os
import shutil
import subprocess
import sys

from . import system

NOBODY = 65534

# Runs as the crowd's user. All end when their standard input does: with this program.
_SPAWN = '''
import os, sys, uuid
from collections import deque

program, staying, churned, alive, sockets = sys.argv[1], *map(int, sys.argv[2:])
hold, _end = os.pipe()
links = []
for number in range(sockets):
    links += ["-chardev", f"socket,path=/run/{number}"]

def start(*more):
    name = str(uuid.uuid4())
    arguments = [program, "-name", "guest=web", "-uuid", name, *more]
    return os.posix_spawn(program, arguments, {}, file_actions=[(os.POSIX_SPAWN_DUP2, hold, 0)])

for _ in range(staying):
    start(*links)
print("staying", flush=True)
sys.stdin.readline()
young = deque()
for _ in range(churned):
    young.append(start())
    if len(young) > alive:
        pid = young.popleft()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
print("churned", flush=True)
sys.stdin.read()
'''


class Crowd:
    """`staying` processes with that many sockets on their command lines; use as a context.

    Then churn() starts `churned` others, of which at most `alive` live at a time.
    """

    def __init__(self, directory, uid=NOBODY, staying=0, churned=0, alive=100, sockets=0):
        self._uid = uid
        self._program = directory / "crowd" / "qemu-system-x86_64"
        self._numbers = [str(number) for number in (staying, churned, alive, sockets)]
        self._process = None

    def __enter__(self):
        self._program.parent.mkdir()
        self._program.parent.chmod(0o755)
        shutil.copy(system.BUILD / "tests/e2e/fake-qemu", self._program)
        self._process = system.start_child(
            ["setpriv", f"--reuid={self._uid}", f"--regid={self._uid}", "--clear-groups",
             sys.executable, "-c", _SPAWN, self._program, *self._numbers],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=True,
            cwd="/", env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        self._await("staying")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def churn(self):
        """Returns when all have been started."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._await("churned")

    def _await(self, word):
        line = self._process.stdout.readline().strip()
        if line != word:
            raise RuntimeError(f"not {word} but {line!r}")
