/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The mount and the thread that serves it: requests wait in powercapfs_queue
 * for their VM's turn, and are answered at once by powercapfs_requests. The
 * CPU time that takes is counted to the VM. The mount may be one that a former
 * process made: see powercapfs_store.
 *
 * Anybody with the right may unmount it by hand. A second mount of the file
 * system that nobody sees keeps it alive then, for those who hold a directory
 * of it (virtiofsd), and is what is put back.
 */

#include "publish/powercapfs.h"

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

#include "publish/powercapfs_mount.h"
#include "publish/powercapfs_queue.h"
#include "publish/powercapfs_requests.h"
#include "publish/powercapfs_store.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/thread.h"
#include "util/topology.h"

#define PAUSE_USEC (100 * 1000)
#define RETRY_MIN_NS NSEC_PER_SEC
#define RETRY_MAX_NS (60 * NSEC_PER_SEC)

struct powercapfs {
    struct powercapfs_server server;
    char *mountpoint;
    struct fuse_session *session;
    struct request_queue *queue;
    struct topology topology;
    int stop_fd;  /* eventfd: the thread is to end */
    bool mounted; /* by this process */
    int keep_fd;  /* for connection_is_kept(); negative without a service manager */
    bool running; /* the thread is to be joined */
    pthread_t thread;
    atomic_bool ended; /* the thread, by itself: the connection was cut */

    dev_t device;      /* the file system's */
    int spare_fd;      /* mount_spare(), or negative */
    uint64_t next_ns;  /* the mount is not tried before */
    uint64_t retry_ns; /* how long to wait after another failure */
};

DEFINE_CLEANUP(struct powercapfs *, powercapfs_free);

/*
 * Counts to the VM what the thread has used since from_ns of its CPU time.
 * @return that time now
 */
static uint64_t charge(struct powercapfs *fs, uint32_t vm_id, uint64_t from_ns)
{
    const struct snapshot *snapshot = snapshot_board_acquire(fs->server.board);
    bool exists = snapshot && snapshot_find_id(snapshot, vm_id);
    uint64_t to_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int cpu = sched_getcpu();
    unsigned socket = cpu >= 0 && (size_t)cpu < fs->topology.n_cpus ? fs->topology.socket[cpu] : 0;

    snapshot_board_release(fs->server.board, snapshot);
    if (exists)
        open_files_charge(fs->server.files, vm_id, socket, to_ns - from_ns);
    return to_ns;
}

/*
 * Answers some of the requests that wait.
 * @param cpu_ns  the thread's CPU time up to which has been charged
 * @return 0 or a negative errno
 */
static int answer(struct powercapfs *fs, uint64_t *cpu_ns)
{
    int fd = fuse_session_fd(fs->session);
    struct queued_request request;
    int r = request_queue_fill(fs->queue, fd);

    for (unsigned n = 0; r == 0 && n < REQUEST_QUEUE_PLACES; n++) {
        if (!request_queue_next(fs->queue, &request))
            break;
        fuse_session_process_buf(fs->session,
                                 &(struct fuse_buf){.mem = request.bytes, .size = request.length});
        request_queue_answered(fs->queue, &request);
        *cpu_ns = charge(fs, request.vm_id, *cpu_ns);
        /* What has come meanwhile may be due before the rest. */
        r = request_queue_fill(fs->queue, fd);
    }
    return r;
}

