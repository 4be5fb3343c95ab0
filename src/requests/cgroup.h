/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The cgroups whose servers are watched, by path or by the name of their
 * systemd unit. They may appear later and go at any time.
 */

#include <stdbool.h>
#include <stddef.h>

/** Whether it is an absolute path without "..", short enough for the configuration. */
bool cgroup_is_path(const char *text);

/** Whether it is the name of a systemd unit that has a cgroup: "nginx.service", "app@1.service",
 * "web.slice". */
bool cgroup_is_unit(const char *text);

/**
 * Finds where the cgroup is now.
 * @param root  the cgroup2 mount, below which units are searched
 * @param name  a path or a unit's name
 * @param path  set to the cgroup's directory
 * @return 0; -ENOENT: there is none now; or another negative errno
 */
int cgroup_find(const char *root, const char *name, char *path, size_t size);
