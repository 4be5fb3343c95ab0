#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes what the hypervisor of the system test (hypervisor.py) and its guest (guest.py) are
# started from:
#
#     OUTDIR/root.img             the hypervisor's disk: Debian with systemd, libvirt and QEMU,
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
packages=$here/../debian/packages.sh
common=$here/../guest/debian.sh
mkdir -p "$1"
out=$(cd "$1" && pwd)

work=$out/work
root=$work/root
guest=$work/guest
first_process=$here/init
# shellcheck source=SCRIPTDIR/../guest/debian.sh
. "$common"
kernel=$(kernel_version)

wanted=$( (cat "$here"/*.sh "$common" "$here/init" "$here"/*.service "$here"/powercap-module/*
    "$packages" 'system|system-guest'
    echo "$kernel") | sha256sum)
if [ -e "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$wanted" ]; then
    exit 0
fi
rm -rf "$out/stamp" "$work"
mkdir -p "$work/module"

echo "system test: building the energy counters for $kernel"
cp "$here"/powercap-module/* "$work/module"
make -s -C "/lib/modules/$kernel/build" "M=$work/module" modules
cp "$work/module/powercap-test.ko" "$out"

echo "system test: downloading the kernel"
unpack_kernel "$kernel"

decompress_kernel "$work"/image/boot/vmlinuz-* >"$out/vmlinux"

echo "system test: installing Debian"
install_debian system "$root"
install_debian system-guest "$guest"

copy_modules "$root" "$kernel" arch block crypto fs lib net virt \
    drivers/block drivers/char/hw_random drivers/char/ipmi drivers/char/virtio_console.ko \
    drivers/cpufreq drivers/crypto/ccp drivers/net/tun.ko drivers/powercap drivers/vhost \
    drivers/virtio

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
name_machine "$guest" guest
echo '/dev/vda / ext4 defaults 0 0' >etc/fstab
cp "$here/qemu-guest-agent.service" etc/systemd/system
mkdir -p etc/systemd/system/sysinit.target.wants
ln -s ../qemu-guest-agent.service etc/systemd/system/sysinit.target.wants
# What a guest can do without: each takes a second of its start.
mask "$guest" systemd-logind.service systemd-user-sessions.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service dev-hugepages.mount \
    dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount getty-static.service

echo "system test: packing"
pack_initramfs "$root" "$kernel" \
    virtio_pci virtio_blk virtio_console crc32c_generic ext4 virtiofs >"$out/initramfs.cpio"
cp "$out/vmlinux" "$out/initramfs.cpio" "$root/boot"
make_disk "$root" "$out/root.img" 4G
make_disk "$guest" "$out/guest.img" 1G
rm -rf "$work"
echo "$wanted" >"$out/stamp"
