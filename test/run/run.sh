#!/bin/bash
# Serves the upload page on 127.0.0.1 until Ctrl-C: `make -f Makefile.apxs run [PORT=] [STORE=]`.
# Everything it makes is in a temporary directory and goes when it ends, except the store and the
# server's notes about it, so that the next run knows the uploads of this one.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
PATH=$PATH:/usr/sbin:/sbin
export PORT=${PORT:-8080}
export MOD_TUS_SO=${MOD_TUS_SO:-$PWD/.libs/mod_tus.so}
httpd_pid=
log_pid=

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# httpd's children never run as root.
choose_user() {
    export RUN_USER RUN_GROUP
    RUN_USER=$(id -un) RUN_GROUP=$(id -gn)
    [ "$(id -u)" -eq 0 ] || return
    for RUN_USER in www-data apache; do
        RUN_GROUP=$(id -gn "$RUN_USER" 2>/dev/null) && return
    done
    fail 'There is no user www-data or apache whom httpd could run as.'
}

as_run_user() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid="$RUN_USER" --regid="$RUN_GROUP" --init-groups -- "$@"
    else
        "$@"
    fi
}

# "apache2 (process 4711)", as far as this user may know
port_holder() {
    ss -Hltnp "sport = :$PORT" 2>/dev/null |
        sed -nE 's/.*\(\("([^"]+)",pid=([0-9]+).*/\1 (process \2)/p' | head -n 1
}

check_port() {
    case $PORT in
        *[!0-9]* | '' | ??????*) fail "PORT=$PORT is not a port number (1 to 65535)." ;;
    esac
    [ "$PORT" -ge 1 ] && [ "$PORT" -le 65535 ] || fail "PORT=$PORT is not a port number (1 to 65535)."
    if answers; then
        holder=$(port_holder)
        fail "Port $PORT is taken by ${holder:-another process}." \
             "Choose another one: make -f Makefile.apxs run PORT=$((PORT < 65535 ? PORT + 1 : 8080))"
    fi
}

answers() {
    (: <>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null
}

# Where uploads are kept: build/, or /var/lib/mod_tus-run where httpd's user cannot reach that (a
# checkout in /root).
choose_store() {
    export STORE STATE_DIR
    mkdir -p build || exit
    keep=$PWD/build
    if ! as_run_user test -x "$PWD/build"; then
        keep=/var/lib/mod_tus-run
        mkdir -p "$keep" || exit
    fi
    STATE_DIR=$keep/state-$RUN_USER
    STORE=$(realpath -ms -- "${STORE:-$keep/uploads}")
    case $STORE in
        *[\"\\\$]*) fail "STORE=$STORE: a path with \", \\ or \$ cannot stand in httpd.conf." ;;
    esac
    if [ ! -e "$STORE" ]; then
        mkdir -p -- "$STORE" || fail "STORE=$STORE cannot be made."
        chown "$RUN_USER:$RUN_GROUP" -- "$STORE"
    fi
    [ -d "$STORE" ] || fail "STORE=$STORE is not a directory."
    as_run_user test -w "$STORE" -a -x "$STORE" ||
        fail "STORE=$STORE is not writable for $RUN_USER, as whom httpd runs." \
             "Choose another one with STORE=, or, as root: chown -R $RUN_USER '$STORE'"
}

make_run_dir() {
    export RUN_DIR
    RUN_DIR=$(mktemp -d /tmp/mod_tus-run.XXXXXX) || exit
    chmod 755 "$RUN_DIR"
    mkdir "$RUN_DIR/htdocs"
    cp test/page/*.{html,css,js} node_modules/uppy/dist/uppy.min.{css,mjs} "$RUN_DIR/htdocs/" || exit
    chmod -R a+rX "$RUN_DIR/htdocs"
}

check_configuration() {
    export MODULES
    MODULES=$(apxs -q LIBEXECDIR)
    httpd=("$(apxs -q SBINDIR)/$(apxs -q PROGNAME)" -f "$PWD/test/run/httpd.conf")
    said=$("${httpd[@]}" -t 2>&1) || fail "$said"
}

# In a session of its own: Ctrl-C reaches this script alone, and httpd, which signals its whole
# process group when it stops, nobody else. If this script is killed, httpd still ends.
start() {
    setsid setpriv --pdeathsig TERM "${httpd[@]}" -DFOREGROUND &
    httpd_pid=$!
    until answers; do
        kill -0 "$httpd_pid" 2>/dev/null || fail 'httpd did not start:' "$(cat "$RUN_DIR/error.log" 2>/dev/null)"
        sleep 0.05
    done
    tail -q -n 0 -f "$RUN_DIR/error.log" &
    log_pid=$!
}

stop() {
    [ -z "$httpd_pid" ] || { kill -TERM "$httpd_pid"; wait "$httpd_pid"; } 2>/dev/null
    [ -z "$log_pid" ] || { kill "$log_pid"; wait "$log_pid"; } 2>/dev/null
    [ -z "${RUN_DIR:-}" ] || rm -rf "$RUN_DIR"
}

unset RUN_DIR
trap stop EXIT
# make passes a signal on to a script that may have it already: the first one counts.
trap 'trap "" INT TERM HUP; exit 0' INT TERM HUP

choose_user
check_port
choose_store
make_run_dir
check_configuration
start
cat <<END
Upload page:  http://127.0.0.1:$PORT/  (Ctrl-C stops it)
tus endpoint: http://127.0.0.1:$PORT/files/
Store:        $STORE
END
wait "$httpd_pid"
httpd_pid=
fail 'httpd ended by itself:' "$(tail -n 5 "$RUN_DIR/error.log")"
