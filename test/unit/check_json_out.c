/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* JSON is written as jansson writes it in the compact form. */
#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>
#include <jansson.h>

#include <stdlib.h>
#include <string.h>

static tus_json_out_t out;

static void begin(apr_size_t max)
{
    tus_json_out_begin(&out, max, unit_pool);
    tus_json_out_open(&out, NULL, '{');
}

static const char *end(void)
{
    const char *json;
    apr_size_t len;

    tus_json_out_close(&out, '}');
    if (tus_json_out_end(&out, &json, &len) != APR_SUCCESS) {
        return NULL;
    }
    ck_assert_uint_eq(strlen(json), len);
    return json;
}

START_TEST(all_kinds)
{
    begin(1000);
    tus_json_out_text(&out, "text", "a b");
    tus_json_out_text(&out, "absent", NULL);
    tus_json_out_bytes(&out, "bytes", "a\0b", 3);
    tus_json_out_boolean(&out, "yes", 2);
    tus_json_out_boolean(&out, "no", 0);
    tus_json_out_null(&out, "null");
    tus_json_out_real(&out, "real", 0.1);
    tus_json_out_open(&out, "list", '[');
    tus_json_out_text(&out, NULL, "x");
    tus_json_out_integer(&out, NULL, 1);
    tus_json_out_open(&out, NULL, '{');
    tus_json_out_close(&out, '}');
    tus_json_out_open(&out, NULL, '[');
    tus_json_out_close(&out, ']');
    tus_json_out_close(&out, ']');
    ck_assert_str_eq(end(), "{\"text\":\"a b\",\"bytes\":\"a\\u0000b\",\"yes\":true,\"no\":false,"
                            "\"null\":null,\"real\":0.1,\"list\":[\"x\",1,{},[]]}");
}
END_TEST

START_TEST(integers)
{
    static const apr_int64_t numbers[] = { 0, 1, 9, 10, -1, -10, APR_INT64_MAX, APR_INT64_MIN };
    apr_int64_t number = numbers[_i];

    begin(1000);
    tus_json_out_integer(&out, "n", number);
    ck_assert_str_eq(end(), apr_psprintf(unit_pool, "{\"n\":%" APR_INT64_T_FMT "}", number));
}
END_TEST

/* In a name as in a value. */
START_TEST(strings_are_spelled_as_jansson_does)
{
    static const char *const texts[] = { "",   "a",    "\"",   "\\",       "/",
                                         "\n", "\x01", "\x7f", "\xc3\xa4", "\xf0\x9f\x98\x80",
                                         "{",  "[" };
    json_t *json = json_pack("{s:s, s:i}", "t", texts[_i], texts[_i], 1);
    char *expected = json_dumps(json, JSON_COMPACT);

    begin(1000);
    tus_json_out_text(&out, "t", texts[_i]);
    tus_json_out_integer(&out, texts[_i], 1);
    ck_assert_str_eq(end(), expected);
    free(expected);
    json_decref(json);
}
END_TEST

START_TEST(what_is_no_utf8_is_an_error)
{
    begin(1000);
    tus_json_out_text(&out, _i ? "\xff" : "t", _i ? "t" : "a\xff");
    tus_json_out_null(&out, "next");
    ck_assert_ptr_null(end());
}
END_TEST

/* What is written at once, and what is not; and not a byte more than may be. */
START_TEST(any_length)
{
    static const apr_size_t lengths[] = { 0, 1, 1015, 1016, 1017, 1018, 1024, 1025, 5000, 100000 };
    char *value = apr_pcalloc(unit_pool, lengths[_i] + 1);

    memset(value, 'x', lengths[_i]);
    begin(lengths[_i] + 8);
    tus_json_out_text(&out, "a", value);
    ck_assert_str_eq(end(), apr_pstrcat(unit_pool, "{\"a\":\"", value, "\"}", NULL));
    begin(lengths[_i] + 7);
    tus_json_out_text(&out, "a", value);
    ck_assert_ptr_null(end());
}
END_TEST

Suite *json_out_suite(void)
{
    Suite *suite = suite_create("json_out");
    TCase *tcase = add_case(suite, "writing");

    tcase_add_test(tcase, all_kinds);
    tcase_add_loop_test(tcase, integers, 0, 8);
    tcase_add_loop_test(tcase, strings_are_spelled_as_jansson_does, 0, 12);
    tcase_add_loop_test(tcase, what_is_no_utf8_is_an_error, 0, 2);
    tcase_add_loop_test(tcase, any_length, 0, 10);
    return suite;
}
