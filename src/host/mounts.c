/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "util/cleanup.h"
#include "util/file.h"

#define MOUNTINFO_SELF "/proc/self/mountinfo"
#define MOUNTINFO_MAX (16U << 20)

int mounts_open(struct mounts *ret, const char *file)
{
    _cleanup_(mounts_close) struct mounts mounts = {0};
    _cleanup_fclose_ FILE *stream = NULL;
    _cleanup_free_ char *text = NULL;
    size_t length;
    int r = read_file_full(AT_FDCWD, file, MOUNTINFO_MAX, &text, &length);

    if (r < 0)
        return r;
    stream = fmemopen(text, length, "r");
    mounts.table = mnt_new_table();
    mounts.position = mnt_new_iter(MNT_ITER_FORWARD);
    if (!stream || !mounts.table || !mounts.position)
        return -ENOMEM;
    r = mnt_table_parse_stream(mounts.table, stream, file);
    if (r < 0)
        return r;
    *ret = mounts;
    mounts = (struct mounts){0};
    return 0;
}

static void copy(char *ret, size_t size, const char *text)
{
    snprintf(ret, size, "%s", text ? text : "");
}

bool mounts_next(struct mounts *mounts, struct mount_entry *ret)
{
    struct libmnt_fs *mount;

    if (mnt_table_next_fs(mounts->table, mounts->position, &mount) != 0)
        return false;
    ret->id = mnt_fs_get_id(mount);
    ret->device = mnt_fs_get_devno(mount);
    copy(ret->root, sizeof(ret->root), mnt_fs_get_root(mount));
    copy(ret->path, sizeof(ret->path), mnt_fs_get_target(mount));
    copy(ret->type, sizeof(ret->type), mnt_fs_get_fstype(mount));
    copy(ret->source, sizeof(ret->source), mnt_fs_get_source(mount));
    return true;
}

void mounts_close(struct mounts *mounts)
{
    mnt_free_iter(mounts->position);
    mnt_unref_table(mounts->table);
    *mounts = (struct mounts){0};
}

/* Asks the kernel alone. A link is refused: below the runtime directory, a user other than the
 * one that mounts may make one. */
static int look_at(const char *path, struct statx *ret)
{
    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW,
              STATX_TYPE | STATX_MNT_ID, ret) < 0)
        return -errno;
    return S_ISDIR(ret->stx_mode) ? 0 : -ENOTDIR;
}

static int find_by_id(uint64_t id, struct mount_entry *ret)
{
    _cleanup_(mounts_close) struct mounts mounts = {0};
    struct mount_entry mount;
    int r = mounts_open(&mounts, MOUNTINFO_SELF);

    if (r < 0)
        return r;
    while (mounts_next(&mounts, &mount))
        if ((uint64_t)mount.id == id) {
            *ret = mount;
            return 0;
        }
    return -ESRCH;
}

int mount_find_at(const char *path, struct mount_entry *ret)
{
    struct statx found;
    int r = look_at(path, &found);

    if (r < 0)
        return r;
    if (!(found.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return -ENODATA;
    return find_by_id(found.stx_mnt_id, ret);
}

int mount_find_of(int fd, struct mount_entry *ret)
{
    struct statx found;

    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &found) < 0)
        return -errno;
    return find_by_id(found.stx_mnt_id, ret);
}

int mount_find_type(const char *type, struct mount_entry *ret)
{
    _cleanup_(mounts_close) struct mounts mounts = {0};
    struct mount_entry mount;
    int r = mounts_open(&mounts, MOUNTINFO_SELF);

    if (r < 0)
        return r;
    while (mounts_next(&mounts, &mount))
        if (strcmp(mount.type, type) == 0) {
            *ret = mount;
            return 0;
        }
    return -ENOENT;
}

int mount_device(const char *path, dev_t *ret)
{
    struct statx found;
    int r = look_at(path, &found);

    if (r == 0)
        *ret = makedev(found.stx_dev_major, found.stx_dev_minor);
    return r;
}
