/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The file system really mounted, fed by a ticker, used through the kernel.
 *
 * What a reader may see is checked against the board itself: with the
 * snapshots from before and after a read at hand, the value must lie between
 * the ramp's values at those moments. That holds however late a busy machine
 * runs the ticker or the reader.
 */

#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../lib/snapshot_fixture.h"
#include "powercapfs/files.h"
#include "powercapfs/powercapfs.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

#define INTERVAL_NS (200 * NSEC_PER_MSEC)
#define STEP_UJ UINT64_C(200123457) /* per interval: 1 kW */
#define QUANTUM_UJ UINT64_C(1000)
#define TOP_GID 4321
#define RANGE (TREE_MAX_ENERGY_UJ + 1)

#define UUID(n) "00000000-0000-0000-0000-00000000000" #n
#define ENERGY "class/powercap/intel-rapl:0/energy_uj"

enum {
    VM_WEB = 1,
    VM_SECOND_WEB,
    VM_ETC,
    VM_NASTY,
    VM_DRAM,
    VM_OFF,
    VM_NO_TREE,
    VM_GUEST,
    VMS = 8
};

static char mountpoint[PATH_MAX];
static struct snapshot_board *board;
static struct powercapfs *powercapfs;
static pthread_t ticker;
static atomic_bool ticking;
static atomic_uint ticks;
/* What becomes of the last VM. */
static atomic_int guest;
enum { GUEST_HAS_TREE, GUEST_WITHOUT_TREE, GUEST_GONE };

static struct powercapfs_config default_config(void)
{
    return (struct powercapfs_config){
        .top_gid = TOP_GID,
        .mountpoint = mountpoint,
        .file_mode = 0444,
        .quantum_uj = QUANTUM_UJ,
        .version = "1.2.3",
        .sysfs_root = "/sys",
    };
}

/* The first VM's counter is about to wrap. */
static void make_vms(struct snapshot_vm vms[VMS])
{
    static const char *const names[VMS] = {"web",  "web", "../../etc", "a\n\"b\"\xff/\x1b",
                                           "dram", "off", "no tree",   "guest"};

    for (unsigned i = 0; i < VMS; i++) {
        fixture_vm(&vms[i], 100 - i, i + 1, names[i]);
        for (unsigned z = 0; z < TREE_ZONES; z++)
            vms[i].tree[z].to_uj = 4 * RANGE - (z == TREE_PACKAGE ? 5 * STEP_UJ : 1);
    }
    vms[VM_DRAM - 1].tree_zones = 1U << TREE_PACKAGE | 1U << TREE_DRAM | 1U << TREE_PSYS;
    vms[VM_OFF - 1].running = false;
    vms[VM_NO_TREE - 1].has_tree = false;
}

static void post(const struct snapshot_vm vms[VMS])
{
    struct snapshot *snapshot =
        fixture_snapshot(vms, atomic_load(&guest) == GUEST_GONE ? VMS - 1 : VMS);

    snapshot->time_ns = snapshot->ramp_start_ns = now_ns();
    snapshot->interval_ns = INTERVAL_NS;
    snapshot_board_post(board, snapshot);
}

static void *tick(void *data)
{
    struct snapshot_vm vms[VMS];

    make_vms(vms);
    while (atomic_load(&ticking)) {
        for (unsigned i = 0; i < VMS; i++) {
            for (unsigned z = 0; z < TREE_ZONES; z++) {
                vms[i].tree[z].from_uj = vms[i].tree[z].to_uj;
                vms[i].tree[z].to_uj += STEP_UJ;
            }
        }
        vms[VM_GUEST - 1].has_tree = atomic_load(&guest) == GUEST_HAS_TREE;
        post(vms);
        atomic_fetch_add(&ticks, 1);
        usleep(INTERVAL_NS / NSEC_PER_USEC);
    }
    return NULL;
}

static void wait_ticks(unsigned n)
{
    unsigned begin = atomic_load(&ticks);

    while (atomic_load(&ticks) - begin < n)
        usleep(1000);
}

static int make_mountpoint(void **state)
{
    snprintf(mountpoint, sizeof(mountpoint), "/tmp/test-powercapfs-XXXXXX");
    return mkdtemp(mountpoint) ? snapshot_board_new(&board) : -1;
}

static int remove_mountpoint(void **state)
{
    powercapfs = powercapfs_free(powercapfs);
    board = snapshot_board_free(board);
    /* What a failed test left must not outlive it. */
    while (umount2(mountpoint, MNT_DETACH) == 0)
        print_message("left a mount: %s\n", mountpoint);
    return rmdir(mountpoint);
}

static int start(void **state)
{
    struct powercapfs_config config = default_config();

    if (make_mountpoint(state) < 0)
        return -1;
    atomic_store(&guest, GUEST_HAS_TREE);
    atomic_store(&ticking, true);
    if (pthread_create(&ticker, NULL, tick, NULL) != 0)
        return -1;
    wait_ticks(1);
    return powercapfs_new(&powercapfs, &config, board, NULL);
}

static int stop(void **state)
{
    atomic_store(&ticking, false);
    pthread_join(ticker, NULL);
    return remove_mountpoint(state);
}

