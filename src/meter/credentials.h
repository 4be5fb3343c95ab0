/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a meter wants to know before it answers, in a file of its own that only
 * the daemon and root can read: one "key = value" a line, the value up to the end of
 * the line, whatever it holds; lines that are empty or begin with '#' say nothing.
 *
 *     user, password                                     Redfish; SNMPv3 with "auth"
 *     auth = SHA-256, privacy = AES, privacy_password    SNMPv3
 *     community                                          SNMPv2c
 */

#include <stddef.h>

#define CREDENTIAL_MAX 256

struct credentials {
    char user[CREDENTIAL_MAX];
    char password[CREDENTIAL_MAX];
    char auth[CREDENTIAL_MAX];
    char privacy[CREDENTIAL_MAX];
    char privacy_password[CREDENTIAL_MAX];
    char community[CREDENTIAL_MAX];
};

/**
 * @param text      need not be NUL-terminated
 * @param ret_line  on failure: where
 * @return 0, or -EINVAL: a key unknown or given twice, a value missing or too long
 */
int credentials_parse(const char *text, size_t length, struct credentials *ret, int *ret_line);

/**
 * Reads a file of which others can read or write nothing, and which is root's or the daemon's.
 * @param ret_problem  on failure: what is wrong, without a word of the content
 * @return 0, -EPERM for a file that is open to others, or another negative errno
 */
int credentials_load(const char *path, struct credentials *ret, char *ret_problem,
                     size_t problem_size);

/** Wipes them. */
void credentials_deinit(struct credentials *credentials);
