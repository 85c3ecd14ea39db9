/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz"

/* Through a copy that ends with its memory. */
static const char *parse(tus_target_t *target, const char *text)
{
    char *copy = exact_copy(text, strlen(text) + 1);
    const char *wrong = tus_target_parse(target, copy, unit_pool);

    free(copy);
    return wrong;
}

static void assert_same(const char *said, const char *wanted, const char *of)
{
    ck_assert_msg(wanted ? said && strcmp(said, wanted) == 0 : !said, "%s: %s, not %s", of,
                  said ? said : "nothing", wanted ? wanted : "nothing");
}

/* ---- targets ----------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *url;
    const char *origin;
    const char *socket;
} targets[] = {
    { "http://a", "http://a/", "http://a:80", NULL },
    { "http://a/", "http://a/", "http://a:80", NULL },
    { "https://a/b/c?d=e&f=/g", "https://a/b/c?d=e&f=/g", "https://a:443", NULL },
    { "http://a?b", "http://a/?b", "http://a:80", NULL },
    { "http://a:9000?b", "http://a:9000/?b", "http://a:9000", NULL },
    { "HTTPS://Hooks.Example:8443/In", "https://hooks.example:8443/In",
      "https://hooks.example:8443", NULL },
    { "http://a:80/", "http://a/", "http://a:80", NULL },
    { "http://a:443/", "http://a:443/", "http://a:443", NULL },
    { "https://a:443/", "https://a/", "https://a:443", NULL },
    { "https://a:80/", "https://a:80/", "https://a:80", NULL },
    { "http://a:00080/", "http://a/", "http://a:80", NULL },
    { "http://a:1/", "http://a:1/", "http://a:1", NULL },
    { "http://a:65535/", "http://a:65535/", "http://a:65535", NULL },
    { "http://my_service:9000/", "http://my_service:9000/", "http://my_service:9000", NULL },
    { "http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/",
      "http://xn--bcher-kva.example:80", NULL },
    { "http://3com.example1/", "http://3com.example1/", "http://3com.example1:80", NULL },
    { "http://0x7g/", "http://0x7g/", "http://0x7g:80", NULL },
    { "http://1.2.3.4a/", "http://1.2.3.4a/", "http://1.2.3.4a:80", NULL },
    { "http://127.0.0.1:9000/hook", "http://127.0.0.1:9000/hook", "http://127.0.0.1:9000", NULL },
    { "http://[::1]/", "http://[::1]/", "http://[::1]:80", NULL },
    { "http://[0:0:0:0:0:0:0:1]:8080/", "http://[::1]:8080/", "http://[::1]:8080", NULL },
    { "http://[2001:DB8:0::A]/", "http://[2001:db8::a]/", "http://[2001:db8::a]:80", NULL },
    { "http://[::FFFF:127.0.0.1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:127.0.0.1]:80",
      NULL },
    { "http://a//b/", "http://a//b/", "http://a:80", NULL },
    { "http://a/.../..b/.c/d./e..", "http://a/.../..b/.c/d./e..", "http://a:80", NULL },
    { "http://a/%41%7e;x=1,2/b:c@d!$&'()*+=~", "http://a/%41%7e;x=1,2/b:c@d!$&'()*+=~",
      "http://a:80", NULL },
    { "http://a/b?c[]=1&d=..&e=/../&f=%2F%00", "http://a/b?c[]=1&d=..&e=/../&f=%2F%00",
      "http://a:80", NULL },
    { "/hook.php", "/hook.php", NULL, NULL },
    { "/", "/", NULL, NULL },
    { "/a/b.php?c=d", "/a/b.php?c=d", NULL, NULL },
    { "/a//b", "/a//b", NULL, NULL },
    { "unix:/run/app.sock|http://localhost/path", "http://localhost/path", "http://localhost:80",
      "/run/app.sock" },
    { "UNIX:/a b|HTTPS://A", "https://a/", "https://a:443", "/a b" },
};

START_TEST(target_is_read)
{
    tus_target_t target = { "unset", "unset", "unset" };

    assert_same(parse(&target, targets[_i].text), NULL, targets[_i].text);
    assert_same(target.url, targets[_i].url, targets[_i].text);
    assert_same(target.origin, targets[_i].origin, targets[_i].text);
    assert_same(target.socket, targets[_i].socket, targets[_i].text);
}
END_TEST

/* What is read is read the same again. */
START_TEST(target_stays_what_it_is)
{
    tus_target_t target, again;

    ck_assert_ptr_null(parse(&target, targets[_i].text));
    ck_assert_ptr_null(parse(&again, target.url));
    assert_same(again.url, target.url, targets[_i].text);
    assert_same(again.origin, target.origin, targets[_i].text);
}
END_TEST