/*
 * Serves requests until told to stop or until the mount is taken away. The
 * loop is its own rather than libfuse's, which would sleep on in a read while
 * somebody keeps a file open: unmounting wakes it up only after the last one.
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
        if (poll(fds, 2, request_queue_length(fs->queue) > 0 ? 0 : -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            return NULL;
        r = answer(fs, &cpu_ns);
        if (r == -ENOMEM)
            usleep(PAUSE_USEC); /* readers wait, rather than for ever */
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
    struct fuse_args args = FUSE_ARGS_INIT(sizeof(arguments) / sizeof(*arguments), arguments);

    fuse_set_log_func(log_libfuse);
    /* The analyzer holds errno for 0 when allocate() has failed.
       NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    fs->session =
        fuse_session_new(&args, &powercapfs_operations, sizeof(powercapfs_operations), &fs->server);
    fuse_opt_free_args(&args);
    return fs->session ? 0 : -ENOMEM;
}

/* The kernel's first request waits already; it is handed on for the processes to come. */
static int session_begin(struct powercapfs *fs)
{
    struct fuse_buf init = {0};
    int r = fuse_session_receive_buf(fs->session, &init);

    if (r > 0) {
        fs->keep_fd = connection_keep(fuse_session_fd(fs->session), request_queue_memory(fs->queue),
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
    /* At once: what fails from here on has to find the mount again. */
    r = mountpoint_device(fs->mountpoint, &fs->device);
    if (r == 0)
        r = request_queue_new(&fs->queue, -1);
    return r < 0 ? r : session_begin(fs);
}

/*
 * The reply to the repeated FUSE_INIT goes to the kernel, too. It refuses it
 * as one that nobody waits for, which libfuse passes over, unless the dead
 * process had not come to answer: then the mount waits for this one.
 */
static int session_resume(struct powercapfs *fs, struct kept_connection *kept)
{
    struct fuse_buf init = {.mem = kept->init, .size = kept->init_length};
    char path[32];
    int r = request_queue_new(&fs->queue, kept->memory_fd);

    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "/dev/fd/%d", kept->fd);
    if (fuse_session_mount(fs->session, path) != 0)
        return -EIO;
    fuse_session_process_buf(fs->session, &init);
    if (fuse_session_exited(fs->session))
        return -EPROTO;
    log_info("the former daemon's mount is continued", F_STRING("path", fs->mountpoint),
             F_UINT("requests", request_queue_length(fs->queue)));
    return mountpoint_device(fs->mountpoint, &fs->device);
}

/* Mounted, by whomever: to be served. */
static int session_ready(struct powercapfs *fs)
{
    int fd = fuse_session_fd(fs->session);

    fs->spare_fd = mount_spare(fs->mountpoint);
    /* A request that is withdrawn between poll and read must not block the thread. */
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ? -errno : 0;
}

static int session_open(struct powercapfs *fs, struct descriptors *descriptors)
{
    struct kept_connection kept;
    int r = session_new(fs);

    if (r < 0)
        return r;
    r = kept_connection_take(descriptors, fs->mountpoint, &kept) ? session_resume(fs, &kept)
                                                                 : session_mount(fs);
    return r < 0 ? r : session_ready(fs);
}

/* Until the kernel knows the top directory. */
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
    fs->retry_ns = RETRY_MIN_NS;
    fs->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (fs->stop_fd < 0)
        return -errno;
    fs->mountpoint = strdup(config->mountpoint);
    if (!fs->mountpoint)
        return -ENOMEM;
    r = topology_read(&fs->topology, config->sysfs_root, (size_t)get_nprocs_conf(), SOCKETS_MAX);
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
    /* If it is still kept, then for another mount point, or what was mounted is no more. */
    connection_drop();
    r = allocate(&fs, config, board);
    if (r == 0)
        r = session_new(fs);
    if (r == 0)
        r = session_mount(fs);
    if (r == 0)
        r = session_introduce(fs);
    connection_settle();
    if (r == 0 && !connection_is_kept(fs->keep_fd))
        r = -ENOTCONN;
    if (r < 0)
        log_error("cannot mount the powercap trees for the service manager to keep",
                  F_STRING("path", config->mountpoint), F_ERROR(r));
    return r;
}

static bool is_in_place(const struct powercapfs *fs)
{
    dev_t device;

    return mountpoint_device(fs->mountpoint, &device) == 0 && device == fs->device;
}

/* libfuse leaves the mount point alone then. */
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
        fuse_session_unmount(fs->session); /* frees what it has of it, no more */
    if (fs->session)
        fuse_session_destroy(TAKE_PTR(fs->session));
    fs->queue = request_queue_free(fs->queue);
    if (fs->keep_fd >= 0) {
        close(TAKE_FD(fs->keep_fd));
        connection_drop();
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
    log_warning("the connection was cut, and the mount is a new one: a VM that runs has its "
                "counter back when it mounts its share again",
                F_STRING("path", fs->mountpoint));
    return 0;
}

void powercapfs_keep_mounted(struct powercapfs *fs)
{
    uint64_t now = now_ns();
    bool ended = atomic_load(&fs->ended);
    int r;

    if (now < fs->next_ns || (!ended && is_in_place(fs)))
        return;
    r = ended ? mount_anew(fs) : put_back(fs);
    if (r == 0) {
        fs->retry_ns = RETRY_MIN_NS;
        return;
    }
    log_error("the mount was taken away, and cannot be put back yet",
              F_STRING("path", fs->mountpoint), F_ERROR(r));
    fs->next_ns = now + fs->retry_ns;
    fs->retry_ns = fs->retry_ns * 2 < RETRY_MAX_NS ? fs->retry_ns * 2 : RETRY_MAX_NS;
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
    /* Not what somebody else has mounted there since. */
    if (fs->mounted && fs->session && (is_in_place(fs) || is_cut(fs)) &&
        !connection_is_kept(fs->keep_fd))
        fuse_session_unmount(fs->session);
    if (fs->session)
        fuse_session_destroy(fs->session);
    request_queue_free(fs->queue);
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

void powercapfs_take_cpu(struct powercapfs *fs, uint32_t vm_id, uint64_t ret_ns[SOCKETS_MAX])
{
    open_files_take_cpu(fs->server.files, vm_id, ret_ns);
}

void powercapfs_forget(struct powercapfs *fs, uint32_t vm_id)
{
    open_files_forget(fs->server.files, vm_id);
}
