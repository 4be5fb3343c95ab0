/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/domain_virtiofs.h"

#define SHARE                                                                                      \
    "<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/>"                  \
    "<binary path='/usr/lib/qemu/virtiofsd'><cache mode='none'/></binary>"                         \
    "<source dir='/run/virtjoule/vms/u'/><target dir='virtjoule'/></filesystem>"
#define P9 "<filesystem><source dir='/srv'/><target dir='virtjoule'/></filesystem>"
#define DOMAIN(backing, devices)                                                                   \
    "<domain type='kvm'>" backing "<devices>" devices "</devices></domain>"
#define SHARED "<memoryBacking><access mode='shared'/></memoryBacking>"
#define CELL(access) "<cell id='0' cpus='0' memory='1' unit='GiB'" access "/>"
#define NUMA(cells) "<cpu><numa>" cells "</numa></cpu>"

static int parse(const char *xml, struct domain_virtiofs *ret)
{
    return domain_virtiofs_parse(xml, strlen(xml), ret);
}

static void test_share(void **state)
{
    struct domain_virtiofs share;

    assert_int_equal(parse(DOMAIN(SHARED, P9 SHARE), &share), 0);
    assert_true(share.shared_memory);
    assert_int_equal(share.n_devices, 1);
    assert_string_equal(share.devices[0].source, "/run/virtjoule/vms/u");
    assert_string_equal(share.devices[0].tag, "virtjoule");
    assert_string_equal(share.devices[0].cache, "none");
    assert_string_equal(share.devices[0].binary, "/usr/lib/qemu/virtiofsd");
}

static void test_what_is_missing_is_empty(void **state)
{
    struct domain_virtiofs share;

    assert_int_equal(
        parse(DOMAIN("", "<filesystem><driver type='virtiofs'/></filesystem>"), &share), 0);
    assert_false(share.shared_memory);
    assert_int_equal(share.n_devices, 1);
    assert_string_equal(share.devices[0].source, "");
    assert_string_equal(share.devices[0].tag, "");
    assert_string_equal(share.devices[0].cache, "");
    assert_string_equal(share.devices[0].binary, "");
}

static void test_shared_memory(void **state)
{
    static const struct {
        const char *xml;
        bool shared;
    } cases[] = {
        {DOMAIN("", ""), false},
        {DOMAIN(SHARED, ""), true},
        {DOMAIN("<memoryBacking><access mode='private'/></memoryBacking>", ""), false},
        {DOMAIN("<memoryBacking><source type='memfd'/></memoryBacking>", ""), false},
        {DOMAIN(NUMA(CELL(" memAccess='shared'")), ""), true},
        {DOMAIN(NUMA(CELL(" memAccess='shared'") CELL("")), ""), false},
        {DOMAIN(SHARED NUMA(CELL(" memAccess='shared'") CELL("")), ""), true},
        {DOMAIN(SHARED NUMA(CELL(" memAccess='private'") CELL("")), ""), false},
        {DOMAIN(NUMA(""), ""), false},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct domain_virtiofs share;

        assert_int_equal(parse(cases[i].xml, &share), 0);
        assert_int_equal(share.shared_memory, cases[i].shared);
    }
}

static void test_many_devices(void **state)
{
    struct domain_virtiofs share;
    char *xml;
    size_t length;
    FILE *stream = open_memstream(&xml, &length);

    assert_non_null(stream);
    fputs("<domain><devices>", stream);
    for (unsigned i = 0; i < VIRTIOFS_DEVICES_MAX + 1; i++)
        fputs(SHARE, stream);
    fputs("</devices></domain>", stream);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(domain_virtiofs_parse(xml, length, &share), 0);
    assert_int_equal(share.n_devices, VIRTIOFS_DEVICES_MAX);
    free(xml);
}

static void test_long_texts_are_cut(void **state)
{
    struct domain_virtiofs share;
    char xml[4096], path[1024];

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    snprintf(xml, sizeof(xml),
             DOMAIN("", "<filesystem><driver type='virtiofs'/><source dir='%s'/>"
                        "<target dir='%s'/></filesystem>"),
             path, path);
    assert_int_equal(parse(xml, &share), 0);
    assert_int_equal(strlen(share.devices[0].source), VIRTIOFS_PATH_SIZE - 1);
    assert_int_equal(strlen(share.devices[0].tag), VIRTIOFS_WORD_SIZE - 1);
}

/* No file is read through an entity, and none is expanded without end. */
static void test_entities(void **state)
{
    struct domain_virtiofs share;

    assert_int_equal(
        parse("<!DOCTYPE domain [<!ENTITY file SYSTEM 'file:///etc/passwd'>]>"
              "<domain><devices><filesystem><driver type='virtiofs'/><source>&file;</source>"
              "</filesystem></devices></domain>",
              &share),
        0);
    assert_string_equal(share.devices[0].source, "");
}

static void test_bad_input(void **state)
{
    static const char *const cases[] = {
        "",     " ", "domain", "<domain>", "<pool/>", "<domain></pool>", "<domain a='1' a='2'/>",
        "\xff",
    };
    struct domain_virtiofs share;

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(parse(cases[i], &share), -EBADMSG);
    /* Cut at any byte. */
    for (size_t length = 0; length < strlen(DOMAIN(SHARED, SHARE)); length++)
        assert_int_equal(domain_virtiofs_parse(DOMAIN(SHARED, SHARE), length, &share), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),         cmocka_unit_test(test_what_is_missing_is_empty),
        cmocka_unit_test(test_shared_memory), cmocka_unit_test(test_many_devices),
        cmocka_unit_test(test_entities),      cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
