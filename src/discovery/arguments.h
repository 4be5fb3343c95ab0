/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The arguments of a running program, as in /proc/PID/cmdline, and the
 * comma-separated lists that QEMU and swtpm accept as values. Nothing here
 * allocates or fails: broken text reads as fewer arguments or empty values.
 */

#include <stdbool.h>
#include <stddef.h>

/** A NUL-separated list of arguments and how far it was read. */
struct arguments {
    const char *text;
    size_t length;
    size_t offset; /* of the next argument; starts at 0 */
};

/**
 * The next argument, NUL-terminated, or NULL at the end. An argument without its
 * NUL was cut by the reader's buffer and is not returned.
 */
const char *arguments_next(struct arguments *arguments);

/** One item of "value,key=value,..."; points into the list. */
struct list_item {
    const char *key; /* NULL where the item has none */
    size_t key_length;
    const char *value; /* a comma in it is still doubled */
    size_t value_length;
};

/** Takes the next item of the list at *text and moves *text behind it; false at the end. */
bool list_next(const char **text, struct list_item *ret);

/** Whether the item's key is this one. */
bool list_item_has_key(const struct list_item *item, const char *key);

/** Writes the item's value, ",," made ",", cut to size - 1 bytes, NUL-terminated. */
void list_item_copy(const struct list_item *item, char *buffer, size_t size);

/** The part of a path after its last slash. */
const char *path_basename(const char *path);

/**
 * The name of the program in an executable's path, without the " (deleted)"
 * that follows it after its package was upgraded under the running process.
 */
const char *path_program(const char *path, size_t *ret_length);

/** Whether a name of that length is in a list that NULL ends. */
bool name_is_one_of(const char *name, size_t length, const char *const *names);

/** For the lists of vm_names.h. */
#define LIST_NAME(name) name,
