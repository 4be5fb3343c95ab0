/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/share_losses.h"

#include "util/macros.h"

/* The first that migrate a virtiofs device, with virtiofsd 1.10 and later (the one in Rust). */
#define LIBVIRT_MIGRATES 10000000
#define QEMU_MIGRATES 8002000

enum cause { DEVICE_STATE, SHARED_MEMORY };

static const struct {
    enum cause cause;
    struct share_loss loss;
} table[SHARE_LOSSES_MAX] = {
    {DEVICE_STATE, {"save", "cannot be saved (virsh save, virsh managedsave)"}},
    {DEVICE_STATE, {"snapshot", "cannot be snapshotted with its memory"}},
    {DEVICE_STATE, {"migration", "cannot be migrated while it runs"}},
    {SHARED_MEMORY, {"ksm", "shares no equal pages with other VMs (KSM)"}},
    {SHARED_MEMORY,
     {"huge-pages", "has transparent huge pages only where "
                    "/sys/kernel/mm/transparent_hugepage/shmem_enabled allows them"}},
};

size_t share_losses(const struct share_host *host, bool memory_changes,
                    const struct share_loss *ret[SHARE_LOSSES_MAX])
{
    bool stays =
        host->c_virtiofsd || host->libvirt < LIBVIRT_MIGRATES || host->qemu < QEMU_MIGRATES;
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].cause == DEVICE_STATE ? stays : memory_changes)
            ret[n++] = &table[i].loss;
    return n;
}
