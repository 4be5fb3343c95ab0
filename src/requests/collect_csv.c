/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/collect_csv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "util/macros.h"

static int finish(FILE *stream)
{
    return fflush(stream) != 0 || ferror(stream) ? -EIO : 0;
}

int collect_csv_write_header(FILE *stream)
{
    fputs("sample_time_ns,label,mode,interval_ns,interval_psys_uj,active_psys_uj,idle_uj,"
          "total_score,runtime_ns,wakeups,cycles,instructions,cache_misses,migrations,"
          "freq_runtime_ns\n",
          stream);
    return finish(stream);
}

static void write_label(FILE *stream, const char *label)
{
    if (!label[strcspn(label, ",\"\r\n")]) {
        fputs(label, stream);
        return;
    }
    fputc('"', stream);
    for (; *label; label++) {
        if (*label == '"')
            fputc('"', stream);
        fputc(*label, stream);
    }
    fputc('"', stream);
}

int collect_csv_write_row(FILE *stream, const char *label, const struct collect_row *row)
{
    const uint64_t numbers[] = {
        row->interval_ns,  row->interval_psys_uj, row->active_psys_uj, row->idle_uj,
        row->total_score,  row->runtime_ns,       row->wakeups,        row->cycles,
        row->instructions, row->cache_misses,     row->migrations,
    };

    fprintf(stream, "%" PRIu64 ",", row->sample_time_ns);
    write_label(stream, label);
    fprintf(stream, ",%s", attribution_mode_to_string(row->mode));
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        fprintf(stream, ",%" PRIu64, numbers[i]);
    fputc(',', stream);
    for (size_t i = 0; i < row->n_frequencies; i++)
        fprintf(stream, "%s%" PRIu32 ":%" PRIu64, i ? ";" : "", row->frequencies[i].khz,
                row->frequencies[i].runtime_ns);
    fputc('\n', stream);
    return finish(stream);
}
