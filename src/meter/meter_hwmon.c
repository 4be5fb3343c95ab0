/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/meter_hwmon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "meter/meter_threaded.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/cursor.h"
#include "util/file.h"
#include "util/log.h"

/* Firmware that is asked through ACPI may take seconds. */
#define ANSWER_TIMEOUT_NS (10 * NSEC_PER_SEC)
/* Between the first two looks at an energy counter. */
#define FIRST_SPAN_NS NSEC_PER_SEC

struct hwmon_reader {
    char path[PATH_MAX]; /* of the class directory */
    struct hwmon_sensors sensors;
    uint64_t last_energy_uj; /* of all counters together */
    uint64_t last_ns;        /* CLOCK_MONOTONIC of that; 0: not yet */
};

/* The sum of all sensors. */
struct sum {
    unsigned n_power, n_energy;
    uint64_t power_uw, energy_uj;
    uint64_t averaged_ns;
};

static int parse_sensor(struct cursor *c, struct hwmon_sensor *ret)
{
    struct hwmon_sensor sensor = {0};
    const char *slash = memchr(c->p, '/', (size_t)(c->end - c->p));
    uint64_t number;

    if (!slash || slash == c->p || slash - c->p >= HWMON_NAME_MAX)
        return -EINVAL;
    memcpy(sensor.chip, c->p, (size_t)(slash - c->p));
    if (strcspn(sensor.chip, " \t\n") != strlen(sensor.chip))
        return -EINVAL;
    c->p = slash + 1;
    sensor.energy = take_text(c, "energy");
    if (!sensor.energy && !take_text(c, "power"))
        return -EINVAL;
    if (!take_digits(c, &number) || number == 0 || number > 999)
        return -EINVAL;
    sensor.number = (unsigned)number;
    *ret = sensor;
    return 0;
}

int hwmon_parse_sensors(const char *text, struct hwmon_sensors *ret)
{
    struct cursor c = {text, text + strlen(text)};
    struct hwmon_sensors sensors = {0};

    do {
        skip_blanks(&c);
        if (sensors.n == HWMON_SENSORS_MAX || parse_sensor(&c, &sensors.list[sensors.n++]) < 0)
            return -EINVAL;
    } while (take_byte(&c, ' '));
    if (c.p != c.end)
        return -EINVAL;
    *ret = sensors;
    return 0;
}

static int read_attribute(int chip_fd, const struct hwmon_sensor *sensor, const char *what,
                          uint64_t *ret)
{
    char name[64];

    snprintf(name, sizeof(name), "%s%u_%s", sensor->energy ? "energy" : "power", sensor->number,
             what);
    return read_sysfs_u64(chip_fd, name, ret);
}

static int add_power(int chip_fd, const struct hwmon_sensor *sensor, struct sum *sum)
{
    uint64_t power_uw, interval_ms = 0;
    int r = read_attribute(chip_fd, sensor, "average", &power_uw);

    if (r == 0)
        read_attribute(chip_fd, sensor, "average_interval", &interval_ms);
    else if (r == -ENOENT)
        r = read_attribute(chip_fd, sensor, "input", &power_uw);
    if (r < 0)
        return r;
    sum->n_power++;
    sum->power_uw += power_uw;
    if (interval_ms * NSEC_PER_MSEC > sum->averaged_ns)
        sum->averaged_ns = interval_ms * NSEC_PER_MSEC;
    return 0;
}

static int add_energy(int chip_fd, const struct hwmon_sensor *sensor, struct sum *sum)
{
    uint64_t energy_uj;
    int r = read_attribute(chip_fd, sensor, "input", &energy_uj);

    if (r < 0)
        return r;
    sum->n_energy++;
    sum->energy_uj += energy_uj;
    return 0;
}

