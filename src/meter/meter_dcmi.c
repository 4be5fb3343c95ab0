/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/meter_dcmi.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ipmi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "util/macros.h"

#define NETFN_GROUP_REQUEST 0x2c
#define NETFN_GROUP_RESPONSE 0x2d
#define GROUP_DCMI 0xdc
#define CMD_GET_POWER_READING 0x02
#define STATE_ACTIVE 0x40

/* The kernel repeats a request to a BMC that does not answer, and gives up within that time. */
#define ANSWER_TIMEOUT_NS UINT64_C(10000000000)

struct meter_dcmi {
    struct meter meter;
    sd_event *event;
    char device[CONFIG_PATH_MAX];
    int fd; /* -1: to be opened by the next question */
    sd_event_source *io;
    long message_id; /* of the last question */
};

/* The response as the BMC sends it, least significant byte first. */
struct response {
    uint8_t completion_code;
    uint8_t group;
    uint16_t current_w, min_w, max_w, average_w;
    uint32_t time_s;
    uint32_t period_ms;
    uint8_t state;
} __attribute__((packed));
_Static_assert(sizeof(struct response) == 19, "as the specification has it");

static const struct meter_code completion_codes[] = {
    {0xc0, METER_BUSY, "BMC busy"},
    {0xcf, METER_BUSY, "BMC busy"}, /* cannot answer a duplicate */
    {0xd1, METER_BUSY, "BMC busy"},
    {0xd2, METER_BUSY, "BMC busy"},
    {0xc3, METER_SILENT, "BMC timed out"},
    {0xc1, METER_ABSENT, "BMC has no DCMI power reading"},
    {0xc2, METER_ABSENT, "BMC has no DCMI power reading"},
    {0xcb, METER_ABSENT, "BMC has no DCMI power reading"},
    {0xd4, METER_UNAUTHORISED, "BMC refuses the command"},
    {0xd5, METER_INACTIVE, "DCMI power reading is switched off"},
    {0xd6, METER_INACTIVE, "DCMI power reading is switched off"},
    {METER_CODE_OTHER, METER_BUSY, "BMC answers with an error"},
};

enum meter_state dcmi_parse_power(const unsigned char *data, size_t length, struct dcmi_power *ret,
                                  const char **ret_detail)
{
    struct response response;

    if (length > 0 && data[0] != 0) {
        const struct meter_code *row = meter_find_code(completion_codes, data[0]);

        *ret_detail = row->detail;
        return row->state;
    }
    if (length < sizeof(response) || data[1] != GROUP_DCMI) {
        *ret_detail = "not a DCMI power reading";
        return METER_MALFORMED;
    }
    memcpy(&response, data, sizeof(response));
    *ret = (struct dcmi_power){
        .current_w = le16toh(response.current_w),
        .min_w = le16toh(response.min_w),
        .max_w = le16toh(response.max_w),
        .average_w = le16toh(response.average_w),
        .time_s = le32toh(response.time_s),
        .period_ms = le32toh(response.period_ms),
        .active = response.state & STATE_ACTIVE,
    };
    if (ret->active)
        return METER_OK;
    *ret_detail = "power measurement is not active";
    return METER_INACTIVE;
}

static struct meter_dcmi *from_meter(struct meter *meter)
{
    return (struct meter_dcmi *)meter;
}

static void close_device(struct meter_dcmi *dcmi)
{
    dcmi->io = sd_event_source_disable_unref(dcmi->io);
    if (dcmi->fd >= 0)
        close(TAKE_FD(dcmi->fd));
}

static void fail_device(struct meter_dcmi *dcmi, int r)
{
    close_device(dcmi);
    /* Any other kind of file takes none of the device's ioctls. */
    if (r == -ENOTTY || r == -EINVAL)
        meter_fail(&dcmi->meter, METER_ABSENT, "not an IPMI device");
    else
        meter_fail(&dcmi->meter, meter_state_of_errno(r), log_errno_text(r));
}

static void take_response(struct meter_dcmi *dcmi, const unsigned char *data, size_t length)
{
    struct dcmi_power power = {0};
    const char *detail;
    enum meter_state state = dcmi_parse_power(data, length, &power, &detail);

    if (state == METER_OK)
        meter_answer(&dcmi->meter, &(struct meter_reading){
                                       .power_uw = power.current_w * UINT64_C(1000000),
                                       .resolution_uw = 1000000,
                                   });
    else
        meter_fail(&dcmi->meter, state, detail);
}

