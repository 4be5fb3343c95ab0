/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "publish/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/utf8.h"

#define REQUEST_MAX 4096
#define CLIENTS_MAX 16
#define CLIENT_TIMEOUT_USEC UINT64_C(5000000)

typedef struct json_object json;

static void json_release(json *object)
{
    json_object_put(object);
}
DEFINE_CLEANUP(json *, json_release);
DEFINE_CLEANUP(struct json_tokener *, json_tokener_free);

/* The answers. */

static json *json_joules(uint64_t energy_uj)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, energy_uj / 1000000,
             energy_uj % 1000000);
    return json_object_new_double_s((double)energy_uj / 1e6, text);
}

static json *json_decimal(double value)
{
    char text[32];

    snprintf(text, sizeof(text), "%.3f", value);
    return json_object_new_double_s(value, text);
}

static json *json_zone_joules(const struct snapshot *snapshot, const uint64_t *energy_uj)
{
    json *object = json_object_new_object();

    for (size_t i = 0; i < snapshot->n_zones; i++)
        json_object_object_add(object, snapshot->zones[i].zone.name, json_joules(energy_uj[i]));
    return object;
}

/* The mean power over the last interval. */
static double vm_watts(const struct snapshot *snapshot, const struct snapshot_vm *vm)
{
    const struct ramp *ramp = &vm->tree[TREE_PACKAGE];

    if (!vm->running)
        return 0;
    return (double)(ramp->to_uj - ramp->from_uj) / 1e6 /
           ((double)snapshot->interval_ns / (double)NSEC_PER_SEC);
}

static json *json_vm(const struct snapshot *snapshot, const struct snapshot_vm *vm,
                     const char *mountpoint)
{
    json *object = json_object_new_object();
    char name[VM_NAME_MAX * UTF8_REPLACEMENT_LENGTH], tree[512];

    utf8_replace_invalid(vm->name, name, sizeof(name));
    snprintf(tree, sizeof(tree), "%s/%s", mountpoint, vm->uuid_text);
    json_object_object_add(object, "uuid", json_object_new_string(vm->uuid_text));
    json_object_object_add(object, "name", json_object_new_string(name));
    json_object_object_add(object, "running", json_object_new_boolean(vm->running));
    json_object_object_add(object, "manager",
                           json_object_new_string(vm_manager_to_string(vm->manager)));
    json_object_object_add(object, "vcpus", json_object_new_int64(vm->vcpus));
    json_object_object_add(object, "package_watts", json_decimal(vm_watts(snapshot, vm)));
    json_object_object_add(object, "energy_joules", json_zone_joules(snapshot, vm->dynamic_uj));
    json_object_object_add(object, "static_energy_joules",
                           json_zone_joules(snapshot, vm->static_uj));
    json_object_object_add(object, "cpu_seconds", json_decimal((double)vm->cpu_ns / 1e9));
    json_object_object_add(object, "memory_bytes", json_object_new_uint64(vm->memory_bytes));
    json_object_object_add(object, "block_io_bytes", json_object_new_uint64(vm->io_bytes));
    json_object_object_add(object, "tree_reads", json_object_new_uint64(vm->tree_reads));
    json_object_object_add(object, "tree", vm->has_tree ? json_object_new_string(tree) : NULL);
    return object;
}

static json *json_zone(const struct snapshot_zone *zone)
{
    json *object = json_object_new_object();

    json_object_object_add(object, "name", json_object_new_string(zone->zone.name));
    json_object_object_add(object, "readable", json_object_new_boolean(zone->readable));
    json_object_object_add(object, "measured_joules", json_joules(zone->measured_uj));
    json_object_object_add(object, "host_joules", json_joules(zone->host_uj));
    json_object_object_add(object, "static_joules", json_joules(zone->static_uj));
    json_object_object_add(object, "unattributed_joules", json_joules(zone->unattributed_uj));
    return object;
}

static json *json_host(const struct snapshot *snapshot)
{
    json *object = json_object_new_object();
    json *zones = json_object_new_array();

    json_object_object_add(object, "source", json_object_new_string(snapshot->source));
    json_object_object_add(object, "estimate", json_object_new_boolean(snapshot->estimate));
    json_object_object_add(object, "usage_provider",
                           json_object_new_string(snapshot->usage_provider));
    json_object_object_add(object, "static_policy",
                           json_object_new_string(snapshot->static_policy));
    json_object_object_add(object, "interval_seconds",
                           json_decimal((double)snapshot->interval_ns / 1e9));
    json_object_object_add(object, "ticks", json_object_new_uint64(snapshot->health.ticks));
    json_object_object_add(object, "ticks_missed",
                           json_object_new_uint64(snapshot->health.ticks_missed));
    for (size_t i = 0; i < snapshot->n_zones; i++)
        json_object_array_add(zones, json_zone(&snapshot->zones[i]));
    json_object_object_add(object, "zones", zones);
    return object;
}

