/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/snapshot.h"

/*
 * The names of a snapshot's VMs. Tenants name their VMs, and two may have one
 * name: publishers show each VM under a name that no other has, not even as a file's.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/utf8.h"

/* "@" and a UUID. */
#define SUFFIX_LENGTH UUID_TEXT_SIZE

_Static_assert(VM_NAME_MAX <= NAME_MAX + 1, "a VM's name is never longer than a file name");

struct named_vm {
    char file[VM_NAME_MAX];
    struct snapshot_vm *vm;
};

static bool is_control(char c)
{
    return (unsigned char)c < ' ' || c == 0x7f;
}

void snapshot_file_name(const char *name, char ret[VM_NAME_MAX])
{
    size_t length = strnlen(name, VM_NAME_MAX - 1), n = 0;

    while (n < length) {
        size_t character = utf8_character_length(name + n, length - n);

        if (character == 0 || name[n] == '/' || is_control(name[n]) || (n == 0 && *name == '.')) {
            ret[n++] = '_';
            continue;
        }
        memcpy(ret + n, name + n, character);
        n += character;
    }
    if (n == 0)
        ret[n++] = '_';
    ret[n] = '\0';
}

/* Breaks an "@<uuid>" at the end of a name, so that no VM can pose as another's namesake. */
static void defuse_suffix(char *name)
{
    size_t length = strlen(name);
    char *suffix = name + length - SUFFIX_LENGTH;
    uuid_t uuid;

    if (length >= SUFFIX_LENGTH && *suffix == '@' && uuid_parse(suffix + 1, uuid) == 0)
        *suffix = '_';
}

/* Appends "@<uuid>" to the name, which is cut between characters where the suffix does not fit. */
static void add_uuid(struct snapshot_vm *vm)
{
    size_t length = strlen(vm->name);

    if (length > VM_NAME_MAX - 1 - SUFFIX_LENGTH) {
        length = VM_NAME_MAX - 1 - SUFFIX_LENGTH;
        while (length > 0 && ((unsigned char)vm->name[length] & 0xc0) == 0x80)
            length--;
    }
    snprintf(vm->name + length, VM_NAME_MAX - length, "@%s", vm->uuid_text);
}

/* By name; of one name trust comes first, then a VM that is there, then age. */
static int compare_named(const void *a, const void *b)
{
    const struct named_vm *x = a, *y = b;
    int difference = strcmp(x->file, y->file);

    if (difference != 0)
        return difference;
    if (x->vm->trusted != y->vm->trusted)
        return x->vm->trusted ? -1 : 1;
    if (x->vm->has_tree != y->vm->has_tree)
        return x->vm->has_tree ? -1 : 1;
    return (x->vm->id > y->vm->id) - (x->vm->id < y->vm->id);
}

int snapshot_name_vms(struct snapshot *snapshot)
{
    _cleanup_free_ struct named_vm *named = calloc(snapshot->n_vms + 1, sizeof(*named));

    if (!named)
        return -ENOMEM;
    for (size_t i = 0; i < snapshot->n_vms; i++) {
        named[i].vm = &snapshot->vms[i];
        defuse_suffix(named[i].vm->name);
        snapshot_file_name(named[i].vm->name, named[i].file);
    }
    qsort(named, snapshot->n_vms, sizeof(*named), compare_named);
    for (size_t i = 1; i < snapshot->n_vms; i++)
        if (strcmp(named[i].file, named[i - 1].file) == 0)
            add_uuid(named[i].vm);
    return 0;
}
