/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/config_text.h"

#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* INI_MAX_LINE of inih, less newline and NUL; inih would split a longer line in two. */
#define LINE_LENGTH_MAX 198

void config_text_fail(struct config_text *text, const char *section, const char *key,
                      const char *format, ...)
{
    struct config_error *error = &text->error;
    va_list arguments;

    if (error->problem[0])
        return;
    error->line = text->line;
    snprintf(error->section, sizeof(error->section), "%s", section);
    snprintf(error->key, sizeof(error->key), "%s", key);
    va_start(arguments, format);
    vsnprintf(error->problem, sizeof(error->problem), format, arguments);
    va_end(arguments);
}

/* inih's handler: 1 goes on, 0 marks the line as wrong. */
static int handle_key(void *userdata, const char *section, const char *name, const char *value)
{
    struct config_text *text = userdata;

    text->handle(text, section, name, value);
    return !text->error.problem[0];
}

/* inih's fgets(): one line at a time, counted. */
static char *read_line(char *buffer, int size, void *userdata)
{
    struct config_text *text = userdata;
    const char *newline;
    size_t length;

    if (text->length == 0 || text->error.problem[0])
        return NULL;
    newline = memchr(text->text, '\n', text->length);
    length = newline ? (size_t)(newline - text->text) : text->length;
    text->line++;
    if (length > LINE_LENGTH_MAX || length + 1 > (size_t)size) {
        config_text_fail(text, "", "", "the line is longer than %d bytes", LINE_LENGTH_MAX);
        return NULL;
    }
    if (memchr(text->text, '\0', length)) {
        config_text_fail(text, "", "", "the line holds a zero byte");
        return NULL;
    }
    memcpy(buffer, text->text, length);
    buffer[length] = '\0';
    text->text += length + (newline ? 1 : 0);
    text->length -= length + (newline ? 1 : 0);
    return buffer;
}

void config_text_read(struct config_text *text)
{
    int wrong_line = ini_parse_stream(read_line, text, handle_key, text);

    if (wrong_line < 0)
        config_text_fail(text, "", "", "out of memory");
    /* inih returns the first wrong line. If the handler has not seen that line, it holds no key. */
    if (wrong_line > 0 && wrong_line != text->error.line) {
        text->error = (struct config_error){0};
        text->line = wrong_line;
        config_text_fail(text, "", "", "neither a section, a key with a value, nor a comment");
    }
}
