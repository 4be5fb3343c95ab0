/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which task runs where: idle cores first, then idle threads of busy cores, as
 * Linux does; tasks that find no CPU wait in their socket's queue and get a
 * time slice in turn.
 */

#include "host.h"

#define SLICE_US 4000
#define BALANCE_STEPS 20

static void push(struct host *host, struct task *task)
{
    unsigned best = 0;

    for (unsigned s = 0; s < host->machine->sockets; s++)
        if (task->sockets & (1u << s) && (!(task->sockets & (1u << best)) ||
                                          host->sockets[s].queue_n < host->sockets[best].queue_n))
            best = s;
    struct socket *socket = &host->sockets[best];

    socket->queue[(socket->queue_head + socket->queue_n++) % host->n_tasks] = task;
    task->state = TASK_WAITING;
}

static struct task *pop(struct host *host, struct socket *socket)
{
    struct task *task = socket->queue[socket->queue_head];

    socket->queue_head = (socket->queue_head + 1) % host->n_tasks;
    socket->queue_n--;
    return task;
}

static void run(struct host *host, struct task *task, int cpu)
{
    host->cpus[cpu].task = task;
    task->cpu = cpu;
    task->state = TASK_RUNNING;
    task->slice_us = 0;
}

/* How good an idle CPU is for the task: 3 its own on an idle core, 2 an idle core, 1 any; 0 busy.
 */
static int rate_cpu(const struct host *host, const struct task *task, int cpu)
{
    int threads = (int)host->machine->threads;
    int first = cpu / threads * threads;

    if (host->cpus[cpu].task)
        return 0;
    for (int sibling = first; sibling < first + threads; sibling++)
        if (sibling != cpu && host->cpus[sibling].task)
            return 1;
    return cpu == task->cpu ? 3 : 2;
}

static void place(struct host *host, struct task *task)
{
    int best = -1, best_rate = 0;
    int start =
        task->cpu >= 0 ? task->cpu : (int)random_uniform(&host->random, 0, (double)host->n_cpus);

    for (unsigned i = 0; i < host->n_cpus && best_rate < 2; i++) {
        int cpu = (start + (int)i) % (int)host->n_cpus;
        int rate;

        if (!(task->sockets & (1u << host_socket_of(host, cpu))))
            continue;
        rate = rate_cpu(host, task, cpu);
        if (rate > best_rate) {
            best = cpu;
            best_rate = rate;
        }
    }
    if (best >= 0)
        run(host, task, best);
    else
        push(host, task);
}

static void renew_level(struct host *host, struct task *task)
{
    const struct workload *workload = task->workload;

    if ((double)host->time_us < task->level_until_us)
        return;
    if (workload->common) {
        task->duty = fmin(host->common_level * host->entities[task->entity].level, 0.98);
        task->level_until_us = host->common_until_us;
        return;
    }
    task->duty = random_uniform(&host->random, workload->duty_low, workload->duty_high);
    task->level_until_us =
        (double)host->time_us + random_exponential(&host->random, workload->level_s * 1e6);
}

static void begin_burst(struct host *host, struct task *task)
{
    const struct workload *workload = task->workload;

    renew_level(host, task);
    task->burst_us = workload->random ? random_exponential(&host->random, workload->burst_ms * 1e3)
                                      : workload->burst_ms * 1e3;
    task->mix_turn = (task->mix_turn + 1) % workload->n_mixes;
}

static void wake(struct host *host)
{
    double now = (double)host->time_us;

    if (now >= host->common_until_us) {
        host->common_level = random_uniform(&host->random, host->level_low, host->level_high);
        if (host->common_level < 0.02)
            host->common_level = 0.02; /* a quiet moment */
        for (unsigned e = 0; e < host->n_entities; e++)
            host->entities[e].level =
                random_uniform(&host->random, 1 - host->level_spread, 1 + host->level_spread);
        host->common_until_us = now + random_uniform(&host->random, 10e6, 30e6);
    }
    for (unsigned i = 0; i < host->n_tasks; i++) {
        struct task *task = &host->tasks[i];

        if (task->state != TASK_SLEEPING || now < task->wake_us)
            continue;
        begin_burst(host, task);
        place(host, task);
    }
}

static int idle_core(const struct host *host, unsigned socket)
{
    unsigned first = socket * host->machine->cores;

    for (unsigned core = first; core < first + host->machine->cores; core++)
        if (!host->cpus[2 * core].task && !host->cpus[2 * core + 1].task)
            return (int)core;
    return -1;
}

static void preempt(struct host *host)
{
    for (unsigned cpu = 0; cpu < host->n_cpus; cpu++) {
        struct socket *socket = &host->sockets[host_socket_of(host, (int)cpu)];
        struct task *task = host->cpus[cpu].task;

        if (socket->queue_n == 0 || (task && task->slice_us < SLICE_US))
            continue;
        run(host, pop(host, socket), (int)cpu);
        if (task)
            push(host, task);
    }
}

/* An idle core takes a task from a core with two, as the kernel's load balancer does. */
static void balance(struct host *host)
{
    unsigned threads = host->machine->threads;

    for (unsigned core = 0; core < host->n_cores; core++) {
        struct cpu *cpus = &host->cpus[core * threads];
        int to = threads < 2 || !cpus[0].task || !cpus[1].task
                     ? -1
                     : idle_core(host, core / host->machine->cores);

        if (to < 0)
            continue;
        run(host, cpus[1].task, to * (int)threads);
        cpus[1].task = NULL;
    }
}

void schedule_tasks(struct host *host)
{
    wake(host);
    if (host->time_us / STEP_US % BALANCE_STEPS == 0)
        balance(host);
    preempt(host);
}

static void sleep_task(struct host *host, struct task *task)
{
    double burst_us = task->workload->burst_ms * 1e3;
    double sleep_us = task->duty > 0 ? burst_us * (1 - task->duty) / task->duty : 1e6;

    if (task->workload->random)
        sleep_us = random_exponential(&host->random, sleep_us);
    host->cpus[task->cpu].task = NULL;
    task->state = TASK_SLEEPING;
    task->wake_us = (double)(host->time_us + STEP_US) + sleep_us;
    if (task->wake_us >= task->until_us)
        task->wake_us = INFINITY;
}

void schedule_account(struct host *host)
{
    for (unsigned cpu = 0; cpu < host->n_cpus; cpu++) {
        struct task *task = host->cpus[cpu].task;
        double run_us = schedule_run_us(&host->cpus[cpu]);

        if (!task)
            continue;
        task->exec_us += run_us;
        task->slice_us += run_us;
        task->burst_us -= run_us;
        if (task->burst_us > 0)
            continue;
        renew_level(host, task);
        if (task->duty >= 1 && (double)host->time_us < task->until_us)
            begin_burst(host, task);
        else
            sleep_task(host, task);
    }
}
