/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvirt/domain_xml.h"
#include "util/file.h"
#include "util/xml.h"

#define UUID "0a6f2c1e-7d52-4c56-9b1e-5a3f0e7d0001"
#define DIRECTORY "/run/virtjoule/vms/" UUID

static const struct domain_share share = {DIRECTORY, "/usr/lib/qemu/virtiofsd"};

static const char *const files[] = {
    "libvirt-anonymous",
    "libvirt-file-backed",
    "libvirt-filesystems",
    "libvirt-memory-hotplug",
    "libvirt-minimal",
    "libvirt-numa-hugepages",
    "libvirt-numa-private",
    "nova-instance",
    "nova-numa",
    "terraform",
    "virt-manager-linux",
    "virt-manager-windows",
};

static char *read_domain(const char *name)
{
    char path[512], *text = NULL;
    size_t length;

    snprintf(path, sizeof(path), SOURCE_ROOT "/tests/data/domains/%s.xml", name);
    if (read_file_full(AT_FDCWD, path, 65536, &text, &length) < 0)
        fail_msg("%s", path);
    return text;
}

static int attach(const char *xml, char **ret)
{
    const char *problem;

    return domain_xml_attach(xml, strlen(xml), &share, ret, &problem);
}

static int detach(const char *xml, char **ret)
{
    const char *problem;

    return domain_xml_detach(xml, strlen(xml), ret, &problem);
}

static int look(const char *xml, struct domain_virtiofs *ret)
{
    return domain_xml_read(xml, strlen(xml), ret);
}

/* The text is the domain's, whatever its layout. */
static bool is_same(const char *text, const char *xml)
{
    char *canonical = domain_xml_canonical(xml, strlen(xml));
    bool same = canonical && strcmp(text, canonical) == 0;

    free(canonical);
    return same;
}

/* Attached, the domain has all; detached, it is as it was; and neither changes anything twice. */
static void check_there_and_back(const char *xml, const char *name)
{
    char *attached = NULL, *detached = NULL, *again = NULL;
    struct domain_virtiofs state = {0};

    if (attach(xml, &attached) != DOMAIN_XML_CHANGED)
        fail_msg("%s: not attached", name);
    if (look(attached, &state) < 0 || !state.has_share || !state.shared_memory)
        fail_msg("%s: something is missing:\n%s", name, attached);
    assert_int_equal(attach(attached, &again), DOMAIN_XML_UNCHANGED);
    assert_int_equal(detach(attached, &detached), DOMAIN_XML_CHANGED);
    if (!is_same(detached, xml))
        fail_msg("%s: not as before:\n%s", name, detached);
    assert_int_equal(detach(detached, &again), DOMAIN_XML_UNCHANGED);
    assert_null(again);
    free(attached);
    free(detached);
}

static void test_files(void **state)
{
    for (size_t i = 0; i < ELEMENTS(files); i++) {
        char *xml = read_domain(files[i]);

        check_there_and_back(xml, files[i]);
        free(xml);
    }
}

#define DOMAIN(backing, more)                                                                      \
    "<domain type='kvm'>\n"                                                                        \
    "  <memory>1</memory>\n" backing "  <devices>\n"                                               \
    "    <emulator>/usr/bin/kvm</emulator>\n" more "  </devices>\n"                                \
    "</domain>\n"
#define BACKING(children) "  <memoryBacking>\n" children "  </memoryBacking>\n"

