#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Energy flows one way through src/, and so do includes.

A room may include itself, the rooms that ROOMS lists for it, and the data headers that DATA lists
for it: what one stage hands to the next. The check looks through headers: whatever a header brings
in counts as included. bpf/ and tests/ have rules of their own. No header includes itself by a
detour, and, where the static library is given, no source files call each other in a circle.

    test-includes.py SOURCE_ROOT [LIBRARY]
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# What a stage shows to the stages after it, in the order in which energy flows.
ZONE = {"source/zone.h"}
SAMPLE = ZONE | {"source/sample.h"}
VM = ZONE | {"discovery/vm.h"}
USAGE = VM | {"usage/usage.h"}
STATIC = {"baseline/static_power.h"}
METERS = {"platform/platform_meter.h"} | STATIC
NAMES = {"shared/vm_names.h"}
SNAPSHOT = VM | STATIC | METERS | SAMPLE | {"ledger/snapshot.h"}

# room: (rooms that it may include as a whole, data headers of other rooms)
ROOMS = {
    "util": (set(), set()),
    "host": ({"util"}, NAMES),
    "source": ({"util", "host"}, set()),
    "meter": ({"util"}, set()),
    "libvirt": ({"util", "host"}, VM),
    "discovery": ({"util", "host", "libvirt"}, ZONE | NAMES),
    "memory": ({"util", "host"}, USAGE),
    "usage": ({"util", "host", "memory", "bpf"}, VM),
    "attribution": ({"util"}, SAMPLE | USAGE),
    "baseline": ({"util"}, SAMPLE | USAGE),
    "platform": ({"util", "baseline"}, SAMPLE | USAGE | {"meter/meter.h"}),
    "ledger": ({"util", "attribution", "baseline"}, SAMPLE | USAGE | METERS),
    "powercapfs": ({"util", "host"}, SNAPSHOT | {"usage/usage.h"}),
    "publish": ({"util", "host"}, SNAPSHOT),
    "requests": ({"util", "host", "source", "bpf"}, set()),
    "doctor": ({"util", "host"}, SAMPLE | {
        "daemon/config.h", "libvirt/domain_xml.h", "powercapfs/mount.h", "source/energy_source.h",
        "source/rapl.h"}),
    "cli": ({"util", "host"}, set()),
}
ROOMS["daemon"] = (set(ROOMS) - {"cli", "doctor", "requests"} | {"bpf"}, set())

# What works where there is no daemon to ask: what else it may include.
EXCEPTIONS = {
    "cli/attach.c": {"libvirt/domain_xml.h"},
    "cli/client.c": {"powercapfs/mount.h"},
    "cli/calibrate.c": SAMPLE | {
        "source/energy_source.h", "source/rapl.h", "baseline/calibration.h"},
    "cli/doctor.c": {"doctor/doctor_check.h", "libvirt/domain_xml.h", "daemon/config.h"},
}

