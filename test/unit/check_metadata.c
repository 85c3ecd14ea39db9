/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static apr_array_header_t *parse(const char *header)
{
    apr_array_header_t *pairs = NULL;
    const tus_error_t *error = tus_metadata_parse(header, &pairs, unit_pool);

    ck_assert_msg(!error, "%s", error ? error->message : "");
    ck_assert_ptr_nonnull(pairs);
    return pairs;
}

static const char *refusal(const char *header)
{
    apr_array_header_t *pairs = NULL;
    const tus_error_t *error = tus_metadata_parse(header, &pairs, unit_pool);

    ck_assert_msg(error != NULL, "accepted: %s", header);
    ck_assert_int_eq(error->err, TUS_ERR_INVALID_METADATA);
    return error->message;
}

static void assert_pair(const apr_array_header_t *pairs, int i, const char *key, const char *value,
                        apr_size_t len)
{
    const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

    ck_assert_int_lt(i, pairs->nelts);
    ck_assert_str_eq(pair->key, key);
    ck_assert_uint_eq(pair->len, len);
    ck_assert_mem_eq(pair->value, value, len);
    ck_assert_int_eq(pair->value[len], '\0');
}

START_TEST(spec_example)
{
    apr_array_header_t *pairs =
        parse("filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential");

    ck_assert_int_eq(pairs->nelts, 2);
    assert_pair(pairs, 0, "filename", "world_domination_plan.pdf", 25);
    assert_pair(pairs, 1, "is_confidential", "", 0);
}
END_TEST

START_TEST(nothing_means_no_pairs)
{
    ck_assert_int_eq(parse(NULL)->nelts, 0);
    ck_assert_int_eq(parse("")->nelts, 0);
    ck_assert_int_eq(parse(" \t")->nelts, 0);
}
END_TEST

START_TEST(space_around_commas)
{
    apr_array_header_t *pairs = parse(" a Zg== ,\tb , c\t,d Zm8=");

    ck_assert_int_eq(pairs->nelts, 4);
    assert_pair(pairs, 0, "a", "f", 1);
    assert_pair(pairs, 1, "b", "", 0);
    assert_pair(pairs, 2, "c", "", 0);
    assert_pair(pairs, 3, "d", "fo", 2);
}
END_TEST

START_TEST(values_hold_any_bytes)
{
    apr_array_header_t *pairs = parse("nul AAEA,high //79,name bmHDr3Zl");

    assert_pair(pairs, 0, "nul", "\0\1\0", 3);
    assert_pair(pairs, 1, "high", "\xff\xfe\xfd", 3);
    assert_pair(pairs, 2, "name", "na\xc3\xafve", 6);
}
END_TEST

START_TEST(keys_hold_utf_8)
{
    assert_pair(parse("k\xc3\xa9y Zg=="), 0, "k\xc3\xa9y", "f", 1);
}
END_TEST

START_TEST(keys_hold_all_printable_ascii)
{
    apr_array_header_t *pairs = parse("!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~ Zg==,A,a");

    ck_assert_int_eq(pairs->nelts, 3);
    assert_pair(pairs, 0, "!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~", "f", 1);
}
END_TEST

static const char *const bad_values[] = {
    "bad-one Zg", /* no padding */
    "bad-one Zg=",       "bad-one Zm8",     "bad-one Z",           "bad-one Z===",
    "bad-one =",         "bad-one ====",    "bad-one Zm9v=", /* padding too much */
    "bad-one Zm9v====",  "bad-one Zm8==",   "bad-one Zg==Zg==",    "bad-one Zg=a",
    "bad-one Zm_-",                                                                /* base64url */
    "bad-one Zm9v!",     "bad-one Zm9\x01", "bad-one Zm9\xc3\xaf", "bad-one Zh==", /* stray bits */
    "bad-one Zm9v Zm9v", "bad-one  Zm9v",   "bad-one \tZm9v",
};

START_TEST(bad_value_is_refused_by_name)
{
    ck_assert_ptr_nonnull(strstr(refusal(bad_values[_i]), "\"bad-one\""));
    ck_assert_ptr_nonnull(
        strstr(refusal(apr_pstrcat(unit_pool, "a,", bad_values[_i], NULL)), "\"bad-one\""));
}
END_TEST

static const char *const bad_keys[] = {
    "a,k\001ey Zg==", "a,k\tey Zg==",      "a,k\ney Zg==",
    "a,key\x7f Zg==", "a,k\xc3\x28y Zg==", "a,\xff",
};

START_TEST(bad_key_is_refused)
{
    const char *sentence = refusal(bad_keys[_i]);
    const char *c;

    ck_assert_ptr_nonnull(strstr(sentence, "key of pair 2 has control characters or is not UTF-8"));
    for (c = sentence; *c; c++) {
        ck_assert(*c >= ' ' && *c <= '~');
    }
}
END_TEST

static const char *const empty_elements[] = { ",", "a,", ",a", "a,,b", "a, ,b", "a Zg==, " };

START_TEST(empty_element_is_refused)
{
    ck_assert_ptr_nonnull(strstr(refusal(empty_elements[_i]), "has no key"));
}
END_TEST

START_TEST(repeated_key_is_refused)
{
    ck_assert_ptr_nonnull(strstr(refusal("a Zg==,bb,cc,bb Zg=="), "\"bb\" is there twice"));
    ck_assert_ptr_nonnull(strstr(refusal("a,a"), "\"a\" is there twice"));
}
END_TEST