static const char *const no_targets[] = {
    /* schemes */
    "",
    "a",
    "hook.php",
    "./hook.php",
    "ftp://a/",
    "file:///etc/passwd",
    "gopher://a/",
    "javascript:1",
    "http:",
    "http:/",
    "http:a",
    "http:/a",
    "//a/",
    "//",
    "///",
    " http://a/",
    "http ://a/",
    "https:\\\\a\\",
    "\thttp://a/",
    "h%74tp://a/",
    /* hosts */
    "http://",
    "https:///",
    "http:///path",
    "http://:80/",
    "http://?a",
    "http://.",
    "http://.a/",
    "http://a./",
    "http://a..b/",
    "http://-a/",
    "http://_a/",
    "http://a b/",
    "http://a\tb/",
    "http://a\r\nX: y/",
    "http://a\x01/",
    "http://a\x7f/",
    "http://a\\b/",
    "http://a%2eb/",
    "http://%61/",
    "http://a%00/",
    "http://b\xc3\xbc/",
    "http://\xef\xbc\xa1/",
    "http://a,b/",
    "http://a;b/",
    "http://a|b/",
    "http://a\"/",
    "http://<a>/",
    "http://a&b/",
    "http://a*/",
    /* user information */
    "http://user@a/",
    "http://user:password@a/",
    "http://a@/",
    "http://@a/",
    "http://a:80@b/",
    "http://a@b@c/",
    "http://good.example@127.0.0.1/",
    "http://good.example%40127.0.0.1/",
    "http://[::1]@a/",
    /* IPv4 in other ways */
    "http://0/",
    "http://1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0X7F.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.0x1/",
    "http://127.0.0.1./",
    "http://0x/",
    "http://127.0.0/",
    "http://256.0.0.1/",
    "http://1.2.3.4.5/",
    "http://127.0.0.999/",
    "http://a.1/",
    "http://a.0x7f/",
    "http://017700000001/",
    "http://00000000177.0.0.1/",
    "http://999999999999999999999/",
    /* IPv6 */
    "http://::1/",
    "http://[::1/",
    "http://[]/",
    "http://[",
    "http://[::1]x/",
    "http://[::1].a/",
    "http://[127.0.0.1]/",
    "http://[a]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1]]/",
    "http://[[::1]]/",
    "http://[ ::1]/",
    "http://[1::2::3]/",
    "http://[v1.a]/",
    "http://[::127.1]/",
    "http://a[::1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0000000000000001]/",
    /* ports */
    "http://a:/",
    "http://a:0/",
    "http://a:00/",
    "http://a:65536/",
    "http://a:4294967376/",
    "http://a:18446744073709551696/",
    "http://a:-1/",
    "http://a:+80/",
    "http://a: 80/",
    "http://a:80 /",
    "http://a:80x/",
    "http://a:0x50/",
    "http://a:http/",
    "http://a:80:80/",
    "http://[::1]:/",
    "http://[::1]:0/",
    "http://[::1]80/",
    /* paths and queries */
    "http://a/#b",
    "http://a#b",
    "http://a?#",
    "/a#b",
    "http://a/b c",
    "http://a/b\tc",
    "http://a/b\r\nc",
    "http://a/\x01",
    "http://a/\x7f",
    "http://a/\xc3\xbc",
    "http://a/b\\c",
    "http://a/<b>",
    "http://a/\"",
    "http://a/^",
    "http://a/`",
    "http://a/{b}",
    "http://a/b|c",
    "http://a/[b]",
    "http://a/%",
    "http://a/%4",
    "http://a/%4g",
    "http://a/%%41",
    "http://a?%zz",
    "http://a?b c",
    "http://a?\\",
    "http://a/?\x7f",
    "/a b",
    "/a\nb",
    "/\\b",
    "/a\\..\\b",
    /* dot segments, and what may be taken for such */
    "http://a/.",
    "http://a/..",
    "http://a/b/../c",
    "http://a/b/./c",
    "http://a/../",
    "/../a",
    "/a/..",
    "/.",
    "/a/%2e%2e/b",
    "/a/%2E/b",
    "/a/.%2e",
    "/a/%2e./",
    "/a/..;x=1/b",
    "/a/..;",
    "/a/%2e%2e;/b",
    "/a/..%3bx/b",
    "/a/..%2fb",
    "/a/..%2Fb",
    "/a%2fb",
    "/a/..%5cb",
    "/a%5Cb",
    "/a%00",
    "/a%0ab",
    "/a%7f",
    "http://a/in/..?/x",
    /* sockets */
    "unix:",
    "unix:/run/a.sock",
    "unix:|http://a/",
    "unix:a|http://a/",
    "unix:./a|http://a/",
    "unix:/a|",
    "unix:/a|/path",
    "unix:/a|a",
    "unix:/a|ftp://a/",
    "unix:/a|fcgi://a/",
    "unix:/a|unix:/b|http://a/",
    "unix:/a||http://a/",
    "unix:/a\n|http://a/",
    "unix:/a\x7f|http://a/",
    "unix:/a|http://u@a/",
    "unix://a/b",
    "unix:/a|http://127.1/",
};