/* Path below the mount point; good until the eighth call after. */
static const char *at(const char *format, ...)
{
    static _Thread_local char paths[8][2 * PATH_MAX];
    static _Thread_local unsigned next;
    char *path = paths[next++ % 8];
    int length = snprintf(path, sizeof(paths[0]), "%s/", mountpoint);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(path + length, sizeof(paths[0]) - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

static void assert_content(const char *path, const char *expected)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[128];
    ssize_t length;

    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    length = read(fd, text, sizeof(text) - 1);
    assert_true(length >= 0);
    text[length] = '\0';
    assert_string_equal(text, expected);
    assert_int_equal(read(fd, text, sizeof(text)), 0);
}

#define assert_fails(call, error)                                                                  \
    do {                                                                                           \
        errno = 0;                                                                                 \
        assert_int_equal((call), -1);                                                              \
        assert_int_equal(errno, (error));                                                          \
    } while (0)

/* "d path", "f path" or "l path -> target" of everything below the share, sorted. */
#define TREE_LINES 128
static char tree_lines[TREE_LINES][256];
static size_t n_tree_lines;

static int visit(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    const char *relative = path + strlen(mountpoint) + 1 + strlen(UUID(1));
    char target[128] = "";
    char *line = tree_lines[n_tree_lines];

    if (ftw->level == 0)
        return 0;
    if (n_tree_lines == TREE_LINES || flag == FTW_DNR || flag == FTW_NS)
        return -1;
    n_tree_lines++;
    if (flag != FTW_SL)
        return snprintf(line, 256, "%c %s", S_ISDIR(st->st_mode) ? 'd' : 'f', relative + 1) < 0;
    if (readlink(path, target, sizeof(target) - 1) != st->st_size)
        return -1;
    return snprintf(line, 256, "l %s -> %s", relative + 1, target) < 0;
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void assert_tree(const char *share, const char *const *expected, size_t n)
{
    n_tree_lines = 0;
    assert_int_equal(nftw(at("%s", share), visit, 8, FTW_PHYS), 0);
    qsort(tree_lines, n_tree_lines, sizeof(tree_lines[0]), compare_lines);
    for (size_t i = 0; i < n && i < n_tree_lines; i++)
        assert_string_equal(tree_lines[i], expected[i]);
    assert_int_equal(n_tree_lines, n);
}

static void test_tree(void **state)
{
    static const char *const three_zones[] = {
        "d class",
        "d class/powercap",
        "d class/powercap/intel-rapl",
        "d class/powercap/intel-rapl/intel-rapl:0",
        "d class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0",
        "d class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1",
        "d devices",
        "d devices/virtual",
        "d devices/virtual/powercap",
        "d virtjoule",
        "f class/powercap/intel-rapl/enabled",
        "f class/powercap/intel-rapl/intel-rapl:0/enabled",
        "f class/powercap/intel-rapl/intel-rapl:0/energy_uj",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/enabled",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/energy_uj",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/max_energy_range_uj",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/name",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1/enabled",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1/energy_uj",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1/max_energy_range_uj",
        "f class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1/name",
        "f class/powercap/intel-rapl/intel-rapl:0/max_energy_range_uj",
        "f class/powercap/intel-rapl/intel-rapl:0/name",
        "f virtjoule/age_us",
        "f virtjoule/interval_us",
        "f virtjoule/policy",
        "f virtjoule/source",
        "f virtjoule/version",
        "l class/powercap/intel-rapl:0 -> intel-rapl/intel-rapl:0",
        "l class/powercap/intel-rapl:0:0 -> intel-rapl/intel-rapl:0/intel-rapl:0:0",
        "l class/powercap/intel-rapl:0:1 -> intel-rapl/intel-rapl:0/intel-rapl:0:1",
        "l devices/virtual/powercap/intel-rapl -> ../../../class/powercap/intel-rapl",
    };

    assert_tree(UUID(1), three_zones, ELEMENTS(three_zones));
    assert_tree(UUID(6), three_zones, ELEMENTS(three_zones)); /* defined, not running */
    assert_content(at("%s/class/powercap/intel-rapl:0/name", UUID(1)), "package-0\n");
    assert_content(at("%s/class/powercap/intel-rapl:0:0/name", UUID(1)), "core\n");
    assert_content(at("%s/class/powercap/intel-rapl:0:1/name", UUID(1)), "dram\n");
    assert_content(at("%s/class/powercap/intel-rapl/enabled", UUID(1)), "1\n");
    assert_content(
        at("%s/devices/virtual/powercap/intel-rapl/intel-rapl:0/max_energy_range_uj", UUID(1)),
        "262143328850\n");
    assert_content(at("%s/class/powercap/intel-rapl:0:0/name", UUID(5)), "dram\n");
    assert_content(at("%s/class/powercap/intel-rapl:1/name", UUID(5)), "psys\n");
    assert_fails(access(at("%s/class/powercap/intel-rapl:0:1", UUID(5)), F_OK), ENOENT);
    assert_content(at("%s/virtjoule/interval_us", UUID(1)), "200000\n");
    assert_content(at("%s/virtjoule/source", UUID(1)), "rapl\n");
    assert_content(at("%s/virtjoule/policy", UUID(1)), "exclude\n");
    assert_content(at("%s/virtjoule/version", UUID(1)), "1.2.3\n");
}

/* Every link, followed to its end, is within its own share. */
static void test_links_stay_inside(void **state)
{
    unsigned links = 0;

    n_tree_lines = 0;
    assert_int_equal(nftw(at("%s", UUID(1)), visit, 8, FTW_PHYS), 0);
    for (size_t i = 0; i < n_tree_lines; i++) {
        char *arrow = strstr(tree_lines[i], " -> "), resolved[PATH_MAX];

        if (!arrow)
            continue;
        *arrow = '\0';
        assert_non_null(realpath(at("%s/%s", UUID(1), tree_lines[i] + 2), resolved));
        assert_ptr_equal(strstr(resolved, at("%s/", UUID(1))), resolved);
        links++;
    }
    assert_int_equal(links, 4);
}

static bool is_listed(const char *directory, const char *name, size_t *ret_entries)
{
    _cleanup_closedir_ DIR *dir = opendir(directory);
    const struct dirent *entry;
    bool found = false;

    assert_non_null(dir);
    *ret_entries = 0;
    while ((entry = readdir(dir))) {
        found = found || strcmp(entry->d_name, name) == 0;
        (*ret_entries)++;
    }
    return found;
}

static void test_root(void **state)
{
    size_t entries;

    assert_true(is_listed(mountpoint, UUID(1), &entries));
    assert_true(is_listed(mountpoint, "by-name", &entries));
    assert_true(is_listed(mountpoint, UUID(6), &entries));
    assert_false(is_listed(mountpoint, UUID(7), &entries));
    assert_int_equal(entries, 2 + 1 + VMS - 1);
    assert_fails(access(at("%s", UUID(7)), F_OK), ENOENT);
}

static void test_by_name(void **state)
{
    static const struct {
        const char *name, *uuid;
    } cases[] = {
        {"web", UUID(1)},        {"web@" UUID(2), UUID(2)}, {"_._.._etc", UUID(3)},
        {"a_\"b\"___", UUID(4)}, {"dram", UUID(5)},         {"off", UUID(6)},
        {"guest", UUID(8)},
    };
    size_t entries;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char resolved[PATH_MAX], target[128] = "";

        assert_true(is_listed(at("by-name"), cases[i].name, &entries));
        assert_int_equal(entries, 2 + ELEMENTS(cases));
        assert_true(readlink(at("by-name/%s", cases[i].name), target, sizeof(target) - 1) > 0);
        assert_memory_equal(target, "../", 3);
        assert_string_equal(target + 3, cases[i].uuid);
        assert_non_null(realpath(at("by-name/%s", cases[i].name), resolved));
        assert_string_equal(resolved, at("%s", cases[i].uuid));
    }
    assert_fails(access(at("by-name/no tree"), F_OK), ENOENT);
    assert_fails(access(at("by-name/web@%s", UUID(1)), F_OK), ENOENT);
    assert_fails(access(at("by-name/web@%s", UUID(3)), F_OK), ENOENT);
}

static void test_unknown_names(void **state)
{
    static const char *const names[] = {
        "x",
        "by-names",
        "00000000-0000-0000-0000-00000000000",
        "00000000-0000-0000-0000-0000000000011",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        UUID(1) "/clas",
        UUID(1) "/class/powercap/intel-rapl:2",
        UUID(1) "/class/powercap/intel-rapl:0:2",
        UUID(1) "/class/powercap/intel-rapl/intel-rapl:0/energy_uj ",
        UUID(1) "/virtjoule/\xff\x01%s%n",
        "by-name/\xff",
        "by-name/%s",
    };
    char longest[256], beyond[2048];

    for (size_t i = 0; i < ELEMENTS(names); i++)
        assert_fails(access(at("%s", names[i]), F_OK), ENOENT);
    memset(longest, 'n', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    memset(beyond, 'n', sizeof(beyond) - 1);
    beyond[sizeof(beyond) - 1] = '\0';
    assert_fails(access(at("%s", longest), F_OK), ENOENT);
    assert_fails(access(at("by-name/%s", longest), F_OK), ENOENT);
    assert_fails(access(at("%s/%s", UUID(1), longest), F_OK), ENOENT);
    /* Which one depends on the kernel's own limit. */
    assert_int_equal(access(at("%s", beyond), F_OK), -1);
    assert_true(errno == ENAMETOOLONG || errno == ENOENT);
    assert_fails(access(at("%s/%s/x", UUID(1), ENERGY), F_OK), ENOTDIR);
    assert_fails(open(at("%s/class", UUID(1)), O_WRONLY | O_CLOEXEC), EISDIR);
}

/* The one spelling of a UUID that is listed, and no other. */
static void test_upper_case(void **state)
{
    struct snapshot_vm vm;
    struct snapshot *snapshot;
    struct powercapfs_config config = default_config();

    fixture_vm(&vm, 1, 0xa, "vm");
    snapshot = fixture_snapshot(&vm, 1);
    snapshot_board_post(board, snapshot);
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    assert_int_equal(access(at("00000000-0000-0000-0000-00000000000a"), F_OK), 0);
    assert_fails(access(at("00000000-0000-0000-0000-00000000000A"), F_OK), ENOENT);
}

static void assert_all_refused(void)
{
    const char *file = at("%s/%s", UUID(1), ENERGY), *directory = at("%s/class", UUID(1));
    const char *new = at("%s/new", UUID(1)),
               *link_path = at("%s/class/powercap/intel-rapl:0", UUID(1));
    struct stat st;

    assert_fails(open(file, O_WRONLY | O_CLOEXEC), EROFS);
    assert_fails(open(file, O_RDWR | O_CLOEXEC), EROFS);
    assert_fails(open(file, O_RDONLY | O_TRUNC | O_CLOEXEC), EROFS);
    assert_fails(open(new, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), EROFS);
    assert_fails(truncate(file, 0), EROFS);
    assert_fails(chmod(file, 0777), EROFS);
    assert_fails(chown(directory, 1, 1), EROFS);
    assert_fails(utimensat(AT_FDCWD, file, NULL, 0), EROFS);
    assert_fails(mkdir(new, 0700), EROFS);
    assert_fails(mkdir(at("new"), 0700), EROFS);
    assert_fails(mknod(new, S_IFIFO | 0600, 0), EROFS);
    assert_fails(symlink("/etc", new), EROFS);
    assert_fails(symlink("/etc", at("by-name/new")), EROFS);
    assert_fails(link(file, new), EROFS);
    assert_fails(unlink(file), EROFS);
    assert_fails(unlink(link_path), EROFS);
    assert_fails(unlink(at("by-name/web")), EROFS);
    assert_fails(rmdir(directory), EROFS);
    assert_fails(rename(file, new), EROFS);
    assert_fails(rename(at("%s", UUID(1)), at("%s", UUID(2))), EROFS);
    assert_fails(setxattr(file, "user.x", "y", 1, 0), EROFS);
    assert_fails(removexattr(file, "user.x"), EROFS);
    assert_int_equal(stat(file, &st), 0);
    assert_fails(access(new, F_OK), ENOENT);
}

static void test_read_only(void **state)
{
    assert_all_refused();
    /* Without the kernel's own refusal. */
    assert_int_equal(mount(NULL, mountpoint, NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, NULL), 0);
    assert_all_refused();
    assert_int_equal(
        mount(NULL, mountpoint, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL), 0);
}

static void test_attributes(void **state)
{
    struct stat st;

    assert_int_equal(stat(at("%s/%s", UUID(1), ENERGY), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0444);
    assert_int_equal(st.st_size, 4096);
    assert_int_equal(st.st_ino, 256 + 7); /* as in each VM's tree */
    assert_int_equal(stat(at("%s/class", UUID(1)), &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0555);
    assert_int_equal(stat(mountpoint, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0750);
    assert_int_equal(st.st_gid, TOP_GID);
    assert_int_equal(st.st_ino, 1);
    assert_int_equal(lstat(at("by-name/web"), &st), 0);
    assert_int_equal(st.st_mode, S_IFLNK | 0777);
    assert_int_equal(st.st_size, 3 + 36);
}

/* Attributes of a tree's nodes, as text: what stat and listings show a guest. */
static char *attributes;

static int note_attributes(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    char *before = attributes;
    int length =
        asprintf(&attributes, "%s%s ino %lu nlink %lu size %ld mode %o times %ld %ld %ld\n", before,
                 ftw->level ? path + ftw->base : "", st->st_ino, st->st_nlink, st->st_size,
                 st->st_mode, st->st_atim.tv_sec, st->st_mtim.tv_sec, st->st_ctim.tv_sec);

    free(before);
    return length < 0;
}

static void note_listing(const char *path)
{
    _cleanup_closedir_ DIR *directory = opendir(path);
    const struct dirent *entry;

    assert_non_null(directory);
    while ((entry = readdir(directory))) {
        char *before = attributes;

        assert_true(asprintf(&attributes, "%s%s ino %lu offset %ld\n", before, entry->d_name,
                             entry->d_ino, entry->d_off) > 0);
        free(before);
    }
}

static char *read_attributes(const char *share)
{
    struct statfs fs;
    char *before;

    attributes = strdup("");
    assert_int_equal(nftw(at("%s", share), note_attributes, 8, FTW_PHYS), 0);
    note_listing(at("%s", share));
    note_listing(at("%s/class/powercap", share));
    assert_int_equal(statfs(at("%s", share), &fs), 0);
    before = attributes;
    assert_true(asprintf(&attributes, "%sfiles %lu %lu blocks %lu %lu\n", before, fs.f_files,
                         fs.f_ffree, fs.f_blocks, fs.f_bfree) > 0);
    free(before);
    return attributes;
}

/* Nothing in a tree depends on how many VMs there are or were, or on when they came. */
static void test_trees_are_alike(void **state)
{
    _cleanup_free_ char *first = read_attributes(UUID(1)), *last = read_attributes(UUID(8));

    assert_string_equal(first, last);
}

/* What an unprivileged process of a group gets from opening the file: 0 or an errno. */
static int open_in_group(const char *path, gid_t group)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        if (setgroups(0, NULL) < 0 || setgid(group) < 0 || setuid(65534) < 0)
            _exit(255);
        _exit(open(path, O_RDONLY | O_CLOEXEC) >= 0 ? 0 : errno);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_owner_and_modes(void **state)
{
    struct powercapfs_config config = default_config();
    struct snapshot_vm vms[VMS];
    struct stat st;

    make_vms(vms);
    post(vms);
    assert_int_equal(chmod(mountpoint, 0755), 0);
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    /* The trees of all VMs are not for every user. */
    assert_int_equal(open_in_group(mountpoint, 65534), EACCES);
    assert_int_equal(open_in_group(at("%s/%s", UUID(1), ENERGY), 65534), EACCES);
    assert_int_equal(open_in_group(at("%s/%s", UUID(1), ENERGY), TOP_GID), 0);
    powercapfs = powercapfs_free(powercapfs);

    config.file_mode = 0400;
    config.file_uid = 12;
    config.file_gid = 34;
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    assert_int_equal(stat(at("%s/%s", UUID(1), ENERGY), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0400);
    assert_int_equal(st.st_uid, 12);
    assert_int_equal(st.st_gid, 34);
    assert_int_equal(stat(at("%s", UUID(1)), &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0500);
    assert_int_equal(st.st_uid, 12);
    assert_int_equal(open_in_group(at("%s/%s", UUID(1), ENERGY), TOP_GID), EACCES);
}

/* One value, with what it may be: see the head of this file. */
struct observation {
    uint64_t least_uj; /* totals, not wrapped */
    uint64_t most_uj;
    uint64_t value_uj;
};

static uint64_t board_energy(unsigned uuid, uint64_t time_ns)
{
    const struct snapshot *snapshot = snapshot_board_acquire(board);
    uint64_t energy_uj = 0;
    struct snapshot_vm key;

    fixture_vm(&key, 1, uuid, "");
    if (snapshot)
        energy_uj = snapshot_energy_uj(snapshot, snapshot_find_uuid(snapshot, key.uuid),
                                       TREE_PACKAGE, time_ns);
    snapshot_board_release(board, snapshot);
    return energy_uj - energy_uj % QUANTUM_UJ;
}

/* Of the last tick. */
static uint64_t board_time_ns(void)
{
    const struct snapshot *snapshot = snapshot_board_acquire(board);
    uint64_t time_ns = snapshot->time_ns;

    snapshot_board_release(board, snapshot);
    return time_ns;
}

/* The text of a value: digits, one newline, no leading zero. @return false otherwise */
static bool parse_value(const char *text, size_t length, uint64_t *ret)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits + 1 != length || text[digits] != '\n' || (*text == '0' && digits > 1))
        return false;
    return sscanf(text, "%" SCNu64, ret) == 1 && *ret <= TREE_MAX_ENERGY_UJ;
}

/* Reads a value in pieces of that many bytes; the first piece makes the value. */
static bool observe(int fd, unsigned uuid, size_t piece, struct observation *ret)
{
    char text[128] = "";
    size_t length = 0;
    ssize_t n;

    ret->least_uj = board_energy(uuid, now_ns());
    do {
        n = pread(fd, text + length, piece, (off_t)length);
        if (length == 0)
            ret->most_uj = board_energy(uuid, now_ns());
        if (n > 0)
            length += (size_t)n;
        if (piece == 1)
            usleep(500);
    } while (n > 0 && length + piece < sizeof(text));
    return n == 0 && parse_value(text, length, &ret->value_uj);
}

/* Is the value one of those from least to most, each wrapped? */
static bool plausible(const struct observation *seen)
{
    uint64_t above = (seen->value_uj + RANGE - seen->least_uj % RANGE) % RANGE;

    return above <= seen->most_uj - seen->least_uj;
}

static void test_byte_by_byte(void **state)
{
    _cleanup_close_ int fd = open(at("%s/%s", UUID(1), ENERGY), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    for (unsigned i = 0; i < 100; i++) {
        struct observation seen;

        assert_true(observe(fd, 1, 1, &seen));
        if (!plausible(&seen))
            fail_msg("torn: %" PRIu64 " not in %" PRIu64 "..%" PRIu64, seen.value_uj,
                     seen.least_uj % RANGE, seen.most_uj % RANGE);
    }
}

static void test_kept_open(void **state)
{
    _cleanup_close_ int fd = open(at("%s/%s", UUID(8), ENERGY), O_RDONLY | O_CLOEXEC);
    uint64_t last = UINT64_MAX;
    unsigned distinct = 0;

    assert_true(fd >= 0);
    /* Where a value stays, the ramp stands still as its next tick is late; else it is not
     * plausible.
     */
    while (distinct < 50) {
        struct observation seen = {0};

        assert_true(observe(fd, 8, 64, &seen));
        assert_true(plausible(&seen));
        distinct += seen.value_uj != last;
        last = seen.value_uj;
        usleep(10000);
    }
}

static void test_offsets(void **state)
{
    _cleanup_close_ int fd =
        open(at("%s/class/powercap/intel-rapl:0/name", UUID(1)), O_RDONLY | O_CLOEXEC);
    char text[16] = "";

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, text, sizeof(text), 8), 2);
    assert_memory_equal(text, "0\n", 2);
    assert_int_equal(pread(fd, text, sizeof(text), 10), 0);
    assert_int_equal(pread(fd, text, sizeof(text), 4096), 0);
    assert_int_equal(pread(fd, text, sizeof(text), INT64_MAX - 4096), 0);
    assert_fails(pread(fd, text, sizeof(text), -1), EINVAL);
    assert_int_equal(pread(fd, text, 0, 0), 0);
    assert_int_equal(pread(fd, text, 7, 0), 7);
    assert_memory_equal(text, "package", 7);
}

/* virtiofsd's way: an O_PATH descriptor, opened again through /proc. */
static void test_reopen(void **state)
{
    _cleanup_close_ int fd =
        open(at("%s/class/powercap/intel-rapl/intel-rapl:0/name", UUID(1)), O_PATH | O_CLOEXEC);
    char path[64];

    assert_true(fd >= 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_content(path, "package-0\n");
}

#define READERS 24
/* Readers poll until they have seen what they are to see, or for so many ticks: more than a busy
 * machine needs, and less than the counter needs to wrap a second time. */
#define TICKS_MAX 600
_Static_assert(TICKS_MAX < RANGE / STEP_UJ, "the counter wraps once");

struct reader {
    pthread_t thread;
    bool keep_open;
    unsigned grown; /* values that grew within a tick: a stair's do not */
    unsigned wraps;
    const char *error;
};

static const char *poll_counter(struct reader *reader)
{
    const char *path = at("%s/%s", UUID(1), ENERGY);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned begin = atomic_load(&ticks);
    uint64_t last = 0, last_tick_ns = 0;

    while ((reader->wraps == 0 || reader->grown <= 40) && atomic_load(&ticks) - begin < TICKS_MAX) {
        uint64_t tick_ns = board_time_ns();
        struct observation seen;

        if (fd < 0 || !observe(fd, 1, 64, &seen))
            return "no value";
        if (!plausible(&seen))
            return "not on the ramp";
        if (seen.value_uj < last) {
            if (last < TREE_MAX_ENERGY_UJ / 2 || seen.value_uj > TREE_MAX_ENERGY_UJ / 2)
                return "went backwards";
            reader->wraps++;
        }
        reader->grown += seen.value_uj > last && board_time_ns() == last_tick_ns;
        last = seen.value_uj;
        last_tick_ns = tick_ns;
        if (!reader->keep_open) {
            close(fd);
            fd = open(path, O_RDONLY | O_CLOEXEC);
        }
        usleep(5000);
    }
    return NULL;
}

static void *reader_run(void *data)
{
    struct reader *reader = data;

    reader->error = poll_counter(reader);
    return NULL;
}

/* Starts afresh, so the wrap comes within the polling. */
static void test_many_readers(void **state)
{
    struct reader readers[READERS] = {0};

    for (unsigned i = 0; i < READERS; i++) {
        readers[i].keep_open = i % 2;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]), 0);
    }
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i].thread, NULL);
    for (unsigned i = 0; i < READERS; i++) {
        if (readers[i].error)
            fail_msg("reader %u: %s", i, readers[i].error);
        assert_int_equal(readers[i].wraps, 1);
        assert_true(readers[i].grown > 40);
    }
}

