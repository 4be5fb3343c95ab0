# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Sets up a fresh Debian 12 and runs what meson does not: the guest image, the
# end-to-end tests and the demo. `sudo make demo` and `sudo make check` need
# nothing else. Packages are installed only where some are missing; Debian then
# starts the services among them (libvirtd, prometheus), as it always does.

BUILD := build
RESULTS := $(BUILD)/results
RUN_PYTEST := /usr/bin/python3 -m pytest
# Most end-to-end tests wait most of the time: two CPUs have time for six files at once.
SIX_FILES := -n 6 --dist loadfile
PYTEST := env VIRTJOULE_BUILD=$(abspath $(BUILD)) $(RUN_PYTEST)
SANITIZED_E2E := $(addprefix tests/e2e/test_,bad_input.py prometheus.py restart.py)
QUICK_RESULTS := $(addprefix $(RESULTS)/,sanitized.xml corpora.xml)
OTHER_RESULTS := $(addprefix $(RESULTS)/,other.xml other-gcc.xml other-clang.xml)
SLOW_RESULTS := $(addprefix $(RESULTS)/,check-slow.xml alone.xml soak.xml sanitized-e2e.xml \
    system.xml) $(QUICK_RESULTS) $(OTHER_RESULTS)
STAGE := tests/stage.sh $(RESULTS)
MESON_TEST := tests/meson-test.sh $(RESULTS)
FUZZ_SECONDS ?= 30
FUZZ_RUNS ?= 0
RESPONSES ?= 20000
GROUPS := base|build|unit|run|quick|check|package
PACKAGES = $(shell tests/debian/packages.sh '$(GROUPS)')

.PHONY: all deps build guest servers system-root system check lint check-rootless check-slow \
    lane-alone lane-sanitized lane-other sanitized sanitized-tests other-debian nightly slow \
    valgrind fuzz fuzz-coverage responses accuracy bench-requests api demo package clean

all: build

