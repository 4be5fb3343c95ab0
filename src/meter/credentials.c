/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/cursor.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"

#define TEXT_MAX 4096

static const struct {
    const char *key;
    size_t offset;
} keys[] = {
    {"user", offsetof(struct credentials, user)},
    {"password", offsetof(struct credentials, password)},
    {"auth", offsetof(struct credentials, auth)},
    {"privacy", offsetof(struct credentials, privacy)},
    {"privacy_password", offsetof(struct credentials, privacy_password)},
    {"community", offsetof(struct credentials, community)},
};

static char *find_value(struct credentials *credentials, const char *key, size_t length)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (strlen(keys[i].key) == length && memcmp(keys[i].key, key, length) == 0)
            return (char *)credentials + keys[i].offset;
    return NULL;
}

static int parse_line(struct cursor line, struct credentials *credentials)
{
    const char *key, *key_end;
    size_t length;
    char *value;

    skip_blanks(&line);
    if (line.p == line.end || *line.p == '#')
        return 0;
    key = line.p;
    while (line.p < line.end && *line.p != ' ' && *line.p != '\t' && *line.p != '=')
        line.p++;
    key_end = line.p;
    skip_blanks(&line);
    if (!take_byte(&line, '='))
        return -EINVAL;
    skip_blanks(&line);
    value = find_value(credentials, key, (size_t)(key_end - key));
    length = (size_t)(line.end - line.p);
    if (!value || value[0] || length == 0 || length >= CREDENTIAL_MAX ||
        memchr(line.p, '\0', length))
        return -EINVAL;
    memcpy(value, line.p, length);
    value[length] = '\0';
    return 0;
}

int credentials_parse(const char *text, size_t length, struct credentials *ret, int *ret_line)
{
    const char *end = text + length;

    *ret = (struct credentials){0};
    for (*ret_line = 1; text < end; ++*ret_line) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline ? newline : end;

        if (parse_line((struct cursor){text, line_end}, ret) < 0) {
            credentials_deinit(ret);
            return -EINVAL;
        }
        text = newline ? newline + 1 : end;
    }
    return 0;
}

/* The owner may let a group read the file, such as the daemon's own group. */
static int check_access(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if ((st.st_uid != 0 && st.st_uid != geteuid()) || st.st_mode & (S_IWGRP | S_IRWXO))
        return -EPERM;
    return 0;
}

int credentials_load(const char *path, struct credentials *ret, char *ret_problem,
                     size_t problem_size)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char text[TEXT_MAX];
    ssize_t length;
    int line = 0;
    int r = fd < 0 ? -errno : check_access(fd);

    if (r == -EPERM) {
        snprintf(ret_problem, problem_size, "%s: open to others than its owner and group", path);
        return r;
    }
    length = r < 0 ? r : read_at_start(fd, text, sizeof(text));
    if (length < 0 || length == sizeof(text)) {
        r = length < 0 ? (int)length : -E2BIG;
        snprintf(ret_problem, problem_size, "%s: %s", path, log_errno_text(r));
    } else {
        r = credentials_parse(text, (size_t)length, ret, &line);
        if (r < 0)
            snprintf(ret_problem, problem_size, "%s:%d: not a key that is known and its value",
                     path, line);
    }
    explicit_bzero(text, sizeof(text));
    return r;
}

bool meter_load_credentials(const char *path, struct credentials *ret,
                            struct meter_outcome *outcome)
{
    char problem[METER_DETAIL_MAX];

    if (credentials_load(path, ret, problem, sizeof(problem)) == 0)
        return true;
    meter_outcome_fail(outcome, METER_UNAUTHORISED, "%s", problem);
    return false;
}

void credentials_deinit(struct credentials *credentials)
{
    explicit_bzero(credentials, sizeof(*credentials));
}
