/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A power distribution unit, or any other agent that reports power by SNMP: the sum
 * of some gauges, such as the outlets that feed the machine.
 */

#include "meter/meter.h"
#include "util/config_keys.h"

#define SNMP_OIDS_MAX 8
#define SNMP_OID_PARTS_MAX 64

/** Object identifiers of gauges. */
struct snmp_oids {
    size_t n;
    struct snmp_oid {
        size_t n;
        uint32_t parts[SNMP_OID_PARTS_MAX];
    } list[SNMP_OIDS_MAX];
};

struct snmp_options {
    char address[CONFIG_PATH_MAX]; /* "host", "udp:host:161": see snmpcmd(1), AGENT SPECIFICATION;
                                      empty: no meter */
    char credentials[CONFIG_PATH_MAX]; /* a file: see meter/credentials.h */
    struct snmp_oids oids;
    uint64_t unit_uw; /* the power that a gauge's 1 stands for, > 0 */
    uint64_t interval_ns;
};

/** In snmp_keys.c: a program that only reads the configuration needs no net-snmp. */
extern const struct config_keys snmp_keys;

/**
 * Reads a list of numeric identifiers: "1.3.6.1.4.1.318.1.1.26.9.4.3.1.7.1 .1.3.6.1.2".
 * @return 0 or -EINVAL
 */
int snmp_parse_oids(const char *text, struct snmp_oids *ret);

/**
 * A meter that has yet to be started. It has a thread: the library waits for
 * names, and for an SNMPv3 agent's engine.
 * @param ret  stays as it is if the options ask for no meter
 * @return 0 or a negative errno
 */
int meter_snmp_new(struct meter **ret, const struct meter_host *host,
                   const struct snmp_options *options);
