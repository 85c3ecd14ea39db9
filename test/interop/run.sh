#!/bin/bash
# run.sh [--smoke]: installs the clients that are missing and runs interop.js. With --smoke only
# those that the tests need anyway. TUSD=/path/to/tusd adds the round trip with tusd.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
PATH=$PATH:/usr/sbin:/sbin
built=build/interop

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian's packages that are missing, by what they bring.
install_packages() {
    local missing=()
    command -v javac >/dev/null || missing+=(default-jdk-headless)
    command -v mvn >/dev/null || missing+=(maven)
    /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "Missing: ${missing[*]} (Debian's names)."
    echo "Installing ${missing[*]}"
    as_root apt-get -qq update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
            "${missing[@]}" >/dev/null || fail "Could not be installed: ${missing[*]}"
}

install_tuspy() {
    local wanted=test/interop/tuspy/requirements.txt
    cmp -s "$wanted" "$built/python/installed" && return
    echo 'Installing tuspy'
    rm -rf "$built/python"
    /usr/bin/python3 -m venv "$built/python" &&
        "$built/python/bin/pip" install -q --disable-pip-version-check -r "$wanted" &&
        cp "$wanted" "$built/python/installed" || fail 'tuspy could not be installed.'
}

build_java_client() {
    local said
    echo 'Building the client of tus-java-client'
    said=$(mvn -q -B -f test/interop/java/pom.xml compile dependency:copy-dependencies 2>&1) ||
        fail "$said" 'tus-java-client could not be installed.'
}

if [ "${1:-}" != --smoke ]; then
    mkdir -p "$built" || exit
    install_packages
    install_tuspy
    build_java_client
fi
exec node test/interop/interop.js "$@"
