/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "util/utf8.h"

static void test_character_length(void **state)
{
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\xc3\xa9", 2},
        {"\xe2\x82\xac", 3},
        {"\xf0\x9f\x98\x80z", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"", 0},
        {"\x80", 0},             /* continuation first */
        {"\xc3", 0},             /* cut */
        {"\xc3z", 0},            /* no continuation */
        {"\xe2\x82", 0},         /* cut */
        {"\xc0\xaf", 0},         /* overlong '/' */
        {"\xe0\x80\xaf", 0},     /* overlong '/' */
        {"\xf0\x80\x80\xaf", 0}, /* overlong '/' */
        {"\xed\xa0\x80", 0},     /* surrogate */
        {"\xf4\x90\x80\x80", 0}, /* above U+10FFFF */
        {"\xf8\x88\x80\x80\x80", 0},
        {"\xff", 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(utf8_character_length(cases[i].text, strlen(cases[i].text)),
                         cases[i].length);
    /* The length given bounds, not the NUL. */
    assert_int_equal(utf8_character_length("\xe2\x82\xac", 2), 0);
    assert_int_equal(utf8_character_length("", 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_character_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
