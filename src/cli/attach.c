/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * `virtjoule attach` and `virtjoule detach`: give a libvirt domain its energy share, and take it
 * away again: in the domain's definition, and in the running VM where that is possible.
 *
 *     definition --domain_xml_attach()--> difference shown --> libvirt
 */

#include <errno.h>
#include <json-c/json.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/diff.h"
#include "cli/print.h"
#include "cli/subcommand.h"
#include "libvirt/domain_xml.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/macros.h"

/* Where libvirt finds virtiofsd by itself. Only Debian 12 has another one, Debian 13 a link to
 * this. */
#define VIRTIOFSD "/usr/libexec/virtiofsd"
#define VIRTIOFSD_OF_DEBIAN_12 "/usr/lib/qemu/virtiofsd"

/* Another program may change the definition meanwhile; after so many times this is given up. */
#define TRIES 5

struct task {
    bool attach; /* or detach */
    bool dry_run;
    const struct common_options *common;
    const char *uri;
    const char *name;

    virConnectPtr connection;
    virDomainPtr domain;
    char uuid[VIR_UUID_STRING_BUFLEN];
    char *directory;

    /* The result. */
    char *diff; /* of the definition; NULL: nothing to do */
    bool running;
    bool plugged; /* the device, into or out of the running VM */
    bool restart_needed;
};

/* Refusing. */

static int refuse(const struct task *task, const char *reason)
{
    fprintf(stderr, "virtjoule: %s: %s\n", task->name, reason);
    return STATUS_NO;
}

static int refuse_by_libvirt(const struct task *task, const char *what)
{
    virErrorPtr error = virGetLastError();
    bool denied =
        error && (error->code == VIR_ERR_OPERATION_DENIED || error->code == VIR_ERR_ACCESS_DENIED ||
                  error->code == VIR_ERR_AUTH_UNAVAILABLE);

    fprintf(stderr, "virtjoule: %s: %s: %s%s\n", task->name, what, virGetLastErrorMessage(),
            denied ? ": run virtjoule as root or in the group libvirt" : "");
    return STATUS_NO;
}

static void ignore_error(void *userdata, virErrorPtr error)
{
}

/* The daemon makes the tree and answers where it is. @return 0 or the exit status */
static int ask_directory(struct task *task)
{
    _cleanup_json_ struct json_object *answer = NULL;
    int r = client_prepare(task->common->socket_path, task->uuid, &answer);

    if (r < 0) {
        fprintf(stderr, "virtjoule: no answer from virtjouled at %s: %s: is it running?\n",
                client_socket(task->common->socket_path), log_errno_text(r));
        return STATUS_UNAVAILABLE;
    }
    if (json_object_object_get_ex(answer, "error", NULL))
        return refuse(task, json_object_get_string(json_object_object_get(answer, "error")));
    task->directory = strdup(json_object_get_string(json_object_object_get(answer, "tree")));
    return task->directory ? 0 : refuse(task, log_errno_text(-ENOMEM));
}

/* @return 0 or the exit status */
static int find_domain(struct task *task)
{
    task->connection = virConnectOpen(task->uri);
    if (!task->connection) {
        fprintf(stderr, "virtjoule: no libvirt at %s: %s\n", task->uri, virGetLastErrorMessage());
        return STATUS_UNAVAILABLE;
    }
    task->domain = virDomainLookupByName(task->connection, task->name);
    if (!task->domain)
        task->domain = virDomainLookupByUUIDString(task->connection, task->name);
    if (!task->domain)
        return refuse(task, "libvirt has no domain of that name or UUID");
    if (virDomainGetUUIDString(task->domain, task->uuid) < 0)
        return refuse_by_libvirt(task, "it has no UUID");
    task->running = virDomainIsActive(task->domain) == 1;
    return task->attach ? ask_directory(task) : 0;
}

/* The definition. */

static struct domain_share share_of(const struct task *task)
{
    bool named = access(VIRTIOFSD, X_OK) < 0 && access(VIRTIOFSD_OF_DEBIAN_12, X_OK) == 0;

    return (struct domain_share){
        .directory = task->directory,
        .virtiofsd = named ? VIRTIOFSD_OF_DEBIAN_12 : NULL,
    };
}

static int edit(const struct task *task, const char *xml, char **ret, const char **ret_problem)
{
    const struct domain_share share = share_of(task);

    return task->attach ? domain_xml_attach(xml, strlen(xml), &share, ret, ret_problem)
                        : domain_xml_detach(xml, strlen(xml), ret, ret_problem);
}

