/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "metered_machine.h"

#include <math.h>

#define PAST_S (sizeof(((struct metered_machine *)0)->past) / sizeof(double))

const struct metered_machine typical_machine = {
    .static_watts = 177.8,
    .slope = 1.334,
    .rapl_min = 90,
    .rapl_max = 280,
    .delay_s = 2,
    .update_s = 1,
    .average_s = 1,
    .noise = 0.5,
};

static void next_load(struct metered_machine *machine)
{
    double range = machine->rapl_max - machine->rapl_min;

    if (machine->rapl <= 0 || random_uniform(&machine->random, 0, 1) < 0.02)
        machine->rapl = machine->rapl_min + range * random_uniform(&machine->random, 0, 1);
    machine->rapl += 0.05 * range * random_normal(&machine->random);
    machine->rapl = fmin(fmax(machine->rapl, machine->rapl_min), machine->rapl_max);
    if (random_uniform(&machine->random, 0, 1) < 0.02)
        machine->io = machine->io_max * random_uniform(&machine->random, 0, 1);
    if (random_uniform(&machine->random, 0, 1) < 0.02)
        machine->other = machine->other_watts * random_uniform(&machine->random, 0, 1);
}

/* What the meter shows at the end of this second. */
static double meter_watts(struct metered_machine *machine)
{
    double sum = 0;

    if (machine->time_s % machine->update_s != 0)
        return machine->shown;
    for (unsigned i = 0; i < machine->average_s; i++)
        sum += machine->past[(machine->time_s - machine->delay_s - i) % PAST_S];
    machine->shown = round(sum / machine->average_s +
                           machine->noise * random_normal(&machine->random) + machine->other);
    return machine->shown;
}

double metered_machine_watts(const struct metered_machine *machine)
{
    return machine->static_watts + machine->slope * machine->rapl +
           machine->io_joules_per_byte * machine->io;
}

double metered_machine_step(struct metered_machine *machine)
{
    double shown;

    next_load(machine);
    machine->past[machine->time_s % PAST_S] = metered_machine_watts(machine);
    shown = meter_watts(machine);
    machine->time_s++;
    return random_uniform(&machine->random, 0, 1) < machine->outliers
               ? 1 + 2000 * random_uniform(&machine->random, 0, 1)
               : shown;
}
