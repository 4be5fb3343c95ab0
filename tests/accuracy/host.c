/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host.h"

#include <stdlib.h>
#include <string.h>

#define CONTROL_STEPS 10 /* the hardware sets frequencies every 10 ms */
#define HEAT_STEPS 100
#define INTERRUPT_US 8.0
#define LINE_BYTES 64
#define STEP_S (STEP_US / 1e6)
#define GIB 1073741824.0

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (!memory)
        abort();
    return memory;
}

static const struct workload daemon_work = {
    .name = "host daemons",
    .mixes = {MIX_KERNEL},
    .n_mixes = 1,
    .burst_ms = 2,
    .random = true,
    .level_s = 1e9,
};

struct host *host_new(const struct machine *machine, uint64_t seed)
{
    struct host *host = allocate(1, sizeof(*host));

    host->machine = machine;
    host->random.state = seed;
    host->ambient_celsius = machine->ambient_celsius;
    host->n_cores = machine->sockets * machine->cores;
    host->n_cpus = host->n_cores * machine->threads;
    host->cpus = allocate(host->n_cpus, sizeof(*host->cpus));
    host->core_ghz = allocate(host->n_cores, sizeof(*host->core_ghz));
    host->core_load = allocate(host->n_cores, sizeof(*host->core_load));
    host->core_busy_steps = allocate(host->n_cores, sizeof(*host->core_busy_steps));
    host->n_entities = 1;
    for (unsigned i = 0; i < host->n_cpus; i++)
        host->cpus[i].tick_phase = random_uniform(&host->random, 0, 1);
    for (unsigned i = 0; i < host->n_cores; i++)
        host->core_ghz[i] = machine->on_demand ? machine->min_ghz : machine->max_ghz;
    for (unsigned s = 0; s < machine->sockets; s++) {
        host->sockets[s].limit_ghz = machine->max_ghz;
        host->sockets[s].latency_ns = machine->latency_ns;
        host->entities[0].memory_bytes[s] = 0.02 * machine->memory_gib * GIB / machine->sockets;
        host->entities[0].on_node[s] = 1.0 / machine->sockets;
    }
    host_add_tasks(host, 0, machine->daemons, &daemon_work, ALL_SOCKETS, 0, INFINITY);
    for (unsigned i = 0; i < host->n_tasks; i++)
        host->tasks[i].duty = machine->daemon_duty;
    return host;
}

struct host *host_free(struct host *host)
{
    for (unsigned s = 0; s < SOCKETS_SIM; s++)
        free(host->sockets[s].queue);
    free(host->tasks);
    free(host->cpus);
    free(host->core_ghz);
    free(host->core_load);
    free(host->core_busy_steps);
    free(host);
    return NULL;
}

void host_add_tasks(struct host *host, unsigned entity, unsigned n, const struct workload *workload,
                    unsigned sockets, double from_s, double until_s)
{
    host->tasks = reallocarray(host->tasks, host->n_tasks + n, sizeof(*host->tasks));
    if (!host->tasks)
        abort();
    for (unsigned i = 0; i < n; i++)
        host->tasks[host->n_tasks++] = (struct task){
            .entity = entity,
            .sockets = sockets,
            .workload = workload,
            .from_us = from_s * 1e6,
            .until_us = until_s * 1e6,
            .cpu = -1,
            .mix_turn = i,
            .wake_us = from_s * 1e6 + random_uniform(&host->random, 0, 50e3),
            .level_until_us = workload->common || workload->level_s < 1e9 ? 0 : INFINITY,
            .duty = workload->duty_high,
        };
    for (unsigned s = 0; s < host->machine->sockets; s++) {
        free(host->sockets[s].queue);
        host->sockets[s].queue = allocate(host->n_tasks, sizeof(*host->sockets[s].queue));
    }
}

unsigned host_add_vm(struct host *host, double memory_gib, unsigned sockets, double interrupts_hz)
{
    unsigned n_nodes = 0, id = host->n_entities;
    struct entity *vm = &host->entities[id];

    if (id == ENTITIES_SIM)
        return 0;
    host->n_entities++;
    for (unsigned s = 0; s < host->machine->sockets; s++)
        n_nodes += (sockets >> s) & 1;
    for (unsigned s = 0; s < host->machine->sockets; s++) {
        vm->on_node[s] = (sockets >> s) & 1 ? 1.0 / n_nodes : 0;
        vm->memory_bytes[s] = memory_gib * GIB * vm->on_node[s];
    }
    vm->interrupts_hz = interrupts_hz;
    host_add_tasks(host, 0, 1, &daemon_work, sockets, 0, INFINITY);
    host->tasks[host->n_tasks - 1].duty = host->machine->work_per_vm_duty;
    return id;
}