/* @return the chip's directory, -ENODEV for a chip of another name, or another negative errno */
static int open_chip(int class_fd, const char *entry, const char *chip)
{
    _cleanup_close_ int chip_fd = openat(class_fd, entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[HWMON_NAME_MAX + 1];
    ssize_t length;

    if (chip_fd < 0)
        return -errno;
    length = read_file(chip_fd, "name", name, sizeof(name));
    if (length < 0)
        return (int)length;
    name[strcspn(name, "\n")] = '\0';
    return strcmp(name, chip) == 0 ? TAKE_FD(chip_fd) : -ENODEV;
}

/* A sum that lacks a part would be wrong, so the first failure ends it. */
static int add_sensor(const char *path, const struct hwmon_sensor *sensor, struct sum *sum)
{
    _cleanup_closedir_ DIR *dir = opendir(path);
    const struct dirent *entry;
    bool found = false;

    if (!dir)
        return -errno;
    while ((entry = readdir(dir))) {
        _cleanup_close_ int chip_fd = -1;
        int r;

        if (entry->d_name[0] == '.')
            continue;
        chip_fd = open_chip(dirfd(dir), entry->d_name, sensor->chip);
        if (chip_fd == -ENODEV || chip_fd == -ENOENT)
            continue;
        if (chip_fd < 0)
            return chip_fd;
        r = sensor->energy ? add_energy(chip_fd, sensor, sum) : add_power(chip_fd, sensor, sum);
        if (r < 0)
            return r;
        found = true;
    }
    return found ? 0 : -ENODEV;
}

static bool add_sensors(const struct hwmon_reader *reader, struct sum *ret,
                        struct meter_outcome *outcome)
{
    *ret = (struct sum){0};
    for (size_t i = 0; i < reader->sensors.n; i++) {
        const struct hwmon_sensor *sensor = &reader->sensors.list[i];
        int r = add_sensor(reader->path, sensor, ret);

        if (r == 0)
            continue;
        meter_outcome_fail(outcome, meter_state_of_errno(r), "%s/%s%u: %s", sensor->chip,
                           sensor->energy ? "energy" : "power", sensor->number, log_errno_text(r));
        return false;
    }
    return true;
}

/* Adds the mean power of the energy counters since the last look. @return false: this is the first
   look, or a counter went backwards */
static bool take_energy(struct hwmon_reader *reader, struct sum *sum)
{
    uint64_t time_ns = now_ns();
    uint64_t span_ns = time_ns - reader->last_ns;
    uint64_t last_uj = reader->last_energy_uj;
    bool known = reader->last_ns && sum->energy_uj >= last_uj;

    reader->last_ns = time_ns;
    reader->last_energy_uj = sum->energy_uj;
    if (!known)
        return false;
    /* 128 bits: microjoules times 10^9. */
    sum->power_uw += (uint64_t)((unsigned __int128)(sum->energy_uj - last_uj) * NSEC_PER_SEC /
                                (span_ns ? span_ns : 1));
    sum->averaged_ns = span_ns;
    return true;
}

static void hwmon_read(void *data, struct meter_outcome *ret)
{
    struct hwmon_reader *reader = data;
    struct sum sum;

    if (!add_sensors(reader, &sum, ret))
        return;
    if (sum.n_energy > 0 && !take_energy(reader, &sum)) {
        const struct timespec span = ns_to_timespec(FIRST_SPAN_NS);

        clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL);
        if (!add_sensors(reader, &sum, ret))
            return;
        if (!take_energy(reader, &sum)) {
            meter_outcome_fail(ret, METER_MALFORMED, "an energy counter runs backwards");
            return;
        }
    }
    ret->state = METER_OK;
    ret->reading = (struct meter_reading){
        .power_uw = sum.power_uw,
        .resolution_uw = 1,
        .averaged_ns = sum.averaged_ns,
    };
}

static const struct meter_reader_ops hwmon_ops = {
    .name = "hwmon",
    .read = hwmon_read,
    .free = free,
};

/* The target is all of the options. */
static int value_sensors(const char *value, void *target)
{
    struct hwmon_options *options = target;
    struct hwmon_sensors sensors = {0};
    bool find = strcmp(value, "auto") == 0;
    int r = find || strcmp(value, "none") == 0 ? 0 : hwmon_parse_sensors(value, &sensors);

    if (r < 0)
        return r;
    options->find = find;
    options->sensors = sensors;
    return 0;
}

static const struct config_key keys[] = {
    {"hwmon", "sensors", value_sensors, 0, "auto",
     "auto, none, or sensors of chips by their names, such as \"ina226/power1\""},
    {"hwmon", "interval", value_duration, offsetof(struct hwmon_options, interval_ns), "5s",
     "a duration with its unit, such as 5s"},
};

const struct config_keys hwmon_keys = {CONFIG_KEYS(keys)};

static bool has_chip(const char *class_path, const char *chip)
{
    _cleanup_closedir_ DIR *dir = opendir(class_path);
    const struct dirent *entry;
    bool found = false;

    while (dir && !found && (entry = readdir(dir))) {
        _cleanup_close_ int chip_fd = open_chip(dirfd(dir), entry->d_name, chip);

        found = chip_fd >= 0;
    }
    return found;
}

int meter_hwmon_new(struct meter **ret, const struct meter_host *host,
                    const struct hwmon_options *options)
{
    static const struct hwmon_sensors acpi = {.n = 1,
                                              .list = {{.chip = "power_meter", .number = 1}}};
    _cleanup_free_ struct hwmon_reader *reader = calloc(1, sizeof(*reader));
    int r;

    if (!reader)
        return -ENOMEM;
    snprintf(reader->path, sizeof(reader->path), "%s/class/hwmon", host->sysfs_root);
    reader->sensors = options->find ? acpi : options->sensors;
    if (reader->sensors.n == 0 || (options->find && !has_chip(reader->path, acpi.list[0].chip)))
        return 0;
    r = meter_threaded_new(ret, host->event, &hwmon_ops, reader, options->interval_ns,
                           ANSWER_TIMEOUT_NS);
    if (r == 0)
        (void)TAKE_PTR(reader);
    return r;
}
