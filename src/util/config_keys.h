/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The keys of a configuration as a table: each has the parser of its value and
 * the place of the result.
 */

#include <stdbool.h>
#include <stddef.h>

#include "util/config_text.h"

/** Size of every text and path that a configuration keeps. */
#define CONFIG_PATH_MAX 192

/** Writes its target only when it returns 0; -EINVAL or -ERANGE otherwise. */
typedef int (*value_parser)(const char *value, void *target);

struct config_key {
    const char *section;
    const char *key;
    value_parser parse;
    size_t offset;        /* of the parser's target, from the start of the configuration */
    const char *expected; /* "yes or no" */
};

/* Parsers of one value; where no other type is named, the target is a char[CONFIG_PATH_MAX]. */
int value_bool(const char *value, void *target); /* bool */
int value_text(const char *value, void *target);
int value_path(const char *value, void *target);         /* an absolute path */
int value_path_or_none(const char *value, void *target); /* an absolute path, or nothing */
int value_listen(const char *value, void *target);       /* an address and port, or nothing */

/** The index of a word in a list that NULL ends, or -EINVAL. */
int find_word(const char *value, const char *const *words);

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
