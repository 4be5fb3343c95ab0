#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of each parser the fuzz targets' corpora reach: coverage.py BUILD-DIRECTORY

Prints the table of docs/fuzzing.md. The targets must have been built for clang's source-based
coverage (make fuzz-coverage).
"""

import json
import os
import pathlib
import subprocess
import sys

# Of files that do more than parse, the functions that do.
PARSERS = {
    "answer": ["tests/workload/answer.c", "tests/workload/http_head.c",
               "tests/workload/mix.c:mix_parse,parse_line,add,next_word,is_word"],
    "config": ["src/util/config_text.c", "src/daemon/config.c",
               "src/meter/redfish_keys.c", "src/meter/snmp_keys.c"],
    "control": ["src/publish/control_answer.c"],
    "credentials": ["src/meter/credentials.c:credentials_parse,parse_line"],
    "dcmi": ["src/meter/meter_dcmi.c:dcmi_parse_power"],
    "domain-xml": ["src/util/xml.c", "src/libvirt/domain_xml.c", "src/libvirt/domain_xml_attach.c",
                   "src/libvirt/domain_xml_detach.c", "src/cli/share_path.c"],
    "energy-metadata": ["src/libvirt/energy_metadata.c"],
    "fuse": ["src/powercapfs/ops.c", "src/powercapfs/files.c",
             "src/powercapfs/names.c", "src/powercapfs/tree.c",
             "src/powercapfs/handover.c:fuse_init_is_whole"],
    "http-stream": ["bpf/shared/http_stream.h", "bpf/shared/http_words.h"],
    "ledger": ["src/ledger/ledger_image.c",
               "src/util/image_file.c:image_file_parse"],
    "model-file": ["src/attribution/fitted.c:fitted_parse,handle_key,normalise"],
    "numa-text": ["src/host/topology_text.c", "src/memory/memory_text.c"],
    "proc-text": ["src/host/proc_text.c"],
    "qemu-cmdline": ["src/discovery/arguments.c", "src/discovery/qemu_cmdline.c",
                     "src/discovery/helper_cmdline.c", "src/host/machine_cgroup.c"],
    "redfish": ["src/meter/redfish.c"],
    "request-config": ["src/requests/request_config.c"],
    "request-record": ["src/requests/access_log.c:access_log_format,add_string",
                       "src/requests/request_metrics.c:request_route,has_digit"],
    "taskstats": ["src/usage/exit_message.c"],
    "text": ["src/source/rapl.c:rapl_parse_zone",
             "src/util/listen_address.c", "src/util/parse.c",
             "src/util/utf8.c",
             "src/platform/platform_store.c:platform_relation_parse,parse_numbers,next_word"],
    "usage-state": ["src/usage/usage_state.c", "src/usage/process_table.c:process_table_restore"],
}
CORPUS = pathlib.Path(__file__).parent / "corpus"
CODE_REGION = 0


def measure(build, target):
    """All that llvm-cov knows of one target's run over its corpus."""
    program = build / f"fuzz-{target}"
    raw, profile = build / f"{target}.profraw", build / f"{target}.profdata"
    subprocess.run([program, "-runs=0", CORPUS / target], check=True, stderr=subprocess.DEVNULL,
                   env=os.environ | {"LLVM_PROFILE_FILE": str(raw)})
    subprocess.run(["llvm-profdata", "merge", "-o", profile, raw], check=True)
    output = subprocess.run(["llvm-cov", "export", "-instr-profile", profile, program], check=True,
                            capture_output=True).stdout
    return json.loads(output)["data"][0]


def of_file(data, path):
    for file in data["files"]:
        if file["filename"].endswith(path):
            return file["summary"]["lines"]["percent"], file["summary"]["regions"]["percent"]
    raise SystemExit(f"{path}: not in the program")


def of_functions(data, path, names):
    """Lines and regions of some functions of a file, from their regions."""
    lines, reached_lines, regions, reached = set(), set(), 0, 0
    for function in data["functions"]:
        if not function["filenames"][0].endswith(path) or \
                function["name"].rsplit(":", 1)[-1] not in names:
            continue
        own = [region for region in function["regions"] if region[7] == CODE_REGION]
        regions += len(own)
        reached += sum(region[4] > 0 for region in own)
        # The inner regions come after those around them.
        state = {}
        for first, _, last, _, count, *_ in own:
            state.update((line, count) for line in range(first, last + 1))
        lines.update(state)
        reached_lines.update(line for line, count in state.items() if count)
    return 100 * len(reached_lines) / len(lines), 100 * reached / regions


def main():
    build = pathlib.Path(sys.argv[1])
    print("| target | parser | lines | regions |\n| --- | --- | ---: | ---: |")
    for target, parsers in PARSERS.items():
        data = measure(build, target)
        for parser in parsers:
            path, _, names = parser.partition(":")
            lines, regions = of_functions(data, path, names.split(",")) if names \
                else of_file(data, path)
            what = f"`{path}`" + (f" ({names.split(',')[0]})" if names else "")
            print(f"| {target} | {what} | {lines:.1f} % | {regions:.1f} % |")


if __name__ == "__main__":
    main()