/* Takes one message. An answer to a question that was given up is dropped. */
static int receive(struct meter_dcmi *dcmi)
{
    unsigned char data[IPMI_MAX_MSG_LENGTH];
    struct ipmi_addr address;
    struct ipmi_recv message = {
        .addr = (unsigned char *)&address,
        .addr_len = sizeof(address),
        .msg = {.data = data, .data_len = sizeof(data)},
    };

    /* EMSGSIZE: the message is longer than any should be; the kernel has cut it and handed it over.
     */
    if (ioctl(dcmi->fd, IPMICTL_RECEIVE_MSG_TRUNC, &message) < 0 && errno != EMSGSIZE)
        return -errno;
    if (dcmi->meter.asked_ns && message.recv_type == IPMI_RESPONSE_RECV_TYPE &&
        message.msgid == dcmi->message_id && message.msg.netfn == NETFN_GROUP_RESPONSE &&
        message.msg.cmd == CMD_GET_POWER_READING)
        take_response(dcmi, data, message.msg.data_len);
    return 0;
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct meter_dcmi *dcmi = userdata;
    int r;

    do
        r = receive(dcmi);
    while (r == 0 || r == -EINTR);
    if (r == -EAGAIN)
        return 0;
    if (dcmi->meter.asked_ns)
        fail_device(dcmi, r);
    else
        close_device(dcmi);
    return 0;
}

static int open_device(struct meter_dcmi *dcmi)
{
    int r;

    /* Commands are sent by ioctl, for which read access is enough: the service has it by its
     * group. */
    dcmi->fd = open(dcmi->device, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (dcmi->fd < 0)
        return -errno;
    r = sd_event_add_io(dcmi->event, &dcmi->io, dcmi->fd, EPOLLIN, on_readable, dcmi);
    /* EPERM: epoll waits for devices only, and this is another file. */
    return r == -EPERM ? -ENOTTY : r;
}

static int send_request(struct meter_dcmi *dcmi)
{
    struct ipmi_system_interface_addr address = {
        .addr_type = IPMI_SYSTEM_INTERFACE_ADDR_TYPE,
        .channel = IPMI_BMC_CHANNEL,
    };
    unsigned char data[] = {GROUP_DCMI, 0x01 /* system power statistics */, 0, 0};
    struct ipmi_req request = {
        .addr = (unsigned char *)&address,
        .addr_len = sizeof(address),
        .msgid = ++dcmi->message_id,
        .msg =
            {
                .netfn = NETFN_GROUP_REQUEST,
                .cmd = CMD_GET_POWER_READING,
                .data = data,
                .data_len = sizeof(data),
            },
    };

    return ioctl(dcmi->fd, IPMICTL_SEND_COMMAND, &request) < 0 ? -errno : 0;
}

static void dcmi_ask(struct meter *meter)
{
    struct meter_dcmi *dcmi = from_meter(meter);
    int r = dcmi->fd < 0 ? open_device(dcmi) : 0;

    if (r >= 0)
        r = send_request(dcmi);
    if (r < 0)
        fail_device(dcmi, r);
}

/* The answer may still come: it carries another id than the next question. */
static void dcmi_cancel(struct meter *meter)
{
}

static void dcmi_free(struct meter *meter)
{
    struct meter_dcmi *dcmi = from_meter(meter);

    close_device(dcmi);
    sd_event_unref(dcmi->event);
    free(dcmi);
}

static const struct meter_ops dcmi_ops = {
    .name = "dcmi",
    .ask = dcmi_ask,
    .cancel = dcmi_cancel,
    .free = dcmi_free,
};

static int value_device(const char *value, void *target)
{
    bool word = strcmp(value, "auto") == 0 || strcmp(value, "none") == 0;

    return word ? value_text(value, target) : value_path(value, target);
}

static const struct config_key keys[] = {
    {"dcmi", "device", value_device, offsetof(struct dcmi_options, device), "auto",
     "auto, none or an absolute path"},
    {"dcmi", "interval", value_duration, offsetof(struct dcmi_options, interval_ns), "5s",
     "a duration with its unit, such as 5s"},
};

const struct config_keys dcmi_keys = {CONFIG_KEYS(keys)};

/* The kernel has three names for the first IPMI device; NULL: there is none. */
static const char *find_device(void)
{
    static const char *const usual[] = {"/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"};

    for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
        if (access(usual[i], F_OK) == 0)
            return usual[i];
    return NULL;
}

int meter_dcmi_new(struct meter **ret, const struct meter_host *host,
                   const struct dcmi_options *options)
{
    const char *device = strcmp(options->device, "auto") == 0 ? find_device() : options->device;
    struct meter_dcmi *dcmi;

    if (!device || strcmp(device, "none") == 0)
        return 0;
    dcmi = malloc(sizeof(*dcmi));
    if (!dcmi)
        return -ENOMEM;
    *dcmi = (struct meter_dcmi){
        .meter = {.ops = &dcmi_ops,
                  .interval_ns = options->interval_ns,
                  .timeout_ns = ANSWER_TIMEOUT_NS},
        .event = sd_event_ref(host->event),
        .fd = -1,
    };
    snprintf(dcmi->device, sizeof(dcmi->device), "%s", device);
    *ret = &dcmi->meter;
    return 0;
}
