/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config.h"
#include "documented_keys.h"
#include "fixture.h"
#include "source/sources.h"
#include "usage/providers.h"

static int parse(const char *text, struct config *config, struct config_error *error)
{
    memset(error, 0, sizeof(*error));
    return config_parse(text, strlen(text), config, error);
}

static void test_defaults(void **state)
{
    struct config_error error;
    struct config config;

    assert_int_equal(parse("", &config, &error), 0);
    assert_int_equal(config.interval_ns, 1000000000);
    assert_int_equal(config.estimate.idle_uw, 40000000);
    assert_int_equal(config.estimate.max_uw, 120000000);
    assert_int_equal(config.file_mode, 0444);
    assert_int_equal(config.quantum_uj, 1000);
    assert_string_equal(config.runtime_dir, "/run/virtjoule");
    assert_string_equal(config.state_dir, "/var/lib/virtjoule");
    assert_string_equal(config.mountpoint, "/run/virtjoule/vms");
    assert_string_equal(config.libvirt_uri, "qemu:///system");
    assert_string_equal(config.listen, "127.0.0.1:19177");
    assert_true(config.procfs);
    assert_string_equal(config.model, "cputime");
    assert_true(config.model_options.smt_power_ratio == 1.1);
    assert_true(config.model_options.curve_exponent == 0.98);
}

/* The documented configuration is valid. Its values are the defaults: see test_documents. */
static void test_documented_configuration(void **state)
{
    struct config config;

    assert_int_equal(config_load(SOURCE_ROOT "/docs/virtjouled.conf", &config), 0);
}

static void test_documents(void **state)
{
    /* The zones of [baseline] are keys, whatever their names. */
    static const struct documented_key zones[] = {
        {"baseline", "package-0"}, {"baseline", "dram"}, {NULL, NULL}};
    static const struct key_documents documents = {
        .configuration = "docs/virtjouled.conf",
        .page = "man/virtjouled.conf.5.scd",
        .others = zones,
    };
    struct config_key keys[CONFIG_KEYS_MAX];

    assert_documented(keys, config_list_keys(keys), &documents);
}

/* What a user reads of a key that takes a name from a table names each row of the table. */
static void assert_expected(const struct config_key *keys, size_t n, const char *section,
                            const char *key, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].key, key) == 0 &&
            !strstr(keys[i].expected, name))
            fail_msg("key [%s] %s: its expected values in config.c, \"%s\", lack %s", section, key,
                     keys[i].expected, name);
}

static void test_names_of_tables(void **state)
{
    struct config_key keys[CONFIG_KEYS_MAX];
    size_t n = config_list_keys(keys);

#define SOURCE(name) assert_expected(keys, n, "source", "energy", #name);
    ENERGY_SOURCES(SOURCE)
#define PROVIDER(name) assert_expected(keys, n, "usage", "provider", #name);
    USAGE_PROVIDERS(PROVIDER)
#define MODEL(name) assert_expected(keys, n, "attribution", "model", #name);
    ATTRIBUTION_MODELS(MODEL)
}

