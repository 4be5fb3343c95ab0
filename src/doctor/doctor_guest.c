/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Checks of a guest: from the virtiofs device to the programs that read the counter. */

#include "doctor/doctor_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "host/mounts.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"

#define COUNTER "/intel-rapl:0/energy_uj"
#define SHARE_UNIT "virtjoule-share.service" /* starts both mounts where there is a share */
#define POWERCAP_UNIT "sys-class-powercap.mount"
#define VIRTIO_DEVICES "/sys/bus/virtio/devices"
#define VIRTIO_ID_FS "0x001a" /* linux/virtio_ids.h: 26 */
#define MODULES_MAX (16U << 20)

/* Known readers, by the name that the kernel keeps of a program: 15 bytes. */
static const struct {
    const char *comm;
    const char *unit;
} readers[] = {
    {"prometheus-node", "prometheus-node-exporter"},
    {"node_exporter", "node_exporter"},
    {"kepler", "kepler"},
    {"scaphandre", "scaphandre"},
    {"alumet-agent", "alumet-agent"},
};

/* Each check is silent where the one before it reports that there is nothing to look at. */

static bool is_mounted(const struct doctor *doctor, const char *path, const char *type)
{
    _cleanup_free_ char *full = doctor_path(doctor, path);
    struct mount_entry mount;

    return full && mount_find_at(full, &mount) == 0 && strcmp(mount.type, type) == 0;
}

static bool share_mounted(const struct doctor *doctor)
{
    return is_mounted(doctor, SHARE_MOUNTPOINT, "virtiofs");
}

/* virtiofs in the kernel. */

static bool has_device(const struct doctor *doctor)
{
    _cleanup_free_ char *path = doctor_path(doctor, VIRTIO_DEVICES);
    _cleanup_closedir_ DIR *directory = path ? opendir(path) : NULL;
    const struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        char name[sizeof(entry->d_name) + 8], id[16];

        snprintf(name, sizeof(name), "%s/device", entry->d_name);
        if (read_file(dirfd(directory), name, id, sizeof(id)) > 0 &&
            strncmp(id, VIRTIO_ID_FS, strlen(VIRTIO_ID_FS)) == 0)
            return true;
    }
    return false;
}

static void check_device(struct doctor *doctor)
{
    if (!has_device(doctor))
        doctor_report(doctor, SEVERITY_ERROR, "share-not-attached",
                      doctor_text("this VM has no virtiofs device"),
                      doctor_text("on the host: virtjoule attach DOMAIN, then shut the VM down and "
                                  "start it"));
}

static bool has_file_system(const struct doctor *doctor)
{
    char text[4096];

    return doctor_read(doctor, "/proc/filesystems", text, sizeof(text)) > 0 &&
           strstr(text, "\tvirtiofs");
}

static bool has_module(const struct doctor *doctor)
{
    static const char *const lists[] = {"modules.dep", "modules.builtin"};
    struct utsname kernel;

    if (uname(&kernel) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        _cleanup_free_ char *path =
            doctor_text("%s/lib/modules/%s/%s", doctor->root, kernel.release, lists[i]);
        _cleanup_free_ char *text = NULL;
        size_t length;

        if (path && read_file_full(AT_FDCWD, path, MODULES_MAX, &text, &length) == 0 &&
            strstr(text, "/virtiofs.ko"))
            return true;
    }
    return false;
}

static void check_kernel(struct doctor *doctor)
{
    if (!has_device(doctor) || has_file_system(doctor))
        return;
    if (has_module(doctor))
        doctor_report(doctor, SEVERITY_ERROR, "virtiofs-not-loaded",
                      doctor_text("the kernel's module virtiofs is not loaded"),
                      doctor_text("modprobe virtiofs && systemctl restart " SHARE_UNIT));
    else
        doctor_report(doctor, SEVERITY_ERROR, "kernel-without-virtiofs",
                      doctor_text("the kernel has no virtiofs"),
                      doctor_text("apt install linux-image-amd64 (cloud kernels have it too; "
                                  "CONFIG_VIRTIO_FS), then reboot"));
}

/* The share's mount. */

/* Makes a file system of the device with the tag, without mounting it. @return 0, -EINVAL: no
   device has the tag, or another negative errno */
