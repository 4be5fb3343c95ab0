/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One VM's powercap tree as a table of nodes: the place of each node, its
 * inode number and its text. Pure functions over a snapshot.
 *
 * An inode number is (VM id << 8) | node. Both halves are stable: a UUID keeps
 * its id for ever, and a node's number never changes once released. So a new
 * daemon that takes over the FUSE connection of a dead one gives every file
 * the number by which a guest knows it already. VM id 0 is the file system's
 * own top level.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/snapshot.h"

enum tree_node_type {
    TREE_DIRECTORY,
    TREE_FILE,
    TREE_LINK,
};

/* Inode numbers of the top level, VM id 0. FUSE fixes the root's. */
#define TREE_INODE_ROOT UINT64_C(1)
#define TREE_INODE_BY_NAME UINT64_C(2)

/* Nodes of every VM: its directory, and the link to it in by-name/. */
#define TREE_NODE_SHARE 0U
#define TREE_NODE_NAME_LINK 255U

#define TREE_TEXT_MAX 64 /* bytes of a file, name or link target, NUL included */

/** The number of a VM's node between kernel and daemon; guests see another one. */
static inline uint64_t tree_inode(uint32_t vm_id, unsigned node)
{
    return (uint64_t)vm_id << 8 | (node & 0xff);
}

/** The VM of an inode number; 0 for the top level and for numbers that no VM can have. */
static inline uint32_t tree_inode_vm(uint64_t inode)
{
    return inode >> 40 ? 0 : (uint32_t)(inode >> 8);
}

static inline unsigned tree_inode_node(uint64_t inode)
{
    return (unsigned)(inode & 0xff);
}

/** Does the VM's tree have that node? @param node  any number, TREE_NODE_NAME_LINK included */
bool tree_node_exists(const struct snapshot_vm *vm, unsigned node);

/** Type of a node that exists. */
enum tree_node_type tree_node_type(unsigned node);

/** The directory that holds a node; TREE_NODE_SHARE for the share itself. */
unsigned tree_node_parent(unsigned node);

/** The node with that name in a directory of the VM. @return its number or -ENOENT */
int tree_node_child(const struct snapshot_vm *vm, unsigned directory, const char *name);

/** The first node from that number on that is in a directory of the VM, or -ENOENT. */
int tree_node_next(const struct snapshot_vm *vm, unsigned directory, unsigned from);

/** Writes the name of a node below the share. @return its length */
size_t tree_node_name(const struct snapshot_vm *vm, unsigned node, char ret[TREE_TEXT_MAX]);

/** Writes a link's relative target. @return its length */
size_t tree_node_target(const struct snapshot_vm *vm, unsigned node, char ret[TREE_TEXT_MAX]);

/** The data from which a file's text is made. */
struct tree_view {
    const struct snapshot *snapshot;
    uint64_t time_ns; /* CLOCK_MONOTONIC, now */
    uint64_t quantum_uj;
    const char *version;
};

/** Writes a file's text: one line, with its newline. @return its length, never 0 */
size_t tree_node_render(const struct tree_view *view, const struct snapshot_vm *vm, unsigned node,
                        char ret[TREE_TEXT_MAX]);
