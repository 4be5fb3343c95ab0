/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The parsers of what a process tells of itself, over the same bytes. */

#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include "discovery/helper_cmdline.h"
#include "discovery/process.h"
#include "discovery/qemu_cmdline.h"
#include "host/machine_cgroup.h"

/* A process' executable and its threads' names. */
static void fuzz_names(const char *text, size_t size)
{
    char *name = strndup(text, size);

    require(name != NULL);
    require(!path_is_qemu(name) || !path_is_helper(name));
    (void)comm_is_vcpu(name);
    free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    char socket[SOCKET_PATH_SIZE];
    struct machine_cgroup cgroup;
    struct qemu_cmdline vm;
    const char *line;
    size_t length;

    fuzz_names(text, size);
    if (parse_qemu_cmdline(text, size, &vm) > 0) {
        require(strnlen(vm.name, sizeof(vm.name)) < sizeof(vm.name));
        require(strnlen(vm.id, sizeof(vm.id)) < sizeof(vm.id));
        require(vm.vcpus >= 1);
        for (size_t i = 0; i < vm.n_sockets; i++)
            require(vm.sockets[i][0] != '\0');
        qemu_cmdline_deinit(&vm);
    }
    if (parse_helper_cmdline(text, size, socket))
        require(strnlen(socket, sizeof(socket)) < sizeof(socket) && socket[0] != '\0');
    if (parse_machine_cgroup(text, size, &cgroup)) {
        require(cgroup.path >= text && cgroup.path + cgroup.length <= text + size);
        char path[256];

        (void)machine_cgroup_is_private(&cgroup);
        snprintf(path, sizeof(path), "%.*s", (int)(cgroup.length % sizeof(path)), cgroup.path);
        (void)machine_cgroup_libvirt_id(path);
    }
    if (parse_cgroup_line(text, size, "memory", &line, &length))
        require(line >= text && line + length <= text + size && line[length - 1] == '\n');
    return 0;
}