static uint64_t read_age_us(void)
{
    _cleanup_fclose_ FILE *file = fopen(at("%s/virtjoule/age_us", UUID(1)), "re");
    uint64_t us = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%" SCNu64, &us), 1);
    return us;
}

/* The age is that of the last tick, and grows between the ticks. */
static void test_age(void **state)
{
    const uint64_t step = INTERVAL_NS / 10 / NSEC_PER_USEC;
    uint64_t least = UINT64_MAX, most = 0;

    for (unsigned i = 0;
         i < 100 || least >= INTERVAL_NS / NSEC_PER_USEC / 2 || most <= least + 50000; i++) {
        uint64_t before_ns = now_ns(), tick_ns = board_time_ns(), age = read_age_us();
        uint64_t oldest = (now_ns() - tick_ns) / NSEC_PER_USEC;

        assert_true(age <= oldest);
        tick_ns = board_time_ns();
        assert_true(tick_ns > before_ns || age + step >= (before_ns - tick_ns) / NSEC_PER_USEC);
        assert_true(i < 10000);
        least = age < least ? age : least;
        most = age > most ? age : most;
        usleep(7000);
    }
}

static void go_and_return(int how)
{
    const char *path = at("%s/%s", UUID(8), ENERGY);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int directory = open(at("%s", UUID(8)), O_PATH | O_CLOEXEC);
    struct stat st;
    char text[64];

    assert_true(fd >= 0 && directory >= 0);
    assert_true(pread(fd, text, sizeof(text), 0) > 0);
    atomic_store(&guest, how);
    wait_ticks(3);
    assert_fails(pread(fd, text, sizeof(text), 0), ESTALE);
    assert_fails(fstat(fd, &st), ESTALE);
    assert_fails(open(path, O_RDONLY | O_CLOEXEC), ENOENT);
    assert_fails(stat(at("%s", UUID(8)), &st), ENOENT);
    assert_fails(faccessat(directory, "class", F_OK, 0), ESTALE);
    assert_fails(access(at("by-name/guest"), F_OK), ENOENT);
    atomic_store(&guest, GUEST_HAS_TREE);
    wait_ticks(3);
    assert_true(pread(fd, text, sizeof(text), 0) > 0);
    assert_int_equal(faccessat(directory, "class", F_OK, 0), 0);
    assert_int_equal(access(at("by-name/guest"), F_OK), 0);
}

