#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# start.sh LARGEST: starts the servers of run.sh in their guest, each as a unit of systemd.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
"$here/prepare.sh" "$1"
systemctl start nginx apache2
for server in node python uvicorn; do
    systemd-run -q --unit $server "$here/run.sh" $server
done
for port in 8081 8084 8085 8086 8087; do
    for _ in $(seq 300); do
        ! curl -s -o /dev/null localhost:$port/1 || break
        sleep 0.1
    done
done
