# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# What makes Debian's kernel, root directories and disks, for build-guest.sh (the kernel alone),
# ../debian/other.sh (root directories) and, as disks for virtual machines, build-servers.sh and
# ../system/build-root.sh:
#
#     packages.list --> root directory --+
#     kernel's package --> modules ------+--> disk, initramfs
#                      --> kernel
#
# They set `packages` (the script that reads the list) and, for disks, `work` (a directory for what
# is in between) and `first_process` (of the initramfs).
# shellcheck disable=SC2154

host_suite() {
    sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

# kernel_version: of the installed headers, that is the newest; with another no module that was
# built with them would load.
kernel_version() {
    headers=$(dpkg-query -W -f '${Depends}' linux-headers-amd64 | cut -d ' ' -f 1)
    echo "${headers#linux-headers-}"
}

# unpack_kernel VERSION: into $work/image. Package lists that are missing (fresh images) or older
# than the mirror are fetched once.
unpack_kernel() {
    mkdir -p "$work/image"
    download_package "linux-image-$1" || {
        apt-get -qq update && download_package "linux-image-$1"
    }
    dpkg-deb -x "$work"/linux-image-*.deb "$work/image"
    [ -e "$work/image/lib" ] || ln -s usr/lib "$work/image/lib"
}

download_package() {
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$1")
}

# number FILE OFFSET SIZE: little-endian, unsigned.
number() {
    od --address-radix=n --format="u$3" --skip-bytes="$2" --read-bytes="$3" "$1" | tr -d ' '
}

# decompress_kernel IMAGE: prints the kernel, which an emulated machine takes seconds to unpack.
# setup_sects, payload_offset and payload_length say where it is in the image; see
# Documentation/arch/x86/boot.rst of Linux.
decompress_kernel() {
    start=$((($(number "$1" 0x1f1 1) + 1) * 512 + $(number "$1" 0x248 4)))
    length=$(number "$1" 0x24c 4)
    case $(od --address-radix=n --format=x1 --skip-bytes="$start" --read-bytes=4 "$1") in
    " 28 b5 2f fd") unpack='zstd -dcq' ;;
    *) unpack='xz -dc --single-stream' ;;
    esac
    tail -c "+$((start + 1))" "$1" | head -c "$length" | $unpack
}

# make_root SUITE GROUPS ROOT: neither documentation nor translations, that is a third of it.
make_root() {
    mmdebstrap --quiet --variant=minbase --include="$("$packages" "$2" "$1")" \
        --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' "$1" "$3"
}

# install_debian GROUP ROOT: of this machine's suite, for which virtjoule is built. No user logs in;
# what runs by the clock would only disturb.
install_debian() {
    make_root "$(host_suite)" "$1" "$2"
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

# unpack_module FILE TARGET
unpack_module() {
    case $1 in
    *.xz) xz -dc "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
}

# copy_modules ROOT KERNEL PATH...: of Debian 13's kernel they are compressed, or built in. A machine without most hardware needs but few of them.
copy_modules() {
    modules=$1/lib/modules/$2
    unpacked=$work/image/lib/modules/$2
    mkdir -p "$modules"
    cp "$unpacked"/modules.builtin "$unpacked"/modules.builtin.modinfo "$unpacked"/modules.order \
        "$modules"
    (
        shift 2
        cd "$unpacked/kernel" || exit
        for path; do
            mkdir -p "$modules/kernel/$(dirname "$path")"
            for found in "$path" "$path.xz"; do
                [ ! -e "$found" ] || cp -r "$found" "$modules/kernel/$found"
            done
        done
    )
    depmod -b "$1" "$2"
}

# name_machine ROOT NAME
name_machine() {
    echo "$2" >"$1/etc/hostname"
    # An empty one would have systemd take every start for the first.
    tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"
}

# pack_initramfs ROOT KERNEL MODULE...: with those modules and all that they need; prints it.
pack_initramfs() {
    mkdir -p "$work/initramfs/modules" "$work/initramfs/bin"
    cp /bin/busybox "$work/initramfs/bin"
    cp "$first_process" "$work/initramfs/init"
    installed=$1
    version=$2
    shift 2
    number=10
    modprobe --dirname "$installed" --set-version "$version" --show-depends --all "$@" |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
        while read -r module; do
            unpack_module "$module" "$work/initramfs/modules/$number-$(basename "$module" .xz)"
            number=$((number + 1))
        done
    (cd "$work/initramfs" && find . | cpio --quiet --create --format=newc --owner=0:0)
}

# make_disk ROOT IMAGE SIZE
make_disk() {
    rm -f "$2"
    mke2fs -q -t ext4 -E root_owner=0:0 -d "$1" "$2" "$3"
}
