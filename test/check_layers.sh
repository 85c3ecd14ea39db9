#!/bin/bash
# Checks that the rings hold: docs/architecture.md says what they are. And that nobody calls what
# allocates from a pool that he does not see.
#
#   test/check_layers.sh          shows on made-up trees that it can fail, then checks this one
#   test/check_layers.sh TREE     checks that tree only
#
# Needs the objects of a build in TREE/build/obj: what calls what is read from their symbols.
set -u

MAX_FRONT_DOOR=200
HTTPD_HEADERS='httpd|http_[a-z]+|ap_[a-z_]+|util_[a-z_]+|mod_(?!tus\b)[a-z_]+|mpm_common|scoreboard|unixd'
INPUT_OUTPUT='apr_(file|dir|socket|pipe|shm|dbm|proc|poll|pollset|global_mutex|proc_mutex)_.*'
INPUT_OUTPUT+='|apr_stat|apr_(sockaddr_info_get|temp_dir_get)'
INPUT_OUTPUT+='|(f?open|openat|creat|p?read|p?write|readv|writev|[fl]?stat|fstatat)(64)?'
INPUT_OUTPUT+='|socket|connect|bind|accept|send|recv|unlink(at)?|rename(at2?)?|mkdir(at)?|fsync|flock'

# From that of what it is given: another thread may be using it.
HIDDEN_POOL='apr_sockaddr_ip_get'

complain()
{
    echo "check_layers: $*"
    bad=1
}

fatal()
{
    echo "check_layers: $*" >&2
    exit 2
}

quoted_includes()
{
    sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"([^"]*)".*/\1/p' "$1"
}

httpd_includes()
{
    grep -oP "^\s*#\s*include\s*[<\"]($HTTPD_HEADERS)\.h[>\"]" "$1"
}

# mod_tus.h <- tus_words.h <- tus_core.h <- tus_httpd.h, and httpd's headers in the last only.
check_headers()
{
    local below=

    for header in mod_tus tus_words tus_core tus_httpd; do
        file=$tree/src/$header.h
        [ -s "$file" ] || fatal "$file is missing"
        includes=$(quoted_includes "$file")
        [ "$includes" = "$below" ] ||
            complain "$header.h includes '$includes'; it is to include '$below' alone"
        if [ $header != tus_httpd ] && httpd_includes "$file" >/dev/null; then
            complain "$header.h includes a header of httpd"
        fi
        below=$header.h
    done
    for file in "$tree"/src/*.h; do
        case ${file##*/} in
        mod_tus.h | tus_words.h | tus_core.h | tus_httpd.h) ;;
        *) complain "${file##*/} is no link of the chain of headers" ;;
        esac
    done
}

is_provider()
{
    case $1 in
    tus_hook_json*) return 1 ;; # what all of them say
    tus_store_* | tus_meta_* | tus_lock_* | tus_hook_*) return 0 ;;
    esac
    return 1
}

# Rings 1 and 2 share a header, whose section titles tell them apart: "ring 2: names (tus_name.c)".
ring_of()
{
    case $2 in
    mod_tus.h | tus_words.h)
        if is_provider "$1"; then
            echo 2
        else
            sed -nE "s,^/\* -+ ring ([12]): .*\($1\.c\).*,\1,p" "$tree/src/tus_words.h"
        fi
        ;;
    tus_core.h) echo 3 ;;
    tus_httpd.h) echo 4 ;;
    esac
}

