/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void assert_same(const char *said, const char *wanted, const char *of)
{
    if (wanted) {
        ck_assert_msg(said && strcmp(said, wanted) == 0, "%s: %s, not %s", of,
                      said ? said : "nothing", wanted);
    }
    else {
        ck_assert_msg(!said, "%s: %s", of, said);
    }
}

static char *copy_of(const char *text)
{
    return text ? exact_copy(text, strlen(text) + 1) : NULL;
}

static void assert_says(const char *forwarded, const char *proto, const char *host,
                        const char *scheme, const char *wanted_scheme, const char *wanted_host)
{
    const char *of = apr_psprintf(unit_pool, "%s | %s | %s", forwarded ? forwarded : "-",
                                  proto ? proto : "-", host ? host : "-");
    char *copies[] = { copy_of(forwarded), copy_of(proto), copy_of(host) };
    tus_forwarded_t to = { "unset", "unset" };
    int i;

    tus_forwarded_parse(&to, copies[0], copies[1], copies[2], scheme, unit_pool);
    for (i = 0; i < COUNT(copies); i++) {
        free(copies[i]);
    }
    assert_same(to.scheme, wanted_scheme, of);
    assert_same(to.host, wanted_host, of);
}

/* ---- Forwarded --------------------------------------------------------------------------- */

static const struct {
    const char *header;
    const char *scheme;
    const char *host;
} forwarded[] = {
    { NULL, NULL, NULL },
    { "", NULL, NULL },
    { " \t", NULL, NULL },
    /* the examples of RFC 7239 */
    { "for=\"_gazonk\"", NULL, NULL },
    { "For=\"[2001:db8:cafe::17]:4711\"", NULL, NULL },
    { "for=192.0.2.60;proto=http;by=203.0.113.43", "http", NULL },
    { "for=192.0.2.43, for=198.51.100.17", NULL, NULL },
    { "for=_hidden, for=_SEVKISEK", NULL, NULL },
    { "for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown", NULL, NULL },
    /* both, in any order and case */
    { "proto=https;host=example.com", "https", "example.com" },
    { "host=example.com;proto=https", "https", "example.com" },
    { "HOST=Example.com;Proto=HTTPS", "https", "Example.com" },
    { "for=1.2.3.4;host=\"example.com:8443\";proto=https;by=_x", "https", "example.com:8443" },
    { "host=\"example.com:8080\"", NULL, "example.com:8080" },
    { "proto=https", "https", NULL },
    /* space, and empty pairs and elements */
    { " proto=https ; host=a ", "https", "a" },
    { "\tproto=https\t;\thost=a\t,x", "https", "a" },
    { ";proto=https;;host=a;", "https", "a" },
    { ",, ;,proto=https;host=a", "https", "a" },
    /* the first element counts */
    { "proto=https;host=a, proto=http;host=b", "https", "a" },
    { "for=x, proto=https;host=b", NULL, NULL },
    { "proto=https, host=b", "https", NULL },
    { "proto=https,!!!", "https", NULL },
    { "host=\"a,b\", host=c", NULL, NULL },
    { "for=\"a,b;proto=http\";proto=https", "https", NULL },
    { "for=\"a\\\",b;proto=http\\\\\";proto=https", "https", NULL },
    /* quoted-strings */
    { "proto=\"https\";host=\"a\"", "https", "a" },
    { "proto=\"h\\t\\tps\"", "https", NULL },
    { "host=\"\\a\\.\\b\"", NULL, "a.b" },
    { "host=\"\";proto=https", "https", NULL },
    { "host=\"\\\"\";proto=https", "https", NULL },
    /* what proxies write without quotes */
    { "for=[2001:db8::1]:80;host=example.com:8080;proto=https", "https", "example.com:8080" },
    { "host=[2001:db8::1]:8080", NULL, "[2001:db8::1]:8080" },
    { "x-y_z=1;proto=https", "https", NULL },
    /* no scheme of HTTP, no host */
    { "proto=ftp;host=a", NULL, "a" },
    { "proto=httpss;host=a", NULL, "a" },
    { "proto=\"https \";host=a", NULL, "a" },
    { "proto=\"javascript\";host=\"a b\"", NULL, NULL },
    { "proto=https;host=\"a@b\"", "https", NULL },
    /* malformed: nothing of it counts */
    { "proto=https;host", NULL, NULL },
    { "proto=https;host=", NULL, NULL },
    { "proto=https;=a", NULL, NULL },
    { "=", NULL, NULL },
    { "proto", NULL, NULL },
    { "proto =https", NULL, NULL },
    { "proto= https", NULL, NULL },
    { "proto=https host=a", NULL, NULL },
    { "proto=https;host=a b", NULL, NULL },
    { "proto=https;host=\"a", NULL, NULL },
    { "proto=https;host=\"a\\", NULL, NULL },
    { "proto=https;host=\"a\\\"", NULL, NULL },
    { "proto=https;host=\"a\"b", NULL, NULL },
    { "proto=https;host=a\"b\"", NULL, NULL },
    { "proto=https;host=a/b", NULL, NULL },
    { "proto=https;host=a@b", NULL, NULL },
    { "proto=https;h@st=a", NULL, NULL },
    { "proto=https;\xc3\xa9=a", NULL, NULL },
    { "proto=https;proto=http", NULL, NULL },
    { "proto=https;host=a;Host=a", NULL, NULL },
    { "proto=https;host=a;for", NULL, NULL },
};

