/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The parts of powercapfs that need no mount: nodes, texts, names, open files. */

#include "unit.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>

#include "../lib/snapshot_fixture.h"
#include "powercapfs/files.h"
#include "powercapfs/handover.h"
#include "powercapfs/names.h"
#include "powercapfs/tree.h"
#include "util/utf8.h"

#define PACKAGE (1U << TREE_PACKAGE)
#define CORE (1U << TREE_CORE)
#define DRAM (1U << TREE_DRAM)
#define PSYS (1U << TREE_PSYS)

/* The node of a path below the share, or a negative errno. */
static int node_at(const struct snapshot_vm *vm, const char *path)
{
    char copy[256], *rest = NULL;
    int node = TREE_NODE_SHARE;

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *part = strtok_r(copy, "/", &rest); part && node >= 0;
         part = strtok_r(NULL, "/", &rest))
        node = tree_node_child(vm, (unsigned)node, part);
    return node;
}

static void assert_link(const struct snapshot_vm *vm, const char *path, const char *target)
{
    char text[TREE_TEXT_MAX];
    int node = node_at(vm, path);

    assert_true(node > 0);
    assert_int_equal(tree_node_type((unsigned)node), TREE_LINK);
    assert_int_equal(tree_node_target(vm, (unsigned)node, text), strlen(target));
    assert_string_equal(text, target);
}

static void test_inode(void **state)
{
    assert_true(tree_inode(1, TREE_NODE_SHARE) == 256);
    assert_true(tree_inode(UINT32_MAX, 255) == UINT64_C(0xffffffffff));
    assert_int_equal(tree_inode_vm(UINT64_C(0xffffffffff)), UINT32_MAX);
    assert_int_equal(tree_inode_vm(UINT64_C(0x10000000100)), 0);
    assert_int_equal(tree_inode_vm(UINT64_MAX), 0);
    assert_int_equal(tree_inode_vm(TREE_INODE_ROOT), 0);
    assert_int_equal(tree_inode_vm(TREE_INODE_BY_NAME), 0);
}

/* Guests hold these numbers while a new version of the daemon takes over: they never change. */
static void test_numbers_are_fixed(void **state)
{
    static const struct {
        const char *path;
        int node;
    } cases[] = {
        {"", 0},
        {"class", 1},
        {"class/powercap", 2},
        {"class/powercap/intel-rapl", 3},
        {"class/powercap/intel-rapl/enabled", 4},
        {"class/powercap/intel-rapl/intel-rapl:0", 5},
        {"class/powercap/intel-rapl/intel-rapl:0/name", 6},
        {"class/powercap/intel-rapl/intel-rapl:0/energy_uj", 7},
        {"class/powercap/intel-rapl/intel-rapl:0/max_energy_range_uj", 8},
        {"class/powercap/intel-rapl/intel-rapl:0/enabled", 9},
        {"class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0", 10},
        {"class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/energy_uj", 12},
        {"class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1/energy_uj", 17},
        {"class/powercap/intel-rapl/intel-rapl:1/energy_uj", 22},
        {"class/powercap/intel-rapl:0", 25},
        {"class/powercap/intel-rapl:1", 28},
        {"devices/virtual/powercap/intel-rapl", 32},
        {"virtjoule", 33},
        {"virtjoule/version", 38},
    };
    struct snapshot_vm vm;

    fixture_vm(&vm, 7, 1, "vm");
    vm.tree_zones |= PSYS;
    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(node_at(&vm, cases[i].path), cases[i].node);
}

