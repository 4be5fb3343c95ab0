#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# stage.sh RESULTS NAME COMMAND...: runs a stage of the tests, adds its name, seconds, and seconds of
# CPU time to RESULTS/stages, and ends as the command does.
# stage.sh RESULTS: prints the table of stages.
results=$1 name=${2-}
if [ $# -eq 1 ]; then
    awk 'BEGIN { format = "%-20s %8s %8s\n"; printf format, "stage", "seconds", "CPU" }
         { printf format, $1, $2, $3 }' "$results/stages"
    exit
fi
shift 2
TIMEFORMAT='%0R %0U %0S'
mkdir -p "$results"
exec 9>&2 # not 3 or 4: those may be of a make with jobs
{ time "$@" 2>&9; } 2>"$results/time-$name"
status=$?
awk -v name="$name" '{ print name, $1, $2 + $3 }' "$results/time-$name" >>"$results/stages"
rm "$results/time-$name"
exit $status
