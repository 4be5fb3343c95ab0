/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The answers to FUSE requests, apart from how the requests come in.
 */

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "powercapfs/files.h"
#include "powercapfs/names.h"
#include "powercapfs/powercapfs.h"

#define LISTING_MAX 32768 /* bytes of one readdir reply */

/** What requests are answered from. Of one thread's use, but for the counts in files. */
struct powercapfs_server {
    struct snapshot_board *board;
    struct open_files *files;
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
    char listing[LISTING_MAX];
};

/**
 * Fills a zeroed server; also on failure it is to be given to _deinit().
 * @return 0 or a negative errno
 */
int powercapfs_server_init(struct powercapfs_server *server, const struct powercapfs_config *config,
                           struct snapshot_board *board);
void powercapfs_server_deinit(struct powercapfs_server *server);

/** The operations; a session's user data is the server. */
extern const struct fuse_lowlevel_ops powercapfs_operations;
