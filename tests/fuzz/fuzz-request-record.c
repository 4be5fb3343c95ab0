/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What clients send, in the access log and the metrics: a line is a line, a route is short. */

#include "fuzz.h"

#include <string.h>

#include "requests/access_log.h"
#include "requests/request_metrics.h"
#include "util/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request_record record = {.status = 200};
    char line[ACCESS_LOG_LINE_MAX], route[REQUEST_ROUTE_MAX];
    size_t length;

    record.method_length = (uint8_t)(size < RECORD_METHOD_MAX ? size : RECORD_METHOD_MAX);
    memcpy(record.method, data, record.method_length);
    record.path_length = (uint8_t)(size < RECORD_PATH_MAX ? size : RECORD_PATH_MAX);
    memcpy(record.path, data, record.path_length);
    length = access_log_format(&record, line);
    require(length < ACCESS_LOG_LINE_MAX && strlen(line) == length);
    for (size_t i = 0; i < length;) {
        size_t n = utf8_character_length(line + i, length - i);

        require(n > 0 && ((unsigned char)line[i] >= ' ' || i == length - 1));
        i += n;
    }
    request_route(record.path, record.path_length, route);
    require(memchr(route, '\0', sizeof(route)) && route[0] != '\0' && !strchr(route, '?'));
    return 0;
}
