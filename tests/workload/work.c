/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "util/cleanup.h"
#include "util/parse.h"

static const struct {
    enum work_kind kind;
    const char *prefix;
    uint64_t max;
} kinds[] = {
    {WORK_CPU, "/cpu?iters=", WORK_ITERS_MAX},     {WORK_JSON, "/json?items=", WORK_ITEMS_MAX},
    {WORK_COMPRESS, "/compress?kb=", WORK_KB_MAX}, {WORK_FILE, "/file?kb=", WORK_KB_MAX},
    {WORK_POST, "/post?kb=", WORK_KB_MAX},
};

int work_parse(struct slice target, struct work *ret)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t length = strlen(kinds[i].prefix);
        uint64_t n;
        int r;

        if (target.length < length || memcmp(target.text, kinds[i].prefix, length) != 0)
            continue;
        r = parse_u64(target.text + length, target.length - length, &n);
        if (r < 0)
            return r;
        if (n > kinds[i].max)
            return -ERANGE;
        *ret = (struct work){kinds[i].kind, n};
        return 0;
    }
    return -ENOENT;
}

/* Each round needs the one before: no compiler and no CPU can shorten it (splitmix64). */
static uint64_t spin(uint64_t iters)
{
    uint64_t state = iters;

    for (uint64_t i = 0; i < iters; i++) {
        state += UINT64_C(0x9e3779b97f4a7c15);
        state = (state ^ state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        state = (state ^ state >> 27) * UINT64_C(0x94d049bb133111eb);
        state ^= state >> 31;
    }
    return state;
}

static int print_items(uint64_t n, char **ret)
{
    struct json_object *array = json_object_new_array();

    if (!array)
        return -ENOMEM;
    for (uint64_t i = 0; i < n; i++) {
        struct json_object *item = json_object_new_object();
        char name[32];

        snprintf(name, sizeof(name), "item %" PRIu64, i);
        json_object_object_add(item, "id", json_object_new_uint64(i));
        json_object_object_add(item, "name", json_object_new_string(name));
        json_object_object_add(item, "value", json_object_new_uint64(spin(i & 7)));
        json_object_array_add(array, item);
    }
    *ret = strdup(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PLAIN));
    json_object_put(array);
    return *ret ? 0 : -ENOMEM;
}

static int compress_text(uint64_t kb, char **ret)
{
    size_t length = kb * 1024;
    uLongf packed_length = compressBound(length);
    _cleanup_free_ unsigned char *text = malloc(length + 1), *packed = malloc(packed_length);

    if (!text || !packed)
        return -ENOMEM;
    for (size_t i = 0; i < length; i++)
        text[i] = (unsigned char)("energy per request "[i % 19] + (i * i >> 13) % 7);
    if (compress2(packed, &packed_length, text, length, Z_DEFAULT_COMPRESSION) != Z_OK)
        return -ENOMEM;
    return asprintf(ret, "%lu\n", packed_length) < 0 ? -ENOMEM : 0;
}

int work_do(const struct work *work, char **ret, size_t *ret_length)
{
    int r = 0;

    switch (work->kind) {
    case WORK_CPU:
        r = asprintf(ret, "%016" PRIx64 "\n", spin(work->n)) < 0 ? -ENOMEM : 0;
        break;
    case WORK_JSON:
        r = print_items(work->n, ret);
        break;
    case WORK_COMPRESS:
        r = compress_text(work->n, ret);
        break;
    default:
        return -EINVAL;
    }
    if (r == 0)
        *ret_length = strlen(*ret);
    return r;
}

uint64_t work_sum(uint64_t sum, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return sum;
}

int work_file_open(void)
{
    _cleanup_close_ int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    /* Holes read as zeros and cost no disk. */
    if (fd < 0 || ftruncate(fd, (off_t)WORK_KB_MAX * 1024) < 0)
        return -errno;
    return TAKE_FD(fd);
}
