/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Give a libvirt domain its energy share, and take it away again: the domain's
 * definition, and the device of the running VM where that is possible.
 *
 *     definition --domain_xml_attach()--> difference shown --> libvirt
 */

/** `virtjoule attach`: reads the command's own arguments. @return the exit status */
int attach_command(int argc, char **argv);

/** `virtjoule detach`, likewise. */
int detach_command(int argc, char **argv);
