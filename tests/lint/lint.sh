#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# lint.sh TOOL [FILE...]: what one tool finds in FILEs, by default in all files of its kind. Exits 1
# if the tool finds something, 77 if the tool is not there. The tool must find a planted fault
# first: a check that cannot fail checks nothing.
#
# clang-tidy and man look at what has been built in VIRTJOULE_BUILD, "build" by default. Within
# LINT_NODES of its paths clang-tidy's analyzer follows a function (clang's default is 225000).
set -eu
export LC_ALL=C.UTF-8
tool=$1
shift
cd "$(dirname "$0")/../.."
build=${VIRTJOULE_BUILD:-build}

# files PATTERN...: of such names, without what is built and what fuzzing found
files() {
    (
        set -f
        # shellcheck disable=SC2046
        find . \( -path './build*' -o -path ./.git -o -path ./tests/fuzz/corpus -o -name '*.png' \
            -o -name __pycache__ \) -prune -o \
            -type f \( -false $(printf ' -o -name %s' "$@") \) -print
    )
}

# For each tool: all() its files; run FILE...; and what it finds in a planted file.
case $tool in
clang-format)
    all() { files '*.c' '*.h'; }
    run() { clang-format --dry-run -Werror "$@"; }
    planted=planted.c fault='int  planted;' finding='code should be clang-formatted'
    ;;
clang-tidy)
    all() { :; } # the sources of the build
    run() { tests/lint/clang_tidy.py "$build" "${LINT_NODES:-25000}" "$@"; }
    planted=planted.c fault='int planted(int a) { return a == a; }' finding=misc-redundant-expression
    ;;
shellcheck)
    all() { files '*' | xargs grep -lE '^#!/bin/(busybox )?sh|^# shellcheck shell='; }
    run() { shellcheck "$@"; }
    planted=planted.sh fault='#!/bin/sh
echo $1' finding=SC2086
    ;;
flake8)
    all() { files '*.py'; }
    run() { flake8 "$@"; }
    planted=planted.py fault='import os' finding=F401
    ;;
man)
    all() { find "$build/man" -name '*.[1-8]'; }
    run() { # man's warnings leave its exit code as it is
        warnings=$(for page; do
            [ -s "$page" ] || echo "$page: empty"
            man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null | sed "s|^|$page: |"
        done)
        [ -z "$warnings" ] || { echo "$warnings" && false; }
    }
    planted=planted.1 fault='.TH planted 1
.planted' finding='not defined'
    export MANROFFSEQ='' MANWIDTH=80
    ;;
codespell)
    all() { files '*'; }
    run() { codespell --ignore-words tests/lint/codespell.words "$@"; }
    planted=planted.txt fault=$(printf 'occ%s' ured) finding='occured ==>' # no fault of this file
    ;;
*)
    echo "lint.sh: no such tool: $tool" >&2
    exit 2
    ;;
esac

if ! command -v "$tool" >/dev/null; then
    echo "$tool is not installed"
    exit 77
fi
if [ "$tool" = clang-format ] && ! clang-format --version | grep -q ' 14\.'; then
    echo "the tree is formatted as clang-format 14 formats it; this is $(clang-format --version)"
    exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp .clang-format .clang-tidy "$work"
echo "$fault" >"$work/$planted"
echo "[{\"directory\": \"$work\", \"file\": \"$planted\", \"command\": \"cc -c $planted\"}]" \
    >"$work/compile_commands.json"
if (build=$work && run "$work/$planted") >"$work/said" 2>&1 || ! grep -q "$finding" "$work/said"; then
    echo "$tool does not find a planted fault, but says:"
    cat "$work/said"
    exit 1
fi

# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(all)
if [ $# -eq 0 ] && [ "$tool" != clang-tidy ]; then
    echo "no files for $tool"
    exit 1
fi
run "$@"
