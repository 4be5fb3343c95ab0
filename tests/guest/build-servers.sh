#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes what the guest is started from in which requests are measured (e2e/harness/servers.py):
#
#     OUTDIR/servers.img          its disk: Debian with systemd and HTTP servers, the packages
#                                 of group "servers" in packages.list
#     OUTDIR/vmlinux              Debian's kernel
#     OUTDIR/initramfs.cpio       which mounts the disk
#
# It obeys the host as the other guest does, see init. Does nothing when OUTDIR is up to date.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
packages=$here/../debian/packages.sh
first_process=$here/../system/init
common=$here/debian.sh
mkdir -p "$1"
out=$(cd "$1" && pwd)

work=$out/work
root=$work/root
# shellcheck source=SCRIPTDIR/debian.sh
. "$common"
kernel=$(kernel_version)

wanted=$( (cat "$0" "$common" "$here/init" "$first_process"
    "$packages" servers
    echo "$kernel") | sha256sum)
if [ -e "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$wanted" ]; then
    exit 0
fi
rm -rf "$out/stamp" "$work"

echo "servers: downloading the kernel"
unpack_kernel "$kernel"
decompress_kernel "$work"/image/boot/vmlinuz-* >"$out/vmlinux"

echo "servers: installing Debian"
install_debian servers "$root"
copy_modules "$root" "$kernel" crypto fs lib net drivers/block drivers/char/hw_random drivers/virtio

cd "$root"
name_machine "$root" servers
echo '127.0.0.1 localhost servers' >etc/hosts
echo '/dev/vda / ext4 defaults,noatime 0 0' >etc/fstab
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
# Servers are started by the tests.
systemctl --quiet --root "$root" disable nginx.service apache2.service apache-htcacheclean.service
mask "$root" systemd-random-seed.service systemd-logind.service

echo "servers: packing"
pack_initramfs "$root" "$kernel" virtio_pci virtio_blk crc32c_generic ext4 virtiofs \
    >"$out/initramfs.cpio"
make_disk "$root" "$out/servers.img" 2G
rm -rf "$work"
echo "$wanted" >"$out/stamp"
