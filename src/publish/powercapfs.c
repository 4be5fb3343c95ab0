/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The FUSE side of the powercap trees.
 *
 * One thread takes one request after the other: each costs a look into the
 * current snapshot and a short text, and no request waits for the host's
 * sensors, the tick or another guest. What is where and what it says is
 * powercapfs_tree's, the by-name links are powercapfs_names', the state of
 * open files is powercapfs_files'.
 *
 * Nothing is cached by the kernel (zero timeouts, direct I/O), so a VM comes
 * and goes with the snapshots. A VM that has gone is ENOENT to a lookup; a
 * file of it that is still open then fails with ESTALE, as a file of a
 * removed sysfs device fails: the last value repeated for ever would read as
 * a VM that draws nothing.
 *
 * The mount is read-only, so the kernel refuses writes itself; the refusals
 * here stand for the case that somebody remounts it.
 */

#define FUSE_USE_VERSION 35
#include "publish/powercapfs.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "publish/powercapfs_files.h"
#include "publish/powercapfs_mount.h"
#include "publish/powercapfs_names.h"
#include "publish/powercapfs_tree.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/thread.h"

/* What stat shows as a file's size, as sysfs does: readers skip empty files, none trusts it. */
#define FILE_SIZE 4096
#define LISTING_MAX 32768 /* bytes of one readdir reply */
#define BY_NAME "by-name"

struct powercapfs {
    struct snapshot_board *board;
    struct open_files *files;
    char *mountpoint;
    char *version;
    uint64_t quantum_uj;
    mode_t file_mode;
    mode_t directory_mode;
    uid_t uid;
    gid_t gid;
    time_t start; /* every node's times */

    /* Of the newest snapshot when by-name/ was last used; holds a reference to it. */
    const struct snapshot *named;
    struct tree_names names;

    struct fuse_session *session;
    int stop_fd;
    bool mounted;
    bool running; /* the thread is to be joined */
    pthread_t thread;
    char listing[LISTING_MAX];
};

DEFINE_CLEANUP(struct powercapfs *, powercapfs_free);

/* What an inode number stands for in one snapshot; no VM at the top level. */
struct place {
    uint64_t inode;
    const struct snapshot_vm *vm;
    unsigned node;
    enum tree_node_type type;
};

static const struct snapshot_vm *vm_with_tree(const struct snapshot *snapshot, uint32_t id)
{
    const struct snapshot_vm *vm = snapshot ? snapshot_find_id(snapshot, id) : NULL;

    return vm && vm->has_tree ? vm : NULL;
}

/* @return 0 or -ESTALE: the kernel may hold numbers of what has gone */
static int place_find(const struct snapshot *snapshot, uint64_t inode, struct place *ret)
{
    struct place place = {.inode = inode, .node = tree_inode_node(inode)};

    if (inode == TREE_INODE_ROOT || inode == TREE_INODE_BY_NAME) {
        place.type = TREE_DIRECTORY;
        *ret = place;
        return 0;
    }
    place.vm = vm_with_tree(snapshot, tree_inode_vm(inode));
    if (!place.vm || !tree_node_exists(place.vm, place.node))
        return -ESTALE;
    place.type = tree_node_type(place.node);
    *ret = place;
    return 0;
}

static struct place place_of(const struct snapshot_vm *vm, unsigned node)
{
    return (struct place){
        .inode = tree_inode(vm->id, node), .vm = vm, .node = node, .type = tree_node_type(node)};
}

static mode_t type_bits(enum tree_node_type type)
{
    static const mode_t bits[] = {
        [TREE_DIRECTORY] = S_IFDIR,
        [TREE_FILE] = S_IFREG,
        [TREE_LINK] = S_IFLNK,
    };

    return bits[type];
}

static struct stat place_attributes(const struct powercapfs *fs, const struct place *place)
{
    struct stat st = {
        .st_ino = place->inode,
        .st_mode = type_bits(place->type),
        .st_nlink = 1, /* of directories too: no count of subdirectories for find(1) to rely on */
        .st_uid = fs->uid,
        .st_gid = fs->gid,
        .st_atim.tv_sec = fs->start,
        .st_mtim.tv_sec = fs->start,
        .st_ctim.tv_sec = fs->start,
    };
    char target[TREE_TEXT_MAX];

