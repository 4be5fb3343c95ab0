# SPDX-License-Identifier: LGPL-2.1-or-later
"""What escapes.c prints: each of its attempts, and how it ended."""

# Even root may not.
FOR_NOBODY = "define a domain over the read-only socket"
# What libvirt says to whoever may not; without a polkit that it could ask it refuses as well. For
# root it may fail to find out, on a busy machine, what QEMU can.
DEFINE = "define a domain"
DENIED = ("authentication unavailable", "authentication failed", "access denied",
          "Unable to get system bus connection")
# Each of these ends so for whoever lacks the right; anything else means that it was not tried.
REFUSALS = ("Operation not permitted", "Permission denied", "Read-only file system")


def parse(text):
    """{attempt: how it ended}"""
    return dict(line.split(": ", 1) for line in text.splitlines())


def check_all_done(text):
    """By root: each attempt can succeed."""
    results = parse(text)
    not_done = {name for name, result in results.items() if result != "done"} - {DEFINE}
    assert not_done == {FOR_NOBODY}, text
    assert not any(reason in results[DEFINE] for reason in DENIED), text


def check_all_refused(text):
    results = parse(text)
    assert len(results) >= 14, text
    assert any(reason in results[DEFINE] for reason in DENIED), text
    assert all(result.endswith(REFUSALS) for result in results.values()), text
