/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/discovery.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <systemd/sd-id128.h>

#include "discovery/proc_scan.h"
#include "discovery/vm_merge.h"
#include "host/machine_cgroup.h"
#include "libvirt/libvirt_watch.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "util/parse.h"

/* Of qemu:///system: NAME.pid for each running domain. */
#define LIBVIRT_PID_DIRECTORY "/run/libvirt/qemu"

struct discovery {
    bool procfs;
    struct proc_scan *scan;
    struct libvirt_watch *libvirt; /* or NULL */
    bool stale;                    /* processes or domains changed since VMs were listed */
    struct vm_excess excess;       /* as logged */
};

DEFINE_CLEANUP(struct discovery *, discovery_free);

/* Without a machine-id the null name space serves: derived UUIDs stay stable on this machine, but
 * may equal those of another such machine. */
static struct vm_uuid_spaces read_uuid_spaces(void)
{
    struct vm_uuid_spaces spaces = {0};
    sd_id128_t id;
    int r = sd_id128_get_machine(&id);

    if (r >= 0)
        memcpy(spaces.machine, id.bytes, sizeof(spaces.machine));
    else
        log_debug("no machine-id", F_ERROR(r));
    r = sd_id128_get_boot(&id);
    if (r >= 0)
        memcpy(spaces.boot, id.bytes, sizeof(spaces.boot));
    else
        log_debug("no boot id", F_ERROR(r));
    return spaces;
}

int discovery_new(const struct discovery_config *config, struct discovery **ret)
{
    _cleanup_(cleanup_discovery_free) struct discovery *discovery = calloc(1, sizeof(*discovery));
    const struct proc_scan_config scan = {
        .proc_root = config->proc_root,
        .spaces = read_uuid_spaces(),
        .owners = config->owners,
        .untrusted_vms = config->untrusted_vms,
        .vcpus_max = (unsigned)get_nprocs_conf(),
    };
    int r;

    if (!discovery)
        return -ENOMEM;
    discovery->procfs = config->procfs;
    discovery->stale = true;
    r = proc_scan_new(&scan, &discovery->scan);
    if (r < 0)
        return r;
    if (config->libvirt_uri && config->libvirt_uri[0] != '\0') {
        r = libvirt_watch_new(config->libvirt_uri, &discovery->libvirt);
        if (r < 0)
            return r;
    }
    *ret = TAKE_PTR(discovery);
    return 0;
}

struct discovery *discovery_free(struct discovery *discovery)
{
    if (!discovery)
        return NULL;
    libvirt_watch_free(discovery->libvirt);
    proc_scan_free(discovery->scan);
    free(discovery);
    return NULL;
}

/* The domains as evidence of which process is whose. */
struct known_domains {
    struct vm_domains head;
    const struct libvirt_domain *domains; /* sorted by UUID */
    size_t n;
};

static int compare_domain(const void *key, const void *element)
{
    return uuid_compare(key, ((const struct libvirt_domain *)element)->uuid);
}

/* The number of a domain's start is libvirt's id of it, as it is in the name of its group. */
static bool is_in_scope(const struct libvirt_domain *domain, const struct process *process)
{
    return process->private_machine && domain->start_number != 0 &&
           machine_cgroup_libvirt_id(process->machine) == domain->start_number;
}

static bool is_in_pid_file(const struct libvirt_domain *domain, const struct process *process)
{
    char path[sizeof(LIBVIRT_PID_DIRECTORY) + VM_NAME_MAX + 8], text[32];
    ssize_t length;
    uint64_t pid;

    snprintf(path, sizeof(path), LIBVIRT_PID_DIRECTORY "/%s.pid", domain->name);
    length = read_file(AT_FDCWD, path, text, sizeof(text));
    while (length > 0 && text[length - 1] == '\n')
        length--;
    return length > 0 && parse_u64(text, (size_t)length, &pid) == 0 &&
           pid == (uint64_t)process->id.pid;
}

static bool is_domains(const struct vm_domains *head, const uuid_t uuid,
                       const struct process *process)
{
    const struct known_domains *known = (const struct known_domains *)head;
    const struct libvirt_domain *domain = NULL;

    if (known->n > 0)
        domain = bsearch(uuid, known->domains, known->n, sizeof(*domain), compare_domain);
    return domain && (is_in_scope(domain, process) || is_in_pid_file(domain, process));
}

static bool domains_changed(const struct discovery *discovery)
{
    struct pollfd event = {.fd = discovery_event_fd(discovery), .events = POLLIN};

    return poll(&event, 1, 0) > 0;
}

static void note_excess(struct discovery *discovery, const struct vm_excess *excess)
{
    if (excess->vms > discovery->excess.vms)
        log_warning("too many VMs: the usage of the youngest ones counts to the host",
                    F_UINT("left_out", excess->vms), F_UINT("max", VMS_MAX));
    if (excess->sockets > discovery->excess.sockets)
        log_warning("a VM's command line names too many sockets: helpers on the last ones count to "
                    "the host",
                    F_INT("pid", excess->pid), F_UINT("left_out", excess->sockets),
                    F_UINT("max", QEMU_SOCKETS_MAX));
    discovery->excess = *excess;
}

static int list_vms(struct discovery *discovery, const struct libvirt_domain *domains,
                    size_t n_domains, struct vm_table *ret)
{
    _cleanup_(vm_table_deinit) struct vm_table found = {0};
    int r = proc_scan_list_vms(discovery->scan, &found);

    if (r == 0)
        r = vm_merge(&found, domains, n_domains, discovery->procfs, ret);
    if (r < 0)
        return r;
    discovery->stale = false;
    note_excess(discovery, &ret->excess);
    return 1;
}

int discovery_refresh(struct discovery *discovery, const struct process_changes *changes,
                      struct vm_table *ret)
{
    _cleanup_free_ struct libvirt_domain *domains = NULL;
    struct known_domains known;
    size_t n_domains = 0;
    int r;

    discovery->stale |= domains_changed(discovery);
    if (!changes->all && changes->n == 0 && !discovery->stale)
        return 0;
    if (discovery->libvirt) {
        r = libvirt_watch_domains(discovery->libvirt, &domains, &n_domains);
        if (r < 0)
            return r;
    }
    known = (struct known_domains){{is_domains}, domains, n_domains};
    r = proc_scan_refresh(discovery->scan, changes, &known.head);
    if (r < 0)
        return r;
    discovery->stale |= r > 0;
    return discovery->stale ? list_vms(discovery, domains, n_domains, ret) : 0;
}

void discovery_publish_energy(struct discovery *discovery, struct vm_departure *departures,
                              size_t n)
{
    if (discovery->libvirt)
        libvirt_watch_publish_energy(discovery->libvirt, departures, n);
}

int discovery_event_fd(const struct discovery *discovery)
{
    return discovery->libvirt ? libvirt_watch_event_fd(discovery->libvirt) : -1;
}
