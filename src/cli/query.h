/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

#include "cli/subcommand.h"

/**
 * Asks the daemon one question and prints its answer.
 * @param command, vm  of the question, as of client_ask()
 * @param print        prints the answer, unless that is an error or wanted as JSON
 * @return the exit status
 */
int query(const struct common_options *common, const char *command, const char *vm,
          void (*print)(FILE *stream, struct json_object *answer));

/**
 * The second half of query().
 * @param r       client_ask()'s result; below 0: there is no answer
 */
int query_print(const struct common_options *common, int r, struct json_object *answer,
                void (*print)(FILE *stream, struct json_object *answer));
