/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Files with passwords: what they hold, and who may read them. */

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"
#include "meter/credentials.h"

static int parse(const char *text, struct credentials *ret)
{
    int line;

    return credentials_parse(text, strlen(text), ret, &line);
}

static void test_values(void **state)
{
    struct credentials credentials;

    assert_int_equal(
        parse("# for the BMC\n\nuser = monitor\n password=a b ; #\"=\xc3\xa9 \n", &credentials), 0);
    assert_string_equal(credentials.user, "monitor");
    assert_string_equal(credentials.password, "a b ; #\"=\xc3\xa9 ");
    assert_string_equal(credentials.community, "");
    assert_int_equal(parse("community = public", &credentials), 0);
    assert_string_equal(credentials.community, "public");
    assert_int_equal(parse("auth = SHA-256\nprivacy = AES\nprivacy_password = p\n", &credentials),
                     0);
    assert_string_equal(credentials.privacy_password, "p");
    assert_int_equal(parse("", &credentials), 0);
}

static void test_not_of_the_form(void **state)
{
    static const struct {
        const char *text;
        int line;
    } cases[] = {
        {"user\n", 1},         {"user = \n", 1},       {"user = a\nuser = b\n", 2},
        {"\n\nUser = a\n", 3}, {"user a\n", 1},        {"= a\n", 1},
        {"passwor = a\n", 1},  {"passwordd = a\n", 1}, {"user = a\n[section]\n", 2},
    };
    struct credentials credentials;
    char text[400];
    int line;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        assert_int_equal(
            credentials_parse(cases[i].text, strlen(cases[i].text), &credentials, &line), -EINVAL);
        assert_int_equal(line, cases[i].line);
        assert_string_equal(credentials.user, "");
    }
    assert_int_equal(credentials_parse("user = a\0b", 10, &credentials, &line), -EINVAL);
    snprintf(text, sizeof(text), "user = %0*d", CREDENTIAL_MAX - 1, 0);
    assert_int_equal(parse(text, &credentials), 0);
    snprintf(text, sizeof(text), "user = %0*d", CREDENTIAL_MAX, 0);
    assert_int_equal(parse(text, &credentials), -EINVAL);
}

static void test_access(void **state)
{
    static const struct {
        mode_t mode;
        int r;
    } cases[] = {{0600, 0},      {0400, 0},      {0640, 0},      {0440, 0},     {0644, -EPERM},
                 {0604, -EPERM}, {0602, -EPERM}, {0660, -EPERM}, {0601, -EPERM}};
    const char *root = *state;
    struct credentials credentials;
    char path[256], problem[160];

    fixture_write(root, "user = monitor\n", "credentials");
    snprintf(path, sizeof(path), "%s/credentials", root);
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        assert_int_equal(chmod(path, cases[i].mode), 0);
        assert_int_equal(credentials_load(path, &credentials, problem, sizeof(problem)),
                         cases[i].r);
    }
    assert_int_equal(chmod(path, 0600), 0);
    fixture_write(root, "user = a\npasword = secret\n", "credentials");
    assert_int_equal(credentials_load(path, &credentials, problem, sizeof(problem)), -EINVAL);
    assert_non_null(strstr(problem, ":2: "));
    assert_null(strstr(problem, "secret"));
    assert_int_equal(credentials_load(root, &credentials, problem, sizeof(problem)), -EINVAL);
    assert_int_equal(credentials_load("/nowhere", &credentials, problem, sizeof(problem)), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_not_of_the_form),
        cmocka_unit_test_setup_teardown(test_access, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
