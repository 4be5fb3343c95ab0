/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/ledger_writer.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/image_file.h"
#include "util/thread.h"

struct ledger_writer {
    char *path;
    bool started;
    pthread_t thread;

    pthread_mutex_t lock;    /* of the members below */
    pthread_cond_t wake;     /* the thread has an image to write, or is to end */
    pthread_cond_t finished; /* a write is done */
    const void *image;       /* to be written; NULL: none */
    size_t size;
    bool done; /* a result waits for ledger_writer_wait() */
    int result;
    bool end;
};

/* What could not be read again must not replace what can. */
static int write_image(const struct ledger_writer *writer)
{
    if (writer->size > IMAGE_MAX)
        return -EFBIG;
    return replace_file(writer->path, writer->image, writer->size, 0600);
}

static void *write_checkpoints(void *userdata)
{
    struct ledger_writer *writer = userdata;

    pthread_mutex_lock(&writer->lock);
    while (!writer->end) {
        int r;

        if (!writer->image) {
            pthread_cond_wait(&writer->wake, &writer->lock);
            continue;
        }
        pthread_mutex_unlock(&writer->lock);
        r = write_image(writer);
        pthread_mutex_lock(&writer->lock);
        writer->image = NULL;
        writer->result = r;
        writer->done = true;
        pthread_cond_signal(&writer->finished);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

struct ledger_writer *ledger_writer_free(struct ledger_writer *writer)
{
    if (!writer)
        return NULL;
    if (writer->started) {
        pthread_mutex_lock(&writer->lock);
        writer->end = true;
        pthread_cond_signal(&writer->wake);
        pthread_mutex_unlock(&writer->lock);
        pthread_join(writer->thread, NULL);
    }
    pthread_cond_destroy(&writer->wake);
    pthread_cond_destroy(&writer->finished);
    pthread_mutex_destroy(&writer->lock);
    free(writer->path);
    free(writer);
    return NULL;
}
DEFINE_CLEANUP(struct ledger_writer *, ledger_writer_free);

int ledger_writer_new(struct ledger_writer **ret, const char *path)
{
    _cleanup_(cleanup_ledger_writer_free) struct ledger_writer *writer = calloc(1, sizeof(*writer));
    sigset_t signals;
    int r;

    if (!writer)
        return -ENOMEM;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wake, NULL);
    pthread_cond_init(&writer->finished, NULL);
    writer->path = strdup(path);
    if (!writer->path)
        return -ENOMEM;
    thread_block_signals(&signals);
    r = pthread_create(&writer->thread, NULL, write_checkpoints, writer);
    thread_restore_signals(&signals);
    if (r != 0)
        return -r;
    writer->started = true;
    *ret = TAKE_PTR(writer);
    return 0;
}

void ledger_writer_submit(struct ledger_writer *writer, const void *image, size_t size)
{
    pthread_mutex_lock(&writer->lock);
    assert(!writer->image && !writer->done);
    writer->image = image;
    writer->size = size;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
}

bool ledger_writer_wait(struct ledger_writer *writer, uint64_t timeout_ns, int *ret)
{
    const struct timespec end = ns_to_timespec(now_ns() + timeout_ns);
    int r = timeout_ns ? 0 : ETIMEDOUT;
    bool done;

    pthread_mutex_lock(&writer->lock);
    while (!writer->done && r == 0)
        r = pthread_cond_clockwait(&writer->finished, &writer->lock, CLOCK_MONOTONIC, &end);
    done = writer->done;
    if (done)
        *ret = writer->result;
    writer->done = false;
    pthread_mutex_unlock(&writer->lock);
    return done;
}
