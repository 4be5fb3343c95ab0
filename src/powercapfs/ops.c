/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The answers to FUSE requests.
 *
 * An answer costs a look into the current snapshot and a short text: no request
 * waits for the host's sensors, the tick or another guest. tree.c knows the
 * nodes and their texts, names.c the links in by-name/, files.c the state of
 * open files.
 *
 * The kernel caches nothing (zero timeouts, direct I/O), so a VM comes and goes
 * with the snapshots. A lookup of a VM that is gone gives ENOENT; a file of it
 * that is still open fails with ESTALE, as a file of a removed sysfs device
 * does: the last value repeated for ever would read as a VM that draws nothing.
 *
 * The mount is read-only, so the kernel itself refuses writes; the refusals
 * here are for the case that an operator remounts it.
 */

#include "powercapfs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "powercapfs/tree.h"
#include "util/clock.h"

/* The size that stat reports for a file, as sysfs does: readers skip empty files, and no reader
 * relies on the size. */
#define FILE_SIZE 4096
#define BY_NAME "by-name"
/* How long the kernel may cache the top directory's attributes, in seconds: as long as it is
 * mounted. They do not change, and a process that only passes by (service managers look at all
 * mounts when they make a sandbox) does not wait for a daemon that is being restarted. */
#define ROOT_TIMEOUT_S (365.0 * 24 * 3600)

/* What an inode number stands for in one snapshot. */
struct inode_ref {
    uint64_t inode;
    const struct snapshot_vm *vm; /* NULL at the top level */
    unsigned node;
    enum tree_node_type type;
};

static const struct snapshot_vm *vm_with_tree(const struct snapshot *snapshot, uint32_t id)
{
    const struct snapshot_vm *vm = snapshot ? snapshot_find_id(snapshot, id) : NULL;

    return vm && vm->has_tree ? vm : NULL;
}

/* @return 0, or -ESTALE: the kernel may hold the number of a VM that is gone */
static int inode_find(const struct snapshot *snapshot, uint64_t inode, struct inode_ref *ret)
{
    struct inode_ref ref = {.inode = inode, .node = tree_inode_node(inode)};

    if (inode == TREE_INODE_ROOT || inode == TREE_INODE_BY_NAME) {
        ref.type = TREE_DIRECTORY;
        *ret = ref;
        return 0;
    }
    ref.vm = vm_with_tree(snapshot, tree_inode_vm(inode));
    if (!ref.vm || !tree_node_exists(ref.vm, ref.node))
        return -ESTALE;
    ref.type = tree_node_type(ref.node);
    *ret = ref;
    return 0;
}