static void test_zones(void **state)
{
    static const struct {
        unsigned zones;
        const char *path;
        bool exists;
    } cases[] = {
        {PACKAGE, "intel-rapl:0", true},
        {PACKAGE, "intel-rapl:0/intel-rapl:0:0", false},
        {PACKAGE, "intel-rapl:1", false},
        {PACKAGE | DRAM, "intel-rapl:0/intel-rapl:0:0", true},
        {PACKAGE | DRAM, "intel-rapl:0/intel-rapl:0:1", false},
        {PACKAGE | CORE, "intel-rapl:0/intel-rapl:0:0", true},
        {PACKAGE | CORE, "intel-rapl:0/intel-rapl:0:1", false},
        {PACKAGE | CORE | DRAM, "intel-rapl:0/intel-rapl:0:0", true},
        {PACKAGE | CORE | DRAM, "intel-rapl:0/intel-rapl:0:1", true},
        {PACKAGE | CORE | DRAM, "intel-rapl:0/intel-rapl:0:2", false},
        {PACKAGE | PSYS, "intel-rapl:1", true},
        {PSYS, "intel-rapl:1", true},
        {PSYS | CORE | DRAM, "intel-rapl:0", false},
        {0, "intel-rapl:0", false},
        {0, "enabled", true},
    };
    struct snapshot_vm vm;

    fixture_vm(&vm, 7, 1, "vm");
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char path[128];

        vm.tree_zones = cases[i].zones;
        snprintf(path, sizeof(path), "class/powercap/intel-rapl/%s", cases[i].path);
        assert_true((node_at(&vm, path) > 0) == cases[i].exists);
    }

    vm.tree_zones = PACKAGE | DRAM;
    assert_link(&vm, "class/powercap/intel-rapl:0:0", "intel-rapl/intel-rapl:0/intel-rapl:0:0");
    vm.tree_zones = PACKAGE | CORE | DRAM | PSYS;
    assert_link(&vm, "class/powercap/intel-rapl:0", "intel-rapl/intel-rapl:0");
    assert_link(&vm, "class/powercap/intel-rapl:0:1", "intel-rapl/intel-rapl:0/intel-rapl:0:1");
    assert_link(&vm, "class/powercap/intel-rapl:1", "intel-rapl/intel-rapl:1");
    assert_link(&vm, "devices/virtual/powercap/intel-rapl", "../../../class/powercap/intel-rapl");
}

/* Every node that exists is listed in its parent, once, and found there by its name. */
static void test_table_is_sound(void **state)
{
    for (unsigned zones = 0; zones < 1U << TREE_ZONES; zones++) {
        struct snapshot_vm vm;

        fixture_vm(&vm, 7, 1, "vm");
        vm.tree_zones = zones;
        for (unsigned node = 1; node < TREE_NODE_NAME_LINK; node++) {
            unsigned parent = tree_node_exists(&vm, node) ? tree_node_parent(node) : 0;
            char name[TREE_TEXT_MAX];
            unsigned seen = 0;

            if (!tree_node_exists(&vm, node))
                continue;
            assert_true(tree_node_exists(&vm, parent));
            assert_int_equal(tree_node_type(parent), TREE_DIRECTORY);
            assert_true(tree_node_name(&vm, node, name) > 0);
            assert_int_equal(tree_node_child(&vm, parent, name), node);
            for (int n = tree_node_next(&vm, parent, 0); n >= 0;
                 n = tree_node_next(&vm, parent, (unsigned)n + 1))
                seen += (unsigned)n == node;
            assert_int_equal(seen, 1);
        }
    }
}

