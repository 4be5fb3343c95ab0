/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/metrics_text.h"

#include <inttypes.h>
#include <string.h>

#include "util/clock.h"
#include "util/utf8.h"

#define UJ_PER_J UINT64_C(1000000)

/* Writes a label value. Control bytes are replaced: curl would pass them to the terminal. */
static void write_escaped(FILE *stream, const char *text, size_t size)
{
    size_t length = strnlen(text, size);

    for (size_t i = 0; i < length;) {
        size_t n = utf8_character_length(text + i, length - i);

        if (text[i] == '\n')
            fputs("\\n", stream);
        else if (text[i] == '\\' || text[i] == '"')
            fprintf(stream, "\\%c", text[i]);
        else if (n == 0 || (unsigned char)text[i] < ' ' || text[i] == 0x7f)
            fputs(UTF8_REPLACEMENT, stream);
        else
            fwrite(text + i, 1, n, stream);
        i += n ? n : 1;
    }
}

void metrics_write_label(FILE *stream, const char *key, const char *value, size_t size)
{
    fprintf(stream, "%s=\"", key);
    write_escaped(stream, value, size);
    fputc('"', stream);
}

void metrics_write_family(FILE *stream, const char *name, const char *type, const char *help)
{
    fprintf(stream, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_write_joules(FILE *stream, uint64_t energy_uj)
{
    fprintf(stream, "%" PRIu64 ".%06" PRIu64 "\n", energy_uj / UJ_PER_J, energy_uj % UJ_PER_J);
}

void metrics_write_seconds(FILE *stream, uint64_t time_ns)
{
    fprintf(stream, "%" PRIu64 ".%09" PRIu64 "\n", time_ns / NSEC_PER_SEC, time_ns % NSEC_PER_SEC);
}
