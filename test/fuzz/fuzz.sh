#!/bin/bash
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# fuzz.sh SECONDS NAME...: runs these fuzz targets one after the other, each for so
# long. What they learn goes to build/fuzz/corpus/NAME, an input that fails to
# build/fuzz/crashes. Exit status 0 only if none did.
set -u
cd "$(dirname "$0")/../.." || exit
seconds=$1
shift
crashes=build/fuzz/crashes
failed=0

# A target that fails leaves its files.
export TMPDIR
TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" tus-fuzz-XXXXXX) || exit
trap 'rm -rf "$TMPDIR"' EXIT

# Seconds for one input, and MiB in all: what needs more hangs or leaks.
limits=(-timeout=10 -rss_limit_mb=2048)

run() {
    local name=$1 log=build/fuzz/$1.log

    mkdir -p "build/fuzz/corpus/$name" $crashes || exit
    if build/fuzz/"fuzz_$name" "${limits[@]}" -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$crashes/$name-" "build/fuzz/corpus/$name" "test/fuzz/corpus/$name" \
        >"$log" 2>&1 </dev/null; then
        echo "fuzz $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, no finding"
        return
    fi
    failed=1
    echo "fuzz $name: FAILED"
    grep -E '^(test/fuzz/.*does not hold|==[0-9]+==ERROR|SUMMARY|.*runtime error)' "$log"
    sed -n 's/^.*Test unit written to /    /p' "$log"
    echo "    $log"
}

for name; do
    run "$name"
done
exit $failed
