/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a check of `virtjoule doctor` works with. A check is a function that
 * looks at one thing and reports its faults; the tables below name all checks,
 * one table and file for each part of the machine.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "libvirt/domain_xml.h"
#include "util/cleanup.h"
#include "util/macros.h"
#include "util/paths.h"

/* Where readers look for the counters of their machine. */
#define DOCTOR_POWERCAP "/sys/class/powercap"
/* The cure of what a daemon has not noticed. */
#define RESTART "systemctl restart virtjoule"

enum severity {
    SEVERITY_INFO,    /* good to know; shown with --verbose and in JSON */
    SEVERITY_WARNING, /* energy is reported, but worse than it could be */
    SEVERITY_ERROR,   /* no energy is reported, or a wrong one */
};

struct finding {
    enum severity severity;
    const char *id; /* stable: tools may rely on it */
    char *problem;  /* one line */
    char *cure;     /* one line: a command, or what to change */
};

/** A libvirt domain and the share in its XML. */
struct doctor_domain {
    char *name;
    char uuid[37];
    bool active;
    bool persistent;
    struct domain_virtiofs live;    /* of an active one */
    struct domain_virtiofs defined; /* of a persistent one: from its next start on */
};

struct doctor {
    const char *root; /* put before the paths of the system's files */
    bool guest;
    const char *config_file;
    struct config config;    /* the defaults where the file is missing or wrong */
    const char *socket_path; /* of the daemon; of a host */
    char configured_socket[CONFIG_PATH_MAX + sizeof(CONTROL_SOCKET_NAME)];
    struct json_object *first;  /* the daemon's answer to "list", NULL without one */
    struct json_object *second; /* the same two intervals later, NULL without one */
    int ask_error;              /* why there is no first answer */
    struct doctor_domain *domains;
    size_t n_domains;
    struct finding *findings;
    size_t n_findings;
    size_t n_checks;    /* made so far */
    bool reading_hangs; /* a read was given up: no further one is begun */
};

typedef void (*doctor_check)(struct doctor *doctor);

/* Each ends with NULL. */
extern const doctor_check doctor_system_checks[];  /* sensors, kernel, clock, files */
extern const doctor_check doctor_daemon_checks[];  /* the daemon, its mount, ledger, exporter */
extern const doctor_check doctor_libvirt_checks[]; /* libvirt and its domains */
extern const doctor_check doctor_guest_checks[];

/** Reads the configuration; reports its faults. */
void doctor_read_config(struct doctor *doctor);

/** Asks libvirt for its domains; reports that it does not answer. */
void doctor_read_domains(struct doctor *doctor);

/** Allocated text of a finding. @return NULL when out of memory */
__attribute__((format(printf, 1, 2))) char *doctor_text(const char *format, ...);

/**
 * Adds a finding, once.
 * @param problem, cure  from doctor_text(); taken over
 */
void doctor_report(struct doctor *doctor, enum severity severity, const char *id, char *problem,
                   char *cure);

/** The path of a system's file, allocated. */
char *doctor_path(const struct doctor *doctor, const char *path);

/** access(2) of a system's file. */
bool doctor_access(const struct doctor *doctor, const char *path, int mode);

/** read_file() of a system's file; trailing newlines are cut off. */
ssize_t doctor_read(const struct doctor *doctor, const char *path, char *ret, size_t size);

/**
 * Calls a function that may wait for a daemon which does not answer, on a
 * thread of its own.
 * @param data  on the heap
 * @return the function's result; -ETIMEDOUT after five seconds, the thread then keeps the
 *         data for good; or another negative errno
 */
int doctor_call(int (*call)(void *data), void *data);

/**
 * Reads from a file system whose server may be dead or hang.
 * @param path  as it is, without the root
 * @return bytes read (at most size - 1, newlines at the end cut off); -EISDIR for a
 *         directory; -ETIMEDOUT; or another negative errno
 */
ssize_t doctor_read_patiently(struct doctor *doctor, const char *path, char *ret, size_t size);

/** One number from a file, likewise. @return 0 or a negative errno */
int doctor_read_number(struct doctor *doctor, const char *path, uint64_t *ret);

/** Calls a function with the PID and name (15 bytes of it) of every process. */
void doctor_each_process(struct doctor *doctor,
                         void (*call)(struct doctor *doctor, pid_t pid, const char *comm,
                                      void *userdata),
                         void *userdata);

/** Checks that the metrics are served where they should be. */
void doctor_check_exporter(struct doctor *doctor);

/** Checks the clock, on a host and in a guest. */
void doctor_check_clock(struct doctor *doctor);
