/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Requests to the trees, in any order and of any content, while VMs come and
 * go: each is answered once and well-formed, with nothing that is outside the
 * tree; what would change something is refused; no counter runs backwards. The
 * input is a list of steps:
 *
 *     FUSE_INIT    as the service manager may have kept it; maybe none
 *     then any number of
 *         0..127   opcode, +64: of the file opened last | VM | node | length | body
 *         128..    a VM comes, goes, is renamed or uses energy
 */

#include "fuzz.h"

#include <errno.h>
#include <stdio.h>

#include "../lib/fuse_fixture.h"
#include "../lib/snapshot_fixture.h"
#include "powercapfs/handover.h"
#include "powercapfs/tree.h"

#define VMS 6
#define OPENED_MAX 300 /* more than a VM may have open */
#define QUANTUM_UJ 1000
#define ROOT_VM 250 /* a step's VM from here on means the top level, or any inode at all */
#define ANY_VM 255

/* What is left of the input; at its end come zeros. */
struct input {
    const uint8_t *p;
    size_t left;
};

struct counter {
    uint64_t added_uj; /* since it was read last */
    uint64_t last_uj;
    bool read;
};

struct world {
    struct fuse_fixture *requests;
    struct snapshot_board *board;
    struct snapshot_vm vms[VMS];
    struct counter counters[VMS][TREE_ZONES];
    uint64_t opened[OPENED_MAX];
    uint32_t opened_vm[OPENED_MAX];
    size_t n_opened;
    bool changed; /* VMs, since the last snapshot */
};

static struct world world;

/* The file energy_uj of each zone, as in the unit test that fixes the nodes' numbers. */
static const unsigned energy_nodes[TREE_ZONES] = {7, 12, 17, 22};

static uint8_t take_byte_of(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->p++;
}

static size_t take_bytes(struct input *input, void *ret, size_t size)
{
    size_t n = size < input->left ? size : input->left;

    memset(ret, 0, size);
    memcpy(ret, input->p, n);
    input->p += n;
    input->left -= n;
    return n;
}

/* The host. */

/* Before a request, like a tick: not at each change. */
static void post(void)
{
    struct snapshot_vm vms[VMS];
    struct snapshot *snapshot;
    size_t n = 0;

    if (!world.changed)
        return;
    world.changed = false;
    for (size_t i = 0; i < VMS; i++)
        if (world.vms[i].id)
            vms[n++] = world.vms[i];
    snapshot = fixture_snapshot(vms, n);
    snapshot_board_post(world.board, snapshot);
}

static struct snapshot_vm *vm_of_inode(uint64_t inode)
{
    uint32_t id = tree_inode_vm(inode);

    return id >= 1 && id <= VMS && world.vms[id - 1].id ? &world.vms[id - 1] : NULL;
}

static void change_host(struct input *input)
{
    uint8_t what = take_byte_of(input), number = take_byte_of(input) % VMS;
    struct snapshot_vm *vm = &world.vms[number];
    char name[VM_NAME_MAX] = "";

    if (what & 1)
        take_bytes(input, name, take_byte_of(input));
    if ((what & 2) || !vm->id) {
        /* Its totals stay, as the ledger's do. */
        struct snapshot_vm before = *vm;

        fixture_vm(vm, number + 1u, number * 7919u + 1, name);
        memcpy(vm->tree, before.tree, sizeof(vm->tree));
        vm->tree_zones = take_byte_of(input) & 15;
    }
    vm->has_tree = !(what & 4);
    vm->id = what & 8 ? 0 : number + 1u;
    for (unsigned zone = 0; zone < TREE_ZONES; zone++) {
        uint64_t used_uj = (uint64_t)(what >> 4) * 1000003 << zone;

        vm->tree[zone].to_uj += used_uj;
        vm->tree[zone].from_uj = vm->tree[zone].to_uj;
        world.counters[number][zone].added_uj += used_uj;
    }
    world.changed = true;
}

/* What a reply may hold. */

static void check_inode(uint64_t inode)
{
    const struct snapshot_vm *vm = vm_of_inode(inode);

    if (inode == TREE_INODE_ROOT || inode == TREE_INODE_BY_NAME)
        return;
    require(vm && vm->has_tree && tree_node_exists(vm, tree_inode_node(inode)));
}

static void check_attributes(const struct fuse_attr *attributes, uint64_t inode)
{
    bool link = S_ISLNK(attributes->mode);

    check_inode(inode);
    require(attributes->ino == inode);
    require((attributes->mode & 07777) == (link                        ? 0777u
                                           : S_ISDIR(attributes->mode) ? 0555u
                                                                       : 0444u));
}

