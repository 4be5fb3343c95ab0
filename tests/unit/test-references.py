#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What documents and comments name exists: test-references.py ROOT

- file.c, room/file.h, tests/e2e/...: a file of the tree, or a header that some source includes;
- function(): called or defined somewhere in the code;
- `file.c function` and `file.c:function` in a document: a function that this file names.

NAME and DIRECTORY stand for any name; _text() is the end of one. test-references.names lists what
the kernel and the programs of others have.
"""

import fnmatch
import pathlib
import re
import sys
import tempfile

DOCUMENTS = ("README.md", "docs/*.md", "guest/README.md", "man/*.scd", "*.md", ".github/*.md")
CODE = {".c", ".h"}
SCRIPTS = {".py", ".sh", ".build"}
# Files with these names can be looked for; others are too often no file's name.
FILE = re.compile(r"(?<![\w./<@*{}-])[\w./-]*\w\.(?:c|h|py|sh|md|scd|list)\b(?![\w/(=])")
PLACE = re.compile(r"(?<![\w./<-])(?:src|bpf|tests|docs|hooks|systemd|man|guest)/[\w./@-]*\w")
FUNCTION = re.compile(r"(?<![\w.>-])[a-z_]\w+(?=\(\))")
IN_FILE = re.compile(r"`([\w./-]+\.[ch])[: ]([a-z_]\w+)(?:\(\))?`")
# libbpf's macros define the function that is their first argument.
CALL = re.compile(r"\b[A-Za-z_]\w*(?=\()|(?<=BPF_PROG\()\w+")
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z]{4}")
INCLUDE = re.compile(r"#include <([^>]+)>")
HASH = re.compile(r'^[ \t]*""".*?"""|(?<![\w$\'"{&\\])#(?!!)[^\n]*', re.DOTALL | re.MULTILINE)


class Tree:
    """All files of a tree, and what its code names."""

    def __init__(self, root):
        self.root = root
        # Builds, which change meanwhile, are not looked into.
        tops = [top for top in root.iterdir() if not re.match(r"build|\.git$", top.name)]
        self.files = sorted(str(path.relative_to(root)) for top in tops
                            for path in [top, *top.rglob("*")]
                            if path.is_file() and "tests/fuzz/corpus/" not in str(path))
        self.folders = {str(parent) for path in self.files
                        for parent in pathlib.PurePath(path).parents}
        names = root / "tests/unit/test-references.names"
        listed = set(names.read_text().split()) if names.exists() else set()
        self.headers, self.functions, self.by_file = listed, set(listed), {}
        for path in self.files:
            suffix = pathlib.PurePath(path).suffix
            if suffix in CODE | SCRIPTS:
                self._read(path, self.text(path), suffix)

    def _read(self, path, text, suffix):
        code = COMMENT.sub(self._keep_string, text) if suffix in CODE else HASH.sub("", text)
        named = set(CALL.findall(code))
        if suffix in CODE:
            self.headers |= set(INCLUDE.findall(text))
            # Functions are handed over and put into tables by their names alone.
            self.by_file[path] = named | set(re.findall(r"\b[a-z_]\w+\b", code))
        self.functions |= named

    @staticmethod
    def _keep_string(match):
        return match.group() if match.group()[0] in "\"'" else " "

    def text(self, path):
        return (self.root / path).read_text(errors="replace")

    def find(self, name):
        """The files whose paths end with a name."""
        name = name.removeprefix("./").removeprefix("../")
        return [path for path in self.files if path == name or path.endswith("/" + name)]

    def is_header(self, name):
        return any(header == name or header.endswith("/" + name) for header in self.headers)

    def is_place(self, name):
        """A file or a folder, perhaps without its extension, or cut where a pattern begins."""
        return name in self.folders or any(path.startswith(name) for path in self.files)


def prose(path, text):
    """What is said in a file, line by line: a document's text, or the comments of code."""
    suffix = pathlib.PurePath(path).suffix
    if suffix in CODE:
        pieces = ((match.start(), match.group()) for match in COMMENT.finditer(text)
                  if match.group()[0] == "/")
    elif suffix in SCRIPTS:
        pieces = ((match.start(), match.group()) for match in HASH.finditer(text))
    else:
        pieces = [(0, text)]
    for start, piece in pieces:
        first = text.count("\n", 0, start) + 1
        for number, line in enumerate(piece.split("\n")):
            yield first + number, line


def check_line(tree, line):
    """Names in a line that do not exist."""
    for match in FILE.finditer(line):
        name = match.group()
        if not (name.startswith("/") or PLACEHOLDER.search(name) or tree.find(name) or
                tree.is_header(name)):
            yield f"no such file: {name}"
    for match in PLACE.finditer(line):
        name = match.group()
        if not (FILE.fullmatch(name) or name in tree.headers or tree.is_place(name)):
            yield f"no such place: {name}"
    for match in FUNCTION.finditer(line):
        name = match.group()
        if name not in tree.functions and not PLACEHOLDER.search(name) and not (
                name.startswith("_") and any(other.endswith(name) for other in tree.functions)):
            yield f"no such function: {name}()"
    for match in IN_FILE.finditer(line):
        files = tree.find(match[1])
        if files and not any(match[2] in tree.by_file[path] for path in files):
            yield f"no such function in {match[1]}: {match[2]}"


def check(root):
    """Prints each name that does not exist; returns whether there is one."""
    tree = Tree(root)
    wrong = False
    for path in tree.files:
        is_document = any(fnmatch.fnmatch(path, pattern) for pattern in DOCUMENTS)
        if not is_document and pathlib.PurePath(path).suffix not in CODE | SCRIPTS or \
                path.endswith("test-references.py"):
            continue
        for number, line in prose(path, tree.text(path)):
            for problem in check_line(tree, line):
                print(f"{path}:{number}: {problem}")
                wrong = True
    return wrong


def check_itself():
    """A check that cannot fail checks nothing."""
    files = {"src/room/old.c": "int function_old(void)\n{\n    return 0;\n}\n", "docs/x.md": "x\n"}
    for path, text, is_wrong in (
            ("docs/a.md", "As src/room/old.c and `room/old.c` say, function_old().\n", False),
            ("docs/a.md", "`old.c function_old` and `room/old.c:function_old`\n", False),
            ("docs/a.md", "As room/new.c says.\n", True),
            ("docs/a.md", "As src/new says.\n", True),
            ("docs/a.md", "`old.c function_new`\n", True),
            ("man/a.1.scd", "As function_new() says.\n", True),
            ("src/room/a.h", "/* As function_new() says. */\n", True),
            ("src/room/a.h", "/*\n * As new.h says. */\n", True),
            ("bpf/a.c", "int a; // src/room/new.c\n", True),
            ("tests/a.py", "# As function_new() says\n", True),
            ("tests/a.py", '"""As src/room/new.c says"""\n', True),
            ("tests/a.sh", "true # as new.sh says\n", True)):
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            for name, content in (files | {path: text}).items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(content)
            print(f"planted: {text}", end="")
            if check(root) != is_wrong:
                sys.exit("not noticed" if is_wrong else "noticed, but it is as it should be")


if __name__ == "__main__":
    check_itself()
    print("the tree:")
    sys.exit(check(pathlib.Path(sys.argv[1])))
