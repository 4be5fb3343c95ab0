/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whether FIONREAD can be trusted for sockets in a map of sockets. */

/**
 * Tries on a connection of its own whether FIONREAD reports nothing to read although there is.
 * Linux does so since commit 929e30f93125 (6.6.128, 6.12.75, 6.18.14, 6.19), until 04af4efde58a,
 * where no program is on the receiving side. A server that asks FIONREAD whether to read on, as
 * nginx does after every full buffer, then waits for ever.
 * @return 1 when it is broken, 0 when not, else a negative errno: it could not be tried
 */
int fionread_is_broken(void);
