/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/tree.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"

/*
 * The numbers are part of the inode numbers, which outlive the daemon: add new
 * nodes before NODE_COUNT, never reorder or remove one.
 */
enum {
    NODE_SHARE = TREE_NODE_SHARE,
    NODE_CLASS,
    NODE_CLASS_POWERCAP,
    NODE_CONTROL,
    NODE_CONTROL_ENABLED,
    NODE_PACKAGE,
    NODE_PACKAGE_NAME,
    NODE_PACKAGE_ENERGY,
    NODE_PACKAGE_RANGE,
    NODE_PACKAGE_ENABLED,
    NODE_CORE,
    NODE_CORE_NAME,
    NODE_CORE_ENERGY,
    NODE_CORE_RANGE,
    NODE_CORE_ENABLED,
    NODE_DRAM,
    NODE_DRAM_NAME,
    NODE_DRAM_ENERGY,
    NODE_DRAM_RANGE,
    NODE_DRAM_ENABLED,
    NODE_PSYS,
    NODE_PSYS_NAME,
    NODE_PSYS_ENERGY,
    NODE_PSYS_RANGE,
    NODE_PSYS_ENABLED,
    NODE_PACKAGE_LINK,
    NODE_CORE_LINK,
    NODE_DRAM_LINK,
    NODE_PSYS_LINK,
    NODE_DEVICES,
    NODE_DEVICES_VIRTUAL,
    NODE_DEVICES_POWERCAP,
    NODE_DEVICES_LINK,
    NODE_VIRTJOULE,
    NODE_INTERVAL,
    NODE_AGE,
    NODE_SOURCE,
    NODE_POLICY,
    NODE_VERSION,
    NODE_COUNT,
};

_Static_assert(NODE_COUNT <= TREE_NODE_NAME_LINK, "node numbers fit beside the by-name link's");

#define ZONE_BIT(zone) (1U << (zone))
#define ZONE_NONE TREE_ZONES

/* The age goes up in so many steps an interval. */
#define AGE_STEPS 10

struct node {
    const char *name;
    unsigned parent;
    enum tree_node_type type;
    enum tree_zone zone; /* the VM must have it; ZONE_NONE for nodes of every tree */
    bool numbered;       /* the subzone's number follows the name and the target */
    const char *target;
    int (*render)(const struct tree_view *view, const struct snapshot_vm *vm, enum tree_zone zone,
                  char ret[TREE_TEXT_MAX]);
};

static int render_text(const char *text, char ret[TREE_TEXT_MAX])
{
    return snprintf(ret, TREE_TEXT_MAX, "%.*s\n", TREE_TEXT_MAX - 2, text);
}

static int render_number(uint64_t number, char ret[TREE_TEXT_MAX])
{
    return snprintf(ret, TREE_TEXT_MAX, "%" PRIu64 "\n", number);
}

static int render_one(const struct tree_view *view, const struct snapshot_vm *vm,
                      enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    return render_number(1, ret);
}

static int render_zone_name(const struct tree_view *view, const struct snapshot_vm *vm,
                            enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    static const char *const names[TREE_ZONES] = {
        [TREE_PACKAGE] = "package-0",
        [TREE_CORE] = "core",
        [TREE_DRAM] = "dram",
        [TREE_PSYS] = "psys",
    };

    return render_text(names[zone], ret);
}

/*
 * The counter runs from 0 to the maximum and then begins anew, as the kernel's
 * does, so a wrap is worth max - prev + cur + 1. Readers reckon
 * max - prev + cur (see sample.h): each wrap costs them one microjoule. The
 * total is cut to the quantum before it wraps; cut afterwards, the step over
 * the wrap would be wrong by up to a quantum.
 */
static int render_energy(const struct tree_view *view, const struct snapshot_vm *vm,
                         enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    uint64_t energy_uj = snapshot_energy_uj(view->snapshot, vm, zone, view->time_ns);

    if (view->quantum_uj > 1)
        energy_uj -= energy_uj % view->quantum_uj;
    return render_number(energy_uj % (TREE_MAX_ENERGY_UJ + 1), ret);
}

static int render_range(const struct tree_view *view, const struct snapshot_vm *vm,
                        enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    return render_number(TREE_MAX_ENERGY_UJ, ret);
}

static int render_interval(const struct tree_view *view, const struct snapshot_vm *vm,
                           enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    return render_number(view->snapshot->interval_ns / NSEC_PER_USEC, ret);
}

/*
 * Since the values are shown, and in steps. The time from the sample on would tell how long the
 * daemon's tick takes, and so how many VMs there are.
 */
