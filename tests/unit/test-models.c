/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attribution/model.h"
#include "attribution/weights.h"
#include "fixture.h"

#define ENTITIES_MAX 1024

static const struct zone package_0 = {.kind = ZONE_PACKAGE, .socket = 0};
static const struct zone package_1 = {.kind = ZONE_PACKAGE, .socket = 1};
static const struct zone core = {.kind = ZONE_CORE, .socket = 0};
static const struct zone dram_0 = {.kind = ZONE_DRAM, .socket = 0};
static const struct zone dram_1 = {.kind = ZONE_DRAM, .socket = 1};
static const struct zone psys = {.kind = ZONE_PSYS, .socket = ZONE_ALL_SOCKETS};

/* The host and some VMs; entity(i) is the same as usage_entity(i), but can be written. */
struct scene {
    struct usage usage;
    struct usage_vm vms[ENTITIES_MAX];
};

static struct scene scene;

static struct usage *scene_clear(size_t n, unsigned features)
{
    memset(&scene, 0, sizeof(scene));
    scene.usage =
        (struct usage){.n_sockets = 2, .features = features, .vms = scene.vms, .n_vms = n - 1};
    return &scene.usage;
}

static struct usage_amount *entity(size_t i)
{
    return i == 0 ? &scene.usage.host : &scene.vms[i - 1].amount;
}

static struct attribution_model *open_model(const char *name, double ratio, double exponent)
{
    const struct model_options options = {.smt_power_ratio = ratio, .curve_exponent = exponent};
    struct attribution_model *model = NULL;

    assert_int_equal(attribution_model_open(name, &options, &model), 0);
    return model;
}

/* The shares that the model gives; all 0 where nobody gets a weight. Checks the weights' bounds. */
static void take_shares(const struct attribution_model *model, const struct zone *zone, double *ret)
{
    static uint64_t weights[ENTITIES_MAX];
    size_t n = usage_n_entities(&scene.usage);
    uint64_t sum = 0;

    model->ops->weights(model, zone, &scene.usage, weights);
    for (size_t i = 0; i < n; i++)
        assert_false(__builtin_add_overflow(sum, weights[i], &sum));
    for (size_t i = 0; i < n; i++)
        ret[i] = sum ? (double)weights[i] / (double)sum : 0;
}

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.12g is not %.12g within %g", value, expected, tolerance);
}

/* For scenes of up to three entities. */
static void assert_shares(const char *name, const struct zone *zone, const double expected[3])
{
    struct attribution_model *model = open_model(name, 1.1, 0.98);
    double shares[ENTITIES_MAX] = {0};

    take_shares(model, zone, shares);
    for (int i = 0; i < 3; i++)
        assert_near(shares[i], expected[i], 1e-9);
    attribution_model_free(model);
}

static void test_names(void **state)
{
    static const char *const names[] = {"cputime", "counters", "curve"};
    struct attribution_model *model = NULL;

    for (size_t i = 0; i < ELEMENTS(names); i++) {
        assert_true(attribution_model_is_name(names[i]));
        model = open_model(names[i], 1.1, 0.98);
        assert_string_equal(model->ops->name, names[i]);
        model = attribution_model_free(model);
    }
    assert_true(attribution_model_is_name("/etc/model"));
    assert_false(attribution_model_is_name("model"));
    assert_false(attribution_model_is_name(""));
    assert_int_equal(attribution_model_open("model", &MODEL_OPTIONS_DEFAULT, &model), -EINVAL);
    assert_null(model);
}

