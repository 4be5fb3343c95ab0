#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Builds, tests and packages what git knows on the other Debian, that is 13 on 12 and 12 on 13, in
# a root directory that mmdebstrap makes:
#
#     OUTDIR/root            that Debian, made anew when its packages in packages.list change; in it
#                            /source, the builds /gcc and /clang, and /package
#     OUTDIR/NAME.log        what a step said
#     RESULTS/other.xml      the steps, as JUnit's test cases
#     RESULTS/other-CC.xml   the tests of the build with that compiler; missing when they did not run
#
# Needs root.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 OUTDIR RESULTS" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
packages=$here/packages.sh
groups='base|build|unit|run|package'
mkdir -p "$1" "$2"
out=$(cd "$1" && pwd)
results=$(cd "$2" && pwd)
root=$out/root
# shellcheck source=SCRIPTDIR/../guest/debian.sh
. "$here/../guest/debian.sh"
suite=trixie
[ "$(host_suite)" != trixie ] || suite=bookworm

# step NAME COMMAND...: a test case.
step() {
    name=$1
    shift
    echo "$suite: $name"
    failure=
    start=$(date +%s)
    "$@" >"$out/$name.log" 2>&1 || {
        failure="<failure message=\"see $out/$name.log\"/>"
        tail -n 30 "$out/$name.log"
    }
    seconds=$(($(date +%s) - start))
    echo "<testcase classname='$suite' name='$name' time='$seconds'>$failure</testcase>" >>"$out/steps"
    [ -z "$failure" ]
}

install_root() {
    wanted=$( (cat "$here/../guest/debian.sh" && "$packages" "$groups" "$suite") | sha256sum)
    [ "$(cat "$out/stamp" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "$out/stamp" "$root"
    make_root "$suite" "$groups" "$root" && echo "$wanted" >"$out/stamp"
}

# With the files' times: ninja builds what has changed.
copy_source() {
    rm -rf "$root/source"
    mkdir "$root/source"
    cd "$here/../.." && git ls-files -z | xargs -0 cp -p --parents -t "$root/source"
}

# inside COMMANDS: of a shell. The mounts end with it. The root is a mount of its own, since libvirtd
# changes how the mount at / propagates before it starts a QEMU.
inside() {
    # shellcheck disable=SC2016 # the inner shell's
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 unshare --mount sh -euc '
        mount --bind "$1" "$1"
        for directory in dev proc sys; do
            mount --rbind "/$directory" "$1/$directory"
        done
        exec chroot "$1" sh -euxc "$2"' sh "$root" "$1"
}

# compile COMPILER
compile() {
    inside "[ -e /$1/build.ninja ] || CC=$1 meson setup /$1 /source; ninja -C /$1"
}

# run_tests COMPILER ARGUMENT...: each of them is a test case of its own.
run_tests() {
    report=$root/$1/meson-logs/testlog.junit.xml
    rm -f "$report"
    inside "meson test -C /$*" || true
    cp "$report" "$results/other-$1.xml"
}

make_packages() {
    inside 'rm -rf /package; mkdir /package; cp -r /source /package/virtjoule
        cd /package/virtjoule; dpkg-buildpackage -us -uc
        lintian --allow-root --fail-on error,warning --info /package/*.changes'
}

rm -f "$out/steps" "$results"/other*.xml
if step root install_root && step source copy_source; then
    step gcc compile gcc &&
        step gcc-tests run_tests gcc --suite unit --suite integration
    step clang compile clang &&
        step clang-tests run_tests clang --suite unit
    step packages make_packages
fi || true
{
    echo '<testsuite>'
    cat "$out/steps"
    echo '</testsuite>'
} >"$results/other.xml"