static void test_text(void **state)
{
    char *attached;

    assert_int_equal(attach(DOMAIN("", ""), &attached), DOMAIN_XML_CHANGED);
    assert_string_equal(
        attached,
        "<domain type=\"kvm\">\n"
        "  <metadata>\n"
        "    <virtjoule:share xmlns:virtjoule=\"urn:virtjoule:share:1\" backing=\"added\" "
        "source=\"added\" access=\"added\" ports=\"0\" device=\"added\" metadata=\"added\"/>\n"
        "  </metadata>\n"
        "  <memory>1</memory>\n"
        "  <memoryBacking>\n"
        "    <source type=\"memfd\"/>\n"
        "    <access mode=\"shared\"/>\n"
        "  </memoryBacking>\n"
        "  <devices>\n"
        "    <emulator>/usr/bin/kvm</emulator>\n"
        "    <filesystem type=\"mount\" accessmode=\"passthrough\">\n"
        "      <driver type=\"virtiofs\"/>\n"
        "      <binary path=\"/usr/lib/qemu/virtiofsd\">\n"
        "        <cache mode=\"none\"/>\n"
        "      </binary>\n"
        "      <source dir=\"" DIRECTORY "\"/>\n"
        "      <target dir=\"virtjoule\"/>\n"
        "    </filesystem>\n"
        "  </devices>\n"
        "</domain>\n");
    free(attached);
}

/* Which memory becomes what. */
static void test_memory(void **state)
{
    static const struct {
        const char *xml;
        const char *has, *lacks;
    } cases[] = {
        {DOMAIN(BACKING("    <source type='file'/>\n"), ""), "type=\"file\"", "memfd"},
        {DOMAIN(BACKING("    <access mode='shared'/>\n"), ""), "record", "memfd"},
        {DOMAIN(BACKING("    <hugepages/>\n"), ""), "mode=\"shared\"", "memfd"},
        {DOMAIN(BACKING("    <source type='anonymous'/>\n"), ""), "memfd", "type=\"anonymous\""},
        {DOMAIN(BACKING("    <source type='anonymous'/>\n    <access mode='shared'/>\n"), ""),
         "memfd", "type=\"anonymous\""},
        {DOMAIN(BACKING("    <locked/>\n"), ""), "<locked/>\n    <source", "private"},
        {DOMAIN("  <cpu>\n    <numa>\n      <cell id='0' memAccess='shared'/>\n    </numa>\n  "
                "</cpu>\n",
                ""),
         "memAccess=\"shared\"", "memfd"},
        {DOMAIN("  <cpu>\n    <numa>\n      <cell id='7' memAccess='private'/>\n    </numa>\n  "
                "</cpu>\n",
                ""),
         "cells=\"7,\"", "mode=\"shared\""},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char *attached = NULL;

        check_there_and_back(cases[i].xml, cases[i].xml);
        assert_int_equal(attach(cases[i].xml, &attached), DOMAIN_XML_CHANGED);
        if ((strcmp(cases[i].has, "record") != 0 && !strstr(attached, cases[i].has)) ||
            strstr(attached, cases[i].lacks))
            fail_msg("case %zu:\n%s", i, attached);
        free(attached);
    }
}

/* What others put into a domain stays: name spaces of their own, comments, mixed text. */
static void test_foreign(void **state)
{
    static const char xml[] =
        "<?xml version='1.0'?>\n"
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"
        "  <metadata><x:y xmlns:x='urn:x'>some <x:b>mixed</x:b>&#10; text <![CDATA[<&>]]></x:y>"
        "</metadata>\n"
        "  <!-- a comment -->\n"
        "  <memory>1</memory>\n"
        "  <devices><emulator>/usr/bin/kvm</emulator><!-- another --></devices>\n"
        "  <qemu:commandline>\n    <qemu:arg value='-d&quot;\xc3\xa4'/>\n  </qemu:commandline>\n"
        "</domain>\n";
    static const char *const parts[] = {
        "xmlns:qemu=\"http://libvirt.org/schemas/domain/qemu/1.0\"",
        "    <x:y xmlns:x=\"urn:x\">some <x:b>mixed</x:b>\n text <![CDATA[<&>]]></x:y>\n",
        "  <!-- a comment -->\n  <memory>",
        "<!-- another -->",
        "  <qemu:commandline>\n    <qemu:arg value=\"-d&quot;\xc3\xa4\"/>\n",
    };
    char *attached = NULL;

    check_there_and_back(xml, "foreign");
    assert_int_equal(attach(xml, &attached), DOMAIN_XML_CHANGED);
    for (size_t i = 0; i < ELEMENTS(parts); i++)
        if (!strstr(attached, parts[i]))
            fail_msg("part %zu is lost:\n%s", i, attached);
    free(attached);
}

