/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/doctor_check.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/file.h"
#include "util/parse.h"

#define PATIENCE_S 5

/* Findings. */

char *doctor_text(const char *format, ...)
{
    va_list arguments;
    char *text;
    int length;

    va_start(arguments, format);
    length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return length < 0 ? NULL : text;
}

void doctor_report(struct doctor *doctor, enum severity severity, const char *id, char *problem,
                   char *cure)
{
    struct finding finding = {severity, id, problem, cure};
    struct finding *grown = NULL;
    bool known = false;

    for (size_t i = 0; problem && i < doctor->n_findings; i++)
        known |= strcmp(doctor->findings[i].id, id) == 0 &&
                 strcmp(doctor->findings[i].problem, problem) == 0;
    if (problem && cure && !known)
        grown = realloc(doctor->findings, (doctor->n_findings + 1) * sizeof(*grown));
    if (!grown) {
        free(problem);
        free(cure);
        return;
    }
    grown[doctor->n_findings++] = finding;
    doctor->findings = grown;
}

/* Files. */

char *doctor_path(const struct doctor *doctor, const char *path)
{
    return doctor_text("%s%s", doctor->root, path);
}

bool doctor_access(const struct doctor *doctor, const char *path, int mode)
{
    _cleanup_free_ char *full = doctor_path(doctor, path);

    return full && access(full, mode) == 0;
}

static void cut_newlines(char *text)
{
    size_t length = strlen(text);

    while (length > 0 && text[length - 1] == '\n')
        text[--length] = '\0';
}

ssize_t doctor_read(const struct doctor *doctor, const char *path, char *ret, size_t size)
{
    _cleanup_free_ char *full = doctor_path(doctor, path);
    ssize_t length = full ? read_file(AT_FDCWD, full, ret, size) : -ENOMEM;

    if (length >= 0)
        cut_newlines(ret);
    return length;
}

/* Calls that may not return. */

struct call {
    int (*call)(void *data);
    void *data;
    int result;
};

static void *make_call(void *userdata)
{
    struct call *call = userdata;

    call->result = call->call(call->data);
    return NULL;
}

int doctor_call(int (*function)(void *data), void *data)
{
    struct call *call = malloc(sizeof(*call));
    struct timespec end;
    pthread_t thread;
    int result;

    if (!call)
        return -ENOMEM;
    *call = (struct call){.call = function, .data = data};
    if (pthread_create(&thread, NULL, make_call, call) != 0) {
        free(call);
        return -EAGAIN;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += PATIENCE_S;
    /* A thread that does not come back keeps what it was given. */
    if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &end) != 0)
        return -ETIMEDOUT;
    result = call->result;
    free(call);
    return result;
}

struct read_call {
    char *path;
    char text[4096];
};

static int call_read(void *data)
{
    struct read_call *call = data;

    return (int)read_file(AT_FDCWD, call->path, call->text, sizeof(call->text));
}

ssize_t doctor_read_patiently(struct doctor *doctor, const char *path, char *ret, size_t size)
{
    struct read_call *call;
    int r = -ENOMEM;

    if (doctor->reading_hangs)
        return -ETIMEDOUT;
    call = calloc(1, sizeof(*call));
    if (call)
        call->path = strdup(path);
    if (call && call->path)
        r = doctor_call(call_read, call);
    if (r == -ETIMEDOUT) {
        doctor->reading_hangs = true;
        return r;
    }
    if (r >= 0) {
        snprintf(ret, size, "%s", call->text);
        cut_newlines(ret);
    }
    if (call)
        free(call->path);
    free(call);
    return r;
}

int doctor_read_number(struct doctor *doctor, const char *path, uint64_t *ret)
{
    char text[64];
    ssize_t length = doctor_read_patiently(doctor, path, text, sizeof(text));

    return length < 0 ? (int)length : parse_u64(text, strlen(text), ret);
}

/* Processes. */

void doctor_each_process(struct doctor *doctor,
                         void (*call)(struct doctor *doctor, pid_t pid, const char *comm,
                                      void *userdata),
                         void *userdata)
{
    _cleanup_closedir_ DIR *proc = opendir(doctor->config.proc_root);
    const struct dirent *entry;

    while (proc && (entry = readdir(proc))) {
        char path[sizeof(entry->d_name) + 8], comm[64];
        uint64_t pid;

        if (parse_u64(entry->d_name, strlen(entry->d_name), &pid) < 0)
            continue;
        snprintf(path, sizeof(path), "%s/comm", entry->d_name);
        if (read_file(dirfd(proc), path, comm, sizeof(comm)) <= 0)
            continue;
        cut_newlines(comm);
        call(doctor, (pid_t)pid, comm, userdata);
    }
}

/* What both sides need. */

/* Certificates, logs and Prometheus go wrong with it, and a host's clock is its guests' at start.
 */
void doctor_check_clock(struct doctor *doctor)
{
    static const time_t made = 1735689600; /* 2025-01-01: no clock is right before virtjoule was */
    time_t now = time(NULL);
    struct tm tm;
    char date[32] = "";

    if (now >= made)
        return;
    if (gmtime_r(&now, &tm))
        strftime(date, sizeof(date), "%Y-%m-%d", &tm);
    doctor_report(doctor, SEVERITY_WARNING, "clock-wrong",
                  doctor_text("the clock says %s: Prometheus refuses or misplaces samples", date),
                  doctor_text("timedatectl set-ntp true"));
}
