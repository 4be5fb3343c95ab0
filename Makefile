# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Sets up a fresh Debian 12 and runs what meson does not: the guest image, the
# end-to-end tests and the demo. `sudo make demo` and `sudo make check` need
# nothing else. Packages are installed only where some are missing; Debian then
# starts the services among them (libvirtd, prometheus), as it always does.

BUILD := build
RESULTS := $(BUILD)/results
RUN_PYTEST := /usr/bin/python3 -m pytest
PYTEST := VIRTJOULE_BUILD=$(abspath $(BUILD)) $(RUN_PYTEST) tests/e2e
SANITIZED_E2E := $(addprefix tests/e2e/test_,bad_input.py prometheus.py restart.py)
SLOW_RESULTS := check-slow.xml shared.xml sanitized.xml sanitized-e2e.xml slow.xml valgrind.xml \
    fuzz.xml system.xml
FUZZ_SECONDS ?= 30
FUZZ_RUNS ?= 0
RESPONSES ?= 20000
GROUPS := base|build|unit|run|check|package
PACKAGES = $(shell tests/debian/packages.sh '$(GROUPS)')

.PHONY: all deps build guest servers system-root system check other-debian check-slow shared beside sanitized \
    fuzz fuzz-coverage responses accuracy bench-requests demo package clean

all: build

