/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The mount and the thread that serves it: requests wait in queue.c for their
 * VM's turn, and ops.c answers them at once. The CPU time of an answer is
 * counted to the VM. The mount may be one that a former process made: see
 * handover.h.
 *
 * An operator may unmount it by hand. A second mount of the file system, which
 * is on no path, keeps it alive then for the processes that hold a directory of
 * it (virtiofsd), and is moved back to the mount point.
 */

#include "powercapfs/powercapfs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/mounts.h"
#include "host/topology.h"
#include "powercapfs/handover.h"
#include "powercapfs/mount.h"
#include "powercapfs/ops.h"
#include "powercapfs/queue.h"
#include "util/backoff.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/thread.h"

#define PAUSE_USEC (100 * 1000)

struct powercapfs {
    struct powercapfs_server server;
    char *mountpoint;
    struct fuse_session *session;
    struct fuse_queue *queue;
    struct topology topology;
    int stop_fd;  /* eventfd: the thread is to end */
    bool mounted; /* by this process */
    int keep_fd;  /* for handover_is_kept(); negative without a service manager */
    bool running; /* the thread is to be joined */
    pthread_t thread;
    atomic_bool ended; /* the thread ended by itself: the connection was cut */

    dev_t device; /* the file system's */
    int spare_fd; /* mount_spare(), or negative */
    struct backoff mount_retry;
};

DEFINE_CLEANUP(struct powercapfs *, powercapfs_free);

/*
 * Counts to the VM the CPU time that the thread has used since from_ns.
 * @return the thread's CPU time now
 */
static uint64_t charge(struct powercapfs *fs, uint32_t vm_id, uint64_t from_ns)
{
    const struct snapshot *snapshot = snapshot_board_acquire(fs->server.board);
    bool exists = snapshot && snapshot_find_id(snapshot, vm_id);
    uint64_t to_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int cpu = sched_getcpu();
    unsigned package = cpu >= 0 && (size_t)cpu < fs->topology.n_cpus ? fs->topology.socket[cpu] : 0;

    snapshot_board_release(fs->server.board, snapshot);
    if (exists)
        open_files_charge(fs->server.files, vm_id, package, to_ns - from_ns);
    return to_ns;
}

/*
 * Answers some of the requests that wait.
 * @param cpu_ns  the thread's CPU time that has been charged so far
 * @return 0 or a negative errno
 */
static int answer(struct powercapfs *fs, uint64_t *cpu_ns)
{
    int fd = fuse_session_fd(fs->session);
    struct fuse_request request;
    int r = fuse_queue_fill(fs->queue, fd);

    for (unsigned n = 0; r == 0 && n < FUSE_QUEUE_SLOTS; n++) {
        if (!fuse_queue_next(fs->queue, &request))
            break;
        fuse_session_process_buf(fs->session,
                                 &(struct fuse_buf){.mem = request.bytes, .size = request.length});
        fuse_queue_answered(fs->queue, &request);
        *cpu_ns = charge(fs, request.vm_id, *cpu_ns);
        /* Requests that have arrived meanwhile may be due before the others. */
        r = fuse_queue_fill(fs->queue, fd);
    }
    return r;
}

/*
 * Serves requests until the thread is to stop or the connection is cut.
 * libfuse's own loop would sleep on in a read while a process keeps a file
 * open: unmounting wakes it up only after the last file is closed.
 */
