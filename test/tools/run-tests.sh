#!/bin/bash
# run-tests.sh STAGE...: runs these targets of Makefile.apxs one after the other, all of them even
# if one fails. The last line is "N passed, N failed"; exit status 0 only if nothing failed.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit
logs=build/test
passed=0
failed=0

# What a stage's tests say about themselves, as "PASSED FAILED":
#   Check   100%: Checks: 12, Failures: 0, Errors: 0
#   pytest  == 1 failed, 12 passed, 1 error in 3.21s ==
#   replay  fuzz record: 12 passed, 0 failed
#   fuzzer  fuzz record: 123 inputs, no finding; fuzz record: FAILED
#   bench   held by h1   asked for by h2     0.51 ...; bench 1a: One PATCH of 1 GiB ...
#   counts  instructions HEAD, all: 151,086, +0.0%: passed
#   node    ℹ pass 12   ℹ fail 0   ℹ cancelled 0
count() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        /^[0-9]+%: Checks: / { failed += $5 + $7; passed += $3 - $5 - $7 }
        /^fuzz [a-z_]+: [0-9]+ passed, [0-9]+ failed$/ { passed += $3; failed += $5 }
        /^fuzz [a-z_]+: [0-9]+ inputs, no finding$/ { passed++ }
        /^fuzz [a-z_]+: FAILED$/ { failed++ }
        /^held by [a-z0-9]+ +asked for by / { passed++ }
        /^instructions .*: passed$/ { passed++ }
        /^instructions .*: FAILED$/ { failed++ }
        /^bench [0-9]+[a-z]?: / { passed++ }
        /^=+ .* in [0-9.]+s( \(.*\))? =+$/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^(failed|errors?)/) failed += $(i - 1)
            }
        }
        $1 == "ℹ" && $2 == "pass" { passed += $3 }
        $1 == "ℹ" && ($2 == "fail" || $2 == "cancelled") { failed += $3 }
        END { print passed + 0, failed + 0 }'
}

run_stage() {
    local stage=$1 status=0 good bad
    printf '\n==== %s\n' "$stage"
    make -j"$(nproc)" -f Makefile.apxs "$stage" </dev/null 2>&1 | tee "$logs/$stage.log" || status=$?
    read -r good bad < <(count "$logs/$stage.log")
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        echo "$stage failed (exit status $status)"
        bad=1
    elif [ "$stage" != lint ] && [ $((good + bad)) -eq 0 ]; then
        echo "$stage ran no test"
        bad=1
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
}

rm -rf "$logs"
mkdir -p "$logs" || exit
for stage; do
    run_stage "$stage"
done
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