static const char *replace(const char *text, const char *from, const char *to)
{
    static char buffer[16384];
    const char *found = strstr(text, from);

    assert_non_null(found);
    snprintf(buffer, sizeof(buffer), "%.*s%s%s", (int)(found - text), text, to,
             found + strlen(from));
    return buffer;
}

/* What the operator did after the attach stays. */
static void test_later_changes_stay(void **state)
{
    static const struct {
        const char *from, *to;  /* the operator's change */
        const char *back, *was; /* the same of the domain before the attach */
    } cases[] = {
        {"<memory>1<", "<memory>2<", "<memory>1<", "<memory>2<"},
        {"    <access", "    <locked/>\n    <access", "  <devices>",
         "  <memoryBacking>\n    <locked/>\n  </memoryBacking>\n  <devices>"},
        {"type=\"memfd\"", "type='file'", "  <devices>",
         "  <memoryBacking>\n    <source type='file'/>\n  </memoryBacking>\n  <devices>"},
        {"  </metadata>", "    <x:y xmlns:x='urn:x'/>\n  </metadata>", "  <memory>",
         "  <metadata>\n    <x:y xmlns:x='urn:x'/>\n  </metadata>\n  <memory>"},
        {"    <filesystem", "    <controller type='usb'/>\n    <filesystem", "  </devices>",
         "    <controller type='usb'/>\n  </devices>"},
        /* another device that cannot be without shared memory */
        {"    <filesystem", "    <interface type='vhostuser'/>\n    <filesystem",
         "  <devices>\n    <emulator>/usr/bin/kvm</emulator>\n",
         "  <memoryBacking>\n    <source type='memfd'/>\n    <access mode='shared'/>\n  "
         "</memoryBacking>\n  <devices>\n    <emulator>/usr/bin/kvm</emulator>\n    <interface "
         "type='vhostuser'/>\n"},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char *attached = NULL, *detached = NULL;

        assert_int_equal(attach(DOMAIN("", ""), &attached), DOMAIN_XML_CHANGED);
        assert_int_equal(detach(replace(attached, cases[i].from, cases[i].to), &detached),
                         DOMAIN_XML_CHANGED);
        assert_true(is_same(detached, replace(DOMAIN("", ""), cases[i].back, cases[i].was)));
        free(attached);
        free(detached);
    }
}

#define PORT(index) "    <controller type=\"pci\" index=\"" index "\" model=\"pcie-root-port\"/>\n"
#define ON_BUS(bus) "      <address type='pci' bus='" bus "'/>\n    </filesystem>"

/* The port that libvirt adds for the device goes with it, and no other. */
static void test_ports(void **state)
{
    static const char with_one[] = DOMAIN("", PORT("3"));
    char *attached = NULL, *detached = NULL, *text;

    assert_int_equal(attach(with_one, &attached), DOMAIN_XML_CHANGED);
    text = strdup(replace(attached, "  </filesystem>", "  " ON_BUS("0x04")));
    assert_int_equal(detach(replace(text, PORT("3"), PORT("3") PORT("4")), &detached),
                     DOMAIN_XML_CHANGED);
    assert_true(is_same(detached, with_one));
    free(detached);
    /* with something else on it; and one that was there before */
    assert_int_equal(detach(replace(text, PORT("3"),
                                    PORT("3") PORT("4") "<hostdev><address type='pci' "
                                                        "bus='0x04'/></hostdev>\n"),
                            &detached),
                     DOMAIN_XML_CHANGED);
    assert_non_null(strstr(detached, PORT("4")));
    free(detached);
    free(text);
    assert_int_equal(detach(replace(attached, "  </filesystem>", "  " ON_BUS("0x03")), &detached),
                     DOMAIN_XML_CHANGED);
    assert_true(is_same(detached, with_one));
    free(detached);
    free(attached);
}

