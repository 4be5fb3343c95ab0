#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# docs/failures.md and docs/attacks.md say what is so: every test that they name exists,
# every log line and metric that they quote stands in the source, and each row has
# a test; there are at least 45 faults and 10 attacks.
set -eu
root=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
table=$root/docs/failures.md

# All literals of the source, those that a line break divides joined; without the tests.
find "$root/src" -name '*.c' -exec cat {} + | tr '\n' '\001' |
    sed 's/"[[:space:]\x01]*"//g' | tr '\001' '\n' >"$work/source"

# check TABLE ROWS: prints what is not so; fails if there is something
check() {
    wrong=0
    grep '^|' "$1" | grep -v -e '^| Fault' -e '^| Who' -e '^| ---' >"$work/rows"
    if [ "$(wc -l <"$work/rows")" -lt "$2" ]; then
        echo "fewer than $2 rows"
        wrong=1
    fi
    if ! awk -F' \\| ' 'NF != 4 || $4 !~ /test_/ { print "not four columns, or no test: " $0; bad = 1 }
                        END { exit bad }' "$work/rows"; then
        wrong=1
    fi
    awk -F' \\| ' '{ print $4 }' "$work/rows" | grep -o '`[^`]*`' | tr -d '`' | sort -u \
        >"$work/tests"
    while read -r file name; do
        if ! grep -qE "^(def|static void) $name\(" "$root/tests/$file"; then
            echo "no such test: $file $name"
            wrong=1
        fi
    done <"$work/tests"
    # Texts of errnos are libc's; what a metric is labelled with is not quoted by itself.
    awk -F' \\| ' '{ print $2 $3 }' "$work/rows" | sed 's/`[^`]*`//g' | grep -o '"[^"]*"' | tr -d '"' |
        sort -u >"$work/messages"
    while read -r message; do
        if ! grep -qF -e "\"$message\"" "$work/source" && ! is_errno "$message"; then
            echo "no such message: $message"
            wrong=1
        fi
    done <"$work/messages"
    grep -o '`virtjoule_[a-z_]*' "$work/rows" | tr -d '`' | sort -u >"$work/metrics"
    while read -r metric; do
        if ! grep -q "${metric#virtjoule_}" "$work/source"; then
            echo "no such metric: $metric"
            wrong=1
        fi
    done <"$work/metrics"
    return $wrong
}

is_errno() {
    case $1 in
    "Connection timed out" | "Invalid argument" | "No space left on device" | \
        "Numerical result out of range" | "Read-only file system") ;;
    *) return 1 ;;
    esac
}

# A check that cannot fail checks nothing.
for wrong_row in \
    '| a | "nobody says this" | b | `unit/test-sample.c test_gap` |' \
    '| a | b | c | `unit/test-sample.c test_no_such` |' \
    '| a | b | c | none |' \
    '| a | `virtjoule_no_such_metric` | c | `unit/test-sample.c test_gap` |'; do
    { cat "$table" && echo "$wrong_row"; } >"$work/table.md"
    if check "$work/table.md" 45 >/dev/null; then
        echo "not noticed: $wrong_row"
        exit 1
    fi
done
head -n 40 "$table" >"$work/table.md"
if check "$work/table.md" 45 >/dev/null; then
    echo "not noticed: too few"
    exit 1
fi

check "$table" 45
check "$root/docs/attacks.md" 10
