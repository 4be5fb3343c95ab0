/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The ledger's files: what is accepted can be continued from, and is saved as it was. */

#include "fuzz.h"

#include <string.h>

#include "ledger/ledger.h"
#include "util/image_file.h"

static struct ledger *new_ledger(void)
{
    const struct ledger_config config = {.source = "rapl"};
    struct ledger *ledger;

    require(ledger_new(&ledger, &config) == 0);
    return ledger;
}

static void try_image(void *bytes, size_t size)
{
    const struct sampler sampler = {0};
    struct buffer saved = {0};
    struct ledger_image image, again;
    struct ledger *ledger;

    if (ledger_image_parse(bytes, size, &image) < 0)
        return;
    ledger = new_ledger();
    if (ledger_restore(ledger, &image, 0) == 0) {
        require(ledger_save(ledger, &sampler, &(struct ledger_stamp){0}, &saved) == 0);
        require(ledger_image_parse(saved.bytes, saved.size, &again) == 0);
        require(saved.size == size && again.head->last_id == image.head->last_id);
    }
    buffer_deinit(&saved);
    ledger_free(ledger);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_head *head = malloc(size ? size : 1);
    void *image;
    size_t image_size;

    require(head != NULL);
    memcpy(head, data, size);
    if (image_file_parse(head, size, 0, &image, &image_size) == 0) {
        require((char *)image + image_size <= (char *)head + size);
        try_image(image, image_size);
    }
    try_image(head, size);
    /* No checksum keeps the rest of the parser from being tried. */
    if (size >= sizeof(*head)) {
        memcpy(head->magic, "vjledger", sizeof(head->magic));
        head->version = LEDGER_IMAGE_VERSION;
        head->zero = 0;
        head->size = size;
        ledger_image_seal(head);
        try_image(head, size);
    }
    free(head);
    return 0;
}
