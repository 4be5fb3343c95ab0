/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/* Directory trees that look like /proc or /sys, made by a test in a temporary directory. */

/** cmocka setup: *state becomes the path of a new temporary directory. */
int fixture_setup(void **state);

/** cmocka teardown: removes the directory and all below it. */
int fixture_teardown(void **state);

/** Writes a file at root/path, over what is there, with the directories above it. */
__attribute__((format(printf, 3, 4))) void fixture_write(const char *root, const char *content,
                                                         const char *path, ...);

/** The same for content that holds zero bytes. */
__attribute__((format(printf, 4, 5))) void
fixture_write_bytes(const char *root, const char *content, size_t length, const char *path, ...);

/** Removes a file or a whole directory at root/path. */
void fixture_remove(const char *root, const char *path);