static void test_every_key(void **state)
{
    static const char text[] = "# a comment\n"
                               "[daemon]\n"
                               "interval = 500ms\n"
                               "allow_fine_interval = yes\n"
                               "runtime_dir = /tmp/run ; another\n"
                               "state_dir = /tmp/state\n"
                               "[source]\nenergy = rapl\n"
                               "[rapl]\nsysfs_root=/tmp/sys\n"
                               "[estimate]\nidle_watts=10W\nmax_watts=99.5W\nexponent=0.75\n"
                               "[discovery]\nlibvirt_uri=\nprocfs=no\nproc_root=/tmp/proc\n"
                               "[usage]\nprovider=procfs\n"
                               "[attribution]\nmodel=/etc/model\nsmt_power_ratio=1.25\n"
                               "curve_exponent=0.3\nstatic_policy=vcpu\nplatform=psys\n"
                               "[baseline]\npackage-0 = 20.5W +- 200mW\ndram = 800mW\n"
                               "core = auto\npsys = none\ndefault = auto\n"
                               "[powercapfs]\nmountpoint=/tmp/vms\nfile_mode=0400\nfile_uid=7\n"
                               "file_gid=8\nquantum=1uJ\n"
                               "[exporter]\nlisten=[::1]:9\n";
    struct config_error error;
    struct config config;

    assert_int_equal(parse(text, &config, &error), 0);
    assert_int_equal(config.interval_ns, 500000000);
    assert_string_equal(config.runtime_dir, "/tmp/run");
    assert_string_equal(config.energy, "rapl");
    assert_string_equal(config.sysfs_root, "/tmp/sys");
    assert_int_equal(config.estimate.idle_uw, 10000000);
    assert_int_equal(config.estimate.max_uw, 99500000);
    assert_true(config.estimate.exponent == 0.75);
    assert_string_equal(config.libvirt_uri, "");
    assert_false(config.procfs);
    assert_string_equal(config.proc_root, "/tmp/proc");
    assert_string_equal(config.model, "/etc/model");
    assert_true(config.model_options.smt_power_ratio == 1.25);
    assert_true(config.model_options.curve_exponent == 0.3);
    assert_int_equal(config.static_policy, STATIC_VCPU);
    assert_true(config.publish_psys);
    assert_int_equal(config.n_static_powers, 4);
    assert_int_equal(config.static_powers[0].static_power.power_uw, 20500000);
    assert_int_equal(config.static_powers[0].static_power.uncertainty_uw, 200000);
    assert_int_equal(config.static_powers[0].static_power.origin, STATIC_CONFIGURED);
    assert_int_equal(config.static_powers[0].static_power.state, STATIC_FIXED);
    assert_int_equal(config.static_powers[2].static_power.state, STATIC_LEARNING);
    assert_int_equal(config.static_powers[2].static_power.origin, STATIC_NONE);
    assert_int_equal(config.static_powers[3].static_power.state, STATIC_FIXED);
    assert_int_equal(config.static_powers[3].static_power.origin, STATIC_NONE);
    assert_int_equal(config.other_static_powers.state, STATIC_LEARNING);
    assert_string_equal(config.static_powers[1].zone, "dram");
    assert_int_equal(config.static_powers[1].static_power.power_uw, 800000);
    assert_string_equal(config.mountpoint, "/tmp/vms");
    assert_int_equal(config.file_mode, 0400);
    assert_int_equal(config.file_uid, 7);
    assert_int_equal(config.file_gid, 8);
    assert_int_equal(config.quantum_uj, 1);
    assert_string_equal(config.listen, "[::1]:9");
}

static void test_meters(void **state)
{
    static const char text[] =
        "[dcmi]\ndevice=/dev/ipmi1\ninterval=30s\n"
        "[hwmon]\nsensors=ina226/power1 psu/energy2\ninterval=1s\n"
        "[redfish]\nurl=https://[::1]:8443/redfish/v1/Chassis/1/Power\n"
        "credentials=/etc/virtjoule/redfish\nca_file=/etc/virtjoule/bmc.pem\ninterval=20s\n"
        "[snmp]\naddress=udp6:[::1]:161\noids=1.3.6.1.4.1.318.1 .1.3.6.1\nunit=100mW\n"
        "credentials=/etc/virtjoule/snmp\ninterval=60min\n";
    struct config_error error;
    struct config config;

    assert_int_equal(parse(text, &config, &error), 0);
    assert_string_equal(config.meters.dcmi.device, "/dev/ipmi1");
    assert_int_equal(config.meters.dcmi.interval_ns, 30000000000);
    assert_false(config.meters.hwmon.find);
    assert_int_equal(config.meters.hwmon.sensors.n, 2);
    assert_int_equal(config.meters.hwmon.interval_ns, 1000000000);
    assert_string_equal(config.meters.redfish.url, "https://[::1]:8443/redfish/v1/Chassis/1/Power");
    assert_string_equal(config.meters.redfish.credentials, "/etc/virtjoule/redfish");
    assert_string_equal(config.meters.redfish.ca_file, "/etc/virtjoule/bmc.pem");
    assert_int_equal(config.meters.redfish.interval_ns, 20000000000);
    assert_string_equal(config.meters.snmp.address, "udp6:[::1]:161");
    assert_int_equal(config.meters.snmp.oids.n, 2);
    assert_int_equal(config.meters.snmp.oids.list[0].n, 8);
    assert_int_equal(config.meters.snmp.oids.list[0].parts[6], 318);
    assert_int_equal(config.meters.snmp.oids.list[1].n, 4);
    assert_int_equal(config.meters.snmp.unit_uw, 100000);
    assert_string_equal(config.meters.snmp.credentials, "/etc/virtjoule/snmp");
    assert_int_equal(config.meters.snmp.interval_ns, 3600000000000);
}

