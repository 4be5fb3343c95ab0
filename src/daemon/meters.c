/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/meters.h"

#include <stdio.h>
#include <string.h>

#include "util/log.h"

static int new_hwmon(const struct config *config, sd_event *event, struct meter **ret)
{
    struct hwmon_sensors sensors = config->hwmon_sensors;

    if (config->hwmon == CONFIG_HWMON_NONE)
        return 0;
    if (config->hwmon == CONFIG_HWMON_AUTO) {
        hwmon_parse_sensors(HWMON_ACPI_METER, &sensors);
        if (!hwmon_has_chip(config->sysfs_root, sensors.list[0].chip))
            return 0;
    }
    return meter_hwmon_new(ret, event, config->sysfs_root, &sensors, config->hwmon_interval_ns);
}

static int new_dcmi(const struct config *config, sd_event *event, struct meter **ret)
{
    struct dcmi_options options = config->dcmi;

    if (strcmp(options.device, "none") == 0)
        return 0;
    if (strcmp(options.device, "auto") == 0) {
        const char *device = dcmi_find_device();

        if (!device)
            return 0;
        snprintf(options.device, sizeof(options.device), "%s", device);
    }
    return meter_dcmi_new(ret, event, &options);
}

static int new_redfish(const struct config *config, sd_event *event, struct meter **ret)
{
    return config->redfish.url[0] ? meter_redfish_new(ret, event, &config->redfish) : 0;
}

static int new_snmp(const struct config *config, sd_event *event, struct meter **ret)
{
    return config->snmp.address[0] ? meter_snmp_new(ret, event, &config->snmp) : 0;
}

int meters_new(const struct config *config, sd_event *event, struct meter **ret)
{
    static const struct {
        const char *name;
        int (*new)(const struct config *config, sd_event *event, struct meter **ret);
    } kinds[METERS_MAX] = {
        {"hwmon", new_hwmon}, {"dcmi", new_dcmi}, {"redfish", new_redfish}, {"snmp", new_snmp}};
    int n = 0;

    for (size_t i = 0; i < METERS_MAX; i++) {
        struct meter *meter = NULL;
        int r = kinds[i].new(config, event, &meter);

        if (r == 0 && meter)
            r = meter_start(meter, event);
        if (r < 0) {
            log_error("meter cannot be made", F_STRING("meter", kinds[i].name), F_ERROR(r));
            meter_free(meter);
            while (n > 0)
                meter_free(ret[--n]);
            return r;
        }
        if (meter)
            ret[n++] = meter;
    }
    return n;
}
