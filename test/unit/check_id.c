/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static const char *const valid[] = {
    "a",
    "0123456789abcdef0123456789ABCDEF",
    "user-7/report.pdf",
    "a/b/c",
    "a..b",
    "a.",
    "a.tus",
    "info",
    "a.info.bin",
    "a.information",
    "~a_b-c.d",
};

static const char *const invalid[] = {
    NULL,     "",      "/",        "/a",       "a/",    "a//b",         ".",           "..",
    "a/.",    "a/..",  "a/../b",   "../a",     ".tus",  ".a.info.tmp",  "a/.hidden/b", "a.info",
    "a.INFO", ".info", "a.info/b", "a/b.info", "a b",   "a%2e%2e%2fb",  "a\\b",        "a:b",
    "a+b",    "a?b",   "a\nb",     "a\x01",    "a\x7f", "na\xc3\xafve",
};

START_TEST(id_is_valid)
{
    ck_assert(tus_id_is_valid(valid[_i]));
}
END_TEST

START_TEST(id_is_invalid)
{
    ck_assert(!tus_id_is_valid(invalid[_i]));
}
END_TEST

static char *letters(apr_size_t count)
{
    char *text = apr_palloc(unit_pool, count + 1);

    memset(text, 'a', count);
    text[count] = '\0';
    return text;
}

START_TEST(id_has_bounds)
{
    const char *most = letters(200);
    const char *full =
        apr_pstrcat(unit_pool, most, "/", most, "/", most, "/", most, "/", letters(196), NULL);

    ck_assert(tus_id_is_valid(most));
    ck_assert(!tus_id_is_valid(letters(201)));
    ck_assert(!tus_id_is_valid(letters(4096)));
    ck_assert_uint_eq(strlen(full), 1000);
    ck_assert(tus_id_is_valid(full));
    ck_assert(!tus_id_is_valid(apr_pstrcat(unit_pool, full, "a", NULL)));
}
END_TEST

START_TEST(made_ids_are_valid_and_differ)
{
    const char *one = NULL, *two = NULL;

    ck_assert_int_eq(tus_id_make(&one, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_id_make(&two, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(strlen(one), 32);
    ck_assert_uint_eq(strspn(one, "0123456789abcdef"), 32);
    ck_assert(tus_id_is_valid(one));
    ck_assert_str_ne(one, two);
}
END_TEST

START_TEST(key_is_the_id_or_its_hash)
{
    const char *longest = letters(TUS_ID_KEY_SIZE - 1);
    char key[TUS_ID_KEY_SIZE];

    ck_assert_str_eq(tus_id_key("a-b", key), "a-b");
    ck_assert_str_eq(key, "a-b");
    ck_assert_str_eq(tus_id_key("a~", key), "a~");
    ck_assert_str_eq(tus_id_key(longest, key), longest);
    ck_assert_str_eq(tus_id_key("a/b", key), "~3ec69c85a4ff96830024afeef2d4e512181c8f7b");
    ck_assert_str_eq(tus_id_key("~", key), "~fb3c6e4de85bd9eae26fdc63e75f10a7f39e850e");
    ck_assert_uint_eq(strlen(tus_id_key(letters(TUS_ID_KEY_SIZE), key)), 41);
    ck_assert_uint_eq(strlen(tus_id_key(letters(1000), key)), 41);
    ck_assert(tus_id_is_valid(key));
}
END_TEST

Suite *id_suite(void)
{
    Suite *suite = suite_create("id");
    TCase *tcase = add_case(suite, "id");

    tcase_add_loop_test(tcase, id_is_valid, 0, COUNT(valid));
    tcase_add_loop_test(tcase, id_is_invalid, 0, COUNT(invalid));
    tcase_add_test(tcase, id_has_bounds);
    tcase_add_test(tcase, made_ids_are_valid_and_differ);
    tcase_add_test(tcase, key_is_the_id_or_its_hash);
    return suite;
}