static void test_vm_goes_and_returns(void **state)
{
    go_and_return(GUEST_GONE);
    go_and_return(GUEST_WITHOUT_TREE);
}

static void test_read_counts(void **state)
{
    uint32_t id = 100 - (VM_ETC - 1);

    assert_true(powercapfs_reads(powercapfs, id) == 0);
    assert_content(at("%s/%s/../name", UUID(3), "class/powercap/intel-rapl:0/intel-rapl:0:0"),
                   "package-0\n");
    assert_true(powercapfs_reads(powercapfs, id) == 2); /* the text and its end */
    powercapfs_forget(powercapfs, id);
    assert_true(powercapfs_reads(powercapfs, id) == 0);
    assert_true(powercapfs_reads(powercapfs, 12345) == 0);
}

/* Beyond the bound files open and read, and other VMs do not notice. */
static void test_many_open_files(void **state)
{
    int fds[OPEN_FILES_PER_VM + 50];

    for (size_t i = 0; i < ELEMENTS(fds); i++) {
        fds[i] = open(at("%s/class/powercap/intel-rapl:0/name", UUID(1)), O_RDONLY | O_CLOEXEC);
        assert_true(fds[i] >= 0);
    }
    for (size_t i = 0; i < ELEMENTS(fds); i++) {
        char text[16] = "";

        assert_int_equal(read(fds[i], text, 7), 7);
        assert_int_equal(read(fds[i], text + 7, sizeof(text) - 7), 3);
        assert_string_equal(text, "package-0\n");
    }
    assert_content(at("%s/class/powercap/intel-rapl:0/name", UUID(2)), "package-0\n");
    for (size_t i = 0; i < ELEMENTS(fds); i++)
        close(fds[i]);
}

