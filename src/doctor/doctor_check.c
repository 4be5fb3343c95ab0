/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "doctor/doctor_check.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
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
    /* A thread that does not return keeps its data. */
    if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &end) != 0)
        return -ETIMEDOUT;
    result = call->result;
    free(call);
    return result;
}

/* A child's answer on a file. */
struct read_answer {
    int r;
    char text[4096];
};

/*
 * Runs in a child, since a process with a thread that waits for a file system's server cannot
 * end, not even when it is killed. The child closes the standard output, for whose end a reader
 * of the doctor's output may be waiting.
 */
static void answer_read(int fd, const char *path)
{
    struct read_answer answer = {0};

    if (dup2(fd, STDIN_FILENO) < 0 || close_range(STDOUT_FILENO, ~0U, 0) < 0)
        _exit(EXIT_FAILURE);
    answer.r = (int)read_file(AT_FDCWD, path, answer.text, sizeof(answer.text));
    _exit(write(STDIN_FILENO, &answer, sizeof(answer)) == sizeof(answer) ? EXIT_SUCCESS
                                                                         : EXIT_FAILURE);
}

/* @return 0, -ETIMEDOUT or another negative errno */
static int ask_child(const char *path, struct read_answer *ret)
{
    int fds[2], r = -ETIMEDOUT;
    struct pollfd answer;
    pid_t child;

    /* A packet is read in one piece, as it was written. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    child = fork();
    if (child == 0)
        answer_read(fds[1], path);
    close(fds[1]);
    answer = (struct pollfd){.fd = fds[0], .events = POLLIN};
    if (child < 0)
        r = -EAGAIN;
    else if (poll(&answer, 1, PATIENCE_S * 1000) > 0)
        r = recv(fds[0], ret, sizeof(*ret), 0) == sizeof(*ret) ? 0 : -EIO;
    close(fds[0]);
    if (r == -ETIMEDOUT)
        kill(child, SIGKILL);
    else if (child > 0)
        waitpid(child, NULL, 0);
    return r;
}

ssize_t doctor_read_patiently(struct doctor *doctor, const char *path, char *ret, size_t size)
{
    struct read_answer answer = {0};
    int r = doctor->reading_hangs ? -ETIMEDOUT : ask_child(path, &answer);

    if (r < 0) {
        doctor->reading_hangs |= r == -ETIMEDOUT;
        return r;
    }
    if (answer.r >= 0) {
        snprintf(ret, size, "%s", answer.text);
        cut_newlines(ret);
    }
    return answer.r;
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

/* Certificates, logs and Prometheus fail with a wrong clock, and a guest starts with its host's. */
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
