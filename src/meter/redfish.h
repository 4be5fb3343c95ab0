/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Parsers of a Redfish service's answers, over a buffer that may hold any bytes.
 *
 *     /redfish/v1/Chassis --(Members)--> a chassis --(EnvironmentMetrics, Power)--> watts
 *
 * DMTF DSP2046, "Redfish Resource and Schema Guide": ChassisCollection, Chassis,
 * EnvironmentMetrics (PowerWatts.Reading), Power (PowerControl[].PowerConsumedWatts).
 */

#include <stddef.h>

#include "meter/meter.h"

#define REDFISH_BODY_MAX (1 << 20)
#define REDFISH_PATH_MAX 256
#define REDFISH_LINKS_MAX 32

/** Paths of resources, each with a leading slash, on the service that named them. */
struct redfish_links {
    size_t n;
    char paths[REDFISH_LINKS_MAX][REDFISH_PATH_MAX];
};

/**
 * Adds the links that lead to power: a collection's members, or a chassis's
 * EnvironmentMetrics and Power, in this order. Links beyond REDFISH_LINKS_MAX are
 * left out.
 * @return METER_OK, even if there is no such link; METER_MALFORMED
 */
enum meter_state redfish_parse_links(const char *body, size_t length, struct redfish_links *links);

/**
 * Finds the power in an EnvironmentMetrics or Power resource.
 * @param ret_power_uw       may be 0 or above what any machine draws
 * @param ret_resolution_uw  1 W for whole numbers, else 0.1 W
 * @return METER_OK, METER_ABSENT (it names no power, or null), METER_MALFORMED
 */
enum meter_state redfish_parse_power(const char *body, size_t length, uint64_t *ret_power_uw,
                                     uint64_t *ret_resolution_uw);