static void test_no_snapshot_yet(void **state)
{
    struct powercapfs_config config = default_config();
    size_t entries;

    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    assert_true(is_listed(mountpoint, "by-name", &entries));
    assert_int_equal(entries, 3);
    assert_false(is_listed(at("by-name"), "x", &entries));
    assert_int_equal(entries, 2);
    assert_fails(access(at("%s", UUID(1)), F_OK), ENOENT);
    assert_fails(access(at("by-name/web"), F_OK), ENOENT);
}

/* Long listings take many requests; snapshots that come in between change nothing. */
static void test_many_vms(void **state)
{
    enum { MANY = 3000 };
    struct powercapfs_config config = default_config();
    _cleanup_free_ struct snapshot_vm *vms = calloc(MANY, sizeof(*vms));
    _cleanup_closedir_ DIR *root = NULL, *names = NULL;
    size_t n_root = 0, n_names = 0;

    assert_non_null(vms);
    for (unsigned i = 0; i < MANY; i++)
        fixture_vm(&vms[i], i + 1, i, "same");
    snapshot_board_post(board, fixture_snapshot(vms, MANY));
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    root = opendir(mountpoint);
    names = opendir(at("by-name"));
    assert_true(root && names);
    while (readdir(root)) {
        if (++n_root % 200 == 0)
            snapshot_board_post(board, fixture_snapshot(vms, MANY));
    }
    while (readdir(names)) {
        if (++n_names % 200 == 0)
            snapshot_board_post(board, fixture_snapshot(vms, MANY));
    }
    assert_int_equal(n_root, MANY + 3);
    assert_int_equal(n_names, MANY + 2);
    assert_int_equal(access(at("by-name/same@%s", vms[MANY - 1].uuid_text), F_OK), 0);
}

