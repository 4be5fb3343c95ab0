/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* pass-all CGROUP: takes the group's inbound connections into a map of sockets, until it is ended;
 * says "ready". */

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "pass_all.skel.h"

int main(int argc, char **argv)
{
    struct pass_all *programs = pass_all__open_and_load();
    int cgroup = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;

    if (!programs || cgroup < 0 ||
        bpf_prog_attach(bpf_program__fd(programs->progs.pass), bpf_map__fd(programs->maps.sockets),
                        BPF_SK_MSG_VERDICT, 0) < 0 ||
        !bpf_program__attach_cgroup(programs->progs.follow_connection, cgroup)) {
        perror("pass-all");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    pause();
    return 0;
}
