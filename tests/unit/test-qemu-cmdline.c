/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "discovery/helper_cmdline.h"
#include "discovery/qemu_cmdline.h"
#include "host/machine_cgroup.h"

/* A copy of exactly its length, so that the sanitizer sees a read past the end. */
static char *exact_copy(const char *text, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);

    assert_non_null(copy);
    memcpy(copy, text, length);
    return copy;
}

static int parse_bytes(const char *text, size_t length, struct qemu_cmdline *ret)
{
    char *copy = exact_copy(text, length);
    int r = parse_qemu_cmdline(copy, length, ret);

    free(copy);
    return r;
}

/* The arguments are written with '|' between them; a leading one stands for none. */
static int parse(const char *arguments, struct qemu_cmdline *ret)
{
    size_t length = strlen(arguments) + 1;
    char *text = exact_copy(arguments, length);
    int r;

    for (char *p = text; (p = strchr(p, '|')); p++)
        *p = '\0';
    r = parse_bytes(text, length, ret);
    free(text);
    return r;
}

static void assert_uuid(const uuid_t uuid, const char *expected)
{
    char text[UUID_TEXT_SIZE];

    uuid_unparse_lower(uuid, text);
    assert_string_equal(text, expected);
}

#define NO_UUID "00000000-0000-0000-0000-000000000000"
#define UUID_A "8b2e8f2e-7a0b-4bd8-9a54-0b1a2c3d4e5f"
#define UUID_B "11111111-2222-4333-8444-555555555555"

/* Command lines as the managers write them; devices that say nothing here are left out. */
#define LIBVIRT                                                                                    \
    "/usr/bin/qemu-system-x86_64|-name|guest=web,,1=a,debug-threads=on|-S|-object|"                \
    "{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\"file\":"                  \
    "\"/var/lib/libvirt/qemu/domain-3-web/master-key.aes\"}|-machine|"                             \
    "pc-q35-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram|-accel|tcg|-cpu|qemu64|-m|256|"  \
    "-object|{\"qom-type\":\"memory-backend-memfd\",\"id\":\"pc.ram\",\"share\":true}|"            \
    "-overcommit|mem-lock=off|-smp|2,maxcpus=4,sockets=4,cores=1,threads=1|-uuid|" UUID_A          \
    "|-no-user-config|-nodefaults|-chardev|socket,id=charmonitor,fd=22,server=on,wait=off|-mon|"   \
    "chardev=charmonitor,id=monitor,mode=control|-rtc|base=utc|-no-shutdown|-chardev|"             \
    "socket,id=chr-vu-fs0,path=/var/lib/libvirt/qemu/domain-3-web/fs0-fs.sock|-device|"            \
    "{\"driver\":\"vhost-user-fs-pci\",\"id\":\"fs0\",\"chardev\":\"chr-vu-fs0\"}|-msg|"           \
    "timestamp=on"
#define PROXMOX                                                                                    \
    "/usr/bin/kvm|-id|100|-name|web01,debug-threads=on|-no-shutdown|-chardev|"                     \
    "socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off|-mon|"                     \
    "chardev=qmp,mode=control|-pidfile|/var/run/qemu-server/100.pid|-daemonize|-smbios|"           \
    "type=1,uuid=" UUID_A "|-smp|4,sockets=1,cores=4,maxcpus=4|-nodefaults|-cpu|host|-m|8192|"     \
    "-machine|type=pc+pve0"
#define NOVA                                                                                       \
    "/usr/bin/qemu-system-x86_64|-name|guest=instance-0000002a,debug-threads=on|-S|-machine|"      \
    "pc-i440fx-6.2,accel=kvm,usb=off|-m|2048|-smp|2,sockets=2,dies=1,cores=1,threads=1|-"          \
    "uuid|" UUID_A "|-smbios|type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,"     \
    "version=25.2.1,serial=" UUID_A ",uuid=" UUID_A ",family=Virtual Machine|-no-user-config"