    switch (place->type) {
    case TREE_DIRECTORY:
        st.st_mode |= fs->directory_mode;
        break;
    case TREE_FILE:
        st.st_mode |= fs->file_mode;
        st.st_size = FILE_SIZE;
        break;
    case TREE_LINK:
        st.st_mode |= 0777;
        st.st_size = (off_t)tree_node_target(place->vm, place->node, target);
        break;
    }
    return st;
}

/*
 * Brings the names up to the current snapshot. It and what it points to
 * remain until the next call.
 * @return 0, -ENOENT before the first snapshot, or -ENOMEM
 */
static int names_refresh(struct powercapfs *fs)
{
    const struct snapshot *snapshot = snapshot_board_acquire(fs->board);
    struct tree_names names;
    int r;

    if (!snapshot || snapshot == fs->named) {
        snapshot_board_release(fs->board, snapshot);
        return snapshot ? 0 : -ENOENT;
    }
    r = tree_names_init(&names, snapshot);
    if (r < 0) {
        snapshot_board_release(fs->board, snapshot);
        return r;
    }
    tree_names_deinit(&fs->names);
    snapshot_board_release(fs->board, fs->named);
    fs->names = names;
    fs->named = snapshot;
    return 0;
}

/* The lookups of one kind of directory each: 0 or a negative errno. */

static int lookup_share(const struct snapshot *snapshot, const char *name, struct place *ret)
{
    const struct snapshot_vm *vm;
    uuid_t uuid;

    if (!snapshot || uuid_parse(name, uuid) < 0)
        return -ENOENT;
    vm = snapshot_find_uuid(snapshot, uuid);
    /* The comparison leaves only the one spelling that is listed. */
    if (!vm || !vm->has_tree || strcmp(vm->uuid_text, name) != 0)
        return -ENOENT;
    *ret = place_of(vm, TREE_NODE_SHARE);
    return 0;
}

static int lookup_by_name(struct powercapfs *fs, const char *name, struct place *ret)
{
    ssize_t position;
    int r = names_refresh(fs);

    if (r < 0)
        return r;
    position = tree_names_find(&fs->names, name);
    if (position < 0)
        return (int)position;
    *ret = place_of(&fs->named->vms[position], TREE_NODE_NAME_LINK);
    return 0;
}

static int lookup_node(const struct snapshot *snapshot, uint64_t parent, const char *name,
                       struct place *ret)
{
    struct place directory;
    int r = place_find(snapshot, parent, &directory);

    if (r < 0)
        return -ENOENT;
    if (directory.type != TREE_DIRECTORY)
        return -ENOTDIR;
    r = tree_node_child(directory.vm, directory.node, name);
    if (r < 0)
        return r;
    *ret = place_of(directory.vm, (unsigned)r);
    return 0;
}

static int lookup(struct powercapfs *fs, const struct snapshot *snapshot, uint64_t parent,
                  const char *name, struct place *ret)
{
    if (parent == TREE_INODE_BY_NAME)
        return lookup_by_name(fs, name, ret);
    if (parent != TREE_INODE_ROOT)
        return lookup_node(snapshot, parent, name, ret);
    if (strcmp(name, BY_NAME) == 0)
        return place_find(snapshot, TREE_INODE_BY_NAME, ret);
    return lookup_share(snapshot, name, ret);
}

static void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct powercapfs *fs = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(fs->board);
    struct fuse_entry_param entry = {.generation = 1};
    struct place place = {0};
    int r = lookup(fs, snapshot, parent, name, &place);

    if (r == 0) {
        entry.ino = place.inode;
        entry.attr = place_attributes(fs, &place);
    }
    snapshot_board_release(fs->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_entry(req, &entry);
}

static void fs_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct powercapfs *fs = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(fs->board);
    struct stat st = {0};
    struct place place;
    int r = place_find(snapshot, inode, &place);

    if (r == 0)
        st = place_attributes(fs, &place);
    snapshot_board_release(fs->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_attr(req, &st, 0);
}