static json *json_error(const char *text)
{
    json *object = json_object_new_object();

    json_object_object_add(object, "error", json_object_new_string(text));
    return object;
}

static json *answer_list(const struct snapshot *snapshot, const char *mountpoint)
{
    json *object = json_host(snapshot);
    json *vms = json_object_new_array();

    for (size_t i = 0; i < snapshot->n_vms; i++)
        json_object_array_add(vms, json_vm(snapshot, &snapshot->vms[i], mountpoint));
    json_object_object_add(object, "vms", vms);
    return object;
}

/* By UUID, else by name; a running VM before others of its name. */
static const struct snapshot_vm *find_vm(const struct snapshot *snapshot, const char *text)
{
    const struct snapshot_vm *found = NULL;
    uuid_t uuid;

    if (uuid_parse(text, uuid) == 0)
        return snapshot_find_uuid(snapshot, uuid);
    for (size_t i = 0; i < snapshot->n_vms; i++)
        if (strcmp(snapshot->vms[i].name, text) == 0 && (!found || snapshot->vms[i].running))
            found = &snapshot->vms[i];
    return found;
}

static json *answer_show(const struct snapshot *snapshot, const char *mountpoint, json *vm_name)
{
    const struct snapshot_vm *vm;
    json *object;

    if (!vm_name)
        return json_host(snapshot);
    vm = json_object_is_type(vm_name, json_type_string)
             ? find_vm(snapshot, json_object_get_string(vm_name))
             : NULL;
    if (!vm) {
        object = json_error("no such VM");
        json_object_object_add(object, "not_found", json_object_new_boolean(true));
        return object;
    }
    object = json_vm(snapshot, vm, mountpoint);
    json_object_object_add(object, "source", json_object_new_string(snapshot->source));
    json_object_object_add(object, "estimate", json_object_new_boolean(snapshot->estimate));
    json_object_object_add(object, "static_policy",
                           json_object_new_string(snapshot->static_policy));
    return object;
}

static json *answer(json *request, const struct snapshot *snapshot, const char *mountpoint)
{
    json *command = NULL;

    if (!json_object_is_type(request, json_type_object) ||
        !json_object_object_get_ex(request, "command", &command) ||
        !json_object_is_type(command, json_type_string))
        return json_error("not a request: expected {\"command\":...}");
    if (!snapshot)
        return json_error("no interval has been measured yet");
    if (strcmp(json_object_get_string(command), "list") == 0)
        return answer_list(snapshot, mountpoint);
    if (strcmp(json_object_get_string(command), "show") == 0)
        return answer_show(snapshot, mountpoint, json_object_object_get(request, "vm"));
    return json_error("unknown command");
}