static int try_tag(void)
{
    _cleanup_close_ int fs = fsopen("virtiofs", FSOPEN_CLOEXEC);

    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", SHARE_TAG, 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    return 0;
}

static void report_unmounted(struct doctor *doctor)
{
    int r;

    if (!has_device(doctor) || !has_file_system(doctor))
        return;
    r = geteuid() == 0 ? try_tag() : 0;
    if (r == -EINVAL)
        doctor_report(doctor, SEVERITY_ERROR, "tag-missing",
                      doctor_text("no virtiofs device of this VM has the tag \"" SHARE_TAG "\""),
                      doctor_text("on the host: virtjoule doctor, then virtjoule attach DOMAIN"));
    else
        doctor_report(doctor, SEVERITY_ERROR, "share-not-mounted",
                      doctor_text("the share is not mounted on " SHARE_MOUNTPOINT),
                      doctor_text("systemctl start " SHARE_UNIT
                                  " (by hand: mkdir -p " SHARE_MOUNTPOINT
                                  " && mount -t virtiofs " SHARE_TAG " " SHARE_MOUNTPOINT ")"));
}

static void report_share(struct doctor *doctor)
{
    _cleanup_free_ char *path = doctor_path(doctor, SHARE_MOUNTPOINT "/virtjoule/version");
    char text[64];
    ssize_t r = path ? doctor_read_patiently(doctor, path, text, sizeof(text)) : -ENOMEM;

    if (r == -ETIMEDOUT)
        doctor_report(doctor, SEVERITY_ERROR, "share-hangs",
                      doctor_text("the share does not answer: virtjouled on the host is down"),
                      doctor_text("on the host: systemctl restart virtjoule"));
    else if (r == -ENOENT || r == -ENOTDIR)
        doctor_report(doctor, SEVERITY_ERROR, "share-foreign",
                      doctor_text("the share with the tag \"" SHARE_TAG
                                  "\" is no energy share: it has "
                                  "no virtjoule/version"),
                      doctor_text("on the host: virtjoule doctor (is virtjouled running, is the "
                                  "share the VM's own?)"));
    else if (r < 0 && r != -EACCES)
        doctor_report(doctor, SEVERITY_ERROR, "share-dead",
                      doctor_text("the share cannot be read: %s", log_errno_text((int)r)),
                      doctor_text("on the host: systemctl restart virtjoule, and if it stays: "
                                  "virtjoule detach there, umount -l " DOCTOR_POWERCAP
                                  " " SHARE_MOUNTPOINT " here, virtjoule attach there; or else "
                                  "shut the VM down and start it"));
    else if (r >= 0 && strcmp(text, VIRTJOULE_VERSION) != 0)
        doctor_report(doctor, SEVERITY_WARNING, "version-mismatch",
                      doctor_text("the host has virtjoule %s, this guest " VIRTJOULE_VERSION, text),
                      doctor_text("apt update && apt install virtjoule-guest, or on the host: apt "
                                  "install virtjoule"));
}

static void check_share(struct doctor *doctor)
{
    _cleanup_free_ char *path = doctor_path(doctor, SHARE_MOUNTPOINT);
    struct mount_entry mount;

    if (!path || mount_find_at(path, &mount) < 0)
        report_unmounted(doctor);
    else if (strcmp(mount.type, "virtiofs") != 0)
        doctor_report(doctor, SEVERITY_ERROR, "share-hidden",
                      doctor_text("on " SHARE_MOUNTPOINT " is mounted %s (%s), not the share",
                                  mount.source, mount.type),
                      doctor_text("umount " SHARE_MOUNTPOINT " && systemctl restart " SHARE_UNIT));
    else
        report_share(doctor);
}

/* The counter. */