deps:
	@missing=$$(for package in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed$$' || \
	    echo $$package; done); \
	if [ -n "$$missing" ]; then \
	    [ "$$(id -u)" = 0 ] || { echo "needs root to install" $$missing; exit 1; }; \
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

# Its results are kept as JUnit files; all tests run, whatever fails.
check: build guest
	@rm -f $(RESULTS)/meson.xml $(RESULTS)/check.xml
	-$(STAGE) meson $(MESON_TEST) $(BUILD) meson --no-suite slow
	-$(STAGE) e2e $(PYTEST) $(SIX_FILES) tests/e2e -m "not slow" \
	    --junit-xml=$(abspath $(RESULTS))/check.xml
	@tests/summary.py $(RESULTS)/meson.xml $(RESULTS)/check.xml

# The other Debian, see there.
other-debian: deps
	tests/debian/other.sh $(BUILD)/other $(RESULTS)
	@tests/summary.py $(OTHER_RESULTS)

# What the tools find that look at sources; each has its settings in a file at the top of the tree.
lint: build
	meson test -C $(BUILD) --suite lint --no-suite slow --print-errorlogs

# Without root: built by gcc and by clang, and all that needs neither root, KVM nor services. A test
# that cannot run here says why it is skipped.
check-rootless: GROUPS := base|build|unit|quick
check-rootless: build
	@rm -f $(RESULTS)/rootless.xml $(QUICK_RESULTS)
	-$(STAGE) meson $(MESON_TEST) $(BUILD) rootless --no-suite slow
	-$(STAGE) sanitized $(MAKE) sanitized-tests GROUPS='$(GROUPS)'
	@echo "left out: tests/e2e, tests/system, which boot virtual machines, and what make nightly runs"
	@tests/summary.py $(RESULTS)/rootless.xml $(QUICK_RESULTS)

# What takes minutes: exactness and faults; sanitizers, the soak test and the other Debian; the
# packages under systemd in a virtual machine.
check-slow: build guest servers
	@rm -f $(SLOW_RESULTS)
	-$(STAGE) e2e-slow $(PYTEST) $(SIX_FILES) tests/e2e -m "slow and not alone" \
	    --junit-xml=$(abspath $(RESULTS))/check-slow.xml
	-$(MAKE) --jobs=3 --keep-going --output-sync=target lane-alone lane-sanitized lane-other
	-$(STAGE) e2e-sanitized env VIRTJOULE_BUILD=$(abspath $(BUILD)-sanitized) $(RUN_PYTEST) \
	    $(SIX_FILES) $(SANITIZED_E2E) --junit-xml=$(abspath $(RESULTS))/sanitized-e2e.xml
	-$(STAGE) system $(MAKE) system
	@tests/summary.py $(SLOW_RESULTS)

# These three run beside each other. Only the first runs virtjouled.
lane-alone: build guest
	$(STAGE) e2e-alone $(PYTEST) tests/e2e -m alone --junit-xml=$(abspath $(RESULTS))/alone.xml

lane-sanitized: build
	-$(STAGE) sanitized $(MAKE) sanitized-tests
	$(STAGE) soak $(MESON_TEST) $(BUILD) soak --suite soak

lane-other:
	$(STAGE) other-debian $(MAKE) other-debian

# The unit and integration tests with clang's sanitizers, and what the fuzz targets' corpora reach.
sanitized-tests: sanitized
	meson configure $(BUILD)-sanitized -Dfuzz_seconds=0 -Dfuzz_runs=0
	-$(MESON_TEST) $(BUILD)-sanitized sanitized --suite unit --suite integration --no-suite static
	-$(MESON_TEST) $(BUILD)-sanitized corpora --suite fuzz

# What takes hours of a machine: the laboratory in full, clang-tidy in depth, valgrind,
# timed fuzzing, and many responses of real servers.
nightly: build servers
	@rm -f $(addprefix $(RESULTS)/,slow.xml valgrind.xml fuzz.xml responses.xml) $(RESULTS)/stages
	-$(MAKE) --jobs=2 --keep-going --output-sync=target slow valgrind
	-$(STAGE) fuzz $(MAKE) fuzz
	-$(STAGE) responses $(MAKE) responses
	@tests/stage.sh $(RESULTS)
	@tests/summary.py $(addprefix $(RESULTS)/,slow.xml valgrind.xml fuzz.xml responses.xml)

slow: build
	$(STAGE) slow $(MESON_TEST) $(BUILD) slow --suite slow

valgrind: build
	$(STAGE) valgrind $(MESON_TEST) $(BUILD) valgrind --suite unit --no-suite static \
	    --wrap "valgrind -q --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite"

# The packages on a hypervisor of their own; what was seen is in RESULTS/system.
system: build system-root package
	@mkdir -p $(RESULTS)
	@rm -f $(RESULTS)/system.xml
	VIRTJOULE_BUILD=$(abspath $(BUILD)) $(RUN_PYTEST) tests/system \
	    --junit-xml=$(abspath $(RESULTS))/system.xml

# clang's sanitizers, on the programs as well as on the tests, and the fuzz targets.
sanitized: deps
	@[ -e $(BUILD)-sanitized/build.ninja ] || CC=clang meson setup $(BUILD)-sanitized \
	    -Dfuzzing=true -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C $(BUILD)-sanitized
	@ln -sfn $(abspath $(BUILD))/guest $(BUILD)-sanitized/guest

# FUZZ_SECONDS=3600 make fuzz: an hour for each target. FUZZ_RUNS=10000000 make fuzz: so many
# executions of each, and no limit in time.
fuzz: sanitized
	meson configure $(BUILD)-sanitized -Dfuzz_seconds=$(FUZZ_SECONDS) -Dfuzz_runs=$(FUZZ_RUNS)
	$(MESON_TEST) $(BUILD)-sanitized fuzz --suite fuzz

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
	@mkdir -p $(RESULTS)
	VIRTJOULE_RESPONSES=$(RESPONSES) $(PYTEST) tests/e2e/many_responses.py -rA \
	    --junit-xml=$(abspath $(RESULTS))/responses.xml

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

# The docstrings of the headers as pages in BUILD/api; a docstring that is wrong in form is an error.
api: GROUPS := docs
api: deps
	@mkdir -p $(BUILD)
	doxygen docs/Doxyfile
	@echo $(BUILD)/api/html/index.html

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
	rm -rf $(BUILD) $(BUILD)-sanitized $(BUILD)-fuzz-coverage
