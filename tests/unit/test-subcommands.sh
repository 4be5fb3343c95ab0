#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test-subcommands.sh SOURCE VIRTJOULE: whatever a subcommand of `virtjoule` needs is there (a row
# in src/cli/main.c; in the manual page a section, a line of the synopsis and every option), and
# each takes --socket before its name.
set -eu
source=$1 virtjoule=$2
export LC_ALL=C.UTF-8

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
names=$("$virtjoule" --help | sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p')
for name in $names; do
    "$virtjoule" --socket "$directory/socket" "$name" --help >"$directory/$name.help" || {
        echo "virtjoule --socket PATH $name: not taken"
        exit 1
    }
done

# has WORD LIST
has() {
    echo "$2" | grep -qx -- "$1"
}

# check HEADER PAGE: prints what is missing; fails if anything is
check() {
    wrong=0
    for name in $(sed -n 's/^int \([a-z]*\)_command(.*/\1/p' "$1"); do
        has "$name" "$names" || {
            echo "src/cli/main.c: subcommands[] has no row for ${name}_command()"
            wrong=1
        }
    done
    sections=$(sed -n '/^# COMMANDS/,/^# OPTIONS/s/^\*\([a-z]*\)\b.*/\1/p' "$2")
    synopsis=$(sed -n '/^# SYNOPSIS/,/^# DESCRIPTION/p' "$2")
    for name in $names; do
        has "$name" "$sections" || {
            echo "man/virtjoule.1.scd: no section *$name* below # COMMANDS"
            wrong=1
        }
        echo "$synopsis" | grep -q "\*$name\*" || {
            echo "man/virtjoule.1.scd: no line with *$name* below # SYNOPSIS"
            wrong=1
        }
        for option in $(sed -n 's/^  \(--[a-z-]*\).*/\1/p' "$directory/$name.help"); do
            grep -q -- "\*$option\*" "$2" || {
                echo "man/virtjoule.1.scd: nothing on $option of $name"
                wrong=1
            }
        done
    done
    for name in $sections; do
        has "$name" "$names" || {
            echo "man/virtjoule.1.scd: a section on $name, which is no subcommand"
            wrong=1
        }
    done
    return $wrong
}

# A check that cannot fail checks nothing.
header=$source/src/cli/subcommand.h page=$source/man/virtjoule.1.scd
# notices MESSAGE HEADER PAGE
notices() {
    said=$(check "$2" "$3") && said="nothing"
    [ "$said" = "$1" ] || {
        echo "not noticed: $1, but: $said"
        exit 1
    }
}
{ cat "$header"; echo "int forget_command(struct common_options *common, int argc, char **argv);"; } \
    >"$directory/header"
notices "src/cli/main.c: subcommands[] has no row for forget_command()" "$directory/header" "$page"
sed '/^# COMMANDS/,/^# OPTIONS/{/^\*doctor\*/d}' "$page" >"$directory/page"
notices "man/virtjoule.1.scd: no section *doctor* below # COMMANDS" "$header" "$directory/page"
sed '/^# SYNOPSIS/,/^# DESCRIPTION/{/\*list\*/d}' "$page" >"$directory/page"
notices "man/virtjoule.1.scd: no line with *list* below # SYNOPSIS" "$header" "$directory/page"
sed 's/\*--strict\*/--strict/' "$page" >"$directory/page"
notices "man/virtjoule.1.scd: nothing on --strict of calibrate" "$header" "$directory/page"
sed 's/^# OPTIONS/*forget*\n&/' "$page" >"$directory/page"
notices "man/virtjoule.1.scd: a section on forget, which is no subcommand" "$header" \
    "$directory/page"

check "$header" "$page"

# Wherever --socket stands, a subcommand that asks the daemon asks there.
# asks STATUS SUBCOMMAND...
asks() {
    expected=$1
    shift
    for arguments in "--socket $directory/socket $*" "$* --socket $directory/socket"; do
        status=0
        # shellcheck disable=SC2086 # it has several words
        "$virtjoule" $arguments >"$directory/said" 2>&1 || status=$?
        if [ "$status" != "$expected" ] || ! grep -q "at $directory/socket" "$directory/said"; then
            echo "virtjoule $arguments: exit status $status: $(cat "$directory/said")"
            exit 1
        fi
    done
}
asks 69 list
asks 69 show web
asks 69 prepare 0a6f2c1e-7d52-4c56-9b1e-5a3f0e7d0001
asks 1 doctor --host --root "$directory" --config "$directory/none"
