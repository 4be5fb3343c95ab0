/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/machine.h"
#include "fixture.h"
#include "ledger/ledger_store.h"
#include "ledger/ledger_writer.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/image_file.h"
#include "util/log.h"

static const struct ledger_identity this_boot = {{1}, {9}};
static const struct ledger_identity next_boot = {{2}, {9}};

/* Of a millisecond each: the disk of a busy machine needs its time. */
#define ATTEMPTS_MAX 120000

/* A daemon's part of it: the ledger in the directories run and state below the test's. */
struct host {
    const char *root;
    struct machine machine;
    struct ledger_store *store;
    uint64_t last_ns; /* when the loaded ledger's last interval ended */
};

static char *path_of(const char *root, const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static void start_with(struct host *host, const char *root, struct ledger_identity identity,
                       uint64_t tick, size_t n_vms)
{
    char run[PATH_MAX], state[PATH_MAX];
    const struct ledger_store_config config = {run, state, identity};

    snprintf(run, sizeof(run), "%s/run", root);
    snprintf(state, sizeof(state), "%s/state", root);
    host->root = root;
    machine_start(&host->machine, n_vms, "rapl", STATIC_EQUAL);
    host->machine.time_ns = tick * NSEC_PER_SEC;
    assert_int_equal(ledger_store_new(&host->store, &config), 0);
    assert_int_equal(ledger_store_load(host->store, host->machine.ledger, "rapl",
                                       &host->machine.zones, host->machine.time_ns,
                                       &host->machine.sampler, &host->last_ns),
                     0);
}

static void start(struct host *host, const char *root, struct ledger_identity identity,
                  uint64_t tick)
{
    start_with(host, root, identity, tick, 3);
}

static void tick(struct host *host)
{
    machine_run_tick(&host->machine);
    ledger_store_save(host->store, host->machine.ledger, &host->machine.sampler,
                      host->machine.time_ns);
}

static void stop(struct host *host)
{
    ledger_store_free(host->store);
    machine_deinit(&host->machine);
}

static struct snapshot *snapshot(struct host *host)
{
    return machine_snapshot(&host->machine);
}

static uint64_t measured_uj(struct host *host)
{
    struct snapshot *now = snapshot(host);
    uint64_t ret = now->zones[0].measured_uj;

    snapshot_free(now);
    return ret;
}

static int directories_setup(void **state)
{
    return fixture_setup(state) < 0 || make_directories(path_of(*state, "run"), 0755) < 0 ||
                   make_directories(path_of(*state, "state"), 0755) < 0
               ? -1
               : 0;
}

/* How many files were set aside in a directory. */
static int count_aside(const char *root, const char *directory)
{
    DIR *dir = opendir(path_of(root, directory));
    struct dirent *entry;
    int n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += strncmp(entry->d_name, "ledger.bad-", strlen("ledger.bad-")) == 0;
    closedir(dir);
    return n;
}

static void test_process_and_host(void **state)
{
    struct host host;
    uint64_t before;

    start(&host, *state, this_boot, 10);
    assert_int_equal(measured_uj(&host), 0);
    for (int i = 0; i < 3; i++)
        tick(&host);
    before = measured_uj(&host);
    assert_true(before > 0);
    stop(&host);

    /* Another process of the same boot knows the readings, one of the next does not. */
    start(&host, *state, this_boot, 20);
    assert_int_equal(measured_uj(&host), before);
    assert_int_equal(host.last_ns, 13 * NSEC_PER_SEC);
    assert_true(host.machine.sampler.last[0].valid && !host.machine.sampler.gap[0]);
    stop(&host);
    start(&host, *state, next_boot, 30);
    assert_int_equal(measured_uj(&host), before);
    assert_false(host.machine.sampler.last[0].valid);
    assert_int_equal(host.last_ns, 0);
    tick(&host);
    before = measured_uj(&host);
    stop(&host);

    /* Without the runtime file, and without the checkpoint. */
    fixture_remove(*state, "run/ledger");
    start(&host, *state, next_boot, 40);
    assert_int_equal(measured_uj(&host), before);
    tick(&host);
    before = measured_uj(&host);
    stop(&host);
    fixture_remove(*state, "state");
    start(&host, *state, next_boot, 50);
    assert_int_equal(measured_uj(&host), before);
    stop(&host);
    assert_int_equal(count_aside(*state, "run"), 0);
}

struct report {
    uint64_t sequence;
    uint64_t measured_uj;
};

/* Saves as fast as it can, and tells what it would publish, until it is killed. */
__attribute__((noreturn)) static void save_for_ever(struct host *host, int fd)
{
    for (uint64_t sequence = 1;; sequence++) {
        struct report report;

        machine_run_tick(&host->machine);
        ledger_store_save(host->store, host->machine.ledger, &host->machine.sampler,
                          host->machine.time_ns);
        report = (struct report){sequence, measured_uj(host)};
        if (write(fd, &report, sizeof(report)) != sizeof(report))
            _exit(1);
    }
}

/* Many VMs: the kernel ends a write between two pages. */
static void test_kill(void **state)
{
    enum { VMS = 400 };
    struct report report = {0};
    uint64_t tick_number = 10;

    for (unsigned round = 0; round < 50; round++) {
        struct host host;
        uint64_t loaded;
        int fds[2];
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        assert_int_equal(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0, 1);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            start_with(&host, *state, this_boot, tick_number, VMS);
            save_for_ever(&host, fds[1]);
        }
        close(fds[1]);
        /* Not before it has published something; then at any moment. */
        assert_int_equal(read(fds[0], &report, sizeof(report)), sizeof(report));
        usleep(round * 137);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(fds[0], &report, sizeof(report)) == sizeof(report))
            ;
        close(fds[0]);

        /* What was seen last, or the tick after it, which was not seen any more. */
        tick_number += report.sequence + 2;
        start_with(&host, *state, this_boot, tick_number, VMS);
        loaded = measured_uj(&host);
        assert_true(loaded >= report.measured_uj);
        assert_true(loaded <= report.measured_uj + 33000000);
        /* Not a clean end: the next round continues from what the kill left. */
        tick(&host);
        stop(&host);
    }
    assert_int_equal(count_aside(*state, "run"), 0);
    assert_int_equal(count_aside(*state, "state"), 0);
}

