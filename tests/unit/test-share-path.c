/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "cli/share_path.h"

#define UUID "d2b1f6a0-0c57-4a3e-9a0e-0123456789ab"

static void test_found(void **state)
{
    static const char *const texts[] = {
        "<domain><name>a</name><uuid>" UUID "</uuid><source dir='/vms/" UUID "'/>",
        /* other quotes, cut short behind */
        "<uuid>" UUID "</uuid>garbage<<<\xff<source dir=\"/vms/" UUID "\"",
        /* another use of the UUID before */
        "<uuid>" UUID "</uuid><log file='/" UUID ".log'/><source dir='/vms/" UUID "'/>",
    };
    char uuid[UUID_TEXT_LENGTH + 1];

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        memset(uuid, 'x', sizeof(uuid));
        assert_true(find_share_uuid(texts[i], strlen(texts[i]), "/vms", uuid));
        assert_string_equal(uuid, UUID);
    }
}

static void test_not_found(void **state)
{
    static const char *const texts[] = {
        "",
        "<uuid>",
        "<uuid>" UUID,
        "<uuid>" UUID "</uuid>",
        "<uuid>not-a-uuid-but-as-long-as-one-is-here</uuid>",
        "<uuid>d2b1f6a0+0c57-4a3e-9a0e-0123456789ab</uuid><source dir='/vms/" UUID "'/>",
        /* another's directory, one within it, another element's text, and its end */
        "<uuid>" UUID "</uuid><source dir='/vms/d2b1f6a0-0c57-4a3e-9a0e-0123456789ac'/>",
        "<uuid>" UUID "</uuid><source dir='/vms/" UUID "/class'/>",
        "<uuid>" UUID "</uuid><source dir='x" UUID "'/>",
        "<uuid>" UUID "</uuid><source dir='/vms/" UUID,
        "<source dir='/vms/" UUID "'/>",
        /* another mount point, one below another directory, quotes that do not match */
        "<uuid>" UUID "</uuid><source dir='/srv/" UUID "'/>",
        "<uuid>" UUID "</uuid><source dir='/a/vms/" UUID "'/>",
        "<uuid>" UUID "</uuid><source dir='/vms/../vms/" UUID "'/>",
        "<uuid>" UUID "</uuid><source dir=\"/vms/" UUID "'/>",
    };
    char uuid[UUID_TEXT_LENGTH + 1];

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        /* Exactly as long as the text, for valgrind and the sanitizers. */
        size_t length = strlen(texts[i]);
        char *copy = malloc(length + 1);

        memcpy(copy, texts[i], length);
        if (find_share_uuid(copy, length, "/vms", uuid))
            fail_msg("found in %s", texts[i]);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
