/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/macros.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int parse_u64(const char *text, size_t length, uint64_t *ret)
{
    uint64_t value = 0;

    if (length == 0)
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        if (!is_digit(text[i]))
            return -EINVAL;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
            return -ERANGE;
    }
    *ret = value;
    return 0;
}

int parse_u64_between(const char *text, uint64_t from, uint64_t to, uint64_t *ret)
{
    uint64_t value;
    int r = parse_u64(text, strlen(text), &value);

    if (r < 0)
        return r;
    if (value < from || value > to)
        return -ERANGE;
    *ret = value;
    return 0;
}

int parse_sysfs_u64(const char *text, size_t length, uint64_t *ret)
{
    if (length > 0 && text[length - 1] == '\n')
        length--;
    return parse_u64(text, length, ret);
}

int parse_bool(const char *text, bool *ret)
{
    static const char *const words[][2] = {
        {"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        for (int value = 0; value < 2; value++)
            if (strcmp(text, words[i][value]) == 0) {
                *ret = value;
                return 0;
            }
    return -EINVAL;
}

struct unit {
    const char *name;
    uint64_t scale;
};

/* "<digits>[.<digits>]<unit>" times the unit's scale, rounded down. */
static int parse_quantity(const char *text, const struct unit *units, uint64_t *ret)
{
    size_t whole = strspn(text, "0123456789");
    size_t decimals = 0;
    uint64_t value, fraction = 0, divisor = 1;
    const char *unit = text + whole;
    int r;

    if (*unit == '.') {
        decimals = strspn(++unit, "0123456789");
        if (decimals == 0)
            return -EINVAL;
        if (decimals > 9)
            return -ERANGE;
        for (size_t i = 0; i < decimals; i++) {
            fraction = fraction * 10 + (uint64_t)(unit[i] - '0');
            divisor *= 10;
        }
        unit += decimals;
    }
    r = parse_u64(text, whole, &value);
    if (r < 0)
        return r;
    for (; units->name; units++) {
        __uint128_t scaled;

        if (strcmp(unit, units->name) != 0)
            continue;
        scaled = ((__uint128_t)value * divisor + fraction) * units->scale / divisor;
        if (scaled > UINT64_MAX)
            return -ERANGE;
        *ret = (uint64_t)scaled;
        return 0;
    }
    return -EINVAL;
}

int parse_duration_ns(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {
        {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"min", 60000000000}, {0}};

    return parse_quantity(text, units, ret);
}

int parse_power_uw(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {{"mW", 1000}, {"W", 1000000}, {0}};

    return parse_quantity(text, units, ret);
}

int parse_energy_uj(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {{"uJ", 1}, {"mJ", 1000}, {"J", 1000000}, {0}};

    return parse_quantity(text, units, ret);
}

int parse_decimal_e9(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {{"", 1000000000}, {0}};

    return parse_quantity(text, units, ret);
}

/* Skips digits. @return the text after them, or NULL without a digit */
static const char *skip_digits(const char *text)
{
    size_t n = strspn(text, "0123456789");

    return n ? text + n : NULL;
}

int parse_real(const char *text, double *ret)
{
    const char *end = skip_digits(text);
    double value;

    /* The form is checked here: strtod() takes signs, spaces, hexadecimal, "inf" and "nan". */
    if (end && *end == '.')
        end = skip_digits(end + 1);
    if (end && (*end == 'e' || *end == 'E')) {
        end++;
        end = skip_digits(*end == '-' || *end == '+' ? end + 1 : end);
    }
    if (!end || *end != '\0')
        return -EINVAL;
    errno = 0;
    value = strtod(text, NULL);
    if (errno)
        return -errno;
    *ret = value;
    return 0;
}

int parse_mode(const char *text, unsigned *ret)
{
    unsigned mode = 0;
    size_t length = strlen(text);

    if (length == 0 || length > 4)
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '7')
            return -EINVAL;
        mode = mode * 8 + (unsigned)(text[i] - '0');
    }
    *ret = mode;
    return 0;
}
