/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Checks of the daemon: whether it is there and alone, and whether it measures, keeps and
   publishes. */

#include "doctor/doctor_check.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host/mounts.h"
#include "powercapfs/mount.h"
#include "util/log.h"

/* A tick now and then may come late on a busy host. */
#define MISSED_MIN 10
#define MISSED_SHARE 10 /* one in so many */

static const char *text_of(struct json_object *object, const char *key)
{
    const char *text = json_object_get_string(json_object_object_get(object, key));

    return text ? text : "";
}

static uint64_t count_of(struct json_object *object, const char *key)
{
    return json_object_get_uint64(json_object_object_get(object, key));
}

static void report_silence(struct doctor *doctor, int error)
{
    if (error == -EACCES || error == -ECONNRESET || error == -EPIPE)
        doctor_report(doctor, SEVERITY_ERROR, "daemon-refuses",
                      doctor_text("virtjouled does not answer this user"),
                      doctor_text("sudo virtjoule doctor, or once: adduser USER virtjoule"));
    else if (error == -EAGAIN)
        doctor_report(doctor, SEVERITY_ERROR, "daemon-hangs",
                      doctor_text("virtjouled takes the question and does not answer: it is "
                                  "stopped or hangs"),
                      doctor_text(RESTART));
    else
        doctor_report(doctor, SEVERITY_ERROR, "daemon-not-running",
                      doctor_text("virtjouled does not answer at %s: %s", doctor->socket_path,
                                  log_errno_text(error)),
                      doctor_text("systemctl start virtjoule, and if it ends: journalctl -u "
                                  "virtjoule"));
}

static void check_daemon(struct doctor *doctor)
{
    if (!doctor->first)
        report_silence(doctor, doctor->ask_error);
    else if (json_object_object_get(doctor->first, "error"))
        doctor_report(doctor, SEVERITY_ERROR, "daemon-not-measuring",
                      doctor_text("virtjouled: %s", text_of(doctor->first, "error")),
                      doctor_text("wait an interval; if it stays: journalctl -u virtjoule"));
}

static void count_daemon(struct doctor *doctor, pid_t pid, const char *comm, void *userdata)
{
    if (strcmp(comm, "virtjouled") == 0)
        ++*(unsigned *)userdata;
}

static void check_alone(struct doctor *doctor)
{
    unsigned n = 0;

    doctor_each_process(doctor, count_daemon, &n);
    if (n > 1)
        doctor_report(doctor, SEVERITY_ERROR, "two-daemons",
                      doctor_text("%u virtjouled run on this host: each gives the VMs counters of "
                                  "its own",
                                  n),
                      doctor_text("systemctl stop virtjoule; pkill -x virtjouled; systemctl start "
                                  "virtjoule"));
}

static void check_version(struct doctor *doctor)
{
    const char *version = doctor->first ? text_of(doctor->first, "version") : "";

    if (version[0] && strcmp(version, VIRTJOULE_VERSION) != 0)
        doctor_report(
            doctor, SEVERITY_WARNING, "version-mismatch",
            doctor_text("virtjouled %s runs, but " VIRTJOULE_VERSION " is installed", version),
            doctor_text(RESTART));
}

static void check_applied(struct doctor *doctor)
{
    double interval = (double)doctor->config.interval_ns / 1e9, actual;

    if (!doctor->first)
        return;
    actual = json_object_get_double(json_object_object_get(doctor->first, "interval_seconds"));
    if (actual > 0 && (actual < interval - 0.001 || actual > interval + 0.001))
        doctor_report(doctor, SEVERITY_WARNING, "config-not-applied",
                      doctor_text("virtjouled runs with an interval of %.3f s, not %.3f s as in %s",
                                  actual, interval, doctor->config_file),
                      doctor_text(RESTART));
}

/* Measuring. */

