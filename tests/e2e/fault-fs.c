/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * fault-fs DIRECTORY FAULTS MOUNTPOINT
 *
 * Shows a directory as a file system whose operations fail, or hang, as the
 * file FAULTS says at that moment. A line of it is
 *
 *     OPERATION SUFFIX RESULT
 *
 * and holds for that operation on every path that ends in the suffix; the
 * result is an errno, "slow", which takes 50 ms, or "hang", which lasts until the
 * line is gone, or for half a minute: a process that waits here cannot be killed.
 * Ends with the mount.
 */

#define FUSE_USE_VERSION 35

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"

static int root_fd;
static const char *faults_path;

static bool ends_with(const char *text, const char *suffix)
{
    size_t length = strlen(text), suffix_length = strlen(suffix);

    return length >= suffix_length && strcmp(text + length - suffix_length, suffix) == 0;
}

/* @return the result that the file has for it, in a static buffer of the caller, or false */
static bool find_fault(const char *operation, const char *path, char *ret_result)
{
    _cleanup_fclose_ FILE *file = fopen(faults_path, "re");
    char name[32], suffix[256];

    while (file && fscanf(file, "%31s %255s %31s", name, suffix, ret_result) == 3)
        if (strcmp(name, operation) == 0 && ends_with(path, suffix))
            return true;
    return false;
}

static int fault(const char *operation, const char *path)
{
    char result[32];

    for (int i = 0; i < 30 * 100 && find_fault(operation, path, result); i++) {
        if (strcmp(result, "slow") == 0) {
            usleep(50 * 1000);
            return 0;
        }
        if (strcmp(result, "hang") != 0)
            return -atoi(result);
        usleep(10 * 1000);
    }
    return 0;
}

static int check(int r)
{
    return r < 0 ? -errno : 0;
}

/* Of a path below the mount point, below root_fd. */
static const char *relative(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static int fs_getattr(const char *path, struct stat *ret, struct fuse_file_info *info)
{
    int r = fault("getattr", path);

    return r < 0 ? r : check(fstatat(root_fd, relative(path), ret, AT_SYMLINK_NOFOLLOW));
}

static int fs_readlink(const char *path, char *ret, size_t size)
{
    int r = fault("readlink", path);
    ssize_t length = r < 0 ? 0 : readlinkat(root_fd, relative(path), ret, size - 1);

    if (r < 0)
        return r;
    if (length < 0)
        return -errno;
    ret[length] = '\0';
    return 0;
}

static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    _cleanup_closedir_ DIR *directory = NULL;
    struct dirent *entry;
    int r = fault("readdir", path);
    int fd;

    if (r < 0)
        return r;
    fd = openat(root_fd, relative(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory)
        return -errno;
    while ((entry = readdir(directory)))
        fill(buffer, entry->d_name, NULL, 0, 0);
    return 0;
}

static int open_file(const char *path, int flags, mode_t mode, struct fuse_file_info *info)
{
    int fd = openat(root_fd, relative(path), flags | O_CLOEXEC, mode);

    if (fd < 0)
        return -errno;
    info->fh = (uint64_t)fd;
    /* Every read and write comes here. */
    info->direct_io = 1;
    return 0;
}

static int fs_open(const char *path, struct fuse_file_info *info)
{
    int r = fault("open", path);

    return r < 0 ? r : open_file(path, info->flags, 0, info);
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    int r = fault("create", path);

    return r < 0 ? r : open_file(path, info->flags | O_CREAT, mode, info);
}

static int fs_release(const char *path, struct fuse_file_info *info)
{
    close((int)info->fh);
    return 0;
}

static int fs_read(const char *path, char *buffer, size_t size, off_t offset,
                   struct fuse_file_info *info)
{
    int r = fault("read", path);
    ssize_t n = r < 0 ? 0 : pread((int)info->fh, buffer, size, offset);

    if (r < 0)
        return r;
    return n < 0 ? -errno : (int)n;
}

static int fs_write(const char *path, const char *buffer, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    int r = fault("write", path);
    ssize_t n = r < 0 ? 0 : pwrite((int)info->fh, buffer, size, offset);

    if (r < 0)
        return r;
    return n < 0 ? -errno : (int)n;
}

static int fs_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    return fault("fsync", path);
}

static int fs_rename(const char *from, const char *to, unsigned flags)
{
    int r = fault("rename", to);

    return r < 0 ? r : check(renameat(root_fd, relative(from), root_fd, relative(to)));
}

static int fs_unlink(const char *path)
{
    return check(unlinkat(root_fd, relative(path), 0));
}

static int fs_mkdir(const char *path, mode_t mode)
{
    return check(mkdirat(root_fd, relative(path), mode));
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    return info ? check(ftruncate((int)info->fh, size)) : 0;
}

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    /* Nothing is known beforehand: every look comes here. */
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    config->hard_remove = 1;
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct fuse_operations operations = {
        .getattr = fs_getattr,
        .readlink = fs_readlink,
        .readdir = fs_readdir,
        .open = fs_open,
        .create = fs_create,
        .release = fs_release,
        .read = fs_read,
        .write = fs_write,
        .fsync = fs_fsync,
        .fsyncdir = fs_fsync,
        .rename = fs_rename,
        .unlink = fs_unlink,
        .mkdir = fs_mkdir,
        .truncate = fs_truncate,
        .init = fs_init,
    };
    char *arguments[] = {argv[0], "-f", "-o", "fsname=fault-fs", argc == 4 ? argv[3] : NULL};

    if (argc != 4) {
        fprintf(stderr, "usage: %s DIRECTORY FAULTS MOUNTPOINT\n", argv[0]);
        return EXIT_FAILURE;
    }
    root_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    faults_path = realpath(argv[2], NULL);
    if (root_fd < 0 || !faults_path) {
        perror(argv[0]);
        return EXIT_FAILURE;
    }
    return fuse_main(5, arguments, &operations, NULL);
}
