/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * locking.h: a locker, and what requests of this and other processes do with it.
 * Whatever fails, fails the test.
 */
#ifndef LOCKING_H
#define LOCKING_H

#include "peers.h"
#include "mod_tus.h"

#include <apr_thread_proc.h>

/** A lock provider, and a way to open it. */
typedef struct locker_t {
    const char *name;
    const tus_lock_provider_t *provider;
    int wakes; /**< wakeup() is more than APR_ENOTIMPL */
    /** Makes place for so many uploads that are held and processes; once in a test. */
    void (*make)(unsigned entries, unsigned processes);
    /** Opens it in this process, also one that was forked after make(). */
    apr_status_t (*attach)(tus_locks_t **locks, apr_pool_t *p);
} locker_t;

/** The one under test, and as this process has it. */
extern const locker_t *locker;
extern tus_locks_t *locks;

/** The store that all uploads here are of. */
extern const tus_identity_t a_store;

/** Makes and attaches. */
void begin_locking(const locker_t *under_test, unsigned entries, unsigned processes);

/** Runs fn in a new process that attached. */
peer_t spawn(peer_fn fn, void *arg);

apr_thread_t *run_thread(apr_thread_start_t fn, void *arg);
void join_thread(apr_thread_t *thread);

/** Waits so long at the most; 0 is a try. */
apr_status_t take(const char *id, apr_interval_time_t patience, tus_lock_t **lock, apr_pool_t *p);
tus_lock_t *must_take(const char *id);

/** Whether it could be taken; it is let go. */
apr_status_t try_take(const char *id);

tus_asked_e asked(tus_lock_t *lock);
void release(tus_lock_t *lock);
apr_status_t stop(const char *id);
unsigned count_held(void);

/** Asks the holder, and is gone: nobody asks again. */
void ask_once(const char *id);

/** Polls the wakeup; nonzero if it is readable. */
int is_woken(apr_interval_time_t timeout);

/** As a holder does that has nothing else to wait for; nonzero once it is asked for that. */
int wait_until_asked(tus_lock_t *lock, tus_asked_e what);

/* What other processes do with an id. */
int take_and_leave(peer_t *parent, void *id);
int hold_until_told(peer_t *parent, void *id);
int hold_until_asked(peer_t *parent, void *id);
int hold_until_stopped(peer_t *parent, void *id);

#endif /* LOCKING_H */