# Writes "NAME RING IS_PROVIDER" of each source.
check_sources()
{
    for file in "$tree"/src/*.c; do
        name=$(basename "$file" .c)
        includes=$(quoted_includes "$file")
        case $includes in
        mod_tus.h | tus_words.h | tus_core.h | tus_httpd.h) ;;
        *)
            complain "$name.c includes '${includes//$'\n'/ }'; it is to include one of the four headers"
            continue
            ;;
        esac
        ring=$(ring_of "$name" "$includes")
        if [ -z "$ring" ]; then
            complain "tus_words.h has no section for $name.c that tells its ring"
            continue
        fi
        if [ "$ring" -lt 4 ] && httpd_includes "$file" >/dev/null; then
            complain "$name.c is of ring $ring and includes a header of httpd"
        fi
        is_provider "$name" && provider=1 || provider=0
        echo "$name $ring $provider" >>"$work/rings"
    done
    for ring in 1 2 3 4; do
        grep -q "^[^ ]* $ring " "$work/rings" || fatal "no source of ring $ring in $tree/src"
    done
}

check_front_door()
{
    local file=$tree/mod_tus.c lines

    [ -s "$file" ] || fatal "$file is missing"
    lines=$(wc -l <"$file")
    [ "$lines" -lt $MAX_FRONT_DOOR ] ||
        complain "mod_tus.c has $lines lines; it is to have less than $MAX_FRONT_DOOR"
    [ "$(quoted_includes "$file")" = src/tus_httpd.h ] ||
        complain "mod_tus.c is to include src/tus_httpd.h alone"
    echo "mod_tus 5 0" >>"$work/rings"
}

# Writes "NAME SYMBOL TYPE" of each external symbol.
read_symbols()
{
    local name ring provider source object

    while read -r name ring provider; do
        source=$tree/src/$name.c
        object=$tree/build/obj/src/$name.o
        if [ "$name" = mod_tus ]; then
            source=$tree/mod_tus.c
            object=$tree/build/obj/mod_tus.o
        fi
        [ -s "$object" ] || fatal "$object is missing: build first"
        [ ! "$source" -nt "$object" ] || fatal "$object is older than its source: build first"
        nm -P -g "$object" >"$work/nm" || fatal "nm cannot read $object"
        awk -v name="$name" '{ print name, $1, $2 }' "$work/nm" >>"$work/symbols"
    done <"$work/rings"
    grep -q ' U$' "$work/symbols" || fatal "no object of $tree/build/obj uses any symbol"
    grep -q ' tus_[a-z_]* T$' "$work/symbols" || fatal "no object of $tree/build/obj defines a function"
}

# tus_module, the module's handle, is made by the front door and used in all of ring 4.
check_symbols()
{
    awk -v io="^($INPUT_OUTPUT)\$" -v hidden="^($HIDDEN_POOL)\$" '
        pass == 1 { ring[$1] = $2; provider[$1] = $3; next }
        pass == 2 { if ($3 != "U") by[$2] = $1; next }
        $3 != "U" { next }
        {
            user = $1; name = $2
            if (ring[user] == 1 && name ~ io)
                print user ".c is of ring 1, which does no I/O, and uses " name
            if (ring[user] < 4 && name ~ /^ap_/)
                print user ".c is of ring " ring[user] " and uses httpd" "\047" "s " name
            if (name ~ hidden)
                print user ".c uses " name ", which allocates from a pool that may be another thread\047s"
            if (!(name in by) || name == "tus_module" || by[name] == user)
                next
            maker = by[name]
            if (ring[maker] > ring[user])
                print user ".c is of ring " ring[user] " and uses " name \
                      " of " maker ".c, which is of ring " ring[maker]
            if (provider[maker] && ring[user] < 4)
                print user ".c uses " name " of the provider " maker ".c; only ring 4 chooses one"
        }' pass=1 "$work/rings" pass=2 "$work/symbols" pass=3 "$work/symbols" >"$work/wrong"
    while read -r line; do
        complain "$line"
    done <"$work/wrong"
}

check()
{
    tree=$1
    bad=0
    work=$(mktemp -d) || fatal "cannot make a temporary directory"
    trap 'rm -rf "$work"' EXIT
    command -v nm >/dev/null || fatal "nm is missing: install binutils"
    compgen -G "$tree/src/*.c" >/dev/null || fatal "there is no source in $tree/src"
    : >"$work/rings"
    check_headers
    check_sources
    check_front_door
    read_symbols
    check_symbols
    [ $bad = 0 ] || return 1
    echo "check_layers: $(wc -l <"$work/rings") sources, $(grep -c ' U$' "$work/symbols") uses: the rings hold"
}

# ---- the proof that it can fail ---------------------------------------------------------------

source_file()
{
    printf '#include "%s"\n%s\n' "$2" "$3" >"$made/$1"
    sed '/^#include/d' "$made/$1" | ${CC:-cc} -x c -w -c -o "$made/build/obj/${1%.c}.o" - ||
        fatal "cannot compile for the self-test"
}

make_tree()
{
    rm -rf "$made"
    mkdir -p "$made/src" "$made/build/obj/src"
    echo '#include <apr.h>' >"$made/src/mod_tus.h"
    printf '#include "mod_tus.h"\n/* ---- ring 1: words (tus_word.c) --- */\n' >"$made/src/tus_words.h"
    echo '#include "tus_words.h"' >"$made/src/tus_core.h"
    printf '#include "tus_core.h"\n#include <httpd.h>\n' >"$made/src/tus_httpd.h"
    source_file src/tus_word.c tus_words.h 'int tus_word(void) { return 1; }'
    source_file src/tus_store_file.c tus_words.h \
        'int open(); int tus_word(); int tus_store_file(void) { return open() + tus_word(); }'
    source_file src/tus_meta_dbm.c tus_words.h 'int tus_meta_dbm(void) { return 1; }'
    source_file src/tus_deed.c tus_core.h 'int tus_word(); int tus_deed(void) { return tus_word(); }'
    source_file src/tus_v1.c tus_httpd.h 'int tus_deed(); int tus_v1(void) { return tus_deed(); }'
    source_file mod_tus.c src/tus_httpd.h 'int tus_v1(); int tus_module(void) { return tus_v1(); }'
}

