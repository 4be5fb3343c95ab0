/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a VM that does next to nothing reads of its neighbour's load from its own counter.
 *
 * The neighbour sends random bits: in each slot of ten seconds it is busy or idle. The observer
 * notes by how much its counter grows in each slot, and takes a slot above a threshold for a busy
 * one. It knows the best threshold, and which side of it means busy, from a message that it was
 * told before, on a host that is alike. The same host is told by daemons with different settings.
 *
 * Exits 1 if the default tells more than guessing does, or if the experiment is no good: without
 * a baseline every bit must be read.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "baseline/static_powers.h"
#include "laboratory.h"
#include "ledger/ledger.h"
#include "observer.h"
#include "util/clock.h"
#include "util/log.h"

#define BITS 16 /* of a message */
#define MESSAGES 16
#define SEED 100
#define SLOT_S 10
#define HISTORY_S 600
#define QUANTUM_UJ 1000
#define WRONG 0.9

enum { OBSERVER = 1, NEIGHBOUR };

/* What a daemon is told, the static power and the policy. */
enum channel_id {
    CHANNEL_NONE,
    CHANNEL_KNOWN, /* the true one */
    CHANNEL_WRONG,
    CHANNEL_AUTO, /* the default */
    CHANNEL_EQUAL,
    CHANNEL_PROPORTIONAL,
    CHANNEL_VCPU,
    CHANNEL_DRAM,           /* the memory's counter, by default */
    CHANNEL_DRAM_UNCOUNTED, /* the same where no cache misses are counted */
    CHANNELS,
};

struct setting {
    const char *name;
    bool learned; /* the daemon has run for ten minutes, under varied load; else it just began */
    bool steady;  /* the observer works like a clock, else as an idle guest does */
};

static const struct setting settings[] = {
    {"daemon just started, idle observer", false, false},
    {"daemon just started, observer like a clock", false, true},
    {"static power learned, idle observer", true, false},
    {"static power learned, observer like a clock", true, true},
};

static const char *const channel_names[CHANNELS] = {
    [CHANNEL_NONE] = "none",
    [CHANNEL_KNOWN] = "configured, exact",
    [CHANNEL_WRONG] = "configured, a tenth too low",
    [CHANNEL_AUTO] = "auto",
    [CHANNEL_EQUAL] = "auto, equal",
    [CHANNEL_PROPORTIONAL] = "auto, proportional",
    [CHANNEL_VCPU] = "auto, vcpu",
    [CHANNEL_DRAM] = "auto, the memory's counter",
    [CHANNEL_DRAM_UNCOUNTED] = "auto, the memory's counter without counted misses",
};

static const enum static_policy policies[CHANNELS] = {
    [CHANNEL_EQUAL] = STATIC_EQUAL,
    [CHANNEL_PROPORTIONAL] = STATIC_PROPORTIONAL,
    [CHANNEL_VCPU] = STATIC_VCPU,
};

/* What an idle Linux guest does, and a program that reads its counter like a clock. */
static const struct workload idle = {.name = "idle guest",
                                     .mixes = {MIX_KERNEL},
                                     .n_mixes = 1,
                                     .burst_ms = 0.2,
                                     .random = true,
                                     .duty_low = 0.002,
                                     .duty_high = 0.002,
                                     .level_s = 1e9};
static const struct workload steady = {.name = "clockwork",
                                       .mixes = {MIX_KERNEL},
                                       .n_mixes = 1,
                                       .burst_ms = 0.2,
                                       .duty_low = 0.002,
                                       .duty_high = 0.002,
                                       .level_s = 1e9};
static const struct workload busy = {.name = "busy",
                                     .mixes = {MIX_SERVER},
                                     .n_mixes = 1,
                                     .burst_ms = 40,
                                     .duty_low = 1,
                                     .duty_high = 1,
                                     .level_s = 1e9};
static const struct workload varied = {.name = "varied",
                                       .mixes = {MIX_SERVER},
                                       .n_mixes = 1,
                                       .burst_ms = 20,
                                       .random = true,
                                       .duty_low = 0,
                                       .duty_high = 0.9,
                                       .level_s = 15};

struct transmission {
    struct host *host;
    struct observer *observer;
    struct attribution_model *model;
    struct static_powers *learned;
    struct static_powers *uncounted; /* learned without PMU counts */
    struct ledger *ledgers[CHANNELS];
    bool bits[BITS];
    double grown_uj[CHANNELS][BITS]; /* the observer's counters, by slot */
};