START_TEST(long_key_does_not_fill_the_sentence)
{
    char *header = apr_palloc(unit_pool, 8001);

    memset(header, 'k', 8000);
    strcpy(header + 7990, " Zg");
    ck_assert_uint_lt(strlen(refusal(header)), 200);
}
END_TEST

/* Cut where a character ends: the sentence is sent as UTF-8. */
START_TEST(long_key_is_cut_between_characters)
{
    char *header = apr_pstrdup(unit_pool, "x");
    int i;

    for (i = 0; i < 40; i++) {
        header = apr_pstrcat(unit_pool, header, "\xc3\xa4", NULL);
    }
    ck_assert_ptr_nonnull(strstr(refusal(apr_pstrcat(unit_pool, header, " !", NULL)), "\xa4\" is"));
    ck_assert_ptr_nonnull(
        strstr(refusal(apr_pstrcat(unit_pool, header, ",", header, NULL)), "\xa4\" is"));
}
END_TEST

START_TEST(length_is_bounded)
{
    const apr_size_t most = 64 * 1024;
    char *header = apr_palloc(unit_pool, most + 2);

    memset(header, 'k', most + 1);
    header[most] = '\0';
    ck_assert_int_eq(parse(header)->nelts, 1);
    header[most] = 'k';
    header[most + 1] = '\0';
    ck_assert_ptr_nonnull(strstr(refusal(header), "longer than 65536 bytes"));
}
END_TEST

START_TEST(eight_kilobytes_round_trip)
{
    char value[6000];
    apr_array_header_t *pairs = apr_array_make(unit_pool, 1, sizeof(tus_pair_t));
    tus_pair_t *pair = apr_array_push(pairs);
    const char *header;
    int i;

    for (i = 0; i < (int)sizeof(value); i++) {
        value[i] = (char)i;
    }
    pair->key = "filename";
    pair->value = value;
    pair->len = sizeof(value);
    header = tus_metadata_format(pairs, unit_pool);
    ck_assert_uint_eq(strlen(header), 8 + 1 + 8000);
    assert_pair(parse(header), 0, "filename", value, sizeof(value));
}
END_TEST

START_TEST(format_keeps_the_order)
{
    const char *header = "z Zg==,a,m AAEA,empty";

    ck_assert_str_eq(tus_metadata_format(parse(header), unit_pool), header);
    ck_assert_str_eq(tus_metadata_format(parse("a ,b Zg=="), unit_pool), "a,b Zg==");
}
END_TEST

START_TEST(format_of_nothing)
{
    ck_assert_ptr_null(tus_metadata_format(NULL, unit_pool));
    ck_assert_ptr_null(tus_metadata_format(parse(""), unit_pool));
}
END_TEST

START_TEST(format_leaves_out_what_breaks_a_header)
{
    static const char *const keys[] = { "a\r\nSet-Cookie: x", "b c", "d,e", "", "f\x7f" };
    apr_array_header_t *pairs = apr_array_make(unit_pool, 1, sizeof(tus_pair_t));
    int i;

    for (i = 0; i < COUNT(keys); i++) {
        tus_pair_t *pair = apr_array_push(pairs);

        pair->key = keys[i];
        pair->value = "f";
        pair->len = 1;
    }
    ck_assert_ptr_null(tus_metadata_format(pairs, unit_pool));
    ((tus_pair_t *)apr_array_push(pairs))[0] = (tus_pair_t){ "k\xc3\xa9y", "f", 1 };
    ck_assert_str_eq(tus_metadata_format(pairs, unit_pool), "k\xc3\xa9y Zg==");
}
END_TEST

START_TEST(get_finds_by_key)
{
    apr_array_header_t *pairs = parse("a Zg==,filename Zm8=");

    ck_assert_str_eq(tus_metadata_get(pairs, "filename")->value, "fo");
    ck_assert_ptr_null(tus_metadata_get(pairs, "Filename"));
    ck_assert_ptr_null(tus_metadata_get(pairs, "file"));
    ck_assert_ptr_null(tus_metadata_get(NULL, "filename"));
}
END_TEST

Suite *metadata_suite(void)
{
    Suite *suite = suite_create("metadata");
    TCase *tcase = add_case(suite, "parse");

    tcase_add_test(tcase, spec_example);
    tcase_add_test(tcase, nothing_means_no_pairs);
    tcase_add_test(tcase, space_around_commas);
    tcase_add_test(tcase, values_hold_any_bytes);
    tcase_add_test(tcase, keys_hold_utf_8);
    tcase_add_test(tcase, keys_hold_all_printable_ascii);
    tcase_add_loop_test(tcase, bad_value_is_refused_by_name, 0, COUNT(bad_values));
    tcase_add_loop_test(tcase, bad_key_is_refused, 0, COUNT(bad_keys));
    tcase_add_loop_test(tcase, empty_element_is_refused, 0, COUNT(empty_elements));
    tcase_add_test(tcase, repeated_key_is_refused);
    tcase_add_test(tcase, long_key_does_not_fill_the_sentence);
    tcase_add_test(tcase, long_key_is_cut_between_characters);
    tcase_add_test(tcase, length_is_bounded);

    tcase = add_case(suite, "format");
    tcase_add_test(tcase, eight_kilobytes_round_trip);
    tcase_add_test(tcase, format_keeps_the_order);
    tcase_add_test(tcase, format_of_nothing);
    tcase_add_test(tcase, format_leaves_out_what_breaks_a_header);
    tcase_add_test(tcase, get_finds_by_key);
    return suite;
}
