/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Power sensors of the kernel's hwmon class: powerN_average, powerN_input,
 * energyN_input (Linux, Documentation/hwmon/sysfs-interface.rst: microwatts and
 * microjoules).
 *
 * Most of them measure a part of the machine only. What is looked for without
 * being told is ACPI's power meter (chip "power_meter"), which measures all of it
 * (ACPI 6.5, section 10.4).
 */

#include "meter/meter.h"

#define HWMON_SENSORS_MAX 8
#define HWMON_NAME_MAX 64

/** A sensor, on every chip of that name: supplies that share the load have two of it. */
struct hwmon_sensor {
    char chip[HWMON_NAME_MAX]; /* content of the chip's name file */
    bool energy;               /* energyN, else powerN */
    unsigned number;           /* N */
};

/** Sensors of which the sum is the machine's power. */
struct hwmon_sensors {
    size_t n;
    struct hwmon_sensor list[HWMON_SENSORS_MAX];
};

/**
 * Reads a list of sensors: "power_meter/power1", "ina226/power1 ina226/power2".
 * @return 0 or -EINVAL
 */
int hwmon_parse_sensors(const char *text, struct hwmon_sensors *ret);

/** The sensor of ACPI's power meter. */
#define HWMON_ACPI_METER "power_meter/power1"

/** Is there a chip of that name? @param sysfs_root  see meter_hwmon_new() */
bool hwmon_has_chip(const char *sysfs_root, const char *chip);

/**
 * A meter that has yet to be started.
 * @param sysfs_root  "/sys", or a directory laid out like it
 * @return 0 or a negative errno
 */
int meter_hwmon_new(struct meter **ret, sd_event *event, const char *sysfs_root,
                    const struct hwmon_sensors *sensors, uint64_t interval_ns);