static void check_origin(struct doctor *doctor)
{
    const struct config *config = &doctor->config;

    if (!doctor->first)
        return;
    if (strcmp(config->energy, "estimate") != 0 &&
        json_object_get_boolean(json_object_object_get(doctor->first, "estimate")))
        doctor_report(doctor, SEVERITY_WARNING, "source-estimate",
                      doctor_text("energy is an estimate from CPU utilisation, not measured"),
                      doctor_text("modprobe intel_rapl_msr && " RESTART "; on a machine without "
                                  "sensors set [source] energy = estimate in %s",
                                  doctor->config_file));
    if (strcmp(config->provider, "auto") == 0 &&
        strcmp(text_of(doctor->first, "usage_provider"), "procfs") == 0)
        doctor_report(
            doctor, SEVERITY_WARNING, "usage-fallback",
            doctor_text("usage is read from /proc: eBPF could not be used when "
                        "virtjouled started"),
            doctor_text("journalctl -u virtjoule | grep eBPF gives the reason; or set [usage] "
                        "provider = procfs in %s",
                        doctor->config_file));
}

static struct json_object *zones_of(struct json_object *answer)
{
    struct json_object *zones = NULL;

    if (answer)
        json_object_object_get_ex(answer, "zones", &zones);
    return zones;
}

static size_t length_of(struct json_object *list)
{
    return list ? json_object_array_length(list) : 0;
}

static void check_zones(struct doctor *doctor)
{
    struct json_object *zones = zones_of(doctor->first), *later = zones_of(doctor->second);

    for (size_t i = 0; i < length_of(zones); i++) {
        struct json_object *zone = json_object_array_get_idx(zones, i);
        struct json_object *after =
            i < length_of(later) ? json_object_array_get_idx(later, i) : NULL;
        const char *name = text_of(zone, "name");

        if (!json_object_get_boolean(json_object_object_get(zone, "readable")))
            doctor_report(
                doctor, SEVERITY_ERROR, "zone-unreadable",
                doctor_text("zone %s cannot be read any more: its energy is missing", name),
                doctor_text("modprobe -r intel_rapl_msr; modprobe intel_rapl_msr; "
                            "see journalctl -u virtjoule"));
        /* Other zones may rest: a graphics unit, a BMC's platform. */
        else if (after && strncmp(name, "package-", strlen("package-")) == 0 &&
                 strcmp(text_of(zone, "measured_joules"), text_of(after, "measured_joules")) == 0)
            doctor_report(doctor, SEVERITY_ERROR, "zone-frozen",
                          doctor_text("the counter of zone %s stands still", name),
                          doctor_text("modprobe -r intel_rapl_msr; modprobe intel_rapl_msr; in a "
                                      "VM without a real counter set [source] energy = estimate "
                                      "in %s",
                                      doctor->config_file));
    }
}

static void check_ticks(struct doctor *doctor)
{
    struct json_object *answer = doctor->second ? doctor->second : doctor->first;
    uint64_t missed, ticks;

    if (!answer)
        return;
    missed = count_of(answer, "ticks_missed");
    ticks = count_of(answer, "ticks");
    if (missed >= MISSED_MIN && missed > ticks / MISSED_SHARE)
        doctor_report(doctor, SEVERITY_WARNING, "ticks-missed",
                      doctor_text("virtjouled missed %" PRIu64 " of %" PRIu64
                                  " ticks: the host is too busy for "
                                  "its interval, or it was stopped",
                                  missed, missed + ticks),
                      doctor_text("set a longer [daemon] interval in %s, then " RESTART,
                                  doctor->config_file));
}

/* Keeping. */

static void check_ledger_directory(struct doctor *doctor, const char *key, const char *path)
{
    struct statvfs fs;

    if (geteuid() != 0 || !doctor->first)
        return;
    if (access(path, W_OK | X_OK) < 0)
        doctor_report(doctor, SEVERITY_ERROR, "ledger-unwritable",
                      doctor_text("%s %s cannot be written (%s): totals are lost with the next "
                                  "restart",
                                  key, path, log_errno_text(errno)),
                      doctor_text("mkdir -p %s && mount -o remount,rw $(findmnt -no TARGET -T %s)",
                                  path, path));
    else if (statvfs(path, &fs) == 0 && fs.f_bavail == 0)
        doctor_report(
            doctor, SEVERITY_ERROR, "ledger-disk-full",
            doctor_text("%s %s is full: totals are lost with the next restart", key, path),
            doctor_text("free space there: du -xh --max-depth=2 $(findmnt -no TARGET -T "
                        "%s)",
                        path));
}

