/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * escapes PID ADDRESS DIRECTORY
 *
 * Tries what whoever takes over the daemon would try: against the process and
 * the address of a victim, against what else is root's, and in the daemon's
 * runtime directory. Prints each attempt and how it ended: "done", or why not.
 * What was done is undone, but for the victim's text.
 *
 * escapes --victim
 *
 * A victim: prints its PID and the address of a text, and the text when its standard
 * input ends.
 */

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/macros.h"

#define URI "qemu:///system"

static char victims_text[] = "untouched";
static char written[] = "overrun";

static pid_t victim;
static void *address;
static const char *directory;

static int result(long r)
{
    return r < 0 ? -errno : 0;
}

static int write_memory(void)
{
    struct iovec here = {written, sizeof(written)}, there = {address, sizeof(written)};

    return result(process_vm_writev(victim, &here, 1, &there, 1, 0));
}

static int read_memory(void)
{
    char read[sizeof(victims_text)];
    struct iovec here = {read, sizeof(read)}, there = {address, sizeof(read)};

    return result(process_vm_readv(victim, &here, 1, &there, 1, 0));
}

static int write_memory_file(void)
{
    _cleanup_close_ int fd = -1;
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/mem", victim);
    fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : result(pwrite(fd, written, sizeof(written), (off_t)(intptr_t)address));
}

static int trace(void)
{
    if (ptrace(PTRACE_ATTACH, victim, NULL, NULL) < 0)
        return -errno;
    waitpid(victim, NULL, 0);
    return result(ptrace(PTRACE_DETACH, victim, NULL, NULL));
}

static int take_descriptor(void)
{
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);
    _cleanup_close_ int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, 0, 0);

    return result(fd);
}

static int read_file_of_root(void)
{
    _cleanup_close_ int fd = open("/etc/shadow", O_RDONLY | O_CLOEXEC);

    return result(fd);
}

static int become_root(void)
{
    return result(setuid(0));
}

static int define(virConnectPtr connection)
{
    static const char xml[] = "<domain type='qemu'><name>escape</name><memory>32768</memory>"
                              "<os><type arch='x86_64'>hvm</type></os></domain>";
    virDomainPtr domain = connection ? virDomainDefineXML(connection, xml) : NULL;

    if (domain) {
        virDomainUndefine(domain);
        virDomainFree(domain);
    } else {
        printf("(%s) ", virGetLastErrorMessage());
    }
    if (connection)
        virConnectClose(connection);
    return domain ? 0 : -EACCES;
}

static int define_domain(void)
{
    return define(virConnectOpen(URI));
}

static int define_domain_read_only(void)
{
    return define(virConnectOpenReadOnly(URI));
}

/* A name in the runtime directory gives way to a link to root's files. */
static int replace_by_link(const char *name)
{
    char path[256], moved[256];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    snprintf(moved, sizeof(moved), "%s/moved", directory);
    if (rename(path, moved) < 0)
        return -errno;
    if (symlink("/etc", path) == 0)
        unlink(path);
    return result(rename(moved, path));
}

static int replace_mount_point(void)
{
    return replace_by_link("vms");
}

static int replace_control_socket(void)
{
    return replace_by_link("control.sock");
}

static int link_at(const char *path)
{
    return symlink("/etc", path) < 0 ? -errno : result(unlink(path));
}

static int link_among_trees(void)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/vms/escape", directory);
    return link_at(path);
}

static int link_beside_runtime_directory(void)
{
    return link_at("/run/virtjoule-escape");
}

static int link_in_configuration(void)
{
    return link_at("/etc/virtjoule-escape");
}

static const struct {
    const char *name;
    int (*try)(void);
} attempts[] = {
    {"write to a root process", write_memory},
    {"read a root process", read_memory},
    {"write to a root process's mem", write_memory_file},
    {"ptrace a root process", trace},
    {"take a root process's descriptor", take_descriptor},
    {"read /etc/shadow", read_file_of_root},
    {"become root", become_root},
    {"define a domain", define_domain},
    {"define a domain over the read-only socket", define_domain_read_only},
    {"replace the mount point by a link", replace_mount_point},
    {"replace the control socket by a link", replace_control_socket},
    {"plant a link among the trees", link_among_trees},
    {"plant a link in /run", link_beside_runtime_directory},
    {"plant a link in /etc", link_in_configuration},
};

static void ignore_error(void *userdata, virErrorPtr error)
{
}

static int be_victim(void)
{
    printf("%d %p\n", getpid(), (void *)victims_text);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    puts(victims_text);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--victim") == 0)
        return be_victim();
    if (argc != 4 || sscanf(argv[2], "%p", &address) != 1)
        return EXIT_FAILURE;
    victim = (pid_t)strtol(argv[1], NULL, 10);
    directory = argv[3];
    virSetErrorFunc(NULL, ignore_error);
    for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
        int r;

        printf("%s: ", attempts[i].name);
        r = attempts[i].try();
        puts(r < 0 ? strerror(-r) : "done");
    }
    return EXIT_SUCCESS;
}