deps:
	@missing=$$(for package in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed$$' || \
	    echo $$package; done); \
	if [ -n "$$missing" ]; then \
	    echo "installing" $$missing; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get -q update && apt-get -q install -y --no-install-recommends $$missing; \
	fi

build: deps
	@[ -e $(BUILD)/build.ninja ] || meson setup $(BUILD)
	ninja -C $(BUILD)

guest: deps
	tests/guest/build-guest.sh $(BUILD)/guest

# The disk of test_request_servers.py, which is skipped without it.
servers: deps
	tests/guest/build-servers.sh $(BUILD)/servers

system-root: deps
	tests/system/build-root.sh $(BUILD)/system

# The results are kept as JUnit files; all tests run, whatever fails.
check: build guest
	@mkdir -p $(RESULTS)
	@rm -f $(RESULTS)/meson.xml $(RESULTS)/check.xml $(BUILD)/meson-logs/testlog.junit.xml
	-meson test -C $(BUILD) --no-suite slow --print-errorlogs
	@cp $(BUILD)/meson-logs/testlog.junit.xml $(RESULTS)/meson.xml
	-$(PYTEST) -m "not slow" --junit-xml=$(abspath $(RESULTS))/check.xml
	@tests/summary.py $(RESULTS)/meson.xml $(RESULTS)/check.xml

# The other Debian, see there.
other-debian: deps
	tests/debian/other.sh $(BUILD)/other $(RESULTS)
	@tests/summary.py $(addprefix $(RESULTS)/,other.xml other-gcc.xml other-clang.xml)

# What takes minutes: exactness and faults, then, two at a time, what needs no quiet machine and the
# sanitizers' and valgrind's view of the tests, fuzzing, the packages under systemd in a virtual machine.
check-slow: build guest sanitized
	@mkdir -p $(RESULTS)
	@rm -f $(addprefix $(RESULTS)/,$(SLOW_RESULTS))
	-$(PYTEST) -m "slow and not shared" --junit-xml=$(abspath $(RESULTS))/check-slow.xml
	-meson test -C $(BUILD)-sanitized --no-suite accuracy --no-suite soak --print-errorlogs
	@cp $(BUILD)-sanitized/meson-logs/testlog.junit.xml $(RESULTS)/sanitized.xml
	-VIRTJOULE_BUILD=$(abspath $(BUILD)-sanitized) $(RUN_PYTEST) $(SANITIZED_E2E) \
	    --junit-xml=$(abspath $(RESULTS))/sanitized-e2e.xml
	-$(MAKE) --jobs=2 --keep-going --output-sync=target shared beside
	-$(MAKE) system
	@tests/summary.py $(addprefix $(RESULTS)/,$(SLOW_RESULTS))

# Tests that share the machine with others.
shared: build guest servers
	@mkdir -p $(RESULTS)
	$(PYTEST) -m shared --junit-xml=$(abspath $(RESULTS))/shared.xml

# What does not mind to wait.
beside: build
	@mkdir -p $(RESULTS)
	-nice -n 19 meson test -C $(BUILD) --suite slow --print-errorlogs --logbase slow
	@cp $(BUILD)/meson-logs/slow.junit.xml $(RESULTS)/slow.xml
	-nice -n 19 meson test -C $(BUILD) --suite unit --no-suite static --logbase valgrind \
	    --timeout-multiplier 20 \
	    --wrap "valgrind -q --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite"
	@cp $(BUILD)/meson-logs/valgrind-valgrind.junit.xml $(RESULTS)/valgrind.xml
	-nice -n 19 $(MAKE) fuzz

# The packages on a hypervisor of their own; what was seen is in RESULTS/system.
system: build system-root package
	@mkdir -p $(RESULTS)
	@rm -f $(RESULTS)/system.xml
	VIRTJOULE_BUILD=$(abspath $(BUILD)) $(RUN_PYTEST) tests/system \
	    --junit-xml=$(abspath $(RESULTS))/system.xml

# clang's sanitizers, on the programs as well as on the tests.
sanitized: guest
	@[ -e $(BUILD)-sanitized/build.ninja ] || CC=clang meson setup $(BUILD)-sanitized \
	    -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C $(BUILD)-sanitized
	@ln -sfn $(abspath $(BUILD))/guest $(BUILD)-sanitized/guest

# FUZZ_SECONDS=3600 make fuzz: an hour for each target. FUZZ_RUNS=10000000 make fuzz: so many
# executions of each, and no limit in time.
fuzz: deps
	@mkdir -p $(RESULTS)
	@rm -f $(RESULTS)/fuzz.xml
	@[ -e $(BUILD)-fuzz/build.ninja ] || CC=clang meson setup $(BUILD)-fuzz -Dfuzzing=true \
	    -Db_sanitize=address,undefined -Db_lundef=false
	meson configure $(BUILD)-fuzz -Dfuzz_seconds=$(FUZZ_SECONDS) -Dfuzz_runs=$(FUZZ_RUNS)
	meson test -C $(BUILD)-fuzz --print-errorlogs; \
	    cp $(BUILD)-fuzz/meson-logs/testlog.junit.xml $(RESULTS)/fuzz.xml

# The table of docs/fuzzing.md: what of each parser the corpora reach.
fuzz-coverage: deps
	@[ -e $(BUILD)-fuzz-coverage/build.ninja ] || CC=clang \
	    CFLAGS="-fprofile-instr-generate -fcoverage-mapping" LDFLAGS=-fprofile-instr-generate \
	    meson setup $(BUILD)-fuzz-coverage -Dfuzzing=true \
	    -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C $(BUILD)-fuzz-coverage
	@tests/fuzz/coverage.py $(BUILD)-fuzz-coverage/tests/fuzz

# 10^5 responses of real servers on this machine's kernel, some of 100 MB, with virtjoule-requests and
# without it. RESPONSES=200 make responses: so many of each of the five.
responses: build servers
	VIRTJOULE_RESPONSES=$(RESPONSES) $(PYTEST)/many_responses.py -rA

# Every scenario of the laboratory: docs/accuracy.md and its plots anew. Fails when a limit is broken.
accuracy: build
	@mkdir -p $(BUILD)/accuracy docs/accuracy
	$(BUILD)/tests/accuracy/laboratory --report docs --data $(BUILD)/accuracy; status=$$?; \
	    gnuplot -e "data='$(BUILD)/accuracy'; out='docs/accuracy'" tests/accuracy/plots.gp && \
	    exit $$status

# What virtjoule-requests costs nginx and Node.js: the table of docs/requests.md. BENCH="--rounds 3"
bench-requests: GROUPS := $(GROUPS)|bench
bench-requests: build
	VIRTJOULE_BUILD=$(abspath $(BUILD)) tests/bench/requests_overhead.py $(BENCH)

demo: build guest
	@VIRTJOULE_BUILD=$(abspath $(BUILD)) tests/demo/demo.py

# The Debian packages and what their tool says of them; dpkg-buildpackage leaves them beside its
# source, so that is a copy of what git knows.
package: deps
	@rm -rf $(BUILD)/package
	@mkdir -p $(BUILD)/package/virtjoule
	git ls-files -z | xargs -0 cp --parents -t $(BUILD)/package/virtjoule
	cd $(BUILD)/package/virtjoule && dpkg-buildpackage -us -uc
	lintian --allow-root --fail-on error,warning --info $(BUILD)/package/*.changes
	@ls $(BUILD)/package/*.deb

clean:
	rm -rf $(BUILD) $(BUILD)-sanitized $(BUILD)-fuzz $(BUILD)-fuzz-coverage
