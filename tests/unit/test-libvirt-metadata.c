/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Against libvirt's own test driver, which keeps its domains in this process. */

#include "unit.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvirt/energy_metadata.h"
#include "libvirt/libvirt_metadata.h"
#include "util/clock.h"

#define J UINT64_C(1000000)

#define URI "test:///default"

/* The process that writes for a daemon that may not: a thread here. */
struct other_process {
    struct sockaddr_un address;
    char directory[32];
    int listen_fd;
    pthread_t thread;
};

struct fixture {
    virConnectPtr connection;
    virDomainPtr domain;
    struct metadata_writer writer;
    struct other_process other;
    struct libvirt_metadata *metadata_sync;
    struct vm_departure departure;
};

static void ignore_error(void *data, virErrorPtr error)
{
}

static int setup(void **state)
{
    static struct fixture f;

    virSetErrorFunc(NULL, ignore_error);
    f = (struct fixture){.connection = virConnectOpen(URI)};
    assert_non_null(f.connection);
    f.writer = (struct metadata_writer){.connection = f.connection, .fd = -1};
    f.domain = virDomainLookupByName(f.connection, "test");
    assert_non_null(f.domain);
    assert_int_equal(virDomainGetUUID(f.domain, f.departure.uuid), 0);
    f.departure.start_number = virDomainGetID(f.domain);
    assert_int_equal(libvirt_metadata_new(&f.metadata_sync), 0);
    libvirt_metadata_set_connected(f.metadata_sync, true);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    libvirt_metadata_free(f->metadata_sync);
    virDomainFree(f->domain);
    virConnectClose(f->connection);
    return 0;
}

static void listen_on(struct other_process *other)
{
    const struct sockaddr *address = (const struct sockaddr *)&other->address;

    strcpy(other->directory, "/tmp/test-metadata-XXXXXX");
    assert_non_null(mkdtemp(other->directory));
    other->address.sun_family = AF_UNIX;
    snprintf(other->address.sun_path, sizeof(other->address.sun_path), "%s/socket",
             other->directory);
    other->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(other->listen_fd, address, sizeof(other->address)), 0);
    assert_int_equal(listen(other->listen_fd, 4), 0);
}

static void *serve(void *data)
{
    const struct other_process *other = data;

    assert_int_equal(metadata_writer_serve(other->listen_fd, URI), -EINVAL);
    return NULL;
}

/* The fixture's connection only reads. */
static int setup_other(void **state)
{
    struct fixture *f;

    assert_int_equal(setup(state), 0);
    f = *state;
    listen_on(&f->other);
    f->writer = (struct metadata_writer){.socket_path = f->other.address.sun_path, .fd = -1};
    assert_int_equal(pthread_create(&f->other.thread, NULL, serve, &f->other), 0);
    return 0;
}

static void remove_socket(struct other_process *other)
{
    unlink(other->address.sun_path);
    rmdir(other->directory);
    close(other->listen_fd);
}

static int teardown_other(void **state)
{
    struct fixture *f = *state;

    metadata_writer_disconnect(&f->writer);
    shutdown(f->other.listen_fd, SHUT_RDWR);
    pthread_join(f->other.thread, NULL);
    remove_socket(&f->other);
    return teardown(state);
}

/* A tick at which the VM has that much, and ten joules of reserve. @return whether it is due */
static bool offer(struct fixture *f, uint64_t total_uj, uint64_t now)
{
    f->departure.energy.total_uj[ZONE_PACKAGE] = total_uj;
    f->departure.energy.bound_uj[ZONE_PACKAGE] = total_uj + 10 * J;
    f->departure.need_uj[ZONE_PACKAGE] = total_uj + J;
    return libvirt_metadata_offer(f->metadata_sync, &f->departure, 1, now);
}

static uint64_t ceiling(const struct fixture *f)
{
    return f->departure.ceiling_uj[ZONE_PACKAGE];
}

static struct vm_arrival read_back(struct fixture *f)
{
    struct vm_arrival arrival;

    assert_true(libvirt_metadata_read(f->domain, &arrival));
    return arrival;
}

static void set_metadata(struct fixture *f, const char *text)
{
    assert_int_equal(virDomainSetMetadata(f->domain, VIR_DOMAIN_METADATA_ELEMENT, text,
                                          ENERGY_METADATA_PREFIX, ENERGY_METADATA_URI,
                                          VIR_DOMAIN_AFFECT_LIVE),
                     0);
}

static void test_there_and_back(void **state)
{
    struct fixture *f = *state;
    struct vm_arrival arrival = read_back(f);

    assert_false(arrival.present);
    assert_false(
        libvirt_metadata_offer(f->metadata_sync, &f->departure, 1, now_ns())); /* nothing to keep */
    assert_true(offer(f, 5 * J, now_ns()));
    assert_true(ceiling(f) == UINT64_MAX);
    assert_false(libvirt_metadata_write(f->metadata_sync, &f->writer));
    arrival = read_back(f);
    assert_true(arrival.present);
    assert_true(arrival.own);
    assert_int_equal(arrival.energy.total_uj[ZONE_PACKAGE], 5 * J);
    assert_int_equal(arrival.energy.bound_uj[ZONE_PACKAGE], 15 * J);
}

