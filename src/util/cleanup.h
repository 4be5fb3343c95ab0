/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Ownership that shows within one function: every owner carries a cleanup
 * attribute, descriptors start at -1, pointers at NULL, and TAKE_PTR() or
 * TAKE_FD() takes a value that leaves the function.
 */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))

/** Defines cleanup_<function>(), which calls function(*p) for a non-NULL pointer. */
#define DEFINE_CLEANUP(type, function)                                                             \
    static inline void cleanup_##function(type *p)                                                 \
    {                                                                                              \
        if (*p)                                                                                    \
            function(*p);                                                                          \
    }                                                                                              \
    _Static_assert(sizeof(type) == sizeof(void *), "cleanup of a pointer type")

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

DEFINE_CLEANUP(FILE *, fclose);
DEFINE_CLEANUP(DIR *, closedir);

#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

#define TAKE_GENERIC(variable, null)                                                               \
    ({                                                                                             \
        __typeof__(variable) taken_ = (variable);                                                  \
        (variable) = (null);                                                                       \
        taken_;                                                                                    \
    })
#define TAKE_PTR(pointer) TAKE_GENERIC(pointer, NULL)
#define TAKE_FD(fd) TAKE_GENERIC(fd, -1)
