/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/config.h"
#include "meter/meter.h"

/** One of each kind at most. */
#define METERS_MAX 4

/**
 * Makes and starts the meters that the configuration asks for, the nearest to
 * the machine first. What it leaves open is made only if it is there.
 * @param ret    METERS_MAX of them
 * @return how many, or a negative errno; logged
 */
int meters_new(const struct config *config, sd_event *event, struct meter **ret);
