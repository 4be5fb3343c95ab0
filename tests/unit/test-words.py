#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
One word, one thing: the words of docs/words.txt that were replaced stand nowhere any more.

    test-words.py SOURCE_ROOT
"""
import re
import sys
import tempfile
from pathlib import Path

SUFFIXES = {".c", ".h", ".py", ".sh", ".build"}


def replaced(root):
    """[(old, folders, new)] of the list; the columns are divided by two blanks or more."""
    for line in (root / "docs/words.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            old, folders, new = re.split(r"\s{2,}|\t", line, maxsplit=2)
            yield re.compile(rf"(?<!\w)(?:{old})(?!\w)"), folders.split(), new


def found(root):
    """One line for each old word that stands in a text or in a file's name."""
    for old, folders, new in replaced(root):
        for path in sorted(path for folder in folders for path in (root / folder).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            name = path.relative_to(root)
            if old.search(path.stem.replace("-", "_").removeprefix("test_")):
                yield f"{name}: the file's name has an old word, it is called {new} now"
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = old.search(line)
                if match:
                    yield f"{name}:{number}: {match.group()} is called {new} now"


def self_test():
    """A check that cannot fail checks nothing."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "docs").mkdir()
        (root / "src").mkdir()
        (root / "docs/words.txt").write_text("# old\nold_\\w+  src  new\n", encoding="utf-8")
        (root / "src/a.c").write_text("cold_word();\nint x = old_word;\n", encoding="utf-8")
        (root / "src/old_name.c").write_text("\n", encoding="utf-8")
        lines = list(found(root))
        if len(lines) != 2 or "a.c:2" not in lines[0]:
            sys.exit(f"not noticed: {lines}")


def main():
    self_test()
    lines = list(found(Path(sys.argv[1])))
    print("\n".join(lines))
    sys.exit(bool(lines))


main()
