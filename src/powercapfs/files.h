/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Open files, and each VM's counts: how often its files are read, and the CPU
 * time that its requests take.
 *
 * A reader may take a value in several reads; a shell's `read` takes one byte
 * at a time. The text that was read at offset 0 is therefore kept with the
 * open file, and later offsets are served from it. A file without kept text
 * (opened with a daemon that is dead by now, or beyond a bound) still reads
 * right when it is read at once.
 *
 * Bounds keep one guest from using up the other guests' share.
 */

#include <stdint.h>

#include "powercapfs/tree.h"

#define OPEN_FILES_MAX 8192
#define OPEN_FILES_PER_VM 256
#define OPEN_FILES_VMS_MAX 65536 /* VMs with counts */

/** The text of an open file as its reader sees it. */
struct open_text {
    size_t length; /* 0: nothing has been read yet */
    char text[TREE_TEXT_MAX];
};

struct open_files;

/** @return 0, -ENOMEM, or the negative errno of getrandom(2) */
int open_files_new(struct open_files **ret);
struct open_files *open_files_free(struct open_files *files);

/**
 * Opens a file of a VM. One thread alone may call this, _close() and _text().
 * @return its handle, to be used as fuse_file_info.fh; 0 when a bound is reached
 */
uint64_t open_files_open(struct open_files *files, uint32_t vm_id, uint64_t inode);

/** Closes the file; any number is accepted. */
void open_files_close(struct open_files *files, uint64_t handle);

/** The kept text of an open file; NULL unless this process gave the handle for that inode. */
struct open_text *open_files_text(struct open_files *files, uint64_t handle, uint64_t inode);

/** Counts one read of a VM that exists. */
void open_files_count_read(struct open_files *files, uint32_t vm_id);

/** Counts CPU time spent for a VM that exists, on a package below PACKAGES_MAX. */
void open_files_charge(struct open_files *files, uint32_t vm_id, unsigned package, uint64_t cpu_ns);

/** CPU time counted since the previous call, by package. */
void open_files_take_cpu(struct open_files *files, uint32_t vm_id, uint64_t ret_ns[PACKAGES_MAX]);

/** Reads counted so far. Any thread may call this, and the other functions of counts. */
uint64_t open_files_reads(struct open_files *files, uint32_t vm_id);

/** Drops a VM's counts. */
void open_files_forget(struct open_files *files, uint32_t vm_id);