/* A second beside a busy sibling counts half of what the core then draws. */
static void test_smt(void **state)
{
    static const double ratios[] = {1, 1.1, 2};

    scene_clear(3, USAGE_CORUN);
    entity(0)->sockets[0].cpu_ns = 1000;
    entity(1)->sockets[0] = (struct usage_socket){.cpu_ns = 1000, .corun_ns = 1000};
    entity(2)->sockets[0] = (struct usage_socket){.cpu_ns = 1000, .corun_ns = 1400}; /* clamped */
    for (size_t i = 0; i < ELEMENTS(ratios); i++) {
        struct attribution_model *model = open_model("cputime", ratios[i], 1);
        double shares[3];

        take_shares(model, &package_0, shares);
        assert_near(shares[1] / shares[0], ratios[i] / 2, 1e-12);
        assert_near(shares[2] / shares[0], ratios[i] / 2, 1e-12);
        attribution_model_free(model);
    }
    entity(1)->sockets[0].corun_ns = 500;
    entity(2)->sockets[0].corun_ns = 0;
    assert_shares("cputime", &core, (double[3]){1 / 2.775, 0.775 / 2.775, 1 / 2.775});
}

static void test_sockets(void **state)
{
    scene_clear(3, 0);
    entity(0)->sockets[1].cpu_ns = 5;
    entity(1)->sockets[0].cpu_ns = 30;
    entity(2)->sockets[0].cpu_ns = 10;
    entity(2)->sockets[1].cpu_ns = 15;
    assert_shares("cputime", &package_0, (double[3]){0, 0.75, 0.25});
    assert_shares("cputime", &package_1, (double[3]){0.25, 0, 0.75});
    assert_shares("cputime", &psys, (double[3]){5 / 60.0, 0.5, 25 / 60.0});
    assert_shares("counters", &psys, (double[3]){5 / 60.0, 0.5, 25 / 60.0});
}

/* Misses are served by the nodes that hold the memory; without any, residency counts. */
static void test_dram(void **state)
{
    static const char *const names[] = {"cputime", "counters", "curve"};

    for (size_t i = 0; i < ELEMENTS(names); i++) {
        scene_clear(3, USAGE_LLC_MISSES);
        entity(0)->sockets[0].memory_bytes = 100;
        entity(1)->sockets[0].memory_bytes = 300;
        entity(1)->sockets[1].memory_bytes = 100;
        assert_shares(names[i], &dram_0, (double[3]){0.25, 0.75, 0});
        assert_shares(names[i], &dram_1, (double[3]){0, 1, 0});
        entity(1)->sockets[1].llc_misses = 80; /* 60 of them for the pages on socket 0 */
        assert_shares(names[i], &dram_0, (double[3]){0, 1, 0});
        entity(0)->sockets[0].llc_misses = 30;
        entity(2)->sockets[0].llc_misses = 30; /* memory unknown: on its own socket */
        assert_shares(names[i], &dram_0, (double[3]){0.25, 0.5, 0.25});
        assert_shares(names[i], &dram_1, (double[3]){0, 1, 0});
    }
}

static void test_counters(void **state)
{
    scene_clear(3, USAGE_CYCLES | USAGE_INSTRUCTIONS | USAGE_CORUN);
    entity(0)->sockets[0] = (struct usage_socket){.cpu_ns = 1000, .cycles = 3000};
    entity(1)->sockets[0] = (struct usage_socket){.cpu_ns = 1000, .cycles = 1000};
    /* Frequency: three times the cycles in the same time. */
    assert_shares("counters", &package_0, (double[3]){0.75, 0.25, 0});
    assert_shares("cputime", &package_0, (double[3]){0.5, 0.5, 0});
    /* Two siblings: each counts the core's cycles. */
    entity(0)->sockets[0] = (struct usage_socket){.cpu_ns = 10, .cycles = 110};
    entity(1)->sockets[0] = (struct usage_socket){.cpu_ns = 10, .corun_ns = 10, .cycles = 200};
    assert_shares("counters", &core, (double[3]){0.5, 0.5, 0});
    /* 26.45 instructions weigh as much as 4.31 cycles. */
    entity(0)->sockets[0] = (struct usage_socket){.cpu_ns = 10, .cycles = 431};
    entity(1)->sockets[0] = (struct usage_socket){.cpu_ns = 10, .instructions = 2645};
    assert_shares("counters", &psys, (double[3]){0.5, 0.5, 0});
}

