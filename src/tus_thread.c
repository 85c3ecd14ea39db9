/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Threads of our own. An MPM may end a child from a signal's handler (prefork
 * does), with all that the child has; a second signal in another thread would do
 * so once more. So no thread that we make takes any.
 */
#include "tus_words.h"

#include <signal.h>

apr_status_t tus_thread_create(apr_thread_t **thread, apr_thread_start_t run, void *baton,
                               apr_pool_t *p)
{
    sigset_t all, before;
    apr_status_t rv;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by what is made meanwhile */
    rv = apr_thread_create(thread, NULL, run, baton, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rv;
}
