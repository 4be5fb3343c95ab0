/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/helper_cmdline.h"

#include <string.h>

#include "discovery/arguments.h"
#include "shared/vm_names.h"

/*
 *     virtiofsd --socket-path=PATH ...       virtiofsd --socket-path PATH ...
 *     swtpm socket --ctrl type=unixio,path=PATH,mode=0600 ...
 */

static bool take_socket_path(const char *path, char ret[SOCKET_PATH_SIZE])
{
    size_t length = strlen(path);

    if (length == 0 || length >= SOCKET_PATH_SIZE)
        return false;
    memcpy(ret, path, length + 1);
    return true;
}

static bool take_ctrl(const char *value, char ret[SOCKET_PATH_SIZE])
{
    struct list_item item;

    while (list_next(&value, &item))
        if (list_item_has_key(&item, "path") && item.value_length > 0 &&
            item.value_length < SOCKET_PATH_SIZE) {
            list_item_copy(&item, ret, SOCKET_PATH_SIZE);
            return true;
        }
    return false;
}

static const struct option {
    const char *name;
    bool (*take)(const char *value, char ret[SOCKET_PATH_SIZE]);
} options[] = {
    {"--socket-path", take_socket_path},
    {"--ctrl", take_ctrl},
};

/* The value of "--option=value", or the next argument for "--option value". */
static const char *option_value(const char *argument, const char *name, struct arguments *arguments)
{
    size_t length = strlen(name);

    if (strncmp(argument, name, length) != 0)
        return NULL;
    if (argument[length] == '=')
        return argument + length + 1;
    return argument[length] == '\0' ? arguments_next(arguments) : NULL;
}

bool parse_helper_cmdline(const char *text, size_t length, char ret[SOCKET_PATH_SIZE])
{
    struct arguments arguments = {text, length, 0};
    const char *argument;

    while ((argument = arguments_next(&arguments)))
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
            const char *value = option_value(argument, options[i].name, &arguments);

            if (value && options[i].take(value, ret))
                return true;
        }
    return false;
}

bool path_is_helper(const char *path)
{
    static const char *const names[] = {HELPER_NAMES(LIST_NAME) NULL};
    size_t length;
    const char *name = path_program(path, &length);

    return name_is_one_of(name, length, names);
}
