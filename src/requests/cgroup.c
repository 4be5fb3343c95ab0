/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/cgroup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/config_keys.h"

/* Slices are nested by the dashes in their names, so hardly deeper than this. */
#define DEPTH_MAX 8

bool cgroup_is_path(const char *text)
{
    if (text[0] != '/' || strlen(text) >= CONFIG_PATH_MAX)
        return false;
    for (const char *p = text; (p = strstr(p, "/..")); p += strlen("/.."))
        if (p[3] == '\0' || p[3] == '/')
            return false;
    return true;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), n = strlen(suffix);

    return length > n && strcmp(text + length - n, suffix) == 0;
}

bool cgroup_is_unit(const char *text)
{
    static const char characters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";

    return strlen(text) < CONFIG_PATH_MAX && text[strspn(text, characters)] == '\0' &&
           (has_suffix(text, ".service") || has_suffix(text, ".slice") ||
            has_suffix(text, ".scope") || has_suffix(text, ".socket"));
}

/* A directory that vanishes during the search counts as not there. */
static int find_below(const char *directory, const char *unit, unsigned depth, char *path,
                      size_t size)
{
    _cleanup_closedir_ DIR *open = opendir(directory);
    struct dirent *entry;

    if (!open)
        return -ENOENT;
    while ((entry = readdir(open))) {
        char below[PATH_MAX];
        int r;

        if (entry->d_type != DT_DIR || entry->d_name[0] == '.' ||
            snprintf(below, sizeof(below), "%s/%s", directory, entry->d_name) >= (int)sizeof(below))
            continue;
        if (strcmp(entry->d_name, unit) == 0)
            return snprintf(path, size, "%s", below) < (int)size ? 0 : -ENAMETOOLONG;
        /* Units are in slices only: what a service makes below its cgroup is no unit. */
        if (depth == 0 || !has_suffix(entry->d_name, ".slice"))
            continue;
        r = find_below(below, unit, depth - 1, path, size);
        if (r != -ENOENT)
            return r;
    }
    return -ENOENT;
}

int cgroup_find(const char *root, const char *name, char *path, size_t size)
{
    struct stat status;

    if (name[0] != '/')
        return find_below(root, name, DEPTH_MAX, path, size);
    if (stat(name, &status) < 0)
        return -errno;
    if (!S_ISDIR(status.st_mode))
        return -ENOTDIR;
    return snprintf(path, size, "%s", name) < (int)size ? 0 : -ENAMETOOLONG;
}
