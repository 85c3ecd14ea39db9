/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <pthread.h>
#include <string.h>
#include <unistd.h>

static const char *make(const char *dir, const char *text)
{
    char *seal = apr_palloc(unit_pool, TUS_SEAL_SIZE);

    ck_assert_int_eq(tus_seal_make(seal, scratch_path(dir), text, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(strspn(seal, "0123456789abcdef"), TUS_SEAL_SIZE - 1);
    return seal;
}

static apr_status_t check(const char *dir, const char *text, const char *seal)
{
    return tus_seal_check(seal, scratch_path(dir), text, unit_pool);
}

static void make_stores(void)
{
    scratch_mkdir("one");
    scratch_mkdir("two");
}

START_TEST(text_is_sealed_for_its_store)
{
    const char *seal = make("one", "text");

    make("two", "text");
    ck_assert_str_eq(make("one", "text"), seal);
    ck_assert_int_eq(check("one", "text", seal), APR_SUCCESS);
    ck_assert_int_eq(check("one", "text ", seal), TUS_EREFUSED);
    ck_assert_int_eq(check("two", "text", seal), TUS_EREFUSED);
}
END_TEST

START_TEST(damaged_seal_is_none)
{
    const char *seal = make("one", "text");

    for (int i = 0; i < TUS_SEAL_SIZE - 1; i++) {
        char *other = apr_pstrdup(unit_pool, seal);

        other[i] = other[i] == '0' ? '1' : '0';
        ck_assert_int_eq(check("one", "text", other), TUS_EREFUSED);
    }
    ck_assert_int_eq(check("one", "text", ""), TUS_EREFUSED);
    ck_assert_int_eq(check("one", "text", apr_pstrcat(unit_pool, seal, "0", NULL)), TUS_EREFUSED);
    ck_assert_int_eq(check("one", "text", apr_pstrndup(unit_pool, seal, 63)), TUS_EREFUSED);
}
END_TEST

START_TEST(key_is_nobody_elses_and_nothing_else_is_left)
{
    make("one", "text");
    ck_assert_uint_eq(scratch_mode("one/seal"), 0600);
    ck_assert_uint_eq(strlen(scratch_get("one/seal")), 64);
    ck_assert_int_eq(unlink(scratch_path("one/seal")), 0);
    ck_assert_int_eq(rmdir(scratch_path("one")), 0);
}
END_TEST

START_TEST(without_a_key_nothing_is_sealed)
{
    ck_assert(APR_STATUS_IS_ENOENT(check("one", "text", "")));
    ck_assert(!scratch_exists("one/seal"));
}
END_TEST

#define DIGITS "0123456789abcdef"

static const char *const keys[] = { "", "0123", (DIGITS DIGITS DIGITS DIGITS "\n") };

START_TEST(damaged_key_is_an_error)
{
    char seal[TUS_SEAL_SIZE];

    scratch_put("one/seal", keys[_i]);
    ck_assert_int_eq(tus_seal_make(seal, scratch_path("one"), "text", unit_pool), TUS_EDAMAGED);
    ck_assert_int_eq(check("one", "text", ""), TUS_EDAMAGED);
    ck_assert_str_eq(scratch_get("one/seal"), keys[_i]);
}
END_TEST

START_TEST(linked_key_is_an_error)
{
    scratch_put("elsewhere", DIGITS DIGITS DIGITS DIGITS);
    scratch_symlink("../elsewhere", "one/seal");
    ck_assert_int_ne(check("one", "text", ""), TUS_EREFUSED);
}
END_TEST

#define THREADS 8

static void *seal_one(void *seal)
{
    apr_pool_t *p;

    apr_pool_create(&p, NULL);
    if (tus_seal_make(seal, scratch, "text", p) != APR_SUCCESS) {
        strcpy(seal, "");
    }
    apr_pool_destroy(p);
    return NULL;
}

START_TEST(all_use_the_first_key)
{
    char seals[THREADS][TUS_SEAL_SIZE];
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, seal_one, seals[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(tus_seal_check(seals[i], scratch, "text", unit_pool), APR_SUCCESS);
    }
}
END_TEST

Suite *seal_suite(void)
{
    Suite *suite = suite_create("seal");
    TCase *tcase = add_scratch_case(suite, "seal");

    tcase_add_checked_fixture(tcase, make_stores, NULL);
    tcase_add_test(tcase, text_is_sealed_for_its_store);
    tcase_add_test(tcase, damaged_seal_is_none);
    tcase_add_test(tcase, key_is_nobody_elses_and_nothing_else_is_left);
    tcase_add_test(tcase, without_a_key_nothing_is_sealed);
    tcase_add_loop_test(tcase, damaged_key_is_an_error, 0, (int)(sizeof(keys) / sizeof(keys[0])));
    tcase_add_test(tcase, linked_key_is_an_error);
    tcase_add_test(tcase, all_use_the_first_key);
    return suite;
}
