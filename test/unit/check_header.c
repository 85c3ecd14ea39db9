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

Suite *header_suite(void)
{
    Suite *suite = suite_create("header");
    TCase *tcase = add_case(suite, "header");

    tcase_add_loop_test(tcase, integer_is_read, 0, COUNT(integers));
    tcase_add_loop_test(tcase, integer_is_refused, 0, COUNT(no_integers));
    tcase_add_loop_test(tcase, media_type_is_recognised, 0, COUNT(same_types));
    tcase_add_loop_test(tcase, media_type_is_another, 0, COUNT(other_types));
    return suite;
}
