/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Discovery against a real libvirtd, which is started, killed, stopped and
 * restarted here, and a real (if very small) QEMU domain. What libvirtd
 * writes is in mounts of this process' own, so that another libvirtd may run.
 * Needs root; else it is skipped.
 */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "discovery/discovery.h"
#include "util/clock.h"
#include "util/macros.h"

#define EXIT_SKIP 77
#define URI "qemu:///system"
#define KVM_DEVICE "/dev/kvm"

/* libvirtd is up in a second or two, and the watch asks for it again 1, 3, 7 s after it is lost; on
 * a busy machine that takes longer. */
#define CONNECT_TIMEOUT_MS 120000
/* An event comes at once, or a busy machine's time later. Below the watch's listing of all domains
 * once a minute: of two changes without events one at least is missed. */
#define EVENT_TIMEOUT_MS 45000
/* A machine that is busy enough holds a stop up, but not each of so many. */
#define STOP_ATTEMPTS 10

struct fixture {
    char directory[64];
    char name[64];
    char uuid_text[UUID_TEXT_SIZE];
    uuid_t uuid;
    pid_t virtlogd;
    pid_t libvirtd;
    struct discovery *discovery;
};

static struct fixture fixture = {.virtlogd = -1, .libvirtd = -1};

__attribute__((noreturn)) static void skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    exit(EXIT_SKIP);
}

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char command[512];
    va_list arguments;
    int status;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                \
            exit(EXIT_FAILURE);                                                                    \
        }                                                                                          \
    } while (0)

static void stop_child(pid_t *pid, int signal)
{
    if (*pid <= 0)
        return;
    kill(*pid, SIGCONT);
    kill(*pid, signal);
    waitpid(*pid, NULL, 0);
    *pid = -1;
}

/*
 * libvirtd may use /dev/kvm, QEMU's user may not where no udev has set its
 * group: libvirt then asks QEMU anew what it can, for half a minute a call.
 */
static void own_kvm_device(void)
{
    static const char device[] = "/run/libvirt/kvm";
    const struct group *kvm = getgrnam("kvm");
    struct stat status;

    if (!kvm || stat(KVM_DEVICE, &status) < 0)
        return;
    CHECK(mknod(device, S_IFCHR | 0600, status.st_rdev) == 0);
    CHECK(chown(device, 0, kvm->gr_gid) == 0 && chmod(device, 0660) == 0);
    CHECK(mount(device, KVM_DEVICE, NULL, MS_BIND, NULL) == 0);
}

