#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A fuzz target without a corpus is never replayed, and a parser without a fuzz
# target is never fuzzed. This checks that each fuzz_NAME.c has inputs in
# corpus/NAME, that each corpus has a target, and that each function of rings 1
# and 2 whose name says that it parses or reads is called by a target.
#
# Usage: check_fuzz.sh [DIRECTORY [HEADER]], by default fuzz/ beside this script and src/tus_words.h

set -eu

dir=${1:-$(dirname "$0")/fuzz}
header=${2:-$(dirname "$0")/../src/tus_words.h}
targets=0
missing=0

complain() {
    echo "$1" >&2
    missing=$((missing + 1))
}

for file in "$dir"/fuzz_*.c; do
    name=$(basename "$file" .c)
    name=${name#fuzz_}
    targets=$((targets + 1))
    [ -n "$(find "$dir/corpus/$name" -type f 2>/dev/null)" ] ||
        complain "$file: there is no input in corpus/$name"
done

for corpus in "$dir"/corpus/*; do
    [ -f "$dir/fuzz_$(basename "$corpus").c" ] || complain "$corpus: there is no such target"
done

parsers=$(sed -nE 's/^[a-z].*[ *](tus_[a-z_]*_(parse|read|is_valid))\(.*/\1/p' "$header")
[ -n "$parsers" ] || complain "$header: there are no parsers"
for parser in $parsers; do
    grep -q "$parser(" "$dir"/fuzz_*.c || complain "$header: $parser() is not fuzzed"
done

[ "$missing" -eq 0 ] || exit 1
echo "$targets fuzz targets, all with a corpus"