static void check_powercap(struct doctor *doctor)
{
    if (!share_mounted(doctor) || is_mounted(doctor, DOCTOR_POWERCAP, "virtiofs"))
        return;
    if (!doctor_access(doctor, DOCTOR_POWERCAP, F_OK))
        doctor_report(doctor, SEVERITY_WARNING, "kernel-without-powercap",
                      doctor_text("the kernel has no " DOCTOR_POWERCAP " that the share could be "
                                  "bound over"),
                      doctor_text("give the reader the share as its sysfs: node_exporter "
                                  "--path.sysfs=" SHARE_MOUNTPOINT
                                  ", kepler --host.sysfs=" SHARE_MOUNTPOINT
                                  "; or boot a kernel with CONFIG_POWERCAP=y"));
    else
        doctor_report(
            doctor, SEVERITY_ERROR, "powercap-not-bound",
            doctor_text(DOCTOR_POWERCAP " is not the share's: readers find nothing there, "
                                        "or another counter"),
            doctor_text("systemctl start " POWERCAP_UNIT " (by hand: mount --bind " SHARE_MOUNTPOINT
                        "/class/powercap " DOCTOR_POWERCAP ")"));
}

/* The age differs from one read to the next, unless the share is cached. */
static void check_age(struct doctor *doctor)
{
    _cleanup_free_ char *age = doctor_path(doctor, SHARE_MOUNTPOINT "/virtjoule/age_us");
    const struct timespec moment = {.tv_nsec = 20 * (long)NSEC_PER_MSEC};
    uint64_t first_us, second_us;

    if (!share_mounted(doctor) || doctor_read_number(doctor, age, &first_us) < 0)
        return;
    nanosleep(&moment, NULL);
    if (doctor_read_number(doctor, age, &second_us) < 0)
        return;
    if (first_us == second_us)
        doctor_report(doctor, SEVERITY_ERROR, "counter-frozen",
                      doctor_text("the share is cached: the counter stands still for ever"),
                      doctor_text("on the host: virtjoule doctor; <cache mode='none'/> belongs to "
                                  "the device (virtjoule detach and attach DOMAIN)"));
}

/* An idle VM uses little energy, but reading itself uses more than the step of 1 mJ. */
static void check_moving(struct doctor *doctor)
{
    _cleanup_free_ char *counter = doctor_path(doctor, SHARE_MOUNTPOINT "/class/powercap" COUNTER);
    _cleanup_free_ char *interval = doctor_path(doctor, SHARE_MOUNTPOINT "/virtjoule/interval_us");
    uint64_t before_uj, after_uj, interval_us, end_ns;

    if (!share_mounted(doctor) || doctor_read_number(doctor, interval, &interval_us) < 0 ||
        doctor_read_number(doctor, counter, &before_uj) < 0 || interval_us > 10 * 1000000)
        return;
    end_ns = now_ns() + 3 * interval_us * NSEC_PER_USEC;
    do {
        const struct timespec moment = {.tv_nsec = 50 * (long)NSEC_PER_MSEC};

        if (doctor_read_number(doctor, counter, &after_uj) < 0 || after_uj != before_uj)
            return;
        nanosleep(&moment, NULL);
    } while (now_ns() < end_ns);
    doctor_report(doctor, SEVERITY_ERROR, "counter-still",
                  doctor_text("the counter did not move in three intervals"),
                  doctor_text("on the host: virtjoule doctor (a sensor that is gone, or a share "
                              "that is another VM's)"));
}

static void check_origin(struct doctor *doctor)
{
    _cleanup_free_ char *path = doctor_path(doctor, SHARE_MOUNTPOINT "/virtjoule/source");
    char source[64];

    if (share_mounted(doctor) && doctor_read_patiently(doctor, path, source, sizeof(source)) > 0 &&
        strcmp(source, "estimate") == 0)
        doctor_report(doctor, SEVERITY_INFO, "source-estimate",
                      doctor_text("the energy is the host's estimate, not measured"),
                      doctor_text("on the host: virtjoule doctor --verbose"));
}

/* Readers. */

/* Does a process see the share on the powercap directory, its own or a container's /host/sys? */
static bool sees_share(const struct doctor *doctor, pid_t pid)
{
    _cleanup_(mounts_close) struct mounts mounts = {0};
    char path[CONFIG_PATH_MAX + 32];
    struct mount_entry mount;

    snprintf(path, sizeof(path), "%s/%d/mountinfo", doctor->config.proc_root, (int)pid);
    if (mounts_open(&mounts, path) < 0)
        return true; /* unknown, so nothing is reported */
    while (mounts_next(&mounts, &mount)) {
        const char *end = strstr(mount.path, "/class/powercap");

        if (strcmp(mount.type, "virtiofs") == 0 &&
            (end ? end[strlen("/class/powercap")] == '\0' : strcmp(mount.root, "/") != 0))
            return true;
    }
    return false;
}