static int render_age(const struct tree_view *view, const struct snapshot_vm *vm,
                      enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    const struct snapshot *snapshot = view->snapshot;
    uint64_t step_ns = snapshot->interval_ns > AGE_STEPS ? snapshot->interval_ns / AGE_STEPS : 1;
    uint64_t shown_ns = snapshot->time_ns;

    if (shown_ns < snapshot->ramp_start_ns)
        shown_ns = snapshot->ramp_start_ns;
    if (view->time_ns <= shown_ns)
        return render_number(0, ret);
    return render_number((view->time_ns - shown_ns) / step_ns * step_ns / NSEC_PER_USEC, ret);
}

static int render_source(const struct tree_view *view, const struct snapshot_vm *vm,
                         enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    return render_text(view->snapshot->source, ret);
}

static int render_policy(const struct tree_view *view, const struct snapshot_vm *vm,
                         enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    return render_text(view->snapshot->static_policy, ret);
}

static int render_version(const struct tree_view *view, const struct snapshot_vm *vm,
                          enum tree_zone zone, char ret[TREE_TEXT_MAX])
{
    return render_text(view->version, ret);
}

#define DIRECTORY(n, in)                                                                           \
    {                                                                                              \
        .name = (n), .parent = (in), .type = TREE_DIRECTORY, .zone = ZONE_NONE                     \
    }
#define FILE_OF(n, in, z, r)                                                                       \
    {                                                                                              \
        .name = (n), .parent = (in), .type = TREE_FILE, .zone = (z), .render = (r)                 \
    }
#define LINK(n, in, z, to, number)                                                                 \
    {                                                                                              \
        .name = (n), .parent = (in), .type = TREE_LINK, .zone = (z), .target = (to),               \
        .numbered = (number)                                                                       \
    }