static void test_unknown_names(void **state)
{
    static const char *const names[] = {"", ".", "..", "classy", "clas", "%s%n", "\xff\x01"};
    char longest[4096];
    struct snapshot_vm vm;

    fixture_vm(&vm, 7, 1, "vm");
    for (size_t i = 0; i < ELEMENTS(names); i++)
        assert_int_equal(tree_node_child(&vm, TREE_NODE_SHARE, names[i]), -ENOENT);
    memset(longest, 'c', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(tree_node_child(&vm, TREE_NODE_SHARE, longest), -ENOENT);
    for (unsigned node = 39; node < TREE_NODE_NAME_LINK; node++)
        assert_false(tree_node_exists(&vm, node));
    assert_false(tree_node_exists(&vm, 256));
    assert_false(tree_node_exists(&vm, UINT_MAX));
    assert_true(tree_node_exists(&vm, TREE_NODE_NAME_LINK));
}

static void assert_text(const struct tree_view *view, const struct snapshot_vm *vm,
                        const char *path, const char *expected)
{
    char text[TREE_TEXT_MAX];
    int node = node_at(vm, path);

    assert_true(node > 0);
    assert_int_equal(tree_node_type((unsigned)node), TREE_FILE);
    assert_int_equal(tree_node_render(view, vm, (unsigned)node, text), strlen(expected));
    assert_string_equal(text, expected);
}

#define PACKAGE_DIR "class/powercap/intel-rapl/intel-rapl:0/"

static void test_render(void **state)
{
    struct snapshot snapshot = {.time_ns = 5000000,
                                .ramp_start_ns = 5000000,
                                .interval_ns = 1000000000,
                                .source = "estimate",
                                .static_policy = "exclude"};
    struct tree_view view = {
        .snapshot = &snapshot, .time_ns = 505000000, .quantum_uj = 1000, .version = "1.2.3"};
    char version[256];
    struct snapshot_vm vm;

    fixture_vm(&vm, 7, 1, "vm");
    vm.tree_zones |= PSYS;
    vm.tree[TREE_PACKAGE] = (struct ramp){1000000, 1002999};
    vm.tree[TREE_CORE] = (struct ramp){500, 1499};
    vm.tree[TREE_DRAM] = (struct ramp){12000, 12000};
    vm.tree[TREE_PSYS] = (struct ramp){7777777, 7777777};

    assert_text(&view, &vm, "class/powercap/intel-rapl/enabled", "1\n");
    assert_text(&view, &vm, PACKAGE_DIR "enabled", "1\n");
    assert_text(&view, &vm, PACKAGE_DIR "name", "package-0\n");
    assert_text(&view, &vm, PACKAGE_DIR "energy_uj", "1001000\n");
    assert_text(&view, &vm, PACKAGE_DIR "max_energy_range_uj", "262143328850\n");
    assert_text(&view, &vm, PACKAGE_DIR "intel-rapl:0:0/name", "core\n");
    assert_text(&view, &vm, PACKAGE_DIR "intel-rapl:0:0/energy_uj", "0\n");
    assert_text(&view, &vm, PACKAGE_DIR "intel-rapl:0:1/name", "dram\n");
    assert_text(&view, &vm, PACKAGE_DIR "intel-rapl:0:1/energy_uj", "12000\n");
    assert_text(&view, &vm, "class/powercap/intel-rapl/intel-rapl:1/name", "psys\n");
    assert_text(&view, &vm, "class/powercap/intel-rapl/intel-rapl:1/energy_uj", "7777000\n");
    assert_text(&view, &vm, "virtjoule/interval_us", "1000000\n");
    assert_text(&view, &vm, "virtjoule/age_us", "500000\n");
    assert_text(&view, &vm, "virtjoule/source", "estimate\n");
    assert_text(&view, &vm, "virtjoule/policy", "exclude\n");
    assert_text(&view, &vm, "virtjoule/version", "1.2.3\n");

    view.time_ns = 1;
    assert_text(&view, &vm, "virtjoule/age_us", "0\n");
    memset(version, 'v', sizeof(version) - 1);
    version[sizeof(version) - 1] = '\0';
    view.version = version;
    memset(version + TREE_TEXT_MAX - 2, '\n', 1);
    version[TREE_TEXT_MAX - 1] = '\0';
    assert_text(&view, &vm, "virtjoule/version", version);
}

static uint64_t energy_of(uint64_t total_uj, uint64_t quantum_uj)
{
    struct snapshot snapshot = {.interval_ns = 1};
    struct tree_view view = {
        .snapshot = &snapshot, .time_ns = 9, .quantum_uj = quantum_uj, .version = ""};
    char text[TREE_TEXT_MAX];
    struct snapshot_vm vm;
    uint64_t value;

    fixture_vm(&vm, 7, 1, "vm");
    vm.tree[TREE_PACKAGE] = (struct ramp){0, total_uj};
    tree_node_render(&view, &vm, (unsigned)node_at(&vm, PACKAGE_DIR "energy_uj"), text);
    assert_int_equal(sscanf(text, "%" SCNu64, &value), 1);
    return value;
}

/* What a reader adds up over many wraps, taking each fall for one, is the quantised total. */
static void test_wrap(void **state)
{
    static const uint64_t quanta[] = {0, 1, 7, 1000, 61035, 1000000, TREE_MAX_ENERGY_UJ + 1};
    static const uint64_t step = TREE_MAX_ENERGY_UJ / 97;

    assert_true(energy_of(TREE_MAX_ENERGY_UJ, 1) == TREE_MAX_ENERGY_UJ);
    assert_true(energy_of(TREE_MAX_ENERGY_UJ + 1, 1) == 0);
    assert_true(energy_of(UINT64_MAX, 0) == UINT64_MAX % (TREE_MAX_ENERGY_UJ + 1));
    for (size_t i = 0; i < ELEMENTS(quanta); i++) {
        uint64_t quantum = quanta[i] ? quanta[i] : 1, last = 0, sum = 0, wraps = 0;

        for (uint64_t total = 0; total < 5 * TREE_MAX_ENERGY_UJ; total += step) {
            uint64_t value = energy_of(total, quanta[i]);

            assert_true(value <= TREE_MAX_ENERGY_UJ);
            if (value < last) {
                sum += TREE_MAX_ENERGY_UJ + 1;
                wraps++;
            }
            sum += value - last;
            last = value;
            /* A quantum as large as the range hides the counter, but shows no energy. */
            assert_true(quantum > TREE_MAX_ENERGY_UJ ? value == 0
                                                     : sum == total / quantum * quantum);
        }
        assert_true(wraps == (quantum > TREE_MAX_ENERGY_UJ ? 0 : 4));
    }
}

static void test_sanitise(void **state)
{
    static const struct {
        const char *name, *file;
    } cases[] = {
        {"web", "web"},
        {"web server (1)", "web server (1)"},
        {"", "_"},
        {".", "_"},
        {"..", "_."},
        {".hidden", "_hidden"},
        {"../../etc", "_._.._etc"},
        {"/", "_"},
        {"a/b", "a_b"},
        {"a\nb\tc\x7f", "a_b_c_"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xff\xfe", "__"},
        {"a\xc0\xaf", "a__"},
        {"a\xe2\x82", "a__"},
        {"a@b", "a@b"},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        tree_name file;

        snapshot_file_name(cases[i].name, file);
        assert_string_equal(file, cases[i].file);
    }
}

/* Any bytes make one harmless component. */
static void test_sanitise_anything(void **state)
{
    unsigned seed = 1;

    for (unsigned i = 0; i < 20000; i++) {
        char name[VM_NAME_MAX];
        tree_name file;
        size_t length;

        for (size_t j = 0; j < sizeof(name) - 1; j++) {
            seed = seed * 1103515245 + 12345;
            name[j] = "./\n\x80\xc3\xa9\xe2\x82\xac@a\xf0\x9f\xff\x00z"[(seed >> 16) % 16];
        }
        name[sizeof(name) - 1] = '\0';
        snapshot_file_name(name, file);
        length = strlen(file);
        assert_true(length > 0 && length <= NAME_MAX);
        assert_null(strpbrk(file, "/\n"));
        assert_true(file[0] != '.');
        for (size_t j = 0; j < length;) {
            size_t n = utf8_character_length(file + j, length - j);

            assert_true(n > 0);
            j += n;
        }
    }
}

static void assert_named(const struct tree_names *names, const struct snapshot *snapshot,
                         const struct snapshot_vm *vm, const char *name)
{
    const struct snapshot_vm *found = snapshot_find_uuid(snapshot, vm->uuid);

    assert_int_equal(tree_names_find(names, name), found - snapshot->vms);
    assert_string_equal(names->names[found - snapshot->vms], name);
}

/* Every publisher has these names, by-name/ as files'. */
static void test_names(void **state)
{
    static const char web_0[] = "web@00000000-0000-0000-0000-000000000000";
    static const char web_1[] = "web@00000000-0000-0000-0000-000000000001";
    static const char fake_9[] = "uid1000_x@00000000-0000-0000-0000-000000000009";
    char longest[VM_NAME_MAX], cut[VM_NAME_MAX];
    struct tree_names names;
    struct snapshot_vm vms[11];
    struct snapshot *snapshot;

    memset(longest, 'x', sizeof(longest) - 1);
    memcpy(longest + NAME_MAX - 38, "\xc3\xa9", 2); /* a character across the cut */
    longest[sizeof(longest) - 1] = '\0';
    fixture_vm(&vms[0], 9, 1, "web");
    fixture_vm(&vms[1], 8, 2, "web"); /* known before */
    fixture_vm(&vms[2], 7, 3, web_1);
    fixture_vm(&vms[3], 6, 4, "a/b");
    fixture_vm(&vms[4], 5, 5, "a\nb");
    fixture_vm(&vms[5], 4, 6, longest);
    fixture_vm(&vms[6], 3, 7, longest);
    fixture_vm(&vms[7], 2, 0, "web"); /* before both, but has no tree any more */
    vms[7].has_tree = false;
    fixture_vm(&vms[8], 20, 8, "uid1000_x");
    fixture_vm(&vms[9], 1, 9, "uid1000/x"); /* before it, but by its own word only */
    vms[9].trusted = false;
    fixture_vm(&vms[10], 21, 10, "@00000000-0000-0000-0000-00000000000A");
    snapshot = fixture_snapshot(vms, ELEMENTS(vms));

    assert_int_equal(tree_names_init(&names, snapshot), 0);
    assert_int_equal(names.n, 10);
    assert_named(&names, snapshot, &vms[0], web_1);
    assert_named(&names, snapshot, &vms[1], "web");
    assert_named(&names, snapshot, &vms[2], "web_00000000-0000-0000-0000-000000000001");
    assert_named(&names, snapshot, &vms[3], "a_b@00000000-0000-0000-0000-000000000004");
    assert_named(&names, snapshot, &vms[4], "a_b");
    snprintf(cut, sizeof(cut), "%.*s@%s", NAME_MAX - 38, longest, vms[5].uuid_text);
    assert_named(&names, snapshot, &vms[5], cut);
    assert_named(&names, snapshot, &vms[6], longest);
    assert_string_equal(snapshot_find_uuid(snapshot, vms[7].uuid)->name, web_0);
    assert_named(&names, snapshot, &vms[8], "uid1000_x");
    assert_named(&names, snapshot, &vms[9], fake_9);
    assert_named(&names, snapshot, &vms[10], "_00000000-0000-0000-0000-00000000000A");
    assert_int_equal(tree_names_find(&names, "we"), -ENOENT);
    assert_int_equal(tree_names_find(&names, ""), -ENOENT);
    assert_int_equal(tree_names_find(&names, "zzz"), -ENOENT);
    tree_names_deinit(&names);
    snapshot_free(snapshot);

    snapshot = fixture_snapshot(NULL, 0);
    assert_int_equal(tree_names_init(&names, snapshot), 0);
    assert_int_equal(tree_names_find(&names, "web"), -ENOENT);
    tree_names_deinit(&names);
    snapshot_free(snapshot);
}

static void test_open_files(void **state)
{
    struct open_files *files, *successor;
    struct open_text *text;
    uint64_t a, b;

    assert_int_equal(open_files_new(&files), 0);
    a = open_files_open(files, 1, 300);
    b = open_files_open(files, 1, 300);
    assert_true(a != 0 && b != 0 && a != b);
    text = open_files_text(files, a, 300);
    assert_non_null(text);
    assert_int_equal(text->length, 0);
    text->length = 5;
    assert_int_equal(open_files_text(files, b, 300)->length, 0);
    assert_null(open_files_text(files, a, 301));
    assert_null(open_files_text(files, 0, 300));
    assert_null(open_files_text(files, a ^ (UINT64_C(1) << 40), 300));
    assert_null(open_files_text(files, (a & ~UINT64_C(0xffffffff)) | OPEN_FILES_MAX, 300));
    assert_null(open_files_text(files, a | UINT32_MAX, 300));

    /* A handle of another process is unknown here, and closing it does nothing. */
    assert_int_equal(open_files_new(&successor), 0);
    assert_null(open_files_text(successor, a, 300));
    open_files_close(successor, a);
    open_files_free(successor);

    open_files_close(files, a);
    assert_null(open_files_text(files, a, 300));
    open_files_close(files, a);
    assert_non_null(open_files_text(files, b, 300));
    /* A slot's next user does not see the former one's text. */
    a = open_files_open(files, 2, 600);
    assert_int_equal(open_files_text(files, a, 600)->length, 0);
    open_files_free(files);
}

static void test_open_files_bounds(void **state)
{
    uint64_t handles[OPEN_FILES_PER_VM];
    struct open_files *files;
    unsigned granted = 0;

    assert_int_equal(open_files_new(&files), 0);
    for (unsigned i = 0; i < OPEN_FILES_PER_VM; i++) {
        handles[i] = open_files_open(files, 1, 300);
        assert_true(handles[i] != 0);
    }
    assert_true(open_files_open(files, 1, 300) == 0);
    assert_true(open_files_open(files, 2, 600) != 0);
    open_files_close(files, handles[7]);
    assert_true(open_files_open(files, 1, 300) != 0);
    for (uint32_t vm = 3; vm < 100; vm++)
        for (unsigned i = 0; i < OPEN_FILES_PER_VM; i++)
            granted += open_files_open(files, vm, 300) != 0;
    assert_int_equal(granted, OPEN_FILES_MAX - OPEN_FILES_PER_VM - 1);
    open_files_free(files);
}

static void test_read_counts(void **state)
{
    struct open_files *files;
    uint64_t handle;

    assert_int_equal(open_files_new(&files), 0);
    assert_true(open_files_reads(files, 5) == 0);
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t vm = 1000; vm > 0; vm--)
            open_files_count_read(files, vm);
    open_files_count_read(files, 5);
    assert_true(open_files_reads(files, 5) == 4);
    assert_true(open_files_reads(files, 6) == 3);
    open_files_forget(files, 5);
    open_files_forget(files, 5);
    open_files_forget(files, 123456);
    assert_true(open_files_reads(files, 5) == 0);
    assert_true(open_files_reads(files, 4) == 3);
    assert_true(open_files_reads(files, 6) == 3);

    /* Forgotten with a file open: the open file still counts against the bound, then goes. */
    handle = open_files_open(files, 6, 300);
    open_files_forget(files, 6);
    for (unsigned i = 1; i < OPEN_FILES_PER_VM; i++)
        assert_true(open_files_open(files, 6, 300) != 0);
    assert_true(open_files_open(files, 6, 300) == 0);
    open_files_close(files, handle);
    assert_true(open_files_open(files, 6, 300) != 0);
    open_files_free(files);
}

static void test_read_counts_bound(void **state)
{
    struct open_files *files;

    assert_int_equal(open_files_new(&files), 0);
    for (uint32_t vm = 1; vm <= OPEN_FILES_VMS_MAX + 1; vm++)
        open_files_count_read(files, vm);
    assert_true(open_files_reads(files, OPEN_FILES_VMS_MAX) == 1);
    assert_true(open_files_reads(files, OPEN_FILES_VMS_MAX + 1) == 0);
    assert_true(open_files_open(files, OPEN_FILES_VMS_MAX + 1, 300) == 0);
    open_files_free(files);
}

/* A service manager may hand over any bytes. */
static void test_kept_init(void **state)
{
    struct {
        struct fuse_in_header header;
        struct fuse_init_in init;
    } request = {.header = {.len = sizeof(request), .opcode = FUSE_INIT}};
    const char *bytes = (const char *)&request;

    assert_true(fuse_init_is_whole(bytes, sizeof(request)));
    for (size_t length = 0; length < sizeof(request); length++)
        assert_false(fuse_init_is_whole(bytes, length));
    request.header.opcode = FUSE_LOOKUP;
    assert_false(fuse_init_is_whole(bytes, sizeof(request)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inode),
        cmocka_unit_test(test_numbers_are_fixed),
        cmocka_unit_test(test_zones),
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_render),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_sanitise),
        cmocka_unit_test(test_sanitise_anything),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_open_files),
        cmocka_unit_test(test_open_files_bounds),
        cmocka_unit_test(test_read_counts),
        cmocka_unit_test(test_read_counts_bound),
        cmocka_unit_test(test_kept_init),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
