/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Against libvirt's own test driver, which keeps its domains in this process. */

#include "unit.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>

#include "libvirt/energy_metadata.h"
#include "libvirt/libvirt_metadata.h"
#include "util/clock.h"

#define J UINT64_C(1000000)

struct fixture {
    virConnectPtr connection;
    virDomainPtr domain;
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
    f = (struct fixture){.connection = virConnectOpen("test:///default")};
    assert_non_null(f.connection);
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
    assert_false(libvirt_metadata_write(f->metadata_sync, f->connection));
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
    libvirt_metadata_write(f->metadata_sync, f->connection);
    for (int i = 0; i < 50; i++)
        assert_false(offer(f, 5 * J + (uint64_t)i, now + (uint64_t)i * NSEC_PER_SEC));
    assert_int_equal(ceiling(f), 15 * J);
    assert_true(offer(f, 6 * J, now + 70 * NSEC_PER_SEC));
    assert_int_equal(ceiling(f), 15 * J);
    libvirt_metadata_write(f->metadata_sync, f->connection);
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
    libvirt_metadata_write(f->metadata_sync, f->connection);
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
    libvirt_metadata_write(f->metadata_sync, f->connection);
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
    libvirt_metadata_write(f->metadata_sync, f->connection);
    assert_false(read_back(f).present);
    f->departure.start_number--;
    assert_true(offer(f, 6 * J, now_ns()));
    libvirt_metadata_write(f->metadata_sync, f->connection);
    assert_int_equal(read_back(f).energy.total_uj[ZONE_PACKAGE], 6 * J);
}

/* A domain that libvirt does not know (any more) is not asked for all the time. */
static void test_unknown_domain(void **state)
{
    struct fixture *f = *state;

    f->departure.uuid[0] ^= 1;
    assert_true(offer(f, 5 * J, now_ns()));
    assert_false(libvirt_metadata_write(f->metadata_sync, f->connection));
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
    const struct CMUnitTest tests[] = {
        TEST(test_there_and_back),
        TEST(test_written_seldom),
        TEST(test_touched),
        TEST(test_later_run_is_not_overwritten),
        TEST(test_no_ceiling_without_libvirt),
        TEST(test_unknown_domain),
        TEST(test_not_taken),
        TEST(test_of_another_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
