/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "meter/meter.h"
#include "util/config_keys.h"

struct redfish_options {
    char url[CONFIG_PATH_MAX];         /* https://host[:port], or with the path of one resource;
                                          empty: no meter */
    char credentials[CONFIG_PATH_MAX]; /* a file: see meter/credentials.h; empty: none */
    char ca_file[CONFIG_PATH_MAX];     /* empty: the system's */
    uint64_t interval_ns;
};

/** In redfish_keys.c: a program that only reads the configuration needs no libcurl. */
extern const struct config_keys redfish_keys;

/**
 * A meter, yet to be started, that asks a Redfish service for the power of a
 * chassis: the one resource that the URL names, or else the first one with a
 * figure among the service's chassis. It has a thread: names are resolved there,
 * and each answer is waited for.
 * @param ret  stays as it is if the options ask for no meter
 * @return 0 or a negative errno
 */
int meter_redfish_new(struct meter **ret, const struct meter_host *host,
                      const struct redfish_options *options);