START_TEST(no_target_is_refused)
{
    tus_target_t target;
    const char *wrong = parse(&target, no_targets[_i]);

    ck_assert_msg(wrong && *wrong, "%s is %s", no_targets[_i], target.url);
    ck_assert_int_eq(wrong[strcspn(wrong, "\r\n%")], '\0');
}
END_TEST

START_TEST(names_are_bounded)
{
    const char *host = LABEL "." LABEL "." LABEL ".";
    tus_target_t target;

    ck_assert_ptr_null(parse(&target, "http://" LABEL "/"));
    ck_assert_ptr_nonnull(parse(&target, "http://" LABEL "a/"));
    ck_assert_ptr_null(
        parse(&target, apr_psprintf(unit_pool, "https://%s%.61s:65535/", host, LABEL)));
    ck_assert_uint_eq(strlen(target.origin), strlen("https://") + 253 + strlen(":65535"));
    ck_assert_ptr_nonnull(parse(&target, apr_psprintf(unit_pool, "https://%s%.62s", host, LABEL)));
}
END_TEST

START_TEST(socket_is_bounded)
{
    char path[109];
    tus_target_t target;

    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[107] = '\0';
    ck_assert_ptr_null(parse(&target, apr_pstrcat(unit_pool, "unix:", path, "|http://a/", NULL)));
    ck_assert_str_eq(target.socket, path);
    path[107] = 'a';
    path[108] = '\0';
    ck_assert_ptr_nonnull(
        parse(&target, apr_pstrcat(unit_pool, "unix:", path, "|http://a/", NULL)));
}
END_TEST

/* Quadratic work on any of these would run into Check's timeout. */
static const char *const repeated[] = { "a", ".a", "/.", "%41", "/a;", "?", "[", "1.", "@" };

START_TEST(two_megabytes)
{
    const apr_size_t size = 2 << 20;
    static const char *const starts[] = { "http://", "http://a/", "/", "unix:/" };

    for (int i = 0; i < COUNT(starts); i++) {
        apr_size_t start = strlen(starts[i]), step = strlen(repeated[_i]), len;
        char *text = apr_palloc(unit_pool, start + size + step + 1);
        tus_target_t target;

        memcpy(text, starts[i], start);
        for (len = 0; len < size; len += step) {
            memcpy(text + start + len, repeated[_i], step);
        }
        text[start + len] = '\0';
        if (!tus_target_parse(&target, text, unit_pool)) {
            ck_assert_uint_ge(strlen(target.url), size);
            ck_assert(!tus_target_check_prefix(text) == (i != 2 && !strchr(text, '?')));
        }
        ck_assert(tus_target_is_private(text));
    }
}
END_TEST

/* ---- prefixes ----------------------------------------------------------------- */

