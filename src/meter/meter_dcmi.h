/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The BMC's own power meter: DCMI's command Get Power Reading, over the
 * kernel's IPMI device.
 *
 * "Data Center Manageability Interface Specification v1.5 rev. 1.0", section
 * 6.6.1; completion codes: "IPMI v2.0 rev. 1.1", table 5-2.
 */

#include "meter/meter.h"
#include "util/config_keys.h"

struct dcmi_options {
    char device[CONFIG_PATH_MAX]; /* "auto": the first IPMI device; "none"; or a path */
    uint64_t interval_ns;         /* some BMCs fail when asked more often than every 5 s */
};

extern const struct config_keys dcmi_keys;

/** A BMC's answer. Only the first two fields are used: the others differ from BMC to BMC. */
struct dcmi_power {
    uint16_t current_w;
    bool active; /* it measures */
    uint16_t min_w, max_w, average_w;
    uint32_t time_s;    /* the BMC's clock, often wrong */
    uint32_t period_ms; /* of the statistics; weeks on some BMCs */
};

/**
 * Reads the data of a response: completion code first.
 * @param data        any bytes
 * @param ret_detail  set on failure: a constant text
 * @return METER_OK, METER_INACTIVE (then *ret is set as well), or why there is no figure
 */
enum meter_state dcmi_parse_power(const unsigned char *data, size_t length, struct dcmi_power *ret,
                                  const char **ret_detail);

/**
 * A meter that has yet to be started.
 * @param ret  stays as it is if the options ask for no meter, or for a device that is to be found
 *             and there is none
 * @return 0 or -ENOMEM
 */
int meter_dcmi_new(struct meter **ret, const struct meter_host *host,
                   const struct dcmi_options *options);
