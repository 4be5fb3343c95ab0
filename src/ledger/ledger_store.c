/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/ledger_store.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>
#include <time.h>

#include "ledger/ledger_reserve.h"
#include "ledger/ledger_writer.h"
#include "util/backoff.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/image_file.h"
#include "util/log.h"

#define FILE_NAME "ledger"
/* A checkpoint takes milliseconds; a disk may hang for ever. */
#define WRITE_MAX_NS (5 * NSEC_PER_SEC)

/* A file that is written again and again; writing it may fail. */
struct target {
    char path[PATH_MAX];
    struct backoff backoff;
    int error; /* of the last attempt, as logged; 0: it succeeded */
};

struct ledger_store {
    struct ledger_identity identity;
    char *runtime_dir;
    uint64_t sequence; /* of the last image */

    struct buffer image;  /* saved last; size 0: none yet */
    struct buffer before; /* one interval before; size 0: none yet */

    struct target runtime;
    struct image_file *file;

    struct target checkpoint;
    uint64_t checkpoint_due_ns; /* CLOCK_MONOTONIC of the next one, if no total grows faster */
    struct ledger_writer *writer;
    bool writing; /* submitted is being written */
    uint64_t submitted_ns;
    struct buffer submitted; /* the writer reads it while writing */
    struct buffer durable;   /* the checkpoint on disk; size 0: not written by this process */
};

struct ledger_identity ledger_identity_now(void)
{
    struct ledger_identity identity = {0};
    sd_id128_t id;

    if (sd_id128_get_boot(&id) == 0)
        memcpy(identity.boot, id.bytes, sizeof(identity.boot));
    if (sd_id128_get_machine(&id) == 0)
        memcpy(identity.machine, id.bytes, sizeof(identity.machine));
    return identity;
}

static int set_path(struct target *target, const char *directory)
{
    int n = snprintf(target->path, sizeof(target->path), "%s/" FILE_NAME, directory);

    return n < (int)sizeof(target->path) ? 0 : -ENAMETOOLONG;
}

DEFINE_CLEANUP(struct ledger_store *, ledger_store_free);

int ledger_store_new(struct ledger_store **ret, const struct ledger_store_config *config)
{
    _cleanup_(cleanup_ledger_store_free) struct ledger_store *store = calloc(1, sizeof(*store));
    int r;

    if (!store)
        return -ENOMEM;
    store->identity = config->identity;
    store->runtime_dir = strdup(config->runtime_dir);
    if (!store->runtime_dir)
        return -ENOMEM;
    r = set_path(&store->runtime, config->runtime_dir);
    if (r == 0)
        r = set_path(&store->checkpoint, config->state_dir);
    if (r == 0)
        r = image_file_new(&store->file, store->runtime.path);
    if (r == 0)
        r = ledger_writer_new(&store->writer, store->checkpoint.path);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(store);
    return 0;
}

/* Loading. */

/* A file's content; bytes NULL: it cannot be used. */
struct candidate {
    const char *path;
    char *bytes;
    struct ledger_image image;
};

static void set_aside(const char *path, const char *problem)
{
    char aside[PATH_MAX + 32];
    int r;

    snprintf(aside, sizeof(aside), "%s.bad-%" PRIu64, path,
             clock_ns(CLOCK_REALTIME) / NSEC_PER_SEC);
    r = rename(path, aside) < 0 ? -errno : 0;
    if (r == 0)
        log_error("a file of the ledger cannot be used and is set aside", F_STRING("file", path),
                  F_STRING("problem", problem), F_STRING("aside", aside));
    else
        log_error("a file of the ledger cannot be used, nor set aside", F_STRING("file", path),
                  F_STRING("problem", problem), F_ERROR(r));
}

static void drop(struct candidate *candidate)
{
    free(TAKE_PTR(candidate->bytes));
}

static void reject(struct candidate *candidate, const char *problem)
{
    set_aside(candidate->path, problem);
    drop(candidate);
}

static const char *problem_text(int error)
{
    switch (error) {
    case -ENOMSG:
        return "not a ledger";
    case -EPROTONOSUPPORT:
        return "written by another version";
    case -EBADMSG:
        return "damaged or cut off";
    case -ELOOP:
        return "a symbolic link";
    case -EINVAL:
        return "no regular file";
    case -EPERM:
        return "of another user";
    case -EFBIG:
        return "too long";
    default:
        return log_errno_text(error);
    }
}

static bool is_zero(const uint8_t *id)
{
    static const uint8_t zero[16];

    return memcmp(id, zero, sizeof(zero)) == 0;
}