/* The daemon begins with the message, or ran before. */
static double start_s(const struct setting *setting)
{
    return setting->learned ? HISTORY_S : 0;
}

static void add_vms(struct transmission *sent, const struct setting *setting)
{
    double from_s = start_s(setting);

    for (unsigned vm = OBSERVER; vm <= NEIGHBOUR; vm++) {
        require(host_add_vm(sent->host, 4, 1, 20) == vm, "the VMs have other numbers");
        host_add_tasks(sent->host, vm, 2, vm == OBSERVER && setting->steady ? &steady : &idle, 1, 0,
                       INFINITY);
    }
    host_add_tasks(sent->host, NEIGHBOUR, 4, &varied, 1, 0, from_s);
    for (unsigned i = 0; i < BITS; i++) {
        sent->bits[i] = random_uniform(&sent->host->random, 0, 1) < 0.5;
        if (sent->bits[i])
            host_add_tasks(sent->host, NEIGHBOUR, 4, &busy, 1, from_s + i * SLOT_S,
                           from_s + (i + 1) * SLOT_S);
    }
}

static void start(struct transmission *sent, const struct setting *setting, uint64_t seed)
{
    static const struct model_options options = MODEL_OPTIONS_DEFAULT;

    *sent = (struct transmission){.host = host_new(&machines[MACHINE_SMALL], seed)};
    add_vms(sent, setting);
    sent->observer = observer_new(sent->host, seed + 1);
    require(attribution_model_open("cputime", &options, &sent->model) == 0, "no such model");
    for (unsigned i = 0; i < 2; i++)
        require(static_powers_new(i ? &sent->uncounted : &sent->learned, NULL, 0,
                                  (struct static_power){.state = STATIC_LEARNING}, false) == 0,
                "out of memory");
    for (unsigned i = 0; i < CHANNELS; i++) {
        struct ledger_config config = {
            .interval_ns = NSEC_PER_SEC, .model = sent->model, .static_policy = policies[i]};

        require(ledger_new(&sent->ledgers[i], &config) == 0, "out of memory");
    }
}

static void finish(struct transmission *sent)
{
    for (unsigned i = 0; i < CHANNELS; i++)
        ledger_free(sent->ledgers[i]);
    attribution_model_free(sent->model);
    static_powers_free(sent->learned);
    static_powers_free(sent->uncounted);
    observer_free(sent->observer);
    host_free(sent->host);
}

static void learn(struct static_powers *learned, const struct zone_set *zones,
                  const struct observation *observation, const struct usage *usage)
{
    require(static_powers_update(learned, zones, &observation->sample, usage) == 0,
            "out of memory");
}

static void record(struct transmission *sent, const struct observation *observation)
{
    const struct zone_set *zones = observer_zones(sent->observer);
    struct static_power none[ZONES_MAX] = {0}, known[ZONES_MAX] = {0}, wrong[ZONES_MAX] = {0};
    const struct static_power *given[] = {none, known, wrong};
    struct usage uncounted = observation->usage;

    uncounted.features = 0;
    learn(sent->learned, zones, observation, &observation->usage);
    learn(sent->uncounted, zones, observation, &uncounted);
    for (size_t slot = 0; slot < zones->n; slot++) {
        double watts = zones->zones[slot].kind == ZONE_DRAM ? sent->host->machine->dram_static_watts
                                                            : sent->host->sockets[0].static_watts;

        known[slot].power_uw = (uint64_t)(watts * 1e6);
        wrong[slot].power_uw = (uint64_t)(watts * 1e6 * WRONG);
    }
    for (unsigned i = 0; i < CHANNELS; i++) {
        bool counted = i != CHANNEL_DRAM_UNCOUNTED;
        const struct static_power *learned =
            static_powers_by_slot(counted ? sent->learned : sent->uncounted);

        require(ledger_record(sent->ledgers[i], zones, &observation->sample,
                              counted ? &observation->usage : &uncounted,
                              i < CHANNEL_AUTO ? given[i] : learned) == 0,
                "out of memory");
    }
}

/* The observer's counter of the package, or of the memory. */
static uint64_t counter_uj(struct transmission *sent, enum channel_id channel)
{
    struct sample sample = {.time_ns = sent->host->time_us * 1000};
    struct snapshot *snapshot;
    uint64_t energy_uj = 0;
    uuid_t uuid;

    observer_uuid(OBSERVER, uuid);
    require(ledger_snapshot(sent->ledgers[channel], observer_zones(sent->observer), &sample,
                            sample.time_ns, &snapshot) == 0,
            "out of memory");
    const struct snapshot_vm *vm = snapshot_find_uuid(snapshot, uuid);
    if (vm)
        energy_uj =
            vm->dynamic_uj[channel >= CHANNEL_DRAM] + vm->static_uj[channel >= CHANNEL_DRAM];
    snapshot_free(snapshot);
    return energy_uj / QUANTUM_UJ * QUANTUM_UJ;
}

