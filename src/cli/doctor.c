/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * `virtjoule doctor`: looks at everything that energy passes on its way from the sensor to a
 * reader in the guest, and names a command that cures each fault. Changes nothing on the machine.
 *
 *     system's files, libvirt's domains, daemon's answers -> checks -> findings -> text or JSON
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/print.h"
#include "cli/subcommand.h"
#include "doctor/doctor_check.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/macros.h"

/* With longer intervals the second answer would take too long: there is none. */
#define WAIT_MAX_NS (10 * NSEC_PER_SEC)

enum side { SIDE_UNKNOWN, SIDE_HOST, SIDE_GUEST };

/* The daemon's answers. */

/* The daemon listens where its configuration has it, unless an option says otherwise. */
static void find_socket(struct doctor *doctor)
{
    if (doctor->socket_path)
        return;
    snprintf(doctor->configured_socket, sizeof(doctor->configured_socket),
             "%s/" CONTROL_SOCKET_NAME, doctor->config.runtime_dir);
    doctor->socket_path = doctor->configured_socket;
}

static int ask_daemon(const struct doctor *doctor, struct json_object **ret)
{
    return client_ask(doctor->socket_path, "list", NULL, ret);
}

/* Two intervals later there must have been another tick, wherever in its interval the first
   question was asked. */
static void ask_again(struct doctor *doctor, uint64_t first_ns)
{
    uint64_t end_ns = first_ns + 2 * doctor->config.interval_ns;
    struct timespec end = {.tv_sec = (time_t)(end_ns / NSEC_PER_SEC),
                           .tv_nsec = (long)(end_ns % NSEC_PER_SEC)};

    if (!doctor->first || end_ns - first_ns > WAIT_MAX_NS)
        return;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        ;
    ask_daemon(doctor, &doctor->second);
}

/* Examining. */

static void make_checks(struct doctor *doctor, const doctor_check *checks)
{
    for (; *checks; checks++) {
        (*checks)(doctor);
        doctor->n_checks++;
    }
}

static void examine_host(struct doctor *doctor)
{
    uint64_t first_ns;

    doctor_read_config(doctor);
    find_socket(doctor);
    first_ns = now_ns();
    doctor->ask_error = ask_daemon(doctor, &doctor->first);
    doctor_read_domains(doctor);
    make_checks(doctor, doctor_system_checks);
    make_checks(doctor, doctor_libvirt_checks);
    ask_again(doctor, first_ns);
    make_checks(doctor, doctor_daemon_checks);
}

static bool is_host(const struct doctor *doctor)
{
    return access(doctor->config_file, F_OK) == 0 ||
           doctor_access(doctor, "/usr/sbin/virtjouled", F_OK);
}

static void doctor_deinit(struct doctor *doctor)
{
    for (size_t i = 0; i < doctor->n_findings; i++) {
        free(doctor->findings[i].problem);
        free(doctor->findings[i].cure);
    }
    free(doctor->findings);
    for (size_t i = 0; i < doctor->n_domains; i++)
        free(doctor->domains[i].name);
    free(doctor->domains);
    json_object_put(doctor->first);
    json_object_put(doctor->second);
}

/* The result. */

static const char *const severity_names[] = {
    [SEVERITY_INFO] = "info",
    [SEVERITY_WARNING] = "warning",
    [SEVERITY_ERROR] = "error",
};

static size_t count_wrong(const struct doctor *doctor)
{
    size_t n = 0;

    for (size_t i = 0; i < doctor->n_findings; i++)
        n += doctor->findings[i].severity > SEVERITY_INFO;
    return n;
}

static void print_text(const struct doctor *doctor, bool verbose)
{
    for (size_t i = 0; i < doctor->n_findings; i++) {
        const struct finding *finding = &doctor->findings[i];

        if (finding->severity == SEVERITY_INFO && !verbose)
            continue;
        printf("%s: %s [%s]\n    cure: %s\n", severity_names[finding->severity], finding->problem,
               finding->id, finding->cure);
    }
    if (count_wrong(doctor) == 0)
        printf("Nothing is wrong with this %s (%zu checks).\n", doctor->guest ? "guest" : "host",
               doctor->n_checks);
}

static void print_findings(const struct doctor *doctor)
{
    _cleanup_json_ struct json_object *object = json_object_new_object();
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < doctor->n_findings; i++) {
        const struct finding *finding = &doctor->findings[i];
        struct json_object *entry = json_object_new_object();

        json_object_object_add(entry, "severity",
                               json_object_new_string(severity_names[finding->severity]));
        json_object_object_add(entry, "id", json_object_new_string(finding->id));
        json_object_object_add(entry, "problem", json_object_new_string(finding->problem));
        json_object_object_add(entry, "cure", json_object_new_string(finding->cure));
        json_object_array_add(list, entry);
    }
    json_object_object_add(object, "side",
                           json_object_new_string(doctor->guest ? "guest" : "host"));
    json_object_object_add(object, "healthy", json_object_new_boolean(count_wrong(doctor) == 0));
    json_object_object_add(object, "checks", json_object_new_uint64(doctor->n_checks));
    json_object_object_add(object, "findings", list);
    print_json(object);
}

/* Examines the side that was asked for. */
static void examine(struct doctor *doctor, enum side side)
{
    /* The checks report what the parts of the daemon that they call would log. */
    log_set_max_level(LOG_EMERG);
    config_init(&doctor->config);
    doctor->guest = side == SIDE_UNKNOWN ? !is_host(doctor) : side == SIDE_GUEST;
    if (doctor->guest)
        make_checks(doctor, doctor_guest_checks);
    else
        examine_host(doctor);
}

int doctor_command(struct common_options *common, int argc, char **argv)
{
    _cleanup_(doctor_deinit) struct doctor doctor = {
        .config_file = DAEMON_CONFIG_FILE,
        .root = "",
    };
    int side = SIDE_UNKNOWN;
    bool verbose = false;
    const struct program_option options[] = {
        {"host", NULL, "look at a host (default where virtjouled is installed)", .choice = &side,
         .value = SIDE_HOST},
        {"guest", NULL, "look at a guest", .choice = &side, .value = SIDE_GUEST},
        {"verbose", NULL, "also what is good to know and not wrong; --json always has it",
         .flag = &verbose},
        {"config", "FILE", "of virtjouled (default " DAEMON_CONFIG_FILE ")",
         .text = &doctor.config_file},
        {"root", "DIR", "look for the system's files below DIR", .text = &doctor.root},
        COMMON_OPTIONS(common),
    };
    const struct program_usage usage = {
        .name = "virtjoule doctor",
        .arguments = "[OPTION]...",
        .purpose = "Looks for whatever keeps a VM's energy from its reader, on the host or in a\n"
                   "guest, and names the cure of each finding. Changes nothing. Run it as root.",
        .statuses = "0 nothing is wrong, 1 something is, 2 wrong usage",
        .wrong_usage = STATUS_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
    };
    int status = program_parse(&usage, argc, argv);

    if (status >= 0)
        return status;
    doctor.socket_path = common->socket_path;
    examine(&doctor, (enum side)side);
    if (common->json)
        print_findings(&doctor);
    else
        print_text(&doctor, verbose);
    return count_wrong(&doctor) > 0 ? STATUS_NO : EXIT_SUCCESS;
}