static void test_errors_name_the_place(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *section, *key, *problem; /* the problem's text contains this */
    } cases[] = {
        {"[daemon]\ninterval = 5\n", 2, "daemon", "interval", "\"5\" is not a duration"},
        {"[daemon]\ninterval = 99ms\n", 2, "daemon", "interval", "between 100ms and 60s"},
        {"[daemon]\ninterval = 61s\n", 2, "daemon", "interval", "between 100ms and 60s"},
        {"\n\n[daemon]\n\ninterval = 500ms\n", 5, "daemon", "interval", "allow_fine_interval"},
        {"[daemon]\nintervall = 1s\n", 2, "daemon", "intervall", "unknown key"},
        {"[demon]\ninterval = 1s\n", 2, "demon", "interval", "unknown section"},
        {"interval = 1s\n", 1, "", "interval", "unknown section"},
        {"[daemon]\ninterval = 1s\ninterval = 2s\n", 3, "daemon", "interval", "given twice"},
        {"[daemon]\ninterval = 1s\n   2s\n", 3, "daemon", "interval", "given twice"},
        {"[daemon\ninterval = 1s\n", 1, "", "", "neither a section"},
        {"[daemon]\njust words\n", 2, "", "", "neither a section"},
        {"[daemon]\nruntime_dir = run\n", 2, "daemon", "runtime_dir", "absolute path"},
        {"[daemon]\nruntime_dir =\n", 2, "daemon", "runtime_dir", "absolute path"},
        {"[source]\nenergy = magic\n", 2, "source", "energy", "auto, rapl or estimate"},
        {"[estimate]\nidle_watts = 40\n", 2, "estimate", "idle_watts", "a power with its unit"},
        {"[estimate]\nidle_watts = 130W\n", 2, "estimate", "idle_watts", "above max_watts"},
        {"[estimate]\nexponent = 0\n", 2, "estimate", "exponent", "a number above 0"},
        {"[discovery]\nprocfs = maybe\n", 2, "discovery", "procfs", "yes or no"},
        {"[usage]\nprovider = magic\n", 2, "usage", "provider", "auto, bpf or procfs"},
        {"[attribution]\nmodel = ./x\n", 2, "attribution", "model", "cputime"},
        {"[attribution]\nsmt_power_ratio = 0.9\n", 2, "attribution", "smt_power_ratio", "1 to 2"},
        {"[attribution]\nsmt_power_ratio = 2.1\n", 2, "attribution", "smt_power_ratio", "1 to 2"},
        {"[attribution]\ncurve_exponent = 0\n", 2, "attribution", "curve_exponent", "up to 1"},
        {"[attribution]\ncurve_exponent = 1.1\n", 2, "attribution", "curve_exponent", "up to 1"},
        {"[attribution]\nstatic_policy = all\n", 2, "attribution", "static_policy", "exclude"},
        {"[baseline]\npackage-0 = -5W\n", 2, "baseline", "package-0", "not a power"},
        {"[baseline]\npackage-0 = 20000W\n", 2, "baseline", "package-0", "not a power"},
        {"[baseline]\n../etc = 1W\n", 2, "baseline", "../etc", "not the name of a zone"},
        {"[baseline]\ndram = 1W\ndram = 2W\n", 3, "baseline", "dram", "given twice"},
        {"[baseline]\ndram = learned\n", 2, "baseline", "dram", "nor auto or none"},
        {"[baseline]\ndram = 1W +- 2\n", 2, "baseline", "dram", "not a power"},
        {"[baseline]\ndefault = 5W\n", 2, "baseline", "default", "none or auto"},
        {"[baseline]\nfile = baseline.conf\n", 2, "baseline", "file", "an absolute path"},
        {"[powercapfs]\nfile_mode = 0644\n", 2, "powercapfs", "file_mode", "octal mode"},
        {"[powercapfs]\nfile_mode = 0044\n", 2, "powercapfs", "file_mode", "octal mode"},
        {"[powercapfs]\nfile_uid = root\n", 2, "powercapfs", "file_uid", "user id"},
        {"[powercapfs]\nquantum = 2J\n", 2, "powercapfs", "quantum", "above 1J"},
        {"[dcmi]\ndevice = ipmi0\n", 2, "dcmi", "device", "an absolute path"},
        {"[dcmi]\ninterval = 5\n", 2, "dcmi", "interval", "a duration with its unit"},
        {"[dcmi]\ninterval = 999ms\n", 2, "dcmi", "interval", "between 1s and 60min"},
        {"[hwmon]\nsensors =\n", 2, "hwmon", "sensors", "sensors of chips"},
        {"[hwmon]\ninterval = 61min\n", 2, "hwmon", "interval", "between 1s and 60min"},
        {"[redfish]\nurl = http://bmc\n", 2, "redfish", "url", "https://"},
        {"[redfish]\nurl = https://\n", 2, "redfish", "url", "https://"},
        {"[redfish]\nurl = https://a:b@bmc\n", 2, "redfish", "url", "without user"},
        {"[redfish]\ncredentials = secret\n", 2, "redfish", "credentials", "absolute path"},
        {"[snmp]\noids = sysDescr.0\n", 2, "snmp", "oids", "in numbers"},
        {"[snmp]\noids = 1.3.\n", 2, "snmp", "oids", "in numbers"},
        {"[snmp]\noids = 1.40\n", 2, "snmp", "oids", "in numbers"},
        {"[snmp]\noids = 3.1\n", 2, "snmp", "oids", "in numbers"},
        {"[snmp]\noids = 1.3.4294967296\n", 2, "snmp", "oids", "in numbers"},
        {"[snmp]\nunit = 0W\n", 2, "snmp", "unit", "above 0"},
        {"[exporter]\nlisten = 19177\n", 2, "exporter", "listen", "an address and port"},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct config_error error;
        struct config config = {.file_uid = 42};

        assert_int_equal(parse(cases[i].text, &config, &error), -EINVAL);
        assert_int_equal(error.line, cases[i].line);
        assert_string_equal(error.section, cases[i].section);
        assert_string_equal(error.key, cases[i].key);
        if (!strstr(error.problem, cases[i].problem))
            fail_msg("\"%s\" does not say \"%s\"", error.problem, cases[i].problem);
        assert_int_equal(config.file_uid, 42); /* untouched */
    }
}

