/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "source/energy_source.h"

/**
 * Opens the RAPL zones of a powercap sysfs tree.
 *
 * Under "/sys" the zones are found, and later additions noticed, through
 * libudev; under any other root, and where udev knows none, by scanning the
 * class/powercap directory.
 * Two kinds of zones are left out: intel-rapl-mmio, which repeats package-0, and
 * AMD's core zone, which has the energy of one core only.
 *
 * @param sysfs_root  "/sys", or a directory laid out like it
 * @return 0; -ENOENT when there is no zone; -EACCES and the like when there
 *         are zones but none can be read; -ENOMEM. The reason is logged.
 */
int rapl_new(struct energy_source **ret, const char *sysfs_root);

/**
 * Names and places a zone.
 * @param sysname  directory name, "intel-rapl:0" or "intel-rapl:0:1"
 * @param name     content of its name file, without newline
 * @param parent   content of the parent zone's name file, NULL for a top-level zone
 * @param ret      everything but max_energy_uj is set
 * @return 0, or -EINVAL for names the kernel does not give
 */
int rapl_parse_zone(const char *sysname, const char *name, const char *parent, struct zone *ret);
