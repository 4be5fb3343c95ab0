# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command that may start threads but no process: the kernel kills whoever tries (SIGSYS).

    python3 no_fork.py COMMAND ...

seccomp(2): the calls that make a process are told from those that make a thread by their flags;
clone3(2), whose flags a filter cannot see, is "not implemented", so that libc takes clone(2).
"""

import ctypes
import errno
import os
import struct
import sys

COMMAND = [sys.executable, __file__]

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, JMP|JEQ, JMP|JSET, RET
_CLONE, _FORK, _VFORK, _CLONE3 = 56, 57, 58, 435  # of x86-64
_NUMBER, _FIRST_ARGUMENT = 0, 16  # in struct seccomp_data
_CLONE_THREAD = 0x10000

# (code, jump if true, jump if false, value); jumps skip so many of those that follow.
_FILTER = [
    (_LOAD, 0, 0, _NUMBER),
    (_EQUAL, 6, 0, _FORK),
    (_EQUAL, 5, 0, _VFORK),
    (_EQUAL, 5, 0, _CLONE3),
    (_EQUAL, 0, 2, _CLONE),
    (_LOAD, 0, 0, _FIRST_ARGUMENT),
    (_BITS, 0, 1, _CLONE_THREAD),
    (_RETURN, 0, 0, _ALLOW),
    (_RETURN, 0, 0, _KILL_PROCESS),
    (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
]


class _Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def forbid():
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER)
    program = _Program(len(_FILTER), code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


if __name__ == "__main__":
    forbid()
    os.execvp(sys.argv[1], sys.argv[1:])