/* What is on the mount point: "" when nothing is, as the kernel tells it. */
static const char *mounted_type(void)
{
    static char type[64];
    _cleanup_fclose_ FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[4096];

    assert_non_null(file);
    type[0] = '\0';
    while (fgets(line, sizeof(line), file)) {
        char path[PATH_MAX], found[64];

        if (sscanf(line, "%*s %*s %*s %*s %4095s", path) == 1 && strcmp(path, mountpoint) == 0 &&
            sscanf(strstr(line, " - "), " - %63s", found) == 1)
            snprintf(type, sizeof(type), "%s", found);
    }
    return type;
}

/* Leaves the mount of a process that was killed. */
static void leave_dead_mount(void)
{
    int ready[2], status;
    pid_t child;
    char byte;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct powercapfs_config config = default_config();

        if (powercapfs_new(&powercapfs, &config, board, NULL) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    assert_string_equal(mounted_type(), "fuse.virtjoule");
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
}

static void test_dead_mount(void **state)
{
    struct powercapfs_config config = default_config();

    leave_dead_mount();
    assert_fails(access(at("by-name"), F_OK), ENOTCONN);
    log_set_max_level(LOG_EMERG);
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    log_set_max_level(LOG_INFO);
    assert_int_equal(access(at("by-name"), F_OK), 0);
    powercapfs = powercapfs_free(powercapfs);
    assert_string_equal(mounted_type(), "");
}

static void assert_new_fails(const char *path, int r)
{
    struct powercapfs_config config = default_config();
    struct powercapfs *fs = NULL;

    config.mountpoint = path;
    log_set_max_level(LOG_EMERG);
    assert_int_equal(powercapfs_new(&fs, &config, board, NULL), r);
    log_set_max_level(LOG_INFO);
    assert_null(fs);
}

static void test_busy(void **state)
{
    struct powercapfs_config config = default_config();

    assert_int_equal(mount("none", mountpoint, "tmpfs", 0, NULL), 0);
    assert_new_fails(mountpoint, -EBUSY);
    assert_string_equal(mounted_type(), "tmpfs");
    assert_int_equal(umount2(mountpoint, 0), 0);

    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    assert_new_fails(mountpoint, -EBUSY);
    assert_int_equal(access(at("by-name"), F_OK), 0);
}

static void test_unusable(void **state)
{
    _cleanup_close_ int fd = open(at("file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_new_fails(mountpoint, -ENOTEMPTY);
    assert_new_fails(at("file"), -ENOTDIR);
    assert_new_fails(at("file/below"), -ENOTDIR);
    assert_int_equal(unlink(at("file")), 0);
    assert_int_equal(symlink("nowhere", at("dangling")), 0);
    assert_new_fails(at("dangling"), -ENOTDIR);
    assert_int_equal(unlink(at("dangling")), 0);
    assert_string_equal(mounted_type(), "");
}

/* Missing directories are made, and a path may go over a link. */
static void test_mountpoint_is_made(void **state)
{
    struct powercapfs_config config = default_config();

    assert_int_equal(mkdir(at("real"), 0755), 0);
    assert_int_equal(symlink("real", at("link")), 0);
    config.mountpoint = at("link/a/b c");
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    assert_int_equal(access(at("real/a/b c/by-name"), F_OK), 0);
    powercapfs = powercapfs_free(powercapfs);
    assert_fails(access(at("real/a/b c/by-name"), F_OK), ENOENT);
    assert_int_equal(rmdir(at("real/a/b c")), 0);
    assert_int_equal(rmdir(at("real/a")), 0);
    assert_int_equal(unlink(at("link")), 0);
    assert_int_equal(rmdir(at("real")), 0);
}

/* Stopping does not wait for readers, even with a file open. */
static void test_stop_with_open_file(void **state)
{
    struct powercapfs_config config = default_config();
    _cleanup_close_ int fd = -1;
    struct snapshot_vm vms[VMS];
    char text[64];

    make_vms(vms);
    post(vms);
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    fd = open(at("%s/%s", UUID(1), ENERGY), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    /* A stop that waited would wait for ever: the file is closed after it. */
    alarm(60);
    powercapfs = powercapfs_free(powercapfs);
    alarm(0);
    assert_int_equal(pread(fd, text, sizeof(text), 0), -1);
    assert_string_equal(mounted_type(), "");
}

static void test_unmounted_from_outside(void **state)
{
    struct powercapfs_config config = default_config();

    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
    log_set_max_level(LOG_EMERG);
    assert_int_equal(umount2(mountpoint, 0), 0);
    usleep(100000);
    log_set_max_level(LOG_INFO);
    powercapfs = powercapfs_free(powercapfs);
    assert_int_equal(powercapfs_new(&powercapfs, &config, board, NULL), 0);
}

/* Signals are the main thread's business. */
static void test_thread(void **state)
{
    _cleanup_closedir_ DIR *tasks = opendir("/proc/self/task");
    const struct dirent *entry;
    unsigned found = 0;

    assert_non_null(tasks);
    while ((entry = readdir(tasks))) {
        char path[PATH_MAX], line[256], name[32] = "";
        _cleanup_fclose_ FILE *status = NULL;
        uint64_t blocked = 0;

        snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
        status = *entry->d_name == '.' ? NULL : fopen(path, "re");
        while (status && fgets(line, sizeof(line), status)) {
            sscanf(line, "Name: %31s", name);
            sscanf(line, "SigBlk: %" SCNx64, &blocked);
        }
        if (strcmp(name, "powercapfs") != 0)
            continue;
        found++;
        assert_true(blocked & (1U << (SIGTERM - 1)));
        assert_true(blocked & (1U << (SIGHUP - 1)));
    }
    assert_int_equal(found, 1);
}

int main(void)
{
#define FED(test) cmocka_unit_test_setup_teardown(test, start, stop)
#define BARE(test) cmocka_unit_test_setup_teardown(test, make_mountpoint, remove_mountpoint)
    const struct CMUnitTest tests[] = {
        FED(test_tree),
        FED(test_links_stay_inside),
        FED(test_root),
        FED(test_by_name),
        FED(test_unknown_names),
        FED(test_read_only),
        FED(test_attributes),
        FED(test_trees_are_alike),
        FED(test_byte_by_byte),
        FED(test_kept_open),
        FED(test_offsets),
        FED(test_reopen),
        FED(test_many_readers),
        FED(test_age),
        FED(test_vm_goes_and_returns),
        FED(test_read_counts),
        FED(test_many_open_files),
        FED(test_thread),
        BARE(test_upper_case),
        BARE(test_owner_and_modes),
        BARE(test_no_snapshot_yet),
        BARE(test_many_vms),
        BARE(test_dead_mount),
        BARE(test_busy),
        BARE(test_unusable),
        BARE(test_mountpoint_is_made),
        BARE(test_stop_with_open_file),
        BARE(test_unmounted_from_outside),
    };
    const char *preload = getenv("LD_PRELOAD");

    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0) {
        fputs("skipped: mounting needs root and /dev/fuse\n", stderr);
        return 77;
    }
    /* It holds its one lock in open(2), so the thread that is to serve the open never runs. */
    if (preload && strstr(preload, "vgpreload")) {
        fputs("skipped: valgrind cannot run a process that uses its own FUSE mount\n", stderr);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