START_TEST(forwarded_is_read)
{
    assert_says(forwarded[_i].header, NULL, NULL, "http", forwarded[_i].scheme, forwarded[_i].host);
}
END_TEST

/* ---- X-Forwarded-* ----------------------------------------------------------------------- */

static const struct {
    const char *forwarded;
    const char *proto;
    const char *host;
    const char *wanted_scheme;
    const char *wanted_host;
} others[] = {
    { NULL, "https", "example.com", "https", "example.com" },
    { NULL, "HTTPS", "example.com:8443", "https", "example.com:8443" },
    { NULL, "https", NULL, "https", NULL },
    { NULL, NULL, "example.com", NULL, "example.com" },
    { NULL, "https, http", "a.example, b.example", "https", "a.example" },
    { NULL, "https,http", "a.example,b.example", "https", "a.example" },
    { NULL, " https\t, http", "\ta.example , b", "https", "a.example" },
    { NULL, ", ,https", ",a", "https", "a" },
    { NULL, "", "", NULL, NULL },
    { NULL, " ", ",, ,", NULL, NULL },
    { NULL, "wss", "a b", NULL, NULL },
    { NULL, "https http", "a@b", NULL, NULL },
    { NULL, "\"https\"", "\"a\"", NULL, NULL },
    { NULL, "ftp, https", "a/b, c", NULL, NULL }, /* only the first counts */
    /* Forwarded goes first, for each of the two */
    { "proto=http;host=a", "https", "b", "http", "a" },
    { "proto=https", "http", "b", "https", "b" },
    { "host=a", "https", "b", "https", "a" },
    { "for=x", "https", "b", "https", "b" },
    { "proto=ftp;host=\"a b\"", "https", "b", "https", "b" },
    { "malformed", "https", "b", "https", "b" },
    { "", "https", "b", "https", "b" },
};

START_TEST(other_headers_fill_in)
{
    assert_says(others[_i].forwarded, others[_i].proto, others[_i].host, "http",
                others[_i].wanted_scheme, others[_i].wanted_host);
}
END_TEST

/* ---- ports ------------------------------------------------------------------------------- */

static const struct {
    const char *proto;  /* the proxy's */
    const char *scheme; /* this request's */
    const char *host;
    const char *wanted;
} ports[] = {
    { NULL, "http", "a:80", "a" },
    { NULL, "http", "a:443", "a:443" },
    { NULL, "https", "a:443", "a" },
    { NULL, "https", "a:80", "a:80" },
    { "https", "http", "a:443", "a" },
    { "https", "http", "a:80", "a:80" },
    { "http", "https", "a:80", "a" },
    { "http", "https", "a:443", "a:443" },
    { "wss", "https", "a:443", "a" },
    { "https", "http", "[::1]:443", "[::1]" },
    { "https", "http", "[::1]:8443", "[::1]:8443" },
    { NULL, "http", "a:1", "a:1" },
    { NULL, "http", "a:65535", "a:65535" },
    { NULL, "http", "a:0080", "a" },
    { NULL, "http", "a:08080", "a:8080" },
    { NULL, "http", "a:0", NULL },
    { NULL, "http", "a:65536", NULL },
    { NULL, "http", "a:99999999999999999999", NULL },
    { NULL, "http", "a:", NULL },
    { NULL, "http", "a:-1", NULL },
    { NULL, "http", "a:+80", NULL },
    { NULL, "http", "a: 80", NULL },
    { NULL, "http", "a:80x", NULL },
    { NULL, "http", "a:80:80", NULL },
    { NULL, "http", "a:http", NULL },
};

START_TEST(default_port_is_left_out)
{
    assert_says(NULL, ports[_i].proto, ports[_i].host, ports[_i].scheme,
                ports[_i].proto && strcmp(ports[_i].proto, "wss") != 0 ? ports[_i].proto : NULL,
                ports[_i].wanted);
}
END_TEST

/* ---- hosts ------------------------------------------------------------------------------- */

