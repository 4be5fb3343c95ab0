#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
docs/architecture.md says what is so: its rooms are the folders that there are, and its walks can be
followed in the code.

A walk is a table of hops with the columns "where" (a file), "function" and "what happens". The
function is defined in that file, and the file of a hop before it mentions the function: by its
name, or by the name in brackets where the call goes through a table of functions. A hop whose first
column is empty is made outside the code: nothing has to mention the next one.

    test-architecture.py SOURCE_ROOT
"""
import re
import sys
import tempfile
from pathlib import Path

PAGE = "docs/architecture.md"
HOP = re.compile(r"^\| (?:`(?P<file>[\w./-]+\.[ch])`)? *\| (?P<call>[^|]*) \| [^|]+ \|$")
CALL = re.compile(r"^`(?P<function>\w+)\(\)`(?: \(`(?P<alias>\w+)`\))?$")


def walks(page):
    """[[(line number, file, function, alias)]]: a list of hops for each walk; file "": outside."""
    hops = None
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("| where | function |"):
            hops = []
        elif hops is not None and not line.startswith("|"):
            yield hops
            hops = None
        elif hops is not None and not line.startswith("| ---"):
            hop, call = HOP.match(line), None
            if hop and hop["file"]:
                call = CALL.match(hop["call"].strip())
            hops.append((number, hop["file"] or "" if hop else None,
                         call["function"] if call else None, call["alias"] if call else None))
    if hops is not None:
        yield hops


def is_defined(text, function):
    """Whether a C text has the body of a function, or defines it with a macro of libbpf's."""
    return re.search(rf"^\w[^;{{}}#=]*\b{function}\([^;{{}}]*\)\s*\{{", text, re.MULTILINE) or \
        re.search(rf"^int BPF_\w+\({function}\b", text, re.MULTILINE)


def problems(root):
    page = (root / PAGE).read_text(encoding="utf-8")
    named = set(re.findall(r"^    src/(\w+) ", page, re.MULTILINE))
    there = {path.name for path in (root / "src").iterdir() if list(path.glob("*.c"))}
    for room in sorted(named ^ there):
        yield f"{PAGE}: room src/{room} " + ("does not exist" if room in named else "is missing")
    found = list(walks(page))
    if len(found) != 2:
        yield f"{PAGE}: {len(found)} walks, not one microjoule's and one request's"
    for hops in found:
        before = ""
        for number, file, function, alias in hops:
            where = f"{PAGE}:{number}"
            if file == "":
                before = ""
                continue
            if not file or not function:
                yield f"{where}: not a hop: | `file` | `function()` | what happens |"
                continue
            path = root / file
            if not path.exists():
                yield f"{where}: no file {file}"
                continue
            text = path.read_text(encoding="utf-8")
            if not is_defined(text, function):
                yield f"{where}: {function}() is not defined in {file}"
            if before and not re.search(rf"\b{alias or function}\b", before):
                yield f"{where}: no hop before it mentions {alias or function}"
            before += text


# A check that cannot fail checks nothing: {what the page says: what the check says of it}.
PLANTED = {
    "| `src/a/a.c` | `gone()` | x |": "not defined",
    "| `src/a/gone.c` | `first()` | x |": "no file",
    "| `src/a/a.c` | `first()` | x |\n| `src/a/b.c` | `alone()` | x |":
        "no hop before it mentions alone",
    "| `src/a/a.c` | `first()` | x |\n| `src/a/b.c` | `alone()` (`ops`) | x |": "mentions ops",
    "| somewhere | `first()` | x |": "not a hop",
}
TRUE = "| `src/a/a.c` | `first()` | x |\n| | the kernel | x |\n| `src/a/b.c` | `alone()` | x |"
HEAD = "    src/a  a room\n\n| where | function | what happens |\n| --- | --- | --- |\n"


def self_test():
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "docs").mkdir()
        (root / "src/a").mkdir(parents=True)
        (root / "src/a/a.c").write_text("int first(void)\n{\n    second();\n}\n", encoding="utf-8")
        (root / "src/a/b.c").write_text("int alone(int a,\n          int b)\n{\n}\n",
                                        encoding="utf-8")
        for walk, expected in [*PLANTED.items(), (TRUE, None)]:
            page = f"{HEAD}{walk}\n\n{HEAD[16:]}{TRUE}\n"
            (root / PAGE).write_text(page, encoding="utf-8")
            lines = list(problems(root))
            if (expected is None) != (not lines) or (expected and expected not in lines[0]):
                sys.exit(f"{walk}: expected {expected}, not {lines}")


def main():
    self_test()
    lines = list(problems(Path(sys.argv[1])))
    print("\n".join(lines))
    sys.exit(bool(lines))


main()
