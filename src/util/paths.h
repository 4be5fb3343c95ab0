/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where things are unless a configuration or an option says otherwise, and the names that host
 * and guest share. Units, hooks and packages name the same places; tests/unit/test-package.sh
 * compares them.
 */

#define RUNTIME_DIRECTORY "/run/virtjoule"
#define CONTROL_SOCKET_NAME "control.sock" /* within the runtime directory */
#define CONTROL_SOCKET RUNTIME_DIRECTORY "/" CONTROL_SOCKET_NAME
#define TREES_MOUNTPOINT RUNTIME_DIRECTORY "/vms"
#define DAEMON_CONFIG_FILE "/etc/virtjoule/virtjouled.conf"

/* In the guest: the virtiofs tag of its share, and where the share is mounted. */
#define SHARE_TAG "virtjoule"
#define SHARE_MOUNTPOINT RUNTIME_DIRECTORY "/share"

/* Where the process listens that writes to libvirt; in the runtime directory. */
#define METADATA_SOCKET_NAME "metadata.sock"
#define METADATA_SOCKET RUNTIME_DIRECTORY "/" METADATA_SOCKET_NAME
