/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "util/cleanup.h"
#include "util/file.h"

#define FILE_VERSION 1
/* The smallest room is for some hundred VMs. */
#define ROOM_MIN (UINT64_C(64) << 10)

static const char magic[8] = "vjslots";

struct file_head {
    char magic[8];
    uint32_t version;
    uint32_t slot;     /* which image holds: 0 or 1 */
    uint64_t room;     /* of each image */
    uint64_t size;     /* of the image that holds */
    uint64_t checksum; /* XXH3-64 of the members before it */
};

struct image_file {
    char *path;
    int fd;
    struct file_head head;
};

static uint64_t head_checksum(const struct file_head *head)
{
    return XXH3_64bits(head, offsetof(struct file_head, checksum));
}

int image_file_parse(void *bytes, size_t size, unsigned age, void **ret, size_t *ret_size)
{
    struct file_head head;
    uint64_t offset;

    if (size < sizeof(magic) || memcmp(bytes, magic, sizeof(magic)) != 0)
        return -ENOMSG;
    if (size < sizeof(head))
        return -EBADMSG;
    memcpy(&head, bytes, sizeof(head));
    if (head.version != FILE_VERSION)
        return -EPROTONOSUPPORT;
    if (head.checksum != head_checksum(&head) || head.slot > 1 || head.room > IMAGE_MAX ||
        head.room % sizeof(uint64_t) != 0)
        return -EBADMSG;
    if (age > 0)
        head.size = head.room;
    offset = IMAGE_FILE_HEAD + (head.slot ^ age) * head.room;
    if (head.size > head.room || offset > size || head.size > size - offset)
        return -EBADMSG;
    *ret = (char *)bytes + offset;
    *ret_size = head.size;
    return 0;
}

int image_file_new(struct image_file **ret, const char *path)
{
    _cleanup_free_ struct image_file *file = calloc(1, sizeof(*file));

    if (!file)
        return -ENOMEM;
    file->fd = -1;
    file->path = strdup(path);
    if (!file->path)
        return -ENOMEM;
    *ret = TAKE_PTR(file);
    return 0;
}

struct image_file *image_file_free(struct image_file *file)
{
    if (!file)
        return NULL;
    cleanup_close(&file->fd);
    free(file->path);
    free(file);
    return NULL;
}

/* The old image holds until the head, which is shorter than a page, has been written. */
static int write_image(int fd, struct file_head *head, const void *image, size_t size)
{
    struct file_head next = *head;
    int r;

    next.slot = !head->slot;
    next.size = size;
    next.checksum = head_checksum(&next);
    r = write_file_at(fd, image, size, IMAGE_FILE_HEAD + next.slot * next.room);
    if (r == 0)
        r = write_file_at(fd, &next, sizeof(next), 0);
    if (r == 0)
        *head = next;
    return r;
}

static int make_file(struct image_file *file, const void *image, size_t size)
{
    struct file_head head = {.version = FILE_VERSION, .slot = 1, .room = ROOM_MIN};
    _cleanup_close_ int fd = -1;
    char temporary[PATH_MAX];
    int r;

    memcpy(head.magic, magic, sizeof(magic));
    while (head.room < size)
        head.room *= 2;
    fd = open_beside(file->path, 0600, temporary, sizeof(temporary));
    if (fd < 0)
        return fd;
    r = -posix_fallocate(fd, 0, (off_t)(IMAGE_FILE_HEAD + 2 * head.room));
    if (r == 0)
        r = write_image(fd, &head, image, size);
    if (r == 0 && rename(temporary, file->path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(temporary);
        return r;
    }
    cleanup_close(&file->fd);
    file->fd = TAKE_FD(fd);
    file->head = head;
    return 0;
}

/* Once another process has removed or replaced the file, what is written to it is lost. */
static bool is_in_place(const struct image_file *file)
{
    struct stat ours, there;

    return file->fd >= 0 && fstat(file->fd, &ours) == 0 && stat(file->path, &there) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

int image_file_write(struct image_file *file, const void *image, size_t size)
{
    if (size > IMAGE_MAX)
        return -EFBIG;
    if (!is_in_place(file) || size > file->head.room)
        return make_file(file, image, size);
    return write_image(file->fd, &file->head, image, size);
}
