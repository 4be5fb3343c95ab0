/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/providers.h"

#include <errno.h>
#include <string.h>

#include "usage/bpf.h"
#include "usage/bpf_handover.h"
#include "usage/procfs.h"
#include "util/log.h"
#include "util/macros.h"

static const char *no_ebpf_reason(int error)
{
    switch (-error) {
    case EXDEV:
        return "the daemon is in a PID namespace of its own";
    case EOPNOTSUPP:
        return "proc_root is not the running kernel's";
    case EPERM:
    case EACCES:
        return "no permission: it takes CAP_BPF and CAP_PERFMON";
    case ENOENT:
    case ESRCH:
        return "the kernel lacks what it takes: Linux 5.11 or later, with BTF";
    default:
        return log_errno_text(error);
    }
}

/* Makers: each logs why the provider that the configuration names cannot be made, and what it means
   that another one is taken. @param previous  why the provider before it was not taken, 0: none was
   tried */

static int make_bpf(struct usage_provider **ret, const struct usage_provider_options *options,
                    int previous)
{
    const struct bpf_usage_config config = {
        .sysfs_root = options->sysfs_root,
        .processes_max = BPF_USAGE_PROCESSES_MAX,
        .counters = bpf_usage_counters,
        .owners = options->owners,
        .former = options->former,
    };
    /* The programs see the running kernel's processes only. */
    int r = strcmp(options->proc_root, "/proc") == 0 ? bpf_usage_new(ret, &config) : -EOPNOTSUPP;

    if (r < 0 && strcmp(options->name, "auto") != 0)
        log_error("eBPF cannot be used", F_STRING("reason", no_ebpf_reason(r)));
    return r;
}

static int make_procfs(struct usage_provider **ret, const struct usage_provider_options *options,
                       int previous)
{
    if (previous < 0)
        log_warning("eBPF cannot be used, usage is read from /proc: less exact on several sockets "
                    "and for VMs that come and go",
                    F_STRING("reason", no_ebpf_reason(previous)));
    bpf_handover_forget();
    return procfs_usage_new(ret, options->proc_root, options->sysfs_root, &options->former);
}

static const struct {
    const char *name;
    int (*make)(struct usage_provider **ret, const struct usage_provider_options *options,
                int previous);
} providers[] = {
#define ROW(provider) {#provider, make_##provider},
    USAGE_PROVIDERS(ROW)};

int usage_provider_open(struct usage_provider **ret, const struct usage_provider_options *options)
{
    bool any = strcmp(options->name, "auto") == 0;
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(providers); i++) {
        if (!any && strcmp(providers[i].name, options->name) != 0)
            continue;
        r = providers[i].make(ret, options, r);
        if (r == 0)
            return 0;
    }
    return r < 0 ? r : -EINVAL;
}