/* Both directories are made for the user as which the daemon runs. */
static void check_owner(struct doctor *doctor)
{
    const struct config *config = &doctor->config;
    struct stat runtime, state;

    if (stat(config->runtime_dir, &runtime) == 0 && stat(config->state_dir, &state) == 0 &&
        runtime.st_uid != state.st_uid)
        doctor_report(
            doctor, SEVERITY_ERROR, "ledger-owner",
            doctor_text("state_dir %s belongs to another user than runtime_dir %s: the "
                        "daemon cannot write it",
                        config->state_dir, config->runtime_dir),
            doctor_text("chown -R --reference=%s %s", config->runtime_dir, config->state_dir));
}

static void check_ledger(struct doctor *doctor)
{
    check_owner(doctor);
    check_ledger_directory(doctor, "runtime_dir", doctor->config.runtime_dir);
    check_ledger_directory(doctor, "state_dir", doctor->config.state_dir);
}

/* The daemon sets aside a ledger that it cannot read, and begins a new one. */
static void check_set_aside(struct doctor *doctor)
{
    const char *const directories[] = {doctor->config.runtime_dir, doctor->config.state_dir};

    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        _cleanup_closedir_ DIR *directory = opendir(directories[i]);
        const struct dirent *entry;

        while (directory && (entry = readdir(directory)))
            if (strncmp(entry->d_name, "ledger.bad-", strlen("ledger.bad-")) == 0)
                doctor_report(doctor, SEVERITY_WARNING, "ledger-set-aside",
                              doctor_text("%s/%s: a damaged or foreign ledger was set aside, "
                                          "totals before it are missing",
                                          directories[i], entry->d_name),
                              doctor_text("rm %s/%s, when it is of no more use", directories[i],
                                          entry->d_name));
    }
}

/* Publishing. */

static void report_mount(struct doctor *doctor, const struct mount_entry *mount)
{
    const char *path = doctor->config.mountpoint;
    char text[8];
    ssize_t r;

    if (strcmp(mount->type, POWERCAPFS_TYPE) != 0) {
        doctor_report(doctor, SEVERITY_ERROR, "mount-foreign",
                      doctor_text("on %s is mounted %s (%s), not virtjoule's tree", path,
                                  mount->source, mount->type),
                      doctor_text("umount %s && " RESTART, path));
        return;
    }
    r = doctor_read_patiently(doctor, path, text, sizeof(text));
    if (r == -ENOTCONN)
        doctor_report(doctor, SEVERITY_ERROR, "mount-dead",
                      doctor_text("the mount on %s is dead: its daemon was killed", path),
                      doctor_text(RESTART));
    else if (r == -ETIMEDOUT)
        doctor_report(doctor, SEVERITY_ERROR, "mount-hangs",
                      doctor_text("the mount on %s does not answer: guests wait", path),
                      doctor_text(RESTART));
}

static void check_mount(struct doctor *doctor)
{
    struct mount_entry mount;
    int r = mount_find_at(doctor->config.mountpoint, &mount);

    if (r == 0)
        report_mount(doctor, &mount);
    else if (doctor->first)
        doctor_report(doctor, SEVERITY_ERROR, "mount-missing",
                      doctor_text("virtjouled runs, but its tree is not mounted on %s: %s",
                                  doctor->config.mountpoint,
                                  r == -ENODATA ? "unmounted by another" : log_errno_text(r)),
                      doctor_text(RESTART));
}

static void check_tree_mode(struct doctor *doctor)
{
    if (!(doctor->config.file_mode & 0004))
        doctor_report(doctor, SEVERITY_INFO, "tree-not-for-all",
                      doctor_text("the files of the trees have mode %04o: readers that are not "
                                  "root see nothing in the guests",
                                  doctor->config.file_mode),
                      doctor_text("set [powercapfs] file_mode = 0444 in %s, then " RESTART,
                                  doctor->config_file));
}

const doctor_check doctor_daemon_checks[] = {
    check_daemon,    check_alone,           check_version, check_applied,   check_origin,
    check_zones,     check_ticks,           check_ledger,  check_set_aside, check_mount,
    check_tree_mode, doctor_check_exporter, NULL,
};
