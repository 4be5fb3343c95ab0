/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/queue.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "powercapfs/tree.h"
#include "util/cleanup.h"

#define PAGE 4096
/* The largest request of a connection as libfuse negotiates it: 256 pages of data, and a page for
   the headers before them. The kernel refuses smaller buffers. Only written pages take memory. */
#define SLOT_SIZE (257 * (size_t)PAGE)
#define MEMORY_SIZE (PAGE + FUSE_QUEUE_SLOTS * SLOT_SIZE)

/* How the memory begins. Daemons of different versions hand it to each other: change the number
   with the layout. */
static const char form[] = "virtjoule requests 1";

/* A request in the queue. In round n each VM has its n-th waiting request answered. */
struct slot {
    size_t length; /* 0: the slot is free */
    uint32_t vm_id;
    uint64_t round;
    uint64_t arrival;
};

struct fuse_queue {
    int memory_fd;
    char *memory; /* form, then the slots' bytes from the second page on */
    struct slot slots[FUSE_QUEUE_SLOTS];
    size_t length;
    uint64_t round;
    uint64_t arrivals;
};

static char *bytes_at(const struct fuse_queue *queue, unsigned slot)
{
    return queue->memory + PAGE + slot * SLOT_SIZE;
}

/* Enters the request that the kernel has written into a slot, for this process or a former one. */
static void add(struct fuse_queue *queue, unsigned slot)
{
    struct slot request = {.round = queue->round, .arrival = queue->arrivals++};
    struct fuse_in_header header;

    memcpy(&header, bytes_at(queue, slot), sizeof(header));
    if (header.len < sizeof(header) || header.len > SLOT_SIZE)
        return;
    request.length = header.len;
    request.vm_id = tree_inode_vm(header.nodeid);
    for (unsigned i = 0; i < FUSE_QUEUE_SLOTS; i++) {
        const struct slot *other = &queue->slots[i];

        if (other->length > 0 && other->vm_id == request.vm_id && other->round >= request.round)
            request.round = other->round + 1;
    }
    queue->slots[slot] = request;
    queue->length++;
}

DEFINE_CLEANUP(struct fuse_queue *, fuse_queue_free);

static int map(struct fuse_queue *queue, int fd)
{
    queue->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (queue->memory != MAP_FAILED)
        return 0;
    queue->memory = NULL;
    return -errno;
}

static int adopt(struct fuse_queue *queue, int fd)
{
    struct stat st;
    int r;

    if (fstat(fd, &st) < 0 || st.st_size != (off_t)MEMORY_SIZE)
        return -EBADMSG;
    r = map(queue, fd);
    if (r < 0)
        return r;
    assert(queue->memory);
    return memcmp(queue->memory, form, sizeof(form)) == 0 ? 0 : -EBADMSG;
}

static int create(struct fuse_queue *queue)
{
    int r;

    queue->memory_fd = memfd_create("virtjoule-fuse-queue", MFD_CLOEXEC);
    if (queue->memory_fd < 0 || ftruncate(queue->memory_fd, MEMORY_SIZE) < 0)
        return -errno;
    r = map(queue, queue->memory_fd);
    if (r == 0)
        memcpy(queue->memory, form, sizeof(form));
    return r;
}

/* The write also makes the page present: the kernel cannot fetch it for a process being killed. */
static void clear(struct fuse_queue *queue, unsigned slot)
{
    memset(bytes_at(queue, slot), 0, sizeof(struct fuse_in_header));
}

int fuse_queue_new(struct fuse_queue **ret, int memory_fd)
{
    _cleanup_(cleanup_fuse_queue_free) struct fuse_queue *queue = calloc(1, sizeof(*queue));
    int r;

    if (!queue)
        return -ENOMEM;
    queue->memory_fd = -1;
    r = memory_fd >= 0 ? adopt(queue, memory_fd) : create(queue);
    if (r < 0)
        return r;
    if (memory_fd >= 0)
        queue->memory_fd = memory_fd;
    for (unsigned slot = 0; slot < FUSE_QUEUE_SLOTS; slot++) {
        add(queue, slot);
        if (queue->slots[slot].length == 0)
            clear(queue, slot);
    }
    *ret = TAKE_PTR(queue);
    return 0;
}

struct fuse_queue *fuse_queue_free(struct fuse_queue *queue)
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

int fuse_queue_memory(const struct fuse_queue *queue)
{
    return queue->memory_fd;
}

size_t fuse_queue_length(const struct fuse_queue *queue)
{
    return queue->length;
}

static unsigned find_free(const struct fuse_queue *queue)
{
    unsigned slot = 0;

    assert(queue->length < FUSE_QUEUE_SLOTS);
    while (queue->slots[slot].length > 0)
        slot++;
    return slot;
}

int fuse_queue_fill(struct fuse_queue *queue, int fuse_fd)
{
    while (queue->length < FUSE_QUEUE_SLOTS) {
        unsigned slot = find_free(queue);
        ssize_t n = read(fuse_fd, bytes_at(queue, slot), SLOT_SIZE);

        if (n > 0)
            add(queue, slot);
        else if (n == 0 || errno == EAGAIN)
            return 0;
        else if (errno != EINTR && errno != ENOENT) /* ENOENT: it was withdrawn meanwhile */
            return -errno;
    }
    return 0;
}

static bool comes_before(const struct slot *a, const struct slot *b)
{
    return a->round != b->round ? a->round < b->round : a->arrival < b->arrival;
}

bool fuse_queue_next(struct fuse_queue *queue, struct fuse_request *ret)
{
    const struct slot *next = NULL;

    for (unsigned i = 0; i < FUSE_QUEUE_SLOTS; i++) {
        const struct slot *slot = &queue->slots[i];

        if (slot->length > 0 && (!next || comes_before(slot, next)))
            next = slot;
    }
    if (!next)
        return false;
    queue->round = next->round;
    *ret = (struct fuse_request){
        .slot = (unsigned)(next - queue->slots),
        .vm_id = next->vm_id,
        .bytes = bytes_at(queue, (unsigned)(next - queue->slots)),
        .length = next->length,
    };
    return true;
}

void fuse_queue_answered(struct fuse_queue *queue, const struct fuse_request *request)
{
    assert(request->slot < FUSE_QUEUE_SLOTS && queue->slots[request->slot].length > 0);
    clear(queue, request->slot);
    queue->slots[request->slot].length = 0;
    queue->length--;
}
