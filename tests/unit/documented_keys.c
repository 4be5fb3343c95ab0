/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "documented_keys.h"

#include "unit.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/file.h"

#define TEXT_MAX (1 << 20)

struct check {
    const struct config_key *keys;
    size_t n;
    const struct key_documents *documents;
    const char *file;
    char section[64]; /* of the current line */
    bool *found;      /* by key */
    unsigned problems;
};

#define PROBLEM(check, ...) (print_error(__VA_ARGS__), print_error("\n"), (check)->problems++)

static bool is_other(const struct check *check, const char *key)
{
    for (const struct documented_key *other = check->documents->others; other->section; other++)
        if (strcmp(other->section, check->section) == 0 && strcmp(other->key, key) == 0)
            return true;
    return false;
}

/* @return the key of the current section, NULL: it is in no table */
static const struct config_key *find(struct check *check, const char *name)
{
    for (size_t i = 0; i < check->n; i++)
        if (strcmp(check->keys[i].section, check->section) == 0 &&
            strcmp(check->keys[i].key, name) == 0) {
            check->found[i] = true;
            return &check->keys[i];
        }
    if (!is_other(check, name))
        PROBLEM(check, "%s has the key [%s] %s, which no table of keys has", check->file,
                check->section, name);
    return NULL;
}

/* "key = value", or "#key = value". */
static void check_setting(struct check *check, char *line)
{
    bool comment = line[0] == '#';
    char *name = line + comment, *equals = strstr(name, " =");
    const char *value;
    const struct config_key *key;

    if (!equals || strcspn(name, " ") != (size_t)(equals - name))
        return;
    *equals = '\0';
    value = equals + strlen(" =");
    value += *value == ' ';
    key = find(check, name);
    if (!key)
        return;
    if (key->initial && comment)
        PROBLEM(check, "key [%s] %s is a comment in %s, but has a default: \"%s\"", key->section,
                name, check->file, key->initial);
    else if (!key->initial && !comment)
        PROBLEM(check, "key [%s] %s has no default: %s must have it as a comment, #%s = EXAMPLE",
                key->section, name, check->file, name);
    else if (key->initial && strcmp(key->initial, value) != 0)
        PROBLEM(check, "key [%s] %s is \"%s\" in %s, but its default is \"%s\"", key->section, name,
                value, check->file, key->initial);
}

static void check_configuration_line(struct check *check, char *line)
{
    if (line[0] == '[')
        snprintf(check->section, sizeof(check->section), "%.*s", (int)strcspn(line + 1, "]"),
                 line + 1);
    else
        check_setting(check, line);
}

/* Whether an entry's text names the default of a key. */
static bool names_default(const struct config_key *key, const char *text)
{
    char word[256];

    if (!key->initial)
        return true;
    snprintf(word, sizeof(word), key->initial[0] ? "_%s_" : "empty", key->initial);
    return strstr(text, "efault") && strstr(text, word);
}

/* An entry: "*key*, *key*" and, below, its text. */
static void check_entry(struct check *check, char *head, const char *text)
{
    char *rest = head;

    for (char *name = strtok_r(head, "*, ", &rest); name; name = strtok_r(NULL, "*, ", &rest)) {
        const struct config_key *key = strcmp(name, "...") == 0 ? NULL : find(check, name);

        if (key && !names_default(key, text))
            PROBLEM(check, "key [%s] %s: its entry in %s does not say \"Default %s%s%s\"",
                    key->section, name, check->file, key->initial[0] ? "_" : "",
                    key->initial[0] ? key->initial : "empty", key->initial[0] ? "_" : "");
    }
}

/* "*key*", "*key*, *key*", "*key*, ..." */
static bool is_entry_head(const char *line)
{
    size_t length = strlen(line);

    return line[0] == '*' && (line[length - 1] == '*' || strcmp(line + length - 3, "...") == 0);
}

/* @return whether the keys follow that heading: "# [SECTION]", or the one that is given */
static bool enter_heading(struct check *check, const char *line)
{
    const char *heading = check->documents->heading;

    check->section[0] = '\0';
    if (heading)
        return strcmp(line, heading) == 0;
    if (strncmp(line, "# [", strlen("# [")) != 0)
        return false;
    snprintf(check->section, sizeof(check->section), "%.*s", (int)strcspn(line + 3, "]"), line + 3);
    for (char *p = check->section; *p; p++)
        *p = (char)tolower(*p);
    return true;
}

static void check_page(struct check *check, char *text)
{
    char *rest = text, *head = NULL;
    char entry[4096] = "";
    bool inside = false;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        size_t length = strlen(entry);

        if (line[0] == '\t')
            snprintf(entry + length, sizeof(entry) - length, "%s", line);
        if (!is_entry_head(line) && line[0] != '#')
            continue;
        if (head)
            check_entry(check, head, entry);
        if (line[0] == '#')
            inside = enter_heading(check, line);
        head = inside && line[0] != '#' ? line : NULL;
        entry[0] = '\0';
    }
}

static void check_configuration(struct check *check, char *text)
{
    char *rest = text;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        check_configuration_line(check, line);
}

static void check_file(struct check *check, const char *file, const char *what,
                       void (*read)(struct check *check, char *text))
{
    _cleanup_free_ bool *found = calloc(check->n, sizeof(*found));
    _cleanup_free_ char *text = NULL;
    char path[512];
    size_t length;

    assert_non_null(found);
    snprintf(path, sizeof(path), "%s/%s", SOURCE_ROOT, file);
    assert_int_equal(read_file_full(AT_FDCWD, path, TEXT_MAX, &text, &length), 0);
    check->file = file;
    check->found = found;
    check->section[0] = '\0';
    read(check, text);
    for (size_t i = 0; i < check->n; i++)
        if (!found[i])
            PROBLEM(check, "key [%s] %s has no %s in %s", check->keys[i].section,
                    check->keys[i].key, what, file);
}

void assert_documented(const struct config_key *keys, size_t n,
                       const struct key_documents *documents)
{
    struct check check = {.keys = keys, .n = n, .documents = documents};

    check_file(&check, documents->configuration, "line", check_configuration);
    check_file(&check, documents->page, "entry", check_page);
    assert_int_equal(check.problems, 0);
}
