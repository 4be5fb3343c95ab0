/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source/rapl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/watchdog.h"

DEFINE_CLEANUP(struct udev_enumerate *, udev_enumerate_unref);

#define SYSNAME_MAX 64

struct rapl {
    struct energy_source head;
    char *sysfs_root;
    int class_fd;                          /* sysfs_root/class/powercap, or -1 */
    int fds[ZONES_MAX];                    /* open energy_uj files, -1 while a zone is gone */
    int errors[ZONES_MAX];                 /* the failure that was last logged, or 0 */
    char sysnames[ZONES_MAX][SYSNAME_MAX]; /* directory of each slot's zone */
    bool amd;
    struct udev *udev; /* NULL under another root than /sys */
    struct udev_monitor *monitor;
};

int rapl_parse_zone(const char *sysname, const char *name, const char *parent, struct zone *ret)
{
    static const struct {
        const char *name;
        enum zone_kind kind;
    } subzones[] = {{"core", ZONE_CORE}, {"uncore", ZONE_UNCORE}, {"dram", ZONE_DRAM}};
    const char *package = parent ? parent : name;
    struct zone zone = {0};
    unsigned socket, die;
    int end = 0;

    if (strncmp(sysname, "intel-rapl:", strlen("intel-rapl:")) != 0)
        return -EINVAL;
    if (strcmp(name, "psys") == 0) {
        zone.kind = ZONE_PSYS;
        zone.socket = ZONE_ALL_SOCKETS;
        memcpy(zone.name, "psys", sizeof("psys"));
        *ret = zone;
        return 0;
    }
    if (sscanf(package, "package-%5u%n-die-%5u%n", &socket, &end, &die, &end) < 1 ||
        package[end] != '\0')
        return -EINVAL;
    zone.socket = (int)socket;
    if (!parent) {
        zone.kind = ZONE_PACKAGE;
        snprintf(zone.name, sizeof(zone.name), "%s", name);
        *ret = zone;
        return 0;
    }
    for (size_t i = 0; i < sizeof(subzones) / sizeof(subzones[0]); i++) {
        if (strcmp(name, subzones[i].name) != 0)
            continue;
        zone.kind = subzones[i].kind;
        if (strcmp(package, "package-0") == 0)
            snprintf(zone.name, sizeof(zone.name), "%s", name);
        else
            snprintf(zone.name, sizeof(zone.name), "%s-%s", name, package + strlen("package-"));
        *ret = zone;
        return 0;
    }
    return -EINVAL;
}

/* Reads a zone's name file, without its newline. */
static int read_name(const struct rapl *rapl, const char *sysname, char *name, size_t size)
{
    char path[SYSNAME_MAX + 8];
    ssize_t length;

    snprintf(path, sizeof(path), "%s/name", sysname);
    length = read_file(rapl->class_fd, path, name, size);
    if (length < 0)
        return (int)length;
    name[strcspn(name, "\n")] = '\0';
    return 0;
}

static int read_zone(const struct rapl *rapl, const char *sysname, struct zone *ret)
{
    char name[ZONE_NAME_MAX], parent_name[ZONE_NAME_MAX], parent[SYSNAME_MAX];
    char path[SYSNAME_MAX + 24];
    struct zone zone;
    char *colon;
    int r;

    r = read_name(rapl, sysname, name, sizeof(name));
    if (r < 0)
        return r;
    snprintf(parent, sizeof(parent), "%s", sysname);
    colon = strrchr(parent, ':');
    *colon = '\0';
    if (strchr(parent, ':')) {
        r = read_name(rapl, parent, parent_name, sizeof(parent_name));
        if (r < 0)
            return r;
    }
    r = rapl_parse_zone(sysname, name, strchr(parent, ':') ? parent_name : NULL, &zone);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/max_energy_range_uj", sysname);
    r = read_sysfs_u64(rapl->class_fd, path, &zone.max_energy_uj);
    if (r < 0)
        return r;
    if (zone.max_energy_uj == 0)
        return -ERANGE;
    *ret = zone;
    return 0;
}

static void log_zone_failure(const struct rapl *rapl, const char *sysname, const char *what, int r)
{
    log_warning("energy zone left out", F_STRING("root", rapl->sysfs_root),
                F_STRING("zone", sysname), F_STRING("cause", what), F_ERROR(r));
}

