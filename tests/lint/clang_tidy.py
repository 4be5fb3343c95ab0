#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""clang_tidy.py BUILD NODES [FILE...]: what clang-tidy finds in a build's sources, or in some

The analyzer leaves a function after so many NODES of its paths. A source without findings is not
looked at again until the source, a header or the settings change: the build keeps a hash of all
that clang-tidy reads. Ends with 1 when there are findings.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

WITH_ARGUMENT = ("-o", "-MF", "-MQ")
# clang takes their place; ccache, if it is there, stands before one of the others.
COMPILERS = ("ccache", "cc", "gcc", "clang")


def read_units(build, files):
    """The compile commands by source: one that is compiled twice is looked at once."""
    units = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if not files or path in files:
            units.setdefault(path, entry)
    return units


def preprocess(entry):
    """All that the compiler reads, comments too since NOLINT is one; None if it fails."""
    arguments = iter(shlex.split(entry["command"]))
    options = []
    for argument in arguments:
        if argument in WITH_ARGUMENT:
            next(arguments)
        elif argument not in ("-c", "-MD"):
            options.append(argument)
    while options[0] in COMPILERS:
        options.pop(0)
    run = subprocess.run(["clang", "-E", "-CC", *options], cwd=entry["directory"],
                         capture_output=True)
    return shlex.join(options).encode() + run.stdout if run.returncode == 0 else None


def look(build, command, settings, path, entry):
    """What clang-tidy says of a source; empty if nothing."""
    text = preprocess(entry)
    clean = text and build / "lint" / hashlib.sha256(settings + text).hexdigest()
    if clean and clean.exists():
        return ""
    run = subprocess.run([*command, path], text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    if run.returncode:
        return run.stdout
    if clean:
        clean.touch()
    return ""


def main():
    build, nodes = pathlib.Path(sys.argv[1]), sys.argv[2]
    units = read_units(build, {pathlib.Path(name).resolve() for name in sys.argv[3:]})
    command = ["clang-tidy", "--quiet", "-p", build, *(
        f"--extra-arg={argument}" for argument in (
            "-Xclang", "-analyzer-config", "-Xclang", f"max-nodes={nodes}"))]
    settings = nodes.encode() + subprocess.run(["clang-tidy", "--version"], check=True,
                                               capture_output=True).stdout
    for path in (".clang-tidy", "tests/.clang-tidy"):
        settings += pathlib.Path(path).read_bytes()
    (build / "lint").mkdir(exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(lambda unit: look(build, command, settings, *unit), units.items()))
    print("".join(said), end="")
    return 1 if any(said) else 0


if __name__ == "__main__":
    sys.exit(main())
