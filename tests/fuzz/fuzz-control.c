/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests on the control socket: every one gets one line of JSON. */

#include "fuzz.h"

#include <string.h>

#include "../lib/control_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapshot_vm vm = {
        .id = 1, .uuid_text = "00000000-0000-0000-0000-000000000001", .name = "web"};
    uint32_t by_id = 0;
    const struct snapshot snapshot = {
        .interval_ns = 1000000000,
        .source = "estimate",
        .usage_provider = "procfs",
        .model = "cputime",
        .static_policy = "exclude",
        .n_zones = 1,
        .zones = {{.zone = {.name = "package-0"}}},
        .n_vms = 1,
        .vms = &vm,
        .by_id = &by_id,
    };
    char *answer;
    uuid_t uuid;

    if (control_asks_prepare((const char *)data, size, uuid))
        require(!uuid_is_null(uuid));
    answer = control_text((const char *)data, size, &snapshot, "/vms");
    require(answer[0] == '{' && strchr(answer, '\n') == answer + strlen(answer) - 1);
    free(answer);
    return 0;
}
