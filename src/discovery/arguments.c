/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/arguments.h"

#include <string.h>

const char *arguments_next(struct arguments *arguments)
{
    const char *argument = arguments->text + arguments->offset;
    size_t left = arguments->length - arguments->offset;
    const char *end = left > 0 ? memchr(argument, '\0', left) : NULL;

    if (!end)
        return NULL;
    arguments->offset += (size_t)(end - argument) + 1;
    return argument;
}

/* A value ends at a comma, but two commas stand for one. */
static size_t value_length(const char *value)
{
    const char *p = value;

    for (; *p; p++)
        if (*p == ',' && *++p != ',')
            return (size_t)(p - 1 - value);
    return (size_t)(p - value);
}

bool list_next(const char **text, struct list_item *ret)
{
    struct list_item item = {.value = *text};
    size_t word = strcspn(*text, "=,");

    if (**text == '\0')
        return false;
    if (item.value[word] == '=') {
        item.key = item.value;
        item.key_length = word;
        item.value += word + 1;
    }
    item.value_length = value_length(item.value);
    *text = item.value + item.value_length;
    if (**text == ',')
        (*text)++;
    *ret = item;
    return true;
}

bool list_item_has_key(const struct list_item *item, const char *key)
{
    return item->key && item->key_length == strlen(key) &&
           memcmp(item->key, key, item->key_length) == 0;
}

void list_item_copy(const struct list_item *item, char *buffer, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < item->value_length && n + 1 < size; i++) {
        buffer[n++] = item->value[i];
        if (item->value[i] == ',')
            i++;
    }
    buffer[n] = '\0';
}

const char *path_basename(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

const char *path_program(const char *path, size_t *ret_length)
{
    static const char deleted[] = " (deleted)";
    const char *name = path_basename(path);
    size_t length = strlen(name);

    if (length > strlen(deleted) && strcmp(name + length - strlen(deleted), deleted) == 0)
        length -= strlen(deleted);
    *ret_length = length;
    return name;
}

bool name_is_one_of(const char *name, size_t length, const char *const *names)
{
    for (; *names; names++)
        if (strlen(*names) == length && memcmp(*names, name, length) == 0)
            return true;
    return false;
}
