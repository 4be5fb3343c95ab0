/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Checks of libvirt, and of the share of each domain that has one. */

#include "doctor/doctor_check.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "host/mounts.h"
#include "powercapfs/mount.h"
#include "util/file.h"

/* A guest that still boots, or whose Prometheus asks once a minute, is not reported before. */
#define READING_AFTER_S 90

/* Asking libvirt. */

struct listing {
    char uri[CONFIG_PATH_MAX];
    struct doctor_domain *domains;
    size_t n;
    char problem[256]; /* in libvirt's words */
};

static void ignore_error(void *userdata, virErrorPtr error)
{
}

static bool read_share(virDomainPtr domain, unsigned flags, struct domain_virtiofs *ret)
{
    _cleanup_free_ char *xml = virDomainGetXMLDesc(domain, flags);

    return xml && domain_xml_read(xml, strlen(xml), ret) == 0;
}

/* A domain that disappears in this moment is left out. */
static bool read_domain(virDomainPtr domain, struct doctor_domain *ret)
{
    const char *name = virDomainGetName(domain);

    ret->active = virDomainIsActive(domain) == 1;
    ret->persistent = virDomainIsPersistent(domain) == 1;
    if (!name || virDomainGetUUIDString(domain, ret->uuid) < 0 ||
        (ret->active && !read_share(domain, 0, &ret->live)) ||
        (ret->persistent && !read_share(domain, VIR_DOMAIN_XML_INACTIVE, &ret->defined)))
        return false;
    ret->name = strdup(name);
    return ret->name != NULL;
}

static int list_domains(void *data)
{
    struct listing *listing = data;
    virConnectPtr connection = virConnectOpenReadOnly(listing->uri);
    virDomainPtr *handles = NULL;
    int n = connection ? virConnectListAllDomains(connection, &handles, 0) : -1;

    if (n < 0)
        snprintf(listing->problem, sizeof(listing->problem), "%s", virGetLastErrorMessage());
    else
        listing->domains = calloc((size_t)n + 1, sizeof(*listing->domains));
    for (int i = 0; i < n; i++) {
        if (listing->domains && read_domain(handles[i], &listing->domains[listing->n]))
            listing->n++;
        virDomainFree(handles[i]);
    }
    free(handles);
    if (connection)
        virConnectClose(connection);
    return n < 0 ? -ENOTCONN : 0;
}

void doctor_read_domains(struct doctor *doctor)
{
    struct listing *listing;
    int r;

    if (doctor->config.libvirt_uri[0] == '\0')
        return;
    listing = calloc(1, sizeof(*listing));
    if (!listing)
        return;
    snprintf(listing->uri, sizeof(listing->uri), "%s", doctor->config.libvirt_uri);
    virSetErrorFunc(NULL, ignore_error);
    r = doctor_call(list_domains, listing);
    if (r == -ETIMEDOUT) {
        doctor_report(doctor, SEVERITY_ERROR, "libvirt-hangs",
                      doctor_text("libvirt does not answer at %s", doctor->config.libvirt_uri),
                      doctor_text("systemctl restart libvirtd (VMs go on)"));
        return;
    }
    if (r < 0)
        doctor_report(
            doctor, SEVERITY_ERROR, "libvirt-unreachable",
            doctor_text("libvirt at %s: %s", doctor->config.libvirt_uri, listing->problem),
            doctor_text("systemctl start libvirtd; on a host without libvirt set "
                        "[discovery] libvirt_uri = (nothing) in %s",
                        doctor->config_file));
    doctor->domains = listing->domains;
    doctor->n_domains = listing->n;
    free(listing);
}

/* Domains. */

/* The part of a source directory below the mount point; NULL where the directory is elsewhere. */
static const char *below_mountpoint(const struct doctor *doctor, const char *source)
{
    size_t length = strlen(doctor->config.mountpoint);

    if (strncmp(source, doctor->config.mountpoint, length) != 0 || source[length] != '/')
        return NULL;
    return source + length + strspn(source + length, "/");
}

/* The device that is meant as an energy share, by its tag or else by its directory. */
static const struct virtiofs_device *find_device(const struct doctor *doctor,
                                                 const struct domain_virtiofs *share)
{
    for (size_t i = 0; i < share->n_devices; i++)
        if (strcmp(share->devices[i].tag, SHARE_TAG) == 0)
            return &share->devices[i];
    for (size_t i = 0; i < share->n_devices; i++)
        if (below_mountpoint(doctor, share->devices[i].source))
            return &share->devices[i];
    return NULL;
}