static void test_baseline_file(void **state)
{
    static const char file[] = "# by virtjoule calibrate\n"
                               "[baseline]\n"
                               "package-0 = 40.25W +- 0.5W\n"
                               "package-1 = 41W\n";
    struct config_error error;
    struct config config;

    assert_int_equal(parse("[baseline]\npackage-1 = auto\n", &config, &error), 0);
    assert_int_equal(config_parse_baselines(file, strlen(file), &config, &error), 0);
    assert_int_equal(config.n_static_powers, 2);
    /* What the configuration says itself wins. */
    assert_string_equal(config.static_powers[0].zone, "package-1");
    assert_int_equal(config.static_powers[0].static_power.state, STATIC_LEARNING);
    assert_string_equal(config.static_powers[1].zone, "package-0");
    assert_int_equal(config.static_powers[1].static_power.power_uw, 40250000);
    assert_int_equal(config.static_powers[1].static_power.uncertainty_uw, 500000);
    assert_int_equal(config.static_powers[1].static_power.origin, STATIC_CALIBRATED);
}

static void test_bad_baseline_file(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *section, *key, *problem;
    } cases[] = {
        {"[baseline]\npackage-0 = -5W\n", 2, "baseline", "package-0", "not a power"},
        {"[baseline]\npackage-0 = 1e9W\n", 2, "baseline", "package-0", "not a power"},
        {"[baseline]\npackage-0 = 123456W\n", 2, "baseline", "package-0", "up to 10000W"},
        {"[baseline]\npackage-0 = nan\n", 2, "baseline", "package-0", "not a power"},
        {"[baseline]\npackage-0 = 20.5\n", 2, "baseline", "package-0", "with its unit"},
        {"[baseline]\npackage-0 = 20W +- \n", 2, "baseline", "package-0", "not a power"},
        {"[baseline]\n\npackage-0 = auto\n", 3, "baseline", "package-0", "not a power"},
        {"[baseline]\ndram = 1W\ndram = 2W\n", 3, "baseline", "dram", "given twice"},
        {"[baseline]\ndefault = auto\n", 2, "baseline", "default", "not a power"},
        {"[baseline]\nfile = /x\n", 2, "baseline", "file", "not a power"},
        {"[daemon]\ninterval = 2s\n", 2, "daemon", "interval", "[baseline] section only"},
        {"package-0 = 20W\n", 1, "", "package-0", "[baseline] section only"},
        {"garbage\n", 1, "", "", "neither a section"},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct config_error error = {0};
        struct config config;

        config_init(&config);
        assert_int_equal(
            config_parse_baselines(cases[i].text, strlen(cases[i].text), &config, &error), -EINVAL);
        assert_int_equal(error.line, cases[i].line);
        assert_string_equal(error.section, cases[i].section);
        assert_string_equal(error.key, cases[i].key);
        if (!strstr(error.problem, cases[i].problem))
            fail_msg("\"%s\" does not say \"%s\"", error.problem, cases[i].problem);
        assert_int_equal(config.n_static_powers, 0);
    }
}

