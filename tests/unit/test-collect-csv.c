/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>

#include "requests/collect_csv.h"

static void test_rows(void **state)
{
    static const struct request_frequency_time frequencies[] = {{800000, 12}, {1800000, 345}};
    struct collect_row row = {1, ATTRIBUTION_PSYS, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
                              2, frequencies};
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    assert_int_equal(collect_csv_write_header(stream), 0);
    assert_int_equal(collect_csv_write_row(stream, "idle", &row), 0);
    row.mode = ATTRIBUTION_MODEL;
    row.n_frequencies = 0;
    row.sample_time_ns = UINT64_MAX;
    assert_int_equal(collect_csv_write_row(stream, "a \"b\",\nc", &row), 0);
    fclose(stream);
    assert_string_equal(text,
                        "sample_time_ns,label,mode,interval_ns,interval_psys_uj,active_psys_uj,"
                        "idle_uj,total_score,runtime_ns,wakeups,cycles,instructions,cache_misses,"
                        "migrations,freq_runtime_ns\n"
                        "1,idle,psys,2,3,4,5,6,7,8,9,10,11,12,800000:12;1800000:345\n"
                        "18446744073709551615,\"a \"\"b\"\",\nc\",model,2,3,4,5,6,7,8,9,10,11,12,"
                        "\n");
    free(text);
    stream = fopen("/dev/full", "w");
    assert_int_equal(collect_csv_write_row(stream, "", &row), -EIO);
    fclose(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
