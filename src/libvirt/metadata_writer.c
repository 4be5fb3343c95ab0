/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/metadata_writer.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "libvirt/energy_metadata.h"
#include "util/cleanup.h"
#include "util/log.h"

/* As long as libvirt itself waits for a domain that is busy. */
#define ANSWER_TIMEOUT_S 30

void metadata_machine(uint8_t ret[static 16])
{
    /* Derived for this use: machine-id(5) asks applications not to pass on the id itself. */
    static const sd_id128_t use =
        SD_ID128_MAKE(5d, 3c, 1e, 8a, 42, 90, 4f, 6b, a7, 05, c9, 6e, 13, f8, 2d, 74);
    sd_id128_t id = SD_ID128_NULL;

    /* Without a machine-id the boot id identifies this host until it boots again. */
    if (sd_id128_get_machine_app_specific(use, &id) < 0 &&
        sd_id128_get_boot_app_specific(use, &id) < 0)
        id = SD_ID128_NULL;
    memcpy(ret, id.bytes, sizeof(id.bytes));
}

static struct metadata_answer failed(const char *problem)
{
    struct metadata_answer answer = {.result = METADATA_FAILED};

    snprintf(answer.problem, sizeof(answer.problem), "%s", problem);
    return answer;
}

/* Why libvirt's last call has failed. */
static struct metadata_answer failed_by_libvirt(void)
{
    switch (virGetLastErrorCode()) {
    case VIR_ERR_OPERATION_TIMEOUT:
        return (struct metadata_answer){.result = METADATA_BUSY};
    case VIR_ERR_NO_DOMAIN:
        return (struct metadata_answer){.result = METADATA_GONE};
    default:
        return failed(virGetLastErrorMessage());
    }
}

/* libvirt does not change a domain that is being saved or migrated: the call would block for 30 s.
 */
static bool is_job_running(virDomainPtr domain)
{
    virDomainJobInfo job;

    return virDomainGetJobInfo(domain, &job) == 0 && job.type != VIR_DOMAIN_JOB_NONE;
}

static struct metadata_answer write_domain(virDomainPtr domain,
                                           const struct metadata_record *record)
{
    struct energy_metadata metadata = {.energy = record->energy};
    char text[ENERGY_METADATA_SIZE];

    /* The VM was restarted meanwhile: read the new start's metadata before overwriting it. */
    if (virDomainGetID(domain) != record->start_number || is_job_running(domain))
        return (struct metadata_answer){.result = METADATA_BUSY};
    uuid_copy(metadata.uuid, record->uuid);
    metadata_machine(metadata.machine);
    energy_metadata_format(&metadata, text);
    if (virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, text, ENERGY_METADATA_PREFIX,
                             ENERGY_METADATA_URI, VIR_DOMAIN_AFFECT_LIVE) < 0)
        return failed_by_libvirt();
    return (struct metadata_answer){.result = METADATA_WRITTEN};
}

static struct metadata_answer write_record(virConnectPtr connection,
                                           const struct metadata_record *record)
{
    virDomainPtr domain = virDomainLookupByUUID(connection, record->uuid);
    struct metadata_answer answer;

    if (!domain)
        return failed_by_libvirt();
    answer = write_domain(domain, record);
    virDomainFree(domain);
    return answer;
}

/* The side that asks. */

static int connect_to(const char *path)
{
    const struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static int ask(int fd, const struct metadata_record *record, struct metadata_answer *ret)
{
    ssize_t n = send(fd, record, sizeof(*record), MSG_NOSIGNAL);

    if (n >= 0)
        n = recv(fd, ret, sizeof(*ret), 0);
    if (n < 0)
        return -errno;
    if (n == 0)
        return -ECONNRESET;
    return n == sizeof(*ret) && ret->result <= METADATA_FAILED &&
                   memchr(ret->problem, '\0', sizeof(ret->problem))
               ? 0
               : -EPROTO;
}

struct metadata_answer metadata_writer_write(struct metadata_writer *writer,
                                             const struct metadata_record *record)
{
    struct metadata_answer answer;
    int r;

    if (writer->connection)
        return write_record(writer->connection, record);
    if (writer->fd < 0)
        writer->fd = connect_to(writer->socket_path);
    r = writer->fd < 0 ? writer->fd : ask(writer->fd, record, &answer);
    if (r == 0)
        return answer;
    metadata_writer_disconnect(writer);
    return failed(log_errno_text(r));
}

void metadata_writer_disconnect(struct metadata_writer *writer)
{
    if (writer->fd >= 0)
        close(writer->fd);
    writer->fd = -1;
}

/* The side that answers. */

static void serve_client(int fd, virConnectPtr connection)
{
    struct metadata_record record;
    struct metadata_answer answer;

    while (recv(fd, &record, sizeof(record), MSG_TRUNC) == sizeof(record)) {
        answer = connection ? write_record(connection, &record) : failed_by_libvirt();
        if (send(fd, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
            return;
    }
}

static void ignore_error(void *userdata, virErrorPtr error)
{
}

int metadata_writer_serve(int listen_fd, const char *uri)
{
    virSetErrorFunc(NULL, ignore_error);
    for (;;) {
        _cleanup_close_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        virConnectPtr connection;

        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return -errno;
        if (fd < 0)
            continue;
        connection = virConnectOpen(uri);
        serve_client(fd, connection);
        if (connection)
            virConnectClose(connection);
    }
}
