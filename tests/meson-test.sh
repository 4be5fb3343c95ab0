#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# meson-test.sh RESULTS BUILD NAME ARGUMENT...: runs meson's tests of a build; RESULTS/NAME.xml has
# the results, and is missing if there are none. A test that is slow, on a busy machine or under
# valgrind, is no test that fails: it is ended after twenty times its time.
results=$1 build=$2 name=$3
shift 3
mkdir -p "$results"
rm -f "$results/$name.xml" "$build/meson-logs/$name"*.junit.xml
meson test -C "$build" --logbase "$name" --print-errorlogs \
    --timeout-multiplier 20 "$@"
status=$?
# With --wrap the wrapper's name follows.
mv "$build/meson-logs/$name"*.junit.xml "$results/$name.xml"
exit $status