static uint64_t checkpoint_sequence(const char *root)
{
    struct image_head head = {0};

    read_file(AT_FDCWD, path_of(root, "state/ledger"), (char *)&head, sizeof(head));
    return head.sequence;
}

static bool is_not_below(const struct snapshot *after, const struct snapshot *before)
{
    bool ok = true;

    for (size_t slot = 0; slot < before->n_zones; slot++) {
        const struct snapshot_zone *zone = &after->zones[slot], *was = &before->zones[slot];
        uint64_t sum = zone->host_uj + zone->static_uj + zone->unattributed_uj;

        ok &= zone->host_uj >= was->host_uj && zone->static_uj >= was->static_uj &&
              zone->measured_uj >= was->measured_uj;
        for (size_t i = 0; i < before->n_vms; i++) {
            const struct snapshot_vm *vm = &after->vms[i];

            ok &= vm->dynamic_uj[slot] >= before->vms[i].dynamic_uj[slot] &&
                  vm->static_uj[slot] >= before->vms[i].static_uj[slot];
            sum += vm->dynamic_uj[slot];
        }
        assert_int_equal(sum, zone->measured_uj);
    }
    for (size_t i = 0; i < before->n_vms; i++)
        for (int zone = 0; zone < TREE_ZONES; zone++)
            ok &= after->vms[i].tree[zone].to_uj >= before->vms[i].tree[zone].to_uj;
    return ok;
}

/* Would a ledger that has only the checkpoint show at least what was seen? */
static bool is_covered(const char *root, const struct snapshot *seen)
{
    struct host host = {0};
    struct ledger_image image;
    struct snapshot *after;
    size_t size;
    char *bytes;
    bool covered;

    if (read_file_full(AT_FDCWD, path_of(root, "state/ledger"), 1 << 20, &bytes, &size) < 0)
        return false;
    machine_start(&host.machine, 3, "rapl", STATIC_EQUAL);
    assert_int_equal(ledger_image_parse(bytes, size, &image), 0);
    assert_int_equal(ledger_restore(host.machine.ledger, &image, 0), 0);
    assert_int_equal(ledger_update_vms(host.machine.ledger, &host.machine.vms, 0), 0);
    after = snapshot(&host);
    covered = is_not_below(after, seen);
    snapshot_free(after);
    free(bytes);
    machine_deinit(&host.machine);
    return covered;
}

/* Without another tick, once the writer has had its time. */
static void wait_covered(struct host *host)
{
    struct snapshot *seen = snapshot(host);
    int attempts = 0;

    while (!is_covered(host->root, seen)) {
        assert_in_range(attempts++, 0, ATTEMPTS_MAX);
        usleep(1000);
        ledger_store_save(host->store, host->machine.ledger, &host->machine.sampler,
                          host->machine.time_ns);
    }
    snapshot_free(seen);
}

/* A runtime directory that survives a reboot: what is in it is not known to have reached the disk,
   nor to be all that was seen. */
