/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "publish/powercapfs_queue.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "publish/powercapfs_tree.h"
#include "util/cleanup.h"

#define PAGE 4096
/* Of a connection as libfuse negotiates it: 256 pages of data, and a page for what precedes them.
   The kernel refuses smaller buffers. Only pages that were written to take memory. */
#define PLACE_SIZE (257 * (size_t)PAGE)
#define MEMORY_SIZE (PAGE + REQUEST_QUEUE_PLACES * PLACE_SIZE)

static const char form[] = "virtjoule requests 1";

/* A request in the queue. The VM's n-th comes after all other VMs' (n-1)-th. */
struct place {
    size_t length; /* 0: the place is free */
    uint32_t vm_id;
    uint64_t round;
    uint64_t arrival;
};

struct request_queue {
    int memory_fd;
    char *memory; /* form, then the places' bytes from the second page on */
    struct place places[REQUEST_QUEUE_PLACES];
    size_t length;
    uint64_t round;
    uint64_t arrivals;
};

static char *bytes_at(const struct request_queue *queue, unsigned place)
{
    return queue->memory + PAGE + place * PLACE_SIZE;
}

/* Takes in what the kernel has written into a place, now or for a predecessor. */
static void add(struct request_queue *queue, unsigned place)
{
    struct place request = {.round = queue->round, .arrival = queue->arrivals++};
    struct fuse_in_header header;

    memcpy(&header, bytes_at(queue, place), sizeof(header));
    if (header.len < sizeof(header) || header.len > PLACE_SIZE)
        return;
    request.length = header.len;
    request.vm_id = tree_inode_vm(header.nodeid);
    for (unsigned i = 0; i < REQUEST_QUEUE_PLACES; i++) {
        const struct place *other = &queue->places[i];

        if (other->length > 0 && other->vm_id == request.vm_id && other->round >= request.round)
            request.round = other->round + 1;
    }
    queue->places[place] = request;
    queue->length++;
}

DEFINE_CLEANUP(struct request_queue *, request_queue_free);

static void *map(int fd)
{
    void *memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static int adopt(struct request_queue *queue, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size != (off_t)MEMORY_SIZE)
        return -EBADMSG;
    queue->memory = map(fd);
    if (!queue->memory)
        return -errno;
    return memcmp(queue->memory, form, sizeof(form)) == 0 ? 0 : -EBADMSG;
}

static int create(struct request_queue *queue)
{
    queue->memory_fd = memfd_create("virtjoule-requests", MFD_CLOEXEC);
    if (queue->memory_fd < 0 || ftruncate(queue->memory_fd, MEMORY_SIZE) < 0)
        return -errno;
    queue->memory = map(queue->memory_fd);
    if (!queue->memory)
        return -errno;
    memcpy(queue->memory, form, sizeof(form));
    return 0;
}

/* Also makes sure that the page is there: the kernel cannot fetch it for a process being killed. */
static void clear(struct request_queue *queue, unsigned place)
{
    memset(bytes_at(queue, place), 0, sizeof(struct fuse_in_header));
}

int request_queue_new(struct request_queue **ret, int memory_fd)
{
    _cleanup_(cleanup_request_queue_free) struct request_queue *queue = calloc(1, sizeof(*queue));
    int r;

    if (!queue)
        return -ENOMEM;
    queue->memory_fd = -1;
    r = memory_fd >= 0 ? adopt(queue, memory_fd) : create(queue);
    if (r < 0)
        return r;
    if (memory_fd >= 0)
        queue->memory_fd = memory_fd;
    for (unsigned place = 0; place < REQUEST_QUEUE_PLACES; place++) {
        add(queue, place);
        if (queue->places[place].length == 0)
            clear(queue, place);
    }
    *ret = TAKE_PTR(queue);
    return 0;
}

struct request_queue *request_queue_free(struct request_queue *queue)
{
    if (!queue)
        return NULL;
    if (queue->memory)
        munmap(queue->memory, MEMORY_SIZE);
    if (queue->memory_fd >= 0)
        close(queue->memory_fd);
    free(queue);
    return NULL;
}

int request_queue_memory(const struct request_queue *queue)
{
    return queue->memory_fd;
}

size_t request_queue_length(const struct request_queue *queue)
{
    return queue->length;
}

static unsigned find_free(const struct request_queue *queue)
{
    unsigned place = 0;

    while (queue->places[place].length > 0)
        place++;
    return place;
}

int request_queue_fill(struct request_queue *queue, int fuse_fd)
{
    while (queue->length < REQUEST_QUEUE_PLACES) {
        unsigned place = find_free(queue);
        ssize_t n = read(fuse_fd, bytes_at(queue, place), PLACE_SIZE);

        if (n > 0)
            add(queue, place);
        else if (n == 0 || errno == EAGAIN)
            return 0;
        else if (errno != EINTR && errno != ENOENT) /* ENOENT: it was withdrawn meanwhile */
            return -errno;
    }
    return 0;
}

static bool comes_before(const struct place *a, const struct place *b)
{
    return a->round != b->round ? a->round < b->round : a->arrival < b->arrival;
}

bool request_queue_next(struct request_queue *queue, struct queued_request *ret)
{
    const struct place *next = NULL;

    for (unsigned i = 0; i < REQUEST_QUEUE_PLACES; i++) {
        const struct place *place = &queue->places[i];

        if (place->length > 0 && (!next || comes_before(place, next)))
            next = place;
    }
    if (!next)
        return false;
    queue->round = next->round;
    *ret = (struct queued_request){
        .place = (unsigned)(next - queue->places),
        .vm_id = next->vm_id,
        .bytes = bytes_at(queue, (unsigned)(next - queue->places)),
        .length = next->length,
    };
    return true;
}

void request_queue_answered(struct request_queue *queue, const struct queued_request *request)
{
    clear(queue, request->place);
    queue->places[request->place].length = 0;
    queue->length--;
}
