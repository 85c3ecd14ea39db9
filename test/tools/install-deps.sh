#!/bin/bash
# install-deps.sh run|test|bench: installs what is missing, on Debian and Ubuntu; touches nothing
# when nothing is missing.
set -u
cd "$(dirname "$0")/../.." || exit
PATH=$PATH:/usr/sbin:/sbin
purpose=$1
missing=()

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }
has_any() { for tool; do has "$tool" && return; done; return 1; }
has_header() { echo "#include <$1>" | gcc -E -x c - >/dev/null 2>&1; }
has_sanitizers() { echo 'int main(void) { return 0; }' | clang -fsanitize=thread -x c -o /dev/null - 2>/dev/null; }
has_python() { /usr/bin/python3 -c "import $1" 2>/dev/null; }
has_node() { has npm && node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)' 2>/dev/null; }
has_php_fpm() { compgen -G '/usr/sbin/php-fpm*' >/dev/null; }
has_mod_php() { compgen -G "$(apxs -q LIBEXECDIR)/libphp*.so" >/dev/null; }
has_browser() { node test/e2e/lib/browser.js >/dev/null 2>&1; }

# need PACKAGE TEST...: the package is missing when the test fails
need() {
    local package=$1
    shift
    "$@" || missing+=("$package")
}

list_missing() {
    missing=()
    # apache2-bin and not apache2: no server that starts on port 80.
    need apache2-bin has_any apache2 httpd
    need apache2-dev has apxs
    need gcc has gcc
    need libc6-dev has_header stdlib.h
    need libcurl4-openssl-dev has_header curl/curl.h
    need libisal-dev has_header isa-l/crc.h
    need libjansson-dev has_header jansson.h
    need libssl-dev has_header openssl/evp.h
    need nodejs has_node
    need npm has_node
    [ "$purpose" = run ] && return
    need check has_header check.h
    need clang has clang
    need clang-format has clang-format
    need curl has curl
    need iproute2 has ss
    need libclang-rt-dev has_sanitizers
    need nghttp2-client has nghttp
    need nginx-light has nginx
    need openssl has openssl
    need php-fpm has_php_fpm
    need libapache2-mod-php has_mod_php
    need procps has ps
    need prometheus has promtool
    need python3-h2 has_python h2
    need python3-pytest has_python pytest
    need python3-pytest-xdist has_python xdist
    need valgrind has valgrind
    [ "$purpose" = test ] && return
    need cargo has cargo
    need strace has strace
    need xfsprogs has mkfs.xfs
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# may_install PACKAGE...: says what to do where this script cannot
may_install() {
    has apt-get || fail "Missing: $* (Debian's names). Without apt-get they have to be installed by hand."
    [ "$(id -u)" -eq 0 ] || has sudo ||
        fail "Missing, and without sudo only root can install it: apt-get install $*"
}

# nginx, php-fpm and prometheus would start services; a policy-rc.d that says 101 forbids it for
# the moment.
forbid_services() {
    [ -e /usr/sbin/policy-rc.d ] && return
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod 755 /usr/sbin/policy-rc.d
}

# Says something only if it fails.
apt_get() {
    local said
    said=$(as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -qq "$@" 2>&1 </dev/null) ||
        { printf '%s\n' "$said" | tail -n 20 >&2; return 1; }
}

apt_install() {
    echo "Installing $*"
    forbid_services
    apt_get update && apt_get install -y --no-install-recommends "$@"
}

install_packages() {
    list_missing
    [ ${#missing[@]} -eq 0 ] && return
    may_install "${missing[@]}"
    apt_install "${missing[@]}" ca-certificates
    list_missing
    [ ${#missing[@]} -eq 0 ] || fail "Could not be installed: ${missing[*]}"
}

# Node packages, once per package-lock.json; `run` needs only those of the page.
install_node_packages() {
    local lock omit=()
    lock=$(cksum <package-lock.json)
    [ "$(cat node_modules/.installed-test 2>/dev/null)" = "$lock" ] && return
    if [ "$purpose" = run ]; then
        [ "$(cat node_modules/.installed-run 2>/dev/null)" = "$lock" ] && return
        omit=(--omit=dev)
    fi
    echo 'Installing the packages of package.json'
    npm ci --ignore-scripts --loglevel=error "${omit[@]}" </dev/null ||
        fail 'The packages of package.json could not be installed: npm ci failed.'
    echo "$lock" >"node_modules/.installed-$purpose"
}

# Ubuntu has Chromium as a snap only; there Playwright brings its own.
install_browser() {
    has_browser && return
    may_install chromium
    if apt_get update && apt-cache policy chromium | grep -q 'Candidate: [0-9]'; then
        apt_install chromium
    else
        echo 'Installing chromium by Playwright'
        node_modules/.bin/playwright-core install --with-deps chromium
    fi
    has_browser || fail 'Could not be installed: chromium'
}

install_packages
[ "$purpose" = bench ] && exit
install_node_packages
[ "$purpose" = run ] && exit
install_browser
