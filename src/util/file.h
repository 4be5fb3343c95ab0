/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** Is the error a lack of memory or descriptors, which says nothing about the file? */
static inline bool is_shortage(int r)
{
    return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

/**
 * Reads an open file from its start into a buffer.
 * @return bytes read (at most size), or a negative errno
 */
ssize_t read_at_start(int fd, char *buffer, size_t size);

/**
 * Opens, reads and closes a file; NUL-terminates the buffer.
 * @return bytes read (at most size - 1), or a negative errno
 */
ssize_t read_file(int dir_fd, const char *path, char *buffer, size_t size);

/**
 * Reads a whole file of unknown length (as /proc has them) up to max bytes
 * into new memory, NUL-terminated.
 * @return 0, -E2BIG when there is more than max, or another negative errno
 */
int read_file_full(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_length);

/** Reads a sysfs number. @return 0, -EINVAL for garbage, or another negative errno */
int read_sysfs_u64(int dir_fd, const char *path, uint64_t *ret);

/**
 * Opens /dev/null for the standard descriptors that a program was started
 * without: the next file would get their number, and log lines.
 * @return 0 or a negative errno
 */
int open_standard_files(void);

/** mkdir -p. @return 0 or a negative errno */
int make_directories(const char *path, mode_t mode);

/**
 * Opens a path, for O_PATH, of which no part is a link: another user may have made it.
 * @return a descriptor; -ELOOP: a part is a link; or another negative errno
 */
int open_without_links(const char *path);

/** Writes all bytes at an offset. @return 0 or a negative errno */
int write_file_at(int fd, const void *bytes, size_t size, uint64_t offset);

/**
 * Opens an empty file beside the one at a path, which it is to replace: PATH.new.
 * @param ret_temporary  its path
 * @return a descriptor, for reading and writing, or a negative errno
 */
int open_beside(const char *path, mode_t mode, char *ret_temporary, size_t size);

/**
 * Replaces a file's content so that, whatever happens, either the old or the
 * new content is there, all of it: a temporary file beside it, fsync, rename,
 * fsync of the directory. A missing directory is made.
 * @param mode  of the new file
 * @return 0 or a negative errno, then the old content stays
 */
int replace_file(const char *path, const void *content, size_t length, mode_t mode);