static bool is_of_other_machine(const struct ledger_store *store, const struct ledger_image *image)
{
    const uint8_t *theirs = image->head->identity.machine, *ours = store->identity.machine;

    return !is_zero(theirs) && !is_zero(ours) && memcmp(theirs, ours, 16) != 0;
}

static bool is_of_this_boot(const struct ledger_store *store, const struct ledger_image *image)
{
    return !is_zero(store->identity.boot) &&
           memcmp(store->identity.boot, image->head->identity.boot, 16) == 0;
}

/* @return 0, also when there is nothing to be used; -ENOMEM */
static int read_candidate(const struct ledger_store *store, bool is_runtime,
                          struct candidate *candidate)
{
    void *image;
    size_t size;
    int r = read_state_file(candidate->path, is_runtime ? IMAGE_FILE_MAX : IMAGE_MAX,
                            &candidate->bytes, &size);

    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r == -ENOMEM)
        return r;
    image = candidate->bytes;
    if (r == 0 && is_runtime)
        r = image_file_parse(candidate->bytes, size, 0, &image, &size);
    if (r == 0)
        r = ledger_image_parse(image, size, &candidate->image);
    if (r < 0)
        reject(candidate, problem_text(r));
    else if (is_of_other_machine(store, &candidate->image))
        reject(candidate, "of another machine");
    else if (is_runtime && !is_of_this_boot(store, &candidate->image))
        drop(candidate); /* of an earlier boot: only the checkpoint survives the host */
    return 0;
}

static struct candidate *newer(struct candidate *a, struct candidate *b)
{
    if (!a->bytes || !b->bytes)
        return a->bytes ? a : b;
    return a->image.head->sequence >= b->image.head->sequence ? a : b;
}

static void log_loaded(const struct candidate *candidate)
{
    const struct image_head *head = candidate->image.head;

    if (head->flags & LEDGER_IMAGE_RESERVE)
        log_warning("the ledger was not saved at the end: its totals continue with a reserve of up "
                    "to a minute's energy, so that no counter falls",
                    F_STRING("file", candidate->path), F_UINT("sequence", head->sequence),
                    F_UINT("vms", head->n_rows - 1));
    else
        log_info("the ledger continues", F_STRING("file", candidate->path),
                 F_UINT("sequence", head->sequence), F_UINT("vms", head->n_rows - 1));
}

static int restore(struct ledger_store *store, struct ledger *ledger, const char *source,
                   const struct zone_set *zones, uint64_t now, const struct candidate *candidate,
                   struct sampler *sampler, uint64_t *ret_time_ns)
{
    int r = ledger_restore(ledger, &candidate->image, now);

    if (r < 0)
        return r;
    log_loaded(candidate);
    store->sequence = candidate->image.head->sequence;
    if (is_of_this_boot(store, &candidate->image) && candidate->image.head->time_ns <= now) {
        ledger_image_readings(&candidate->image, source, zones, now, sampler);
        *ret_time_ns = candidate->image.head->time_ns;
    }
    return 0;
}

int ledger_store_load(struct ledger_store *store, struct ledger *ledger, const char *source,
                      const struct zone_set *zones, uint64_t now, struct sampler *sampler,
                      uint64_t *ret_time_ns)
{
    struct candidate runtime = {.path = store->runtime.path};
    struct candidate checkpoint = {.path = store->checkpoint.path};
    struct candidate *best;
    int r = read_candidate(store, true, &runtime);

    *ret_time_ns = 0;
    if (r == 0)
        r = read_candidate(store, false, &checkpoint);
    while (r == 0 && (best = newer(&runtime, &checkpoint))->bytes) {
        r = restore(store, ledger, source, zones, now, best, sampler, ret_time_ns);
        if (r != -EBADMSG)
            break;
        reject(best, problem_text(r));
        r = 0;
    }
    drop(&runtime);
    drop(&checkpoint);
    return r;
}

/* Saving. */

/* Notes the result of an attempt; logs a change. */
static void note_result(struct target *target, int r, uint64_t now, const char *consequence)
{
    if (r == 0) {
        if (target->error)
            log_info("the ledger is written again", F_STRING("file", target->path));
        target->error = 0;
        backoff_reset(&target->backoff);
        return;
    }
    if (r != target->error)
        log_warning("the ledger cannot be written, it is tried again",
                    F_STRING("file", target->path), F_ERROR(r),
                    F_STRING("consequence", consequence));
    target->error = r;
    backoff_failed(&target->backoff, now);
}

