/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/domain_xml.h"
#include "util/file.h"

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

static struct domain_state state_of(const char *xml)
{
    struct domain_state state = {0};

    assert_int_equal(domain_xml_state(xml, strlen(xml), &state), 0);
    return state;
}

/* Attached, the domain has all; detached, it is as it was; and neither changes anything twice. */
static void check_there_and_back(const char *xml, const char *name)
{
    char *attached = NULL, *detached = NULL, *again = NULL;
    struct domain_state state;

    if (attach(xml, &attached) != DOMAIN_XML_CHANGED)
        fail_msg("%s: not attached", name);
    state = state_of(attached);
    if (!state.share || !state.shared_memory)
        fail_msg("%s: something is missing:\n%s", name, attached);
    assert_int_equal(attach(attached, &again), DOMAIN_XML_UNCHANGED);
    assert_int_equal(detach(attached, &detached), DOMAIN_XML_CHANGED);
    if (strcmp(detached, xml) != 0)
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
        "<domain type='kvm'>\n"
        "  <metadata>\n"
        "    <virtjoule:share xmlns:virtjoule=\"urn:virtjoule:share:1\" device=\"added\" "
        "ports=\"0\" metadata=\"added\" backing=\"added\" source=\"added\" access=\"added\"/>\n"
        "  </metadata>\n"
        "  <memory>1</memory>\n"
        "  <memoryBacking>\n"
        "    <source type='memfd'/>\n"
        "    <access mode='shared'/>\n"
        "  </memoryBacking>\n"
        "  <devices>\n"
        "    <emulator>/usr/bin/kvm</emulator>\n"
        "    <filesystem type='mount' accessmode='passthrough'>\n"
        "      <driver type='virtiofs'/>\n"
        "      <binary path='/usr/lib/qemu/virtiofsd'>\n"
        "        <cache mode='none'/>\n"
        "      </binary>\n"
        "      <source dir='" DIRECTORY "'/>\n"
        "      <target dir='virtjoule'/>\n"
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
        {DOMAIN(BACKING("    <source type='file'/>\n"), ""), "type='file'", "memfd"},
        {DOMAIN(BACKING("    <access mode='shared'/>\n"), ""), "record", "memfd"},
        {DOMAIN(BACKING("    <hugepages/>\n"), ""), "mode='shared'", "memfd"},
        {DOMAIN(BACKING("    <source type='anonymous'/>\n"), ""), "memfd", "'anonymous'"},
        {DOMAIN(BACKING("    <source type='anonymous'/>\n    <access mode='shared'/>\n"), ""),
         "memfd", "'anonymous'"},
        {DOMAIN(BACKING("    <locked/>\n"), ""), "<locked/>\n    <source", "private"},
        {DOMAIN("  <cpu>\n    <numa>\n      <cell id='0' memAccess='shared'/>\n    </numa>\n  "
                "</cpu>\n",
                ""),
         "memAccess='shared'", "memfd"},
        {DOMAIN("  <cpu>\n    <numa>\n      <cell id='7' memAccess='private'/>\n    </numa>\n  "
                "</cpu>\n",
                ""),
         "cells=\"7,\"", "mode='shared'"},
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
        {"type='memfd'", "type='file'", "  <devices>",
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
        assert_string_equal(detached, replace(DOMAIN("", ""), cases[i].back, cases[i].was));
        free(attached);
        free(detached);
    }
}

#define PORT(index) "    <controller type='pci' index='" index "' model='pcie-root-port'/>\n"
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
    assert_string_equal(detached, with_one);
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
    assert_string_equal(detached, with_one);
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
    assert_string_equal(detached, DOMAIN("", ""));
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
    char *text = domain_xml_device(&odd, 0), *attached = NULL, *device;
    const char *problem;

    assert_non_null(strstr(text, "<binary>\n"));
    assert_non_null(strstr(text, "dir='/a&amp;b&lt;c&apos;d\"e'"));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),  cmocka_unit_test(test_text),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_later_changes_stay),
        cmocka_unit_test(test_ports),  cmocka_unit_test(test_clone),
        cmocka_unit_test(test_device), cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
