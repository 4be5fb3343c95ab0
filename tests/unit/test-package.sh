#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What is installed beside the programs. test-package.sh SOURCE BUILD VERSION
# - units: understood by systemd; the service's exposure; their manual pages exist
# - manual pages: with every key and option that there is
# - places that units, hooks and pages name are those of src/util/paths.h
# - debian/: Build-Depends is the group "build" of packages.list; the version
set -eu
source=$1 build=$2 version=$3
export LC_ALL=C.UTF-8

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
wrong=0
fail() {
    echo "$@"
    wrong=1
}

# The units, with the programs where they are now.
units=$directory/units
mkdir "$units"
cp "$source"/systemd/*.socket "$source"/systemd/*.mount "$source"/systemd/*-share.service \
    "$build"/systemd/*.service "$units"
sed -i "s|/[^ ]*/virtjouled |$build/src/daemon/virtjouled |" "$units"/virtjoule.service \
    "$units"/virtjoule-metadata.service "$units"/virtjoule-mount.service
sed -i "s|/[^ ]*/virtjoule-requests |$build/src/requests/virtjoule-requests |" \
    "$units"/virtjoule-requests@.service

# Of other units on this machine it may say what it likes.
for unit in "$units"/*; do
    name=$(basename "$unit")
    said=$(SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no --recursive-errors=no "$unit" 2>&1 |
        grep -F -e "$units" -e "$name" || true)
    [ -z "$said" ] || fail "$name: $said"
done

# In tenths. What remains is explained in the unit.
# exposed UNIT TENTHS
exposed() {
    systemd-analyze security --offline=yes "--threshold=$2" "$units/$1" > "$directory/security" ||
        fail "exposure of $1: $(tail -1 "$directory/security")"
}
exposed virtjoule.service 20
exposed virtjoule-metadata.service 20
exposed virtjoule-requests@.service 30
# A drop-in of the administrator's may add them; whoever has one of them is as good as root.
rights=$(sed 's/#.*//' "$source/systemd/virtjoule.service.in" |
    grep -E 'CAP_(SYS_PTRACE|SYS_ADMIN|DAC_|FOWNER|CHOWN|SETUID)' || true)
[ -z "$rights" ] || fail "virtjoule.service: $rights"

for page in $(grep -ho 'man:[^ ]*' "$units"/* | sort -u); do
    page=${page#man:}
    [ -e "$build/man/${page%(*}.$(echo "$page" | tr -dc 0-9)" ] || fail "no manual page $page"
done

# has_keys PAGE FILE: the keys of a configuration with every setting
has_keys() {
    for key in $(sed -n 's/^#\{0,1\}\([a-z_0-9-]*\) =.*/\1/p' "$source/docs/$2"); do
        grep -q "\*$key\*" "$source/man/$1.scd" || fail "$1 lacks $key"
    done
}
has_keys virtjouled.conf.5 virtjouled.conf
has_keys virtjoule-requests.8 virtjoule-requests.conf
# has_options PAGE COMMAND...: the options that the command's --help names
has_options() {
    page=$1
    shift
    for option in $("$@" --help | grep -o -- '--[a-z-]*' | sort -u); do
        grep -q -- "$option" "$source/man/$page.scd" || fail "$page lacks $option"
    done
}
has_options virtjouled.8 "$build/src/daemon/virtjouled"
has_options virtjoule-requests.8 "$build/src/requests/virtjoule-requests"
has_options virtjoule.1 "$build/src/cli/virtjoule"

# names MACRO FILE...: each file has the place that src/util/paths.h defines
names() {
    place=$(echo "$1" | ${CC:-cc} -E -P -include "$source/src/util/paths.h" - | tr -d '" ')
    macro=$1
    shift
    for file in "$@"; do
        grep -q -F -- "$place" "$source/$file" ||
            fail "$file lacks $place, which is $macro of src/util/paths.h"
    done
}
names CONTROL_SOCKET hooks/qemu.d/virtjoule systemd/virtjoule.socket man/virtjoule.1.scd
names METADATA_SOCKET systemd/virtjoule-metadata.socket
names RUNTIME_DIRECTORY hooks/proxmox/virtjoule-hookscript systemd/virtjoule.tmpfiles
names SHARE_MOUNTPOINT systemd/run-virtjoule-share.mount systemd/sys-class-powercap.mount
names DAEMON_CONFIG_FILE systemd/virtjoule.service.in man/virtjoule.1.scd

# Of alternatives, each is there in one Debian.
sed -n '/^Build-Depends:/,/^$/p' "$source/debian/control" | tr '|' '\n' | sed 's/(.*)//' | tr -d ' ,' |
    grep -v -e '^Build-Depends:' -e '^$' -e '^debhelper-compat' -e '^dh-sequence-' | sort > "$directory/depends"
awk '$1 == "build" { print $2 }' "$source/packages.list" | sort > "$directory/list"
diff "$directory/list" "$directory/depends" || fail "Build-Depends (>) is not packages.list (<)"

head -1 "$source/debian/changelog" | grep -qF "virtjoule ($version)" ||
    fail "debian/changelog is not of version $version"
exit $wrong
