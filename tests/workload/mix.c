/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mix.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "http_head.h"
#include "util/parse.h"
#include "work.h"

#define WEIGHT_MAX 1000000

static const struct {
    const char *name, *text;
} profiles[] = {
    {"units", "1 GET /cpu?iters=250000\n1 GET /cpu?iters=500000\n"
              "1 GET /cpu?iters=1000000\n1 GET /cpu?iters=2000000\n"},
    {"web", "60 GET /json?items=50\n20 GET /file?kb=16\n10 GET /cpu?iters=200000\n"
            "5 GET /compress?kb=64\n4 POST /post?kb=32\n1 GET /file?kb=1024\n"},
};

/* Of visible characters only: it is written into a request as it is. */
static bool is_word(struct slice word, size_t max)
{
    if (word.length == 0 || word.length >= max)
        return false;
    for (size_t i = 0; i < word.length; i++)
        if (word.text[i] <= ' ' || word.text[i] >= 0x7f)
            return false;
    return true;
}

static int add(struct mix *mix, uint64_t weight, struct slice method, struct slice target)
{
    struct mix_entry *entry = &mix->entries[mix->n];
    struct work work;

    if (!is_word(method, MIX_METHOD_MAX) || !is_word(target, MIX_TARGET_MAX) ||
        target.text[0] != '/' || weight == 0 || weight > WEIGHT_MAX)
        return -EINVAL;
    if (mix->n == MIX_MAX)
        return -ENOSPC;
    *entry = (struct mix_entry){.weight = weight};
    memcpy(entry->method, method.text, method.length);
    memcpy(entry->target, target.text, target.length);
    /* Paths that the workload server does not know are the affair of the server that is asked. */
    if (work_parse(target, &work) == 0 && work.kind == WORK_POST)
        entry->body_bytes = work.n * 1024;
    mix->weight += weight;
    mix->n++;
    return 0;
}

int mix_add(struct mix *mix, const char *target)
{
    const char *method = strncmp(target, "/post?", 6) == 0 ? "POST" : "GET";

    return add(mix, 1, (struct slice){method, strlen(method)},
               (struct slice){target, strlen(target)});
}

/* The next word of a line. */
static struct slice next_word(struct slice *line)
{
    struct slice word;

    while (line->length > 0 && (*line->text == ' ' || *line->text == '\t')) {
        line->text++;
        line->length--;
    }
    word = (struct slice){line->text, 0};
    while (line->length > 0 && *line->text != ' ' && *line->text != '\t') {
        line->text++;
        line->length--;
        word.length++;
    }
    return word;
}

static int parse_line(struct mix *mix, struct slice line)
{
    struct slice weight = next_word(&line), method = next_word(&line), target = next_word(&line);
    uint64_t number;

    if (weight.length == 0 || weight.text[0] == '#')
        return 0;
    if (parse_u64(weight.text, weight.length, &number) < 0 || next_word(&line).length > 0)
        return -EINVAL;
    return add(mix, number, method, target);
}

int mix_parse(struct mix *mix, const char *text, size_t length, unsigned *ret_line)
{
    int r = 0;

    for (*ret_line = 1; length > 0; (*ret_line)++) {
        const char *newline = memchr(text, '\n', length);
        size_t n = newline ? (size_t)(newline - text) : length;

        r = parse_line(mix, (struct slice){text, n});
        if (r < 0)
            break;
        n += newline ? 1 : 0;
        text += n;
        length -= n;
    }
    return r;
}

int mix_add_profile(struct mix *mix, const char *name)
{
    unsigned line;

    for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++)
        if (strcmp(profiles[i].name, name) == 0)
            return mix_parse(mix, profiles[i].text, strlen(profiles[i].text), &line);
    return -ENOENT;
}

size_t mix_choose(const struct mix *mix, uint64_t random)
{
    uint64_t left = random % mix->weight;
    size_t i = 0;

    while (left >= mix->entries[i].weight)
        left -= mix->entries[i++].weight;
    return i;
}
