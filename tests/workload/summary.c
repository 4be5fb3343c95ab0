/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "summary.h"

#include <errno.h>
#include <json-c/json.h>

/* Below 64 us a bucket is 1 us; above, it is 1/64 of the power of two below the time. */
static size_t bucket_of(uint64_t time_us)
{
    unsigned doublings = time_us < 64 ? 0 : (unsigned)(63 - __builtin_clzll(time_us)) - 6;
    size_t bucket = time_us < 64 ? time_us : 64 * (doublings + 1) + (time_us >> doublings) - 64;

    return bucket < SUMMARY_BUCKETS ? bucket : SUMMARY_BUCKETS - 1;
}

/* The last time of a bucket. */
static uint64_t bucket_end(size_t bucket)
{
    size_t doublings = bucket / 64;

    return bucket < 64 ? bucket : ((bucket % 64 + 65) << (doublings - 1)) - 1;
}

void summary_add(struct summary *summary, size_t entry, const struct answer *answer,
                 uint64_t time_us)
{
    struct summary_row *row = &summary->rows[entry];

    row->answers++;
    row->not_2xx += answer->status < 200 || answer->status >= 300;
    row->bytes += answer->body_bytes;
    row->time_sum_us += time_us;
    if (time_us > row->time_max_us)
        row->time_max_us = time_us;
    row->times[bucket_of(time_us)]++;
    row->energy_wrong += answer->energy_wrong;
    row->energy_missing += !answer->has_energy && !answer->energy_wrong;
    if (!answer->has_energy || answer->energy_wrong)
        return;
    if (row->energy_n == 0 || answer->energy_uj < row->energy_min_uj)
        row->energy_min_uj = answer->energy_uj;
    if (answer->energy_uj > row->energy_max_uj)
        row->energy_max_uj = answer->energy_uj;
    row->energy_n++;
    row->energy_sum_uj += answer->energy_uj;
}

static void merge_row(struct summary_row *row, const struct summary_row *other)
{
    row->answers += other->answers;
    row->not_2xx += other->not_2xx;
    row->bytes += other->bytes;
    row->energy_missing += other->energy_missing;
    row->energy_wrong += other->energy_wrong;
    if (other->energy_n > 0 && (row->energy_n == 0 || other->energy_min_uj < row->energy_min_uj))
        row->energy_min_uj = other->energy_min_uj;
    if (other->energy_max_uj > row->energy_max_uj)
        row->energy_max_uj = other->energy_max_uj;
    row->energy_n += other->energy_n;
    row->energy_sum_uj += other->energy_sum_uj;
    row->time_sum_us += other->time_sum_us;
    if (other->time_max_us > row->time_max_us)
        row->time_max_us = other->time_max_us;
    for (size_t i = 0; i < SUMMARY_BUCKETS; i++)
        row->times[i] += other->times[i];
}

void summary_merge(struct summary *summary, const struct summary *other)
{
    summary->connections += other->connections;
    summary->errors += other->errors;
    for (size_t i = 0; i < MIX_MAX; i++)
        merge_row(&summary->rows[i], &other->rows[i]);
}

uint64_t summary_percentile(const struct summary_row *row, double part)
{
    uint64_t wanted = (uint64_t)(part * (double)row->answers), seen = 0;
    size_t bucket = 0;

    if (row->answers == 0)
        return 0;
    if (wanted == 0 || (double)wanted < part * (double)row->answers)
        wanted++;
    while (bucket < SUMMARY_BUCKETS - 1 && (seen += row->times[bucket]) < wanted)
        bucket++;
    return bucket_end(bucket) < row->time_max_us ? bucket_end(bucket) : row->time_max_us;
}

static void add_number(struct json_object *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_uint64(value));
}

static struct json_object *energy_object(const struct summary_row *row)
{
    struct json_object *energy = json_object_new_object();

    add_number(energy, "answers", row->energy_n);
    add_number(energy, "missing", row->energy_missing);
    add_number(energy, "wrong", row->energy_wrong);
    if (row->energy_n == 0)
        return energy;
    add_number(energy, "sum_uj", row->energy_sum_uj);
    json_object_object_add(
        energy, "mean_uj",
        json_object_new_double((double)row->energy_sum_uj / (double)row->energy_n));
    add_number(energy, "min_uj", row->energy_min_uj);
    add_number(energy, "max_uj", row->energy_max_uj);
    return energy;
}

static struct json_object *latency_object(const struct summary_row *row)
{
    struct json_object *latency = json_object_new_object();

    json_object_object_add(
        latency, "mean",
        json_object_new_double(row->answers ? (double)row->time_sum_us / (double)row->answers : 0));
    add_number(latency, "p50", summary_percentile(row, 0.5));
    add_number(latency, "p90", summary_percentile(row, 0.9));
    add_number(latency, "p99", summary_percentile(row, 0.99));
    add_number(latency, "p99.9", summary_percentile(row, 0.999));
    add_number(latency, "max", row->time_max_us);
    return latency;
}

static struct json_object *row_object(const struct summary_row *row)
{
    struct json_object *object = json_object_new_object();

    add_number(object, "answers", row->answers);
    add_number(object, "not_2xx", row->not_2xx);
    add_number(object, "body_bytes", row->bytes);
    json_object_object_add(object, "latency_us", latency_object(row));
    json_object_object_add(object, "energy_score", energy_object(row));
    return object;
}

int summary_print(FILE *stream, const struct summary *summary, const struct mix *mix,
                  uint64_t duration_ns)
{
    struct json_object *object = json_object_new_object(), *paths = json_object_new_array();
    struct summary_row all = {0};

    if (!object || !paths)
        return -ENOMEM;
    for (size_t i = 0; i < mix->n; i++) {
        struct json_object *row = row_object(&summary->rows[i]);

        json_object_object_add(row, "method", json_object_new_string(mix->entries[i].method));
        json_object_object_add(row, "target", json_object_new_string(mix->entries[i].target));
        json_object_array_add(paths, row);
        merge_row(&all, &summary->rows[i]);
    }
    json_object_object_add(object, "seconds", json_object_new_double((double)duration_ns / 1e9));
    json_object_object_add(
        object, "answers_per_second",
        json_object_new_double((double)all.answers * 1e9 / (double)(duration_ns + !duration_ns)));
    add_number(object, "connections", summary->connections);
    add_number(object, "errors", summary->errors);
    json_object_object_add(object, "all", row_object(&all));
    json_object_object_add(object, "paths", paths);
    fprintf(stream, "%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY));
    json_object_put(object);
    return fflush(stream) != 0 || ferror(stream) ? -EIO : 0;
}