static void test_runtime_file_of_an_earlier_boot(void **state)
{
    struct report report;
    struct host host;
    int fds[2];
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        start(&host, *state, this_boot, 10);
        for (int i = 0; i < 3; i++) {
            tick(&host);
            wait_covered(&host);
        }
        report = (struct report){3, measured_uj(&host)};
        _exit(write(fds[1], &report, sizeof(report)) != sizeof(report));
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &report, sizeof(report)), sizeof(report));
    close(fds[0]);
    waitpid(pid, NULL, 0);
    start(&host, *state, next_boot, 20);
    assert_true(measured_uj(&host) > report.measured_uj);
    stop(&host);
}

static void test_power_loss_at_every_tick(void **state)
{
    uint64_t last = 0;
    unsigned checkpoints = 0;
    struct host host;

    log_set_max_level(LOG_ERR);
    start(&host, *state, this_boot, 10);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t sequence;

        /* The last VM is idle at first. */
        host.machine.usage.n_vms = i < 100 ? 2 : 3;
        tick(&host);
        wait_covered(&host);
        sequence = checkpoint_sequence(*state);
        checkpoints += sequence != last;
        last = sequence;
    }
    /* One a minute, and more only while the load is new. */
    assert_in_range(checkpoints, 4, 8);
    stop(&host);
}

static void test_unusable_files(void **state)
{
    char *const files[] = {"run/ledger", "state/ledger"};
    struct host host;
    uint64_t before;

    /* Neither can be used. */
    for (int i = 0; i < 2; i++)
        fixture_write(*state, "this is no ledger", "%s", files[i]);
    start(&host, *state, this_boot, 10);
    assert_int_equal(measured_uj(&host), 0);
    assert_int_equal(count_aside(*state, "run"), 1);
    assert_int_equal(count_aside(*state, "state"), 1);
    tick(&host);
    tick(&host);
    before = measured_uj(&host);
    stop(&host);

    /* One of them can. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(truncate(path_of(*state, files[i]), 1000), 0);
        start(&host, *state, this_boot, 20 + (uint64_t)i);
        assert_int_equal(measured_uj(&host), before);
        tick(&host);
        before = measured_uj(&host);
        stop(&host);
    }

    /* Another machine's. */
    fixture_remove(*state, "run/ledger");
    start(&host, *state, (struct ledger_identity){{3}, {7}}, 40);
    assert_int_equal(measured_uj(&host), 0);
    stop(&host);
}

/* Whatever is planted in the place of a file is set aside, and the other file is used. */
static void test_planted_files(void **state)
{
    static const char *const files[] = {"run/ledger", "state/ledger"};
    struct host host;
    uint64_t before;

    start(&host, *state, this_boot, 10);
    tick(&host);
    tick(&host);
    before = measured_uj(&host);
    stop(&host);
    for (int i = 0; i < 6; i++) {
        const char *path = path_of(*state, files[i % 2]);

        assert_int_equal(unlink(path), 0);
        if (i < 2)
            assert_int_equal(mkfifo(path, 0600), 0);
        else if (i < 4)
            assert_int_equal(symlink("/dev/zero", path), 0);
        else
            fixture_write(*state, "", "%s", files[i % 2]);
        if (i >= 4)
            assert_int_equal(truncate(path, (off_t)1 << 40), 0);
        start(&host, *state, this_boot, 20 + (uint64_t)i);
        assert_int_equal(measured_uj(&host), before);
        tick(&host);
        before = measured_uj(&host);
        stop(&host);
    }
    assert_true(count_aside(*state, "run") > 0 && count_aside(*state, "state") > 0);
}

/* The writers refuse what the readers would refuse, and what was there stays. */
static void test_longest_image(void **state)
{
    _cleanup_free_ char *image = calloc(1, IMAGE_MAX + 1), *text = NULL, *again = NULL;
    const char *path = path_of(*state, "run/ledger");
    struct ledger_writer *writer;
    struct image_file *file;
    void *found;
    size_t size;
    int r;

    image[IMAGE_MAX - 1] = 'x';
    assert_int_equal(image_file_new(&file, path), 0);
    assert_int_equal(image_file_write(file, image, IMAGE_MAX), 0);
    assert_int_equal(image_file_write(file, image, IMAGE_MAX + 1), -EFBIG);
    image_file_free(file);
    assert_int_equal(read_state_file(path, IMAGE_FILE_MAX, &text, &size), 0);
    assert_int_equal(image_file_parse(text, size, 0, &found, &size), 0);
    assert_int_equal(size, IMAGE_MAX);

    path = path_of(*state, "state/ledger");
    assert_int_equal(ledger_writer_new(&writer, path), 0);
    for (int i = 0; i < 2; i++) {
        ledger_writer_submit(writer, image, IMAGE_MAX + (size_t)i);
        while (!ledger_writer_wait(writer, NSEC_PER_SEC, &r))
            ;
        assert_int_equal(r, i == 0 ? 0 : -EFBIG);
    }
    ledger_writer_free(writer);
    assert_int_equal(read_state_file(path, IMAGE_MAX, &again, &size), 0);
    assert_int_equal(size, IMAGE_MAX);
}

