/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The small parsers of sysfs texts, listen addresses, sensors, learned
   relations and names. */

#include "fuzz.h"

#include <math.h>
#include <string.h>

#include "meter/meter_hwmon.h"
#include "meter/meter_snmp.h"
#include "platform/platform_store.h"
#include "powercapfs/names.h"
#include "source/rapl.h"
#include "util/listen_address.h"
#include "util/parse.h"
#include "util/utf8.h"

static void fuzz_strings(const char *text)
{
    static struct snmp_oids oids;
    struct hwmon_sensors sensors;
    struct listen_address address;
    char copy[256];
    struct zone zone = {0};
    tree_name name;
    uint64_t value;
    double real;
    unsigned mode;

    (void)parse_duration_ns(text, &value);
    (void)parse_power_uw(text, &value);
    (void)parse_energy_uj(text, &value);
    (void)parse_decimal_e9(text, &value);
    if (parse_real(text, &real) == 0)
        require(real >= 0 && isfinite(real));
    (void)parse_mode(text, &mode);
    if (listen_address_parse(text, &address) == 0)
        require(address.length <= sizeof(address.local) && listen_address_port(&address) <= 65535);
    if (rapl_parse_zone("intel-rapl:0", text, NULL, &zone) == 0)
        require(strnlen(zone.name, ZONE_NAME_MAX) < ZONE_NAME_MAX);
    (void)rapl_parse_zone("intel-rapl:0:0", "core", text, &zone);
    if (hwmon_parse_sensors(text, &sensors) == 0)
        require(sensors.n > 0 && sensors.n <= HWMON_SENSORS_MAX);
    if (snmp_parse_oids(text, &oids) == 0)
        require(oids.n > 0 && oids.n <= SNMP_OIDS_MAX && oids.list[0].n >= 2);
    tree_name_sanitise(text, name);
    require(name[0] != '\0' && name[0] != '.' && !strchr(name, '/') && strlen(name) <= NAME_MAX);
    utf8_replace_invalid(text, copy, sizeof(copy));
    for (size_t i = 0; copy[i];) {
        size_t length = utf8_character_length(copy + i, strlen(copy + i));

        require(length > 0);
        i += length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), line[PLATFORM_RELATION_MAX];
    struct platform_relation relation;
    uint64_t value;

    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    (void)parse_sysfs_u64((const char *)data, size, &value);
    if (platform_relation_parse((const char *)data, size, &relation) == 0)
        require(platform_relation_format(&relation, line, sizeof(line)) > 0 &&
                platform_relation_parse(line, strlen(line) - 1, &relation) == 0);
    fuzz_strings(text);
    free(text);
    return 0;
}
