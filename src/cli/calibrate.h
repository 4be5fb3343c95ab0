/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/**
 * `virtjoule calibrate`: measures every zone's static power without the daemon
 * and writes it for the daemon.
 *
 *     RAPL readings and /proc/stat -> windows -> calibrate_zone() -> table or JSON, file
 *
 * @param argc, argv  from the command's name on
 * @return the exit status: 0; 1 when --strict refuses, or the file cannot be written; 2 wrong
 *         usage; 69 when no energy can be read
 */
int calibrate_command(int argc, char **argv);
