/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Configuration texts: sections, keys with values, comments (inih(3)), read
 * from a buffer that may hold any bytes. The first error is reported with its place.
 */

#include <stddef.h>

/** What is wrong with a configuration, and where. */
struct config_error {
    int line;          /* 0: no single line */
    char section[64];  /* empty: no section is concerned */
    char key[64];      /* empty: no key is concerned */
    char problem[256]; /* "not a duration with its unit, such as 1s or 500ms" */
};

struct config_text;

/** Takes one key, or reports with config_text_fail() what is wrong with it. */
typedef void (*config_key_handler)(struct config_text *text, const char *section, const char *key,
                                   const char *value);

/** One text being read. Users embed it first in the struct that collects the values. */
struct config_text {
    const char *text; /* not yet read; need not be NUL-terminated */
    size_t length;
    config_key_handler handle;
    int line; /* the current one, from 1 */
    struct config_error error;
};

/** Notes an error at the current line, unless there is one already. */
__attribute__((format(printf, 4, 5))) void config_text_fail(struct config_text *text,
                                                            const char *section, const char *key,
                                                            const char *format, ...);

/** Hands all keys to the handler, up to the first error, which is then in text->error. */
void config_text_read(struct config_text *text);
