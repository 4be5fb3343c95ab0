#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes what the hypervisor of the system test (hypervisor.py) is started from:
#
#     OUTDIR/root.img             its disk: Debian 12 with systemd, libvirt and QEMU, the
#                                 packages of group "system" in packages.list
#     OUTDIR/vmlinuz              Debian's kernel, of the version of the installed headers
#     OUTDIR/initramfs.cpio.gz    which mounts the disk
#     OUTDIR/powercap-test.ko     the energy counters, see powercap-module/
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

wanted=$( (cat "$here"/*.sh "$here/init" "$here"/powercap-module/*; grep '^system ' "$packages"
    echo "$kernel") | sha256sum)
if [ -e "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$wanted" ]; then
    exit 0
fi
work=$out/work
root=$work/root
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
cp "$work"/image/boot/vmlinuz-* "$out/vmlinuz"

echo "system test: installing Debian"
include=$(awk '$1 == "system" { printf "%s%s", comma, $2; comma = "," }' "$packages")
# Neither documentation nor translations: that is a third of it.
mmdebstrap --quiet --variant=minbase --include="$include" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' bookworm "$root"

# A machine without most hardware needs but few of the modules.
mkdir -p "$modules/kernel/drivers"
cd "$work/image/lib/modules/$kernel"
cp modules.builtin modules.builtin.modinfo modules.order "$modules"
cp -r kernel/arch kernel/block kernel/crypto kernel/fs kernel/lib kernel/net "$modules/kernel"
for driver in block char/hw_random char/ipmi char/virtio_console.ko cpufreq net/tun.ko powercap \
    vhost virtio; do
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
# Nobody logs in; what runs by the clock would only disturb.
for unit in serial-getty@ttyS0.service getty@tty1.service apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer; do
    ln -sf /dev/null etc/systemd/system/$unit
done

echo "system test: packing"
cd "$work/initramfs"
cp /bin/busybox bin/
cp "$here/init" init
number=10
modprobe --dirname "$root" --set-version "$kernel" --show-depends --all \
    virtio_pci virtio_blk crc32c_generic ext4 | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r module; do
        cp "$module" "modules/$number-${module##*/}"
        number=$((number + 1))
    done
find . | cpio --quiet --create --format=newc --owner=0:0 | gzip -1 >"$out/initramfs.cpio.gz"
rm -f "$out/root.img"
mke2fs -q -t ext4 -E root_owner=0:0 -d "$root" "$out/root.img" 4G
rm -rf "$work"
echo "$wanted" >"$out/stamp"
