/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Parsers of /proc texts: pure functions over a buffer that need not be
 * NUL-terminated. All return 0, or -EBADMSG for a text that is not of the
 * kernel's form, and leave the output untouched on failure.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** The used fields of /proc/PID/stat and /proc/PID/task/TID/stat. */
struct proc_stat {
    pid_t pid;
    char comm[64]; /* may hold any byte, ')' and newline included */
    char state;    /* 'R', 'S', 'Z', ... */
    pid_t ppid;
    uint64_t flags;       /* PF_KTHREAD is 0x00200000 */
    uint64_t utime_ticks; /* guest time included; ended threads included in PID/stat */
    uint64_t stime_ticks;
    uint64_t threads;     /* of the process, this one included */
    uint64_t start_ticks; /* clock ticks after boot */
    int processor;        /* CPU last run on */
};
#define PROC_FLAG_KTHREAD UINT64_C(0x00200000)

int parse_proc_stat(const char *text, size_t length, struct proc_stat *ret);

/** /proc/PID/task/TID/schedstat: time on the CPU, nanoseconds. */
int parse_proc_schedstat(const char *text, size_t length, uint64_t *ret_cpu_ns);

/** Memory lines of /proc/PID/status in bytes; a missing line counts 0. */
struct proc_memory {
    uint64_t anonymous; /* RssAnon */
    uint64_t file;      /* RssFile */
    uint64_t shared;    /* RssShmem: a virtiofs guest's memory is here */
    uint64_t huge;      /* HugetlbPages: in none of the others */
};
int parse_proc_memory(const char *text, size_t length, struct proc_memory *ret);

/** /proc/PID/io: bytes that reached or came from block devices. */
int parse_proc_io(const char *text, size_t length, uint64_t *ret_bytes);

/** One "cpuN" line of /proc/stat, in clock ticks since boot. */
struct proc_cpu {
    unsigned cpu;
    uint64_t idle_ticks; /* idle + iowait */
    uint64_t steal_ticks;
};

/**
 * The per-CPU lines of /proc/stat, in the file's order (offline CPUs are missing).
 * @param ret    room for max entries; further CPUs are an -EBADMSG
 */
int parse_proc_cpus(const char *text, size_t length, struct proc_cpu *ret, size_t max,
                    size_t *ret_n);

/**
 * /proc/net/tcp or tcp6: the inode number of the first socket that listens on a port.
 * @return also -ENOENT: there is none
 */
int parse_proc_listener(const char *text, size_t length, unsigned port, uint64_t *ret_inode);

/**
 * /proc/meminfo, or devices/system/node/nodeN/meminfo in sysfs: memory in use, in bytes.
 * MemTotal - MemFree - page cache other than shared memory - reclaimable slab.
 * (A node's meminfo has no MemAvailable, which also leaves the kernel its reserves.)
 */
int parse_meminfo_used(const char *text, size_t length, uint64_t *ret_bytes);
