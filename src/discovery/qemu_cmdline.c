/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/qemu_cmdline.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "discovery/arguments.h"
#include "shared/vm_names.h"
#include "util/cleanup.h"
#include "util/parse.h"

/*
 * QEMU's options begin with one or two dashes, and the value is always the
 * next argument. Only the options of the table below matter. To tell the values of
 * all other options from options would take a table of QEMU's
 * options in every version. It is not needed: a value that begins with
 * a dash is an error or a strange file name, except for -append, whose
 * text a tenant may control. So -append is in the table, and its value is skipped.
 *
 * Where an option is given twice, the later one counts, key by key.
 */

/* More than any machine type of QEMU can have; a larger number is nonsense. */
#define VCPUS_MAX 65535

enum smp_key {
    SMP_CPUS,
    SMP_MAXCPUS,
    SMP_TOPOLOGY, /* first of the keys whose product is the number of CPUs */
};
static const char *const smp_keys[] = {"cpus", "maxcpus",  "drawers", "books", "sockets",
                                       "dies", "clusters", "modules", "cores", "threads"};
#define N_SMP_KEYS (sizeof(smp_keys) / sizeof(smp_keys[0]))

struct state {
    struct qemu_cmdline cmdline;
    uint64_t smp[N_SMP_KEYS]; /* 0: not given */
    bool no_machine;
};

static int take_name(struct state *state, const char *value)
{
    bool guest_key = false, debug_threads = false;
    struct list_item item;
    bool first = true;

    for (; list_next(&value, &item); first = false) {
        if (list_item_has_key(&item, "guest") || (first && !item.key))
            list_item_copy(&item, state->cmdline.name, sizeof(state->cmdline.name));
        guest_key |= list_item_has_key(&item, "guest");
        debug_threads |= list_item_has_key(&item, "debug-threads");
    }
    /* libvirt writes "guest=NAME,debug-threads=on"; no other manager writes both. */
    if (guest_key && debug_threads)
        state->cmdline.manager = VM_MANAGER_LIBVIRT;
    return 0;
}

static int take_id(struct state *state, const char *value)
{
    strncpy(state->cmdline.id, value, sizeof(state->cmdline.id) - 1);
    return 0;
}

/* QEMU shows the null UUID to a guest that has none: it must not merge VMs. */
static int take_uuid(struct state *state, const char *value)
{
    uuid_t uuid;

    if (uuid_parse(value, uuid) == 0 && !uuid_is_null(uuid))
        uuid_copy(state->cmdline.uuid, uuid);
    return 0;
}

static int take_smbios(struct state *state, const char *value)
{
    char type[8] = "", uuid[UUID_TEXT_SIZE + 1] = "";
    struct list_item item;

    while (list_next(&value, &item)) {
        if (list_item_has_key(&item, "type"))
            list_item_copy(&item, type, sizeof(type));
        else if (list_item_has_key(&item, "uuid"))
            list_item_copy(&item, uuid, sizeof(uuid));
    }
    return strcmp(type, "1") == 0 ? take_uuid(state, uuid) : 0;
}

static int take_smp(struct state *state, const char *value)
{
    struct list_item item;
    bool first = true;

    for (; list_next(&value, &item); first = false)
        for (size_t i = 0; i < N_SMP_KEYS; i++) {
            uint64_t number;

            if (!list_item_has_key(&item, smp_keys[i]) && !(i == SMP_CPUS && first && !item.key))
                continue;
            if (parse_u64(item.value, item.value_length, &number) == 0 && number <= VCPUS_MAX)
                state->smp[i] = number;
        }
    return 0;
}

static int take_machine(struct state *state, const char *value)
{
    struct list_item item;
    bool first = true;
    char type[8];

    for (; list_next(&value, &item); first = false) {
        if (!list_item_has_key(&item, "type") && !(first && !item.key))
            continue;
        list_item_copy(&item, type, sizeof(type));
        state->no_machine = strcmp(type, "none") == 0;
    }
    return 0;
}