static char *attach_again(const struct doctor_domain *domain)
{
    return doctor_text("virtjoule detach %s && virtjoule attach %s, then shut the VM down and "
                       "start it",
                       domain->name, domain->name);
}

static void check_source(struct doctor *doctor, const struct doctor_domain *domain,
                         const struct virtiofs_device *device)
{
    const char *below = below_mountpoint(doctor, device->source);
    size_t length = below ? strcspn(below, "/") : 0;
    char name[UUID_TEXT_SIZE] = "";
    uuid_t uuid;

    if (!below) {
        doctor_report(doctor, SEVERITY_ERROR, "domain-share-elsewhere",
                      doctor_text("%s: its share is %s, which is not below %s", domain->name,
                                  device->source, doctor->config.mountpoint),
                      attach_again(domain));
        return;
    }
    if (length < sizeof(name))
        memcpy(name, below, length);
    if (strcasecmp(name, domain->uuid) == 0 && below[length + strspn(below + length, "/")] == '\0')
        return;
    doctor_report(doctor, SEVERITY_ERROR, "domain-share-foreign",
                  uuid_parse(name, uuid) == 0
                      ? doctor_text("%s: its share %s is that of another VM: it was cloned, or its "
                                    "UUID was changed",
                                    domain->name, device->source)
                      : doctor_text("%s: its share %s is not its own directory", domain->name,
                                    device->source),
                  attach_again(domain));
}

static void check_share(struct doctor *doctor, const struct doctor_domain *domain,
                        const struct domain_virtiofs *share)
{
    const struct virtiofs_device *device = find_device(doctor, share);

    if (!device)
        return;
    check_source(doctor, domain, device);
    if (strcmp(device->tag, SHARE_TAG) != 0)
        doctor_report(
            doctor, SEVERITY_ERROR, "domain-wrong-tag",
            doctor_text("%s: its share has the tag \"%s\", the guest looks for \"" SHARE_TAG "\"",
                        domain->name, device->tag),
            attach_again(domain));
    if (strcmp(device->cache, "none") != 0)
        doctor_report(doctor, SEVERITY_ERROR, "domain-cache-mode",
                      doctor_text("%s: its share has cache mode %s, not none: the guest may see a "
                                  "counter that stands still",
                                  domain->name, device->cache[0] ? device->cache : "auto"),
                      attach_again(domain));
    if (!share->shared_memory)
        doctor_report(
            doctor, SEVERITY_ERROR, "domain-memory-not-shared",
            doctor_text("%s: its memory is not shared: virtiofs cannot work", domain->name),
            attach_again(domain));
    if (device->binary[0] && access(device->binary, X_OK) < 0)
        doctor_report(
            doctor, SEVERITY_ERROR, "domain-virtiofsd-missing",
            doctor_text("%s: its virtiofsd %s cannot be run: the VM will not start", domain->name,
                        device->binary),
            doctor_text("apt install --reinstall qemu-system-common (Debian 12), virtiofsd "
                        "(Debian 13 and others), or correct <binary path> with: virsh "
                        "edit %s",
                        domain->name));
}

static void check_shares(struct doctor *doctor)
{
    for (size_t i = 0; i < doctor->n_domains; i++) {
        const struct doctor_domain *domain = &doctor->domains[i];

        check_share(doctor, domain, &domain->live);
        check_share(doctor, domain, &domain->defined);
        if (!find_device(doctor, &domain->live) && !find_device(doctor, &domain->defined))
            doctor_report(doctor, SEVERITY_INFO, "domain-without-share",
                          doctor_text("%s has no energy share", domain->name),
                          doctor_text("virtjoule attach %s", domain->name));
        else if (domain->active && !find_device(doctor, &domain->live))
            doctor_report(doctor, SEVERITY_WARNING, "domain-restart-needed",
                          doctor_text("%s: its share comes with its next start", domain->name),
                          doctor_text("virsh shutdown %s; virsh start %s (a reboot from inside is "
                                      "not enough)",
                                      domain->name, domain->name));
    }
}

/* Running VMs. */

static struct json_object *find_vm(const struct doctor *doctor, const char *uuid)
{
    struct json_object *vms = NULL;