# must_fail WORDS: the tree as it is now is refused, for this reason.
must_fail()
{
    if "$0" "$made" >"$made/out" 2>&1; then
        fatal "the self-test expected a failure: $1"
    fi
    grep -q -- "$1" "$made/out" || fatal "the self-test expected '$1', not: $(cat "$made/out")"
    make_tree
}

selftest()
{
    made=$(mktemp -d)/tree || fatal "cannot make a temporary directory"
    trap 'rm -rf "${made%/tree}"' EXIT
    make_tree
    "$0" "$made" >/dev/null || fatal "the self-test's good tree was refused"

    rm "$made"/src/*.c
    must_fail 'there is no source'
    rm "$made/src/tus_deed.c"
    must_fail 'no source of ring 3'
    rm "$made/src/tus_core.h"
    must_fail 'tus_core.h is missing'
    rm "$made/mod_tus.c"
    must_fail 'mod_tus.c is missing'
    rm "$made/build/obj/src/tus_word.o"
    must_fail 'build first'
    touch -d '+1 minute' "$made/src/tus_word.c"
    must_fail 'older than its source'
    : >"$made/src/tus_more.h"
    must_fail 'no link of the chain'
    echo '#include "tus_httpd.h"' >>"$made/src/tus_words.h"
    must_fail 'tus_words.h includes'
    echo '#include <http_log.h>' >>"$made/src/tus_core.h"
    must_fail 'tus_core.h includes a header of httpd'
    echo '#include "tus_core.h"' >>"$made/src/tus_word.c"
    must_fail 'one of the four headers'
    source_file src/tus_stray.c tus_words.h 'int tus_stray(void) { return 1; }'
    must_fail 'no section for tus_stray.c'
    source_file src/tus_deed.c tus_core.h '#include <http_log.h>'
    must_fail 'tus_deed.c is of ring 3 and includes a header of httpd'
    yes '' | head -200 >>"$made/mod_tus.c"
    must_fail 'it is to have less than'
    source_file src/tus_word.c tus_words.h 'int apr_file_open(); int tus_word(void) { return apr_file_open(); }'
    must_fail 'uses apr_file_open'
    source_file src/tus_word.c tus_words.h 'int open(); int tus_word(void) { return open(); }'
    must_fail 'uses open'
    source_file src/tus_deed.c tus_core.h 'int ap_rputs(); int tus_deed(void) { return ap_rputs(); }'
    must_fail "httpd's ap_rputs"
    source_file src/tus_v1.c tus_httpd.h 'int apr_sockaddr_ip_get(); int tus_v1(void) { return apr_sockaddr_ip_get(); }'
    must_fail 'allocates from a pool'
    source_file src/tus_word.c tus_words.h 'int tus_deed(); int tus_word(void) { return tus_deed(); }'
    must_fail 'tus_word.c is of ring 1 and uses tus_deed of tus_deed.c'
    source_file src/tus_v1.c tus_httpd.h 'int tus_other(); int tus_v1(void) { return tus_other(); }'
    source_file mod_tus.c src/tus_httpd.h 'int tus_other(void) { return 1; }'
    must_fail 'tus_v1.c is of ring 4 and uses tus_other of mod_tus.c'
    source_file src/tus_meta_dbm.c tus_words.h 'int tus_store_file(); int tus_meta_dbm(void) { return tus_store_file(); }'
    must_fail 'of the provider tus_store_file.c'
    source_file src/tus_deed.c tus_core.h 'extern int tus_meta_dbm; int *tus_deed(void) { return &tus_meta_dbm; }'
    must_fail 'of the provider tus_meta_dbm.c'
    echo "check_layers: the self-test holds"
}

if [ $# -gt 0 ]; then
    check "$1"
else
    (selftest) || exit 1
    check "$(dirname "$0")/.."
fi
