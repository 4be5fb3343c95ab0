/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "meter/meter.h"

#define REDFISH_TEXT_MAX 192

struct redfish_options {
    char url[REDFISH_TEXT_MAX];         /* https://host[:port], or with the path of one resource */
    char credentials[REDFISH_TEXT_MAX]; /* a file: see meter/credentials.h */
    char ca_file[REDFISH_TEXT_MAX];     /* empty: the system's */
    uint64_t interval_ns;
};

/**
 * A meter, yet to be started, that asks a Redfish service for the power of a
 * chassis: the one resource that the URL names, or else the first one with a
 * figure among the service's chassis.
 * @return 0 or a negative errno
 */
int meter_redfish_new(struct meter **ret, sd_event *event, const struct redfish_options *options);