/* A clone has the record and the share of its original: only the directory is wrong. */
static void test_clone(void **state)
{
    char *attached = NULL, *clone, *again = NULL, *detached = NULL;

    assert_int_equal(attach(DOMAIN("", ""), &attached), DOMAIN_XML_CHANGED);
    clone = strdup(replace(attached, UUID, "11111111-7d52-4c56-9b1e-5a3f0e7d0001"));
    assert_int_equal(attach(clone, &again), DOMAIN_XML_CHANGED);
    assert_string_equal(again, attached);
    assert_int_equal(detach(clone, &detached), DOMAIN_XML_CHANGED);
    assert_true(is_same(detached, DOMAIN("", "")));
    free(attached);
    free(clone);
    free(again);
    free(detached);
}

#define SHARE(driver, directory)                                                                   \
    "    <filesystem type='mount'>\n      <driver type='" driver                                   \
    "'/>\n      <source dir='" directory                                                           \
    "'/>\n      <target dir='virtjoule'/>\n    </filesystem>\n"

static void test_refusals(void **state)
{
    static const struct {
        const char *xml;
        int attach, detach;
    } cases[] = {
        {"", -EINVAL, -EINVAL},
        {"domain", -EINVAL, -EINVAL},
        {"<domain>", -EINVAL, -EINVAL},
        {"<domain/>", -EINVAL, -EINVAL},
        {"<network><memory/><devices>x</devices></network>", -EINVAL, -EINVAL},
        {"<domain><memory/><devices/></domain>", -EINVAL, -EINVAL},
        {"<!DOCTYPE domain [<!ENTITY a 'b'>]><domain><memory/><devices>&a;</devices></domain>",
         -EINVAL, -EINVAL},
        {"<domain><memory/><devices>\xff</devices></domain>", -EINVAL, -EINVAL},
        /* by hand, and right; with another driver; of another directory */
        {DOMAIN(BACKING("    <access mode='shared'/>\n"), SHARE("virtiofs", DIRECTORY)),
         DOMAIN_XML_UNCHANGED, -ENOENT},
        {DOMAIN("", SHARE("path", DIRECTORY)), -EEXIST, -ENOENT},
        {DOMAIN("", SHARE("virtiofs", "/srv/virtjoule")), -EEXIST, -ENOENT},
        {DOMAIN("", "    <memory model='dimm' access='private'/>\n"), -EBUSY, DOMAIN_XML_UNCHANGED},
        /* encrypted memory, shared or not */
        {DOMAIN("  <launchSecurity type='sev'/>\n", ""), -EBUSY, DOMAIN_XML_UNCHANGED},
        {DOMAIN("  <launchSecurity type='sev-snp' kernelHashes='yes'/>\n", ""), -EBUSY,
         DOMAIN_XML_UNCHANGED},
        {DOMAIN("  <launchSecurity type='tdx'/>\n", ""), -EBUSY, DOMAIN_XML_UNCHANGED},
        {DOMAIN("  <launchSecurity type='s390-pv'/>\n" BACKING("    <access mode='shared'/>\n"),
                ""),
         -EBUSY, DOMAIN_XML_UNCHANGED},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char *text = NULL;
        int attached = attach(cases[i].xml, &text), detached = detach(cases[i].xml, &text);

        if (attached != cases[i].attach || detached != cases[i].detach)
            fail_msg("case %zu: attach %d, detach %d", i, attached, detached);
        assert_null(text);
    }
}

