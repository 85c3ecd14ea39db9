/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What mod_tus.h promises of every lock provider, run through by each of them,
 * between real processes and threads.
 */
#include "check_locker.h"

#include <apr_shm.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LOCKERS 4
#define ENTRIES 64
#define PROCESSES 8

/* Those under test; a loop test's index says which. */
static locker_t lockers[MAX_LOCKERS];
static int locker_count;

/* What the processes share besides the locker. */
typedef struct shared_t {
    apr_uint64_t before[8]; /* equal to `after`, but while somebody holds */
    apr_uint64_t after[8];
    apr_uint32_t torn;
    apr_uint32_t over; /* told to those who would go on for ever */
} shared_t;

static shared_t *shared;

static void setup(void)
{
    apr_shm_t *memory;

    ck_assert_int_eq(apr_shm_create(&memory, sizeof(shared_t), NULL, unit_pool), APR_SUCCESS);
    shared = apr_shm_baseaddr_get(memory);
    memset(shared, 0, sizeof(*shared));
}

static void begin(int index)
{
    begin_locking(&lockers[index], ENTRIES, PROCESSES);
}

/* ---- exclusion ----------------------------------------------------------- */

#define ROUNDS 400
#define THREADS 4
#define UPLOADS 4

typedef struct rounds_t {
    unsigned turn;
    apr_status_t rv;
} rounds_t;

/* Waits as requests do, or without a pause, which is the harder test of exclusion. */
static apr_status_t insist(const char *id, int waiting, tus_lock_t **lock, apr_pool_t *p)
{
    apr_time_t deadline = apr_time_now() + PATIENT;
    apr_status_t rv;

    if (waiting) {
        return take(id, PATIENT, lock, p);
    }
    while ((rv = take(id, 0, lock, p)) == APR_EBUSY && apr_time_now() < deadline) {
        sched_yield();
    }
    return rv;
}

/* Holds each upload in turn; anybody else inside would be seen. */
static void *APR_THREAD_FUNC take_rounds(apr_thread_t *thread, void *arg)
{
    rounds_t *rounds = arg;
    unsigned i;

    (void)thread;
    rounds->rv = APR_SUCCESS;
    for (i = 0; i < ROUNDS && rounds->rv == APR_SUCCESS; i++) {
        unsigned u = (rounds->turn + i) % UPLOADS;
        tus_lock_t *lock;
        apr_pool_t *p;

        apr_pool_create(&p, NULL);
        rounds->rv = insist(apr_psprintf(p, "upload-%u", u), i % 2, &lock, p);
        if (rounds->rv == APR_SUCCESS) {
            apr_uint64_t count = shared->before[u];

            if (count != shared->after[u]) {
                shared->torn = 1;
            }
            shared->before[u] = count + 1;
            sched_yield();
            asked(lock);
            if (shared->before[u] != count + 1) {
                shared->torn = 1;
            }
            shared->after[u] = count + 1;
            if (i % 3) {
                release(lock);
            }
        }
        apr_pool_destroy(p); /* releases what still is held */
    }
    return NULL;
}

/* Nonzero if all threads got all that they wanted. */
static int run_rounds(void)
{
    apr_thread_t *threads[THREADS];
    rounds_t rounds[THREADS];
    unsigned i, done = 0;

    for (i = 0; i < THREADS; i++) {
        rounds[i].turn = i;
        threads[i] = run_thread(take_rounds, &rounds[i]);
    }
    for (i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
        done += rounds[i].rv == APR_SUCCESS;
    }
    return done == THREADS;
}

static int run_rounds_when_told(peer_t *parent, void *arg)
{
    (void)arg;
    hear(parent);
    return run_rounds() ? 0 : 1;
}

START_TEST(processes_and_threads_exclude_each_other)
{
    peer_t peers[4];
    apr_uint64_t total = 0;
    unsigned i;

    begin(_i);
    for (i = 0; i < 4; i++) {
        peers[i] = spawn(run_rounds_when_told, NULL);
    }
    for (i = 0; i < 4; i++) {
        say(&peers[i]);
    }
    for (i = 0; i < 4; i++) {
        ck_assert_int_eq(reap_peer(&peers[i]), 0);
    }

    ck_assert_int_eq(shared->torn, 0);
    for (i = 0; i < UPLOADS; i++) {
        ck_assert_uint_eq(shared->before[i], shared->after[i]);
        total += shared->after[i];
    }
    ck_assert_uint_eq(total, 4 * THREADS * ROUNDS);
    ck_assert_int_eq(try_take("upload-0"), APR_SUCCESS);
}
END_TEST