static void *serve(void *data)
{
    struct powercapfs *fs = data;
    struct pollfd fds[] = {
        {.fd = fuse_session_fd(fs->session), .events = POLLIN},
        {.fd = fs->stop_fd, .events = POLLIN},
    };
    uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int r = 0;

    while ((r == 0 || r == -ENOMEM) && !fuse_session_exited(fs->session)) {
        if (poll(fds, 2, fuse_queue_length(fs->queue) > 0 ? 0 : -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            return NULL;
        r = answer(fs, &cpu_ns);
        if (r == -ENOMEM)
            usleep(PAUSE_USEC); /* readers wait for memory; ending here would leave them for ever */
    }
    atomic_store(&fs->ended, true);
    return NULL;
}

static void log_libfuse(enum fuse_log_level level, const char *format, va_list arguments)
{
    char text[256];

    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    if (level <= FUSE_LOG_WARNING)
        log_warning("libfuse", F_STRING("message", text));
    else
        log_debug("libfuse", F_STRING("message", text));
}

static int session_new(struct powercapfs *fs)
{
    char options[] = "ro,allow_other,default_permissions,nosuid,nodev,noexec,fsname=virtjoule,"
                     "subtype=virtjoule";
    char *arguments[] = {"virtjouled", "-o", options};
    struct fuse_args args = FUSE_ARGS_INIT(ARRAY_SIZE(arguments), arguments);

    fuse_set_log_func(log_libfuse);
    /* The analyzer holds errno for 0 when allocate() has failed.
       NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    fs->session =
        fuse_session_new(&args, &powercapfs_operations, sizeof(powercapfs_operations), &fs->server);
    fuse_opt_free_args(&args);
    return fs->session ? 0 : -ENOMEM;
}

/* Answers the kernel's first request, which waits already, and keeps it for later processes. */
static int session_begin(struct powercapfs *fs)
{
    struct fuse_buf init = {0};
    int r = fuse_session_receive_buf(fs->session, &init);

    if (r > 0) {
        fs->keep_fd = handover_keep(fuse_session_fd(fs->session), fuse_queue_memory(fs->queue),
                                    init.mem, (size_t)r);
        if (fs->keep_fd < 0 && fs->keep_fd != -ENOTCONN)
            log_warning("the mount cannot be kept over a restart", F_ERROR(fs->keep_fd));
        fuse_session_process_buf(fs->session, &init);
    }
    free(init.mem);
    return r > 0 ? 0 : -EIO;
}

static int session_mount(struct powercapfs *fs)
{
    int r = mountpoint_prepare(fs->mountpoint);

    if (r < 0)
        return r;
    errno = 0;
    if (fuse_session_mount(fs->session, fs->mountpoint) != 0)
        return errno ? -errno : -EIO;
    fs->mounted = true;
    /* At once: after a later failure, powercapfs_free() recognises the mount by its device. */
    r = mount_device(fs->mountpoint, &fs->device);
    if (r == 0)
        r = fuse_queue_new(&fs->queue, -1);
    return r < 0 ? r : session_begin(fs);
}

/*
 * libfuse sends the reply to the repeated FUSE_INIT to the kernel as well. If
 * the dead process had answered, the kernel refuses the reply as one to no
 * request, and libfuse ignores that; if not, the mount was waiting for this
 * reply.
 */
static int session_resume(struct powercapfs *fs, struct handover *former)
{
    struct fuse_buf init = {.mem = former->init, .size = former->init_length};
    char path[32];
    int r = fuse_queue_new(&fs->queue, former->memory_fd);

    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "/dev/fd/%d", former->fd);
    if (fuse_session_mount(fs->session, path) != 0)
        return -EIO;
    fuse_session_process_buf(fs->session, &init);
    if (fuse_session_exited(fs->session))
        return -EPROTO;
    log_info("the former daemon's mount is continued", F_STRING("path", fs->mountpoint),
             F_UINT("requests", fuse_queue_length(fs->queue)));
    return mount_device(fs->mountpoint, &fs->device);
}

/* After a new or a continued mount. */
static int session_ready(struct powercapfs *fs)
{
    int fd = fuse_session_fd(fs->session);

    fs->spare_fd = mount_spare(fs->mountpoint);
    /* A request that is withdrawn between poll and read must not block the thread. */
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ? -errno : 0;
}

static int session_open(struct powercapfs *fs, struct descriptors *descriptors)
{
    struct handover former;
    int r = session_new(fs);

    if (r < 0)
        return r;
    r = handover_take(descriptors, fs->mountpoint, &former) ? session_resume(fs, &former)
                                                            : session_mount(fs);
    return r < 0 ? r : session_ready(fs);
}

/* Answers requests until the kernel knows the top directory. */
static int session_introduce(struct powercapfs *fs)
{
    struct fuse_buf buffer = {0};
    struct pollfd fds[] = {
        {.fd = fuse_session_fd(fs->session), .events = POLLIN},
        {.fd = -1, .events = POLLIN},
    };
    pid_t child = mountpoint_ask(fs->mountpoint, &fds[1].fd);
    int r = child < 0 ? child : 1;

    while (r > 0 && poll(fds, 2, -1) > 0 && !fds[1].revents) {
        r = fuse_session_receive_buf(fs->session, &buffer);
        if (r > 0)
            fuse_session_process_buf(fs->session, &buffer);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
    if (fds[1].fd >= 0)
        close(fds[1].fd);
    free(buffer.mem);
    return r < 0 ? r : 0;
}

static int thread_start(struct powercapfs *fs)
{
    sigset_t previous;
    int r;

    thread_block_signals(&previous);
    r = pthread_create(&fs->thread, NULL, serve, fs);
    thread_restore_signals(&previous);
    if (r != 0)
        return -r;
    fs->running = true;
    pthread_setname_np(fs->thread, "powercapfs");
    if (fs->mounted)
        mountpoint_introduce(fs->mountpoint);
    return 0;
}

static int allocate(struct powercapfs **ret, const struct powercapfs_config *config,
                    struct snapshot_board *board)
{
    _cleanup_(cleanup_powercapfs_free) struct powercapfs *fs = calloc(1, sizeof(*fs));
    int r;

    if (!fs)
        return -ENOMEM;
    fs->keep_fd = fs->spare_fd = -1;
    fs->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (fs->stop_fd < 0)
        return -errno;
    fs->mountpoint = strdup(config->mountpoint);
    if (!fs->mountpoint)
        return -ENOMEM;
    r = topology_read(&fs->topology, config->sysfs_root, (size_t)get_nprocs_conf(), PACKAGES_MAX);
    if (r < 0)
        return r;
    r = powercapfs_server_init(&fs->server, config, board);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(fs);
    return 0;
}

int powercapfs_new(struct powercapfs **ret, const struct powercapfs_config *config,
                   struct snapshot_board *board, struct descriptors *descriptors)
{
    _cleanup_(cleanup_powercapfs_free) struct powercapfs *fs = NULL;
    int r = allocate(&fs, config, board);

    if (r < 0)
        return r;
    r = session_open(fs, descriptors);
    if (r == 0)
        r = thread_start(fs);
    if (r < 0) {
        log_error("cannot mount the powercap trees", F_STRING("path", fs->mountpoint), F_ERROR(r));
        return r;
    }
    *ret = TAKE_PTR(fs);
    return 0;
}

int powercapfs_mount(const struct powercapfs_config *config, struct snapshot_board *board)
{
    _cleanup_(cleanup_powercapfs_free) struct powercapfs *fs = NULL;
    int r;

    if (mountpoint_is_alive(config->mountpoint))
        return 0;
    /* A connection that is still kept is for another mount point, or its mount is gone. */
    handover_drop();
    r = allocate(&fs, config, board);
    if (r == 0)
        r = session_new(fs);
    if (r == 0)
        r = session_mount(fs);
    if (r == 0)
        r = session_introduce(fs);
    handover_settle();
    if (r == 0 && !handover_is_kept(fs->keep_fd))
        r = -ENOTCONN;
    if (r < 0)
        log_error("cannot mount the powercap trees for the service manager to keep",
                  F_STRING("path", config->mountpoint), F_ERROR(r));
    return r;
}

static bool is_in_place(const struct powercapfs *fs)
{
    dev_t device;

    return mount_device(fs->mountpoint, &device) == 0 && device == fs->device;
}

/* Has the kernel ended the connection? libfuse then leaves the mount point alone. */
static bool is_cut(const struct powercapfs *fs)
{
    struct pollfd pollfd = {.fd = fuse_session_fd(fs->session)};

    return poll(&pollfd, 1, 0) > 0 && (pollfd.revents & POLLERR);
}

static void close_spare(struct powercapfs *fs)
{
    if (fs->spare_fd >= 0)
        close(fs->spare_fd);
    fs->spare_fd = -1;
}

static int put_back(struct powercapfs *fs)
{
    int r = fs->spare_fd < 0 ? fs->spare_fd : mount_put_back(fs->spare_fd, fs->mountpoint);

    if (r < 0)
        return r;
    close_spare(fs);
    fs->spare_fd = mount_spare(fs->mountpoint);
    log_warning("the mount was taken away, and is put back", F_STRING("path", fs->mountpoint));
    return 0;
}

static int mount_anew(struct powercapfs *fs)
{
    int r;

    if (fs->running)
        pthread_join(fs->thread, NULL);
    fs->running = false;
    close_spare(fs);
    if (fs->session && fs->mounted)
        fuse_session_unmount(fs->session); /* the mount is gone: this only frees libfuse's state */
    if (fs->session)
        fuse_session_destroy(TAKE_PTR(fs->session));
    fs->queue = fuse_queue_free(fs->queue);
    if (fs->keep_fd >= 0) {
        close(TAKE_FD(fs->keep_fd));
        handover_drop();
    }
    r = session_new(fs);
    if (r == 0)
        r = session_mount(fs);
    if (r == 0)
        r = session_ready(fs);
    if (r < 0)
        return r;
    atomic_store(&fs->ended, false);
    r = thread_start(fs);
    if (r < 0)
        return r;
    log_warning("the connection was cut, and the mount is a new one",
                F_STRING("path", fs->mountpoint), F_STRING("cure", DEAD_SHARE_CURE));
    return 0;
}

void powercapfs_keep_mounted(struct powercapfs *fs)
{
    uint64_t now = now_ns();
    bool ended = atomic_load(&fs->ended);
    int r;

    if (!backoff_is_due(&fs->mount_retry, now) || (!ended && is_in_place(fs)))
        return;
    r = ended ? mount_anew(fs) : put_back(fs);
    if (r == 0) {
        backoff_reset(&fs->mount_retry);
        return;
    }
    log_error("the mount was taken away, and cannot be put back yet",
              F_STRING("path", fs->mountpoint), F_ERROR(r));
    backoff_failed(&fs->mount_retry, now);
}

static void thread_stop(struct powercapfs *fs)
{
    eventfd_write(fs->stop_fd, 1);
    pthread_join(fs->thread, NULL);
}

struct powercapfs *powercapfs_free(struct powercapfs *fs)
{
    if (!fs)
        return NULL;
    if (fs->running)
        thread_stop(fs);
    close_spare(fs);
    /* A mount that another process has made there since is left alone. */
    if (fs->mounted && fs->session && (is_in_place(fs) || is_cut(fs)) &&
        !handover_is_kept(fs->keep_fd))
        fuse_session_unmount(fs->session);
    if (fs->session)
        fuse_session_destroy(fs->session);
    fuse_queue_free(fs->queue);
    topology_deinit(&fs->topology);
    powercapfs_server_deinit(&fs->server);
    if (fs->keep_fd >= 0)
        close(fs->keep_fd);
    if (fs->stop_fd >= 0)
        close(fs->stop_fd);
    free(fs->mountpoint);
    free(fs);
    return NULL;
}

uint64_t powercapfs_reads(struct powercapfs *fs, uint32_t vm_id)
{
    return fs ? open_files_reads(fs->server.files, vm_id) : 0;
}

void powercapfs_take_cpu(struct powercapfs *fs, uint32_t vm_id, uint64_t ret_ns[PACKAGES_MAX])
{
    open_files_take_cpu(fs->server.files, vm_id, ret_ns);
}

void powercapfs_forget(struct powercapfs *fs, uint32_t vm_id)
{
    open_files_forget(fs->server.files, vm_id);
}
