/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/file.h"

#define DIFF_MAX (64 << 20)

extern char **environ;

/* A file in memory without a name: diff opens it through a descriptor that it inherits. */
static int text_file(const char *text)
{
    _cleanup_close_ int fd = memfd_create("domain", 0);
    size_t length = strlen(text);

    if (fd < 0)
        return -errno;
    return write(fd, text, length) == (ssize_t)length ? TAKE_FD(fd) : -EIO;
}

/* @return diff's exit status or a negative errno */
static int run_diff(const char *name, int before, int after, int output)
{
    char label[2][300], path[2][32];
    char *arguments[] = {"diff",   "-u",    "--label", label[0], "--label",
                         label[1], path[0], path[1],   NULL};
    posix_spawn_file_actions_t actions;
    int r, status;
    pid_t pid;

    snprintf(label[0], sizeof(label[0]), "%s (as it is)", name);
    snprintf(label[1], sizeof(label[1]), "%s (to be)", name);
    snprintf(path[0], sizeof(path[0]), "/dev/fd/%d", before);
    snprintf(path[1], sizeof(path[1]), "/dev/fd/%d", after);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    r = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (r != 0)
        return -r;
    if (waitpid(pid, &status, 0) < 0)
        return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

int unified_diff(const char *name, const char *before, const char *after, char **ret)
{
    _cleanup_close_ int before_fd = text_file(before);
    _cleanup_close_ int after_fd = text_file(after);
    _cleanup_close_ int output = text_file("");
    char path[32];
    size_t length;
    int r;

    if (before_fd < 0 || after_fd < 0 || output < 0)
        return -EIO;
    r = run_diff(name, before_fd, after_fd, output);
    if (r < 0)
        return r;
    if (r > 1)
        return -EIO;
    snprintf(path, sizeof(path), "/dev/fd/%d", output);
    return read_file_full(AT_FDCWD, path, DIFF_MAX, ret, &length);
}
