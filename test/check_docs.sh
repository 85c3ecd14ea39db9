#!/bin/bash
# Checks that directives, their merge and its test, docs/directives.md and conf/tus.conf speak of
# the same.
#
#   test/check_docs.sh          shows on damaged copies that it can fail, then checks this tree
#   test/check_docs.sh TREE     checks that tree only
set -u

FIELDS='Description Syntax Default Context'
# Members of tus_settings_t that follow from others and have no directive.
DERIVED='max_size_htaccess expire_htaccess keeps_expiration sections'
KINDS='SETTING|ADDING|AP_INIT_\w+'

complain()
{
    echo "check_docs: $*"
    bad=1
}

fatal()
{
    echo "check_docs: $*" >&2
    exit 2
}

# One row a line: KIND("NAME", ... CONTEXT, ...
command_rows()
{
    sed -n '/^const command_rec tus_config_commands/,/^};/p' "$1" | tr '\n' ' ' |
        grep -oP "($KINDS)\(\"Tus\w+\".*?(?=($KINDS)\(|\{ *NULL)"
}

directive_of()
{
    sed -E 's/^[A-Z0-9_]+\("([^"]*)".*/\1/' <<<"$1"
}

# The Context line that a row asks for.
context_of()
{
    case $1 in
    *IN_HTACCESS*) echo 'server config, virtual host, directory, .htaccess' ;;
    *IN_DIRECTORY*) echo 'server config, virtual host, directory' ;;
    *IN_SERVER*) echo 'server config' ;;
    *) return 1 ;;
    esac
}

# The part of docs/directives.md under a directive's heading.
section()
{
    awk -v heading="## $1" '/^## / { on = $0 == heading } on' "$docs"
}

field()
{
    sed -nE "s/^- \*\*$1:\*\* +(.+)$/\1/p"
}

check_section()
{
    local name=$1 context=$2 text syntax name_of_field

    text=$(section "$name")
    if [ -z "$text" ]; then
        complain "$name is not in docs/directives.md"
        return
    fi
    for name_of_field in $FIELDS; do
        [ -n "$(field "$name_of_field" <<<"$text")" ] ||
            complain "$name has no $name_of_field in docs/directives.md"
    done
    syntax=$(field Syntax <<<"$text")
    [[ $syntax == "\`$name "* ]] || complain "$name: its Syntax in docs/directives.md is $syntax"
    [ "$(field Context <<<"$text")" = "$context" ] ||
        complain "$name: its Context in docs/directives.md is not '$context'"
    if [[ $context == *.htaccess ]]; then
        [ "$(field Override <<<"$text")" = FileInfo ] ||
            complain "$name: its Override in docs/directives.md is not FileInfo"
    elif [ -n "$(field Override <<<"$text")" ]; then
        complain "$name has an Override in docs/directives.md, but cannot be in an .htaccess"
    fi
    grep -q '^```' <<<"$text" || complain "$name has no example in docs/directives.md"
}

check_conf()
{
    grep -qE "^# Syntax: +$1 " "$conf" || complain "$1 has no '# Syntax:' line in conf/tus.conf"
    awk -v name="$1" '
        $0 ~ "^# Syntax: +" name " " { on = 1 }
        on && /^# Default: / { found = 1 }
        on && /^$/ { exit }
        END { exit !found }' "$conf" || complain "$1 has no '# Default:' line in conf/tus.conf"
    grep -qE "^[[:space:]]*#?[[:space:]]*$1 " <(grep -v '^# [SD]' "$conf") ||
        complain "$1 is not in conf/tus.conf"
}

# A setting is merged by being a row of SETTING or ADDING; what holds for the server as a whole
# needs no merge.
check_merge()
{
    local name

    name=$(directive_of "$1")
    case $1 in
    SETTING* | ADDING*)
        grep -q "^    Row('$name'," "$merge" || complain "$name has no Row in test_merge.py"
        ;;
    *IN_SERVER*) ;;
    *) complain "$name is not merged: it is no SETTING in src/tus_config.c" ;;
    esac
}

check_members()
{
    local members member

    members=$(sed -n '/^typedef struct tus_settings_t/,/^}/p' "$header" |
        sed -nE 's/^ +[A-Za-z_][^;]*[ *]([a-z_]+);.*/\1/p')
    [ -n "$members" ] || fatal "$header has no members of tus_settings_t"
    for member in $members; do
        [[ " $DERIVED " == *" $member "* ]] && continue
        grep -qE "^(SETTING|ADDING)\(\"Tus[A-Za-z]+\", $member," <<<"$rows" ||
            complain "tus_settings_t.$member is set and merged by no directive"
    done
}

