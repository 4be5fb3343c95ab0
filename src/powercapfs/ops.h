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

/** The data from which one thread answers requests. Other threads may use the counts in files. */
struct powercapfs_server {
    struct snapshot_board *board;
    struct open_files *files;
    char *version;
    uint64_t quantum_uj;
    mode_t file_mode;
    mode_t directory_mode;
    uid_t uid;
    gid_t gid;
    gid_t top_gid;

    const struct snapshot *named; /* the newest when by-name/ was last used; a reference */
    struct tree_names names;      /* its VMs' names */
    char listing[LISTING_MAX];
};

/**
 * Fills a zeroed server; give it to _deinit() after a failure as well.
 * @return 0 or a negative errno
 */
int powercapfs_server_init(struct powercapfs_server *server, const struct powercapfs_config *config,
                           struct snapshot_board *board);
void powercapfs_server_deinit(struct powercapfs_server *server);

/** The operations. The user data of a session is the server. */
extern const struct fuse_lowlevel_ops powercapfs_operations;