static int add_socket(struct qemu_cmdline *cmdline, const char *path)
{
    size_t n = cmdline->n_sockets;

    if (n == QEMU_SOCKETS_MAX) {
        cmdline->n_sockets_left_out++;
        return 0;
    }
    /* The array grows at powers of two: at each of these lengths it is full. */
    if ((n & (n - 1)) == 0) {
        char **grown = realloc(cmdline->sockets, (n > 0 ? 2 * n : 1) * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        cmdline->sockets = grown;
    }
    cmdline->sockets[n] = strdup(path);
    if (!cmdline->sockets[n])
        return -ENOMEM;
    cmdline->n_sockets++;
    return 0;
}

static int take_chardev(struct state *state, const char *value)
{
    char backend[8] = "", path[256] = "";
    struct list_item item;
    bool first = true;

    for (; list_next(&value, &item); first = false) {
        if (list_item_has_key(&item, "backend") || (first && !item.key))
            list_item_copy(&item, backend, sizeof(backend));
        else if (list_item_has_key(&item, "path"))
            list_item_copy(&item, path, sizeof(path));
    }
    if (strcmp(backend, "socket") != 0 || path[0] == '\0')
        return 0;
    return add_socket(&state->cmdline, path);
}

static int take_nothing(struct state *state, const char *value)
{
    return 0;
}

static const struct option {
    const char *name;
    int (*take)(struct state *state, const char *value);
} options[] = {
    {"name", take_name}, {"uuid", take_uuid},       {"id", take_id},
    {"smp", take_smp},   {"smbios", take_smbios},   {"machine", take_machine},
    {"M", take_machine}, {"chardev", take_chardev}, {"append", take_nothing},
};

static const struct option *find_option(const char *argument)
{
    if (*argument++ != '-')
        return NULL;
    if (*argument == '-')
        argument++;
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (strcmp(argument, options[i].name) == 0)
            return &options[i];
    return NULL;
}

/* QEMU prints a text for these and exits. "help" as an option's value lists the possible values. */
static bool asks_for_text(const char *argument)
{
    static const char *const words[] = {"-h",        "-help", "--help", "-version",
                                        "--version", "help",  "?"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(argument, words[i]) == 0)
            return true;
    return false;
}

/* As QEMU counts: the CPUs, else their maximum, else the product of the topology's levels. */
static unsigned count_vcpus(const uint64_t *smp)
{
    uint64_t product = 1;

    if (smp[SMP_CPUS] > 0)
        return (unsigned)smp[SMP_CPUS];
    if (smp[SMP_MAXCPUS] > 0)
        return (unsigned)smp[SMP_MAXCPUS];
    for (size_t i = SMP_TOPOLOGY; i < N_SMP_KEYS; i++)
        if (smp[i] > 0 && product <= VCPUS_MAX)
            product *= smp[i];
    return product <= VCPUS_MAX ? (unsigned)product : 1;
}

static int read_arguments(struct arguments *arguments, struct state *state)
{
    const char *argument;

    while ((argument = arguments_next(arguments))) {
        const struct option *option = find_option(argument);
        const char *value;
        int r;

        if (asks_for_text(argument))
            return 0;
        if (!option)
            continue;
        value = arguments_next(arguments);
        if (!value)
            break;
        if (option->take == take_machine && asks_for_text(value))
            return 0;
        r = option->take(state, value);
        if (r < 0)
            return r;
    }
    return !state->no_machine;
}

static void cleanup_state(struct state *state)
{
    qemu_cmdline_deinit(&state->cmdline);
}

int parse_qemu_cmdline(const char *text, size_t length, struct qemu_cmdline *ret)
{
    _cleanup_(cleanup_state) struct state state = {0};
    struct arguments arguments = {text, length, 0};
    const char *program = arguments_next(&arguments);
    int r;

    if (!program)
        return 0;
    r = read_arguments(&arguments, &state);
    if (r <= 0)
        return r;
    state.cmdline.vcpus = count_vcpus(state.smp);
    if (state.cmdline.id[0] != '\0' && strcmp(path_basename(program), "kvm") == 0)
        state.cmdline.manager = VM_MANAGER_PROXMOX;
    *ret = state.cmdline;
    state.cmdline = (struct qemu_cmdline){0};
    return 1;
}

void qemu_cmdline_deinit(struct qemu_cmdline *cmdline)
{
    for (size_t i = 0; i < cmdline->n_sockets; i++)
        free(cmdline->sockets[i]);
    free(cmdline->sockets);
    *cmdline = (struct qemu_cmdline){0};
}

bool path_is_qemu(const char *path)
{
    static const char *const names[] = {QEMU_NAMES(LIST_NAME) NULL};
    size_t length;
    const char *name = path_program(path, &length);

    return (length > strlen(QEMU_PREFIX) && memcmp(name, QEMU_PREFIX, strlen(QEMU_PREFIX)) == 0) ||
           name_is_one_of(name, length, names);
}