/* The file that the configuration names is part of it, also for --check-config. */
static void test_baseline_file_is_loaded(void **state)
{
    const char *root = *state;
    char path[CONFIG_PATH_MAX], text[2 * CONFIG_PATH_MAX];
    struct config config = {0};

    snprintf(path, sizeof(path), "%s/virtjouled.conf", root);
    snprintf(text, sizeof(text), "[baseline]\nfile = %s/baseline.conf\n", root);
    fixture_write(root, text, "virtjouled.conf");
    assert_int_equal(config_load(path, &config), -ENOENT);
    fixture_write(root, "[baseline]\npackage-0 = 20W\n", "baseline.conf");
    assert_int_equal(config_load(path, &config), 0);
    assert_int_equal(config.static_powers[0].static_power.power_uw, 20000000);
    fixture_write(root, "[baseline]\npackage-0 = -20W\n", "baseline.conf");
    assert_int_equal(config_load(path, &config), -EINVAL);
}

static void test_hostile_text(void **state)
{
    struct config_error error = {0};
    struct config config;
    char text[2000];

    memset(text, 'x', sizeof(text));
    assert_int_equal(config_parse(text, sizeof(text), &config, &error), -EINVAL);
    assert_non_null(strstr(error.problem, "longer than"));
    assert_int_equal(config_parse("[daemon]\nint\0erval=1s", 21, &config, &error), -EINVAL);
    assert_non_null(strstr(error.problem, "zero byte"));
    assert_int_equal(error.line, 2);
    /* No newline at the end, carriage returns, a byte order mark: all fine. */
    assert_int_equal(parse("\xef\xbb\xbf[daemon]\r\ninterval = 2s", &config, &error), 0);
    assert_int_equal(config.interval_ns, 2000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_documented_configuration),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_names_of_tables),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_meters),
        cmocka_unit_test(test_errors_name_the_place),
        cmocka_unit_test(test_baseline_file),
        cmocka_unit_test(test_bad_baseline_file),
        cmocka_unit_test_setup_teardown(test_baseline_file_is_loaded, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test(test_hostile_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
