/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Files that hold an image, and are whole whenever the writer dies.
 *
 * The runtime file outlives the process. It has room for two images; a new one
 * is written over the older of the two, and then the head is, in one piece,
 * which says which of them holds. The pages are the kernel's from the moment
 * of the write, as with a mapping; but the file is written, not mapped: a
 * mapped page of a file that is cut off, or of a full disk, is SIGBUS, a write
 * is an errno. Its space is reserved when it is made, so that it can be kept
 * up to date on a disk that has become full. Nothing is ever made ready for
 * a power loss here, which the file does not survive.
 *
 * The checkpoint outlives the host: it is one image, written beside the old
 * one, brought to the disk and renamed over it.
 */

#include <stddef.h>
#include <stdint.h>

#define IMAGE_FILE_IMAGES 2 /* the one that holds, and the one before */

/* Bounds what is read at start: the images of 100000 VMs. */
#define IMAGE_FILE_MAX (256U << 20)

/** The runtime file, open for writing. */
struct image_file;

/** Does not touch the disk: a file that is there is replaced by the first write. @return 0 or
 * -ENOMEM */
int image_file_new(struct image_file **ret, const char *path);

/** The file stays. NULL is accepted. @return NULL */
struct image_file *image_file_free(struct image_file *file);

/**
 * Makes the image the one that holds. The file is made anew where it is
 * missing or too small.
 * @return 0 or a negative errno; then the image before it holds
 */
int image_file_write(struct image_file *file, const void *image, size_t size);

/**
 * Finds an image in the bytes of a runtime file.
 * @param bytes  aligned for uint64_t; untrusted; left as they are
 * @param age    0: the one that holds; 1: the one before it, or what a killed
 *               writer left of it, with all its room, for it may be of any size
 * @param ret    part of the bytes
 * @return 0; -ENOMSG: not such a file; -EPROTONOSUPPORT: of another version;
 *         -EBADMSG: cut off or damaged
 */
int image_file_parse(void *bytes, size_t size, unsigned age, void **ret, size_t *ret_size);

/**
 * Writes a checkpoint: temporary file, fsync, rename, fsync of the directory,
 * which is made if it is missing.
 * @return 0 or a negative errno; then an older checkpoint is as it was
 */
int ledger_checkpoint_write(const char *directory, const char *name, const void *image,
                            size_t size);
