/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Threads of our own, and of libraries that we call. An MPM may end a child from
 * a signal's handler (prefork does), with all that the child has; a second signal
 * in another thread would do so once more. So no thread that we make takes any.
 */
#include "tus_words.h"

#include <apr_thread_mutex.h>
#include <apr_time.h>

/* How often a mutex is tried at the end, and what passes between two tries. */
#define PATIENCE 100
#define MOMENT apr_time_from_msec(1)

void tus_thread_hold_signals(sigset_t *before)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

void tus_thread_release_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

int tus_thread_lock_at_end(apr_thread_mutex_t *mutex)
{
    int left = PATIENCE;

    while (apr_thread_mutex_trylock(mutex) != APR_SUCCESS) {
        if (!left--) {
            return 0;
        }
        apr_sleep(MOMENT);
    }
    return 1;
}

apr_status_t tus_thread_create(apr_thread_t **thread, apr_thread_start_t run, void *baton,
                               apr_pool_t *p)
{
    sigset_t before;
    apr_status_t rv;

    tus_thread_hold_signals(&before);
    rv = apr_thread_create(thread, NULL, run, baton, p);
    tus_thread_release_signals(&before);
    return rv;
}
