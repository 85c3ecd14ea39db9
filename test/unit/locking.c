/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "locking.h"

#include <unistd.h>

const locker_t *locker;
tus_locks_t *locks;
const tus_identity_t a_store = { 2049, 4711, 33 };

void begin_locking(const locker_t *under_test, unsigned entries, unsigned processes)
{
    locker = under_test;
    locker->make(entries, processes);
    ck_assert_int_eq(locker->attach(&locks, unit_pool), APR_SUCCESS);
    ck_assert_ptr_eq(locks->provider, locker->provider);
}

/* ---- processes and threads ----------------------------------------------- */

typedef struct task_t {
    peer_fn fn;
    void *arg;
} task_t;

static int attach_and_run(peer_t *parent, void *arg)
{
    task_t *task = arg;

    return locker->attach(&locks, unit_pool) == APR_SUCCESS ? task->fn(parent, task->arg) : 91;
}

peer_t spawn(peer_fn fn, void *arg)
{
    task_t task = { fn, arg };

    return spawn_peer(attach_and_run, &task);
}

apr_thread_t *run_thread(apr_thread_start_t fn, void *arg)
{
    apr_thread_t *thread;

    ck_assert_int_eq(apr_thread_create(&thread, NULL, fn, arg, unit_pool), APR_SUCCESS);
    return thread;
}

void join_thread(apr_thread_t *thread)
{
    apr_status_t result;

    ck_assert_int_eq(apr_thread_join(&result, thread), APR_SUCCESS);
}

/* ---- short forms --------------------------------------------------------- */

apr_status_t take(const char *id, apr_interval_time_t patience, tus_lock_t **lock, apr_pool_t *p)
{
    apr_time_t deadline = patience ? apr_time_now() + patience : 0;

    return locker->provider->acquire(locks, &a_store, id, deadline, NULL, lock, p);
}

tus_lock_t *must_take(const char *id)
{
    tus_lock_t *lock = NULL;

    ck_assert_int_eq(take(id, PATIENT, &lock, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(lock);
    return lock;
}

apr_status_t try_take(const char *id)
{
    tus_lock_t *lock;
    apr_status_t rv = take(id, 0, &lock, unit_pool);

    if (rv == APR_SUCCESS) {
        release(lock);
    }
    return rv;
}

tus_asked_e asked(tus_lock_t *lock)
{
    return locker->provider->asked(lock);
}

void release(tus_lock_t *lock)
{
    locker->provider->release(lock);
}

apr_status_t stop(const char *id)
{
    return locker->provider->stop(locks, &a_store, id);
}

unsigned count_held(void)
{
    unsigned held = 4711;

    ck_assert_int_eq(locker->provider->count(locks, &held), APR_SUCCESS);
    return held;
}

void ask_once(const char *id)
{
    tus_lock_t *lock;

    ck_assert_int_eq(take(id, 1, &lock, unit_pool), APR_TIMEUP);
}

int is_woken(apr_interval_time_t timeout)
{
    apr_pollfd_t pollfd;
    apr_int32_t n = 0;
    apr_status_t rv;

    if (locker->provider->wakeup(locks, &pollfd) != APR_SUCCESS) {
        return 0;
    }
    do {
        rv = apr_poll(&pollfd, 1, &n, timeout);
    } while (APR_STATUS_IS_EINTR(rv));
    return rv == APR_SUCCESS && n == 1 && (pollfd.rtnevents & APR_POLLIN);
}

int wait_until_asked(tus_lock_t *lock, tus_asked_e what)
{
    apr_time_t deadline = apr_time_now() + PATIENT;

    while (asked(lock) != what) {
        if (apr_time_now() >= deadline) {
            return 0;
        }
        if (locker->wakes) {
            is_woken(PATIENT);
        }
        else {
            apr_sleep(apr_time_from_msec(1));
        }
    }
    return 1;
}

/* ---- what other processes do --------------------------------------------- */

int take_and_leave(peer_t *parent, void *id)
{
    tus_lock_t *lock;

    (void)parent;
    if (take(id, PATIENT, &lock, unit_pool) != APR_SUCCESS) {
        return 1;
    }
    release(lock);
    return 0;
}

int hold_until_told(peer_t *parent, void *id)
{
    tus_lock_t *lock;

    if (take(id, PATIENT, &lock, unit_pool) != APR_SUCCESS) {
        return 1;
    }
    say(parent);
    hear(parent);
    release(lock);
    return 0;
}

static int hold_until(peer_t *parent, const char *id, tus_asked_e what)
{
    tus_lock_t *lock;

    if (take(id, PATIENT, &lock, unit_pool) != APR_SUCCESS) {
        return 1;
    }
    say(parent);
    if (!wait_until_asked(lock, what)) {
        return 2;
    }
    release(lock);
    return 0;
}

int hold_until_asked(peer_t *parent, void *id)
{
    return hold_until(parent, id, TUS_ASKED_RELEASE);
}

int hold_until_stopped(peer_t *parent, void *id)
{
    return hold_until(parent, id, TUS_ASKED_STOP);
}
