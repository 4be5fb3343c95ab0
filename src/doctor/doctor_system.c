/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Checks of the host below the daemon: sensors, kernel, clock, and files that packages install. */

#include "doctor/doctor_check.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "source/energy_source.h"
#include "source/rapl.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"

#define CONFIG_TEXT_MAX (1U << 20)
#define HOOK "/etc/libvirt/hooks/qemu.d/virtjoule"
#define CLOCKSOURCES "/sys/devices/system/clocksource/clocksource0"

/* Where Debian, Fedora and Arch install virtiofsd. */
static const char *const virtiofsd_paths[] = {"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd",
                                              "/usr/lib/virtiofsd"};

typedef int (*config_parser)(const char *text, size_t length, struct config *config,
                             struct config_error *ret_error);

/* @return 0; or a negative errno after a report, the configuration is then as it was */
static int read_config_file(struct doctor *doctor, const char *path, config_parser parse)
{
    _cleanup_free_ char *text = NULL;
    struct config_error error;
    size_t length;
    int r = read_file_full(AT_FDCWD, path, CONFIG_TEXT_MAX, &text, &length);

    if (r < 0) {
        doctor_report(doctor, SEVERITY_ERROR, "config-unreadable",
                      doctor_text("%s cannot be read: %s", path, log_errno_text(r)),
                      r == -ENOENT ? doctor_text("apt install --reinstall virtjoule")
                                   : doctor_text("run virtjoule doctor as root"));
        return r;
    }
    r = parse(text, length, &doctor->config, &error);
    if (r < 0)
        doctor_report(doctor, SEVERITY_ERROR, "config-invalid",
                      doctor_text("%s:%d: [%s] %s: %s", path, error.line, error.section, error.key,
                                  error.problem),
                      doctor_text("correct it, then: virtjouled --check-config --config %s && "
                                  "systemctl restart virtjoule",
                                  doctor->config_file));
    return r;
}

void doctor_read_config(struct doctor *doctor)
{
    if (read_config_file(doctor, doctor->config_file, config_parse) < 0)
        config_init(&doctor->config);
    else if (doctor->config.baseline_file[0])
        read_config_file(doctor, doctor->config.baseline_file, config_parse_baselines);
}

static void check_root(struct doctor *doctor)
{
    if (geteuid() != 0)
        doctor_report(doctor, SEVERITY_INFO, "not-root",
                      doctor_text("without root some things cannot be looked at"),
                      doctor_text("sudo virtjoule doctor"));
}

/* Sensors. */

static void check_sensors(struct doctor *doctor)
{
    const struct config *config = &doctor->config;
    bool is_required = strcmp(config->energy, "rapl") == 0;
    struct energy_source *source = NULL;
    int r;

    /* The files are root's: whether another user may read them says nothing of the daemon. */
    if (strcmp(config->energy, "estimate") == 0 || geteuid() != 0)
        return;
    r = rapl_new(&source, config->sysfs_root);
    energy_source_free(source);
    if (r == -ENOENT)
        doctor_report(doctor, is_required ? SEVERITY_ERROR : SEVERITY_WARNING, "sensor-missing",
                      doctor_text("no RAPL zone below %s/class/powercap: energy can only be "
                                  "estimated",
                                  config->sysfs_root),
                      doctor_text("modprobe intel_rapl_msr && systemctl restart virtjoule; on a "
                                  "machine without sensors set [source] energy = estimate in %s",
                                  doctor->config_file));
    else if (r < 0)
        doctor_report(doctor, SEVERITY_ERROR, "sensor-unreadable",
                      doctor_text("the RAPL zones below %s/class/powercap cannot be read: %s",
                                  config->sysfs_root, log_errno_text(r)),
                      doctor_text("chmod u+r %s/class/powercap/intel-rapl:*/energy_uj && systemctl "
                                  "restart virtjoule; in a container: give it the host's /sys",
                                  config->sysfs_root));
}

/*
 * MSR_MISC_PACKAGE_CTLS (0xBC), bit 0 ENERGY_FILTERING_ENABLE: Intel, "Running
 * Average Power Limit Energy Reporting", CVE-2020-8694.
 */
