#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws what a terminal showed: picture.py TITLE <TEXT >PICTURE.svg

docs/demo.svg is `tests/demo/demo.py | tee TEXT`, drawn by this. Nothing is added or left out.
"""

import html
import sys

CHARACTER_WIDTH, LINE_HEIGHT, MARGIN, TITLE_HEIGHT = 8.4, 19, 18, 34
STYLE = "font: 14px 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre"


def draw(title, lines):
    width = max(map(len, [title, *lines])) * CHARACTER_WIDTH + 2 * MARGIN
    height = len(lines) * LINE_HEIGHT + TITLE_HEIGHT + 2 * MARGIN
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
           f'width="{width:.0f}" height="{height}" role="img">')
    yield f"<title>{html.escape(title)}</title>"
    yield '<rect width="100%" height="100%" rx="8" fill="#14181f"/>'
    yield f'<rect width="100%" height="{TITLE_HEIGHT}" rx="8" fill="#262c36"/>'
    for i, colour in enumerate(("#f0645a", "#f2bd4b", "#5ac466")):
        yield f'<circle cx="{20 + 20 * i}" cy="{TITLE_HEIGHT // 2}" r="6" fill="{colour}"/>'
    yield (f'<text x="90" y="{TITLE_HEIGHT // 2 + 5}" fill="#9aa4b2" style="{STYLE}">'
           f"{html.escape(title)}</text>")
    for i, line in enumerate(lines):
        y = TITLE_HEIGHT + MARGIN + (i + 0.75) * LINE_HEIGHT
        yield (f'<text x="{MARGIN}" y="{y:.0f}" fill="#d7dde6" xml:space="preserve" '
               f'style="{STYLE}">{html.escape(line)}</text>')
    yield "</svg>"


print("\n".join(draw(sys.argv[1], sys.stdin.read().expandtabs().rstrip().splitlines())))