static void fs_readlink(fuse_req_t req, fuse_ino_t inode)
{
    struct powercapfs *fs = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(fs->board);
    char target[TREE_TEXT_MAX];
    struct place place;
    int r = place_find(snapshot, inode, &place);

    if (r == 0 && place.type != TREE_LINK)
        r = -EINVAL;
    if (r == 0)
        tree_node_target(place.vm, place.node, target);
    snapshot_board_release(fs->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_readlink(req, target);
}

static void fs_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct powercapfs *fs = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(fs->board);
    struct place place;
    int r = place_find(snapshot, inode, &place);

    if (r == 0 && place.type != TREE_FILE)
        r = place.type == TREE_DIRECTORY ? -EISDIR : -ELOOP;
    if (r == 0 && ((info->flags & O_ACCMODE) != O_RDONLY || (info->flags & O_TRUNC)))
        r = -EROFS;
    snapshot_board_release(fs->board, snapshot);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    info->fh = open_files_open(fs->files, tree_inode_vm(inode), inode);
    info->direct_io = 1;
    /* An open that was interrupted gets no release. */
    if (fuse_reply_open(req, info) == -ENOENT)
        open_files_close(fs->files, info->fh);
}

static void fs_release(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct powercapfs *fs = fuse_req_userdata(req);

    open_files_close(fs->files, info->fh);
    fuse_reply_err(req, 0);
}

/* @return 0 or a negative errno; the text is untouched then */
static int render(const struct powercapfs *fs, uint64_t inode, struct open_text *text)
{
    const struct snapshot *snapshot = snapshot_board_acquire(fs->board);
    struct tree_view view = {.snapshot = snapshot,
                             .time_ns = now_ns(),
                             .quantum_uj = fs->quantum_uj,
                             .version = fs->version};
    struct place place;
    int r = place_find(snapshot, inode, &place);

    if (r == 0 && place.type != TREE_FILE)
        r = -EINVAL;
    if (r == 0)
        text->length = tree_node_render(&view, place.vm, place.node, text->text);
    snapshot_board_release(fs->board, snapshot);
    return r;
}

static void fs_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    struct powercapfs *fs = fuse_req_userdata(req);
    struct open_text *kept = open_files_text(fs->files, info->fh, inode);
    struct open_text fresh = {0};
    struct open_text *text = kept ? kept : &fresh;
    size_t rest;
    int r = 0;

    if (offset == 0 || text->length == 0)
        r = render(fs, inode, text);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    open_files_count_read(fs->files, tree_inode_vm(inode));
    if (offset < 0 || (uint64_t)offset >= text->length) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    rest = text->length - (size_t)offset;
    fuse_reply_buf(req, text->text + offset, size < rest ? size : rest);
}

/*
 * A directory's entries stand at fixed offsets: "." before 1, ".." before 2,
 * child k before k + 3, where k is the VM's id or the node's number (by-name
 * itself is child 0 of the root). So a listing that goes on after a snapshot
 * changed neither repeats nor leaves out what was there all the time.
 */
struct listing {
    fuse_req_t req;
    char *buffer;
    size_t size;
    size_t used;
};

#define CHILD_OFFSET(k) ((off_t)(k) + 3)

/* @return false when the entry does not fit any more */
static bool listing_add(struct listing *listing, const char *name, uint64_t inode,
                        enum tree_node_type type, off_t next)
{
    struct stat st = {.st_ino = inode, .st_mode = type_bits(type)};
    size_t room = listing->size - listing->used;
    size_t length =
        fuse_add_direntry(listing->req, listing->buffer + listing->used, room, name, &st, next);

    if (length > room)
        return false;
    listing->used += length;
    return true;
}

/* One entry per VM, by id: its UUID in the root, its name in by-name/. */
static void list_vms(const struct snapshot *snapshot, const struct tree_names *names, uint64_t from,
                     struct listing *listing)
{
    unsigned node = names ? TREE_NODE_NAME_LINK : TREE_NODE_SHARE;

    for (size_t i = snapshot_seek_id(snapshot, from); i < snapshot->n_vms; i++) {
        uint32_t position = snapshot->by_id[i];
        const struct snapshot_vm *vm = &snapshot->vms[position];

        if (vm->has_tree &&
            !listing_add(listing, names ? names->names[position] : vm->uuid_text,
                         tree_inode(vm->id, node), tree_node_type(node), CHILD_OFFSET(vm->id)))
            return;
    }
}