static void test_device(void **state)
{
    const struct domain_share odd = {"/a&b<c'd\"e", NULL};
    char *text = domain_xml_device(&odd), *attached = NULL, *device;
    const char *problem;

    assert_non_null(strstr(text, "<binary>\n"));
    assert_non_null(strstr(text, "dir=\"/a&amp;b&lt;c'd&quot;e\""));
    assert_int_equal(
        domain_xml_attach(DOMAIN("", ""), strlen(DOMAIN("", "")), &odd, &attached, &problem),
        DOMAIN_XML_CHANGED);
    device = domain_xml_share_device(attached, strlen(attached));
    assert_non_null(strstr(device, "&amp;b&lt;"));
    assert_null(domain_xml_share_device(DOMAIN("", ""), strlen(DOMAIN("", ""))));
    free(text);
    free(attached);
    free(device);
}

/* Looking, as the doctor does. */

#define DEVICE                                                                                     \
    "<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/>"                  \
    "<binary path='/usr/lib/qemu/virtiofsd'><cache mode='none'/></binary>"                         \
    "<source dir='/run/virtjoule/vms/u'/><target dir='virtjoule'/></filesystem>"
#define P9 "<filesystem><source dir='/srv'/><target dir='virtjoule'/></filesystem>"
#define VM(backing, devices) "<domain type='kvm'>" backing "<devices>" devices "</devices></domain>"
#define SHARED "<memoryBacking><access mode='shared'/></memoryBacking>"
#define BACKED(source, more)                                                                       \
    "<memoryBacking>" more "<source type='" source "'/><access mode='shared'/></memoryBacking>"
#define CELL(access) "<cell id='0' cpus='0' memory='1' unit='GiB'" access "/>"
#define NUMA(cells) "<cpu><numa>" cells "</numa></cpu>"

static void test_share(void **state)
{
    struct domain_virtiofs found;

    assert_int_equal(look(VM(SHARED, P9 DEVICE), &found), 0);
    assert_true(found.shared_memory);
    assert_int_equal(found.n_devices, 1);
    assert_string_equal(found.devices[0].source, "/run/virtjoule/vms/u");
    assert_string_equal(found.devices[0].tag, "virtjoule");
    assert_string_equal(found.devices[0].cache, "none");
    assert_string_equal(found.devices[0].binary, "/usr/lib/qemu/virtiofsd");
}

static void test_what_is_missing_is_empty(void **state)
{
    struct domain_virtiofs found;

    assert_int_equal(look(VM("", "<filesystem><driver type='virtiofs'/></filesystem>"), &found), 0);
    assert_false(found.shared_memory);
    assert_int_equal(found.n_devices, 1);
    assert_string_equal(found.devices[0].source, "");
    assert_string_equal(found.devices[0].tag, "");
    assert_string_equal(found.devices[0].cache, "");
    assert_string_equal(found.devices[0].binary, "");
}

static void test_shared_memory(void **state)
{
    static const struct {
        const char *xml;
        bool shared;
    } cases[] = {
        {VM("", ""), false},
        {VM(SHARED, ""), true},
        {VM("<memoryBacking><access mode='private'/></memoryBacking>", ""), false},
        {VM("<memoryBacking><source type='memfd'/></memoryBacking>", ""), false},
        {VM(NUMA(CELL(" memAccess='shared'")), ""), true},
        {VM(NUMA(CELL(" memAccess='shared'") CELL("")), ""), false},
        {VM(SHARED NUMA(CELL(" memAccess='shared'") CELL("")), ""), true},
        {VM(SHARED NUMA(CELL(" memAccess='private'") CELL("")), ""), false},
        {VM(NUMA(""), ""), false},
        /* A memory device's own mode and memory that has no file go before the domain's mode. */
        {VM(SHARED, "<memory model='dimm' access='private'/>"), false},
        {VM(SHARED, "<memory model='dimm'/>"), true},
        {VM(BACKED("anonymous", ""), ""), false},
        {VM(BACKED("anonymous", "<hugepages/>"), ""), true},
        {VM(BACKED("file", ""), ""), true},
        {VM(BACKED("memfd", ""), ""), true},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct domain_virtiofs found;

        assert_int_equal(look(cases[i].xml, &found), 0);
        assert_int_equal(found.shared_memory, cases[i].shared);
    }
}

