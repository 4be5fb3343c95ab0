/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/share_path.h"

#include <string.h>

static bool is_uuid(const char *text)
{
    for (size_t i = 0; i < UUID_TEXT_LENGTH; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? text[i] != '-' : !strchr("0123456789abcdefABCDEF", text[i]) || text[i] == '\0')
            return false;
    }
    return true;
}

/* Is the name that begins there a whole path in quotes, and the mount point before it? */
static bool is_share(const char *xml, const char *end, const char *name, const char *mountpoint)
{
    size_t length = strlen(mountpoint);
    const char *behind = name + 1 + UUID_TEXT_LENGTH;
    char quote = behind < end ? *behind : '\0';

    return (quote == '\'' || quote == '"') && (size_t)(name - xml) > length &&
           name[-(ptrdiff_t)length - 1] == quote && memcmp(name - length, mountpoint, length) == 0;
}

bool find_share_uuid(const char *xml, size_t length, const char *mountpoint,
                     char ret[UUID_TEXT_LENGTH + 1])
{
    static const char element[] = "<uuid>";
    char name[UUID_TEXT_LENGTH + 2] = "/"; /* the last part of the share's path */
    const char *end = xml + length, *uuid = memmem(xml, length, element, strlen(element));

    if (!uuid)
        return false;
    uuid += strlen(element);
    if (end - uuid < UUID_TEXT_LENGTH || !is_uuid(uuid))
        return false;
    memcpy(name + 1, uuid, UUID_TEXT_LENGTH);
    for (const char *p = uuid; (p = memmem(p, (size_t)(end - p), name, UUID_TEXT_LENGTH + 1)); p++)
        if (is_share(xml, end, p, mountpoint)) {
            memcpy(ret, name + 1, UUID_TEXT_LENGTH + 1);
            return true;
        }
    return false;
}
