/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/doctor.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/doctor_check.h"
#include "util/clock.h"
#include "util/log.h"

/* With longer intervals nobody waits for the second answer. */
#define WAIT_MAX_NS (10 * NSEC_PER_SEC)

#define CONFIG_FILE "/etc/virtjoule/virtjouled.conf"

enum side { SIDE_UNKNOWN, SIDE_HOST, SIDE_GUEST };

struct arguments {
    enum side side;
    bool json;
    bool verbose;
    const char *config_file;
    const char *root;
};

static const char usage_text[] =
    "Usage: virtjoule doctor [OPTION]...\n"
    "\n"
    "Looks for whatever keeps a VM's energy from being told, on the host or in a guest,\n"
    "and names the cure of each finding. Changes nothing. Run it as root.\n"
    "\n"
    "  --host, --guest  which side this is (default: a host where virtjouled is installed)\n"
    "  --verbose        also what is good to know and not wrong\n"
    "  --json           print the findings as JSON, those of --verbose included\n"
    "  --config FILE    of virtjouled (default " CONFIG_FILE ")\n"
    "  --root DIR       look for the system's files below DIR\n"
    "\n"
    "Exit status: 0 nothing is wrong, 1 something is, 2 wrong usage.\n";

/* @return -1 to go on, else the exit status */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
    static const struct option options[] = {
        {"host", no_argument, NULL, 'H'},       {"guest", no_argument, NULL, 'g'},
        {"verbose", no_argument, NULL, 'v'},    {"json", no_argument, NULL, 'j'},
        {"root", required_argument, NULL, 'r'}, {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},       {0},
    };

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'H':
            ret->side = SIDE_HOST;
            break;
        case 'g':
            ret->side = SIDE_GUEST;
            break;
        case 'v':
            ret->verbose = true;
            break;
        case 'j':
            ret->json = true;
            break;
        case 'r':
            ret->root = optarg;
            break;
        case 'c':
            ret->config_file = optarg;
            break;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        default:
            return 2;
        }
    }
    if (optind < argc) {
        fputs("virtjoule: doctor: unexpected argument; see virtjoule doctor --help\n", stderr);
        return 2;
    }
    return -1;
}

/* The daemon's answers. */

static int ask_daemon(const struct doctor *doctor, struct json_object **ret)
{
    char socket[CONFIG_PATH_MAX + 16];
    struct json_object *request = json_object_new_object();
    int r;

    snprintf(socket, sizeof(socket), "%s/control.sock", doctor->config.runtime_dir);
    json_object_object_add(request, "command", json_object_new_string("list"));
    r = client_ask(socket, request, ret);
    json_object_put(request);
    return r;
}

/* Two intervals later there must be another tick, whatever the moment of the first question. */
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

/* Telling. */

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

static void print_json(const struct doctor *doctor)
{
    struct json_object *object = json_object_new_object(), *list = json_object_new_array();

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
    puts(json_object_to_json_string_ext(object,
                                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
}

int doctor_command(int argc, char **argv)
{
    struct arguments arguments = {.config_file = CONFIG_FILE, .root = ""};
    struct doctor doctor = {0};
    int status = parse_arguments(argc, argv, &arguments);

    if (status >= 0)
        return status;
    /* What the daemon's parts would log is told as findings. */
    log_set_max_level(LOG_EMERG);
    doctor.root = arguments.root;
    doctor.config_file = arguments.config_file;
    config_init(&doctor.config);
    doctor.guest = arguments.side ? arguments.side == SIDE_GUEST : !is_host(&doctor);
    if (doctor.guest)
        make_checks(&doctor, doctor_guest_checks);
    else
        examine_host(&doctor);
    if (arguments.json)
        print_json(&doctor);
    else
        print_text(&doctor, arguments.verbose);
    status = count_wrong(&doctor) > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    doctor_deinit(&doctor);
    return status;
}