static void list_nodes(const struct place *directory, uint64_t from, struct listing *listing)
{
    char name[TREE_TEXT_MAX];
    int node;

    if (from > TREE_NODE_NAME_LINK)
        return;
    for (node = tree_node_next(directory->vm, directory->node, (unsigned)from); node >= 0;
         node = tree_node_next(directory->vm, directory->node, (unsigned)node + 1)) {
        tree_node_name(directory->vm, (unsigned)node, name);
        if (!listing_add(listing, name, tree_inode(directory->vm->id, (unsigned)node),
                         tree_node_type((unsigned)node), CHILD_OFFSET(node)))
            return;
    }
}

static uint64_t parent_inode(const struct place *directory)
{
    if (!directory->vm || directory->node == TREE_NODE_SHARE)
        return TREE_INODE_ROOT;
    return tree_inode(directory->vm->id, tree_node_parent(directory->node));
}

static int list(struct powercapfs *fs, const struct snapshot *snapshot, uint64_t inode,
                off_t offset, struct listing *listing)
{
    struct place directory;
    uint64_t from = offset > 2 ? (uint64_t)offset - 2 : 0;
    int r = place_find(snapshot, inode, &directory);

    if (r < 0)
        return r;
    if (directory.type != TREE_DIRECTORY)
        return -ENOTDIR;
    if (offset < 1 && !listing_add(listing, ".", inode, TREE_DIRECTORY, 1))
        return 0;
    if (offset < 2 && !listing_add(listing, "..", parent_inode(&directory), TREE_DIRECTORY, 2))
        return 0;
    if (directory.vm) {
        list_nodes(&directory, from, listing);
    } else if (inode == TREE_INODE_BY_NAME) {
        r = names_refresh(fs);
        if (r == 0)
            list_vms(fs->named, &fs->names, from, listing);
    } else {
        if (from == 0 &&
            !listing_add(listing, BY_NAME, TREE_INODE_BY_NAME, TREE_DIRECTORY, CHILD_OFFSET(0)))
            return 0;
        if (snapshot)
            list_vms(snapshot, NULL, from, listing);
    }
    return r == -ENOENT ? 0 : r;
}

static void fs_readdir(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    struct powercapfs *fs = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(fs->board);
    struct listing listing = {
        .req = req,
        .buffer = fs->listing,
        .size = size < sizeof(fs->listing) ? size : sizeof(fs->listing),
    };
    int r = list(fs, snapshot, inode, offset, &listing);

    snapshot_board_release(fs->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_buf(req, listing.buffer, listing.used);
}

/* An operation that would change something. */
#define REFUSED(operation, ...)                                                                    \
    static void operation(fuse_req_t req, fuse_ino_t inode, __VA_ARGS__)                           \
    {                                                                                              \
        fuse_reply_err(req, EROFS);                                                                \
    }

REFUSED(fs_setattr, struct stat *st, int to_set, struct fuse_file_info *info)
REFUSED(fs_mknod, const char *name, mode_t mode, dev_t device)
REFUSED(fs_mkdir, const char *name, mode_t mode)
REFUSED(fs_unlink, const char *name) /* rmdir too */
REFUSED(fs_link, fuse_ino_t parent, const char *name)
REFUSED(fs_rename, const char *name, fuse_ino_t parent, const char *to, unsigned flags)
REFUSED(fs_write, const char *data, size_t size, off_t offset, struct fuse_file_info *info)
REFUSED(fs_create, const char *name, mode_t mode, struct fuse_file_info *info)
REFUSED(fs_setxattr, const char *name, const char *value, size_t size, int flags)
REFUSED(fs_removexattr, const char *name)
REFUSED(fs_fallocate, int mode, off_t offset, off_t length, struct fuse_file_info *info)

static void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    fuse_reply_err(req, EROFS);
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = fs_lookup,
    .getattr = fs_getattr,
    .readlink = fs_readlink,
    .open = fs_open,
    .read = fs_read,
    .release = fs_release,
    .readdir = fs_readdir,
    .setattr = fs_setattr,
    .mknod = fs_mknod,
    .mkdir = fs_mkdir,
    .unlink = fs_unlink,
    .rmdir = fs_unlink,
    .symlink = fs_symlink,
    .link = fs_link,
    .rename = fs_rename,
    .write = fs_write,
    .create = fs_create,
    .setxattr = fs_setxattr,
    .removexattr = fs_removexattr,
    .fallocate = fs_fallocate,
};

