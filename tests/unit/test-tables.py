#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a new kind must not forget (docs/extending.md) and no compiler notices.

- Every source file is built, and every unit test runs.
- Every meter, energy source, usage provider and model has a row in its room's table.
- Every kind of meter stands in the documentation, and has a unit test.

    test-tables.py SOURCE_ROOT
"""
import re
import sys
import tempfile
from pathlib import Path

# (what, where its constructor is declared or defined, the constructor, the table's file and name)
TABLES = [
    ("meter", "src/meter/meter_*.h", r"\bint meter_(\w+)_new\(\s*struct meter \*\*ret,\s*"
     r"const struct meter_host", "src/meter/meters.h", "METER_KINDS"),
    ("energy source", "src/source/*.h", r"\bint (\w+)_new\(\s*struct energy_source \*\*ret",
     "src/source/sources.h", "ENERGY_SOURCES"),
    ("usage provider", "src/usage/*.h", r"\bint (\w+)_usage_new\(\s*struct usage_provider \*\*ret",
     "src/usage/providers.h", "USAGE_PROVIDERS"),
    ("model", "src/attribution/*.c",
     r"\bint (\w+)_model_new\(\s*const struct model_options \*options",
     "src/attribution/model.h", "ATTRIBUTION_MODELS"),
]


def read(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""


def unbuilt(root):
    """Source files that no meson.build names, and unit tests that tests/unit/meson.build lacks."""
    build = "".join(read(path) for path in sorted((root / "src").rglob("meson.build")))
    for path in sorted((root / "src").rglob("*.c")):
        if f"'{path.relative_to(root / 'src')}'" not in build and f"'{path.name}'" not in build:
            yield f"{path.relative_to(root)} is in no meson.build"
    tests = read(root / "tests/unit/meson.build")
    for path in sorted((root / "tests/unit").glob("test-*.c")):
        if f"'{path.stem.removeprefix('test-')}'" not in tests:
            yield f"{path.relative_to(root)} is not in tests/unit/meson.build: it never runs"


def rows(root, file, table):
    """The rows of a table: "#define TABLE(ROW) ROW(one) ROW(other)", over several lines or not."""
    text = read(root / file).replace("\\\n", " ")
    found = re.search(rf"^#define {table}\((\w+)\)(.*)$", text, re.MULTILINE)
    return re.findall(rf"\b{found[1]}\((\w+)\)", found[2]) if found else []


def without_row(root):
    """Constructors whose kind the table does not name."""
    for what, files, constructor, file, table in TABLES:
        known = rows(root, file, table)
        if not known:
            yield f"{file} has no table {table}"
        for path in sorted(root.glob(files)):
            for name in re.findall(constructor, read(path)):
                if name not in known:
                    yield (f"{path.relative_to(root)}: the {what} {name} has no row in {table} "
                           f"({file}): nothing makes it")


def undocumented_meters(root):
    """Kinds of meters without a section in docs/platform.md or a unit test."""
    documented = read(root / "docs/platform.md")
    tests = "".join(read(path) for path in sorted((root / "tests/unit").glob("test-meter*.c")))
    for kind in rows(root, "src/meter/meters.h", "METER_KINDS"):
        if f"`[{kind}]`" not in documented:
            yield f"kind of meter {kind}: docs/platform.md does not say what [{kind}] is"
        if f'#include "meter/meter_{kind}.h"' not in tests:
            yield f"kind of meter {kind}: no tests/unit/test-meter-*.c includes its header"


def problems(root):
    return [*unbuilt(root), *without_row(root), *undocumented_meters(root)]


# A check that cannot fail checks nothing: a tree in which all is well, and what is planted in it.
GOOD = {
    "src/meson.build": "'meter/meter_a.c' 'source/b.c' 'usage/c.c' 'attribution/d.c'",
    "src/meter/meters.h": "#define METER_KINDS(KIND) \\\n    KIND(a)\n",
    "src/meter/meter_a.h": "int meter_a_new(struct meter **ret, const struct meter_host *host,\n",
    "src/meter/meter_a.c": "",
    "src/source/sources.h": "#define ENERGY_SOURCES(SOURCE) SOURCE(b)\n",
    "src/source/b.h": "int b_new(struct energy_source **ret);\n",
    "src/source/b.c": "",
    "src/usage/providers.h": "#define USAGE_PROVIDERS(PROVIDER) PROVIDER(c)\n",
    "src/usage/c.h": "int c_usage_new(struct usage_provider **ret);\n",
    "src/usage/c.c": "",
    "src/attribution/model.h": "#define ATTRIBUTION_MODELS(MODEL) MODEL(d)\n",
    "src/attribution/d.c": "int d_model_new(const struct model_options *options,\n",
    "tests/unit/meson.build": "'meter-a'",
    "tests/unit/test-meter-a.c": '#include "meter/meter_a.h"\n',
    "docs/platform.md": "`[a]`",
}
BAD = [
    {"src/meter/meters.h": "#define METER_KINDS(KIND) KIND(z)\n"},
    {"src/source/sources.h": "#define ENERGY_SOURCES(SOURCE) SOURCE(z)\n"},
    {"src/usage/providers.h": ""},
    {"src/attribution/model.h": "#define ATTRIBUTION_MODELS(MODEL) MODEL(z)\n"},
    {"src/meson.build": ""},
    {"tests/unit/meson.build": ""},
    {"tests/unit/test-meter-a.c": ""},
    {"docs/platform.md": ""},
]


def planted(files):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        return problems(root)


def main():
    found = [f"the good tree is not: {problem}" for problem in planted(GOOD)]
    found += [f"not noticed: {bad}" for bad in BAD if not planted(GOOD | bad)]
    found += problems(Path(sys.argv[1]))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