/* Mounts of this process' own, with empty directories where libvirtd writes. */
static void isolate(void)
{
    static const char *const written[] = {"/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt",
                                          "/etc/libvirt/qemu"};

    CHECK(unshare(CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    for (size_t i = 0; i < ARRAY_SIZE(written); i++) {
        CHECK(mkdir(written[i], 0755) == 0 || errno == EEXIST);
        CHECK(mount("tmpfs", written[i], "tmpfs", 0, "mode=755") == 0);
    }
    own_kvm_device();
}

static void clean_up(void)
{
    const struct fixture *f = &fixture;

    if (f->libvirtd > 0) {
        kill(f->libvirtd, SIGCONT);
        run("virsh -q -c " URI " destroy %s >/dev/null 2>&1", f->name);
        run("virsh -q -c " URI " undefine %s >/dev/null 2>&1", f->name);
    }
    stop_child(&fixture.libvirtd, SIGTERM);
    stop_child(&fixture.virtlogd, SIGTERM);
    if (f->directory[0] != '\0')
        run("rm -rf %s", f->directory);
}

static pid_t start_program(const char *program, const char *pid_name)
{
    char pid_file[128];
    pid_t pid;

    snprintf(pid_file, sizeof(pid_file), "%s/%s.pid", fixture.directory, pid_name);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execlp(program, program, "-p", pid_file, NULL);
        _exit(127);
    }
    return pid;
}

static void start_libvirtd(void)
{
    fixture.libvirtd = start_program("libvirtd", "libvirtd");
    for (int i = 0; i < 1000; i++) {
        if (run("virsh -q -c " URI " list >/dev/null 2>&1") == 0)
            return;
        CHECK(waitpid(fixture.libvirtd, NULL, WNOHANG) == 0);
        usleep(100 * 1000);
    }
    CHECK(!"libvirtd does not answer");
}

/* What is told of the VM at this moment. */
enum vm_state { ABSENT, OFF, ON, ON_TRANSIENT };

static enum vm_state vm_state(void)
{
    const struct process_changes changes = {.all = true};
    struct vm_table table;
    const struct vm *vm;
    enum vm_state state = ABSENT;

    CHECK(discovery_refresh(fixture.discovery, &changes, &table) == 1);
    vm = vm_table_find(&table, fixture.uuid);
    if (vm) {
        CHECK(strcmp(vm->name, fixture.name) == 0);
        CHECK(vm->manager == VM_MANAGER_LIBVIRT);
        CHECK(vm->vcpus == 2);
        CHECK(vm->running == (vm->n_processes > 0));
        if (vm->running)
            CHECK(vm->processes[0].role == VM_PROCESS_QEMU);
        CHECK(vm->running || vm->defined);
        state = !vm->running ? OFF : vm->defined ? ON : ON_TRANSIENT;
    }
    vm_table_deinit(&table);
    return state;
}

/* Refreshes when the descriptor says so (or often, for what only /proc tells), and returns the
 * milliseconds that it took for the VM to come to the state. */
static unsigned await(enum vm_state expected, bool by_event, unsigned timeout_ms)
{
    uint64_t begin = now_ns();
    struct pollfd fd = {.fd = discovery_event_fd(fixture.discovery), .events = POLLIN};
    unsigned elapsed = 0;

    while (vm_state() != expected) {
        elapsed = (unsigned)((now_ns() - begin) / NSEC_PER_MSEC);
        if (elapsed >= timeout_ms) {
            fprintf(stderr, "state is %d, not %d, after %u ms\n", vm_state(), expected, elapsed);
            exit(EXIT_FAILURE);
        }
        poll(&fd, 1, by_event ? (int)(timeout_ms - elapsed) : 50);
    }
    return elapsed;
}

static void write_domain(void)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/domain.xml", fixture.directory);
    file = fopen(path, "w");
    CHECK(file);
    fprintf(file,
            "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>32</memory>"
            "<vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os></domain>",
            fixture.name, fixture.uuid_text);
    CHECK(fclose(file) == 0);
}

static void set_up(void)
{
    struct fixture *f = &fixture;

    if (geteuid() != 0)
        skip("not root");
    if (run("command -v libvirtd virtlogd virsh qemu-system-x86_64 >/dev/null") != 0)
        skip("libvirtd, virtlogd, virsh or qemu-system-x86_64 is missing");
    isolate();
    strcpy(f->directory, "/tmp/virtjoule-libvirt-XXXXXX");
    CHECK(mkdtemp(f->directory));
    snprintf(f->name, sizeof(f->name), "virtjoule-test-%d", getpid());
    uuid_generate_random(f->uuid);
    uuid_unparse_lower(f->uuid, f->uuid_text);
    write_domain();
    f->virtlogd = start_program("virtlogd", "virtlogd");
}

static void open_discovery(void)
{
    const struct discovery_config config = {URI, true, "/proc", NULL};

    CHECK(discovery_new(&config, &fixture.discovery) == 0);
}

static void test_absent_at_start(void)
{
    open_discovery();
    CHECK(discovery_event_fd(fixture.discovery) >= 0);
    CHECK(vm_state() == ABSENT);
}

