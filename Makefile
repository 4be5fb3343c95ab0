# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Sets up a fresh Debian 12 and runs what meson does not: the guest image, the
# end-to-end tests and the demo. `sudo make demo` and `sudo make check` need
# nothing else. Packages are installed only where some are missing; Debian then
# starts the services among them (libvirtd, prometheus), as it always does.

BUILD := build
RESULTS := $(BUILD)/results
PYTEST := VIRTJOULE_BUILD=$(abspath $(BUILD)) /usr/bin/python3 -m pytest tests/e2e
PACKAGES = $(shell awk '/^(build|run|check) / { print $$2 }' packages.list)

.PHONY: all deps build guest check check-slow demo clean

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

# The results are kept as JUnit files; all tests run, whatever fails.
check: build guest
	@mkdir -p $(RESULTS)
	@rm -f $(RESULTS)/meson.xml $(RESULTS)/check.xml $(BUILD)/meson-logs/testlog.junit.xml
	-meson test -C $(BUILD) --print-errorlogs
	@cp $(BUILD)/meson-logs/testlog.junit.xml $(RESULTS)/meson.xml
	-$(PYTEST) -m "not slow" --junit-xml=$(abspath $(RESULTS))/check.xml
	@tests/summary.py $(RESULTS)/meson.xml $(RESULTS)/check.xml

# What takes minutes: accuracy over time, fast readers.
check-slow: build guest
	@mkdir -p $(RESULTS)
	@rm -f $(RESULTS)/check-slow.xml
	-$(PYTEST) -m slow --junit-xml=$(abspath $(RESULTS))/check-slow.xml
	@tests/summary.py $(RESULTS)/check-slow.xml

demo: build guest
	@VIRTJOULE_BUILD=$(abspath $(BUILD)) tests/demo/demo.py

clean:
	rm -rf $(BUILD)
