/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_atomic.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>
#include <apr_time.h>

static apr_thread_mutex_t *mutex;

static void setup(void)
{
    ck_assert_int_eq(apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_UNNESTED, unit_pool),
                     APR_SUCCESS);
}

START_TEST(mutex_is_locked_at_the_end)
{
    ck_assert(tus_thread_lock_at_end(mutex));
    ck_assert(APR_STATUS_IS_EBUSY(apr_thread_mutex_trylock(mutex)));
    apr_thread_mutex_unlock(mutex);
}
END_TEST

/* As when a signal came while this thread held it. */
START_TEST(mutex_that_stays_locked_is_given_up)
{
    apr_thread_mutex_lock(mutex);
    ck_assert(!tus_thread_lock_at_end(mutex));
    apr_thread_mutex_unlock(mutex);
    ck_assert(tus_thread_lock_at_end(mutex));
    apr_thread_mutex_unlock(mutex);
}
END_TEST

static void *APR_THREAD_FUNC release_soon(apr_thread_t *thread, void *baton)
{
    (void)thread;
    apr_thread_mutex_lock(mutex);
    apr_atomic_set32(baton, 1);
    apr_sleep(apr_time_from_msec(10));
    apr_thread_mutex_unlock(mutex);
    return NULL;
}

START_TEST(mutex_of_a_busy_thread_is_waited_for)
{
    apr_uint32_t is_held = 0;
    apr_thread_t *thread;
    apr_status_t ignored;

    ck_assert_int_eq(tus_thread_create(&thread, release_soon, &is_held, unit_pool), APR_SUCCESS);
    while (!apr_atomic_read32(&is_held)) {
        apr_thread_yield();
    }
    ck_assert(tus_thread_lock_at_end(mutex));
    apr_thread_mutex_unlock(mutex);
    apr_thread_join(&ignored, thread);
}
END_TEST

Suite *thread_suite(void)
{
    Suite *suite = suite_create("thread");
    TCase *tcase = add_case(suite, "thread");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, mutex_is_locked_at_the_end);
    tcase_add_test(tcase, mutex_that_stays_locked_is_given_up);
    tcase_add_test(tcase, mutex_of_a_busy_thread_is_waited_for);
    return suite;
}
