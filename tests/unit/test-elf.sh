#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What readelf says of each program: position independent, relocations read-only
# and bound at start, no executable stack, nothing writable and executable, no
# library path of the build machine.
set -eu

wrong=0
# expect PROGRAM WHAT TEXT PATTERN: the text must match; forbid: it must not
expect() {
    echo "$3" | grep -Eq "$4" || { echo "$1: $2 is missing"; wrong=1; }
}
forbid() {
    ! echo "$3" | grep -Eq "$4" || { echo "$1: $2"; wrong=1; }
}

for program; do
    header=$(readelf -hW "$program")
    segments=$(readelf -lW "$program")
    dynamic=$(readelf -dW "$program")
    expect "$program" "position independence" "$header" 'Type: +DYN'
    expect "$program" "RELRO" "$segments" 'GNU_RELRO'
    expect "$program" "binding at start" "$dynamic" '(BIND_NOW|FLAGS.* NOW)'
    expect "$program" "a stack segment" "$segments" 'GNU_STACK'
    forbid "$program" "executable stack" "$segments" 'GNU_STACK.*E'
    forbid "$program" "writable and executable segment" "$segments" 'LOAD.* RWE'
    forbid "$program" "text relocations" "$dynamic" 'TEXTREL'
    forbid "$program" "library path" "$dynamic" '(RPATH|RUNPATH)'
    case $(basename "$program") in
    virtjouled) ;;
    *) forbid "$program" "a library of virtjouled's alone (keys of a meter stand in a file without it)" \
        "$dynamic" 'NEEDED.*lib(curl|netsnmp|fuse3|nl-)' ;;
    esac
done
exit $wrong