static void check_filtering(struct doctor *doctor)
{
    _cleanup_free_ char *path = doctor_path(doctor, "/dev/cpu/0/msr");
    _cleanup_close_ int fd = -1;
    uint64_t value;

    if (strcmp(doctor->config.energy, "estimate") == 0 || !path)
        return;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &value, sizeof(value), 0xbc) != sizeof(value))
        doctor_report(doctor, SEVERITY_INFO, "filtering-unknown",
                      doctor_text("whether the CPU blurs its energy counters is unknown: no "
                                  "MSR 0xBC"),
                      doctor_text("modprobe msr (AMD and most VMs have no such register)"));
    else if (le64toh(value) & 1)
        doctor_report(doctor,
                      doctor->config.interval_ns < NSEC_PER_SEC ? SEVERITY_WARNING : SEVERITY_INFO,
                      "filtering-on",
                      doctor_text("the CPU blurs its energy counters over short times (MSR 0xBC "
                                  "bit 0)"),
                      doctor_text("set [daemon] interval = 1s or longer in %s, or turn SGX and "
                                  "energy filtering off in the firmware",
                                  doctor->config_file));
}

/* Kernel. */

static void check_btf(struct doctor *doctor)
{
    if (strcmp(doctor->config.provider, "procfs") == 0 ||
        doctor_access(doctor, "/sys/kernel/btf/vmlinux", R_OK))
        return;
    doctor_report(doctor, SEVERITY_WARNING, "kernel-without-btf",
                  doctor_text("the kernel has no BTF: eBPF cannot be used, usage is read from "
                              "/proc and less exact"),
                  doctor_text("boot a kernel with CONFIG_DEBUG_INFO_BTF=y, or set [usage] provider "
                              "= procfs in %s",
                              doctor->config_file));
}

static void check_clocksource(struct doctor *doctor)
{
    static const char *const slow[] = {"acpi_pm", "hpet", "jiffies", "refined-jiffies", "pit"};
    char name[64];

    if (doctor_read(doctor, CLOCKSOURCES "/current_clocksource", name, sizeof(name)) < 0)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(slow); i++)
        if (strcmp(name, slow[i]) == 0)
            doctor_report(doctor, SEVERITY_WARNING, "clocksource-slow",
                          doctor_text("the kernel's clock is %s: slow to read and coarse", name),
                          doctor_text("echo tsc >" CLOCKSOURCES "/current_clocksource, or boot "
                                      "with clocksource=tsc tsc=reliable"));
}

/* Files that packages install. */

static bool has_virtiofsd(const struct doctor *doctor)
{
    for (size_t i = 0; i < ARRAY_SIZE(virtiofsd_paths); i++)
        if (doctor_access(doctor, virtiofsd_paths[i], X_OK))
            return true;
    return false;
}

static void check_virtiofsd(struct doctor *doctor)
{
    if (!has_virtiofsd(doctor))
        doctor_report(
            doctor, SEVERITY_ERROR, "virtiofsd-missing",
            doctor_text("virtiofsd is not installed: no guest can be given its share"),
            doctor_text("apt install qemu-system-common (Debian 12), virtiofsd (Debian 13 "
                        "and others)"));
}

static void check_hook(struct doctor *doctor)
{
    if (doctor->config.libvirt_uri[0] == '\0')
        return;
    if (!doctor_access(doctor, HOOK, F_OK))
        doctor_report(doctor, SEVERITY_WARNING, "hook-missing",
                      doctor_text(HOOK " is not there: a VM does not start when its share is not "
                                       "ready"),
                      doctor_text("apt install --reinstall virtjoule && systemctl restart "
                                  "libvirtd"));
    else if (!doctor_access(doctor, HOOK, X_OK))
        doctor_report(doctor, SEVERITY_WARNING, "hook-not-executable",
                      doctor_text(HOOK " is not executable: libvirt ignores it"),
                      doctor_text("chmod 0755 " HOOK " && systemctl restart libvirtd"));
}

const doctor_check doctor_system_checks[] = {
    check_root,         check_sensors,   check_filtering, check_btf, check_clocksource,
    doctor_check_clock, check_virtiofsd, check_hook,      NULL,
};
