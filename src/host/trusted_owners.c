/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/trusted_owners.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "util/macros.h"
#include "util/parse.h"

/* As long as a user's name may be, and more. */
#define USER_NAME_SIZE 64

static bool contains(const struct trusted_owners *owners, uint32_t uid)
{
    for (size_t i = 0; i < owners->n; i++)
        if (owners->uids[i] == uid)
            return true;
    return false;
}

static int add(struct trusted_owners *owners, uint32_t uid)
{
    if (contains(owners, uid))
        return 0;
    if (owners->n == TRUSTED_OWNERS_MAX)
        return -ERANGE;
    owners->uids[owners->n++] = uid;
    return 0;
}

/* @param user  a name or a number; (uid_t)-1 is no user */
static int find_user(const char *user, uint32_t *ret)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];
    uint64_t number;

    if (parse_u64(user, strlen(user), &number) == 0) {
        *ret = (uint32_t)number;
        return number < UINT32_MAX ? 0 : -EINVAL;
    }
    if (getpwnam_r(user, &entry, buffer, sizeof(buffer), &found) != 0 || !found)
        return -EINVAL;
    *ret = entry.pw_uid;
    return 0;
}

static void add_usual(struct trusted_owners *owners)
{
    static const char *const users[] = {"libvirt-qemu", "qemu"};
    uint32_t uid;

    owners->uids[owners->n++] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(users); i++)
        if (find_user(users[i], &uid) == 0)
            add(owners, uid);
}

int trusted_owners_parse(const char *list, struct trusted_owners *ret)
{
    struct trusted_owners owners = {0};

    add_usual(&owners);
    for (list += strspn(list, " "); *list; list += strspn(list, " ")) {
        size_t length = strcspn(list, " ");
        char user[USER_NAME_SIZE];
        uint32_t uid;
        int r;

        if (length >= sizeof(user))
            return -EINVAL;
        snprintf(user, sizeof(user), "%.*s", (int)length, list);
        r = find_user(user, &uid);
        if (r == 0)
            r = add(&owners, uid);
        if (r < 0)
            return r;
        list += length;
    }
    *ret = owners;
    return 0;
}

uint32_t trusted_owners_find_other(const struct trusted_owners *owners,
                                   const struct proc_owner *owner)
{
    const uint32_t uids[] = {owner->real, owner->effective, owner->saved};

    for (size_t i = 0; i < ARRAY_SIZE(uids); i++)
        if (!contains(owners, uids[i]))
            return uids[i];
    return 0;
}
