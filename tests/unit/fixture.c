/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include "unit.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/file.h"

int fixture_setup(void **state)
{
    char *root = strdup("/tmp/virtjoule-unit-XXXXXX");

    if (!root || !mkdtemp(root))
        return -1;
    *state = root;
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    return remove(path);
}

int fixture_teardown(void **state)
{
    nftw(*state, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static void write_at(const char *root, const char *content, size_t length, const char *path,
                     va_list arguments)
{
    char relative[PATH_MAX / 2], full[PATH_MAX];
    int fd;

    vsnprintf(relative, sizeof(relative), path, arguments);
    snprintf(full, sizeof(full), "%s/%s", root, relative);
    *strrchr(full, '/') = '\0';
    assert_int_equal(make_directories(full, 0755), 0);
    full[strlen(full)] = '/';
    fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, length), length);
    close(fd);
}

void fixture_write(const char *root, const char *content, const char *path, ...)
{
    va_list arguments;

    va_start(arguments, path);
    write_at(root, content, strlen(content), path, arguments);
    va_end(arguments);
}

void fixture_write_bytes(const char *root, const char *content, size_t length, const char *path,
                         ...)
{
    va_list arguments;

    va_start(arguments, path);
    write_at(root, content, length, path, arguments);
    va_end(arguments);
}

void fixture_remove(const char *root, const char *path)
{
    char full[PATH_MAX];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    assert_int_equal(nftw(full, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}
