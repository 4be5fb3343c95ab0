/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The load generator's answers and mixes: in whatever pieces an answer comes, it is the same. */

#include "fuzz.h"

#include <string.h>

#include "answer.h"
#include "mix.h"
#include "work.h"

/* @return 0 or the error; the bytes that were taken in *ret_taken */
static int take(struct answer *answer, const char *text, size_t length, size_t piece,
                size_t *ret_taken)
{
    size_t taken = 0;

    memset(answer, 0, sizeof(*answer));
    while (taken < length && !answer->done) {
        size_t n = length - taken < piece ? length - taken : piece, part = 0;
        int r = answer_take(answer, text + taken, n, &part);

        if (r < 0)
            return r;
        require(part == n || (part < n && answer->done));
        taken += part;
    }
    *ret_taken = taken;
    return 0;
}

static void fuzz_answer(const char *text, size_t length)
{
    static struct answer whole, pieces;
    size_t whole_taken = 0, pieces_taken = 0;
    int r = take(&whole, text, length, length ? length : 1, &whole_taken);

    require(take(&pieces, text, length, 1, &pieces_taken) == r);
    require(whole.done == pieces.done && whole.status == pieces.status);
    require(whole.body_bytes == pieces.body_bytes && whole.body_sum == pieces.body_sum);
    require(whole.has_energy == pieces.has_energy && whole.energy_uj == pieces.energy_uj);
    if (r == 0)
        require(whole_taken == pieces_taken && whole_taken <= length);
    if (whole.done)
        require(whole.status >= 200 && whole.status < 1000);
}

static void fuzz_mix(const char *text, size_t length)
{
    static struct mix mix;
    unsigned line;
    uint64_t weight = 0;

    memset(&mix, 0, sizeof(mix));
    (void)mix_parse(&mix, text, length, &line);
    require(mix.n <= MIX_MAX);
    for (size_t i = 0; i < mix.n; i++) {
        require(mix.entries[i].target[0] == '/' && !strpbrk(mix.entries[i].target, " \r\n"));
        weight += mix.entries[i].weight;
    }
    require(weight == mix.weight);
    if (mix.n > 0)
        require(mix_choose(&mix, length * UINT64_C(0x9e3779b97f4a7c15)) < mix.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct work work;

    fuzz_answer((const char *)data, size);
    fuzz_mix((const char *)data, size);
    (void)work_parse((struct slice){(const char *)data, size}, &work);
    return 0;
}
