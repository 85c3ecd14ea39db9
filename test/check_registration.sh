#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A unit test that is in no suite passes by never running. This checks that
# every START_TEST is added to a test case of its file, and every file's suite
# is in suites.h. A file of what holds for all providers of a kind has
# NAME_conformance() in the place of a suite, which another file calls.
#
# Usage: check_registration.sh [DIRECTORY], by default unit/ beside this script

set -eu

dir=${1:-$(dirname "$0")/unit}
tests=0
missing=0

complain() {
    echo "$1" >&2
    missing=$((missing + 1))
}

[ -r "$dir/suites.h" ] || { echo "$dir/suites.h: cannot be read" >&2; exit 1; }

for file in "$dir"/check_*.c; do
    name=$(basename "$file" .c)
    name=${name#check_}
    [ "$name" = main ] && continue

    if grep -q "^void ${name}_conformance(" "$file"; then
        grep -Eq "^ +${name}_conformance\(" "$dir"/check_*.c \
            || complain "$file: nobody calls ${name}_conformance()"
    else
        grep -Eq "^ *SUITE\($name\)" "$dir/suites.h" \
            || complain "$file: $name is not in suites.h"
    fi

    for test in $(sed -n 's/^START_TEST(\([A-Za-z0-9_]*\)).*/\1/p' "$file"); do
        tests=$((tests + 1))
        grep -Eq "^ *(tcase_add_[a-z_]*test[a-z_]*\([a-z_]+, *|HOLDS(_FOR)?\()$test *[,)]" "$file" \
            || complain "$file: $test is in no suite"
    done
done

[ "$tests" -gt 0 ] || { echo "$dir: there are no tests" >&2; exit 1; }
[ "$missing" -eq 0 ] || exit 1
echo "$tests tests, all in a suite"