/* A zone's directory and its files. */
#define ZONE_NODES(id, n, in, z, number)                                                           \
    [id] = {.name = (n),                                                                           \
            .parent = (in),                                                                        \
            .type = TREE_DIRECTORY,                                                                \
            .zone = (z),                                                                           \
            .numbered = (number)},                                                                 \
    [id##_NAME] = FILE_OF("name", id, z, render_zone_name),                                        \
    [id##_ENERGY] = FILE_OF("energy_uj", id, z, render_energy),                                    \
    [id##_RANGE] = FILE_OF("max_energy_range_uj", id, z, render_range),                            \
    [id##_ENABLED] = FILE_OF("enabled", id, z, render_one)

/* Every node stands after its parent. */
static const struct node nodes[NODE_COUNT] = {
    [NODE_SHARE] = DIRECTORY("", NODE_SHARE),
    [NODE_CLASS] = DIRECTORY("class", NODE_SHARE),
    [NODE_CLASS_POWERCAP] = DIRECTORY("powercap", NODE_CLASS),
    [NODE_CONTROL] = DIRECTORY("intel-rapl", NODE_CLASS_POWERCAP),
    [NODE_CONTROL_ENABLED] = FILE_OF("enabled", NODE_CONTROL, ZONE_NONE, render_one),

    ZONE_NODES(NODE_PACKAGE, "intel-rapl:0", NODE_CONTROL, TREE_PACKAGE, false),
    ZONE_NODES(NODE_CORE, "intel-rapl:0:", NODE_PACKAGE, TREE_CORE, true),
    ZONE_NODES(NODE_DRAM, "intel-rapl:0:", NODE_PACKAGE, TREE_DRAM, true),
    ZONE_NODES(NODE_PSYS, "intel-rapl:1", NODE_CONTROL, TREE_PSYS, false),

    [NODE_PACKAGE_LINK] =
        LINK("intel-rapl:0", NODE_CLASS_POWERCAP, TREE_PACKAGE, "intel-rapl/intel-rapl:0", false),
    [NODE_CORE_LINK] = LINK("intel-rapl:0:", NODE_CLASS_POWERCAP, TREE_CORE,
                            "intel-rapl/intel-rapl:0/intel-rapl:0:", true),
    [NODE_DRAM_LINK] = LINK("intel-rapl:0:", NODE_CLASS_POWERCAP, TREE_DRAM,
                            "intel-rapl/intel-rapl:0/intel-rapl:0:", true),
    [NODE_PSYS_LINK] =
        LINK("intel-rapl:1", NODE_CLASS_POWERCAP, TREE_PSYS, "intel-rapl/intel-rapl:1", false),

    [NODE_DEVICES] = DIRECTORY("devices", NODE_SHARE),
    [NODE_DEVICES_VIRTUAL] = DIRECTORY("virtual", NODE_DEVICES),
    [NODE_DEVICES_POWERCAP] = DIRECTORY("powercap", NODE_DEVICES_VIRTUAL),
    [NODE_DEVICES_LINK] = LINK("intel-rapl", NODE_DEVICES_POWERCAP, ZONE_NONE,
                               "../../../class/powercap/intel-rapl", false),

    [NODE_VIRTJOULE] = DIRECTORY("virtjoule", NODE_SHARE),
    [NODE_INTERVAL] = FILE_OF("interval_us", NODE_VIRTJOULE, ZONE_NONE, render_interval),
    [NODE_AGE] = FILE_OF("age_us", NODE_VIRTJOULE, ZONE_NONE, render_age),
    [NODE_SOURCE] = FILE_OF("source", NODE_VIRTJOULE, ZONE_NONE, render_source),
    [NODE_POLICY] = FILE_OF("policy", NODE_VIRTJOULE, ZONE_NONE, render_policy),
    [NODE_VERSION] = FILE_OF("version", NODE_VIRTJOULE, ZONE_NONE, render_version),
};

/* The zones of the tree. The subzones are in the package's directory, so they need the package. */
static unsigned vm_zones(const struct snapshot_vm *vm)
{
    if (vm->tree_zones & ZONE_BIT(TREE_PACKAGE))
        return vm->tree_zones;
    return vm->tree_zones & ZONE_BIT(TREE_PSYS);
}

/* Subzones count from 0, core before dram, without gaps: M of intel-rapl:0:M. */
static unsigned subzone_number(const struct snapshot_vm *vm, enum tree_zone zone)
{
    return zone == TREE_DRAM && (vm_zones(vm) & ZONE_BIT(TREE_CORE)) ? 1 : 0;
}

bool tree_node_exists(const struct snapshot_vm *vm, unsigned node)
{
    if (node == TREE_NODE_NAME_LINK)
        return true;
    if (node >= NODE_COUNT)
        return false;
    return nodes[node].zone == ZONE_NONE || (vm_zones(vm) & ZONE_BIT(nodes[node].zone));
}

enum tree_node_type tree_node_type(unsigned node)
{
    assert(node < NODE_COUNT || node == TREE_NODE_NAME_LINK);
    return node == TREE_NODE_NAME_LINK ? TREE_LINK : nodes[node].type;
}

unsigned tree_node_parent(unsigned node)
{
    assert(node < NODE_COUNT);
    return nodes[node].parent;
}

int tree_node_next(const struct snapshot_vm *vm, unsigned directory, unsigned from)
{
    for (unsigned node = from > NODE_SHARE ? from : NODE_SHARE + 1; node < NODE_COUNT; node++)
        if (nodes[node].parent == directory && tree_node_exists(vm, node))
            return (int)node;
    return -ENOENT;
}

int tree_node_child(const struct snapshot_vm *vm, unsigned directory, const char *name)
{
    char text[TREE_TEXT_MAX];
    int node = NODE_SHARE;

    while ((node = tree_node_next(vm, directory, (unsigned)node + 1)) >= 0) {
        tree_node_name(vm, (unsigned)node, text);
        if (strcmp(text, name) == 0)
            return node;
    }
    return -ENOENT;
}

/* Writes the text, followed by the subzone's number where the node is numbered. */
static size_t write_numbered(const struct snapshot_vm *vm, const struct node *node,
                             const char *text, char ret[TREE_TEXT_MAX])
{
    if (node->numbered)
        return (size_t)snprintf(ret, TREE_TEXT_MAX, "%s%u", text, subzone_number(vm, node->zone));
    return (size_t)snprintf(ret, TREE_TEXT_MAX, "%s", text);
}

size_t tree_node_name(const struct snapshot_vm *vm, unsigned node, char ret[TREE_TEXT_MAX])
{
    assert(node < NODE_COUNT);
    return write_numbered(vm, &nodes[node], nodes[node].name, ret);
}

size_t tree_node_target(const struct snapshot_vm *vm, unsigned node, char ret[TREE_TEXT_MAX])
{
    if (node == TREE_NODE_NAME_LINK)
        return (size_t)snprintf(ret, TREE_TEXT_MAX, "../%s", vm->uuid_text);
    assert(node < NODE_COUNT && nodes[node].target);
    return write_numbered(vm, &nodes[node], nodes[node].target, ret);
}

size_t tree_node_render(const struct tree_view *view, const struct snapshot_vm *vm, unsigned node,
                        char ret[TREE_TEXT_MAX])
{
    assert(node < NODE_COUNT && nodes[node].render);
    return (size_t)nodes[node].render(view, vm, nodes[node].zone, ret);
}
