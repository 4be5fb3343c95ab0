/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source/estimate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/cpu_busy.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

struct estimate {
    struct energy_source head;
    struct estimate_curve curve;
    struct cpu_busy *busy;
    uint64_t last_ns;      /* time, busy time of all CPUs and CPU count at the last reading */
    uint64_t last_busy_ns; /* 0 before the first reading */
    double energy_uj;      /* exact to below 1 uJ up to 2^53 uJ, 285 years of a watt */
    bool failed;
};

double estimate_power_uw(const struct estimate_curve *curve, double utilisation)
{
    double u = fmin(fmax(utilisation, 0), 1);

    return (double)curve->idle_uw +
           (double)(curve->max_uw - curve->idle_uw) * pow(u, curve->exponent);
}

static int advance(struct estimate *estimate, uint64_t time_ns)
{
    uint64_t busy_ns = 0;
    int r = cpu_busy_update(estimate->busy, time_ns);

    if (r < 0)
        return r;
    for (size_t cpu = 0; cpu < cpu_busy_count(estimate->busy); cpu++)
        busy_ns += cpu_busy_ns(estimate->busy, cpu);
    if (estimate->last_ns) {
        double elapsed_ns = (double)(time_ns - estimate->last_ns);
        double capacity_ns = elapsed_ns * (double)cpu_busy_online(estimate->busy);
        double utilisation = (double)(busy_ns - estimate->last_busy_ns) / fmax(capacity_ns, 1);

        estimate->energy_uj +=
            estimate_power_uw(&estimate->curve, utilisation) * elapsed_ns / (double)NSEC_PER_SEC;
    }
    estimate->last_ns = time_ns;
    estimate->last_busy_ns = busy_ns;
    return 0;
}

static void estimate_read(struct energy_source *source, struct reading *ret)
{
    struct estimate *estimate = (struct estimate *)source;
    uint64_t time_ns = now_ns();
    int r = advance(estimate, time_ns);

    if (r < 0 && !estimate->failed)
        log_warning("CPU utilisation unreadable, no energy can be estimated", F_ERROR(r));
    estimate->failed = r < 0;
    ret[0] = (struct reading){
        .valid = r == 0,
        .time_ns = time_ns,
        .energy_uj = (uint64_t)estimate->energy_uj,
    };
}

static void estimate_free(struct energy_source *source)
{
    struct estimate *estimate = (struct estimate *)source;

    cpu_busy_free(estimate->busy);
    free(estimate);
}

static const struct energy_source_ops estimate_ops = {
    .name = "estimate",
    .estimate = true,
    .read = estimate_read,
    .free = estimate_free,
};

DEFINE_CLEANUP(struct energy_source *, energy_source_free);

int estimate_new(struct energy_source **ret, const struct estimate_curve *curve,
                 const char *proc_root)
{
    _cleanup_(cleanup_energy_source_free) struct energy_source *source = NULL;
    struct estimate *estimate = calloc(1, sizeof(*estimate));
    int r;

    if (!estimate)
        return -ENOMEM;
    source = &estimate->head;
    source->ops = &estimate_ops;
    source->zones.n = 1;
    source->zones.zones[0] = (struct zone){
        .name = "package-0",
        .kind = ZONE_PACKAGE,
        .socket = ZONE_ALL_SOCKETS,
        .max_energy_uj = UINT64_MAX,
    };
    estimate->curve = *curve;
    r = cpu_busy_new(&estimate->busy, proc_root);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(source);
    return 0;
}