static const char *const hosts[] = {
    "a",
    "localhost",
    "example.com",
    "Example.COM",
    "example.com.",
    "a-b_c.example",
    "xn--bcher-kva.example",
    "192.0.2.1",
    "192.0.2.1:8080",
    "[::]",
    "[::1]",
    "[2001:db8::1]",
    "[2001:DB8:0:0:0:0:0:1]:8080",
    "[::ffff:192.0.2.1]",
    "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]",
};

static const char *const no_hosts[] = {
    "b%C3%BCcher.example",
    "%61",
    "%0d%0aX",
    "a!$&'()*+;=~",
    "..",
    "a..b",
    "-a",
    ":80",
    "a b",
    "a\tb",
    "a/b",
    "a\\b",
    "/",
    "//a",
    "http://a",
    "a?b",
    "a#b",
    "user@a",
    "user:password@a",
    "user:80@a",
    "@a",
    "a\"",
    "<a>",
    "a|b",
    "a^b",
    "`a`",
    "{a}",
    "a%",
    "a%4",
    "a%4g",
    "a%%41",
    "a\r\nX: y",
    "a\x01",
    "a\x7f",
    "b\xc3\xbcro.example",
    "::1",
    "2001:db8::1",
    "[::1",
    "::1]",
    "[]",
    "[",
    "]",
    "[]:80",
    "[::1]x",
    "[::1]:",
    "[::1]:0",
    "[::1] :80",
    "[[::1]]",
    "[ ::1]",
    "[::1%25eth0]",
    "[fe80::1%eth0]",
    "[192.0.2.1]",
    "[a]",
    "[1::2::3]",
    "[12345::]",
    "[v1.a:b]",
    "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555]",
    "[0000000000000000000000000000000000000000000000000000000000001::]",
    "a[::1]",
    "x:[::1]",
};

/* The text as a quoted-string, each character of it escaped. */
static const char *quoted(const char *text)
{
    char *string = apr_palloc(unit_pool, 2 * strlen(text) + 3);
    char *end = string;

    *end++ = '"';
    while (*text) {
        *end++ = '\\';
        *end++ = *text++;
    }
    *end++ = '"';
    *end = '\0';
    return string;
}

START_TEST(host_is_taken)
{
    assert_says(NULL, NULL, hosts[_i], "http", NULL, hosts[_i]);
    assert_says(apr_pstrcat(unit_pool, "host=", quoted(hosts[_i]), NULL), NULL, NULL, "http", NULL,
                hosts[_i]);
}
END_TEST

START_TEST(no_host_is_left_out)
{
    assert_says(NULL, NULL, no_hosts[_i], "http", NULL, NULL);
    assert_says(apr_pstrcat(unit_pool, "host=", quoted(no_hosts[_i]), NULL), NULL, NULL, "http",
                NULL, NULL);
}
END_TEST

START_TEST(name_is_bounded)
{
    char *host = apr_palloc(unit_pool, 257);

    memset(host, 'a', 256);
    host[256] = '\0';
    assert_says(NULL, NULL, host, "http", NULL, NULL);
    host[255] = '\0';
    assert_says(NULL, NULL, host, "http", NULL, host);
}
END_TEST

/* Quadratic work or memory on any of these would run into Check's timeout. */
static const char *const repeated[] = {
    "a=\"\";", "a=\"\\a", ",", ";", "a=b;", "a=[;", "\"", "%61"
};

START_TEST(two_megabytes)
{
    const apr_size_t size = 2 << 20;
    apr_size_t step = strlen(repeated[_i]);
    char *value = apr_palloc(unit_pool, size + step + 1);
    tus_forwarded_t to;
    apr_size_t len;

    for (len = 0; len < size; len += step) {
        memcpy(value + len, repeated[_i], step);
    }
    value[len] = '\0';
    tus_forwarded_parse(&to, value, value, value, "http", unit_pool);
    ck_assert_ptr_null(to.scheme);
    ck_assert_ptr_null(to.host);
}
END_TEST

Suite *forwarded_suite(void)
{
    Suite *suite = suite_create("forwarded");
    TCase *tcase = add_case(suite, "headers");

    tcase_add_loop_test(tcase, forwarded_is_read, 0, COUNT(forwarded));
    tcase_add_loop_test(tcase, other_headers_fill_in, 0, COUNT(others));
    tcase_add_loop_test(tcase, two_megabytes, 0, COUNT(repeated));

    tcase = add_case(suite, "hosts");
    tcase_add_loop_test(tcase, default_port_is_left_out, 0, COUNT(ports));
    tcase_add_loop_test(tcase, host_is_taken, 0, COUNT(hosts));
    tcase_add_loop_test(tcase, no_host_is_left_out, 0, COUNT(no_hosts));
    tcase_add_test(tcase, name_is_bounded);
    return suite;
}
