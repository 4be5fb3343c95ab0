/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/usage_store.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "usage/usage_state.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/image_file.h"
#include "util/log.h"

struct usage_store {
    char path[PATH_MAX];
    struct image_file *file;
    struct buffer state; /* of the last interval */
    char *former;        /* the file's content, until the first save */
    int error;           /* of the last attempt, as logged; 0: it succeeded */
};

DEFINE_CLEANUP(struct usage_store *, usage_store_free);

int usage_store_new(struct usage_store **ret, const char *runtime_dir)
{
    _cleanup_(cleanup_usage_store_free) struct usage_store *store = calloc(1, sizeof(*store));
    int r;

    if (!store)
        return -ENOMEM;
    snprintf(store->path, sizeof(store->path), "%s/usage", runtime_dir);
    r = image_file_new(&store->file, store->path);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(store);
    return 0;
}

struct usage_store *usage_store_free(struct usage_store *store)
{
    if (!store)
        return NULL;
    image_file_free(store->file);
    buffer_deinit(&store->state);
    free(store->former);
    free(store);
    return NULL;
}

void usage_store_load(struct usage_store *store, uint64_t time_ns, struct usage_former *ret)
{
    size_t size;
    int r = read_state_file(store->path, IMAGE_FILE_MAX, &store->former, &size);

    if (r < 0 && r != -ENOENT)
        log_warning("the former daemon's state of usage counting cannot be read",
                    F_STRING("file", store->path), F_ERROR(r));
    if (r < 0)
        return;
    for (unsigned age = 0; age < IMAGE_FILE_IMAGES; age++) {
        const struct usage_state_head *head;
        void *image;
        size_t image_size;

        if (image_file_parse(store->former, size, age, &image, &image_size) < 0)
            return;
        head = image;
        if (image_size < sizeof(*head) || head->time_ns != time_ns || head->size > image_size)
            continue;
        /* Write it anew, so that the first interval's state does not replace it: the daemon may be
           killed before the ledger has that interval. */
        if (image_file_write(store->file, image, head->size) < 0)
            return;
        ret->state = image;
        ret->state_size = head->size;
        return;
    }
}

static int save(struct usage_store *store, const struct usage_provider *provider, uint64_t time_ns)
{
    int r = usage_state_begin(&store->state, provider->ops->name, time_ns);

    if (r == 0)
        r = provider->ops->save(provider, &store->state);
    if (r < 0)
        return r;
    usage_state_seal(&store->state);
    return image_file_write(store->file, store->state.bytes, store->state.size);
}

void usage_store_save(struct usage_store *store, const struct usage_provider *provider,
                      uint64_t time_ns)
{
    int r = save(store, provider, time_ns);

    free(TAKE_PTR(store->former));
    if (r < 0 && r != store->error)
        log_warning("the state of usage counting cannot be kept: usage while no daemon runs "
                    "is not attributed",
                    F_STRING("file", store->path), F_ERROR(r));
    store->error = r;
}