static void test_counters_without_counts(void **state)
{
    scene_clear(2, USAGE_CYCLES | USAGE_INSTRUCTIONS);
    entity(0)->sockets[0].cpu_ns = 300;
    entity(1)->sockets[0].cpu_ns = 100;
    entity(1)->sockets[1].cycles = 100; /* elsewhere */
    assert_shares("counters", &package_0, (double[3]){0.75, 0.25});
    entity(1)->sockets[0].instructions = 100;
    scene.usage.features = USAGE_INSTRUCTIONS;
    assert_shares("counters", &package_0, (double[3]){0.75, 0.25});
}

/* A second in which two VMs run cycles and instructions at 1 GHz on a package of 30 W static power,
   5 W for 10^9 cycles a second and 20 W for 10^9 instructions a second. */
static void learn_second(struct attribution_model *model, uint64_t cycles, uint64_t instructions)
{
    static const struct zone zone = {.name = "package-0", .kind = ZONE_PACKAGE, .socket = 0};
    const struct sample_zone sample = {.valid = true,
                                       .duration_ns = 1000000000,
                                       .energy_uj = 30000000 + cycles / 200 + instructions / 50};

    entity(1)->sockets[0] = (struct usage_socket){.cpu_ns = cycles, .cycles = cycles};
    entity(2)->sockets[0] =
        (struct usage_socket){.cpu_ns = cycles / 2, .instructions = instructions};
    model->ops->learn(model, 0, &zone, &sample, &scene.usage);
}

static void test_counters_learns(void **state)
{
    static const struct zone zone = {.name = "package-0", .kind = ZONE_PACKAGE, .socket = 0};
    struct attribution_model *model = open_model("counters", 1.1, 0.98);
    double shares[ENTITIES_MAX];

    scene_clear(3, USAGE_CYCLES | USAGE_INSTRUCTIONS);
    /* A constant load tells nothing: 4.31 / 26.45 of a cycle for an instruction. */
    for (unsigned i = 0; i < 200; i++)
        learn_second(model, 1000000000, 1000000000);
    take_shares(model, &zone, shares);
    assert_near(shares[2] / shares[1], 4.31 / 26.45, 1e-6);
    for (unsigned i = 0; i < 400; i++)
        learn_second(model, 500000000 + i * 7 % 10 * 100000000, 200000000 + i % 10 * 100000000);
    learn_second(model, 1000000000, 1000000000);
    take_shares(model, &zone, shares);
    assert_near(shares[2] / shares[1], 4, 0.1);
    attribution_model_free(model);
}

/* The definition: the mean gain over all orders, by enumerating all subsets. */
static void enumerate_shapley(const double *loads, size_t n, double exponent, double *ret)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = 0;
        for (unsigned set = 0; set < 1u << n; set++) {
            unsigned size = (unsigned)__builtin_popcount(set);
            double load = 0;

            if (set >> i & 1)
                continue;
            for (size_t j = 0; j < n; j++)
                load += set >> j & 1 ? loads[j] : 0;
            ret[i] += tgamma(size + 1) * tgamma((double)n - size) / tgamma((double)n + 1) *
                      (pow(load + loads[i], exponent) - pow(load, exponent));
        }
    }
}

static void normalised_power(const double *loads, size_t n, double exponent, double *ret)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += ret[i] = pow(loads[i], exponent);
    for (size_t i = 0; i < n; i++)
        ret[i] /= sum;
}

static void set_loads(const double *loads, size_t n)
{
    scene_clear(n, 0);
    for (size_t i = 0; i < n; i++)
        entity(i)->sockets[0].cpu_ns = (uint64_t)(loads[i] * 1e12);
}

