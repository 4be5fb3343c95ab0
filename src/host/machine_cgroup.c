/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/machine_cgroup.h"

#include <stdbool.h>
#include <string.h>

#include "shared/vm_names.h"
#include "util/cursor.h"

/*
 * One component of the path names the machine; the ones below it are the parts
 * into which libvirt sorts its threads (emulator, vcpuN, libvirt), the ones
 * above it are the host's:
 *
 *     /machine.slice/machine-qemu\x2d3\x2dNAME.scope/libvirt/emulator  systemd, libvirt
 *     /machine/qemu-3-NAME.libvirt-qemu/emulator                       no systemd, libvirt
 *     /qemu.slice/100.scope                                            Proxmox
 *     /kubepods.slice/.../kubepods-burstable-podUID.slice/...          Kubernetes, systemd
 *     /kubepods/burstable/podUID/...                                   Kubernetes, cgroupfs
 *
 * The key is the path up to and including that component. A process is in the
 * same machine in every hierarchy that has machines, and all processes list
 * the hierarchies in one order, so the first line with a machine decides.
 */

static bool is_machine(struct cursor parent, struct cursor component)
{
    if (cursor_ends_with(component, MACHINE_SUFFIX))
        return true;
    if (!cursor_ends_with(component, ".scope"))
        return false;
    return cursor_starts_with(component, MACHINE_PREFIX "\\x2d") ||
           cursor_equals(parent, "qemu.slice");
}

static bool is_pod(bool below_kubepods, struct cursor component)
{
    if (!below_kubepods)
        return false;
    return cursor_starts_with(component, "pod") ||
           (cursor_ends_with(component, ".slice") &&
            memmem(component.p, cursor_length(component), "-pod", strlen("-pod")));
}

static bool search_path(struct cursor path, struct machine_cgroup *ret)
{
    struct cursor rest = path, component, parent = {0};
    bool below_kubepods = false, has_pod = false;
    struct machine_cgroup pod;

    while (take_field(&rest, '/', &component)) {
        size_t length = (size_t)(component.end - path.p);

        if (is_machine(parent, component)) {
            *ret = (struct machine_cgroup){MACHINE_CGROUP_SCOPE, path.p, length};
            return true;
        }
        if (!has_pod && is_pod(below_kubepods, component)) {
            pod = (struct machine_cgroup){MACHINE_CGROUP_POD, path.p, length};
            has_pod = true;
        }
        below_kubepods |= cursor_starts_with(component, "kubepods");
        parent = component;
    }
    if (has_pod)
        *ret = pod;
    return has_pod;
}

/* Whether a list "cpu,cpuacct" has the word; the empty list has the empty word. */
static bool list_has(struct cursor list, const char *word)
{
    struct cursor item;

    if (cursor_equals(list, word))
        return true;
    while (take_field(&list, ',', &item))
        if (cursor_equals(item, word))
            return true;
    return false;
}

/* Takes the next line "id:controllers:path"; names of controllers hold no colon. Lines of another
 * form are passed over. @return its start, or NULL at the end */
static const char *next_line(struct cursor *text, struct cursor *ret_controllers,
                             struct cursor *ret_path)
{
    struct cursor line, id;

    while (take_line(text, &line)) {
        const char *start = line.p;

        if (take_until(&line, ':', &id) && take_until(&line, ':', ret_controllers)) {
            *ret_path = line;
            return start;
        }
    }
    return NULL;
}

int parse_machine_cgroup(const char *text, size_t length, struct machine_cgroup *ret)
{
    struct cursor rest = {text, text + length}, controllers, path;

    while (next_line(&rest, &controllers, &path))
        if (search_path(path, ret))
            return 1;
    return 0;
}

int parse_cgroup_line(const char *text, size_t length, const char *controller, const char **ret,
                      size_t *ret_length)
{
    struct cursor rest = {text, text + length}, controllers, path;
    const char *line;

    while ((line = next_line(&rest, &controllers, &path)))
        if (list_has(controllers, controller)) {
            *ret = line;
            *ret_length = (size_t)(rest.p - line);
            return 1;
        }
    return 0;
}

/* Whether only the host's service manager makes groups in it. */
static bool is_host_group(struct cursor component)
{
    if (cursor_equals(component, "user.slice"))
        return false;
    return cursor_ends_with(component, ".slice") || cursor_ends_with(component, ".partition") ||
           cursor_equals(component, "machine");
}

bool machine_cgroup_is_private(const struct machine_cgroup *cgroup)
{
    struct cursor rest = {cgroup->path, cgroup->path + cgroup->length}, component;

    if (cgroup->type != MACHINE_CGROUP_SCOPE || !take_byte(&rest, '/'))
        return false;
    while (take_until(&rest, '/', &component))
        if (!is_host_group(component))
            return false;
    return true; /* what is left is the machine itself */
}

/* The digits between the name of the driver and that of the domain; systemd escapes the dashes. */
static bool take_machine_id(struct cursor machine, unsigned *ret)
{
    uint64_t id;

    if (take_text(&machine, MACHINE_PREFIX "\\x2d")) {
        if (!take_digits(&machine, &id) || !take_text(&machine, "\\x2d"))
            return false;
    } else if (!cursor_ends_with(machine, MACHINE_SUFFIX) || !take_text(&machine, "qemu-") ||
               !take_digits(&machine, &id) || !take_byte(&machine, '-')) {
        return false;
    }
    *ret = (unsigned)id;
    return id > 0 && id <= UINT_MAX;
}

unsigned machine_cgroup_libvirt_id(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    unsigned id;

    return take_machine_id((struct cursor){name, name + strlen(name)}, &id) ? id : 0;
}
