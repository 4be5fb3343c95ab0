/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/require.h"
#include "util/descriptors.h"

/* In a child, as after exec by a service manager that hands over descriptors of those names.
 * @return what check() returned */
static int with_names(const char *names, int n, int (*check)(struct descriptors *descriptors))
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        struct descriptors descriptors = {0};
        char text[16];

        for (int i = 0; i < n; i++)
            if (dup2(STDIN_FILENO, 3 + i) < 0)
                _exit(99);
        snprintf(text, sizeof(text), "%d", getpid());
        setenv("LISTEN_PID", text, 1);
        snprintf(text, sizeof(text), "%d", n);
        setenv("LISTEN_FDS", text, 1);
        setenv("LISTEN_FDNAMES", names, 1);
        _exit(descriptors_take(&descriptors) < 0 ? 98 : check(&descriptors));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int check_names(struct descriptors *descriptors)
{
    struct descriptors again = {0};

    /* Each call takes the next one. NOLINTBEGIN(misc-redundant-expression) */
    if (descriptors_next(descriptors, "usage") != 4 || descriptors_next(descriptors, "usage") != -1)
        return 1;
    if (descriptors_next(descriptors, "other") != 3 || descriptors_next(descriptors, "other") != 5)
        return 2;
    /* NOLINTEND(misc-redundant-expression) */
    if (!(fcntl(4, F_GETFD) & FD_CLOEXEC))
        return 3;
    descriptors_deinit(descriptors);
    /* The one left is closed, those given away are not. */
    if (fcntl(6, F_GETFD) >= 0 || fcntl(3, F_GETFD) < 0)
        return 4;
    /* Told once. */
    return descriptors_take(&again) == 0 && again.n == 0 ? 0 : 5;
}

static int check_none(struct descriptors *descriptors)
{
    return descriptors->n == 0 && descriptors_next(descriptors, "usage") == -1 ? 0 : 1;
}

static void test_by_name(void **state)
{
    assert_int_equal(with_names("other:usage:other:left", 4, check_names), 0);
}

static void test_none(void **state)
{
    assert_int_equal(with_names("", 0, check_none), 0);
    /* As many names as descriptors, or none is believed. */
    assert_int_equal(with_names("one:two", 1, check_none), 0);
}

/* One message with all descriptors, as sd_notify(3) has it. */
static void test_keep(void **state)
{
    static const char name[] = "/tmp/test-descriptors.socket";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _Alignas(struct cmsghdr) char control[256];
    char text[256] = "";
    struct iovec data = {text, sizeof(text) - 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    const struct cmsghdr *header;
    int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), kept[2];

    assert_int_equal(descriptors_keep("usage", (const int[]){0, 1}, 2), -ENOTCONN);
    memcpy(address.sun_path, name, sizeof(name));
    unlink(name);
    assert_int_equal(bind(manager, (const struct sockaddr *)&address, sizeof(address)), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(descriptors_keep("usage", (const int[]){manager, 1}, 2), 0);
    unsetenv("NOTIFY_SOCKET");
    unlink(name);
    assert_true(recvmsg(manager, &message, MSG_CMSG_CLOEXEC) > 0);
    assert_string_equal(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=usage");
    header = CMSG_FIRSTHDR(&message);
    require(header != NULL);
    assert_int_equal(header->cmsg_type, SCM_RIGHTS);
    assert_int_equal(header->cmsg_len, CMSG_LEN(sizeof(kept)));
    memcpy(kept, CMSG_DATA(header), sizeof(kept));
    close(kept[0]);
    close(kept[1]);
    close(manager);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_name),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_keep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
