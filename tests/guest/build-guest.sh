#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes OUTDIR/vmlinux and OUTDIR/initramfs.cpio, the guest of the end-to-end
# tests and the demo: Debian's kernel, its own node_exporter and powercap-info,
# and busybox instead of an init system. Neither is compressed: an emulated
# machine would take most of its boot to unpack them. OUTDIR/vmlinuz is the same
# kernel as Debian has it; only what is started from it wakes up from a sleep.
# The packages of group "guest" in packages.list are downloaded and unpacked
# below OUTDIR, never installed. Does nothing when OUTDIR is up to date.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
packages=$here/../debian/packages.sh
common=$here/debian.sh
mkdir -p "$1"
out=$(cd "$1" && pwd)
# shellcheck source=SCRIPTDIR/debian.sh
. "$common"

# In the order in which the guest loads them; there is no modprobe to sort it out.
modules='
drivers/virtio/virtio_ring.ko
drivers/virtio/virtio.ko
drivers/virtio/virtio_pci_modern_dev.ko
drivers/virtio/virtio_pci_legacy_dev.ko
drivers/virtio/virtio_pci.ko
fs/fuse/fuse.ko
fs/fuse/virtiofs.ko'

# Of a guest that has a BMC, loaded by its test.
ipmi_modules='
drivers/char/ipmi/ipmi_msghandler.ko
drivers/char/ipmi/ipmi_si.ko
drivers/char/ipmi/ipmi_devintf.ko'

programs='usr/bin/prometheus-node-exporter usr/bin/powercap-info'

wanted=$( (cat "$0" "$common" "$here/init"; "$packages" guest) | sha256sum)
if [ -e "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$wanted" ]; then
    exit 0
fi
rm -f "$out/stamp"

# The kernel's package is named after its version; linux-image-amd64 depends on the newest.
resolve() {
    case $1 in
    linux-image-amd64) apt-cache depends "$1" | awk '$1 == "Depends:" { print $2; exit }' ;;
    *) echo "$1" ;;
    esac
}

download() {
    names=
    for name in $("$packages" guest); do
        names="$names $(resolve "$name")"
    done
    # shellcheck disable=SC2086 # a list
    (cd "$out/cache" && apt-get -qq -o APT::Sandbox::User=root download $names)
}

echo "guest: downloading packages"
rm -rf "$out/cache" "$out/root" "$out/initramfs"
mkdir -p "$out/cache" "$out/root" "$out/initramfs"
# Package lists that are missing (fresh images) or older than the mirror are fetched once.
download || { apt-get -qq update && download; }
for package in "$out"/cache/*.deb; do
    dpkg-deb -x "$package" "$out/root"
done
# Debian 13's packages have all of it there.
[ -e "$out/root/lib" ] || ln -s usr/lib "$out/root/lib"

echo "guest: packing the initramfs"
cd "$out/initramfs"
mkdir -p bin dev etc ipmi lib64 modules proc run/virtjoule/share sys tmp
cp /bin/busybox bin/
cp "$here/init" init
chmod 755 init
echo 'root:x:0:0:root:/:/bin/sh' >etc/passwd

# Numbered in the order that they are loaded in. A kernel has some built in.
number_modules() { # DIRECTORY MODULE...
    directory=$1
    shift
    number=10
    for module; do
        for file in "$out"/root/lib/modules/*/kernel/"$module"*; do
            [ ! -e "$file" ] || unpack_module "$file" "$directory/$number-${module##*/}"
        done
        number=$((number + 1))
    done
}
# shellcheck disable=SC2086 # lists
{
    number_modules modules $modules
    number_modules ipmi $ipmi_modules
}

copy_library() { # NAME
    for dir in "$out/root/lib" "$out/root/usr/lib"; do
        [ ! -e "$dir/x86_64-linux-gnu/$1" ] || cp -L "$dir/x86_64-linux-gnu/$1" lib64/
    done
}

# A program and the libraries it names; the loader is found at its fixed path.
for program in $programs; do
    cp "$out/root/$program" bin/
    for library in $(objdump -p "$out/root/$program" | awk '$1 == "NEEDED" { print $2 }'); do
        copy_library "$library"
    done
done
copy_library ld-linux-x86-64.so.2

find . | cpio --quiet --create --format=newc --owner=0:0 >"$out/initramfs.cpio"
cp "$out"/root/boot/vmlinuz-* "$out/vmlinuz"
decompress_kernel "$out/vmlinuz" >"$out/vmlinux"
cd "$out"
rm -rf cache root initramfs
echo "$wanted" >stamp