/*
 * Serves requests until told to stop or until the mount is taken away. The
 * loop is its own rather than libfuse's, which would sleep on in a read while
 * somebody keeps a file open: unmounting wakes it up only after the last one.
 */
static void *serve(void *data)
{
    struct powercapfs *fs = data;
    struct fuse_buf buffer = {0};
    struct pollfd fds[] = {
        {.fd = fuse_session_fd(fs->session), .events = POLLIN},
        {.fd = fs->stop_fd, .events = POLLIN},
    };

    while (!fuse_session_exited(fs->session)) {
        int r = poll(fds, 2, -1);

        if (r < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            break;
        r = fuse_session_receive_buf(fs->session, &buffer);
        if (r > 0)
            fuse_session_process_buf(fs->session, &buffer);
        else if (r < 0 && r != -EINTR && r != -EAGAIN)
            break;
    }
    if (!fds[1].revents)
        log_error("powercap trees are not served any more: the mount was taken away",
                  F_STRING("path", fs->mountpoint));
    free(buffer.mem);
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

static int session_mount(struct powercapfs *fs)
{
    char options[] = "ro,allow_other,default_permissions,nosuid,nodev,noexec,fsname=virtjoule,"
                     "subtype=virtjoule";
    char *arguments[] = {"virtjouled", "-o", options};
    struct fuse_args args = FUSE_ARGS_INIT(sizeof(arguments) / sizeof(*arguments), arguments);
    int fd;

    fuse_set_log_func(log_libfuse);
    fs->session = fuse_session_new(&args, &operations, sizeof(operations), fs);
    fuse_opt_free_args(&args);
    if (!fs->session)
        return -ENOMEM;
    errno = 0;
    if (fuse_session_mount(fs->session, fs->mountpoint) != 0)
        return errno ? -errno : -EIO;
    fs->mounted = true;
    fd = fuse_session_fd(fs->session);
    /* A request that is withdrawn between poll and read must not block the thread. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        return -errno;
    return 0;
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
    return 0;
}

static int configure(struct powercapfs *fs, const struct powercapfs_config *config)
{
    fs->mountpoint = strdup(config->mountpoint);
    fs->version = strdup(config->version);
    if (!fs->mountpoint || !fs->version)
        return -ENOMEM;
    fs->quantum_uj = config->quantum_uj;
    fs->file_mode = config->file_mode & 0777;
    fs->directory_mode = config->file_mode & 0077 ? 0555 : 0500;
    fs->uid = config->file_uid;
    fs->gid = config->file_gid;
    fs->start = time(NULL);
    return open_files_new(&fs->files);
}

int powercapfs_new(struct powercapfs **ret, const struct powercapfs_config *config,
                   struct snapshot_board *board)
{
    _cleanup_(cleanup_powercapfs_free) struct powercapfs *fs = calloc(1, sizeof(*fs));
    int r;

    if (!fs)
        return -ENOMEM;
    fs->board = board;
    fs->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (fs->stop_fd < 0)
        return -errno;
    r = configure(fs, config);
    if (r < 0)
        return r;
    r = mountpoint_prepare(fs->mountpoint);
    if (r < 0)
        return r;
    r = session_mount(fs);
    if (r == 0)
        r = thread_start(fs);
    if (r < 0) {
        log_error("cannot mount the powercap trees", F_STRING("path", fs->mountpoint), F_ERROR(r));
        return r;
    }
    *ret = TAKE_PTR(fs);
    return 0;
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
    if (fs->mounted)
        fuse_session_unmount(fs->session);
    if (fs->session)
        fuse_session_destroy(fs->session);
    tree_names_deinit(&fs->names);
    snapshot_board_release(fs->board, fs->named);
    open_files_free(fs->files);
    if (fs->stop_fd >= 0)
        close(fs->stop_fd);
    free(fs->mountpoint);
    free(fs->version);
    free(fs);
    return NULL;
}

uint64_t powercapfs_reads(struct powercapfs *fs, uint32_t vm_id)
{
    return open_files_reads(fs->files, vm_id);
}

void powercapfs_forget(struct powercapfs *fs, uint32_t vm_id)
{
    open_files_forget(fs->files, vm_id);
}
