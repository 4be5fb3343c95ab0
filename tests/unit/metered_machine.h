/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A simulated machine, second by second: its RAPL power wanders, and a meter shows its whole
   power, late and coarse. */

#include "../lib/random.h"

struct metered_machine {
    double static_watts, slope;
    double io_joules_per_byte;
    double rapl_min, rapl_max;
    double io_max;      /* bytes per second; the disks come and go by themselves */
    unsigned delay_s;   /* of the meter */
    unsigned update_s;  /* it measures anew so often */
    unsigned average_s; /* ... the mean over so long */
    double noise;       /* of the meter, watts */
    double outliers;    /* part of what it shows that is anything */
    double other_watts; /* another machine on the same meter, up to so much */

    struct random random; /* its state is the seed, and the rest 0, to begin with */
    unsigned time_s;
    double rapl, io, other;
    double past[64]; /* true power by second */
    double shown;
};

/** The published host of tests/lib/thesis.c, with a good BMC. */
extern const struct metered_machine typical_machine;

/** The power that it draws in this second, watts, truly. */
double metered_machine_watts(const struct metered_machine *machine);

/** One second. @return what the meter shows at its end, watts */
double metered_machine_step(struct metered_machine *machine);