    if (doctor->first)
        json_object_object_get_ex(doctor->first, "vms", &vms);
    for (size_t i = 0; vms && i < json_object_array_length(vms); i++) {
        struct json_object *vm = json_object_array_get_idx(vms, i);
        const char *text = json_object_get_string(json_object_object_get(vm, "uuid"));

        if (text && strcmp(text, uuid) == 0)
            return vm;
    }
    return NULL;
}

static void check_known(struct doctor *doctor)
{
    for (size_t i = 0; i < doctor->n_domains; i++) {
        const struct doctor_domain *domain = &doctor->domains[i];

        if (doctor->first && !json_object_object_get(doctor->first, "error") &&
            !find_vm(doctor, domain->uuid))
            doctor_report(doctor, SEVERITY_ERROR, "domain-unknown",
                          doctor_text("%s: virtjouled does not know this domain: it does not "
                                      "reach libvirt",
                                      domain->name),
                          doctor_text("systemctl restart virtjoule, then: journalctl -u virtjoule "
                                      "| grep libvirt"));
    }
}

static void check_reading(struct doctor *doctor)
{
    double age_s = 0;

    if (doctor->first)
        age_s = json_object_get_double(json_object_object_get(doctor->first, "interval_seconds")) *
                json_object_get_double(json_object_object_get(doctor->first, "ticks"));
    for (size_t i = 0; age_s > READING_AFTER_S && i < doctor->n_domains; i++) {
        const struct doctor_domain *domain = &doctor->domains[i];
        struct json_object *vm = find_vm(doctor, domain->uuid);

        if (vm && domain->active && find_device(doctor, &domain->live) &&
            json_object_get_uint64(json_object_object_get(vm, "tree_reads")) == 0)
            doctor_report(
                doctor, SEVERITY_WARNING, "guest-not-reading",
                doctor_text("%s has its share, and nothing in it reads its counter", domain->name),
                doctor_text("in the guest: apt install virtjoule-guest && virtjoule "
                            "doctor"));
    }
}

/* The share that a virtiofsd serves: the mount on the root of its mount namespace. */
static bool read_served_share(const struct doctor *doctor, pid_t pid, struct mount_entry *ret)
{
    _cleanup_(mounts_close) struct mounts mounts = {0};
    char path[CONFIG_PATH_MAX + 32];

    snprintf(path, sizeof(path), "%s/%d/mountinfo", doctor->config.proc_root, (int)pid);
    if (mounts_open(&mounts, path) < 0)
        return false;
    while (mounts_next(&mounts, ret))
        if (strcmp(ret->path, "/") == 0 && strcmp(ret->type, POWERCAPFS_TYPE) == 0)
            return true;
    return false;
}

/* The mount of a daemon that was killed ends with it, unless the service manager kept its
   connection: a virtiofsd may still serve the ended one. */
static void check_served(struct doctor *doctor, pid_t pid, const char *comm, void *userdata)
{
    const struct mount_entry *current = userdata;
    struct mount_entry served;

    if (strcmp(comm, "virtiofsd") != 0 || !read_served_share(doctor, pid, &served) ||
        served.device == current->device)
        return;
    for (size_t i = 0; i < doctor->n_domains; i++)
        if (strcmp(served.root + (served.root[0] == '/'), doctor->domains[i].uuid) == 0)
            doctor_report(doctor, SEVERITY_ERROR, "domain-share-stale",
                          doctor_text("%s: its share is of a mount that is gone: the guest's reads "
                                      "fail",
                                      doctor->domains[i].name),
                          doctor_text("virtjoule detach %s; umount -l " DOCTOR_POWERCAP
                                      " " SHARE_MOUNTPOINT
                                      " in the guest; virtjoule attach %s; or else virsh shutdown "
                                      "and virsh start (and start virtjouled from its unit, which "
                                      "keeps the mount)",
                                      doctor->domains[i].name, doctor->domains[i].name));
}

static void check_stale(struct doctor *doctor)
{
    struct mount_entry current;

    if (mount_find_at(doctor->config.mountpoint, &current) == 0 &&
        strcmp(current.type, POWERCAPFS_TYPE) == 0)
        doctor_each_process(doctor, check_served, &current);
}

const doctor_check doctor_libvirt_checks[] = {
    check_shares, check_known, check_reading, check_stale, NULL,
};
