/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sysexits.h>

#include "requests/request_manager.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/options.h"

static int run(const struct request_config *config, const struct collect_options *collect)
{
    struct request_manager *manager = NULL;
    int r = request_manager_new(&manager, config, collect);

    if (r == 0)
        r = request_manager_run(manager);
    request_manager_free(manager);
    if (r < 0)
        log_error("virtjoule-requests ends", F_ERROR(r));
    if (r == -EOPNOTSUPP)
        return EX_UNAVAILABLE;
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct collect_options collect = {0};
    const char *config_file = NULL;
    bool check_config = false;
    const struct program_option options[] = {
        {"config", "FILE", "the configuration; without it the defaults hold", .text = &config_file},
        {"check-config", NULL, "validate the configuration and exit", .flag = &check_config},
        {"collect-csv", "FILE", "also write one row per interval, to fit weights from",
         .text = &collect.path},
        {"collect-label", "LABEL", "the text of the rows' column label", .text = &collect.label},
    };
    const struct program_usage usage = {
        .name = "virtjoule-requests",
        .arguments = "[--config FILE] [--check-config]\n"
                     "                          [--collect-csv FILE --collect-label LABEL]",
        .purpose = "Reports what each HTTP request to this machine's servers costs in energy.",
        .statuses = "0 after SIGTERM, 1 on failure, 64 for wrong options,\n"
                    "69 when the kernel lacks something, 78 when the configuration is wrong",
        .wrong_usage = EX_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
    };
    struct request_config config;
    int status;

    if (open_standard_files() < 0)
        return EXIT_FAILURE;
    /* A log reader or a client that has gone is no reason to end. */
    signal(SIGPIPE, SIG_IGN);
    status = program_parse(&usage, argc, argv);
    if (status >= 0)
        return status;
    if (!collect.path != !collect.label)
        return program_usage_error(&usage, "--collect-csv and --collect-label belong together");
    request_config_init(&config);
    if (config_file && request_config_load(config_file, &config) < 0)
        return EX_CONFIG;
    if (check_config) {
        log_info("configuration valid");
        return EXIT_SUCCESS;
    }
    return run(&config, &collect);
}