static int open_energy(const struct rapl *rapl, const char *sysname)
{
    char path[SYSNAME_MAX + 16];
    int fd;

    snprintf(path, sizeof(path), "%s/energy_uj", sysname);
    fd = openat(rapl->class_fd, path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static size_t find_slot(const struct zone_set *zones, const char *name)
{
    size_t slot = 0;

    while (slot < zones->n && strcmp(zones->zones[slot].name, name) != 0)
        slot++;
    return slot;
}

/* Adds a zone: to the slot that had it before, or to a new one. */
static int add_zone(struct rapl *rapl, const char *sysname)
{
    struct zone_set *zones = &rapl->head.zones;
    _cleanup_close_ int fd = -1;
    struct zone zone;
    size_t slot;
    int r;

    r = read_zone(rapl, sysname, &zone);
    if (r < 0) {
        log_zone_failure(rapl, sysname, "name or max_energy_range_uj", r);
        return r;
    }
    if (rapl->amd && zone.kind == ZONE_CORE)
        return 0;
    slot = find_slot(zones, zone.name);
    if (slot < zones->n && rapl->fds[slot] >= 0 && strcmp(rapl->sysnames[slot], sysname) != 0) {
        /* A two-socket server shows two psys zones, of which one counts for both sockets. */
        snprintf(zone.name + strlen(zone.name), sizeof(zone.name) - strlen(zone.name), "-%.8s",
                 strchr(sysname, ':') + 1);
        slot = find_slot(zones, zone.name);
    }
    if (slot == ZONES_MAX) {
        log_zone_failure(rapl, sysname, "too many zones", -ENOSPC);
        return -ENOSPC;
    }
    if (slot < zones->n && rapl->fds[slot] >= 0)
        return 0;
    fd = open_energy(rapl, sysname);
    if (fd < 0) {
        log_zone_failure(rapl, sysname, "energy_uj", fd);
        return fd;
    }
    log_info("energy zone found", F_STRING("zone", zone.name), F_STRING("directory", sysname),
             F_UINT("max_energy_range_uj", zone.max_energy_uj));
    zones->zones[slot] = zone;
    if (slot == zones->n)
        zones->n++;
    rapl->fds[slot] = TAKE_FD(fd);
    rapl->errors[slot] = 0;
    snprintf(rapl->sysnames[slot], SYSNAME_MAX, "%s", sysname);
    return 0;
}

static bool is_rapl_zone(const char *sysname)
{
    return strncmp(sysname, "intel-rapl:", strlen("intel-rapl:")) == 0 &&
           strlen(sysname) < SYSNAME_MAX;
}

/* Both scans list the zones' directories in the same order at each start, which keeps slots
   stable. */
static int scan_udev(struct rapl *rapl)
{
    _cleanup_(cleanup_udev_enumerate_unref) struct udev_enumerate *enumerate =
        udev_enumerate_new(rapl->udev);
    struct udev_list_entry *entry;
    int r = -ENOENT;

    if (!enumerate)
        return -ENOMEM;
    udev_enumerate_add_match_subsystem(enumerate, "powercap");
    udev_enumerate_scan_devices(enumerate);
    udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(enumerate))
    {
        const char *sysname = strrchr(udev_list_entry_get_name(entry), '/') + 1;

        if (is_rapl_zone(sysname))
            r = add_zone(rapl, sysname);
    }
    return r;
}

static int select_zone(const struct dirent *entry)
{
    return is_rapl_zone(entry->d_name);
}

static int scan_directory(struct rapl *rapl)
{
    struct dirent **entries;
    int n = scandirat(rapl->class_fd, ".", &entries, select_zone, versionsort);
    int r = -ENOENT;

    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        r = add_zone(rapl, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return r;
}

static void fail_zone(struct rapl *rapl, size_t slot, int error)
{
    if (rapl->errors[slot] != error)
        log_warning("energy zone unreadable, its energy is missing until it returns",
                    F_STRING("zone", rapl->head.zones.zones[slot].name),
                    F_STRING("directory", rapl->sysnames[slot]), F_ERROR(error));
    rapl->errors[slot] = error;
}

/* Opens a zone that had vanished, if its directory holds the same zone again. */
static int reopen_zone(struct rapl *rapl, size_t slot)
{
    const struct zone *zone = &rapl->head.zones.zones[slot];
    struct zone found;
    int r = read_zone(rapl, rapl->sysnames[slot], &found);

    if (r < 0)
        return r;
    if (strcmp(found.name, zone->name) != 0 || found.max_energy_uj != zone->max_energy_uj)
        return -ENODEV;
    return open_energy(rapl, rapl->sysnames[slot]);
}

/* The zone's open file, or a negative errno while the zone is gone. */
static int zone_fd(struct rapl *rapl, size_t slot)
{
    struct stat status;

    /* A file that is deleted while it is open still shows its last value. */
    if (rapl->fds[slot] >= 0 && fstat(rapl->fds[slot], &status) == 0 && status.st_nlink > 0)
        return rapl->fds[slot];
    if (rapl->fds[slot] >= 0)
        close(rapl->fds[slot]);
    rapl->fds[slot] = reopen_zone(rapl, slot);
    return rapl->fds[slot];
}

static int read_zone_energy(struct rapl *rapl, size_t slot, struct reading *ret)
{
    const struct zone *zone = &rapl->head.zones.zones[slot];
    struct reading reading = {.valid = true};
    int fd = zone_fd(rapl, slot);
    char text[32];
    ssize_t length;
    int r;

    if (fd < 0)
        return fd;
    length = pread(fd, text, sizeof(text), 0);
    reading.time_ns = now_ns();
    if (length < 0) {
        r = -errno;
        if (r == -ENODEV)
            close(TAKE_FD(rapl->fds[slot]));
        return r;
    }
    r = parse_sysfs_u64(text, (size_t)length, &reading.energy_uj);
    if (r < 0)
        return r;
    if (reading.energy_uj > zone->max_energy_uj)
        return -ERANGE;
    *ret = reading;
    return 0;
}

static void rapl_read(struct energy_source *source, struct reading *ret)
{
    struct rapl *rapl = (struct rapl *)source;

    for (size_t slot = 0; slot < source->zones.n; slot++) {
        int r = read_zone_energy(rapl, slot, &ret[slot]);

        watchdog_feed();
        if (r < 0) {
            ret[slot] = (struct reading){0};
            fail_zone(rapl, slot, r);
        } else if (rapl->errors[slot]) {
            log_info("energy zone readable again",
                     F_STRING("zone", source->zones.zones[slot].name));
            rapl->errors[slot] = 0;
        }
    }
}

static int rapl_event_fd(const struct energy_source *source)
{
    const struct rapl *rapl = (const struct rapl *)source;

    return rapl->monitor ? udev_monitor_get_fd(rapl->monitor) : -1;
}

static void rapl_dispatch(struct energy_source *source)
{
    struct rapl *rapl = (struct rapl *)source;
    struct udev_device *device;
    bool added = false;

    while ((device = udev_monitor_receive_device(rapl->monitor))) {
        const char *action = udev_device_get_action(device);

        added |= action && strcmp(action, "add") == 0;
        udev_device_unref(device);
    }
    /* A zone that vanishes is noticed by the next reading. */
    if (added)
        scan_udev(rapl);
}

static void rapl_free(struct energy_source *source)
{
    struct rapl *rapl = (struct rapl *)source;

    for (size_t slot = 0; slot < source->zones.n; slot++)
        if (rapl->fds[slot] >= 0)
            close(rapl->fds[slot]);
    if (rapl->class_fd >= 0)
        close(rapl->class_fd);
    udev_monitor_unref(rapl->monitor);
    udev_unref(rapl->udev);
    free(rapl->sysfs_root);
    free(rapl);
}

static const struct energy_source_ops rapl_ops = {
    .name = "rapl",
    .read = rapl_read,
    .event_fd = rapl_event_fd,
    .dispatch = rapl_dispatch,
    .free = rapl_free,
};

/* The kernel's modalias holds its number for the vendor: 2 AMD, 9 Hygon (asm/processor.h). */
static bool is_amd(const char *sysfs_root)
{
    char path[4096], text[64];

    snprintf(path, sizeof(path), "%s/devices/system/cpu/modalias", sysfs_root);
    return read_file(AT_FDCWD, path, text, sizeof(text)) > 0 &&
           (strstr(text, "ven0002") || strstr(text, "ven0009"));
}

static int start_udev(struct rapl *rapl)
{
    rapl->udev = udev_new();
    if (!rapl->udev)
        return -ENOMEM;
    rapl->monitor = udev_monitor_new_from_netlink(rapl->udev, "udev");
    if (!rapl->monitor ||
        udev_monitor_filter_add_match_subsystem_devtype(rapl->monitor, "powercap", NULL) < 0 ||
        udev_monitor_enable_receiving(rapl->monitor) < 0) {
        udev_monitor_unref(TAKE_PTR(rapl->monitor));
        log_warning("no udev events, zones that appear later are not noticed");
    }
    return 0;
}

DEFINE_CLEANUP(struct energy_source *, energy_source_free);

int rapl_new(struct energy_source **ret, const char *sysfs_root)
{
    _cleanup_(cleanup_energy_source_free) struct energy_source *source = NULL;
    struct rapl *rapl = calloc(1, sizeof(*rapl));
    char path[4096];
    int r;

    if (!rapl)
        return -ENOMEM;
    source = &rapl->head;
    source->ops = &rapl_ops;
    rapl->class_fd = -1;
    rapl->sysfs_root = strdup(sysfs_root);
    if (!rapl->sysfs_root)
        return -ENOMEM;
    snprintf(path, sizeof(path), "%s/class/powercap", sysfs_root);
    rapl->class_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rapl->class_fd < 0)
        return -errno;
    rapl->amd = is_amd(sysfs_root);
    if (strcmp(sysfs_root, "/sys") == 0) {
        r = start_udev(rapl);
        if (r < 0)
            return r;
        r = scan_udev(rapl);
    }
    /* udev does not know the zones of a tree that is mounted over /sys/class/powercap. */
    if (source->zones.n == 0)
        r = scan_directory(rapl);
    if (source->zones.n == 0)
        return r < 0 ? r : -ENOENT;
    *ret = TAKE_PTR(source);
    return 0;
}
