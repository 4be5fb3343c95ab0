/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The keys of a configuration as a table: each with the parser of its value, the
 * place where the value is kept, and its default.
 */

#include <stdbool.h>
#include <stddef.h>

#include "util/config_text.h"
#include "util/macros.h"

/** Size of every text and path that a configuration keeps. */
#define CONFIG_PATH_MAX 192

/** Writes its target only when it returns 0; -EINVAL or -ERANGE otherwise. */
typedef int (*value_parser)(const char *value, void *target);

struct config_key {
    const char *section;
    const char *key;
    value_parser parse;
    size_t offset;        /* of the target, from the start of the struct that is configured */
    const char *initial;  /* the default, as it would be written; NULL: all bytes 0 */
    const char *expected; /* "yes or no" */
};

/** The keys that fill one struct: all of a configuration, or a part of it. */
struct config_keys {
    const struct config_key *keys;
    size_t n;

    /**
     * Checks what the parser of one value cannot know, such as a key that another one needs.
     * Optional.
     * @return NULL, or the key that is wrong, with *ret_problem set
     */
    const char *(*check)(const void *target, const char **ret_problem);
};

#define CONFIG_KEYS(table) .keys = (table), .n = ARRAY_SIZE(table)

/* Parsers of one value; the target of the texts is a char[CONFIG_PATH_MAX]. */
int value_bool(const char *value, void *target);     /* bool */
int value_duration(const char *value, void *target); /* uint64_t, nanoseconds */
int value_power(const char *value, void *target);    /* uint64_t, microwatts */
int value_text(const char *value, void *target);
int value_path(const char *value, void *target);         /* an absolute path */
int value_path_or_none(const char *value, void *target); /* an absolute path, or nothing */
int value_listen(const char *value, void *target);       /* an address and port, or nothing */

/** The index of a word in a list that NULL ends, or -EINVAL. */
int find_word(const char *value, const char *const *words);

/** Sets every key that has a default; a default that its own parser refuses is a bug. */
void config_keys_init(const struct config_key *keys, size_t n, void *target);

/**
 * Sets one key, or reports with config_text_fail() what is wrong with its value
 * or that the key was given before.
 * @param lines   by key: the line that gave it, or 0
 * @param target  the configuration
 * @return false: the table has no such key
 */
bool config_keys_set(const struct config_key *keys, size_t n, int *lines, void *target,
                     struct config_text *text, const char *section, const char *name,
                     const char *value);

/** Does the table have such a section? */
bool config_keys_have_section(const struct config_key *keys, size_t n, const char *section);

/**
 * Reads a file and hands its text to a parser; errors are logged with file,
 * line, section and key.
 * @return the parser's result, or the negative errno of reading the file
 */
int config_file_load(const char *path, void *config,
                     int (*parse)(const char *text, size_t length, void *config,
                                  struct config_error *ret_error));
