/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Runs all suites. CK_RUN_SUITE=NAME runs one, CK_FORK=no keeps them in this
 * process, CK_VERBOSITY=verbose names each test.
 */
#include "suites.h"

#include <apr_general.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_STACK (128 * 1024)

static Suite *(*const suites[])(void) = {
#define NAME_SUITE(name) name##_suite,
    TUS_SUITES(NAME_SUITE)
#undef NAME_SUITE
};

apr_pool_t *unit_pool;

static void make_pool(void)
{
    own_asserts();
    ck_assert_int_eq(apr_pool_create(&unit_pool, NULL), APR_SUCCESS);
}

static void destroy_pool(void)
{
    apr_pool_destroy(unit_pool);
    unit_pool = NULL;
}

TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, make_pool, destroy_pool);
    suite_add_tcase(suite, tcase);
    return tcase;
}

char *exact_copy(const char *bytes, apr_size_t len)
{
    char *copy = malloc(len ? len : 1);

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, len);
    return copy;
}

static void *run(void *fn)
{
    (*(void (**)(void))fn)();
    return NULL;
}

void on_small_stack(void (*fn)(void))
{
    pthread_attr_t attr;
    pthread_t thread;

    ck_assert_int_eq(pthread_attr_init(&attr), 0);
    ck_assert_int_eq(pthread_attr_setstacksize(&attr, SMALL_STACK), 0);
    ck_assert_int_eq(pthread_create(&thread, &attr, run, &fn), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attr);
}

int main(void)
{
    SRunner *runner = srunner_create(NULL);
    apr_size_t i;
    int failed;

    if (apr_initialize() != APR_SUCCESS) {
        return EXIT_FAILURE;
    }
    for (i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        srunner_add_suite(runner, suites[i]());
    }
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    apr_terminate();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
