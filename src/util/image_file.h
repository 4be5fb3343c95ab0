/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A file that holds an image, and is whole whenever its writer dies.
 *
 * The file has room for two images. A new image is written over the older one;
 * then the head, which names the image that holds, is written in one piece. The
 * kernel has the pages from the moment of the write, as with a mapping. But the
 * file is written, not mapped: touching a mapped page of a file that was cut
 * off, or that lies on a full disk, is SIGBUS; a failed write is an errno. The
 * file's space is reserved when it is made, so that it can be kept up to date
 * on a disk that has become full. The file is for a restart of the process, and
 * is not synchronised to the disk: it does not survive a power loss.
 */

#include <stddef.h>
#include <stdint.h>

#define IMAGE_FILE_IMAGES 2 /* the one that holds, and the one before */

/* The longest image: what is longer is not written, because it would not be read. Twice what the
   bounds on VMs and zones can make; a power of two. */
#define IMAGE_MAX (UINT64_C(64) << 20)

/* Images begin at page boundaries. */
#define IMAGE_FILE_HEAD UINT64_C(4096)

/* The longest file. */
#define IMAGE_FILE_MAX (IMAGE_FILE_HEAD + IMAGE_FILE_IMAGES * IMAGE_MAX)

/** The file, open for writing. */
struct image_file;

/**
 * Does not touch the disk: the first write replaces an existing file.
 * @return 0 or -ENOMEM
 */
int image_file_new(struct image_file **ret, const char *path);

/** Leaves the file in place. NULL is accepted. @return NULL */
struct image_file *image_file_free(struct image_file *file);

/**
 * Makes the image the one that holds. A missing file, or one that is too
 * small, is made anew.
 * @return 0; -EFBIG: longer than IMAGE_MAX; or another negative errno; then the image before it
 *         holds
 */
int image_file_write(struct image_file *file, const void *image, size_t size);

/**
 * Finds an image in the bytes of such a file.
 * @param bytes  aligned for uint64_t; untrusted; left as they are
 * @param age    0: the image that holds; 1: the one before it, or what a killed writer
 *               left of it, with all its room, because its size is not known
 * @param ret    part of the bytes
 * @return 0; -ENOMSG: not such a file; -EPROTONOSUPPORT: of another version;
 *         -EBADMSG: cut off or damaged
 */
int image_file_parse(void *bytes, size_t size, unsigned age, void **ret, size_t *ret_size);