/* By the mode of the share's files, which the guest's kernel checks for virtiofs. */
static bool may_read(uid_t uid, gid_t gid, const struct stat *file)
{
    if (uid == 0)
        return true;
    if (uid == file->st_uid)
        return file->st_mode & S_IRUSR;
    return file->st_mode & (gid == file->st_gid ? S_IRGRP : S_IROTH);
}

static void examine_reader(struct doctor *doctor, pid_t pid, const char *comm, void *userdata)
{
    const struct stat *file = userdata;
    char path[CONFIG_PATH_MAX + 32];
    const char *unit = NULL;
    struct stat process;

    for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
        if (strcmp(comm, readers[i].comm) == 0)
            unit = readers[i].unit;
    snprintf(path, sizeof(path), "%s/%d", doctor->config.proc_root, (int)pid);
    if (!unit || stat(path, &process) < 0)
        return;
    if (!may_read(process.st_uid, process.st_gid, file))
        doctor_report(doctor, SEVERITY_ERROR, "counter-not-for-reader",
                      doctor_text("%s runs as user %u and may not read the counter (mode %04o)",
                                  unit, (unsigned)process.st_uid,
                                  (unsigned)(file->st_mode & 07777)),
                      doctor_text("on the host: [powercapfs] file_mode = 0444 in "
                                  "/etc/virtjoule/virtjouled.conf, then systemctl restart "
                                  "virtjoule"));
    if (is_mounted(doctor, DOCTOR_POWERCAP, "virtiofs") && !sees_share(doctor, pid))
        doctor_report(doctor, SEVERITY_ERROR, "reader-too-early",
                      doctor_text("%s does not see the share: it was started before the share was "
                                  "bound, in a mount namespace of its own",
                                  unit),
                      doctor_text("systemctl restart %s", unit));
}

static void check_readers(struct doctor *doctor)
{
    _cleanup_free_ char *path = doctor_path(doctor, SHARE_MOUNTPOINT "/class/powercap" COUNTER);
    uint64_t energy_uj;
    struct stat file;
    int r;

    if (!path || !share_mounted(doctor))
        return;
    /* Where no server answers, stat() would wait for ever. */
    r = doctor_read_number(doctor, path, &energy_uj);
    if ((r == 0 || r == -EACCES) && stat(path, &file) == 0)
        doctor_each_process(doctor, examine_reader, &file);
}

/* Units. */

/* Whether one of the directories of units has the file. */
static bool unit_has(const struct doctor *doctor, const char *name)
{
    static const char *const directories[] = {"/etc/systemd/system", "/run/systemd/system",
                                              "/usr/lib/systemd/system", "/lib/systemd/system"};

    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        _cleanup_free_ char *path = doctor_text("%s%s/%s", doctor->root, directories[i], name);
        struct stat status;

        /* Not followed: an absolute link below a root directory leads out of it. */
        if (path && lstat(path, &status) == 0)
            return true;
    }
    return false;
}

static void check_units(struct doctor *doctor)
{
    if (!doctor_access(doctor, "/run/systemd/system", F_OK))
        return;
    if (!unit_has(doctor, SHARE_UNIT) || !unit_has(doctor, POWERCAP_UNIT))
        doctor_report(doctor, SEVERITY_WARNING, "units-missing",
                      doctor_text("the units that mount the share at boot are not installed"),
                      doctor_text("apt install virtjoule-guest"));
    else if (!unit_has(doctor, "multi-user.target.wants/" SHARE_UNIT))
        doctor_report(doctor, SEVERITY_WARNING, "units-disabled",
                      doctor_text(SHARE_UNIT " is not enabled: the share is not mounted at boot"),
                      doctor_text("systemctl enable --now " SHARE_UNIT));
}

const doctor_check doctor_guest_checks[] = {
    doctor_check_clock, check_device, check_kernel, check_share,   check_powercap, check_age,
    check_moving,       check_origin, check_units,  check_readers, NULL,
};