static void curve_shares(const double *loads, size_t n, double exponent, double *ret)
{
    struct attribution_model *model = open_model("curve", 1.1, exponent);

    set_loads(loads, n);
    take_shares(model, &package_0, ret);
    attribution_model_free(model);
}

static void test_curve_figures(void **state)
{
    static const double loads[] = {0.3, 0.5, 0.2};
    static const double shapley[] = {0.315, 0.440, 0.245}, power[] = {0.325, 0.399, 0.276};
    double by_curve[3], by_subsets[3], by_power[3];

    curve_shares(loads, 3, 0.4, by_curve);
    enumerate_shapley(loads, 3, 0.4, by_subsets);
    normalised_power(loads, 3, 0.4, by_power);
    for (int i = 0; i < 3; i++) {
        assert_near(by_subsets[i], shapley[i], 5e-4);
        assert_near(by_curve[i], by_subsets[i], 1e-6);
        assert_near(by_power[i], power[i], 5e-4);
    }
}

/* One VM has half of the load, fifty share the rest: the figures in curve.c. */
static void test_curve_many_small(void **state)
{
    double loads[51], by_curve[51], by_power[51];

    loads[0] = 0.5;
    for (int i = 1; i < 51; i++)
        loads[i] = 0.01;
    curve_shares(loads, 51, 0.3, by_curve);
    normalised_power(loads, 51, 0.3, by_power);
    assert_near(by_power[0], 0.06, 5e-3);
    assert_near(by_curve[0], 0.30, 1e-2);
}

static void test_curve_against_subsets(void **state)
{
    static const double exponents[] = {0.01, 0.1, 0.3, 0.4, 0.7, 0.98, 0.9999};

    srandom(1);
    for (size_t e = 0; e < ELEMENTS(exponents); e++)
        for (size_t n = 1; n <= 10; n++) {
            double loads[10], exact[10], shares[10], sum = 0;

            for (size_t i = 0; i < n; i++)
                sum += loads[i] = pow((double)(random() + 1) / 2147483648.0, i % 3 == 2 ? 8 : 2);
            for (size_t i = 0; i < n; i++)
                loads[i] = floor(loads[i] / sum * 1e12) / 1e12; /* as the model sees them */
            sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += loads[i];
            enumerate_shapley(loads, n, exponents[e], exact);
            curve_shares(loads, n, exponents[e], shares);
            for (size_t i = 0; i < n; i++)
                assert_near(shares[i], exact[i] / pow(sum, exponents[e]), 1e-6);
        }
}

/* Order-free, equals alike, nothing for nothing, more for more, the whole divided. */
static void test_curve_properties(void **state)
{
    static const double loads[] = {0.05, 0.2, 0, 0.2, 0.55}, permuted[] = {0.55, 0.2, 0.05, 0, 0.2};
    static const size_t at[] = {2, 1, 3, 4, 0};
    uint64_t weights[5], sum = 0;
    double shares[5], others[5];
    struct attribution_model *model;

    curve_shares(loads, 5, 0.3, shares);
    curve_shares(permuted, 5, 0.3, others);
    for (int i = 0; i < 5; i++)
        assert_near(others[at[i]], shares[i], 1e-12);
    assert_true(shares[1] == shares[3]);
    assert_true(shares[2] == 0);
    assert_true(shares[0] < shares[1] && shares[1] < shares[4]);
    assert_true(shares[4] < 0.55 && shares[0] > 0.05);

    /* Weights are parts of 2^59 here: before any normalisation they sum to the whole. */
    model = open_model("curve", 1.1, 0.3);
    model->ops->weights(model, &package_0, &scene.usage, weights);
    for (int i = 0; i < 5; i++)
        sum += weights[i];
    assert_near(ldexp((double)sum, -weight_exponent(1, 5)), 1, 1e-6);
    attribution_model_free(model);
}

