/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/cgroup_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "requests/cgroup.h"
#include "util/cleanup.h"
#include "util/log.h"

void cgroup_watch_init(struct cgroup_watch *watch, const char *name)
{
    *watch = (struct cgroup_watch){.name = name, .link = -1};
}

void cgroup_watch_end(struct cgroup_watch *watch)
{
    if (watch->link >= 0)
        request_programs_unwatch(watch->link);
    watch->link = -1;
}

/* A service that is started again gets a new directory of the same name. */
static bool is_still_there(const struct cgroup_watch *watch)
{
    struct stat status;

    return stat(watch->path, &status) == 0 && status.st_ino == watch->inode;
}

static int begin(struct cgroup_watch *watch, struct request_programs *programs, const char *root)
{
    _cleanup_close_ int fd = -1;
    struct statfs mount;
    struct stat status;
    int r = cgroup_find(root, watch->name, watch->path, sizeof(watch->path));

    if (r < 0)
        return r;
    fd = open(watch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0 || fstatfs(fd, &mount) < 0)
        return -errno;
    if (mount.f_type != CGROUP2_SUPER_MAGIC)
        return -EMEDIUMTYPE;
    watch->inode = status.st_ino;
    return request_programs_watch(programs, fd, &watch->link);
}

static void log_failure(const struct cgroup_watch *watch, int error)
{
    if (error == -ENOENT)
        log_info("no such cgroup yet", F_STRING("cgroup", watch->name));
    else if (error == -EMEDIUMTYPE)
        log_warning("not a directory of the unified hierarchy (cgroup v2)",
                    F_STRING("cgroup", watch->name));
    else if (error == -EPERM) /* not a capability: attaching takes none that loading did not take */
        log_warning("another program on the cgroup, or above it, tolerates none beside it: "
                    "requests of the cgroup are followed when that program has gone",
                    F_STRING("cgroup", watch->name));
    else
        log_warning("requests of a cgroup cannot be followed", F_STRING("cgroup", watch->name),
                    F_ERROR(error));
}

void cgroup_watch_check(struct cgroup_watch *watch, struct request_programs *programs,
                        const char *root)
{
    int r;

    if (watch->link >= 0) {
        if (is_still_there(watch))
            return;
        log_info("cgroup gone", F_STRING("cgroup", watch->path));
        cgroup_watch_end(watch);
    }
    r = begin(watch, programs, root);
    if (r == 0)
        log_info("requests of a cgroup are followed", F_STRING("cgroup", watch->path));
    else if (r != watch->error)
        log_failure(watch, r);
    watch->error = r;
}