/* Once a minute, or when the bound is near; until then it is the ceiling. */
static void test_written_seldom(void **state)
{
    struct fixture *f = *state;
    uint64_t now = now_ns();

    assert_true(offer(f, 5 * J, now));
    libvirt_metadata_write(f->metadata_sync, &f->writer);
    for (int i = 0; i < 50; i++)
        assert_false(offer(f, 5 * J + (uint64_t)i, now + (uint64_t)i * NSEC_PER_SEC));
    assert_int_equal(ceiling(f), 15 * J);
    assert_true(offer(f, 6 * J, now + 70 * NSEC_PER_SEC));
    assert_int_equal(ceiling(f), 15 * J);
    libvirt_metadata_write(f->metadata_sync, &f->writer);
    assert_false(offer(f, 15 * J, now + 2 * NSEC_PER_SEC));
    assert_int_equal(ceiling(f), 16 * J);
    assert_true(offer(f, 16 * J, now + 3 * NSEC_PER_SEC));
    assert_int_equal(ceiling(f), 16 * J);
    assert_int_equal(read_back(f).energy.total_uj[ZONE_PACKAGE], 6 * J);
}

/* A snapshot may have brought an old element back. */
static void test_touched(void **state)
{
    struct fixture *f = *state;
    uint64_t now = now_ns();

    offer(f, 5 * J, now);
    libvirt_metadata_write(f->metadata_sync, &f->writer);
    assert_false(offer(f, 5 * J, now + NSEC_PER_SEC));
    libvirt_metadata_touch(f->metadata_sync, f->departure.uuid);
    assert_true(offer(f, 5 * J, now + NSEC_PER_SEC));
}

/* A guest's counter waits for a libvirt that hangs for moments only, and for none that is gone. */
static void test_no_ceiling_without_libvirt(void **state)
{
    struct fixture *f = *state;
    uint64_t now = now_ns();

    offer(f, 5 * J, now);
    libvirt_metadata_write(f->metadata_sync, &f->writer);
    assert_true(offer(f, 20 * J, now + NSEC_PER_SEC));
    assert_int_equal(ceiling(f), 15 * J);
    assert_true(offer(f, 21 * J, now + 5 * NSEC_PER_SEC));
    assert_true(ceiling(f) == UINT64_MAX);
    libvirt_metadata_set_connected(f->metadata_sync, false);
    assert_false(offer(f, 22 * J, now + 6 * NSEC_PER_SEC));
    assert_true(ceiling(f) == UINT64_MAX);
}

/* It left, and came back with more than this energy of its former run. */
static void test_later_run_is_not_overwritten(void **state)
{
    struct fixture *f = *state;

    f->departure.start_number++;
    assert_true(offer(f, 5 * J, now_ns()));
    libvirt_metadata_write(f->metadata_sync, &f->writer);
    assert_false(read_back(f).present);
    f->departure.start_number--;
    assert_true(offer(f, 6 * J, now_ns()));
    libvirt_metadata_write(f->metadata_sync, &f->writer);
    assert_int_equal(read_back(f).energy.total_uj[ZONE_PACKAGE], 6 * J);
}

static int connect_to(const struct other_process *other)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)&other->address, sizeof(other->address)),
                     0);
    return fd;
}

/* What is no record ends the connection, and nothing else: the next one is served. */
static void test_other_is_sent_garbage(void **state)
{
    static const char garbage[2 * sizeof(struct metadata_record)];
    static const size_t lengths[] = {1, sizeof(struct metadata_record) - 1,
                                     sizeof(struct metadata_record) + 1, sizeof(garbage)};
    struct fixture *f = *state;

    for (size_t i = 0; i < ELEMENTS(lengths); i++) {
        int fd = connect_to(&f->other);
        char answer;

        assert_int_equal(send(fd, garbage, lengths[i], MSG_NOSIGNAL), lengths[i]);
        assert_int_equal(recv(fd, &answer, 1, 0), 0);
        close(fd);
    }
    test_there_and_back(state);
}

/* Zeros for a UUID, numbers beyond all bounds: at most metadata that no host takes. */
static void test_other_is_sent_nonsense(void **state)
{
    struct fixture *f = *state;
    struct metadata_record record = {.start_number = UINT32_MAX};

    assert_int_equal(metadata_writer_write(&f->writer, &record).result, METADATA_GONE);
    uuid_copy(record.uuid, f->departure.uuid);
    assert_int_equal(metadata_writer_write(&f->writer, &record).result, METADATA_BUSY);
    record.start_number = f->departure.start_number;
    memset(&record.energy, 0xff, sizeof(record.energy));
    assert_int_equal(metadata_writer_write(&f->writer, &record).result, METADATA_WRITTEN);
    assert_false(read_back(f).present);
}