static void test_unwritable_files(void **state)
{
    struct host host;
    uint64_t before;

    fixture_remove(*state, "run");
    fixture_remove(*state, "state");
    fixture_write(*state, "", "run");
    fixture_write(*state, "", "state");
    start(&host, *state, this_boot, 10);
    for (int i = 0; i < 5; i++)
        tick(&host);
    assert_true(measured_uj(&host) > 0);
    /* They can be written again, and are. */
    fixture_remove(*state, "run");
    fixture_remove(*state, "state");
    assert_int_equal(make_directories(path_of(*state, "run"), 0755), 0);
    for (int i = 0; i < 130 || access(path_of(*state, "state/ledger"), F_OK) != 0; i++) {
        assert_in_range(i, 0, ATTEMPTS_MAX);
        usleep(1000);
        tick(&host);
    }
    assert_int_equal(access(path_of(*state, "run/ledger"), F_OK), 0);

    /* Under our feet: cut off, removed. */
    assert_int_equal(truncate(path_of(*state, "run/ledger"), 10), 0);
    tick(&host);
    tick(&host);
    assert_int_equal(unlink(path_of(*state, "run/ledger")), 0);
    tick(&host);
    before = measured_uj(&host);
    stop(&host);
    fixture_remove(*state, "state");
    start(&host, *state, this_boot, 20000);
    assert_int_equal(measured_uj(&host), before);
    stop(&host);
}

/* The runtime file. */

static void read_runtime(const char *root, char **ret, size_t *ret_size)
{
    assert_int_equal(
        read_file_full(AT_FDCWD, path_of(root, "run/ledger"), IMAGE_FILE_MAX, ret, ret_size), 0);
}

static void assert_holds(const char *root, char letter, size_t length)
{
    void *image;
    char *bytes;
    size_t size, image_size;

    read_runtime(root, &bytes, &size);
    assert_int_equal(image_file_parse(bytes, size, 0, &image, &image_size), 0);
    assert_int_equal(image_size, length);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(((const char *)image)[i], letter);
    free(bytes);
}

static void test_runtime_file(void **state)
{
    static char image[300000];
    struct image_file *file;
    void *found;
    size_t size, found_size;
    char *bytes;

    assert_int_equal(image_file_new(&file, path_of(*state, "run/ledger")), 0);
    for (int letter = 'a'; letter < 'f'; letter++) {
        /* Grows now and then. */
        size_t length = (size_t)(letter - 'a' + 1) * 50001;

        memset(image, letter, length);
        assert_int_equal(image_file_write(file, image, length), 0);
        assert_holds(*state, (char)letter, length);
    }
    /* The one before is left alone until the next write. */
    memset(image, 'f', 5);
    assert_int_equal(image_file_write(file, image, 5), 0);
    read_runtime(*state, &bytes, &size);
    assert_int_equal(image_file_parse(bytes, size, 0, &found, &found_size), 0);
    memset(found, 0, found_size);
    assert_int_equal(image_file_parse(bytes, size, 1, &found, &found_size), 0);
    assert_true(found_size >= 5 * 50001);
    assert_memory_equal(found, "eeeee", 5);
    free(bytes);
    assert_int_equal(access(path_of(*state, "run/ledger.new"), F_OK), -1);
    image_file_free(file);

    read_runtime(*state, &bytes, &size);
    for (size_t cut = 0; cut < 100; cut++)
        assert_true(image_file_parse(bytes, cut, 0, &found, &found_size) < 0);
    for (size_t bit = 0; bit < 40 * 8; bit++) {
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        assert_true(image_file_parse(bytes, size, 0, &found, &found_size) < 0);
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
    }
    assert_int_equal(image_file_parse(bytes, size, 0, &found, &found_size), 0);
    assert_int_equal(image_file_parse(bytes, (size_t)((const char *)found - bytes) + found_size - 1,
                                      0, &found, &found_size),
                     -EBADMSG);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_process_and_host, directories_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_kill, directories_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_runtime_file_of_an_earlier_boot, directories_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_power_loss_at_every_tick, directories_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_unusable_files, directories_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_planted_files, directories_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_longest_image, directories_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_unwritable_files, directories_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_runtime_file, directories_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