static void test_curve_straight(void **state)
{
    static const double loads[] = {0.3, 0.5, 0.2, 0};
    double shares[4];

    curve_shares(loads, 4, 1, shares);
    for (int i = 0; i < 4; i++)
        assert_near(shares[i], loads[i], 1e-12);
    curve_shares(loads, 4, 0.999999999, shares);
    for (int i = 0; i < 4; i++)
        assert_near(shares[i], loads[i], 1e-6);
    curve_shares(loads, 4, 0.000000001, shares);
    for (int i = 0; i < 3; i++)
        assert_near(shares[i], 1 / 3.0, 1e-6);
    curve_shares((double[]){0, 0}, 2, 0.4, shares);
    assert_true(shares[0] == 0 && shares[1] == 0);
}

static double log_choose(int n, int k)
{
    return lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0);
}

/* One of `own` entities with the load x beside `others` with the load y: subsets by their kinds. */
static double two_kinds_shapley(int own, double x, int others, double y, double exponent)
{
    int n = own + others;
    double sum = 0;

    for (int i = 0; i < own; i++)
        for (int j = 0; j <= others; j++)
            sum += exp(log_choose(own - 1, i) + log_choose(others, j) - log_choose(n - 1, i + j)) *
                   (pow((i + 1) * x + j * y, exponent) - pow(i * x + j * y, exponent)) / n;
    return sum;
}

static void test_curve_many(void **state)
{
    static double loads[1000], shares[1000];

    for (int i = 0; i < 1000; i++)
        loads[i] = i < 300 ? 1e-4 : 0.97 / 700;
    curve_shares(loads, 1000, 0.3, shares);
    for (int i = 0; i < 1000; i += 999)
        assert_near(shares[i],
                    i < 300 ? two_kinds_shapley(300, 1e-4, 700, 0.97 / 700, 0.3)
                            : two_kinds_shapley(700, 0.97 / 700, 300, 1e-4, 0.3),
                    1e-8);
    assert_true(shares[1] == shares[0] && shares[998] == shares[999]);
}

/* No weight, no sum of weights and no real number on the way may overflow. */
static void test_extremes(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 64, ENTITIES_MAX};
    static const struct zone *const zones[] = {&package_0, &core, &dram_0, &psys};
    static const char *const names[] = {"cputime", "counters", "curve"};
    const uint64_t extremes[] = {UINT64_MAX, 1, 0, UINT64_MAX / 3, 1000000007};
    static double shares[ENTITIES_MAX];

    for (size_t name = 0; name < ELEMENTS(names); name++) {
        struct attribution_model *model = open_model(names[name], 1.1, 0.3);

        for (size_t s = 0; s < ELEMENTS(sizes); s++) {
            scene_clear(sizes[s], USAGE_CYCLES | USAGE_LLC_MISSES);
            for (size_t i = 0; i < sizes[s]; i++)
                for (size_t field = 0; field < sizeof(struct usage_socket) / 8; field++)
                    ((uint64_t *)&entity(i)->sockets[0])[field] =
                        extremes[(i + i * field) % ELEMENTS(extremes)];
            for (size_t z = 0; z < ELEMENTS(zones); z++) {
                double sum = 0;

                take_shares(model, zones[z], shares);
                for (size_t i = 0; i < sizes[s]; i++)
                    sum += shares[i];
                assert_near(sum, 1, 1e-9);
            }
        }
        attribution_model_free(model);
    }
}

static void test_quantisation(void **state)
{
    static const double largest[] = {5e-324, 1e-300, 1e-9, 1, 3, 18446744073709551616.0, 1e300};
    static const size_t sizes[] = {1, 2, 1000, (1 << 22) - 1};

    for (size_t l = 0; l < ELEMENTS(largest); l++)
        for (size_t s = 0; s < ELEMENTS(sizes); s++) {
            uint64_t whole = weight_quantise(largest[l], weight_exponent(largest[l], sizes[s]));

            assert_true(whole >= UINT64_C(1) << 40);
            assert_true(whole <= UINT64_MAX / 2 / sizes[s]);
        }
}

