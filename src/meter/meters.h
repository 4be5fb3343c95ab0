/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kinds of meters that there are.
 *
 * A row KIND of METER_KINDS stands for what "meter/meter_KIND.h" declares:
 *
 *     struct KIND_options   what the section [KIND] of the configuration says, interval_ns included
 *     KIND_keys             the keys of that section, which fill it
 *     meter_KIND_new()      makes the meter, or none if the options ask for none
 *
 * The configuration, the daemon and the tests take all kinds from this table. See
 * docs/extending.md.
 */

#include "meter/meter_dcmi.h"
#include "meter/meter_hwmon.h"
#include "meter/meter_redfish.h"
#include "meter/meter_snmp.h"

/** The nearest to the machine first: the platform uses the first one that it believes. */
#define METER_KINDS(KIND) KIND(hwmon) KIND(dcmi) KIND(redfish) KIND(snmp)

/** How many meters there can be: one of each kind. */
#define METERS_MAX (0 METER_KINDS(METERS_MAX_ONE))
#define METERS_MAX_ONE(kind) +1

/** What the configuration says of each kind. */
struct meters_options {
#define METER_OPTIONS(kind) struct kind##_options kind;
    METER_KINDS(METER_OPTIONS)
#undef METER_OPTIONS
};

/**
 * Makes and starts the meters that the options ask for, in the order of METER_KINDS.
 * @param ret  METERS_MAX of them
 * @return how many, or a negative errno; logged
 */
int meters_new(const struct meters_options *options, const struct meter_host *host,
               struct meter **ret);