static void write_runtime(struct ledger_store *store, uint64_t now)
{
    int r;

    if (!backoff_is_due(&store->runtime.backoff, now))
        return;
    r = image_file_write(store->file, store->image.bytes, store->image.size);
    if (r == -ENOENT && make_directories(store->runtime_dir, 0755) == 0)
        r = image_file_write(store->file, store->image.bytes, store->image.size);
    note_result(&store->runtime, r, now,
                "a daemon that is killed continues from the last checkpoint");
}

static void collect_checkpoint(struct ledger_store *store, uint64_t now)
{
    int r = -ETIMEDOUT;

    if (!store->writing)
        return;
    store->writing = !ledger_writer_wait(store->writer, 0, &r);
    if (store->writing && now < store->submitted_ns + WRITE_MAX_NS)
        return;
    note_result(&store->checkpoint, r, now,
                "after a reboot totals continue from the checkpoint before, or from zero");
    if (r == 0) {
        struct buffer older = store->durable;

        store->checkpoint_due_ns = now + LEDGER_CHECKPOINT_NS;
        store->durable = store->submitted;
        store->submitted = older;
    }
}

/* The view of the image in a buffer; NULL: there is none. */
static struct ledger_image *view(const struct buffer *buffer, struct ledger_image *ret)
{
    if (!buffer->size)
        return NULL;
    *ret = ledger_image_view(buffer->bytes);
    return ret;
}

static bool is_checkpoint_due(const struct ledger_store *store, const struct ledger_image *image,
                              const struct ledger_image *before, const struct ledger_image *durable,
                              uint64_t now)
{
    if (store->checkpoint.error)
        return backoff_is_due(&store->checkpoint.backoff, now);
    return now >= store->checkpoint_due_ns || !durable ||
           !ledger_reserve_covers(durable, image, before);
}

static void submit_checkpoint(struct ledger_store *store, uint64_t now)
{
    struct ledger_image views[3];
    const struct ledger_image *image = view(&store->image, &views[0]);
    const struct ledger_image *before = view(&store->before, &views[1]);
    const struct ledger_image *durable = view(&store->durable, &views[2]);

    if (store->writing || !is_checkpoint_due(store, image, before, durable, now))
        return;
    if (ledger_reserve_add(image, before, durable, &store->submitted) < 0)
        return;
    store->writing = true;
    store->submitted_ns = now;
    ledger_writer_submit(store->writer, store->submitted.bytes, store->submitted.size);
}

int ledger_store_save(struct ledger_store *store, const struct ledger *ledger,
                      const struct sampler *sampler, uint64_t time_ns)
{
    const struct ledger_stamp stamp = {store->sequence + 1, time_ns, store->identity};
    struct buffer image = store->before;
    bool is_tick =
        !store->image.size || ledger_image_view(store->image.bytes).head->time_ns != time_ns;
    int r;

    /* Between ticks the last image is replaced: the one before stays an interval older. */
    r = ledger_save(ledger, sampler, &stamp, is_tick ? &image : &store->image);
    if (r < 0)
        return r;
    if (is_tick) {
        store->before = store->image;
        store->image = image;
    }
    store->sequence = stamp.sequence;
    write_runtime(store, time_ns);
    collect_checkpoint(store, time_ns);
    submit_checkpoint(store, time_ns);
    return 0;
}

/* The daemon stops: the totals are final until it starts again. */
static void write_last_checkpoint(struct ledger_store *store)
{
    int r = 0;

    if (store->writing)
        store->writing = !ledger_writer_wait(store->writer, WRITE_MAX_NS, &r);
    if (!store->writing) {
        ledger_writer_submit(store->writer, store->image.bytes, store->image.size);
        store->writing = !ledger_writer_wait(store->writer, WRITE_MAX_NS, &r);
    }
    if (store->writing)
        r = -ETIMEDOUT;
    if (r < 0)
        log_error("the ledger cannot be written, after a reboot totals continue from an older one",
                  F_STRING("file", store->checkpoint.path), F_ERROR(r));
}

struct ledger_store *ledger_store_free(struct ledger_store *store)
{
    if (!store)
        return NULL;
    if (store->image.size)
        write_last_checkpoint(store);
    image_file_free(store->file);
    /* A thread that still waits for the disk goes on reading the image that it writes. */
    if (!store->writing) {
        ledger_writer_free(store->writer);
        buffer_deinit(&store->image);
        buffer_deinit(&store->submitted);
    }
    buffer_deinit(&store->before);
    buffer_deinit(&store->durable);
    free(store->runtime_dir);
    free(store);
    return NULL;
}
