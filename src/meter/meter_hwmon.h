/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Power sensors of the kernel's hwmon class: powerN_average, powerN_input,
 * energyN_input (Linux, Documentation/hwmon/sysfs-interface.rst: microwatts and
 * microjoules).
 *
 * Most of them measure a part of the machine only. ACPI's power meter (chip
 * "power_meter") measures all of it (ACPI 6.5, section 10.4), so it is used unless
 * the configuration says otherwise.
 */

#include "meter/meter.h"
#include "util/config_keys.h"

#define HWMON_SENSORS_MAX 8
#define HWMON_NAME_MAX 64

/** A sensor on every chip of that name: two supplies that share the load are two such chips. */
struct hwmon_sensor {
    char chip[HWMON_NAME_MAX]; /* the content of the chip's name file */
    bool energy;               /* energyN, else powerN */
    unsigned number;           /* N */
};

/** Sensors of which the sum is the machine's power. */
struct hwmon_sensors {
    size_t n;
    struct hwmon_sensor list[HWMON_SENSORS_MAX];
};

struct hwmon_options {
    bool find;                    /* ACPI's power meter, if there is one */
    struct hwmon_sensors sensors; /* otherwise; none: no meter */
    uint64_t interval_ns;
};

extern const struct config_keys hwmon_keys;

/**
 * Reads a list of sensors: "power_meter/power1", "ina226/power1 ina226/power2".
 * @return 0 or -EINVAL
 */
int hwmon_parse_sensors(const char *text, struct hwmon_sensors *ret);

/**
 * A meter that has yet to be started.
 * @param ret  stays as it is if the options ask for no meter, or for ACPI's and there is none
 * @return 0 or a negative errno
 */
int meter_hwmon_new(struct meter **ret, const struct meter_host *host,
                    const struct hwmon_options *options);
