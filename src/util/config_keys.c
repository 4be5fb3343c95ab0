/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/config_keys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "util/listen_address.h"
#include "util/log.h"
#include "util/parse.h"

#define CONFIG_TEXT_MAX (1 << 20)

int value_bool(const char *value, void *target)
{
    return parse_bool(value, target);
}

int value_duration(const char *value, void *target)
{
    return parse_duration_ns(value, target);
}

int value_power(const char *value, void *target)
{
    return parse_power_uw(value, target);
}

int value_text(const char *value, void *target)
{
    if (strlen(value) >= CONFIG_PATH_MAX)
        return -ERANGE;
    memcpy(target, value, strlen(value) + 1);
    return 0;
}

int value_path(const char *value, void *target)
{
    return value[0] == '/' ? value_text(value, target) : -EINVAL;
}

int value_path_or_none(const char *value, void *target)
{
    return value[0] ? value_path(value, target) : value_text(value, target);
}

int value_listen(const char *value, void *target)
{
    struct listen_address address;

    if (value[0] != '\0' && listen_address_parse(value, &address) < 0)
        return -EINVAL;
    return value_text(value, target);
}

int find_word(const char *value, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(value, words[i]) == 0)
            return i;
    return -EINVAL;
}

void config_keys_init(const struct config_key *keys, size_t n, void *target)
{
    for (size_t i = 0; i < n; i++) {
        int r =
            keys[i].initial ? keys[i].parse(keys[i].initial, (char *)target + keys[i].offset) : 0;

        assert(r == 0);
        (void)r;
    }
}

bool config_keys_set(const struct config_key *keys, size_t n, int *lines, void *target,
                     struct config_text *text, const char *section, const char *name,
                     const char *value)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].key, name) != 0)
            continue;
        if (lines[i])
            config_text_fail(text, section, name, "given twice");
        lines[i] = text->line;
        if (keys[i].parse(value, (char *)target + keys[i].offset) < 0)
            config_text_fail(text, section, name, "\"%.64s\" is not %s", value, keys[i].expected);
        return true;
    }
    return false;
}

bool config_keys_have_section(const struct config_key *keys, size_t n, const char *section)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i].section, section) == 0)
            return true;
    return false;
}

int config_file_load(const char *path, void *config,
                     int (*parse)(const char *text, size_t length, void *config,
                                  struct config_error *ret_error))
{
    _cleanup_free_ char *text = NULL;
    struct config_error error;
    size_t length;
    int r;

    r = read_file_full(AT_FDCWD, path, CONFIG_TEXT_MAX, &text, &length);
    if (r < 0) {
        log_error("configuration unreadable", F_STRING("file", path), F_ERROR(r));
        return r;
    }
    r = parse(text, length, config, &error);
    if (r < 0)
        log_error("configuration invalid", F_STRING("file", path), F_INT("line", error.line),
                  F_STRING("section", error.section), F_STRING("key", error.key),
                  F_STRING("problem", error.problem));
    return r;
}
