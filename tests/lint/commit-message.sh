#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A commit has a subject of at most 72 characters, an empty line, and a body that says why. Git
# writes the messages of merges and of what is to be squashed; those may be as they are.
#
#     commit-message.sh FILE              a message, as the hook commit-msg gets it
#     commit-message.sh --commits RANGE   those of all commits of a range
#     commit-message.sh --test            the check itself
set -eu
export LC_ALL=C.UTF-8

# check: of the message on its input; prints what is wrong with it
check() {
    grep -v '^#' | awk '
        NR == 1 { subject = $0 }
        NR == 2 { second = $0 }
        NR > 2 && !/^[A-Z][A-Za-z-]*: / && /[^ ]/ { body = 1 }
        END {
            if (subject ~ /^(Merge |Revert "|fixup! |squash! |amend! )/)
                exit 0
            if (subject == "")
                problem = "no subject"
            else if (length(subject) > 72)
                problem = "a subject of more than 72 characters"
            else if (second != "")
                problem = "no empty line after the subject"
            else if (!body)
                problem = "no body that says why"
            if (problem)
                print problem ": " subject
            exit problem != ""
        }'
}

# expect PROBLEM TEXT: no problem if empty
expect() {
    found=$(printf %b "$2" | check || :)
    case $found in
    "$1" | "${1:-none}: "*) ;;
    *)
        echo "'$2' gives '$found' instead of '$1'"
        exit 1
        ;;
    esac
}

case $1 in
--test)
    long=$(printf '%073d' 0)
    expect '' 'Add a\n\nSince b.\n'
    expect '' 'Add a\n# Please enter\n\nSince b.\n\nSigned-off-by: C <c@example.org>\n'
    expect '' "Merge branch 'b'\n"
    expect '' 'fixup! Add a\n'
    expect 'no subject' '# Please enter\n'
    expect 'no body that says why' 'Add a\n'
    expect 'no body that says why' 'Add a\n\n# Please enter\n'
    expect 'no body that says why' 'Add a\n\nSigned-off-by: C <c@example.org>\n'
    expect 'no empty line after the subject' 'Add a\nsince b\n'
    expect 'a subject of more than 72 characters' "$long\n\nSince b.\n"
    ;;
--commits)
    wrong=0
    for commit in $(git rev-list "$2"); do
        git log -1 --format=%B "$commit" | check || wrong=1
    done
    exit $wrong
    ;;
*)
    check <"$1"
    ;;
esac