/* Of definitions without passwords: the new one must have them, but they must not be shown. */
static int make_diff(struct task *task)
{
    _cleanup_free_ char *xml = virDomainGetXMLDesc(task->domain, VIR_DOMAIN_XML_INACTIVE);
    _cleanup_free_ char *before = xml ? domain_xml_canonical(xml, strlen(xml)) : NULL;
    _cleanup_free_ char *after = NULL;
    const char *problem;
    int r;

    free(task->diff);
    task->diff = NULL;
    if (!before)
        return -EIO;
    r = edit(task, xml, &after, &problem);
    return r == DOMAIN_XML_CHANGED ? unified_diff(task->name, before, after, &task->diff) : r;
}

static void print_diff(const struct task *task)
{
    if (!task->diff || task->common->json)
        return;
    fputs(task->diff, stdout);
    fflush(stdout);
}

static bool is_defined_as(const struct task *task, const char *xml, unsigned flags)
{
    _cleanup_free_ char *now = virDomainGetXMLDesc(task->domain, flags);

    return now && strcmp(now, xml) == 0;
}

/* @return 0 or the exit status; -EAGAIN when another program has changed the definition meanwhile
 */
static int change_definition(struct task *task)
{
    /* A read-only connection may read a definition without its passwords only. */
    unsigned flags = VIR_DOMAIN_XML_INACTIVE | (task->dry_run ? 0 : VIR_DOMAIN_XML_SECURE);
    _cleanup_free_ char *xml = virDomainGetXMLDesc(task->domain, flags);
    _cleanup_free_ char *edited = NULL;
    const char *problem;
    virDomainPtr defined;
    int r;

    if (!xml)
        return refuse_by_libvirt(task, "its definition cannot be read");
    r = edit(task, xml, &edited, &problem);
    if (r < 0)
        return refuse(task, problem);
    if (r == DOMAIN_XML_UNCHANGED)
        return 0;
    if (virDomainHasManagedSaveImage(task->domain, 0) == 1)
        return refuse(task, "it has a saved image, which would not fit the changed definition: "
                            "start it and shut it down, or drop the image (virsh "
                            "managedsave-remove), then try again");
    r = make_diff(task);
    if (r < 0)
        return refuse(task, log_errno_text(r));
    /* The change is shown before it is made. */
    print_diff(task);
    if (task->dry_run)
        return 0;
    if (!is_defined_as(task, xml, flags))
        return -EAGAIN;
    defined = virDomainDefineXML(task->connection, edited);
    if (!defined)
        return refuse_by_libvirt(task, "libvirt does not take the changed definition");
    virDomainFree(defined);
    return 0;
}

/* The running VM. */

static int live_state(const struct task *task, struct domain_virtiofs *ret, char **ret_device)
{
    _cleanup_free_ char *xml = virDomainGetXMLDesc(task->domain, 0);

    if (!xml)
        return -EIO;
    if (ret_device)
        *ret_device = domain_xml_share_device(xml, strlen(xml));
    return domain_xml_read(xml, strlen(xml), ret);
}

static void plug(struct task *task, const char *device)
{
    struct domain_virtiofs state = {0};
    int r = task->attach ? virDomainAttachDeviceFlags(task->domain, device, VIR_DOMAIN_AFFECT_LIVE)
                         : virDomainDetachDeviceFlags(task->domain, device, VIR_DOMAIN_AFFECT_LIVE);

    if (r < 0)
        fprintf(stderr, "virtjoule: %s: the device cannot be %s the running VM: %s\n", task->name,
                task->attach ? "plugged into" : "taken out of", virGetLastErrorMessage());
    /* libvirt removes an unplugged device when the guest has released it. */
    task->plugged = live_state(task, &state, NULL) == 0 && state.has_share == task->attach;
    task->restart_needed = !task->plugged;
}

/* @return 0 or the exit status */
static int change_running(struct task *task)
{
    const struct domain_share share = share_of(task);
    _cleanup_free_ char *device = NULL;
    struct domain_virtiofs state;

    if (live_state(task, &state, task->attach ? NULL : &device) < 0)
        return refuse_by_libvirt(task, "the running VM cannot be looked at");
    if (state.has_share == task->attach)
        return 0;
    if (task->attach && !state.shared_memory) {
        task->restart_needed = true;
        return 0;
    }
    if (task->dry_run) {
        task->plugged = true;
        return 0;
    }
    if (task->attach)
        device = domain_xml_device(&share);
    if (!device)
        return refuse(task, log_errno_text(-ENOMEM));
    plug(task, device);
    return 0;
}

