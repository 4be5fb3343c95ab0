/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The load generator: asks a server for a mix of targets, and tells what it saw in JSON. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "load.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/listen_address.h"
#include "util/parse.h"

static const char usage_text[] =
    "Usage: workload-load --server ADDRESS:PORT (--profile NAME | --path TARGET | --mix FILE)...\n"
    "\n"
    "  --profile NAME     units or web\n"
    "  --path TARGET      one target, such as /cpu?iters=1000; may be given several times\n"
    "  --mix FILE         lines of weight, method and target\n"
    "  --connections N    at a time, 1 to 1024; default 1\n"
    "  --pipeline N       requests sent before the first answer is taken, 1 to 256; default 1\n"
    "  --duration TIME    with its unit; default 10s\n"
    "  --requests N       end after so many on each connection\n"
    "  --close            a new connection for every batch\n"
    "  --seed N           of what is asked when; default 0\n"
    "\n"
    "Exit status: 0, 1 when a connection failed, 64 for wrong options, 66 for a wrong mix.\n";

static int parse_server(const char *text, struct load_options *options)
{
    struct listen_address address;
    int r = listen_address_parse(text, &address);

    if (r < 0)
        return r;
    memcpy(&options->address, &address.any, address.length);
    options->address_length = address.length;
    return 0;
}

static int parse_unsigned(const char *text, unsigned to, unsigned *ret)
{
    uint64_t number;
    int r = parse_u64_between(text, 1, to, &number);

    if (r == 0)
        *ret = (unsigned)number;
    return r;
}

static int read_mix(const char *path, struct mix *mix)
{
    _cleanup_free_ char *text = NULL;
    size_t length;
    unsigned line = 0;
    int r = read_file_full(AT_FDCWD, path, 1 << 20, &text, &length);

    if (r == 0)
        r = mix_parse(mix, text, length, &line);
    if (r < 0) {
        fprintf(stderr, "workload-load: %s:%u: %s\n", path, line, strerror(-r));
        exit(EX_NOINPUT);
    }
    return 0;
}

static int parse_option(int option, struct load_options *options, struct mix *mix)
{
    switch (option) {
    case 's':
        return parse_server(optarg, options);
    case 'P':
        return mix_add_profile(mix, optarg);
    case 'p':
        return mix_add(mix, optarg);
    case 'm':
        return read_mix(optarg, mix);
    case 'c':
        return parse_unsigned(optarg, 1024, &options->connections);
    case 'l':
        return parse_unsigned(optarg, 256, &options->pipeline);
    case 'd':
        return parse_duration_ns(optarg, &options->duration_ns);
    case 'r':
        return parse_u64_between(optarg, 1, UINT64_MAX, &options->requests);
    case 'k':
        options->keep_alive = false;
        return 0;
    case 'e':
        return parse_u64_between(optarg, 0, UINT64_MAX, &options->seed);
    default:
        return -EINVAL;
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"server", required_argument, NULL, 's'},
                                          {"profile", required_argument, NULL, 'P'},
                                          {"path", required_argument, NULL, 'p'},
                                          {"mix", required_argument, NULL, 'm'},
                                          {"connections", required_argument, NULL, 'c'},
                                          {"pipeline", required_argument, NULL, 'l'},
                                          {"duration", required_argument, NULL, 'd'},
                                          {"requests", required_argument, NULL, 'r'},
                                          {"close", no_argument, NULL, 'k'},
                                          {"seed", required_argument, NULL, 'e'},
                                          {0}};
    static struct summary summary;
    static struct mix mix;
    struct load_options options = {
        .connections = 1, .pipeline = 1, .keep_alive = true, .duration_ns = 10 * NSEC_PER_SEC};
    uint64_t duration_ns;
    int r = 0;

    for (int option; r == 0 && (option = getopt_long(argc, argv, "", names, NULL)) != -1;)
        r = parse_option(option, &options, &mix);
    if (r < 0 || optind < argc || mix.n == 0 || options.address_length == 0) {
        fputs(usage_text, stderr);
        return EX_USAGE;
    }
    r = load_run(&options, &mix, &summary, &duration_ns);
    if (r == 0)
        r = summary_print(stdout, &summary, &mix, duration_ns);
    if (r < 0)
        fprintf(stderr, "workload-load: %s\n", strerror(-r));
    return r < 0 || summary.errors > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
