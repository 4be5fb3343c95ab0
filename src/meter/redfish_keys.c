/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "meter/meter_redfish.h"

/* A password goes there: never in the clear, and no user in the URL itself. */
static int value_https_url(const char *value, void *target)
{
    static const char scheme[] = "https://";
    const char *host = value + strlen(scheme);

    if (value[0] == '\0')
        return value_text(value, target);
    if (strncmp(value, scheme, strlen(scheme)) != 0 || *host == '\0' || *host == '/' ||
        value[strcspn(value, "@?# \t\\")] != '\0')
        return -EINVAL;
    return value_text(value, target);
}

#define FIELD(name) offsetof(struct redfish_options, name)

static const struct config_key keys[] = {
    {"redfish", "url", value_https_url, FIELD(url), "",
     "an https:// URL without user and password, or nothing"},
    {"redfish", "credentials", value_path_or_none, FIELD(credentials), "",
     "the absolute path of a file, or nothing"},
    {"redfish", "ca_file", value_path_or_none, FIELD(ca_file), "",
     "the absolute path of a file, or nothing"},
    {"redfish", "interval", value_duration, FIELD(interval_ns), "10s",
     "a duration with its unit, such as 10s"},
};

const struct config_keys redfish_keys = {CONFIG_KEYS(keys)};