static const struct {
    const char *prefix;
    const char *text;
    int is_allowed;
    int is_public;
} prefixes[] = {
    /* by origin */
    { "https://a", "https://a/x", 1, 0 },
    { "https://a", "https://a", 1, 0 },
    { "HTTPS://A", "https://a/x", 1, 0 },
    { "https://a:443", "https://a/x", 1, 0 },
    { "https://a", "https://a:443/x", 1, 0 },
    { "https://a:8443", "https://a:8443/x", 1, 0 },
    { "https://a:8443", "https://a/x", 0, 0 },
    { "https://a", "https://a:8443/x", 0, 0 },
    { "https://a", "http://a:443/x", 0, 0 },
    { "http://a", "https://a:80/x", 0, 0 },
    { "https://a", "https://a.evil.example/", 0, 0 },
    { "https://a", "https://ab/", 0, 0 },
    { "https://a:80", "https://a:8080/", 0, 0 },
    { "https://good.example", "https://evil.example/good.example", 0, 0 },
    { "https://good.example/", "https://good.example?x", 1, 0 },
    { "http://127.0.0.1:9000", "http://127.0.0.1:9000/x", 1, 0 },
    { "http://127.0.0.1", "http://[::ffff:127.0.0.1]/", 0, 0 },
    { "http://[::1]", "http://[0:0::1]:80/x", 1, 0 },
    { "http://[0::1]/", "http://[::1]/x", 1, 0 },
    /* by path */
    { "https://a/in/", "https://a/in/x", 1, 0 },
    { "https://a/in/", "https://a/in/x/y?z", 1, 0 },
    { "https://a/in/", "https://a/in/", 1, 0 },
    { "https://a/in/", "https://a/in/?x", 1, 0 },
    { "https://a/in/", "https://a/in//x", 1, 0 },
    { "https://a/in/", "https://a/in", 0, 0 },
    { "https://a/in/", "https://a/inside/x", 0, 0 },
    { "https://a/in/", "https://a/", 0, 0 },
    { "https://a/in/", "https://a/IN/x", 0, 0 },
    { "https://a/in/", "https://a//in/x", 0, 0 },
    { "https://a/in/", "https://a/?/in/", 0, 0 },
    { "https://a/in", "https://a/in", 1, 0 },
    { "https://a/in", "https://a/in?x", 1, 0 },
    { "https://a/in", "https://a/in/x", 1, 0 },
    { "https://a/in", "https://a/inside", 0, 0 },
    { "https://a/in", "https://a/in;x", 0, 0 },
    { "https://a/in", "https://a/i", 0, 0 },
    { "https://a/i%6e/", "https://a/in/x", 0, 0 },
    { "https://a/in.php", "https://a/in.php/x", 1, 0 },
    /* any host */
    { "https://", "https://a/x", 1, 1 },
    { "https://", "https://127.0.0.1:8443/", 1, 1 },
    { "HTTPS://", "https://a/x", 1, 1 },
    { "https://", "http://a/x", 0, 1 },
    { "http://", "http://a/x", 1, 1 },
    { "http://", "https://a/x", 0, 1 },
    /* sockets */
    { "unix:/run/app.sock|", "unix:/run/app.sock|http://a/x", 1, 0 },
    { "UNIX:/run/app.sock|", "unix:/run/app.sock|https://b/", 1, 0 },
    { "unix:/run/app.sock|", "unix:/run/app.sock2|http://a/x", 0, 0 },
    { "unix:/run/app.sock|", "unix:/run/app.soc|http://a/x", 0, 0 },
    { "unix:/run/app.sock|", "unix:/run/../run/app.sock|http://a/x", 0, 0 },
    { "unix:/run/app.sock|", "unix:/run/App.sock|http://a/x", 0, 0 },
    { "unix:/run/app.sock|", "http://a/x", 0, 1 },
    { "unix:/run/app.sock|", "/x", 0, 1 },
    { "http://", "unix:/run/app.sock|http://a/x", 0, 1 },
    { "http://a/", "unix:/run/app.sock|http://a/x", 0, 1 },
    /* paths of this host are no prefix's business */
    { "http://", "/x", 0, 1 },
    { "http://a/", "/x", 0, 1 },
};

START_TEST(prefix_allows)
{
    int is_public = -1;
    tus_target_t target;

    ck_assert_ptr_null(parse(&target, prefixes[_i].text));
    ck_assert_ptr_null(tus_target_check_prefix(prefixes[_i].prefix));
    ck_assert_msg(tus_target_is_allowed(&target, prefixes[_i].prefix, &is_public)
                      == prefixes[_i].is_allowed,
                  "%s of %s", prefixes[_i].text, prefixes[_i].prefix);
    ck_assert_msg(is_public == prefixes[_i].is_public, "%s of %s is public: %d", prefixes[_i].text,
                  prefixes[_i].prefix, is_public);
}
END_TEST

static const char *const no_prefixes[] = {
    "",
    "/",
    "/in/",
    "a",
    "a.example",
    "http",
    "http:",
    "http:/",
    "//",
    "ftp://",
    "ftp://a/",
    "*",
    "https://*",
    "https://*.example/",
    "https:///",
    "https://:443",
    "https://u@a/",
    "https://a/in?x",
    "https://a?",
    "https://?",
    "https://a/#",
    "https://#",
    "https://a/../",
    "https://a/%2e%2e/in",
    "https://a/%2f",
    "https://127.1/",
    "https://a:0/",
    "https://a./",
    "https://a b",
    "unix:",
    "unix:/a",
    "unix:a|",
    "unix:|",
    "unix:/a|http://a/",
    "unix:/a||",
    "unix:/\x01|",
};

