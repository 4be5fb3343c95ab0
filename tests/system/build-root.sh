#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes what the hypervisor of the system test (hypervisor.py) and its guest (guest.py) are
# started from:
#
#     OUTDIR/root.img             the hypervisor's disk: Debian 12 with systemd, libvirt and QEMU,
#                                 the packages of group "system" in packages.list; in its /boot
#                                 is what it starts the guest from
#     OUTDIR/guest.img            the guest's disk: the packages of group "system-guest"
#     OUTDIR/vmlinux              Debian's kernel, of the version of the installed headers
#     OUTDIR/initramfs.cpio       which mounts the disk
#     OUTDIR/powercap-test.ko     the energy counters, see powercap-module/
#
# Initramfs and kernel are not compressed: an emulated machine takes seconds to unpack them.
#
# Does nothing when OUTDIR is up to date.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
packages=$here/../../packages.list
mkdir -p "$1"
out=$(cd "$1" && pwd)

# The headers are of the newest kernel; so must the rest be, or the module does not load.
headers=$(dpkg-query -W -f '${Depends}' linux-headers-amd64 | cut -d ' ' -f 1)
kernel=${headers#linux-headers-}

wanted=$( (cat "$here"/*.sh "$here/init" "$here"/*.service "$here"/powercap-module/*
    grep '^system' "$packages"
    echo "$kernel") | sha256sum)
if [ -e "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$wanted" ]; then
    exit 0
fi
work=$out/work
root=$work/root
guest=$work/guest
modules=$root/lib/modules/$kernel
rm -rf "$out/stamp" "$work"
mkdir -p "$work/image" "$work/initramfs/modules" "$work/initramfs/bin" "$work/module"

echo "system test: building the energy counters for $kernel"
cp "$here"/powercap-module/* "$work/module"
make -s -C "/lib/modules/$kernel/build" "M=$work/module" modules
cp "$work/module/powercap-test.ko" "$out"

echo "system test: downloading the kernel"
download() {
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "linux-image-$kernel")
}
download || { apt-get -qq update && download; }
dpkg-deb -x "$work"/linux-image-*.deb "$work/image"

# number FILE OFFSET SIZE: little-endian, unsigned.
number() {
    od --address-radix=n --format="u$3" --skip-bytes="$2" --read-bytes="$3" "$1" | tr -d ' '
}

# Where it is in the image is told by setup_sects, payload_offset and payload_length; see
# Documentation/arch/x86/boot.rst of Linux.
unpack_kernel() {
    start=$((($(number "$1" 0x1f1 1) + 1) * 512 + $(number "$1" 0x248 4)))
    tail -c "+$((start + 1))" "$1" | head -c "$(number "$1" 0x24c 4)" | xz -dc --single-stream
}
unpack_kernel "$work"/image/boot/vmlinuz-* >"$out/vmlinux"

# install_debian GROUP DIR: neither documentation nor translations, that is a third of it. Nobody
# logs in; what runs by the clock would only disturb.
install_debian() {
    include=$(awk -v group="$1" '$1 == group { printf "%s%s", comma, $2; comma = "," }' "$packages")
    mmdebstrap --quiet --variant=minbase --include="$include" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' bookworm "$2"
    mask "$2" serial-getty@ttyS0.service getty@tty1.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
        fstrim.timer
}

# mask ROOT UNIT...
mask() {
    units=$1/etc/systemd/system
    shift
    for unit; do
        ln -sf /dev/null "$units/$unit"
    done
}

echo "system test: installing Debian"
install_debian system "$root"
install_debian system-guest "$guest"

# A machine without most hardware needs but few of the modules.
mkdir -p "$modules/kernel/drivers"
cd "$work/image/lib/modules/$kernel"
cp modules.builtin modules.builtin.modinfo modules.order "$modules"
cp -r kernel/arch kernel/block kernel/crypto kernel/fs kernel/lib kernel/net kernel/virt \
    "$modules/kernel"
for driver in block char/hw_random char/ipmi char/virtio_console.ko cpufreq crypto/ccp net/tun.ko \
    powercap vhost virtio; do
    mkdir -p "$modules/kernel/drivers/$(dirname $driver)"
    cp -r kernel/drivers/$driver "$modules/kernel/drivers/$driver"
done
depmod -b "$root" "$kernel"

cd "$root"
echo hypervisor >etc/hostname
echo '127.0.0.1 localhost hypervisor' >etc/hosts
mkdir share
cat >etc/fstab <<END
/dev/vda / ext4 defaults 0 0
share /share 9p trans=virtio,version=9p2000.L,msize=262144 0 0
END
: >etc/machine-id

cd "$guest"
echo guest >etc/hostname
echo '/dev/vda / ext4 defaults 0 0' >etc/fstab
# An empty one would have systemd take every start for the first.
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
cp "$here/qemu-guest-agent.service" etc/systemd/system
mkdir -p etc/systemd/system/sysinit.target.wants
ln -s ../qemu-guest-agent.service etc/systemd/system/sysinit.target.wants
# What a guest can do without: each takes a second of its start.
mask "$guest" systemd-logind.service systemd-user-sessions.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service dev-hugepages.mount \
    dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount getty-static.service

echo "system test: packing"
cd "$work/initramfs"
cp /bin/busybox bin/
cp "$here/init" init
number=10
modprobe --dirname "$root" --set-version "$kernel" --show-depends --all \
    virtio_pci virtio_blk virtio_console crc32c_generic ext4 virtiofs |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r module; do
        cp "$module" "modules/$number-${module##*/}"
        number=$((number + 1))
    done
find . | cpio --quiet --create --format=newc --owner=0:0 >"$out/initramfs.cpio"
cp "$out/vmlinux" "$out/initramfs.cpio" "$root/boot"
rm -f "$out/root.img" "$out/guest.img"
mke2fs -q -t ext4 -E root_owner=0:0 -d "$root" "$out/root.img" 4G
mke2fs -q -t ext4 -E root_owner=0:0 -d "$guest" "$out/guest.img" 1G
rm -rf "$work"
echo "$wanted" >"$out/stamp"