static void test_lifecycle(void)
{
    const struct fixture *f = &fixture;

    start_libvirtd();
    CHECK(run("virsh -q -c " URI " define %s/domain.xml", f->directory) == 0);
    printf("connected and defined after %u ms\n", await(OFF, true, CONNECT_TIMEOUT_MS));
    CHECK(run("virsh -q -c " URI " start %s", f->name) == 0);
    printf("started after %u ms\n", await(ON, false, EVENT_TIMEOUT_MS));
    CHECK(run("virsh -q -c " URI " undefine %s", f->name) == 0);
    printf("undefined after %u ms\n", await(ON_TRANSIENT, true, EVENT_TIMEOUT_MS));
    CHECK(run("virsh -q -c " URI " define %s/domain.xml", f->directory) == 0);
    printf("defined again after %u ms\n", await(ON, true, EVENT_TIMEOUT_MS));
    CHECK(run("virsh -q -c " URI " destroy %s", f->name) == 0);
    printf("destroyed after %u ms\n", await(OFF, false, EVENT_TIMEOUT_MS));
    CHECK(run("virsh -q -c " URI " undefine %s", f->name) == 0);
    printf("gone after %u ms\n", await(ABSENT, true, EVENT_TIMEOUT_MS));
    CHECK(run("virsh -q -c " URI " create %s/domain.xml", f->directory) == 0);
    printf("created after %u ms\n", await(ON_TRANSIENT, false, EVENT_TIMEOUT_MS));
    CHECK(run("virsh -q -c " URI " destroy %s", f->name) == 0);
    await(ABSENT, false, EVENT_TIMEOUT_MS);
}

/* libvirtd is killed with one domain running; it stays running and defined throughout, and what
 * happens after the restart is seen. */
static void test_restart(void)
{
    const struct fixture *f = &fixture;

    CHECK(run("virsh -q -c " URI " define %s/domain.xml", f->directory) == 0);
    await(OFF, true, EVENT_TIMEOUT_MS);
    CHECK(run("virsh -q -c " URI " start %s", f->name) == 0);
    await(ON, false, EVENT_TIMEOUT_MS);
    stop_child(&fixture.libvirtd, SIGKILL);
    for (int i = 0; i < 40; i++) {
        CHECK(vm_state() == ON);
        usleep(50 * 1000);
    }
    start_libvirtd();
    /* Until libvirtd has found the QEMU of before it is "not running". On a busy machine libvirtd
     * may fail to find it, and ends it. */
    for (int i = 0; i < 600; i++) {
        if (run("virsh -q -c " URI " destroy %s 2>/dev/null", f->name) == 0 || vm_state() == OFF)
            break;
        usleep(100 * 1000);
    }
    await(OFF, false, EVENT_TIMEOUT_MS);
    stop_child(&fixture.libvirtd, SIGKILL);
    usleep(500 * 1000);
    CHECK(vm_state() == OFF);
    start_libvirtd();
    CHECK(run("virsh -q -c " URI " undefine %s", f->name) == 0);
    printf("reconnected after %u ms\n", await(ABSENT, true, CONNECT_TIMEOUT_MS));
}

/* A domain is known only while libvirtd is connected. */
static void connect_discovery(void)
{
    if (!fixture.discovery)
        open_discovery();
    await(OFF, true, CONNECT_TIMEOUT_MS);
}

/* The watch's first attempt hangs then; or the second has failed, and the third is 1.5 s away. */
static void open_without_answer(void)
{
    open_discovery();
    usleep(1500 * 1000);
    CHECK(vm_state() == ABSENT);
}

static void check_stop(void (*prepare)(void), const char *when)
{
    unsigned elapsed = UINT_MAX;

    for (int i = 0; i < STOP_ATTEMPTS && elapsed >= 1000; i++) {
        uint64_t begin;

        prepare();
        begin = now_ns();
        fixture.discovery = discovery_free(fixture.discovery);
        elapsed = (unsigned)((now_ns() - begin) / NSEC_PER_MSEC);
        printf("stopped after %u ms, %s\n", elapsed, when);
    }
    CHECK(elapsed < 1000);
}

/* Stopping takes less than a second, in every state of the connection. */
static void test_stop(void)
{
    const struct fixture *f = &fixture;

    CHECK(run("virsh -q -c " URI " define %s/domain.xml", f->directory) == 0);
    check_stop(connect_discovery, "connected");
    CHECK(run("virsh -q -c " URI " undefine %s", f->name) == 0);

    kill(fixture.libvirtd, SIGSTOP);
    check_stop(open_without_answer, "with libvirtd hanging at the connect");
    kill(fixture.libvirtd, SIGCONT);
    usleep(300 * 1000); /* for the thread that was left behind to come back and end */

    stop_child(&fixture.libvirtd, SIGTERM);
    check_stop(open_without_answer, "without libvirtd");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    set_up();
    atexit(clean_up);
    test_absent_at_start();
    test_lifecycle();
    test_restart();
    test_stop();
    return EXIT_SUCCESS;
}
