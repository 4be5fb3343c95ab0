/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/powercap_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source/energy_source.h"
#include "source/rapl.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/paths.h"

struct powercap_reader {
    char *root;                   /* NULL: SHARE_MOUNTPOINT, else /sys */
    const char *used;             /* the root of the source */
    struct energy_source *source; /* NULL: there is no tree */
    bool lost_logged;
    struct zone_set zones; /* of the last source */
    struct sampler sampler;
    struct powercap_energy energy;
};

int powercap_reader_new(struct powercap_reader **ret, const char *root)
{
    struct powercap_reader *reader = calloc(1, sizeof(*reader));

    if (!reader)
        return -ENOMEM;
    reader->root = root ? strdup(root) : NULL;
    if (root && !reader->root) {
        free(reader);
        return -ENOMEM;
    }
    *ret = reader;
    return 0;
}

static bool has_kind(const struct zone_set *zones, enum zone_kind kind)
{
    for (size_t i = 0; i < zones->n; i++)
        if (zones->zones[i].kind == kind)
            return true;
    return false;
}

/* Core and uncore are inside the package, package and memory inside psys. */
static bool counts(const struct zone_set *zones, size_t slot)
{
    enum zone_kind kind = zones->zones[slot].kind;

    if (has_kind(zones, ZONE_PACKAGE))
        return kind == ZONE_PACKAGE || kind == ZONE_DRAM;
    return kind == ZONE_PSYS;
}

static bool same_zones(const struct zone_set *a, const struct zone_set *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->zones[i].name, b->zones[i].name) != 0 ||
            a->zones[i].max_energy_uj != b->zones[i].max_energy_uj)
            return false;
    return true;
}

static int open_root(struct powercap_reader *reader, const char *root)
{
    int r = rapl_new(&reader->source, root);

    if (r < 0)
        return r;
    reader->used = root;
    log_info("energy tree found", F_STRING("root", root));
    reader->lost_logged = false;
    /* The counters of other zones are unrelated to the last readings. */
    if (!same_zones(&reader->zones, &reader->source->zones)) {
        reader->energy.reset = reader->zones.n > 0;
        reader->sampler = (struct sampler){0};
    }
    reader->zones = reader->source->zones;
    return 0;
}

static void open_tree(struct powercap_reader *reader)
{
    int r = open_root(reader, reader->root ? reader->root : SHARE_MOUNTPOINT);

    if (r < 0 && !reader->root)
        r = open_root(reader, "/sys");
    if (r < 0 && !reader->lost_logged) {
        log_warning("no energy tree, the search goes on",
                    F_STRING("root", reader->root ? reader->root : SHARE_MOUNTPOINT " and /sys"),
                    F_ERROR(r));
        reader->lost_logged = true;
    }
}

static uint64_t read_time(const struct powercap_reader *reader, const char *name)
{
    char path[PATH_MAX];
    uint64_t time_us;

    snprintf(path, sizeof(path), "%s/virtjoule/%s", reader->used, name);
    if (read_sysfs_u64(AT_FDCWD, path, &time_us) < 0 || time_us > UINT64_MAX / NSEC_PER_USEC)
        return 0;
    return time_us * NSEC_PER_USEC;
}

/*
 * A shared tree moves from one of its samples to the next within the interval
 * after the second: it is one interval late, or, when the next sample is, as old
 * as the last. The machine's own counters are not late.
 */
static uint64_t read_delay(const struct powercap_reader *reader)
{
    uint64_t interval_ns = read_time(reader, "interval_us"), age_ns = read_time(reader, "age_us");

    return age_ns > interval_ns ? age_ns : interval_ns;
}

static void add_sample(struct powercap_reader *reader, const struct reading *readings)
{
    struct sampler *sampler = &reader->sampler;
    struct sample sample;
    struct reading last[ZONES_MAX];

    memcpy(last, sampler->last, sizeof(last));
    sampler->suspended_after_ns = clock_suspended_ns();
    sampler_take(sampler, &reader->zones, readings, now_ns(), &sample);
    for (size_t i = 0; i < reader->zones.n; i++) {
        if (!counts(&reader->zones, i) || !readings[i].valid || !last[i].valid)
            continue;
        if (sample.zones[i].valid)
            reader->energy.energy_uj += sample.zones[i].energy_uj;
        else
            reader->energy.reset = true;
    }
}

/* @return whether a zone that counts could be read */
static bool read_zones(struct powercap_reader *reader)
{
    struct reading readings[ZONES_MAX] = {0};
    bool any = false;

    reader->sampler.suspended_before_ns = clock_suspended_ns();
    reader->source->ops->read(reader->source, readings);
    for (size_t i = 0; i < reader->zones.n; i++)
        any |= counts(&reader->zones, i) && readings[i].valid;
    if (any)
        add_sample(reader, readings);
    return any;
}

void powercap_reader_read(struct powercap_reader *reader, struct powercap_energy *ret)
{
    reader->energy.known = reader->energy.reset = false;
    if (!reader->source)
        open_tree(reader);
    if (reader->source && read_zones(reader)) {
        reader->energy.delay_ns = read_delay(reader);
        reader->energy.known = true;
    } else if (reader->source) {
        log_warning("energy tree lost", F_STRING("root", reader->used));
        reader->source = energy_source_free(reader->source);
        reader->lost_logged = true;
    }
    *ret = reader->energy;
}

struct powercap_reader *powercap_reader_free(struct powercap_reader *reader)
{
    if (!reader)
        return NULL;
    energy_source_free(reader->source);
    free(reader->root);
    free(reader);
    return NULL;
}
