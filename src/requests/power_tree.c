/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/power_tree.h"

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

struct power_tree {
    char *root;                   /* NULL: the well-known ones */
    const char *used;             /* the root of the source */
    struct energy_source *source; /* NULL: there is no tree */
    bool lost_logged;
    struct zone_set zones; /* of the last source */
    struct sampler sampler;
    struct power_tree_reading reading;
};

int power_tree_new(struct power_tree **ret, const char *root)
{
    struct power_tree *tree = calloc(1, sizeof(*tree));

    if (!tree)
        return -ENOMEM;
    tree->root = root ? strdup(root) : NULL;
    if (root && !tree->root) {
        free(tree);
        return -ENOMEM;
    }
    *ret = tree;
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

static int open_root(struct power_tree *tree, const char *root)
{
    int r = rapl_new(&tree->source, root);

    if (r < 0)
        return r;
    tree->used = root;
    log_info("energy tree found", F_STRING("root", root));
    tree->lost_logged = false;
    /* Other zones' counters have nothing to do with the last readings. */
    if (!same_zones(&tree->zones, &tree->source->zones)) {
        tree->reading.reset = tree->zones.n > 0;
        tree->sampler = (struct sampler){0};
    }
    tree->zones = tree->source->zones;
    return 0;
}

static void open_tree(struct power_tree *tree)
{
    int r = open_root(tree, tree->root ? tree->root : POWER_TREE_SHARE);

    if (r < 0 && !tree->root)
        r = open_root(tree, "/sys");
    if (r < 0 && !tree->lost_logged) {
        log_warning("no energy tree, looking for it again and again",
                    F_STRING("root", tree->root ? tree->root : POWER_TREE_SHARE " and /sys"),
                    F_ERROR(r));
        tree->lost_logged = true;
    }
}

static uint64_t read_time(const struct power_tree *tree, const char *name)
{
    char path[PATH_MAX];
    uint64_t time_us;

    snprintf(path, sizeof(path), "%s/virtjoule/%s", tree->used, name);
    if (read_sysfs_u64(AT_FDCWD, path, &time_us) < 0 || time_us > UINT64_MAX / NSEC_PER_USEC)
        return 0;
    return time_us * NSEC_PER_USEC;
}

/*
 * A shared tree moves from one of its samples to the next within the interval
 * after the second: it is one interval late, or, when the next sample is, as old
 * as the last. The machine's own counters are not late.
 */
static uint64_t read_delay(const struct power_tree *tree)
{
    uint64_t interval_ns = read_time(tree, "interval_us"), age_ns = read_time(tree, "age_us");

    return age_ns > interval_ns ? age_ns : interval_ns;
}

static void add_sample(struct power_tree *tree, const struct reading *readings)
{
    struct sampler *sampler = &tree->sampler;
    struct sample sample;
    struct reading last[ZONES_MAX];

    memcpy(last, sampler->last, sizeof(last));
    sampler->suspended_after_ns = clock_suspended_ns();
    sampler_take(sampler, &tree->zones, readings, now_ns(), &sample);
    for (size_t i = 0; i < tree->zones.n; i++) {
        if (!counts(&tree->zones, i) || !readings[i].valid || !last[i].valid)
            continue;
        if (sample.zones[i].valid)
            tree->reading.energy_uj += sample.zones[i].energy_uj;
        else
            tree->reading.reset = true;
    }
}

/* @return is there a zone that counts and could be read? */
static bool read_zones(struct power_tree *tree)
{
    struct reading readings[ZONES_MAX] = {0};
    bool any = false;

    tree->sampler.suspended_before_ns = clock_suspended_ns();
    tree->source->ops->read(tree->source, readings);
    for (size_t i = 0; i < tree->zones.n; i++)
        any |= counts(&tree->zones, i) && readings[i].valid;
    if (any)
        add_sample(tree, readings);
    return any;
}

void power_tree_read(struct power_tree *tree, struct power_tree_reading *ret)
{
    tree->reading.known = tree->reading.reset = false;
    if (!tree->source)
        open_tree(tree);
    if (tree->source && read_zones(tree)) {
        tree->reading.delay_ns = read_delay(tree);
        tree->reading.known = true;
    } else if (tree->source) {
        log_warning("energy tree lost", F_STRING("root", tree->used));
        tree->source = energy_source_free(tree->source);
        tree->lost_logged = true;
    }
    *ret = tree->reading;
}

struct power_tree *power_tree_free(struct power_tree *tree)
{
    if (!tree)
        return NULL;
    energy_source_free(tree->source);
    free(tree->root);
    free(tree);
    return NULL;
}
