/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/parse.h"

ssize_t read_at_start(int fd, char *buffer, size_t size)
{
    size_t length = 0;

    while (length < size) {
        ssize_t n = pread(fd, buffer + length, size - length, (off_t)length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    return (ssize_t)length;
}

ssize_t read_file(int dir_fd, const char *path, char *buffer, size_t size)
{
    _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t length;

    if (fd < 0)
        return -errno;
    length = read_at_start(fd, buffer, size - 1);
    if (length >= 0)
        buffer[length] = '\0';
    return length;
}

int read_file_full(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_length)
{
    _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    _cleanup_free_ char *buffer = NULL;
    size_t size = 4096;

    if (fd < 0)
        return -errno;
    for (;;) {
        char *grown = realloc(buffer, size + 1);
        ssize_t length;

        if (!grown)
            return -ENOMEM;
        buffer = grown;
        length = read_at_start(fd, buffer, size);
        if (length < 0)
            return (int)length;
        if ((size_t)length < size) {
            if ((size_t)length > max)
                return -E2BIG;
            buffer[length] = '\0';
            *ret = TAKE_PTR(buffer);
            *ret_length = (size_t)length;
            return 0;
        }
        if (size > max)
            return -E2BIG;
        size *= 2;
    }
}

int read_sysfs_u64(int dir_fd, const char *path, uint64_t *ret)
{
    char text[64];
    ssize_t length = read_file(dir_fd, path, text, sizeof(text));

    if (length < 0)
        return (int)length;
    return parse_sysfs_u64(text, (size_t)length, ret);
}

int open_standard_files(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    return fd < 0 ? -errno : close(fd);
}

int make_directories(const char *path, mode_t mode)
{
    char partial[PATH_MAX];
    size_t length = strlen(path);

    if (length == 0 || length >= sizeof(partial))
        return -ENAMETOOLONG;
    memcpy(partial, path, length + 1);
    for (char *p = partial + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(partial, mode) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    if (mkdir(partial, mode) < 0 && errno != EEXIST)
        return -errno;
    return 0;
}

int open_without_links(const char *path)
{
    const struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

    return fd < 0 ? -errno : fd;
}

int write_file_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
    const char *next = bytes;

    while (size > 0) {
        ssize_t n = pwrite(fd, next, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        next += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int open_beside(const char *path, mode_t mode, char *ret_temporary, size_t size)
{
    int fd;

    if (snprintf(ret_temporary, size, "%s.new", path) >= (int)size)
        return -ENAMETOOLONG;
    fd = open(ret_temporary, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

static int sync_directory(const char *directory)
{
    _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int make_directory_of(const char *path, char *ret_directory, size_t size)
{
    const char *slash = strrchr(path, '/');
    int length = slash ? (int)(slash - path) + 1 : 1;

    if (snprintf(ret_directory, size, "%.*s", length, slash ? path : ".") >= (int)size)
        return -ENAMETOOLONG;
    return make_directories(ret_directory, 0755);
}

int replace_file(const char *path, const void *content, size_t length, mode_t mode)
{
    char directory[PATH_MAX], temporary[PATH_MAX];
    _cleanup_close_ int fd = -1;
    int r = make_directory_of(path, directory, sizeof(directory));

    if (r < 0)
        return r;
    fd = open_beside(path, mode, temporary, sizeof(temporary));
    if (fd < 0)
        return fd;
    r = write_file_at(fd, content, length, 0);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(temporary);
        return r;
    }
    return sync_directory(directory);
}
