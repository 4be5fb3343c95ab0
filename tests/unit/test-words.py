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
            yield re.compile(old), folders.split(), new


def found(root):
    """One line for each old word that stands in a text or in a file's name."""
    words = list(replaced(root))
    any_old = re.compile("|".join(old.pattern for old, _, _ in words))
    fine = set()  # words that are no old ones: most words come again
    for path in sorted(path for folder in ("src", "bpf", "tests")
                       for path in (root / folder).rglob("*") if path.suffix in SUFFIXES):
        name = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        title = path.stem.replace("-", "_").removeprefix("test_")
        for word in sorted({title, *re.findall(r"\w+", text)} - fine):
            if not any_old.fullmatch(word):
                fine.add(word)
                continue
            for old, folders, new in words:
                if name.parts[0] in folders and old.fullmatch(word):
                    lines = [str(number) for number, line in enumerate(text.splitlines(), 1)
                             if re.search(rf"\b{word}\b", line)] or ["its name"]
                    yield f"{name}:{','.join(lines)}: {word} is called {new} now"


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
        if len(lines) != 2 or "a.c:2:" not in lines[0] or "its name" not in lines[1]:
            sys.exit(f"not noticed: {lines}")


def main():
    self_test()
    lines = list(found(Path(sys.argv[1])))
    print("\n".join(lines))
    sys.exit(bool(lines))


main()
