/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Threads of our own, and of libraries that we call. An MPM may end a child from
 * a signal's handler (prefork does), with all that the child has; a second signal
 * in another thread would do so once more. So no thread that we make takes any.
 */
#include "tus_words.h"

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