START_TEST(threads_of_one_process_exclude_each_other)
{
    begin(_i);
    ck_assert(run_rounds());
    ck_assert_int_eq(shared->torn, 0);
    ck_assert_uint_eq(shared->after[0], THREADS * ROUNDS / UPLOADS);
}
END_TEST

START_TEST(uploads_are_told_apart)
{
    tus_identity_t other_device = { a_store.device + 1, a_store.inode, a_store.owner };
    tus_identity_t other_inode = { a_store.device, a_store.inode + 1, a_store.owner };
    tus_lock_t *lock;

    begin(_i);
    must_take("same");
    ck_assert_int_eq(
        locker->provider->acquire(locks, &other_device, "same", 0, NULL, &lock, unit_pool),
        APR_SUCCESS);
    ck_assert_int_eq(
        locker->provider->acquire(locks, &other_inode, "same", 0, NULL, &lock, unit_pool),
        APR_SUCCESS);
    ck_assert_int_eq(take("other", 0, &lock, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(take("same", 0, &lock, unit_pool), APR_EBUSY);
}
END_TEST

START_TEST(release_is_idempotent_and_done_by_the_pool)
{
    tus_lock_t *lock;
    apr_pool_t *p;

    begin(_i);
    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(take("id", 0, &lock, p), APR_SUCCESS);
    apr_pool_destroy(p);

    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(take("id", 0, &lock, p), APR_SUCCESS);
    release(lock);
    ck_assert_int_eq(asked(lock), TUS_ASKED_NOTHING);
    must_take("id");
    release(lock);
    apr_pool_destroy(p);
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
}
END_TEST

/* ---- asking -------------------------------------------------------------- */

START_TEST(try_disturbs_nobody)
{
    tus_lock_t *lock;

    begin(_i);
    lock = must_take("id");
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
    ck_assert_int_eq(asked(lock), TUS_ASKED_NOTHING);
    ck_assert(!is_woken(0));
}
END_TEST

START_TEST(holder_is_woken_by_another_process)
{
    tus_lock_t *lock;
    peer_t peer;

    begin(_i);
    lock = must_take("id");
    ck_assert(!is_woken(0));
    peer = spawn(take_and_leave, "id");
    ck_assert(is_woken(PATIENT));
    ck_assert_int_eq(asked(lock), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
    ck_assert_int_eq(asked(lock), TUS_ASKED_RELEASE);
    release(lock);
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert(!is_woken(0));

    /* The next holder is asked nothing. */
    lock = must_take("id");
    ck_assert_int_eq(asked(lock), TUS_ASKED_NOTHING);
}
END_TEST

START_TEST(holder_elsewhere_yields)
{
    peer_t peer;

    begin(_i);
    peer = spawn(hold_until_asked, "id");
    ck_assert(hear(&peer));
    must_take("id");
    ck_assert_int_eq(reap_peer(&peer), 0);
}
END_TEST

START_TEST(holder_that_never_looked_leaves_no_noise)
{
    tus_lock_t *lock;
    peer_t peer;

    begin(_i);
    lock = must_take("id");
    peer = spawn(take_and_leave, "id");
    ck_assert(is_woken(PATIENT));
    release(lock);
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert(!is_woken(0));
}
END_TEST

typedef struct held_t {
    tus_lock_t *lock;
    int was_asked;
} held_t;

static void *APR_THREAD_FUNC hold_in_thread(apr_thread_t *thread, void *arg)
{
    held_t *held = arg;

    (void)thread;
    held->was_asked = wait_until_asked(held->lock, TUS_ASKED_RELEASE);
    release(held->lock);
    return NULL;
}

START_TEST(all_holders_of_a_process_are_woken)
{
    apr_thread_t *threads[THREADS];
    peer_t peers[THREADS];
    held_t held[THREADS];
    char ids[THREADS][8];
    unsigned i;

    begin(_i);
    for (i = 0; i < THREADS; i++) {
        apr_snprintf(ids[i], sizeof(ids[i]), "id-%u", i);
        held[i].lock = must_take(ids[i]);
        threads[i] = run_thread(hold_in_thread, &held[i]);
    }
    for (i = 0; i < THREADS; i++) {
        peers[i] = spawn(take_and_leave, ids[i]);
    }
    for (i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
        ck_assert(held[i].was_asked);
    }
    for (i = 0; i < THREADS; i++) {
        ck_assert_int_eq(reap_peer(&peers[i]), 0);
    }
    ck_assert(!is_woken(0));
}
END_TEST

START_TEST(one_answer_does_not_swallow_anothers_wakeup)
{
    tus_lock_t *first, *second, *third;

    begin(_i);
    first = must_take("first");
    second = must_take("second");
    third = must_take("third");
    ask_once("first");
    ask_once("second");
    ask_once("third");
    ck_assert_int_eq(asked(second), TUS_ASKED_RELEASE);
    ck_assert(is_woken(0));
    release(third);
    ck_assert(is_woken(0));
    ck_assert_int_eq(asked(first), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
}
END_TEST

START_TEST(holder_that_does_not_look_does_not_keep_others_awake)
{
    tus_lock_t *busy, *idle;
    apr_time_t deadline;
    peer_t peer;

    begin(_i);
    busy = must_take("busy");
    idle = must_take("idle");
    peer = spawn(take_and_leave, "busy");
    ck_assert(is_woken(PATIENT));
    deadline = apr_time_now() + PATIENT;
    while (is_woken(0)) {
        ck_assert_int_eq(asked(idle), TUS_ASKED_NOTHING);
        ck_assert(apr_time_now() < deadline);
    }
    /* It is rung for again, so it cannot miss it, and finds it also by itself. */
    ck_assert(is_woken(PATIENT));
    ck_assert_int_eq(asked(busy), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
    release(busy);
    ck_assert_int_eq(reap_peer(&peer), 0);
}
END_TEST

/* ---- giving up ----------------------------------------------------------- */

START_TEST(deadline_ends_the_wait)
{
    tus_lock_t *lock;
    apr_time_t deadline;

    begin(_i);
    must_take("id");
    deadline = apr_time_now() + apr_time_from_msec(30);
    ck_assert_int_eq(
        locker->provider->acquire(locks, &a_store, "id", deadline, NULL, &lock, unit_pool),
        APR_TIMEUP);
    ck_assert(apr_time_now() >= deadline);
}
END_TEST

static void ignore_signal(int signum)
{
    (void)signum;
}

static int signal_parent_until_told(peer_t *parent, void *arg)
{
    (void)arg;
    fcntl(parent->from, F_SETFL, O_NONBLOCK);
    while (!hear(parent)) {
        kill(parent->pid, SIGUSR1);
        apr_sleep(500);
    }
    return 0;
}

START_TEST(signals_do_not_shorten_the_wait)
{
    struct sigaction action;
    tus_lock_t *lock;
    apr_time_t deadline;
    peer_t peer;

    begin(_i);
    memset(&action, 0, sizeof(action));
    action.sa_handler = ignore_signal;
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    must_take("id");
    peer = spawn(signal_parent_until_told, NULL);
    deadline = apr_time_now() + apr_time_from_msec(100);
    ck_assert_int_eq(
        locker->provider->acquire(locks, &a_store, "id", deadline, NULL, &lock, unit_pool),
        APR_TIMEUP);
    ck_assert(apr_time_now() >= deadline);
    say(&peer);
    ck_assert_int_eq(reap_peer(&peer), 0);
}
END_TEST

static int cancelled_at_third(void *count)
{
    return ++*(int *)count == 3;
}

START_TEST(cancel_ends_the_wait)
{
    int count = 0;
    tus_cancel_t cancel = { cancelled_at_third, &count };
    tus_lock_t *lock;

    begin(_i);
    must_take("id");
    ck_assert_int_eq(locker->provider->acquire(locks, &a_store, "id", apr_time_now() + PATIENT,
                                               &cancel, &lock, unit_pool),
                     APR_EINTR);
    ck_assert_int_eq(count, 3);
}
END_TEST

typedef struct overtaken_t {
    tus_lock_t *first, *newest;
} overtaken_t;

/* The first time that a waiter looks, the holder goes and a newer one has the upload. */
static int overtake(void *data)
{
    overtaken_t *overtaken = data;

    if (overtaken->newest) {
        return 1;
    }
    release(overtaken->first);
    overtaken->newest = must_take("id");
    return 0;
}

START_TEST(waiter_does_not_interrupt_a_newer_holder)
{
    overtaken_t overtaken = { NULL, NULL };
    tus_cancel_t cancel = { overtake, &overtaken };
    tus_lock_t *lock;

    begin(_i);
    overtaken.first = must_take("id");
    ck_assert_int_eq(locker->provider->acquire(locks, &a_store, "id", apr_time_now() + PATIENT,
                                               &cancel, &lock, unit_pool),
                     APR_EINTR);
    ck_assert_int_eq(asked(overtaken.newest), TUS_ASKED_NOTHING);
    ck_assert(!is_woken(0));
    ask_once("id");
    ck_assert_int_eq(asked(overtaken.newest), TUS_ASKED_RELEASE);
}
END_TEST

/* ---- the killed ---------------------------------------------------------- */

START_TEST(killed_holder_is_replaced)
{
    peer_t peer;

    begin(_i);
    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
    kill_peer(&peer);
    ck_assert_int_eq(try_take("id"), APR_SUCCESS); /* though it is not reaped */
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);

    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    kill_peer(&peer);
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);
    must_take("id");
}
END_TEST

START_TEST(holder_killed_while_another_waits)
{
    peer_t holder, waiter;

    begin(_i);
    holder = spawn(hold_until_told, "id");
    ck_assert(hear(&holder));
    waiter = spawn(take_and_leave, "id");
    kill_peer(&holder);
    ck_assert_int_eq(reap_peer(&waiter), 0);
    ck_assert_int_eq(reap_peer(&holder), -SIGKILL);
}
END_TEST

START_TEST(killed_waiter_leaves_no_trace)
{
    tus_lock_t *lock;
    peer_t peer;

    begin(_i);
    lock = must_take("id");
    peer = spawn(take_and_leave, "id");
    ck_assert(is_woken(PATIENT));
    kill_peer(&peer);
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);
    ck_assert_int_eq(asked(lock), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
    release(lock);
    ck_assert_int_eq(try_take("id"), APR_SUCCESS);
}
END_TEST

static int take_and_release_for_ever(peer_t *parent, void *arg)
{
    unsigned i;

    (void)arg;
    say(parent);
    for (i = 0;; i++) {
        tus_lock_t *lock;
        apr_pool_t *p;

        apr_pool_create(&p, NULL);
        if (take(apr_psprintf(p, "upload-%u", i % UPLOADS), PATIENT, &lock, p) != APR_SUCCESS) {
            return 1;
        }
        if (i % 2) {
            asked(lock);
        }
        apr_pool_destroy(p);
    }
}

START_TEST(killed_at_any_instant)
{
    peer_t peers[3];
    unsigned round, i;

    begin_locking(&lockers[_i], UPLOADS, 4);
    for (round = 0; round < 60; round++) {
        for (i = 0; i < 3; i++) {
            peers[i] = spawn(take_and_release_for_ever, NULL);
            ck_assert(hear(&peers[i]));
        }
        apr_sleep(rand() % 3000); /* so that the kill falls somewhere else each time */
        for (i = 0; i < 3; i++) {
            kill_peer(&peers[i]);
            ck_assert_int_eq(reap_peer(&peers[i]), -SIGKILL);
        }
        for (i = 0; i < UPLOADS; i++) {
            char id[16];

            apr_snprintf(id, sizeof(id), "upload-%u", i);
            ck_assert_int_eq(try_take(id), APR_SUCCESS);
        }
    }
}
END_TEST

/* When it was started, as the system says it: field 22 of its stat. */
/* ---- stopping ------------------------------------------------------------ */

START_TEST(nobody_there_to_be_stopped)
{
    tus_identity_t other_device = { a_store.device + 1, a_store.inode, a_store.owner };
    tus_identity_t other_inode = { a_store.device, a_store.inode + 1, a_store.owner };
    tus_lock_t *lock;

    begin(_i);
    ck_assert(APR_STATUS_IS_ENOENT(stop("id")));
    lock = must_take("id");
    ck_assert(APR_STATUS_IS_ENOENT(stop("other")));
    ck_assert(APR_STATUS_IS_ENOENT(locker->provider->stop(locks, &other_device, "id")));
    ck_assert(APR_STATUS_IS_ENOENT(locker->provider->stop(locks, &other_inode, "id")));
    ck_assert_int_eq(asked(lock), TUS_ASKED_NOTHING);
    release(lock);
    ck_assert(APR_STATUS_IS_ENOENT(stop("id")));
}
END_TEST

START_TEST(the_dead_are_not_stopped)
{
    tus_lock_t *lock;
    peer_t peer;

    begin(_i);
    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    kill_peer(&peer);
    ck_assert(APR_STATUS_IS_ENOENT(stop("id"))); /* though it is not reaped */
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);
    ck_assert(APR_STATUS_IS_ENOENT(stop("id")));
    lock = must_take("id");
    ck_assert_int_eq(asked(lock), TUS_ASKED_NOTHING);
}
END_TEST

START_TEST(stop_reaches_a_holder_of_this_process)
{
    tus_lock_t *lock, *other;

    begin(_i);
    lock = must_take("id");
    other = must_take("other");
    ck_assert_int_eq(stop("id"), APR_SUCCESS);
    ck_assert_int_eq(stop("id"), APR_SUCCESS);
    ck_assert_int_eq(asked(other), TUS_ASKED_NOTHING);
    ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
    ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
    release(lock);

    /* The next holder is asked nothing. */
    ck_assert_int_eq(asked(must_take("id")), TUS_ASKED_NOTHING);
}
END_TEST

START_TEST(stop_reaches_a_holder_elsewhere)
{
    peer_t peer;

    begin(_i);
    peer = spawn(hold_until_stopped, "id");
    ck_assert(hear(&peer));
    ck_assert_int_eq(stop("id"), APR_SUCCESS);
    must_take("id");
    ck_assert_int_eq(reap_peer(&peer), 0);
}
END_TEST

static int stop_once(peer_t *parent, void *id)
{
    (void)parent;
    return stop(id) == APR_SUCCESS ? 0 : 1;
}

START_TEST(stop_wakes)
{
    tus_lock_t *lock;
    peer_t peer;

    begin(_i);
    lock = must_take("id");
    peer = spawn(stop_once, "id");
    ck_assert(is_woken(PATIENT));
    ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
    ck_assert(!is_woken(0));
    ck_assert_int_eq(reap_peer(&peer), 0);
}
END_TEST

START_TEST(stop_wakes_a_holder_that_was_asked_to_release)
{
    tus_lock_t *lock;

    begin(_i);
    lock = must_take("id");
    ask_once("id");
    ck_assert_int_eq(asked(lock), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
    ck_assert_int_eq(stop("id"), APR_SUCCESS);
    ck_assert(is_woken(0));
    ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
    ck_assert(!is_woken(0));
}
END_TEST

START_TEST(stop_is_the_last_word)
{
    tus_lock_t *lock;

    begin(_i);
    lock = must_take("id");
    ask_once("id");
    ck_assert_int_eq(stop("id"), APR_SUCCESS); /* before it looked */
    ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
    ask_once("id");
    ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
    ck_assert(!is_woken(0));
    release(lock);
    lock = must_take("id");
    ck_assert_int_eq(stop("id"), APR_SUCCESS);
    ask_once("id"); /* before it looked */
    ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
}
END_TEST

static const char *storm_id(unsigned i)
{
    static const char *const ids[UPLOADS] = { "upload-0", "upload-1", "upload-2", "upload-3" };

    return ids[i % UPLOADS];
}

/* Holds one upload after another; what it is asked for may become more, never less. */
static void *APR_THREAD_FUNC hold_in_a_storm(apr_thread_t *thread, void *arg)
{
    unsigned *stopped = arg, i, look;

    (void)thread;
    for (i = 0; i < ROUNDS; i++) {
        tus_asked_e before = TUS_ASKED_NOTHING;
        tus_lock_t *lock;
        apr_pool_t *p;

        apr_pool_create(&p, NULL);
        if (take(storm_id(i), PATIENT, &lock, p) != APR_SUCCESS) {
            shared->torn = 1;
        }
        for (look = 0; look < 4 && !shared->torn; look++) {
            tus_asked_e now = asked(lock);

            if (now < before) {
                shared->torn = 1;
            }
            before = now;
            sched_yield();
        }
        *stopped += before == TUS_ASKED_STOP;
        apr_pool_destroy(p);
    }
    return NULL;
}

static void *APR_THREAD_FUNC stop_in_a_storm(apr_thread_t *thread, void *arg)
{
    unsigned *found = arg, i;

    (void)thread;
    for (i = 0; !__atomic_load_n(&shared->over, __ATOMIC_ACQUIRE); i++) {
        apr_status_t rv = stop(storm_id(i));

        *found += rv == APR_SUCCESS;
        if ((rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) || count_held() > UPLOADS) {
            shared->torn = 1;
        }
    }
    return NULL;
}

static int storm(peer_t *parent, void *arg)
{
    apr_thread_t *holders[THREADS], *stopper;
    unsigned stopped[THREADS] = { 0 }, found = 0, all = 0, i;

    (void)arg;
    hear(parent);
    stopper = run_thread(stop_in_a_storm, &found);
    for (i = 0; i < THREADS; i++) {
        holders[i] = run_thread(hold_in_a_storm, &stopped[i]);
    }
    for (i = 0; i < THREADS; i++) {
        join_thread(holders[i]);
        all += stopped[i];
    }
    say(parent);
    hear(parent);
    join_thread(stopper);
    return found > 0 && all > 0 ? 0 : 1;
}

START_TEST(processes_and_threads_stop_each_other)
{
    peer_t peers[2];
    unsigned i;

    begin(_i);
    for (i = 0; i < 2; i++) {
        peers[i] = spawn(storm, NULL);
    }
    for (i = 0; i < 2; i++) {
        say(&peers[i]);
    }
    for (i = 0; i < 2; i++) {
        ck_assert(hear(&peers[i]));
    }
    __atomic_store_n(&shared->over, 1, __ATOMIC_RELEASE);
    for (i = 0; i < 2; i++) {
        say(&peers[i]);
        ck_assert_int_eq(reap_peer(&peers[i]), 0);
    }
    ck_assert_int_eq(shared->torn, 0);
    ck_assert_uint_eq(count_held(), 0);
    ck_assert_int_eq(asked(must_take(storm_id(0))), TUS_ASKED_NOTHING);
}
END_TEST

static int stop_for_ever(peer_t *parent, void *arg)
{
    unsigned i;

    (void)arg;
    say(parent);
    for (i = 0;; i++) {
        apr_status_t rv = stop(storm_id(i));

        if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) {
            return 1;
        }
        try_take(storm_id(i + 1));
    }
}

START_TEST(killed_while_it_stops)
{
    unsigned round, i;

    begin_locking(&lockers[_i], UPLOADS, 4);
    for (round = 0; round < 60; round++) {
        tus_lock_t *lock = must_take(storm_id(round));
        peer_t peer = spawn(stop_for_ever, NULL);

        ck_assert(hear(&peer));
        ck_assert(wait_until_asked(lock, TUS_ASKED_STOP));
        kill_some_time(&peer, 2000);
        ck_assert_int_eq(asked(lock), TUS_ASKED_STOP);
        release(lock);
        for (i = 0; i < UPLOADS; i++) {
            ck_assert(APR_STATUS_IS_ENOENT(stop(storm_id(i))));
            ck_assert_int_eq(try_take(storm_id(i)), APR_SUCCESS);
        }
        ck_assert_uint_eq(count_held(), 0);
    }
}
END_TEST

/* ---- counting ------------------------------------------------------------ */

START_TEST(what_is_held_is_counted)
{
    tus_identity_t other = { a_store.device, a_store.inode + 1, a_store.owner };
    tus_lock_t *lock;
    peer_t peer;

    begin(_i);
    ck_assert_uint_eq(count_held(), 0);
    lock = must_take("one");
    must_take("two");
    ck_assert_uint_eq(count_held(), 2);
    ck_assert_int_eq(try_take("one"), APR_EBUSY);
    ck_assert_uint_eq(count_held(), 2);
    peer = spawn(hold_until_told, "three");
    ck_assert(hear(&peer));
    ck_assert_uint_eq(count_held(), 3);
    release(lock);
    ck_assert_uint_eq(count_held(), 2);
    ck_assert_int_eq(locker->provider->acquire(locks, &other, "two", 0, NULL, &lock, unit_pool),
                     APR_SUCCESS);
    ck_assert_uint_eq(count_held(), 3);
    say(&peer);
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert_uint_eq(count_held(), 2);
}
END_TEST

static int count_two(peer_t *parent, void *arg)
{
    (void)parent;
    (void)arg;
    return count_held() == 2 ? 0 : 1;
}

START_TEST(every_process_counts_the_same)
{
    peer_t holder, counter;

    begin(_i);
    must_take("one");
    holder = spawn(hold_until_told, "two");
    ck_assert(hear(&holder));
    counter = spawn(count_two, NULL);
    ck_assert_int_eq(reap_peer(&counter), 0);
    say(&holder);
    ck_assert_int_eq(reap_peer(&holder), 0);
}
END_TEST

START_TEST(the_dead_are_not_counted)
{
    peer_t peer;

    begin(_i);
    must_take("mine");
    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    ck_assert_uint_eq(count_held(), 2);
    kill_peer(&peer);
    ck_assert_uint_eq(count_held(), 1); /* though it is not reaped */
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);
    ck_assert_uint_eq(count_held(), 1);
}
END_TEST

/* ---- as many as there is place for --------------------------------------- */

static const char *scattered(unsigned i)
{
    return apr_psprintf(unit_pool, "%08x%08x", i * 2654435761u, i);
}

START_TEST(all_entries_can_be_held)
{
    unsigned i;

    begin_locking(&lockers[_i], 1000, PROCESSES);
    for (i = 0; i < 1000; i++) {
        must_take(scattered(i));
    }
    for (i = 0; i < 1000; i++) {
        ck_assert_int_eq(try_take(scattered(i)), APR_EBUSY);
    }
}
END_TEST

/* ---- the suite ----------------------------------------------------------- */

void locker_conformance(Suite *suite, const locker_t *under_test)
{
    TCase *tcase = add_case(suite, under_test->name);
    int i = locker_count++;

    if (i >= MAX_LOCKERS) {
        abort();
    }
    lockers[i] = *under_test;
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 120); /* also with valgrind */

#define HOLDS(test) tcase_add_loop_test(tcase, test, i, i + 1)
    HOLDS(processes_and_threads_exclude_each_other);
    HOLDS(threads_of_one_process_exclude_each_other);
    HOLDS(uploads_are_told_apart);
    HOLDS(release_is_idempotent_and_done_by_the_pool);
    HOLDS(try_disturbs_nobody);
    HOLDS(holder_elsewhere_yields);
    HOLDS(deadline_ends_the_wait);
    HOLDS(signals_do_not_shorten_the_wait);
    HOLDS(cancel_ends_the_wait);
    HOLDS(waiter_does_not_interrupt_a_newer_holder);
    HOLDS(killed_holder_is_replaced);
    HOLDS(holder_killed_while_another_waits);
    HOLDS(killed_at_any_instant);
    HOLDS(nobody_there_to_be_stopped);
    HOLDS(the_dead_are_not_stopped);
    HOLDS(stop_reaches_a_holder_of_this_process);
    HOLDS(stop_reaches_a_holder_elsewhere);
    HOLDS(stop_is_the_last_word);
    HOLDS(processes_and_threads_stop_each_other);
    HOLDS(killed_while_it_stops);
    HOLDS(what_is_held_is_counted);
    HOLDS(every_process_counts_the_same);
    HOLDS(the_dead_are_not_counted);
    HOLDS(all_entries_can_be_held);
    if (under_test->wakes) {
        HOLDS(holder_is_woken_by_another_process);
        HOLDS(holder_that_never_looked_leaves_no_noise);
        HOLDS(all_holders_of_a_process_are_woken);
        HOLDS(one_answer_does_not_swallow_anothers_wakeup);
        HOLDS(holder_that_does_not_look_does_not_keep_others_awake);
        HOLDS(killed_waiter_leaves_no_trace);
        HOLDS(stop_wakes);
        HOLDS(stop_wakes_a_holder_that_was_asked_to_release);
    }
#undef HOLDS
}