/* Such a prefix allows nothing, if it comes so far. */
START_TEST(no_prefix_is_refused)
{
    static const char *const texts[] = {
        "http://a/",          "https://a/in?x", "https://a/in",
        "https://127.0.0.1/", "/in/",           "unix:/a|http://a/",
    };
    const char *wrong = tus_target_check_prefix(no_prefixes[_i]);

    ck_assert_msg(wrong && *wrong, "%s", no_prefixes[_i]);
    for (int i = 0; i < COUNT(texts); i++) {
        tus_target_t target;
        int is_public;

        ck_assert_ptr_null(parse(&target, texts[i]));
        ck_assert_msg(!tus_target_is_allowed(&target, no_prefixes[_i], &is_public), "%s of %s",
                      texts[i], no_prefixes[_i]);
    }
}
END_TEST

/* ---- addresses ----------------------------------------------------------------- */

static const char *const private[] = {
    /* the ends of each range */
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.88.99.0",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::",
    "febf::1",
    "fec0::",
    "feff::1",
    "ff00::",
    "ff02::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff::",
    "3fff:fff:ffff::1",
    "100::1",
    "200::1",
    "1fff::1",
    "4000::1",
    "5f00::1",
    "8000::1",
    "2001::",
    "2001:0:808:808::",
    "2001:1ff:ffff::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    /* wrapped */
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:0.0.0.0",
    "::127.0.0.1",
    "::10.1.2.3",
    "::7f00:1",
    "::ffff:0:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::c0a8:1",
    "64:ff9b:1::8.8.8.8",
    "64:ff9b:1:7f00:0:100::",
    "64:ff9b:0:0:1::8.8.8.8",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:c0a8:101:1::1",
    "2002:a9fe:a9fe::",
    "2002:e000:1::",
    "2a00:1450::5efe:10.0.0.1",
    "2a00:1450::200:5efe:127.0.0.1",
    "2a00:1450:0:1:0:5efe:c0a8:1",
    /* scoped, and no addresses */
    "fe80::1%eth0",
    "2a00:1450::1%1",
    "8.8.8.8%1",
    "",
    "localhost",
    "a",
    "8.8.8.8 ",
    " 8.8.8.8",
    "8.8.8",
    "134744072",
    "0x8.8.8.8",
    "08.8.8.8",
    "8.8.8.8:80",
    "[2a00:1450::1]",
    "2a00:1450",
    "8.8.8.8/32",
    "2a00:1450::1/64",
    "8.8.8.8\n",
    "::ffff:8.8.8",
    "/run/app.sock",
};

static const char *const public[] = {
    /* on both sides of each range */
    "1.0.0.0",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2001:db7:ffff::1",
    "2001:db9::",
    "2a00:1450:4001:800::200e",
    "2606:4700:4700::1111",
    "3ffe:ffff::1",
    "3fff:1000::1",
    "2003::1",
    "2620:fe::fe",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2a00:1450::5efe:8.8.8.8",
    "2a00:1450::5eff:10.0.0.1",
    "2a00:1450::1:5efe:a00:1",
};

START_TEST(address_is_private)
{
    ck_assert_msg(tus_target_is_private(private[_i]), "%s", private[_i]);
}
END_TEST

START_TEST(address_is_public)
{
    ck_assert_msg(!tus_target_is_private(public[_i]), "%s", public[_i]);
}
END_TEST

Suite *target_suite(void)
{
    Suite *suite = suite_create("target");
    TCase *tcase = add_case(suite, "targets");

    tcase_add_loop_test(tcase, target_is_read, 0, COUNT(targets));
    tcase_add_loop_test(tcase, target_stays_what_it_is, 0, COUNT(targets));
    tcase_add_loop_test(tcase, no_target_is_refused, 0, COUNT(no_targets));
    tcase_add_test(tcase, names_are_bounded);
    tcase_add_test(tcase, socket_is_bounded);
    tcase_add_loop_test(tcase, two_megabytes, 0, COUNT(repeated));

    tcase = add_case(suite, "prefixes");
    tcase_add_loop_test(tcase, prefix_allows, 0, COUNT(prefixes));
    tcase_add_loop_test(tcase, no_prefix_is_refused, 0, COUNT(no_prefixes));

    tcase = add_case(suite, "addresses");
    tcase_add_loop_test(tcase, address_is_private, 0, COUNT(private));
    tcase_add_loop_test(tcase, address_is_public, 0, COUNT(public));
    return suite;
}