static void advance(struct transmission *sent, unsigned seconds)
{
    for (unsigned second = 0; second < seconds; second++) {
        struct observation observation;

        for (unsigned ms = 0; ms < 1000; ms++)
            host_step(sent->host);
        observer_read(sent->observer, &observation);
        record(sent, &observation);
        usage_deinit(&observation.usage);
    }
}

static void transmit(const struct setting *setting, uint64_t seed, struct transmission *sent)
{
    uint64_t before[CHANNELS];

    start(sent, setting, seed);
    advance(sent, (unsigned)start_s(setting));
    for (unsigned c = 0; c < CHANNELS; c++)
        before[c] = counter_uj(sent, c);
    for (unsigned i = 0; i < BITS; i++) {
        advance(sent, SLOT_S);
        for (unsigned c = 0; c < CHANNELS; c++) {
            uint64_t now = counter_uj(sent, c);

            sent->grown_uj[c][i] = (double)(now - before[c]);
            before[c] = now;
        }
    }
    finish(sent);
}

/* How a slot is read: busy above the threshold, or below it. */
struct decoder {
    double threshold_uj;
    bool below;
};

static unsigned count_correct(const struct transmission *sent, enum channel_id channel,
                              const struct decoder *decoder)
{
    unsigned correct = 0;

    for (unsigned i = 0; i < BITS; i++) {
        bool above = sent->grown_uj[channel][i] > decoder->threshold_uj;

        correct += (above != decoder->below) == sent->bits[i];
    }
    return correct;
}

/* The best one for a message that is known: halfway between two of its slots. */
static struct decoder train(const struct transmission *told, enum channel_id channel)
{
    const double *grown = told->grown_uj[channel];
    struct decoder best = {0};
    unsigned most = 0;

    for (unsigned i = 0; i < BITS * BITS * 2; i++) {
        struct decoder decoder = {(grown[i / 2 % BITS] + grown[i / 2 / BITS]) / 2, i % 2};
        unsigned correct = count_correct(told, channel, &decoder);

        if (correct > most) {
            most = correct;
            best = decoder;
        }
    }
    return best;
}

static void run(const struct setting *setting, unsigned ret_correct[CHANNELS])
{
    memset(ret_correct, 0, CHANNELS * sizeof(*ret_correct));
    for (unsigned message = 0; message < MESSAGES; message++) {
        struct transmission told, sent;

        transmit(setting, SEED + 2 * message, &told);
        transmit(setting, SEED + 2 * message + 1, &sent);
        for (unsigned c = 0; c < CHANNELS; c++) {
            struct decoder decoder = train(&told, c);

            ret_correct[c] += count_correct(&sent, c, &decoder);
        }
    }
}

static void check(const char *what, bool holds, bool *good)
{
    if (!holds)
        printf("    FAIL: %s\n", what);
    *good &= holds;
}

/* What the documents say of each. Guessing gets more than chance right one time in 30 000. */
static void test_channels(const struct setting *setting, bool *good)
{
    const unsigned bits = MESSAGES * BITS;
    const unsigned chance = (unsigned)(bits / 2.0 + 4 * sqrt(bits) / 2);
    unsigned correct[CHANNELS];

    run(setting, correct);
    printf("%s: of %u bits, guessing reads %u\n", setting->name, bits, bits / 2);
    for (unsigned c = 0; c < CHANNELS; c++)
        printf("    %3u  %s\n", correct[c], channel_names[c]);
    check("the default tells nothing", correct[CHANNEL_AUTO] <= chance, good);
    check("nor does the memory's counter", correct[CHANNEL_DRAM] <= chance, good);
    check("without a baseline all bits are read", correct[CHANNEL_NONE] == bits, good);
    check("a wrong baseline tells as much", correct[CHANNEL_WRONG] >= bits * 0.95, good);
    check("proportional tells more than guessing", correct[CHANNEL_PROPORTIONAL] > chance, good);
}

int main(void)
{
    bool good = true;

    log_set_max_level(LOG_ERR);
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        test_channels(&settings[i], &good);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
