/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A receiver that cannot hear is nudged. HTTP_IN reads what follows the last
 * chunk of a chunked body blocking: a client that stays silent there would keep
 * its upload from a newer request until it times out. So a thread of this
 * process looks after such receivers, and shuts the socket of one down for
 * reading that was asked to let go and did not react: the read ends, and the
 * answer can still leave.
 *
 * The thread is made with the first chunked body, and sleeps while there is none.
 */
#include "tus_httpd.h"

#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>

#include <http_core.h>

/* How often the thread looks, and how long a receiver may take to react. */
#define INTERVAL apr_time_from_msec(10)
#define GRACE apr_time_from_msec(50)

static apr_thread_mutex_t *mutex;
static apr_thread_cond_t *changed;
static apr_pool_t *pool; /* for the thread alone */
static apr_thread_t *thread;
static tus_nudge_t *watched; /* a list, under the mutex like all below */
static int is_ending;

static void look(tus_nudge_t *nudge, apr_time_t now)
{
    if (nudge->done || nudge->locks->provider->peek(nudge->lock) == TUS_ASKED_NOTHING) {
        return;
    }
    if (!nudge->asked) {
        nudge->asked = now;
    }
    if (now - nudge->asked >= GRACE) {
        apr_socket_shutdown(nudge->socket, APR_SHUTDOWN_READ);
        nudge->done = 1;
    }
}

static void *APR_THREAD_FUNC run(apr_thread_t *self, void *baton)
{
    (void)self;
    (void)baton;
    apr_thread_mutex_lock(mutex);
    while (!is_ending) {
        apr_time_t now;

        if (!watched) {
            apr_thread_cond_wait(changed, mutex);
            continue;
        }
        now = apr_time_now();
        for (tus_nudge_t *nudge = watched; nudge; nudge = nudge->next) {
            look(nudge, now);
        }
        apr_thread_cond_timedwait(changed, mutex, INTERVAL);
    }
    apr_thread_mutex_unlock(mutex);
    return NULL;
}

/* The module's code is unmapped after this. */
static apr_status_t end(void *baton)
{
    apr_status_t rv;

    (void)baton;
    if (!tus_thread_lock_at_end(mutex)) {
        return APR_SUCCESS;
    }
    is_ending = 1;
    apr_thread_cond_signal(changed);
    apr_thread_mutex_unlock(mutex);
    return thread ? apr_thread_join(&rv, thread) : APR_SUCCESS;
}

void tus_nudge_init(apr_pool_t *pchild)
{
    apr_pool_create(&pool, pchild);
    if (apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_DEFAULT, pchild) != APR_SUCCESS
        || apr_thread_cond_create(&changed, pchild) != APR_SUCCESS) {
        mutex = NULL;
        return;
    }
    apr_pool_pre_cleanup_register(pchild, NULL, end);
}

void tus_nudge_begin(tus_nudge_t *nudge, const request_rec *r, const tus_upload_t *upload)
{
    *nudge = (tus_nudge_t){ .locks = upload->core->locks, .lock = upload->lock };
    if (!mutex || r->connection->master || !apr_table_get(r->headers_in, "Transfer-Encoding")
        || !nudge->locks->provider->peek) {
        return;
    }
    nudge->socket = ap_get_conn_socket(r->connection);
    apr_thread_mutex_lock(mutex);
    if (!thread && tus_thread_create(&thread, run, NULL, pool) != APR_SUCCESS) {
        thread = NULL;
    }
    nudge->next = watched;
    watched = nudge;
    apr_thread_cond_signal(changed);
    apr_thread_mutex_unlock(mutex);
}

void tus_nudge_end(tus_nudge_t *nudge)
{
    tus_nudge_t **link = &watched;

    if (!nudge->socket) {
        return;
    }
    apr_thread_mutex_lock(mutex);
    while (*link != nudge) {
        link = &(*link)->next;
    }
    *link = nudge->next;
    apr_thread_mutex_unlock(mutex);
}
