#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# packages.sh GROUPS [SUITE]: the packages of packages.list that belong to these groups, as in
# "base|build", in a suite of Debian, which is this machine's without a second argument.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=SCRIPTDIR/../guest/debian.sh
. "$here/../guest/debian.sh"

awk -v groups="^($1)\$" -v suite="${2:-$(host_suite)}" \
    '$1 ~ groups && (NF == 2 || $3 == suite) { print $2 }' "$here/../../packages.list"
