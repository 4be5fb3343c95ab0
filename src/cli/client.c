/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <uuid/uuid.h>

#include "powercapfs/mount.h"
#include "util/paths.h"

/* 5,000 VMs make about 5 MB. */
#define ANSWER_MAX (64 << 20)

static int connect_to(const char *path)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = 10};

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static int send_text(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t n = send(fd, text, length, MSG_NOSIGNAL);

        if (n < 0)
            return -errno;
        text += n;
        length -= (size_t)n;
    }
    return 0;
}

static int receive_all(int fd, char **ret, size_t *ret_length)
{
    _cleanup_free_ char *text = NULL;
    size_t length = 0, size = 0;

    for (;;) {
        ssize_t n;

        if (length == size) {
            char *grown;

            if (size == ANSWER_MAX)
                return -EMSGSIZE;
            size = size ? 2 * size : 65536;
            grown = realloc(text, size);
            if (!grown)
                return -ENOMEM;
            text = grown;
        }
        n = recv(fd, text + length, size - length, 0);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    *ret = TAKE_PTR(text);
    *ret_length = length;
    return 0;
}

DEFINE_CLEANUP(struct json_tokener *, json_tokener_free);

const char *client_socket(const char *path)
{
    return path ? path : CONTROL_SOCKET;
}

static struct json_object *make_request(const char *command, const char *vm)
{
    struct json_object *request = json_object_new_object();

    json_object_object_add(request, "command", json_object_new_string(command));
    if (vm)
        json_object_object_add(request, "vm", json_object_new_string(vm));
    return request;
}

int client_ask(const char *socket_path, const char *command, const char *vm,
               struct json_object **ret)
{
    _cleanup_(cleanup_json_tokener_free) struct json_tokener *tokener = json_tokener_new();
    _cleanup_json_ struct json_object *request = make_request(command, vm), *parsed = NULL;
    _cleanup_close_ int fd = connect_to(client_socket(socket_path));
    _cleanup_free_ char *answer = NULL;
    const char *text = json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN);
    size_t length = 0;
    int r;

    if (!tokener || !text)
        return -ENOMEM;
    if (fd < 0)
        return fd;
    r = send_text(fd, text, strlen(text));
    if (r == 0)
        r = send_text(fd, "\n", 1);
    if (r == 0)
        r = receive_all(fd, &answer, &length);
    if (r < 0)
        return r;
    parsed = json_tokener_parse_ex(tokener, answer, (int)length);
    if (!json_object_is_type(parsed, json_type_object))
        return -EPROTO;
    *ret = TAKE_PTR(parsed);
    return 0;
}

static bool is_tree_of(struct json_object *answer, const char *uuid_text)
{
    const char *tree = json_object_get_string(json_object_object_get(answer, "tree"));
    char name[UUID_STR_LEN];
    uuid_t uuid;

    if (!tree || uuid_parse(uuid_text, uuid) < 0)
        return false;
    uuid_unparse_lower(uuid, name);
    return mount_has_directory(tree, name);
}

int client_prepare(const char *socket_path, const char *uuid, struct json_object **ret)
{
    struct json_object *answer;
    int r = client_ask(socket_path, "prepare", uuid, &answer);

    if (r < 0)
        return r;
    if (!json_object_object_get_ex(answer, "error", NULL) && !is_tree_of(answer, uuid)) {
        json_object_put(answer);
        answer = json_object_new_object();
        json_object_object_add(answer, "error",
                               json_object_new_string("virtjouled names a directory that is not "
                                                      "this VM's in virtjoule's mount"));
    }
    *ret = answer;
    return 0;
}
