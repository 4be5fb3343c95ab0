/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the kernel tells that is left to read on sockets in a map of sockets. */

/**
 * Tries on a connection of its own whether FIONREAD forgets what there is. It does
 * in Linux since commit 929e30f93125 (6.6.128, 6.12.75, 6.18.14, 6.19), until
 * 04af4efde58a, where no program is on the receiving side. A server that asks so
 * whether to read on, as nginx after every full buffer, waits for ever.
 * @return 1 when it does, 0 when it does not, else negative errno: it could not be tried
 */
int unread_is_forgotten(void);
