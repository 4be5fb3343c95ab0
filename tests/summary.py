#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""summary.py JUNIT-FILE...: the skips and failures with their reasons, and as the last line
"N passed, N failed, N skipped". Ends with 1 when a test failed or a file is missing."""

import sys
import xml.etree.ElementTree as ElementTree

FAILURE_LINES = 8


def last_line(text):
    lines = (text or "").strip().splitlines()
    return lines[-1] if lines else ""


def reason(case, element):
    """pytest gives it in the element; of a meson test it is the last line of its output."""
    return element.get("message") or last_line(case.findtext("system-err")) or last_line(
        case.findtext("system-out")) or "no reason given"


def first_lines(text):
    return "\n    ".join(text.splitlines()[:FAILURE_LINES])


def main(paths):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in paths:
        try:
            cases = list(ElementTree.parse(path).iter("testcase"))
        except (OSError, ElementTree.ParseError) as error:
            print(f"FAILED {path}: no results: {error}")
            counts["failed"] += 1
            continue
        for case in cases:
            name = f"{case.get('classname')}: {case.get('name')}"
            skipped = case.find("skipped")
            failures = case.findall("failure") + case.findall("error")
            if failures:
                counts["failed"] += 1
                print(f"FAILED {name}")
                for failure in failures:
                    print(f"    {first_lines(reason(case, failure))}")
            elif skipped is not None:
                counts["skipped"] += 1
                print(f"SKIPPED {name}: {reason(case, skipped)}")
            else:
                counts["passed"] += 1
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