/* Interrupts strike any CPU, busy or not. */
static void raise_interrupts(struct host *host)
{
    for (unsigned i = 0; i < host->n_cpus; i++)
        host->cpus[i].interrupt_us = 0;
    for (unsigned e = 1; e < host->n_entities; e++) {
        unsigned n = (unsigned)(host->entities[e].interrupts_hz * STEP_S +
                                random_uniform(&host->random, 0, 1));

        for (; n > 0; n--)
            host->cpus[(unsigned)random_uniform(&host->random, 0, (double)host->n_cpus)]
                .interrupt_us += INTERRUPT_US;
    }
}

static void charge(struct host *host, unsigned id, unsigned socket, const struct thread_step *step,
                   double part)
{
    struct entity *entity = &host->entities[id];
    double package = part * (step->core_joules + step->uncore_joules);

    entity->package_joules[socket] += package;
    entity->heat_joules[socket] += package;
    host->sockets[socket].package_joules += package;
    for (unsigned s = 0; s < host->machine->sockets; s++) {
        double dram = part * step->dram_joules * entity->on_node[s];

        entity->dram_joules[s] += dram;
        host->sockets[s].dram_joules += dram;
        host->sockets[s].lines += part * step->lines * entity->on_node[s];
    }
}

/* One thread's step: the energy, and what the kernel counts. An interrupt's time is counted to
   the task that it strikes, as CPU time and by the PMU, but its energy is the host's. */
static void run_thread(struct host *host, unsigned core, const struct cpu *cpu, double run_us,
                       double together_us)
{
    unsigned socket = core / host->machine->cores;
    const struct task *task = cpu->task;
    const struct mix *mix = task && run_us > cpu->interrupt_us
                                ? &mixes[task->workload->mixes[task->mix_turn]]
                                : &mixes[MIX_KERNEL];
    struct thread_step step =
        physics_thread(host->machine, mix, host->core_ghz[core], (run_us - together_us) / 1e6,
                       together_us / 1e6, host->sockets[socket].latency_ns);
    double interrupted = cpu->interrupt_us < run_us ? cpu->interrupt_us / run_us : 1;
    unsigned counted = task ? task->entity : 0;
    struct used *used = &host->entities[counted].used[socket];

    used->cpu_us += run_us;
    used->corun_us += together_us;
    used->cycles += step.cycles;
    used->instructions += step.instructions;
    used->llc_misses += step.llc_misses;
    if (interrupted > 0)
        charge(host, 0, socket, &step, interrupted);
    charge(host, counted, socket, &step, 1 - interrupted);
}

static double busy_us(const struct cpu *cpu)
{
    double run_us = schedule_run_us(cpu);

    return run_us > cpu->interrupt_us ? run_us : cpu->interrupt_us;
}

static void run_core(struct host *host, unsigned core)
{
    const struct cpu *cpus = &host->cpus[core * host->machine->threads];
    double first = busy_us(&cpus[0]);
    double second = host->machine->threads > 1 ? busy_us(&cpus[1]) : 0;
    double together = first < second ? first : second;

    if (first > 0)
        run_thread(host, core, &cpus[0], first, together);
    if (second > 0)
        run_thread(host, core, &cpus[1], second, together);
    if (first > 0 || second > 0)
        host->core_busy_steps[core]++;
}

/* The timer looks at what runs at this moment and counts a whole tick to it. */
static void tick(struct host *host)
{
    unsigned period = 1000 / HZ, phase = (unsigned)(host->time_us / STEP_US) % period;

    for (unsigned i = phase; i < host->n_cpus; i += period) {
        const struct cpu *cpu = &host->cpus[i];
        double when_us = cpu->tick_phase * STEP_US;

        if (when_us < cpu->interrupt_us)
            host->interrupt_ticks++;
        else if (when_us < schedule_run_us(cpu))
            host->busy_ticks[host_socket_of(host, (int)i)]++;
    }
}

/* The highest frequency of a socket: fewer cores may run faster, and the power limit rules. */
static double highest_ghz(struct host *host, unsigned s)
{
    const struct machine *machine = host->machine;
    struct socket *socket = &host->sockets[s];
    unsigned busy = 0;
    double part, ghz, watts;

    for (unsigned c = s * machine->cores; c < (s + 1) * machine->cores; c++)
        busy += host->core_busy_steps[c] > 0;
    part = ((double)busy / machine->cores - 0.25) / 0.75;
    ghz = machine->max_ghz - (machine->max_ghz - machine->all_ghz) * (part > 0 ? part : 0);
    watts = (socket->package_joules - socket->limited_joules) / (CONTROL_STEPS * STEP_S);
    socket->limited_joules = socket->package_joules;
    socket->power_watts += 0.2 * (watts - socket->power_watts);
    if (machine->limit_watts > 0 && socket->power_watts > machine->limit_watts)
        socket->limit_ghz = fmax(socket->limit_ghz - machine->step_ghz, machine->min_ghz);
    else
        socket->limit_ghz = fmin(socket->limit_ghz + machine->step_ghz, machine->max_ghz);
    return fmin(ghz, socket->limit_ghz);
}