/* @return 0 or the exit status */
static int change(struct task *task)
{
    bool persistent = virDomainIsPersistent(task->domain) == 1;
    int status = persistent ? -EAGAIN : 0;

    for (int i = 0; i < TRIES && status == -EAGAIN; i++)
        status = change_definition(task);
    if (status == -EAGAIN)
        return refuse(task, "another program keeps changing its definition: try again");
    if (status == 0 && task->running)
        status = change_running(task);
    if (status == 0 && !persistent && task->attach && task->restart_needed)
        return refuse(task, "it is transient and its memory is not shared: it has no definition "
                            "to change, put the share into the XML that it is created from");
    return status;
}

/* The result. */

static void print_text(const struct task *task)
{
    const char *would = task->dry_run ? "would be " : "";
    const char *to = task->attach ? "plugged into" : "taken out of";

    if (!task->diff && !task->plugged && !task->restart_needed)
        printf("%s: nothing to do, %s\n", task->name,
               task->attach ? "it has its share" : "it has no share");
    if (task->diff)
        printf("%s: %s%s\n", task->name, would,
               task->attach ? "attached, in its definition" : "detached, in its definition");
    if (task->plugged)
        printf("%s: %s%s the running VM\n", task->name, would, to);
    if (task->restart_needed)
        printf("%s: shut it down and start it again: the running VM is as it was\n", task->name);
}

static void print_result(const struct task *task)
{
    _cleanup_json_ struct json_object *object = json_object_new_object();

    json_object_object_add(object, "domain",
                           json_object_new_string(virDomainGetName(task->domain)));
    json_object_object_add(object, "uuid", json_object_new_string(task->uuid));
    json_object_object_add(object, "dry_run", json_object_new_boolean(task->dry_run));
    json_object_object_add(object, "changed", json_object_new_boolean(task->diff != NULL));
    json_object_object_add(object, "diff", task->diff ? json_object_new_string(task->diff) : NULL);
    json_object_object_add(object, "running", json_object_new_boolean(task->running));
    json_object_object_add(object, "plugged", json_object_new_boolean(task->plugged));
    json_object_object_add(object, "restart_needed", json_object_new_boolean(task->restart_needed));
    print_json(object);
}

static void task_deinit(struct task *task)
{
    if (task->domain)
        virDomainFree(task->domain);
    if (task->connection)
        virConnectClose(task->connection);
    free(task->directory);
    free(task->diff);
}

static int run(struct task *task)
{
    int status;

    virSetErrorFunc(NULL, ignore_error);
    status = find_domain(task);
    if (status == 0)
        status = change(task);
    if (status != 0)
        return status;
    if (task->common->json)
        print_result(task);
    else
        print_text(task);
    return EXIT_SUCCESS;
}

static int command(const char *name, bool attach, struct common_options *common, int argc,
                   char **argv)
{
    _cleanup_(task_deinit) struct task task = {
        .attach = attach,
        .uri = "qemu:///system",
        .common = common,
    };
    const struct program_option options[] = {
        {"dry-run", NULL, "only show what would be changed", .flag = &task.dry_run},
        {"connect", "URI", "of libvirt (default qemu:///system)", .text = &task.uri},
        COMMON_OPTIONS(common),
    };
    const struct program_usage usage = {
        .name = name,
        .arguments = "DOMAIN [OPTION]...",
        .purpose =
            "attach gives a libvirt domain its energy share: shared memory and the virtiofs\n"
            "device, in its definition and, where its memory is shared already, in the\n"
            "running VM. detach takes out again what attach put in. Both show what they\n"
            "change.",
        .statuses = "0 success or nothing to do, 1 refused, 2 wrong usage, 69 no daemon\n"
                    "or no libvirt",
        .wrong_usage = STATUS_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
        .operand = &task.name,
    };
    int status = program_parse(&usage, argc, argv);

    if (status >= 0)
        return status;
    return task.name ? run(&task)
                     : program_usage_error(&usage, "takes the name or UUID of a domain");
}

int attach_command(struct common_options *common, int argc, char **argv)
{
    return command("virtjoule attach", true, common, argc, argv);
}

int detach_command(struct common_options *common, int argc, char **argv)
{
    return command("virtjoule detach", false, common, argc, argv);
}
