/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/**
 * `virtjoule doctor`: looks at all that energy passes on its way from the sensor
 * to a reader in the guest, and names for whatever is wrong a command that cures
 * it. Nothing on the machine is changed.
 *
 *     system's files, libvirt's domains, daemon's answers -> checks -> findings -> text or JSON
 *
 * @param argc, argv  from the command's name on
 * @return the exit status: 0 nothing is wrong; 1 something is; 2 wrong usage
 */
int doctor_command(int argc, char **argv);
