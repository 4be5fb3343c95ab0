/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/descriptors.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

int descriptors_take(struct descriptors *ret)
{
    struct descriptors taken = {0};
    char **names = NULL;
    int n = sd_listen_fds_with_names(true, &names);

    if (n > 0)
        taken.list = calloc((size_t)n, sizeof(*taken.list));
    for (int i = 0; i < n; i++) {
        if (taken.list) {
            taken.list[taken.n++] = (struct descriptor){SD_LISTEN_FDS_START + i, names[i]};
        } else {
            close(SD_LISTEN_FDS_START + i);
            free(names[i]);
        }
    }
    free(names);
    /* An environment that is not of the form counts as one without descriptors. */
    if (n == -ENOMEM || (n > 0 && !taken.list))
        return -ENOMEM;
    *ret = taken;
    return 0;
}

void descriptors_deinit(struct descriptors *descriptors)
{
    for (size_t i = 0; i < descriptors->n; i++) {
        if (descriptors->list[i].fd >= 0)
            close(descriptors->list[i].fd);
        free(descriptors->list[i].name);
    }
    free(descriptors->list);
    *descriptors = (struct descriptors){0};
}

int descriptors_next(struct descriptors *descriptors, const char *name)
{
    for (size_t i = 0; descriptors && i < descriptors->n; i++) {
        struct descriptor *descriptor = &descriptors->list[i];
        int fd = descriptor->fd;

        if (fd >= 0 && strcmp(descriptor->name, name) == 0) {
            descriptor->fd = -1;
            return fd;
        }
    }
    return -1;
}

int descriptors_keep(const char *name, const int *fds, unsigned n)
{
    char message[64];
    int r = snprintf(message, sizeof(message), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);

    assert(r < (int)sizeof(message));
    r = sd_pid_notify_with_fds(0, false, message, fds, n);
    if (r == 0)
        return -ENOTCONN;
    return r < 0 ? r : 0;
}

void descriptors_forget(const char *name)
{
    sd_notifyf(false, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}
