/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/attach.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/diff.h"
#include "cli/domain_xml.h"
#include "util/cleanup.h"
#include "util/log.h"

/* Where libvirt finds virtiofsd by itself. Only Debian 12 has another one, Debian 13 a link to this. */
#define VIRTIOFSD "/usr/libexec/virtiofsd"
#define VIRTIOFSD_OF_DEBIAN_12 "/usr/lib/qemu/virtiofsd"

/* Somebody else may change the definition meanwhile, but not for ever. */
#define TRIES 5

struct task {
    bool attach; /* or detach */
    bool dry_run;
    bool json;
    const char *uri;
    const char *socket_path;
    const char *name;

    virConnectPtr connection;
    virDomainPtr domain;
    char uuid[VIR_UUID_STRING_BUFLEN];
    char *directory;

    /* What came of it. */
    char *diff; /* of the definition; NULL: nothing to do */
    bool running;
    bool plugged; /* the device, into or out of the running VM */
    bool restart_needed;
};

static const char usage_text[] =
    "Usage: virtjoule attach DOMAIN [OPTION]...\n"
    "       virtjoule detach DOMAIN [OPTION]...\n"
    "\n"
    "Gives a libvirt domain its energy share: shared memory and the virtiofs device,\n"
    "in its definition and, where its memory is shared already, in the running VM.\n"
    "detach takes out again what attach put in. Both show what they change.\n"
    "\n"
    "  --dry-run       only show what would be changed\n"
    "  --json          print the result as JSON\n"
    "  --connect URI   of libvirt (default qemu:///system)\n"
    "  --socket PATH   where virtjouled listens (default /run/virtjoule/control.sock)\n"
    "\n"
    "Exit status: 0 success or nothing to do, 1 refused, 2 wrong usage, 69 no daemon\n"
    "or no libvirt.\n";

static const char *command_name(const struct task *task)
{
    return task->attach ? "attach" : "detach";
}

/* @return -1 to go on, else the exit status */
static int parse_arguments(int argc, char **argv, struct task *ret)
{
    static const struct option options[] = {
        {"dry-run", no_argument, NULL, 'n'},       {"json", no_argument, NULL, 'j'},
        {"connect", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},          {0},
    };

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'n':
            ret->dry_run = true;
            break;
        case 'j':
            ret->json = true;
            break;
        case 'c':
            ret->uri = optarg;
            break;
        case 's':
            ret->socket_path = optarg;
            break;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        default:
            return 2;
        }
    }
    if (argc - optind != 1) {
        fprintf(stderr,
                "virtjoule: %s takes the name or UUID of a domain; see virtjoule %s --help\n",
                command_name(ret), command_name(ret));
        return 2;
    }
    ret->name = argv[optind];
    return -1;
}

/* Refusing. */

static int refuse(const struct task *task, const char *reason)
{
    fprintf(stderr, "virtjoule: %s: %s\n", task->name, reason);
    return EXIT_FAILURE;
}

static int refuse_by_libvirt(const struct task *task, const char *what)
{
    virErrorPtr error = virGetLastError();
    bool denied =
        error && (error->code == VIR_ERR_OPERATION_DENIED || error->code == VIR_ERR_ACCESS_DENIED ||
                  error->code == VIR_ERR_AUTH_UNAVAILABLE);

    fprintf(stderr, "virtjoule: %s: %s: %s%s\n", task->name, what, virGetLastErrorMessage(),
            denied ? ": run virtjoule as root or in the group libvirt" : "");
    return EXIT_FAILURE;
}

static void ignore_error(void *userdata, virErrorPtr error)
{
}

/* The daemon makes the tree and tells where it is. @return 0 or the exit status */
static int ask_directory(struct task *task)
{
    struct json_object *request = json_object_new_object(), *answer = NULL, *tree = NULL;
    int r;

    json_object_object_add(request, "command", json_object_new_string("prepare"));
    json_object_object_add(request, "vm", json_object_new_string(task->uuid));
    r = client_ask(task->socket_path, request, &answer);
    json_object_put(request);
    if (r == 0 && json_object_object_get_ex(answer, "tree", &tree) && tree)
        task->directory = strdup(json_object_get_string(tree));
    json_object_put(answer);
    if (task->directory)
        return 0;
    fprintf(stderr, "virtjoule: no answer from virtjouled at %s: %s: is it running?\n",
            task->socket_path, log_errno_text(r < 0 ? r : -EPROTO));
    return EX_UNAVAILABLE;
}

/* @return 0 or the exit status */
static int find_domain(struct task *task)
{
    task->connection = virConnectOpen(task->uri);
    if (!task->connection) {
        fprintf(stderr, "virtjoule: no libvirt at %s: %s\n", task->uri, virGetLastErrorMessage());
        return EX_UNAVAILABLE;
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

/* Without the passwords, which the new definition must have and nobody must see. */
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
    if (!task->diff || task->json)
        return;
    fputs(task->diff, stdout);
    fflush(stdout);
}

static bool is_defined_as(const struct task *task, const char *xml, unsigned flags)
{
    _cleanup_free_ char *now = virDomainGetXMLDesc(task->domain, flags);

    return now && strcmp(now, xml) == 0;
}

/* @return 0 or the exit status; -EAGAIN when somebody else has changed the definition meanwhile */
static int change_definition(struct task *task)
{
    /* A read-only connection may look, but not at passwords. */
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
    /* First shown, then done. */
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
    /* An unplugged device is gone once the guest has let go of it. */
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
        return refuse(task, "somebody else keeps changing its definition: try again");
    if (status == 0 && task->running)
        status = change_running(task);
    if (status == 0 && !persistent && task->attach && task->restart_needed)
        return refuse(task, "it is transient and its memory is not shared: it has no definition "
                            "to change, put the share into what it is created from");
    return status;
}

/* Telling. */

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

static void print_json(const struct task *task)
{
    struct json_object *object = json_object_new_object();

    json_object_object_add(object, "domain",
                           json_object_new_string(virDomainGetName(task->domain)));
    json_object_object_add(object, "uuid", json_object_new_string(task->uuid));
    json_object_object_add(object, "dry_run", json_object_new_boolean(task->dry_run));
    json_object_object_add(object, "changed", json_object_new_boolean(task->diff != NULL));
    json_object_object_add(object, "diff", task->diff ? json_object_new_string(task->diff) : NULL);
    json_object_object_add(object, "running", json_object_new_boolean(task->running));
    json_object_object_add(object, "plugged", json_object_new_boolean(task->plugged));
    json_object_object_add(object, "restart_needed", json_object_new_boolean(task->restart_needed));
    puts(json_object_to_json_string_ext(object,
                                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
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

static int run(int argc, char **argv, bool attach)
{
    _cleanup_(task_deinit) struct task task = {
        .attach = attach,
        .uri = "qemu:///system",
        .socket_path = "/run/virtjoule/control.sock",
    };
    int status = parse_arguments(argc, argv, &task);

    if (status >= 0)
        return status;
    virSetErrorFunc(NULL, ignore_error);
    status = find_domain(&task);
    if (status == 0)
        status = change(&task);
    if (status != 0)
        return status;
    if (task.json)
        print_json(&task);
    else
        print_text(&task);
    return EXIT_SUCCESS;
}

int attach_command(int argc, char **argv)
{
    return run(argc, argv, true);
}

int detach_command(int argc, char **argv)
{
    return run(argc, argv, false);
}
