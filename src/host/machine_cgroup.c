/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/machine_cgroup.h"

#include <stdbool.h>
#include <string.h>

#include "shared/vm_names.h"

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
 * same machine in every hierarchy that knows machines, and all processes list
 * the hierarchies in one order, so the first line that has one decides.
 */

struct text {
    const char *p;
    size_t length;
};

static bool starts_with(struct text t, const char *prefix)
{
    size_t n = strlen(prefix);

    return t.length >= n && memcmp(t.p, prefix, n) == 0;
}

static bool ends_with(struct text t, const char *suffix)
{
    size_t n = strlen(suffix);

    return t.length >= n && memcmp(t.p + t.length - n, suffix, n) == 0;
}

static bool is_equal(struct text t, const char *word)
{
    return t.length == strlen(word) && memcmp(t.p, word, t.length) == 0;
}

static bool is_machine(struct text parent, struct text component)
{
    if (ends_with(component, MACHINE_SUFFIX))
        return true;
    if (!ends_with(component, ".scope"))
        return false;
    return starts_with(component, MACHINE_PREFIX "\\x2d") || is_equal(parent, "qemu.slice");
}

static bool is_pod(bool below_kubepods, struct text component)
{
    if (!below_kubepods)
        return false;
    return starts_with(component, "pod") ||
           (ends_with(component, ".slice") && memmem(component.p, component.length, "-pod", 4));
}

static int search_path(struct text path, struct machine_cgroup *ret)
{
    const char *end = path.p + path.length;
    bool below_kubepods = false;
    struct text parent = {0};
    struct machine_cgroup pod;
    bool has_pod = false;

    for (const char *p = path.p; p < end;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        struct text component = {p, (size_t)((slash ? slash : end) - p)};
        size_t length = (size_t)(component.p + component.length - path.p);

        if (is_machine(parent, component)) {
            *ret = (struct machine_cgroup){MACHINE_CGROUP_SCOPE, path.p, length};
            return 1;
        }
        if (!has_pod && is_pod(below_kubepods, component)) {
            pod = (struct machine_cgroup){MACHINE_CGROUP_POD, path.p, length};
            has_pod = true;
        }
        below_kubepods |= starts_with(component, "kubepods");
        parent = component;
        p = component.p + component.length + 1;
    }
    if (has_pod)
        *ret = pod;
    return has_pod;
}

/* A line "id:controllers:path"; controllers' names hold no colon. */
static bool split_line(struct text line, struct text *ret_controllers, struct text *ret_path)
{
    const char *end = line.p + line.length;
    const char *first = memchr(line.p, ':', line.length), *second;

    if (!first)
        return false;
    second = memchr(first + 1, ':', (size_t)(end - first - 1));
    if (!second)
        return false;
    *ret_controllers = (struct text){first + 1, (size_t)(second - first - 1)};
    *ret_path = (struct text){second + 1, (size_t)(end - second - 1)};
    return true;
}

/* Whether a list "cpu,cpuacct" has the word; the empty list has the empty word. */
static bool list_has(struct text list, const char *word)
{
    for (;;) {
        const char *comma = memchr(list.p, ',', list.length);
        struct text item = {list.p, comma ? (size_t)(comma - list.p) : list.length};

        if (is_equal(item, word))
            return true;
        if (!comma)
            return false;
        list.length -= (size_t)(comma + 1 - list.p);
        list.p = comma + 1;
    }
}

/* Takes the next whole line from *text and splits it. @return its start, or NULL at the end;
 * path.p is NULL in one that is no line of a cgroup file */
static const char *next_line(const char **text, const char *end, struct text *ret_controllers,
                             struct text *ret_path)
{
    const char *line = *text;
    const char *newline = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;

    if (!newline)
        return NULL;
    *text = newline + 1;
    if (!split_line((struct text){line, (size_t)(newline - line)}, ret_controllers, ret_path))
        *ret_path = (struct text){0};
    return line;
}

int parse_machine_cgroup(const char *text, size_t length, struct machine_cgroup *ret)
{
    const char *end = text + length;
    struct text controllers, path;

    while (next_line(&text, end, &controllers, &path))
        if (path.p && search_path(path, ret))
            return 1;
    return 0;
}

int parse_cgroup_line(const char *text, size_t length, const char *controller, const char **ret,
                      size_t *ret_length)
{
    const char *end = text + length, *line;
    struct text controllers, path;

    while ((line = next_line(&text, end, &controllers, &path)))
        if (path.p && list_has(controllers, controller)) {
            *ret = line;
            *ret_length = (size_t)(text - line);
            return 1;
        }
    return 0;
}

bool machine_cgroup_is_private(const struct machine_cgroup *cgroup)
{
    const char *end = cgroup->path + cgroup->length;

    if (cgroup->type != MACHINE_CGROUP_SCOPE || cgroup->length == 0 || *cgroup->path != '/')
        return false;
    for (const char *p = cgroup->path + 1;;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        struct text component = {p, (size_t)((slash ? slash : end) - p)};

        if (!slash)
            return true; /* the machine itself */
        if (!ends_with(component, ".slice") && !ends_with(component, ".partition") &&
            !is_equal(component, "machine"))
            return false;
        p = slash + 1;
    }
}