static void test_other_is_not_there(void **state)
{
    struct fixture *f = *state;
    struct metadata_answer answer;

    f->writer = (struct metadata_writer){.socket_path = "/nonexistent", .fd = -1};
    answer = metadata_writer_write(&f->writer, &(struct metadata_record){0});
    assert_int_equal(answer.result, METADATA_FAILED);
    assert_string_equal(answer.problem, "No such file or directory");
    assert_true(offer(f, 5 * J, now_ns()));
    assert_false(libvirt_metadata_write(f->metadata_sync, &f->writer));
    assert_false(offer(f, 50 * J, now_ns())); /* in a minute */
    assert_true(ceiling(f) == UINT64_MAX);
}

static const char *answer_bytes;
static size_t answer_length;

static void *answer_once(void *data)
{
    int fd = accept(((const struct other_process *)data)->listen_fd, NULL, NULL);
    struct metadata_record record;

    assert_int_equal(recv(fd, &record, sizeof(record), 0), sizeof(record));
    send(fd, answer_bytes, answer_length, MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

/* No answer, one that is cut, an unknown result, a problem without an end. */
static void test_bad_answers(void **state)
{
    static const struct metadata_answer unknown = {.result = METADATA_FAILED + 1};
    struct metadata_answer endless = {.result = METADATA_WRITTEN};
    struct other_process other = {0};

    memset(endless.problem, 'x', sizeof(endless.problem));
    listen_on(&other);
    for (unsigned i = 0; i < 4; i++) {
        struct metadata_writer writer = {.socket_path = other.address.sun_path, .fd = -1};
        pthread_t thread;

        answer_bytes = i == 3 ? (const char *)&endless : (const char *)&unknown;
        answer_length = i == 0 ? 0 : i == 1 ? sizeof(unknown) - 1 : sizeof(unknown);
        assert_int_equal(pthread_create(&thread, NULL, answer_once, &other), 0);
        assert_int_equal(metadata_writer_write(&writer, &(struct metadata_record){0}).result,
                         METADATA_FAILED);
        assert_int_equal(writer.fd, -1);
        pthread_join(thread, NULL);
    }
    remove_socket(&other);
}

/* A domain that libvirt does not know (any more) is not asked for all the time. */
static void test_unknown_domain(void **state)
{
    struct fixture *f = *state;

    f->departure.uuid[0] ^= 1;
    assert_true(offer(f, 5 * J, now_ns()));
    assert_false(libvirt_metadata_write(f->metadata_sync, &f->writer));
    assert_false(offer(f, 50 * J, now_ns()));
    assert_true(ceiling(f) == UINT64_MAX);
    assert_true(offer(f, 50 * J, now_ns() + 61 * NSEC_PER_SEC));
}

static void test_not_taken(void **state)
{
    static const char *const cases[] = {
        "<energy/>",
        "<energy version='1' uuid='nobody' package='1 2'/>",
        "<energy version='1' uuid='11f0a3d2-4c9e-4a4d-9d5e-0123456789ab' package='1 2'/>",
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        set_metadata(*state, cases[i]);
        assert_false(read_back(*state).present);
    }
}

/* Of another host; as libvirt prints it, with what a later version may add. */
static void test_of_another_host(void **state)
{
    struct fixture *f = *state;
    char text[256], uuid[UUID_TEXT_SIZE];
    struct vm_arrival arrival;

    uuid_unparse_lower(f->departure.uuid, uuid);
    snprintf(text, sizeof(text),
             "<energy version='1' uuid='%s' machine='000102030405060708090a0b0c0d0eff' "
             "package='7 9' gpu='1 &lt; 2'/>",
             uuid);
    set_metadata(f, text);
    arrival = read_back(f);
    assert_true(arrival.present);
    assert_false(arrival.own);
    assert_int_equal(arrival.energy.bound_uj[ZONE_PACKAGE], 9);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define OTHER(name) cmocka_unit_test_setup_teardown(name, setup_other, teardown_other)
    const struct CMUnitTest tests[] = {
        TEST(test_there_and_back),
        TEST(test_written_seldom),
        TEST(test_touched),
        TEST(test_later_run_is_not_overwritten),
        TEST(test_no_ceiling_without_libvirt),
        TEST(test_unknown_domain),
        TEST(test_not_taken),
        TEST(test_of_another_host),
        OTHER(test_there_and_back),
        OTHER(test_written_seldom),
        OTHER(test_later_run_is_not_overwritten),
        OTHER(test_unknown_domain),
        OTHER(test_other_is_sent_garbage),
        OTHER(test_other_is_sent_nonsense),
        TEST(test_other_is_not_there),
        cmocka_unit_test(test_bad_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