# Headers that may bring in what a file could not include by itself: the configuration's structs.
OPAQUE = {"daemon/config.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def texts(root):
    """{path: [included]} of all C files of src/, bpf/ and tests/, with paths from root."""
    files = [path for top in ("src", "bpf", "tests") for path in (root / top).rglob("*.[ch]")]
    return {str(path.relative_to(root)): INCLUDE.findall(path.read_text(encoding="utf-8"))
            for path in files}


def find(includer, included, files):
    """The file that an include names, as the compiler's search path finds it; None: generated."""
    beside = Path(includer).parent / included
    parts = []
    for part in beside.parts:
        parts = parts[:-1] if part == ".." else parts + [part]
    for path in ("/".join(parts), "src/" + included, "bpf/" + included, "tests/" + included):
        if path in files:
            return path
    return None


def reached(path, files, seen=None):
    """Every file that a file includes, through headers; not through opaque ones."""
    seen = {} if seen is None else seen
    for included in files[path]:
        target = find(path, included, files)
        if target and target not in seen:
            seen[target] = path
            if target.removeprefix("src/") not in OPAQUE:
                reached(target, files, seen)
    return seen


def is_allowed(path, target):
    """Whether the file may include the other one."""
    top, room = path.split("/")[:2]
    other_top, other = target.split("/")[:2]
    if top == "tests":
        # A test may use all of the product, and what the tests share, but no other test's files.
        return other_top in ("src", "bpf") or other == room or target.count("/") == 1 or \
            other in SHARED_TESTS
    if top == "bpf":
        return other_top == "bpf" and not (room == "shared" and other != "shared") and \
            not (room == "lib" and target.count("/") == 1)
    name = path.removeprefix("src/")
    target_name = target.split("/", 1)[1]
    rooms, headers = ROOMS.get(room, (set(), set()))
    if other_top == "bpf":
        return "bpf" in rooms or target_name in headers
    return other_top == "src" and (
        other == room or other in rooms or target_name in headers or
        any(name.startswith(prefix) and target_name in extra
            for prefix, extra in EXCEPTIONS.items()))


# Folders of tests/ that others may use: generated load, and a published host's figures.
SHARED_TESTS = {"workload", "lib"}


def wrong_directions(files):
    """One line for each include that goes the wrong way."""
    for path in sorted(files):
        for target, by in sorted(reached(path, files).items()):
            if not is_allowed(path, target):
                through = "" if by == path else f" (through {by})"
                yield f"wrong direction: {path} includes {target}{through}"


def strong_components(graph):
    """The circles of a graph {node: nodes}, by Tarjan's algorithm."""
    index, low, stack, circles = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            circle = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(circle) > 1:
                circles.append(sorted(circle))

    for node in list(graph):
        if node not in index:
            visit(node)
    return circles


def header_circles(files):
    graph = {path: {find(path, included, files) for included in files[path]} - {None}
             for path in files}
    for circle in strong_components(graph):
        yield "headers include each other: " + " ".join(circle)


def call_circles(library):
    """Circles of source files, by the symbols that their objects define and need."""
    def symbols(*options):
        text = subprocess.run(["nm", "-A", *options, library], capture_output=True, text=True,
                              check=True).stdout
        return re.findall(r"([\w.-]+\.c)\.o:\s*\S*\s+(\w)\s+(\w+)$", text, re.MULTILINE)

    definer = {name: file for file, kind, name in symbols("--defined-only") if kind in "TDBRV"}
    graph = {}
    for file, _, name in symbols("--undefined-only"):
        if definer.get(name, file) != file:
            graph.setdefault(file, set()).add(definer[name])
    if not graph:
        yield f"no calls between files in {library}: the check sees nothing"
    for circle in strong_components(graph):
        yield "files call each other in a circle: " + " ".join(circle)


def problems(root):
    files = texts(root)
    rooms = {path.split("/")[1] for path in files if path.startswith("src/")}
    yield from (f"room without a rule: src/{room}" for room in sorted(rooms - set(ROOMS)))
    yield from wrong_directions(files)
    yield from header_circles(files)


# A check that cannot fail checks nothing: each of these must be found.
PLANTED = [
    {"src/source/x.c": "usage/usage.h", "src/usage/usage.h": None},
    {"src/usage/x.c": "source/rapl.h", "src/source/rapl.h": None},
    {"src/util/x.h": "source/zone.h", "src/source/zone.h": None},
    {"src/publish/x.c": "daemon/config.h", "src/daemon/config.h": None},
    {"src/attribution/x.c": "publish/control.h", "src/publish/control.h": None},
    {"src/cli/x.c": "source/rapl.h", "src/source/rapl.h": None},
    {"src/daemon/x.c": "cli/client.h", "src/cli/client.h": None},
    {"src/discovery/x.c": "shared/vm_usage.h", "bpf/shared/vm_usage.h": None},
    {"src/requests/x.c": "usage/usage.h", "src/usage/usage.h": None},
    # through a header that is allowed itself
    {"src/publish/x.c": "ledger/snapshot.h", "src/ledger/snapshot.h": "ledger/ledger.h",
     "src/ledger/ledger.h": None},
    {"bpf/lib/x.bpf.h": "host/topology.h", "src/host/topology.h": None},
    {"bpf/shared/x.h": "lib/kernel.bpf.h", "bpf/lib/kernel.bpf.h": None},
    {"tests/unit/x.c": "../soak/host.h", "tests/soak/host.h": None},
    {"src/util/a.h": "util/b.h", "src/util/b.h": "util/a.h"},
    {"src/kitchen/x.h": None},
]


def self_test():
    for planted in PLANTED:
        with tempfile.TemporaryDirectory() as root:
            for path, included in planted.items():
                file = Path(root, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f'#include "{included}"\n' if included else "\n", encoding="utf-8")
            if not list(problems(Path(root))):
                sys.exit(f"not noticed: {planted}")
    circle = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    if strong_components(circle) != [["a", "b", "c"]]:
        sys.exit("not noticed: a circle of three files")


def main():
    self_test()
    found = list(problems(Path(sys.argv[1])))
    for library in sys.argv[2:]:
        found += call_circles(library)
    print("\n".join(found))
    sys.exit(bool(found))


main()