#define KUBEVIRT                                                                                   \
    "/usr/libexec/qemu-kvm|-name|guest=default_testvm,debug-threads=on|-S|-machine|"               \
    "pc-q35-rhel8.6.0,usb=off|-smp|1,maxcpus=4,sockets=4,dies=1,cores=1,threads=1|-uuid|" UUID_A   \
    "|-smbios|type=1,manufacturer=KubeVirt,product=None,uuid=" UUID_A
#define BY_HAND                                                                                    \
    "qemu-system-x86_64|-enable-kvm|-m|1G|-hda|disk.img|-smp|cores=2,threads=2,sockets=1"

static void test_recorded(void **state)
{
    static const struct {
        const char *arguments;
        const char *name;
        const char *id;
        const char *uuid;
        unsigned vcpus;
        enum vm_manager manager;
        size_t n_sockets;
    } cases[] = {
        {LIBVIRT, "web,1=a", "", UUID_A, 2, VM_MANAGER_LIBVIRT, 1},
        {PROXMOX, "web01", "100", UUID_A, 4, VM_MANAGER_PROXMOX, 1},
        {NOVA, "instance-0000002a", "", UUID_A, 2, VM_MANAGER_LIBVIRT, 0},
        {KUBEVIRT, "default_testvm", "", UUID_A, 1, VM_MANAGER_LIBVIRT, 0},
        {BY_HAND, "", "", NO_UUID, 4, VM_MANAGER_NONE, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct qemu_cmdline vm;

        assert_int_equal(parse(cases[i].arguments, &vm), 1);
        assert_string_equal(vm.name, cases[i].name);
        assert_string_equal(vm.id, cases[i].id);
        assert_uuid(vm.uuid, cases[i].uuid);
        assert_int_equal(vm.vcpus, cases[i].vcpus);
        assert_int_equal(vm.manager, cases[i].manager);
        assert_int_equal(vm.n_sockets, cases[i].n_sockets);
        qemu_cmdline_deinit(&vm);
    }
}

static void test_sockets(void **state)
{
    struct qemu_cmdline vm;

    assert_int_equal(parse("q|-chardev|socket,id=a,path=/run/a|-chardev|pty,path=/dev/b|-chardev|"
                           "socket,path=/run/c,,d,server=on|--chardev|backend=socket,path=/run/e|"
                           "-chardev|socket,fd=3|-chardev|socket,path=/run/f|-chardev|socket,path=/"
                           "run/g|-chardev",
                           &vm),
                     1);
    assert_int_equal(vm.n_sockets, 5);
    assert_string_equal(vm.sockets[0], "/run/a");
    assert_string_equal(vm.sockets[1], "/run/c,d");
    assert_string_equal(vm.sockets[2], "/run/e");
    assert_string_equal(vm.sockets[4], "/run/g");
    qemu_cmdline_deinit(&vm);
    assert_null(vm.sockets);
}

static void test_names(void **state)
{
    static const struct {
        const char *arguments;
        const char *name;
    } cases[] = {
        {"q|-name|plain", "plain"},
        {"q|--name|two dashes", "two dashes"},
        {"q|-name|guest=a=b", "a=b"},
        {"q|-name|a,,b=c", "a,b=c"},
        {"q|-name|a,,,,b,process=x", "a,,b"},
        {"q|-name|,,", ","},
        {"q|-name|proc,process=guest=x", "proc"},
        {"q|-name|process=p,guest=g", "g"},
        {"q|-name|first|-name|guest=last", "last"},
        {"q|-name|kept|-name|process=p", "kept"},
        {"q|-name|../../etc", "../../etc"},
        {"q|-name|line\nbreak \"quoted\" 'x'", "line\nbreak \"quoted\" 'x'"},
        {"q|-name|\xff\xfe\x80", "\xff\xfe\x80"},
        {"q|-name|-uuid", "-uuid"},
        {"q|-name||-smp|4", ""},
        {"q|-name|guest=", ""},
        {"q|-name", ""},
        {"q", ""},
        {"q|-names|x", ""},
        {"q|name|x", ""},
        {"q|-|--|-name|x", "x"},
        {"q|-append|-name|-m|7", ""},
        {"q|-append|-name|-name|real", "real"},
        {"q|-kernel|vmlinuz|-append|console=ttyS0 -name x|-name|y", "y"},
        {"q|-name|help", "help"},
        {"q|-name|version", "version"},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct qemu_cmdline vm;

        assert_int_equal(parse(cases[i].arguments, &vm), 1);
        assert_string_equal(vm.name, cases[i].name);
        qemu_cmdline_deinit(&vm);
    }
}

static void test_uuids(void **state)
{
    static const struct {
        const char *arguments;
        const char *uuid;
    } cases[] = {
        {"q|-uuid|" UUID_A, UUID_A},
        {"q|--uuid|8B2E8F2E-7A0B-4BD8-9A54-0B1A2C3D4E5F", UUID_A},
        {"q|-uuid|" UUID_B "|-uuid|" UUID_A, UUID_A},
        {"q|-smbios|type=1,uuid=" UUID_A, UUID_A},
        {"q|-smbios|uuid=" UUID_A ",type=1", UUID_A},
        {"q|-smbios|type=1,serial=a,,uuid=" UUID_B ",uuid=" UUID_A, UUID_A},
        {"q|-smbios|type=1,serial=a,,uuid=" UUID_B, NO_UUID},
        {"q|-smbios|type=11,uuid=" UUID_A, NO_UUID},
        {"q|-smbios|type=2,uuid=" UUID_A, NO_UUID},
        {"q|-smbios|uuid=" UUID_A, NO_UUID},
        {"q|-smbios|file=/x", NO_UUID},
        {"q|-uuid|" UUID_A "|-uuid|garbage", UUID_A},
        {"q|-uuid|" UUID_A "0", NO_UUID},
        {"q|-smbios|type=1,uuid=" UUID_A "0", NO_UUID},
        {"q|-uuid|", NO_UUID},
        {"q|-uuid|" NO_UUID, NO_UUID},
        {"q|-append|-uuid|" UUID_A, NO_UUID},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct qemu_cmdline vm;

        assert_int_equal(parse(cases[i].arguments, &vm), 1);
        assert_uuid(vm.uuid, cases[i].uuid);
        qemu_cmdline_deinit(&vm);
    }
}

static void test_vcpus(void **state)
{
    static const struct {
        const char *arguments;
        unsigned vcpus;
    } cases[] = {
        {"q", 1},
        {"q|-smp|8", 8},
        {"q|-smp|cpus=8", 8},
        {"q|-smp|maxcpus=16,cpus=8", 8},
        {"q|-smp|maxcpus=16", 16},
        {"q|-smp|sockets=2,cores=3,threads=2", 12},
        {"q|-smp|sockets=2,dies=2,clusters=2,cores=2", 16},
        {"q|-smp|2|-smp|maxcpus=4", 2},
        {"q|-smp|0", 1},
        {"q|-smp|-4", 1},
        {"q|-smp|4x", 1},
        {"q|-smp|99999999999999999999999", 1},
        {"q|-smp|cpus=4294967297", 1},
        {"q|-smp|sockets=65535,cores=65535,threads=65535,dies=65535,clusters=65535", 1},
        {"q|-smp|,,,=", 1},
        {"q|-smp|", 1},
        {"q|-smp", 1},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct qemu_cmdline vm;

        assert_int_equal(parse(cases[i].arguments, &vm), 1);
        assert_int_equal(vm.vcpus, cases[i].vcpus);
        qemu_cmdline_deinit(&vm);
    }
}

static void test_no_vm(void **state)
{
    static const char *const cases[] = {
        "qemu-system-x86_64|-version",
        "qemu-system-x86_64|--version",
        "qemu-system-x86_64|-help",
        "qemu-system-x86_64|-h",
        "qemu-system-x86_64|-machine|help",
        "qemu-system-x86_64|-M|?",
        "qemu-system-x86_64|-cpu|help",
        "qemu-system-x86_64|-M|none",
        "qemu-system-x86_64|-M|none,accel=tcg|-name|x",
        "qemu-system-x86_64|-machine|accel=kvm,type=none",
        "qemu-system-x86_64|-machine|q35|-M|none",
        /* libvirt's probe of what a QEMU can do */
        ("/usr/bin/qemu-system-x86_64|-S|-no-user-config|-nodefaults|-nographic|-machine|"
         "none,accel=kvm:tcg|-qmp|unix:/var/lib/libvirt/qemu/qmp-1/qmp.monitor,server=on,wait=off|"
         "-pidfile|/var/lib/libvirt/qemu/qmp-1/qmp.pid|-daemonize"),
    };
    struct qemu_cmdline vm = {.vcpus = 42};

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(parse(cases[i], &vm), 0);
    assert_int_equal(vm.vcpus, 42);
    assert_int_equal(parse("q|-M|none|-M|q35", &vm), 1);
    qemu_cmdline_deinit(&vm);
    assert_int_equal(parse("q|-M|none|-machine|accel=tcg|-name|help", &vm), 0);
}

static void test_empty(void **state)
{
    struct qemu_cmdline vm = {.vcpus = 42};

    assert_int_equal(parse_bytes("", 0, &vm), 0);
    assert_int_equal(parse_bytes("q", 1, &vm), 0);
    assert_int_equal(vm.vcpus, 42);
    assert_int_equal(parse_bytes("\0\0\0\0\0", 5, &vm), 1);
    assert_string_equal(vm.name, "");
    qemu_cmdline_deinit(&vm);
}

/* An argument that the end of the buffer cuts is no argument; those before it stand. */
static void test_truncated(void **state)
{
    static const char text[] = "q\0-name\0guest=abc\0-uuid\0" UUID_A "\0-smp\0"
                               "12";

    for (size_t length = 2; length <= sizeof(text); length++) {
        struct qemu_cmdline vm;

        assert_int_equal(parse_bytes(text, length, &vm), 1);
        assert_string_equal(vm.name, length < 18 ? "" : "abc");
        assert_uuid(vm.uuid, length < 24 + sizeof(UUID_A) ? NO_UUID : UUID_A);
        assert_int_equal(vm.vcpus, length < sizeof(text) ? 1 : 12);
        qemu_cmdline_deinit(&vm);
    }
}

static void test_long_name(void **state)
{
    char text[4096 + 64] = "q|-name|";
    struct qemu_cmdline vm;

    memset(text + strlen(text), 'n', 4096);
    assert_int_equal(parse(text, &vm), 1);
    assert_int_equal(strlen(vm.name), VM_NAME_MAX - 1);
    qemu_cmdline_deinit(&vm);
    strcpy(text, "q|-id|");
    memset(text + strlen(text), '1', 4096);
    assert_int_equal(parse(text, &vm), 1);
    assert_int_equal(strlen(vm.id), VM_NAME_MAX - 1);
    qemu_cmdline_deinit(&vm);
}

static void test_managers(void **state)
{
    static const struct {
        const char *arguments;
        enum vm_manager manager;
    } cases[] = {
        {"/usr/bin/kvm|-name|guest=x", VM_MANAGER_NONE},
        {"/usr/bin/kvm|-name|x,debug-threads=on", VM_MANAGER_NONE},
        {"/usr/bin/kvm|-id|7", VM_MANAGER_PROXMOX},
        {"qemu-system-x86_64|-id|7", VM_MANAGER_NONE},
        {"kvm|-name|guest=x,debug-threads=on", VM_MANAGER_LIBVIRT},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct qemu_cmdline vm;

        assert_int_equal(parse(cases[i].arguments, &vm), 1);
        assert_int_equal(vm.manager, cases[i].manager);
        qemu_cmdline_deinit(&vm);
    }
}

static void test_executables(void **state)
{
    static const char *const qemus[] = {
        "/usr/bin/qemu-system-x86_64",
        "/usr/bin/qemu-system-aarch64 (deleted)",
        "/usr/libexec/qemu-kvm",
        "/usr/libexec/qemu-kvm (deleted)",
        "/usr/bin/kvm",
        "kvm",
        "/tmp/with space/qemu-system-x86_64",
        "/usr/bin/qemu-system-x86_64-microvm",
    };
    static const char *const others[] = {
        "",
        "/",
        "/usr/bin/qemu-img",
        "/usr/bin/qemu-nbd",
        "/usr/sbin/qemu-ga",
        "/usr/bin/qemu-io",
        "/usr/bin/qemu-storage-daemon",
        "/usr/bin/qemu-x86_64-static",
        "/usr/bin/qemu-system-",
        "/usr/bin/qemu-system- (deleted)",
        "/opt/qemu-system-x86_64/run",
        "/usr/bin/my-qemu-system-x86_64",
        "/usr/bin/kvmtool",
        "/usr/bin/qemu-kvm2",
        "/usr/bin/bash",
        " (deleted)",
    };

    for (size_t i = 0; i < ELEMENTS(qemus); i++)
        assert_true(path_is_qemu(qemus[i]));
    for (size_t i = 0; i < ELEMENTS(others); i++)
        assert_false(path_is_qemu(others[i]));
}

static void test_helpers(void **state)
{
    static const char virtiofsd[] = "virtiofsd\0--shared-dir\0/x\0--socket-path=/run/a.sock";
    static const char separate[] = "virtiofsd\0--socket-path\0/run/a.sock\0--cache\0never";
    static const char swtpm[] = "swtpm\0socket\0--ctrl\0type=unixio,path=/run/t.sock,mode=0600";
    static const char none[] = "virtiofsd\0--fd=30\0-o\0source=/x,path=/y\0--socket-path";
    static const char other[] = "virtiofsd\0--socket-paths=/x\0--socket-path=";
    char longest[300] = "virtiofsd";
    char path[SOCKET_PATH_SIZE] = "untouched";

    assert_false(parse_helper_cmdline("", 0, path));
    assert_false(parse_helper_cmdline(none, sizeof(none), path));
    assert_false(parse_helper_cmdline(other, sizeof(other), path));
    assert_false(parse_helper_cmdline(virtiofsd, sizeof(virtiofsd) - 1, path));
    memcpy(longest + 10, "--socket-path=", 14);
    memset(longest + 24, 'x', SOCKET_PATH_SIZE);
    assert_false(parse_helper_cmdline(longest, 24 + SOCKET_PATH_SIZE + 1, path));
    assert_string_equal(path, "untouched");

    assert_true(parse_helper_cmdline(virtiofsd, sizeof(virtiofsd), path));
    assert_string_equal(path, "/run/a.sock");
    assert_true(parse_helper_cmdline(swtpm, sizeof(swtpm), path));
    assert_string_equal(path, "/run/t.sock");
    assert_true(parse_helper_cmdline(separate, sizeof(separate), path));
    assert_string_equal(path, "/run/a.sock");

    assert_true(path_is_helper("/usr/lib/qemu/virtiofsd"));
    assert_true(path_is_helper("/usr/bin/swtpm (deleted)"));
    assert_false(path_is_helper("/usr/bin/swtpm_setup"));
    assert_false(path_is_helper("/usr/bin/virtiofs"));
}

static void test_cgroups(void **state)
{
    static const struct {
        const char *text;
        int type; /* -1: none */
        const char *path;
    } cases[] = {
        {"0::/machine.slice/machine-qemu\\x2d3\\x2dmy\\x2dvm.scope/libvirt/emulator\n",
         MACHINE_CGROUP_SCOPE, "/machine.slice/machine-qemu\\x2d3\\x2dmy\\x2dvm.scope"},
        {"0::/machine.slice/machine-qemu\\x2d3\\x2da.scope\n", MACHINE_CGROUP_SCOPE,
         "/machine.slice/machine-qemu\\x2d3\\x2da.scope"},
        {"5:cpu,cpuacct:/machine/qemu-1-a.libvirt-qemu/vcpu0\n0::/\n", MACHINE_CGROUP_SCOPE,
         "/machine/qemu-1-a.libvirt-qemu"},
        {"9:name=systemd:/\n8:pids:/\n1:cpu:/\n0::/machine/qemu-1-a.libvirt-qemu/emulator\n",
         MACHINE_CGROUP_SCOPE, "/machine/qemu-1-a.libvirt-qemu"},
        /* systemd with all controllers in v1, and a vCPU's own groups in some of them. */
        {"12:rdma:/\n11:freezer:/machine.slice/machine-qemu\\x2d1\\x2da.scope\n"
         "10:cpu,cpuacct:/machine.slice/machine-qemu\\x2d1\\x2da.scope/vcpu0\n"
         "9:pids:/machine.slice/machine-qemu\\x2d1\\x2da.scope\n"
         "1:name=systemd:/machine.slice/machine-qemu\\x2d1\\x2da.scope\n",
         MACHINE_CGROUP_SCOPE, "/machine.slice/machine-qemu\\x2d1\\x2da.scope"},
        /* Hybrid: only the service manager's own hierarchy and its v2 twin know the machine. */
        {"4:memory:/\n3:cpu,cpuacct:/\n"
         "1:name=systemd:/machine.slice/machine-qemu\\x2d1\\x2da.scope\n"
         "0::/machine.slice/machine-qemu\\x2d1\\x2da.scope\n",
         MACHINE_CGROUP_SCOPE, "/machine.slice/machine-qemu\\x2d1\\x2da.scope"},
        {"0::/qemu.slice/100.scope\n", MACHINE_CGROUP_SCOPE, "/qemu.slice/100.scope"},
        {"10:devices:/qemu.slice\n9:memory:/qemu.slice/100.scope\n0::/qemu.slice/100.scope\n",
         MACHINE_CGROUP_SCOPE, "/qemu.slice/100.scope"},
        {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/"
         "cri-containerd-abc.scope\n",
         MACHINE_CGROUP_POD,
         "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"},
        {"4:memory:/kubepods/besteffort/pod11-22/0123abc\n", MACHINE_CGROUP_POD,
         "/kubepods/besteffort/pod11-22"},
        {"0::/kubepods/pod1/c/machine/qemu-1-a.libvirt-qemu/emulator\n", MACHINE_CGROUP_SCOPE,
         "/kubepods/pod1/c/machine/qemu-1-a.libvirt-qemu"},
        {"0::/user.slice/user-1000.slice/session-1.scope\n", -1, NULL},
        {"0::/machine.slice/machine-lxc\\x2d3\\x2da.scope\n", -1, NULL},
        {"0::/machine.slice/libvirtd.service\n", -1, NULL},
        {"0::/system.slice/podman.service\n", -1, NULL},
        {"0::/100.scope/qemu.slice\n", -1, NULL},
        {"0::/kubepods.slice\n", -1, NULL},
        {"0::/\n", -1, NULL},
        {"", -1, NULL},
        {"\n\n\n", -1, NULL},
        {":\n::\n0:\n", -1, NULL},
        {"0::///\n", -1, NULL},
        {"no colons\n", -1, NULL},
        {"0::/qemu.slice/100.scope", -1, NULL}, /* cut */
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct machine_cgroup cgroup = {.length = 42};
        size_t length = strlen(cases[i].text);
        char *text = exact_copy(cases[i].text, length);

        assert_int_equal(parse_machine_cgroup(text, length, &cgroup), cases[i].type >= 0);
        if (cases[i].type >= 0) {
            assert_int_equal(cgroup.type, cases[i].type);
            assert_int_equal(cgroup.length, strlen(cases[i].path));
            assert_memory_equal(cgroup.path, cases[i].path, cgroup.length);
        } else {
            assert_int_equal(cgroup.length, 42);
        }
        free(text);
    }
}

/* Each hierarchy has a line of its own; the controllers' names are whole words. */
static void test_cgroup_lines(void **state)
{
    static const char text[] = "5:cpu,cpuacct:/a\n4:name=memory:/b:memory:/x\n3:hugetlb,memory:/c\n"
                               "broken\n2:memory2:/d\n0::/e\n1:pids:/f";
    static const struct {
        const char *controller, *line;
    } cases[] = {
        {"memory", "3:hugetlb,memory:/c\n"},
        {"hugetlb", "3:hugetlb,memory:/c\n"},
        {"cpu", "5:cpu,cpuacct:/a\n"},
        {"", "0::/e\n"},
        {"cpua", NULL},
        {"pids", NULL}, /* cut */
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char *copy = exact_copy(text, strlen(text));
        const char *line = NULL;
        size_t length = 0;

        assert_int_equal(parse_cgroup_line(copy, strlen(text), cases[i].controller, &line, &length),
                         cases[i].line != NULL);
        assert_int_equal(length, cases[i].line ? strlen(cases[i].line) : 0);
        if (line)
            assert_memory_equal(line, cases[i].line, length);
        free(copy);
    }
}

static void test_machine_cgroup_is_private(void **state)
{
    static const struct {
        const char *text;
        bool is_private;
        unsigned id;
    } cases[] = {
        {"0::/machine.slice/machine-qemu\\x2d12\\x2dweb\\x2d1.scope/libvirt/vcpu0\n", true, 12},
        {"0::/machine/qemu-3-web-1.libvirt-qemu/emulator\n", true, 3},
        {"0::/a.slice/b.partition/qemu-4294967295-x.libvirt-qemu\n", true, 4294967295},
        {"0::/qemu.slice/100.scope\n", true, 0},
        {"0::/user.slice/user-1000.slice/machine-qemu\\x2d1\\x2da.scope\n", false, 1},
        {"0::/system.slice/x.service/machine-qemu\\x2d1\\x2da.scope\n", false, 1},
        {"0::/../machine/qemu-1-a.libvirt-qemu\n", false, 1},
        {"0::/machine.slice/machine-qemu\\x2dx\\x2da.scope\n", true, 0},
        {"0::/machine.slice/machine-qemu\\x2d4294967296\\x2da.scope\n", true, 0},
        {"0::/machine.slice/machine-qemu\\x2d7.scope\n", true, 0},
        {"0::/machine/qemu-.libvirt-qemu\n", true, 0},
        {"0::/machine/lxc-3-a.libvirt-qemu\n", true, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct machine_cgroup cgroup;
        char path[128];

        assert_int_equal(parse_machine_cgroup(cases[i].text, strlen(cases[i].text), &cgroup), 1);
        assert_int_equal(machine_cgroup_is_private(&cgroup), cases[i].is_private);
        snprintf(path, sizeof(path), "%.*s", (int)cgroup.length, cgroup.path);
        assert_int_equal(machine_cgroup_libvirt_id(path), cases[i].id);
    }
    assert_int_equal(machine_cgroup_libvirt_id(""), 0);
}

/* Of ten thousand sockets, a VM has use for some. */
static void test_sockets_bounded(void **state)
{
    static char text[300000];
    struct qemu_cmdline vm;
    size_t length = 2;

    memcpy(text, "q", 2);
    for (unsigned i = 0; i < 5000; i++)
        length += (size_t)sprintf(text + length, "-chardev%csocket,path=/run/%u.sock", '\0', i) + 1;
    assert_int_equal(parse_qemu_cmdline(text, length, &vm), 1);
    assert_int_equal(vm.n_sockets, 64);
    assert_string_equal(vm.sockets[63], "/run/63.sock");
    qemu_cmdline_deinit(&vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),    cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_names),       cmocka_unit_test(test_uuids),
        cmocka_unit_test(test_vcpus),       cmocka_unit_test(test_no_vm),
        cmocka_unit_test(test_empty),       cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_long_name),   cmocka_unit_test(test_managers),
        cmocka_unit_test(test_executables), cmocka_unit_test(test_helpers),
        cmocka_unit_test(test_cgroups),     cmocka_unit_test(test_cgroup_lines),
        cmocka_unit_test(test_machine_cgroup_is_private),
        cmocka_unit_test(test_sockets_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
