#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes what the guest is started from in which requests are measured (e2e/harness/servers.py):
#
#     OUTDIR/servers.img          its disk: Debian 12 with systemd and HTTP servers, the packages
#                                 of group "servers" in packages.list
#     OUTDIR/vmlinuz              Debian's kernel
#     OUTDIR/initramfs.cpio.gz    which mounts the disk
#
# It obeys the host as the other guest does, see init. Does nothing when OUTDIR is up to date.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
packages=$here/../../packages.list
first_process=$here/../system/init
mkdir -p "$1"
out=$(cd "$1" && pwd)

wanted=$( (cat "$0" "$here/init" "$first_process"; grep '^servers ' "$packages") | sha256sum)
if [ -e "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$wanted" ]; then
    exit 0
fi
work=$out/work
root=$work/root
rm -rf "$out/stamp" "$work"
mkdir -p "$work/image" "$work/initramfs/modules" "$work/initramfs/bin"

echo "servers: downloading the kernel"
# Package lists that are missing (fresh images) or older than the mirror are fetched once.
download() {
    image=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$image")
}
download || { apt-get -qq update && download; }
dpkg-deb -x "$work"/linux-image-*.deb "$work/image"
cp "$work"/image/boot/vmlinuz-* "$out/vmlinuz"
kernel=$(ls "$work/image/lib/modules")

echo "servers: installing Debian"
include=$(awk '$1 == "servers" { printf "%s%s", comma, $2; comma = "," }' "$packages")
mmdebstrap --quiet --variant=minbase --include="$include" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' bookworm "$root"

modules=$root/lib/modules/$kernel
mkdir -p "$modules/kernel/drivers"
cd "$work/image/lib/modules/$kernel"
cp modules.builtin modules.builtin.modinfo modules.order "$modules"
cp -r kernel/crypto kernel/fs kernel/lib kernel/net "$modules/kernel"
for driver in block char/hw_random virtio; do
    mkdir -p "$modules/kernel/drivers/$(dirname $driver)"
    cp -r kernel/drivers/$driver "$modules/kernel/drivers/$driver"
done
depmod -b "$root" "$kernel"

cd "$root"
echo servers >etc/hostname
echo '127.0.0.1 localhost servers' >etc/hosts
echo '/dev/vda / ext4 defaults,noatime 0 0' >etc/fstab
# An empty one would have systemd take every start for the first.
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
{
    echo '#!/bin/sh'
    sed -n '/^stty /,$p' "$here/init"
} >usr/local/sbin/obey
chmod 755 usr/local/sbin/obey
cat >etc/systemd/system/obey.service <<END
[Service]
ExecStart=/usr/local/sbin/obey
[Install]
WantedBy=multi-user.target
END
systemctl --quiet --root "$root" enable obey.service
# Servers are started by the tests. Nobody logs in; what runs by the clock would only disturb.
systemctl --quiet --root "$root" disable nginx.service apache2.service apache-htcacheclean.service
for unit in serial-getty@ttyS0.service getty@tty1.service apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer systemd-random-seed.service systemd-logind.service; do
    ln -sf /dev/null etc/systemd/system/$unit
done

echo "servers: packing"
cd "$work/initramfs"
cp /bin/busybox bin/
cp "$first_process" init
number=10
modprobe --dirname "$root" --set-version "$kernel" --show-depends --all \
    virtio_pci virtio_blk crc32c_generic ext4 virtiofs |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r module; do
        cp "$module" "modules/$number-${module##*/}"
        number=$((number + 1))
    done
find . | cpio --quiet --create --format=newc --owner=0:0 | gzip -1 >"$out/initramfs.cpio.gz"
rm -f "$out/servers.img"
mke2fs -q -t ext4 -E root_owner=0:0 -d "$root" "$out/servers.img" 2G
rm -rf "$work"
echo "$wanted" >"$out/stamp"