static struct inode_ref inode_of(const struct snapshot_vm *vm, unsigned node)
{
    return (struct inode_ref){
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

static struct stat inode_attributes(const struct powercapfs_server *server,
                                    const struct inode_ref *ref)
{
    struct stat st = {
        .st_ino = ref->inode,
        .st_mode = type_bits(ref->type),
        .st_nlink = 1, /* also of directories: find(1) must not rely on a count of subdirectories */
        .st_uid = server->uid,
        .st_gid = server->gid,
        .st_atim.tv_sec = server->start,
        .st_mtim.tv_sec = server->start,
        .st_ctim.tv_sec = server->start,
    };
    char target[TREE_TEXT_MAX];

    switch (ref->type) {
    case TREE_DIRECTORY:
        st.st_mode |= server->directory_mode;
        break;
    case TREE_FILE:
        st.st_mode |= server->file_mode;
        st.st_size = FILE_SIZE;
        break;
    case TREE_LINK:
        st.st_mode |= 0777;
        st.st_size = (off_t)tree_node_target(ref->vm, ref->node, target);
        break;
    }
    return st;
}

/*
 * Makes the names those of the current snapshot. The names and the snapshot
 * remain valid until the next call.
 * @return 0, -ENOENT before the first snapshot, or -ENOMEM
 */
static int names_refresh(struct powercapfs_server *server)
{
    const struct snapshot *snapshot = snapshot_board_acquire(server->board);
    struct tree_names names;
    int r;

    if (!snapshot || snapshot == server->named) {
        snapshot_board_release(server->board, snapshot);
        return snapshot ? 0 : -ENOENT;
    }
    r = tree_names_init(&names, snapshot);
    if (r < 0) {
        snapshot_board_release(server->board, snapshot);
        return r;
    }
    tree_names_deinit(&server->names);
    snapshot_board_release(server->board, server->named);
    server->names = names;
    server->named = snapshot;
    return 0;
}

/* Each of these looks a name up in one kind of directory. @return 0 or a negative errno */

static int lookup_share(const struct snapshot *snapshot, const char *name, struct inode_ref *ret)
{
    const struct snapshot_vm *vm;
    uuid_t uuid;

    if (!snapshot || uuid_parse(name, uuid) < 0)
        return -ENOENT;
    vm = snapshot_find_uuid(snapshot, uuid);
    /* uuid_parse() takes upper case as well; only the listed spelling is to be found. */
    if (!vm || !vm->has_tree || strcmp(vm->uuid_text, name) != 0)
        return -ENOENT;
    *ret = inode_of(vm, TREE_NODE_SHARE);
    return 0;
}

static int lookup_by_name(struct powercapfs_server *server, const char *name, struct inode_ref *ret)
{
    ssize_t position;
    int r = names_refresh(server);

    if (r < 0)
        return r;
    position = tree_names_find(&server->names, name);
    if (position < 0)
        return (int)position;
    *ret = inode_of(&server->named->vms[position], TREE_NODE_NAME_LINK);
    return 0;
}

static int lookup_node(const struct snapshot *snapshot, uint64_t parent, const char *name,
                       struct inode_ref *ret)
{
    struct inode_ref directory;
    int r = inode_find(snapshot, parent, &directory);

    if (r < 0)
        return -ENOENT;
    if (directory.type != TREE_DIRECTORY)
        return -ENOTDIR;
    r = tree_node_child(directory.vm, directory.node, name);
    if (r < 0)
        return r;
    *ret = inode_of(directory.vm, (unsigned)r);
    return 0;
}

static int lookup(struct powercapfs_server *server, const struct snapshot *snapshot,
                  uint64_t parent, const char *name, struct inode_ref *ret)
{
    if (parent == TREE_INODE_BY_NAME)
        return lookup_by_name(server, name, ret);
    if (parent != TREE_INODE_ROOT)
        return lookup_node(snapshot, parent, name, ret);
    if (strcmp(name, BY_NAME) == 0)
        return inode_find(snapshot, TREE_INODE_BY_NAME, ret);
    return lookup_share(snapshot, name, ret);
}

static void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct powercapfs_server *server = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(server->board);
    struct fuse_entry_param entry = {.generation = 1};
    struct inode_ref ref = {0};
    int r = lookup(server, snapshot, parent, name, &ref);

    if (r == 0) {
        entry.ino = ref.inode;
        entry.attr = inode_attributes(server, &ref);
    }
    snapshot_board_release(server->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_entry(req, &entry);
}

static void fs_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct powercapfs_server *server = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(server->board);
    struct stat st = {0};
    struct inode_ref ref;
    int r = inode_find(snapshot, inode, &ref);

    if (r == 0)
        st = inode_attributes(server, &ref);
    snapshot_board_release(server->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_attr(req, &st, inode == TREE_INODE_ROOT ? ROOT_TIMEOUT_S : 0);
}

static void fs_readlink(fuse_req_t req, fuse_ino_t inode)
{
    struct powercapfs_server *server = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(server->board);
    char target[TREE_TEXT_MAX];
    struct inode_ref ref;
    int r = inode_find(snapshot, inode, &ref);

    if (r == 0 && ref.type != TREE_LINK)
        r = -EINVAL;
    if (r == 0)
        tree_node_target(ref.vm, ref.node, target);
    snapshot_board_release(server->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_readlink(req, target);
}

static void fs_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct powercapfs_server *server = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(server->board);
    struct inode_ref ref;
    int r = inode_find(snapshot, inode, &ref);

    if (r == 0 && ref.type != TREE_FILE)
        r = ref.type == TREE_DIRECTORY ? -EISDIR : -ELOOP;
    if (r == 0 && ((info->flags & O_ACCMODE) != O_RDONLY || (info->flags & O_TRUNC)))
        r = -EROFS;
    snapshot_board_release(server->board, snapshot);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    info->fh = open_files_open(server->files, tree_inode_vm(inode), inode);
    info->direct_io = 1;
    /* Else the kernel asks at a file's close as well, and a reader that no daemon answers could not
       even end. Before Linux 5.16 it asks until the first refusal (FUSE_FLUSH is not served). */
    info->noflush = 1;
    /* An open that was interrupted gets no release. */
    if (fuse_reply_open(req, info) == -ENOENT)
        open_files_close(server->files, info->fh);
}

static void fs_release(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct powercapfs_server *server = fuse_req_userdata(req);

    open_files_close(server->files, info->fh);
    fuse_reply_err(req, 0);
}

/* @return 0 or a negative errno; the text is untouched then */
static int render(const struct powercapfs_server *server, uint64_t inode, struct open_text *text)
{
    const struct snapshot *snapshot = snapshot_board_acquire(server->board);
    struct tree_view view = {.snapshot = snapshot,
                             .time_ns = now_ns(),
                             .quantum_uj = server->quantum_uj,
                             .version = server->version};
    struct inode_ref ref;
    int r = inode_find(snapshot, inode, &ref);

    if (r == 0 && ref.type != TREE_FILE)
        r = -EINVAL;
    if (r == 0)
        text->length = tree_node_render(&view, ref.vm, ref.node, text->text);
    snapshot_board_release(server->board, snapshot);
    return r;
}

static void fs_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    struct powercapfs_server *server = fuse_req_userdata(req);
    struct open_text *kept = open_files_text(server->files, info->fh, inode);
    struct open_text fresh = {0};
    struct open_text *text = kept ? kept : &fresh;
    size_t rest;
    int r = 0;

    if (offset == 0 || text->length == 0)
        r = render(server, inode, text);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    open_files_count_read(server->files, tree_inode_vm(inode));
    if (offset < 0 || (uint64_t)offset >= text->length) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    rest = text->length - (size_t)offset;
    fuse_reply_buf(req, text->text + offset, size < rest ? size : rest);
}

/*
 * A directory's entries are at fixed offsets: "." before 1, ".." before 2,
 * child k before k + 3, where k is the VM's id or the node's number (by-name
 * itself is child 0 of the root). So a listing that goes on with another
 * snapshot neither repeats nor leaves out an entry that both snapshots have.
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

static void list_nodes(const struct inode_ref *directory, uint64_t from, struct listing *listing)
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

static uint64_t parent_inode(const struct inode_ref *directory)
{
    if (!directory->vm || directory->node == TREE_NODE_SHARE)
        return TREE_INODE_ROOT;
    return tree_inode(directory->vm->id, tree_node_parent(directory->node));
}

static int list(struct powercapfs_server *server, const struct snapshot *snapshot, uint64_t inode,
                off_t offset, struct listing *listing)
{
    struct inode_ref directory;
    uint64_t from = offset > 2 ? (uint64_t)offset - 2 : 0;
    int r = inode_find(snapshot, inode, &directory);

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
        r = names_refresh(server);
        if (r == 0)
            list_vms(server->named, &server->names, from, listing);
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
    struct powercapfs_server *server = fuse_req_userdata(req);
    const struct snapshot *snapshot = snapshot_board_acquire(server->board);
    struct listing listing = {
        .req = req,
        .buffer = server->listing,
        .size = size < sizeof(server->listing) ? size : sizeof(server->listing),
    };
    int r = list(server, snapshot, inode, offset, &listing);

    snapshot_board_release(server->board, snapshot);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_buf(req, listing.buffer, listing.used);
}

/* Defines an operation that would change the file system: it is refused. */
#define REFUSED(operation, ...)                                                                    \
    static void operation(fuse_req_t req, fuse_ino_t inode, __VA_ARGS__)                           \
    {                                                                                              \
        fuse_reply_err(req, EROFS);                                                                \
    }

REFUSED(fs_setattr, struct stat *st, int to_set, struct fuse_file_info *info)
REFUSED(fs_mknod, const char *name, mode_t mode, dev_t device)
REFUSED(fs_mkdir, const char *name, mode_t mode)
REFUSED(fs_unlink, const char *name) /* rmdir as well */
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

const struct fuse_lowlevel_ops powercapfs_operations = {
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

int powercapfs_server_init(struct powercapfs_server *server, const struct powercapfs_config *config,
                           struct snapshot_board *board)
{
    server->board = board;
    server->quantum_uj = config->quantum_uj;
    server->file_mode = config->file_mode & 0777;
    server->directory_mode = config->file_mode & 0077 ? 0555 : 0500;
    server->uid = config->file_uid;
    server->gid = config->file_gid;
    server->start = time(NULL);
    server->version = strdup(config->version);
    if (!server->version)
        return -ENOMEM;
    return open_files_new(&server->files);
}

void powercapfs_server_deinit(struct powercapfs_server *server)
{
    tree_names_deinit(&server->names);
    snapshot_board_release(server->board, server->named);
    open_files_free(server->files);
    free(server->version);
}
