/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvirt/energy_metadata.h"

#define UUID "11f0a3d2-4c9e-4a4d-9d5e-0123456789ab"
#define MACHINE "000102030405060708090a0b0c0d0eff"
#define HEAD "<energy version=\"1\" uuid=\"" UUID "\" machine=\"" MACHINE "\""

static int parse(const char *text, struct energy_metadata *ret)
{
    return energy_metadata_parse(text, strlen(text), ret);
}

static void test_there_and_back(void **state)
{
    struct energy_metadata written = {.machine = {1, 2, 255}}, read;
    char text[ENERGY_METADATA_SIZE];

    assert_int_equal(uuid_parse(UUID, written.uuid), 0);
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        if (kind == ZONE_UNCORE)
            continue;
        written.energy.total_uj[kind] = ENERGY_METADATA_MAX_UJ - kind;
        written.energy.bound_uj[kind] = ENERGY_METADATA_MAX_UJ + ENERGY_METADATA_AHEAD_MAX_UJ / 2;
    }
    energy_metadata_format(&written, text);
    assert_true(strlen(text) < ENERGY_METADATA_SIZE - 1); /* whole at its longest */
    assert_int_equal(parse(text, &read), 0);
    assert_memory_equal(&read, &written, sizeof(read));
}

/* As libvirt 9.0 gives it back: quotes and order are its own. */
static void test_as_libvirt_prints(void **state)
{
    struct energy_metadata read;

    assert_int_equal(parse("<energy version='1' uuid='" UUID "' machine='" MACHINE
                           "' package='5 7' dram='0 9' later='what=\"ever\"'/>\n",
                           &read),
                     0);
    assert_int_equal(read.energy.total_uj[ZONE_PACKAGE], 5);
    assert_int_equal(read.energy.bound_uj[ZONE_PACKAGE], 7);
    assert_int_equal(read.energy.bound_uj[ZONE_DRAM], 9);
    assert_int_equal(read.energy.bound_uj[ZONE_CORE], 0);
    assert_int_equal(read.machine[15], 0xff);
    assert_int_equal(parse("  <energy\n version=\"1\"\tuuid=\"" UUID "\"></energy>", &read), 0);
    assert_int_equal(read.machine[15], 0);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"", -EBADMSG},
        {"<energy", -EBADMSG},
        {"<energy/>", -EBADMSG},
        {"<energies version=\"1\"/>", -EBADMSG},
        {HEAD, -EBADMSG},
        {HEAD "/", -EBADMSG},
        {HEAD "/>x", -EBADMSG},
        {HEAD "><a/></energy>", -EBADMSG},
        {HEAD "package=\"1 2\"/>", -EBADMSG}, /* no blank before it */
        {HEAD " package/>", -EBADMSG},
        {HEAD " package=1/>", -EBADMSG},
        {HEAD " package=\"1 2'/>", -EBADMSG},
        {HEAD " package=\"1\"/>", -EBADMSG},
        {HEAD " package=\"1 2 \"/>", -EBADMSG},
        {HEAD " package=\"-1 2\"/>", -EBADMSG},
        {HEAD " package=\"1 0x2\"/>", -EBADMSG},
        {HEAD " package=\"18446744073709551616 18446744073709551616\"/>", -EBADMSG},
        {HEAD " package=\"9223372036854775808 9223372036854775808\"/>", -ERANGE}, /* 2^63 */
        {HEAD " package=\"1152921504606846977 1152921504606846977\"/>", -ERANGE}, /* 2^60 + 1 */
        {HEAD " package=\"2 1\"/>", -ERANGE},
        {HEAD " package=\"0 10000000000001\"/>", -ERANGE},
        {"<energy version=\"1\" package=\"1 2\"/>", -EBADMSG}, /* whose? */
        {"<energy uuid=\"" UUID "\" package=\"1 2\"/>", -EBADMSG},
        {"<energy version=\"2\" uuid=\"" UUID "\"/>", -EPROTONOSUPPORT},
        {"<energy version=\"x\" uuid=\"" UUID "\"/>", -EBADMSG},
        {"<energy version=\"1\" uuid=\"11f0a3d2\"/>", -EBADMSG},
        {"<energy version=\"1\" uuid=\"11f0a3d2-4c9e-4a4d-9d5e-0123456789ag\"/>", -EBADMSG},
        {"<energy version=\"1\" uuid=\"" UUID "\" machine=\"00\"/>", -EBADMSG},
        {"<energy version=\"1\" uuid=\"" UUID "\" machine=\"000102030405060708090a0b0c0d0efg\"/>",
         -EBADMSG},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct energy_metadata read = {.machine = {77}};

        assert_int_equal(parse(cases[i].text, &read), cases[i].error);
        assert_int_equal(read.machine[0], 77);
    }
}

/* Every beginning of a good element is refused, and no byte beyond it is read. */
static void test_cut(void **state)
{
    const char *whole = HEAD " package=\"1 2\"></energy>";

    for (size_t length = 0; length < strlen(whole); length++) {
        struct energy_metadata read;
        char *copy = malloc(length + !length);

        assert_non_null(copy);
        memcpy(copy, whole, length);
        assert_int_equal(energy_metadata_parse(copy, length, &read), -EBADMSG);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_as_libvirt_prints),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