/* Frequencies and the memory's latency for the next 10 ms. */
static void control(struct host *host)
{
    const struct machine *machine = host->machine;

    for (unsigned s = 0; s < machine->sockets; s++) {
        double highest = highest_ghz(host, s);
        double used = host->sockets[s].lines * LINE_BYTES /
                      (machine->bandwidth_gbs * 1e9 * CONTROL_STEPS * STEP_S);

        /* A queue's waiting time; programs that wait fetch less, which settles it. */
        host->sockets[s].latency_ns +=
            0.3 * (machine->latency_ns / (1 - fmin(used, 0.9)) - host->sockets[s].latency_ns);
        host->sockets[s].lines = 0;
        for (unsigned c = s * machine->cores; c < (s + 1) * machine->cores; c++) {
            double ghz = highest;

            host->core_load[c] +=
                0.25 * ((double)host->core_busy_steps[c] / CONTROL_STEPS - host->core_load[c]);
            host->core_busy_steps[c] = 0;
            /* 1.25 times the load, as the schedutil governor of Linux asks for. */
            if (machine->on_demand)
                ghz = fmin(highest,
                           fmax(machine->min_ghz, 1.25 * machine->max_ghz * host->core_load[c]));
            host->core_ghz[c] = floor(ghz / machine->step_ghz + 1e-9) * machine->step_ghz;
        }
    }
}

/* Divides what the load's heat made the package leak since the last time. */
static void divide_leakage(struct host *host, unsigned s, double seconds)
{
    double joules = host->sockets[s].leak_watts * seconds, heat_watts = 0;

    for (unsigned e = 0; e < host->n_entities; e++)
        heat_watts += host->entities[e].heat_watts[s];
    for (unsigned e = 0; e < host->n_entities && heat_watts > 0; e++) {
        struct entity *entity = &host->entities[e];

        entity->package_joules[s] += joules * entity->heat_watts[s] / heat_watts;
        entity->heat_joules[s] += joules * entity->heat_watts[s] / heat_watts;
    }
}

void host_settle(struct host *host)
{
    double seconds = (double)(host->time_us - host->settled_us) / 1e6;
    double idle = physics_idle_celsius(host->machine, host->ambient_celsius);
    double idle_leak = physics_leak_watts(host->machine, idle);

    for (unsigned s = 0; s < host->machine->sockets; s++) {
        struct socket *socket = &host->sockets[s];
        double heat_watts = 0;

        divide_leakage(host, s, seconds);
        for (unsigned e = 0; e < host->n_entities; e++) {
            struct entity *entity = &host->entities[e];

            entity->heat_watts[s] +=
                (entity->heat_joules[s] - entity->heat_watts[s] * seconds) / THERMAL_SECONDS;
            entity->heat_joules[s] = 0;
            heat_watts += entity->heat_watts[s];
        }
        socket->static_watts = host->machine->static_watts + idle_leak;
        socket->leak_watts =
            physics_leak_watts(host->machine, idle + host->machine->kelvin_per_watt * heat_watts) -
            idle_leak;
    }
    host->settled_us = host->time_us;
}

/* What flows whether anything runs or not. */
static void rest(struct host *host)
{
    for (unsigned s = 0; s < host->machine->sockets; s++) {
        struct socket *socket = &host->sockets[s];
        double dram = host->machine->dram_static_watts * STEP_S;

        socket->static_package_joules += socket->static_watts * STEP_S;
        socket->package_joules += (socket->static_watts + socket->leak_watts) * STEP_S;
        socket->static_dram_joules += dram;
        socket->dram_joules += dram;
    }
}

void host_step(struct host *host)
{
    unsigned step = (unsigned)(host->time_us / STEP_US);

    if (step % HEAT_STEPS == 0)
        host_settle(host);
    if (step % CONTROL_STEPS == 0)
        control(host);
    schedule_tasks(host);
    raise_interrupts(host);
    for (unsigned core = 0; core < host->n_cores; core++)
        run_core(host, core);
    rest(host);
    tick(host);
    schedule_account(host);
    host->time_us += STEP_US;
}
