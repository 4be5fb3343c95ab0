/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/meters.h"

#include "util/log.h"
#include "util/macros.h"

#define MAKE(kind)                                                                                 \
    static int make_##kind(const struct meters_options *options, const struct meter_host *host,    \
                           struct meter **ret)                                                     \
    {                                                                                              \
        return meter_##kind##_new(ret, host, &options->kind);                                      \
    }
METER_KINDS(MAKE)

static const struct {
    const char *name;
    int (*make)(const struct meters_options *options, const struct meter_host *host,
                struct meter **ret);
} kinds[] = {
#define ROW(kind) {#kind, make_##kind},
    METER_KINDS(ROW)};

int meters_new(const struct meters_options *options, const struct meter_host *host,
               struct meter **ret)
{
    int n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct meter *meter = NULL;
        int r = kinds[i].make(options, host, &meter);

        if (r == 0 && meter)
            r = meter_start(meter, host->event);
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
