/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

/** Prints the daemon's answer to "list" as a table: one VM a line. */
void print_list(FILE *stream, struct json_object *answer);

/** Prints the daemon's answer to "show" with a VM. */
void print_vm(FILE *stream, struct json_object *answer);

/** Prints the daemon's answer to "show" without a VM: the host's zones and rows. */
void print_host(FILE *stream, struct json_object *answer);

/** Prints an object to standard output in the form of --json. */
void print_json(struct json_object *object);