static struct attribution_model *open_fitted(const char *directory, const char *text)
{
    char path[256];

    fixture_write(directory, text, "model");
    snprintf(path, sizeof(path), "%s/model", directory);
    return open_model(path, 1.1, 0.98);
}

static void test_fitted_weights(void **state)
{
    struct attribution_model *model =
        open_fitted(*state, "[package]\ncpu_seconds = 2\nio_bytes = 1e-6\n[dram]\ncycles = 7\n");
    double shares[3];

    assert_string_equal(model->ops->name, "fitted");
    scene_clear(3, USAGE_CORUN);
    entity(0)->sockets[0] = (struct usage_socket){.cpu_ns = 1000000000, .memory_bytes = 10};
    entity(1)->sockets[0] =
        (struct usage_socket){.cpu_ns = 1000000000, .corun_ns = 1000000000, .memory_bytes = 30};
    entity(2)->io_bytes = 900000;
    take_shares(model, &package_0, shares); /* 2 : 2 x 1.1 / 2 : 0.9 */
    assert_near(shares[0], 0.5, 1e-9);
    assert_near(shares[1], 0.275, 1e-9);
    assert_near(shares[2], 0.225, 1e-9);
    take_shares(model, &core, shares); /* as the package */
    assert_near(shares[1], 0.275, 1e-9);
    take_shares(model, &dram_0, shares); /* no cycles: residency */
    assert_near(shares[1], 0.75, 1e-9);
    attribution_model_free(model);

    model = open_fitted(*state, "[core]\ncorun_seconds = 1\n");
    take_shares(model, &core, shares);
    assert_near(shares[1], 1, 1e-9);
    take_shares(model, &package_0, shares); /* no section: CPU time */
    assert_near(shares[0], 1 / 1.55, 1e-9);
    attribution_model_free(model);
}

static void test_fitted_extremes(void **state)
{
    struct attribution_model *model =
        open_fitted(*state, "[package]\ncpu_seconds = 1e308\ncycles = 1e308\ninstructions = 1e308\n"
                            "memory_bytes = 1e308\nllc_misses = 1e308\nio_bytes = 1e308\n");
    double shares[2];

    scene_clear(2, 0);
    for (size_t i = 0; i < 2; i++) {
        memset(&entity(i)->sockets[0], 0xff, sizeof(struct usage_socket));
        entity(i)->io_bytes = UINT64_MAX;
    }
    take_shares(model, &package_0, shares);
    assert_near(shares[0], 0.5, 1e-12);
    attribution_model_free(model);
}

static void test_fitted_unreadable(void **state)
{
    struct attribution_model *model = NULL;
    char path[256];

    snprintf(path, sizeof(path), "%s/none", (const char *)*state);
    assert_int_equal(attribution_model_open(path, &MODEL_OPTIONS_DEFAULT, &model), -ENOENT);
    fixture_write(*state, "[package]\ncycles = many\n", "none");
    assert_int_equal(attribution_model_open(path, &MODEL_OPTIONS_DEFAULT, &model), -EINVAL);
    assert_int_equal(attribution_model_open(*state, &MODEL_OPTIONS_DEFAULT, &model), -EISDIR);
    assert_null(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_smt),
        cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_dram),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_counters_without_counts),
        cmocka_unit_test(test_counters_learns),
        cmocka_unit_test(test_curve_figures),
        cmocka_unit_test(test_curve_many_small),
        cmocka_unit_test(test_curve_against_subsets),
        cmocka_unit_test(test_curve_properties),
        cmocka_unit_test(test_curve_straight),
        cmocka_unit_test(test_curve_many),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_quantisation),
        cmocka_unit_test_setup_teardown(test_fitted_weights, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_fitted_extremes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_fitted_unreadable, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
