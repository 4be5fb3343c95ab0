/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/machine_cgroup.h"

#include <stdbool.h>
#include <string.h>

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
    if (ends_with(component, ".libvirt-qemu"))
        return true;
    if (!ends_with(component, ".scope"))
        return false;
    return starts_with(component, "machine-qemu\\x2d") || is_equal(parent, "qemu.slice");
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

/* The path is what follows the line's second colon; controllers' names hold none. */
static bool line_path(struct text line, struct text *ret)
{
    const char *end = line.p + line.length;
    const char *colon = memchr(line.p, ':', line.length);

    if (colon)
        colon = memchr(colon + 1, ':', (size_t)(end - colon - 1));
    if (!colon)
        return false;
    *ret = (struct text){colon + 1, (size_t)(end - colon - 1)};
    return true;
}

int parse_machine_cgroup(const char *text, size_t length, struct machine_cgroup *ret)
{
    const char *end = text + length;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        struct text path;

        if (!newline)
            return 0;
        if (line_path((struct text){text, (size_t)(newline - text)}, &path) &&
            search_path(path, ret))
            return 1;
        text = newline + 1;
    }
    return 0;
}