int control_answer(const char *request, size_t length, const struct snapshot *snapshot,
                   const char *mountpoint, char **ret)
{
    _cleanup_(cleanup_json_tokener_free) struct json_tokener *tokener = json_tokener_new_ex(8);
    _cleanup_(cleanup_json_release) json *parsed = NULL;
    _cleanup_(cleanup_json_release) json *reply = NULL;
    char *text;

    if (!tokener)
        return -ENOMEM;
    parsed = json_tokener_parse_ex(tokener, request, (int)length);
    reply = answer(parsed, snapshot, mountpoint);
    if (asprintf(&text, "%s\n",
                 json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN |
                                                           JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
        return -ENOMEM;
    *ret = text;
    return 0;
}

/* The connections. */

struct client {
    struct control *control;
    int fd;
    sd_event_source *io;
    sd_event_source *timeout;
    char request[REQUEST_MAX];
    size_t request_length;
    char *reply; /* NULL while the request is read */
    size_t reply_length;
    size_t sent;
    struct client *next;
};

struct control {
    sd_event *event;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char *mountpoint;
    struct snapshot_board *board;
    gid_t group;
    int fd;
    sd_event_source *io;
    struct client *clients;
    unsigned n_clients;
};

static void client_free(struct client *client)
{
    struct client **link = &client->control->clients;

    while (*link && *link != client)
        link = &(*link)->next;
    if (*link) {
        *link = client->next;
        client->control->n_clients--;
    }
    sd_event_source_disable_unref(client->io);
    sd_event_source_disable_unref(client->timeout);
    if (client->fd >= 0)
        close(client->fd);
    free(client->reply);
    free(client);
}
DEFINE_CLEANUP(struct client *, client_free);

static int on_client_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
    client_free(userdata);
    return 0;
}

static int client_reply(struct client *client)
{
    const struct snapshot *snapshot = snapshot_board_acquire(client->control->board);
    int r = control_answer(client->request, client->request_length, snapshot,
                           client->control->mountpoint, &client->reply);

    snapshot_board_release(client->control->board, snapshot);
    if (r < 0)
        return r;
    client->reply_length = strlen(client->reply);
    return sd_event_source_set_io_events(client->io, EPOLLOUT);
}

/* @return 1 when the request is complete, 0 when more must come, or a negative errno */
static int client_read(struct client *client)
{
    ssize_t n = read(client->fd, client->request + client->request_length,
                     sizeof(client->request) - client->request_length);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    client->request_length += (size_t)n;
    if (memchr(client->request, '\n', client->request_length))
        return 1;
    return client->request_length < sizeof(client->request) ? 0 : -EMSGSIZE;
}

/* @return 1 when all is sent, 0 when more must go, or a negative errno */
static int client_write(struct client *client)
{
    ssize_t n = send(client->fd, client->reply + client->sent, client->reply_length - client->sent,
                     MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    client->sent += (size_t)n;
    return client->sent == client->reply_length;
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct client *client = userdata;
    int r;

    if (!client->reply) {
        r = client_read(client);
        if (r > 0)
            r = client_reply(client);
        if (r < 0)
            client_free(client);
        return 0;
    }
    if (client_write(client) != 0)
        client_free(client);
    return 0;
}

static bool in_group(int fd, gid_t group)
{
    gid_t groups[256];
    socklen_t size = sizeof(groups);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
        return false;
    for (size_t i = 0; i < size / sizeof(groups[0]); i++)
        if (groups[i] == group)
            return true;
    return false;
}

static bool may_ask(const struct control *control, int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid() ||
           (control->group != (gid_t)-1 &&
            (peer.gid == control->group || in_group(fd, control->group)));
}

static int client_new(struct control *control, int fd)
{
    _cleanup_(cleanup_client_free) struct client *client = calloc(1, sizeof(*client));
    int r;

    if (!client) {
        close(fd);
        return -ENOMEM;
    }
    client->control = control;
    client->fd = fd;
    r = sd_event_add_io(control->event, &client->io, fd, EPOLLIN, on_client, client);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(control->event, &client->timeout, CLOCK_MONOTONIC,
                                   CLIENT_TIMEOUT_USEC, 0, on_client_timeout, client);
    if (r < 0)
        return r;
    client->next = control->clients;
    control->clients = TAKE_PTR(client);
    control->n_clients++;
    return 0;
}

static int on_connect(sd_event_source *source, int listen_fd, uint32_t events, void *userdata)
{
    struct control *control = userdata;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return 0;
    if (control->n_clients == CLIENTS_MAX || !may_ask(control, fd)) {
        close(fd);
        return 0;
    }
    client_new(control, fd);
    return 0;
}

struct control *control_free(struct control *control)
{
    if (!control)
        return NULL;
    while (control->clients)
        client_free(control->clients);
    sd_event_source_disable_unref(control->io);
    if (control->fd >= 0) {
        close(control->fd);
        unlink(control->path);
    }
    free(control->mountpoint);
    free(control);
    return NULL;
}
DEFINE_CLEANUP(struct control *, control_free);

static bool is_answered(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
}

static int listen_at(const char *path, gid_t group)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = -1;

    memcpy(address.sun_path, path, strlen(path) + 1);
    if (is_answered(&address))
        return -EADDRINUSE;
    unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Nobody may connect between bind() and chown(). */
    if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    if (group != (gid_t)-1 && (chown(path, (uid_t)-1, group) < 0 || chmod(path, 0660) < 0))
        return -errno;
    if (listen(fd, CLIENTS_MAX) < 0)
        return -errno;
    return TAKE_FD(fd);
}

int control_new(struct control **ret, sd_event *event, const char *path, const char *mountpoint,
                struct snapshot_board *board)
{
    _cleanup_(cleanup_control_free) struct control *control = calloc(1, sizeof(*control));
    const struct group *group = getgrnam(CONTROL_GROUP);
    int r = -ENOMEM;

    if (!control)
        return -ENOMEM;
    control->event = event;
    control->board = board;
    control->group = group ? group->gr_gid : (gid_t)-1;
    control->fd = -1;
    control->mountpoint = strdup(mountpoint);
    if (!control->mountpoint)
        return -ENOMEM;
    if (strlen(path) >= sizeof(control->path)) {
        r = -ENAMETOOLONG;
    } else {
        memcpy(control->path, path, strlen(path) + 1);
        control->fd = listen_at(path, control->group);
        r = control->fd;
    }
    if (r >= 0)
        r = sd_event_add_io(event, &control->io, control->fd, EPOLLIN, on_connect, control);
    if (r < 0) {
        log_error(r == -EADDRINUSE ? "another virtjouled answers on the control socket"
                                   : "no control socket",
                  F_STRING("path", path), F_ERROR(r));
        return r;
    }
    *ret = TAKE_PTR(control);
    return 0;
}
