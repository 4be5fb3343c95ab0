/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a meter demands before it answers, in a file of its own that only the daemon
 * and root can read: one "key = value" a line. A value goes up to the end of its
 * line and may hold any bytes; lines that are empty or begin with '#' are left out.
 *
 *     user, password                                     Redfish; SNMPv3 with "auth"
 *     auth = SHA-256, privacy = AES, privacy_password    SNMPv3
 *     community                                          SNMPv2c
 */

#include <stdbool.h>
#include <stddef.h>

#include "meter/meter_threaded.h"

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
 * Reads a file that belongs to root or to the daemon and is closed to others.
 * @param ret_problem  on failure: what is wrong, without any part of the content
 * @return 0, -EPERM for a file that is open to others, or another negative errno
 */
int credentials_load(const char *path, struct credentials *ret, char *ret_problem,
                     size_t problem_size);

/**
 * For readers of meters: loads the file, or sets the outcome to METER_UNAUTHORISED.
 * @return whether it is loaded
 */
bool meter_load_credentials(const char *path, struct credentials *ret,
                            struct meter_outcome *outcome);

/** Overwrites the credentials with zeros. */
void credentials_deinit(struct credentials *credentials);
