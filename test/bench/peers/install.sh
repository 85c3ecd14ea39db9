#!/bin/bash
# Installs the servers that mod_tus is measured beside into build/peers, each from its registry.
# What cannot be installed is said, and is then no part of the comparison.
set -u
cd "$(dirname "$0")/../../.." || exit
peers=build/peers

# install NAME TOOL COMMAND...: unless it is there
install() {
    local name=$1 tool=$2 log
    log=$peers/$(basename "$name").log
    shift 2
    command -v "$tool" >/dev/null || { echo "$name is left out: $tool is not installed"; return; }
    echo "Installing $name"
    nice "$@" >"$log" 2>&1 </dev/null || echo "$name is left out: $tool failed, see $log"
}

mkdir -p $peers || exit
[ -e $peers/node_modules/@tus/server ] ||
    install @tus/server npm npm install --prefix $peers --ignore-scripts --no-audit --no-fund \
        @tus/server@2 @tus/file-store@2
[ -x $peers/bin/rustus ] ||
    install rustus cargo cargo install rustus --version '^0.5' --locked --features hashers \
        --root $peers
if [ -z "${TUSD:-}" ]; then
    echo 'tusd is left out: it is in no registry; TUSD=/path/to/tusd adds it'
elif [ ! -x "$TUSD" ]; then
    echo "tusd is left out: $TUSD is not a program"
    exit 1
fi