# Nothing is promised that is not there.
check_inventions()
{
    local file word

    for file in "$docs" "$conf" "$tree"/README.md "$tree"/CHANGES.md "$tree"/docs/*.md; do
        for word in $(grep -oP '(?<![\w-])Tus[A-Z][A-Za-z]*(?![\w-])' "$file" | sort -u); do
            grep -qx "$word" <<<"$names" ||
                complain "${file#"$tree"/} speaks of $word, which is no directive"
        done
    done
}

check()
{
    tree=$1
    bad=0
    config=$tree/src/tus_config.c
    header=$tree/src/tus_httpd.h
    docs=$tree/docs/directives.md
    conf=$tree/conf/tus.conf
    merge=$tree/test/integration/test_merge.py
    for file in "$config" "$header" "$docs" "$conf" "$merge" "$tree/README.md" "$tree/CHANGES.md"; do
        [ -s "$file" ] || fatal "$file is missing"
    done
    rows=$(command_rows "$config")
    [ -n "$rows" ] || fatal "$config has no table of directives that can be read"
    names=$(while read -r row; do directive_of "$row"; done <<<"$rows")
    [ "$(wc -l <<<"$rows")" = "$(sed -n '/^const command_rec tus_config_commands/,/^};/p' "$config" |
        grep -oE '"Tus[A-Za-z]+"' | wc -l)" ] || fatal "$config has a directive that cannot be read"

    while read -r row; do
        name=$(directive_of "$row")
        context=$(context_of "$row") || fatal "$name has no context that can be read"
        check_merge "$row"
        check_section "$name" "$context"
        check_conf "$name"
    done <<<"$rows"
    check_members
    check_inventions
    [ $bad = 0 ] || return 1
    echo "check_docs: $(wc -l <<<"$names") directives are documented, configured and merged"
}

# ---- the proof that it can fail ---------------------------------------------------------------

make_copy()
{
    rm -rf "$made"
    mkdir -p "$made/src" "$made/test/integration"
    cp "$from/src/tus_config.c" "$from/src/tus_httpd.h" "$made/src/"
    cp "$from/test/integration/test_merge.py" "$made/test/integration/"
    cp -r "$from/docs" "$from/conf" "$from/README.md" "$from/CHANGES.md" "$made/"
}

# must_fail WORDS: the copy as it is now is refused, for this reason.
must_fail()
{
    if "$0" "$made" >"$made/out" 2>&1; then
        fatal "the self-test expected a failure: $1"
    fi
    grep -q -- "$1" "$made/out" || fatal "the self-test expected '$1', not: $(cat "$made/out")"
    make_copy
}

selftest()
{
    from=$1
    made=$(mktemp -d)/tree || fatal "cannot make a temporary directory"
    trap 'rm -rf "${made%/tree}"' EXIT
    make_copy

    for file in src/tus_config.c src/tus_httpd.h docs/directives.md conf/tus.conf README.md \
        test/integration/test_merge.py; do
        : >"$made/$file"
        must_fail "$file is missing"
    done
    sed -i 's/^const command_rec tus_config_commands/const command_rec other/' "$made/src/tus_config.c"
    must_fail 'no table of directives'
    sed -i 's/SETTING("TusSync", sync,/("TusSync", sync,/' "$made/src/tus_config.c"
    must_fail 'cannot be read'
    sed -i 's/SETTING("TusSync", sync,/AP_INIT_TAKE_ARGV("TusSync",/' "$made/src/tus_config.c"
    must_fail 'TusSync is not merged'
    sed -i '/^    Row(.TusSync.,/d' "$made/test/integration/test_merge.py"
    must_fail 'TusSync has no Row'
    sed -i "/^    Row('TusExtensions',/d" "$made/test/integration/test_merge.py"
    must_fail 'TusExtensions has no Row'
    sed -i 's/^typedef struct tus_settings_t {/&\n    int forgotten;/' "$made/src/tus_httpd.h"
    must_fail 'tus_settings_t.forgotten'
    sed -i 's/^## TusSync$/## Something/' "$made/docs/directives.md"
    must_fail 'TusSync is not in docs'
    for name in $FIELDS; do
        sed -i "/^## TusSync\$/,/^\`\`\`/{/\*\*$name:/d}" "$made/docs/directives.md"
        must_fail "TusSync has no $name"
    done
    sed -i '/^## TusSync$/,/^```/{s/, \.htaccess//}' "$made/docs/directives.md"
    must_fail 'TusSync: its Context'
    sed -i '/^## TusSync$/,/^```/{/\*\*Override:/d}' "$made/docs/directives.md"
    must_fail 'TusSync: its Override'
    sed -i '/^## TusSync$/,/^## /{s/^```.*//}' "$made/docs/directives.md"
    must_fail 'TusSync has no example'
    sed -i '/TusSync/d' "$made/conf/tus.conf"
    must_fail "TusSync has no '# Syntax:'"
    sed -i '/^# Syntax: *TusSync/,/^$/{/^# Default:/d}' "$made/conf/tus.conf"
    must_fail "TusSync has no '# Default:'"
    sed -i '/^#TusSync/d' "$made/conf/tus.conf"
    must_fail 'TusSync is not in conf'
    echo 'Some day there will be TusTeleport.' >>"$made/README.md"
    must_fail 'README.md speaks of TusTeleport'
    echo "check_docs: the self-test holds"
}

if [ $# -gt 0 ]; then
    check "$1"
else
    root=$(dirname "$0")/..
    (selftest "$root") && check "$root"
fi
