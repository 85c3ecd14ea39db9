/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static const struct {
    const char *value;
    apr_off_t number;
} integers[] = {
    { "0", 0 },
    { "1", 1 },
    { "3221225472", 3221225472LL },
    { "9223372036854775807", APR_INT64_MAX }, /* 2^63-1 */
    { "007", 7 },
    { "0000000000000000000000000000000000000000000000000000000000000001", 1 },
    { "00000000009223372036854775807", APR_INT64_MAX },
};

static const char *const no_integers[] = {
    NULL,
    "",
    " ",
    "+1",
    "-0",
    "-1",
    " 1",
    "1 ",
    "\t1",
    "1\n",
    "1,1",
    "1, 1",
    "0x1",
    "1e3",
    "1.0",
    "12a",
    "a",
    "\xd9\xa1",                        /* a digit, in Arabic */
    "9223372036854775808",             /* 2^63 */
    "18446744073709551616",            /* 2^64 */
    "1000000000000000000000000000000", /* 10^30 */
};

START_TEST(integer_is_read)
{
    apr_off_t number = -1;

    ck_assert_int_eq(tus_header_integer(integers[_i].value, &number), APR_SUCCESS);
    ck_assert_int_eq(number, integers[_i].number);
}
END_TEST

START_TEST(integer_is_refused)
{
    apr_off_t number = -7;

    ck_assert_int_eq(tus_header_integer(no_integers[_i], &number), APR_EINVAL);
    ck_assert_int_eq(number, -7);
}
END_TEST

static const char *const same_types[] = {
    "application/offset+octet-stream",
    "Application/Offset+Octet-Stream",
    " application/offset+octet-stream\t",
    "application/offset+octet-stream;x=y",
    "application/offset+octet-stream ; charset=utf-8",
};

static const char *const other_types[] = {
    NULL,
    "",
    "application/offset+octet-strea",
    "application/offset+octet-streams",
    "application/offset+octet-stream/x",
    "application/offset+octet-stream x",
    "application/offset+octet-stream, application/offset+octet-stream",
    "text/plain; application/offset+octet-stream",
    "application/octet-stream",
};

START_TEST(media_type_is_recognised)
{
    ck_assert(tus_header_is_media_type(same_types[_i], TUS_MEDIA_TYPE));
}
END_TEST

START_TEST(media_type_is_another)
{
    ck_assert(!tus_header_is_media_type(other_types[_i], TUS_MEDIA_TYPE));
}
END_TEST

/* ---- fields ---------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *value;
} fields[] = {
    { "X-Why", "quota" },
    { "a", "" },
    { "!#$%&'*+-.^_`|~09azAZ", " \t!~ \xc3\xaf\xff" },
};

static const struct {
    const char *name;
    const char *value;
} no_fields[] = {
    { "", "a" },         { " ", "a" },         { "a b", "a" },  { "a:", "a" },
    { ":a", "a" },       { "a\r\nb", "a" },    { "a\t", "a" },  { "a\x7f", "a" },
    { "a\x01", "a" },    { "(a)", "a" },       { "a/b", "a" },  { "\"a\"", "a" },
    { "\xc3\xa4", "a" }, { "a", "b\r\nc: d" }, { "a", "b\nc" }, { "a", "b\rc" },
    { "a", "\x01" },     { "a", "\x7f" },      { "a", "\x0b" }, { "a", "\x1b[0m" },
};

START_TEST(field_is_one)
{
    ck_assert(tus_header_is_field(fields[_i].name, fields[_i].value));
}
END_TEST

START_TEST(field_is_none)
{
    ck_assert(!tus_header_is_field(no_fields[_i].name, no_fields[_i].value));
}
END_TEST

static const char *const reserved[] = {
    "Access-Control-Allow-Origin",
    "access-control-",
    "Tus-Resumable",
    "TUS-X",
    "Upload-Offset",
    "upload-anything",
    "Connection",
    "cONTENT-lENGTH",
    "Date",
    "Keep-Alive",
    "Location",
    "Proxy-Connection",
    "Server",
    "te",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "X-Content-Type-Options",
    "X-Accel-Redirect",
    "X-Sendfile",
    "X-SENDFILE-TEMPORARY",
    "X-LIGHTTPD-send-file",
};

static const char *const not_reserved[] = {
    "",
    "Content-Type",
    "Set-Cookie",
    "X-Why",
    "Upload",
    "Tus",
    "Te-x",
    "Tea",
    "Locations",
    "Content-Location",
    "X-Location",
    "Access-Control",
    "Retry-After",
    "WWW-Authenticate",
    "Dat",
};

START_TEST(field_is_reserved)
{
    ck_assert(tus_header_is_reserved(reserved[_i]));
}
END_TEST

START_TEST(field_is_free)
{
    ck_assert(!tus_header_is_reserved(not_reserved[_i]));
}
END_TEST

Suite *header_suite(void)
{
    Suite *suite = suite_create("header");
    TCase *tcase = add_case(suite, "header");

    tcase_add_loop_test(tcase, integer_is_read, 0, COUNT(integers));
    tcase_add_loop_test(tcase, integer_is_refused, 0, COUNT(no_integers));
    tcase_add_loop_test(tcase, media_type_is_recognised, 0, COUNT(same_types));
    tcase_add_loop_test(tcase, media_type_is_another, 0, COUNT(other_types));
    tcase_add_loop_test(tcase, field_is_one, 0, COUNT(fields));
    tcase_add_loop_test(tcase, field_is_none, 0, COUNT(no_fields));
    tcase_add_loop_test(tcase, field_is_reserved, 0, COUNT(reserved));
    tcase_add_loop_test(tcase, field_is_free, 0, COUNT(not_reserved));
    return suite;
}
