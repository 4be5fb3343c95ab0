#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Energy flows one way through src/, and so do includes: a room may include
# util, itself, and the data headers of the rooms before it; of bpf/shared, what
# is shared with it. The daemon, which assembles them, may include all but
# cli; cli knows the daemon's socket only, but for `calibrate`, which works before
# there is a daemon: it reads RAPL itself, and `doctor`, which looks for what the
# daemon would.
set -eu

# check DIR: prints each include that goes the wrong way; fails if there is one
check() {
    (cd "$1" && grep -Hn '^#include "' ./*/*.c ./*/*.h) | awk -F'[:"]' '
        BEGIN {
            n = split("source discovery usage attribution publish daemon", rooms, " ")
            for (i = 1; i <= n; i++)
                stage[rooms[i]] = i
            split("source/zone.h source/sample.h discovery/vm.h usage/usage.h " \
                  "attribution/snapshot.h", headers, " ")
            for (i in headers)
                data[headers[i]] = 1
            split("source/energy_source.h source/rapl.h source/sample.h " \
                  "attribution/calibration.h", headers, " ")
            for (i in headers)
                calibrate[headers[i]] = 1
            split("source/energy_source.h source/rapl.h source/sample.h source/zone.h", headers, " ")
            for (i in headers)
                guest[headers[i]] = 1
            shared["util"] = shared["discovery"] = "shared/vm_names.h"
            shared["usage"] = "shared/vm_usage.h"
            shared["guest"] = "shared/request_energy.h"
            split("daemon/config.h publish/powercapfs_mount.h " \
                  "source/energy_source.h source/rapl.h", headers, " ")
            for (i in headers)
                doctor[headers[i]] = 1
        }
        {
            split($1, path, "/")
            split($4, target, "/")
            room = path[2]
            other = target[1]
            allowed = other == room || other == "util" ||
                      $4 == shared[room] ||
                      (room == "usage" && $4 == "vm_usage.skel.h") ||
                      (room == "guest" && ($4 == "request_energy.skel.h" || $4 in guest)) ||
                      (room == "daemon" && other in stage) ||
                      (path[2] "/" path[3] == "cli/calibrate.c" && $4 in calibrate) ||
                      (path[2] "/" path[3] ~ "^cli/doctor" && $4 in doctor) ||
                      (room in stage && $4 in data && stage[other] < stage[room])
            if (!allowed) {
                print "wrong direction: " $1 ":" $2 " includes " $4
                wrong = 1
            }
        }
        END { exit wrong }'
}

# A check that cannot fail checks nothing.
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
for wrong in source:usage/usage.h usage:source/rapl.h util:source/zone.h publish:daemon/config.h \
             attribution:publish/control.h cli:publish/control.h cli:source/rapl.h \
             daemon:cli/client.h discovery:shared/vm_usage.h discovery:vm_usage.skel.h \
             guest:usage/usage.h \
             publish:guest/cgroup.h; do
    mkdir "$tree/${wrong%%:*}"
    echo "#include \"${wrong#*:}\"" >"$tree/${wrong%%:*}/x.c"
    : >"$tree/${wrong%%:*}/x.h"
    if check "$tree" >/dev/null; then
        echo "not noticed: $wrong"
        exit 1
    fi
    rm -r "${tree:?}/${wrong%%:*}"
done

check "$1"