static void test_many_devices(void **state)
{
    struct domain_virtiofs found;
    char *xml;
    size_t length;
    FILE *stream = open_memstream(&xml, &length);

    assert_non_null(stream);
    fputs("<domain><devices>", stream);
    for (unsigned i = 0; i < VIRTIOFS_DEVICES_MAX + 1; i++)
        fputs(DEVICE, stream);
    fputs("</devices></domain>", stream);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(domain_xml_read(xml, length, &found), 0);
    assert_int_equal(found.n_devices, VIRTIOFS_DEVICES_MAX);
    free(xml);
}

static void test_long_texts_are_cut(void **state)
{
    struct domain_virtiofs found;
    char xml[4096], path[1024];

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    snprintf(xml, sizeof(xml),
             VM("", "<filesystem><driver type='virtiofs'/><source dir='%s'/>"
                    "<target dir='%s'/></filesystem>"),
             path, path);
    assert_int_equal(look(xml, &found), 0);
    assert_int_equal(strlen(found.devices[0].source), VIRTIOFS_PATH_SIZE - 1);
    assert_int_equal(strlen(found.devices[0].tag), VIRTIOFS_WORD_SIZE - 1);
}

/* No file is read through an entity, and none is expanded without end: there is none. */
static void test_entities(void **state)
{
    static const char *const cases[] = {
        "<!DOCTYPE domain [<!ENTITY file SYSTEM 'file:///etc/passwd'>]>"
        "<domain><devices><source>&file;</source></devices></domain>",
        "<!DOCTYPE domain SYSTEM 'http://localhost/domain.dtd'><domain><devices/></domain>",
        "<!DOCTYPE domain [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>"
        "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;'>]>"
        "<domain a='&d;&d;&d;&d;&d;&d;&d;&d;'>&d;</domain>",
        "<domain><devices>&file;</devices></domain>",
    };
    struct domain_virtiofs found;

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(look(cases[i], &found), -EINVAL);
}

/* More than libvirt passes on; and deeper than anything it has. */
static void test_sizes(void **state)
{
    static const char start[] = "<domain>", end[] = "</domain>";
    struct domain_virtiofs found;
    char *xml = malloc(XML_TEXT_MAX + 1);
    size_t deep = 100000;

    assert_non_null(xml);
    memset(xml, ' ', XML_TEXT_MAX + 1);
    memcpy(xml, start, strlen(start));
    memcpy(xml + XML_TEXT_MAX - strlen(end), end, strlen(end));
    assert_int_equal(domain_xml_read(xml, XML_TEXT_MAX, &found), 0);
    assert_int_equal(domain_xml_read(xml, XML_TEXT_MAX + 1, &found), -EINVAL);
    for (size_t i = 0; i < deep; i++)
        memcpy(xml + 3 * i, "<a>", 3);
    for (size_t i = 0; i < deep; i++)
        memcpy(xml + 3 * deep + 4 * i, "</a>", 4);
    assert_int_equal(domain_xml_read(xml, 7 * deep, &found), -EINVAL);
    free(xml);
}

static void test_bad_input(void **state)
{
    static const char *const cases[] = {
        "",     " ", "domain", "<domain>", "<pool/>", "<domain></pool>", "<domain a='1' a='2'/>",
        "\xff",
    };
    struct domain_virtiofs found;

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(look(cases[i], &found), -EINVAL);
    /* Cut at any byte. */
    for (size_t length = 0; length < strlen(VM(SHARED, DEVICE)); length++)
        assert_int_equal(domain_xml_read(VM(SHARED, DEVICE), length, &found), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_later_changes_stay),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_clone),
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_what_is_missing_is_empty),
        cmocka_unit_test(test_shared_memory),
        cmocka_unit_test(test_many_devices),
        cmocka_unit_test(test_entities),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
