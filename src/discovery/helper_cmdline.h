/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Room for any path that a Unix socket can have. */
#define SOCKET_PATH_SIZE 128

/** Whether a path is that of virtiofsd or swtpm; each process of them serves one VM. */
bool path_is_helper(const char *path);

/**
 * The Unix socket on which a virtiofsd or swtpm serves its VM.
 * @param text  /proc/PID/cmdline: NUL-separated, any bytes, maybe cut
 * @return true, or false where no socket is named (the helper may have inherited an
 *         open descriptor) or the path is too long; ret is then untouched
 */
bool parse_helper_cmdline(const char *text, size_t length, char ret[SOCKET_PATH_SIZE]);