static void check_entry(const char *name)
{
    struct fuse_entry_out entry;

    require(world.requests->length == sizeof(entry));
    memcpy(&entry, world.requests->body, sizeof(entry));
    require(entry.nodeid == entry.attr.ino && entry.nodeid != TREE_INODE_ROOT);
    require(entry.entry_valid == 0 && entry.attr_valid == 0);
    require(strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/'));
    check_attributes(&entry.attr, entry.nodeid);
}

/* However deep it starts, it does not lead out of the share. */
static void check_target(uint64_t inode)
{
    unsigned node = tree_inode_node(inode), depth = 0;
    char target[TREE_TEXT_MAX + 1] = "", *rest = NULL;
    bool by_name = node == TREE_NODE_NAME_LINK;

    require(world.requests->length > 0 && world.requests->length < TREE_TEXT_MAX);
    memcpy(target, world.requests->body, world.requests->length);
    require(target[0] != '/');
    while (!by_name && (node = tree_node_parent(node)) != TREE_NODE_SHARE)
        depth++;
    for (char *part = strtok_r(target, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
        if (strcmp(part, "..") != 0) {
            depth++;
            continue;
        }
        require(depth > 0 || by_name);
        depth -= depth > 0;
    }
}

static void check_counter(uint64_t inode)
{
    const struct snapshot_vm *vm = vm_of_inode(inode);
    char text[TREE_TEXT_MAX + 1] = "", *end;

    memcpy(text, world.requests->body, world.requests->length);
    require(text[world.requests->length - 1] == '\n');
    for (unsigned zone = 0; zone < TREE_ZONES; zone++) {
        struct counter *counter = &world.counters[vm ? vm - world.vms : 0][zone];
        uint64_t value;

        if (!vm || energy_nodes[zone] != tree_inode_node(inode))
            continue;
        value = strtoull(text, &end, 10);
        require(*end == '\n' && value <= TREE_MAX_ENERGY_UJ);
        require(!counter->read ||
                (value + TREE_MAX_ENERGY_UJ + 1 - counter->last_uj) % (TREE_MAX_ENERGY_UJ + 1) <=
                    counter->added_uj + QUANTUM_UJ);
        *counter = (struct counter){.last_uj = value, .read = true};
    }
}

/* Every entry is found under its name. */
static void check_listing(uint64_t directory)
{
    static _Alignas(uint64_t) char listing[REPLY_MAX];
    size_t length = world.requests->length;

    memcpy(listing, world.requests->body, length);
    for (size_t i = 0; i < length;) {
        const struct fuse_dirent *entry = (const struct fuse_dirent *)(listing + i);
        char name[NAME_MAX + 1] = "";
        struct fuse_entry_out found;

        require(length - i >= FUSE_DIRENT_SIZE(entry) && entry->namelen <= NAME_MAX);
        memcpy(name, entry->name, entry->namelen);
        require(name[0] != '\0' && strlen(name) == entry->namelen);
        i += FUSE_DIRENT_SIZE(entry);
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        require(fuse_fixture_send(world.requests, FUSE_LOOKUP, directory, name, sizeof(name)) == 0);
        check_entry(name);
        memcpy(&found, world.requests->body, sizeof(found));
        require(found.nodeid == entry->ino && (found.attr.mode & S_IFMT) >> 12 == entry->type);
    }
}

static void note_opened(uint64_t inode)
{
    struct fuse_open_out out;

    memcpy(&out, world.requests->body, sizeof(out));
    require(out.open_flags & FOPEN_DIRECT_IO);
    if (world.n_opened == OPENED_MAX) {
        const struct fuse_release_in release = {.fh = out.fh};

        require(fuse_fixture_send(world.requests, FUSE_RELEASE, inode, &release, sizeof(release)) ==
                0);
        return;
    }
    world.opened[world.n_opened] = out.fh;
    world.opened_vm[world.n_opened++] = tree_inode_vm(inode);
}

/* Requests. */

static bool changes_something(uint32_t opcode)
{
    static const uint32_t changing[] = {FUSE_SETATTR,   FUSE_SYMLINK,    FUSE_MKNOD,   FUSE_MKDIR,
                                        FUSE_UNLINK,    FUSE_RMDIR,      FUSE_RENAME,  FUSE_LINK,
                                        FUSE_WRITE,     FUSE_SETXATTR,   FUSE_RENAME2, FUSE_CREATE,
                                        FUSE_FALLOCATE, FUSE_REMOVEXATTR};

    for (size_t i = 0; i < sizeof(changing) / sizeof(*changing); i++)
        if (changing[i] == opcode)
            return true;
    return false;
}

static void check_reply(uint32_t opcode, uint64_t inode, const char *body)
{
    const struct fuse_fixture *requests = world.requests;
    struct fuse_attr_out attributes;
    struct fuse_read_in read;
    struct fuse_open_in open;

    memcpy(&read, body, sizeof(read));
    memcpy(&open, body, sizeof(open));
    require(!changes_something(opcode) || requests->error == -EROFS);
    if (requests->error != 0)
        return;
    switch (opcode) {
    case FUSE_LOOKUP:
        check_entry(body);
        break;
    case FUSE_GETATTR:
        require(requests->length == sizeof(attributes));
        memcpy(&attributes, requests->body, sizeof(attributes));
        check_attributes(&attributes.attr, inode);
        break;
    case FUSE_READLINK:
        check_target(inode);
        break;
    case FUSE_OPEN:
        require((open.flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY);
        check_inode(inode);
        note_opened(inode);
        break;
    case FUSE_READ:
        require(requests->length <= read.size && requests->length < TREE_TEXT_MAX);
        if (read.offset == 0 && requests->length > 0 && read.size >= TREE_TEXT_MAX)
            check_counter(inode);
        break;
    case FUSE_READDIR:
        require(requests->length <= read.size);
        check_listing(inode);
        break;
    default:
        break;
    }
}

static uint64_t take_inode(struct input *input)
{
    uint8_t vm = take_byte_of(input), node = take_byte_of(input);
    uint64_t inode;

    if (vm == ANY_VM) {
        take_bytes(input, &inode, sizeof(inode));
        return inode;
    }
    return vm >= ROOT_VM ? (node & 1) + TREE_INODE_ROOT : tree_inode(vm % (VMS + 2), node);
}

static void send_request(uint8_t step, struct input *input)
{
    uint32_t opcode = step & 63;
    uint64_t inode = take_inode(input);
    size_t length = take_byte_of(input);
    char body[REQUEST_BODY_MAX];

    memset(body, 0, sizeof(body));
    take_bytes(input, body, length);
    /* The kernel begins and ends a session once, and answers no question that was not asked. */
    if (opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_NOTIFY_REPLY)
        return;
    if ((step & 64) && world.n_opened > 0)
        memcpy(body, &world.opened[world.n_opened - 1], sizeof(uint64_t));
    post();
    /* The whole of it: a request of the kernel is never cut. */
    fuse_fixture_send(world.requests, opcode, inode, body, sizeof(body));
    check_reply(opcode, inode, body);
}

/*
 * What a former daemon left with the service manager, handed to libfuse as
 * powercapfs.c does. It begins a session, or ends it at once.
 */
static void try_init(const struct handover *former)
{
    const struct fuse_buf buffer = {.mem = (void *)former->init, .size = former->init_length};
    struct fuse_session *usual = world.requests->session;
    struct fuse_in_header header;

    if (!fuse_init_is_whole(former->init, former->init_length))
        return;
    memcpy(&header, former->init, sizeof(header));
    world.requests->session = fuse_fixture_session(world.requests);
    world.requests->unique = header.unique;
    fuse_session_process_buf(world.requests->session, &buffer);
    world.requests->unique = 0;
    require(!fuse_session_exited(world.requests->session) || world.requests->error != 0);
    (void)fuse_fixture_send(world.requests, FUSE_LOOKUP, FUSE_ROOT_ID, "by-name",
                            sizeof("by-name"));
    fuse_session_destroy(world.requests->session);
    world.requests->session = usual;
}

/* As at the first start, but that memory is kept: a table of open files takes its time to make. */
static void begin(void)
{
    const struct powercapfs_config config = {
        .file_mode = 0444, .quantum_uj = QUANTUM_UJ, .version = "0"};

    if (!world.board) {
        require(snapshot_board_new(&world.board) == 0);
        world.requests = fuse_fixture_new(&config, world.board);
    }
    memset(world.counters, 0, sizeof(world.counters));
    for (unsigned i = 0; i < VMS; i++) {
        char name[16];

        snprintf(name, sizeof(name), "vm%u", i / 2);
        fixture_vm(&world.vms[i], i + 1, i * 7919 + 1, name);
    }
    world.changed = true;
}

static void end(void)
{
    for (size_t i = 0; i < world.n_opened; i++) {
        const struct fuse_release_in release = {.fh = world.opened[i]};

        require(fuse_fixture_send(world.requests, FUSE_RELEASE, 0, &release, sizeof(release)) == 0);
    }
    world.n_opened = 0;
    for (uint32_t id = 0; id <= VMS; id++)
        open_files_forget(world.requests->server.files, id);
    fuse_fixture_drain(world.requests);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct handover former = {0};

    begin();
    former.init_length = take_bytes(&input, former.init, take_byte_of(&input));
    try_init(&former);
    while (input.left > 0) {
        uint8_t step = take_byte_of(&input);

        if (step < 128)
            send_request(step, &input);
        else
            change_host(&input);
    }
    end();
    return 0;
}
