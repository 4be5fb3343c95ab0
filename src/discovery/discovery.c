/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/discovery.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "discovery/proc_scan.h"
#include "discovery/vm_merge.h"
#include "libvirt/libvirt_watch.h"
#include "util/cleanup.h"
#include "util/log.h"

struct discovery {
    bool procfs;
    struct proc_scan *scan;
    struct libvirt_watch *libvirt; /* or NULL */
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
    struct vm_uuid_spaces spaces = read_uuid_spaces();
    int r;

    if (!discovery)
        return -ENOMEM;
    discovery->procfs = config->procfs;
    r = proc_scan_new(config->proc_root, &spaces, &discovery->scan);
    if (r < 0)
        return r;
    if (config->libvirt_uri && config->libvirt_uri[0] != '\0') {
        r = libvirt_watch_new(config->libvirt_uri, config->metadata_socket, &discovery->libvirt);
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

static bool domains_changed(const struct discovery *discovery)
{
    struct pollfd event = {.fd = discovery_event_fd(discovery), .events = POLLIN};

    return poll(&event, 1, 0) > 0;
}

int discovery_refresh(struct discovery *discovery, const struct process_changes *changes,
                      struct vm_table *ret)
{
    _cleanup_(vm_table_deinit) struct vm_table found = {0};
    _cleanup_free_ struct libvirt_domain *domains = NULL;
    size_t n_domains = 0;
    int r;

    if (!changes->all && changes->n == 0 && !domains_changed(discovery))
        return 0;
    if (discovery->libvirt) {
        r = libvirt_watch_domains(discovery->libvirt, &domains, &n_domains);
        if (r < 0)
            return r;
    }
    r = proc_scan_refresh(discovery->scan, changes, &found);
    if (r < 0)
        return r;
    r = vm_merge(&found, domains, n_domains, discovery->procfs, ret);
    return r < 0 ? r : 1;
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
