/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The lock provider "shm", between real processes and threads.
 *
 * Processes tell each other of progress through pipes. Whatever must happen
 * "soon" is waited for up to PATIENT, which is far longer than it ever takes.
 */
#include "suites.h"
#include "tus_words.h"

#include <apr_general.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENT apr_time_from_sec(30)
#define ENTRIES 64
#define PROCESSES 8

/* What the processes share besides the table. */
typedef struct shared_t {
    apr_uint64_t before[8]; /* equal to `after`, but while somebody holds */
    apr_uint64_t after[8];
    apr_uint32_t torn;
} shared_t;

static apr_global_mutex_t *mutex;
static void *base;
static apr_size_t size;
static shared_t *shared;
static tus_locks_t *locks; /* this process's */

static const tus_identity_t store = { 2049, 4711, 33 };
static const tus_lock_provider_t *const shm = &tus_lock_shm;

/* ---- fixture ------------------------------------------------------------- */

static void make_table(unsigned entries, unsigned processes)
{
    apr_shm_t *memory;

    size = tus_lock_shm_size(entries, processes);
    ck_assert_int_eq(apr_shm_create(&memory, size, NULL, unit_pool), APR_SUCCESS);
    base = apr_shm_baseaddr_get(memory);
    memset(base, 0, size);
    ck_assert_int_eq(tus_lock_shm_init(base, size, entries, processes), APR_SUCCESS);
}

static apr_status_t attach(void)
{
    return tus_lock_shm_attach(&locks, base, size, mutex, unit_pool);
}

static void make_and_attach(unsigned entries, unsigned processes)
{
    make_table(entries, processes);
    ck_assert_int_eq(attach(), APR_SUCCESS);
}

static void setup(void)
{
    apr_shm_t *memory;

    ck_assert_int_eq(apr_global_mutex_create(&mutex, NULL, APR_LOCK_DEFAULT, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(apr_shm_create(&memory, sizeof(shared_t), NULL, unit_pool), APR_SUCCESS);
    shared = apr_shm_baseaddr_get(memory);
    memset(shared, 0, sizeof(*shared));
}

/* ---- processes and threads ----------------------------------------------- */

/* Another process, with a table of its own handle, and a pipe each way. */
typedef struct peer_t {
    pid_t pid;
    int from; /* what it says */
    int to;   /* what it is told */
} peer_t;

typedef int (*peer_fn)(peer_t *parent, void *arg);

static void say(peer_t *peer)
{
    if (write(peer->to, "x", 1) != 1) {
        _exit(90);
    }
}

/* Nonzero once the other said something; 0 if it ended. */
static int hear(peer_t *peer)
{
    char c;
    apr_ssize_t got;

    do {
        got = read(peer->from, &c, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1;
}

/* Runs fn in a new process that attached; its result is the exit code. */
static peer_t spawn(peer_fn fn, void *arg)
{
    int up[2], down[2];
    peer_t peer;

    ck_assert_int_eq(pipe2(up, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(down, O_CLOEXEC), 0);
    peer.pid = fork();
    ck_assert_int_ge(peer.pid, 0);
    if (peer.pid == 0) {
        peer_t parent = { getppid(), down[0], up[1] };

        close(up[0]);
        close(down[1]);
        apr_pool_create(&unit_pool, NULL);
        if (apr_global_mutex_child_init(&mutex, apr_global_mutex_lockfile(mutex), unit_pool)
            || attach()) {
            _exit(91);
        }
        _exit(fn(&parent, arg));
    }
    close(up[1]);
    close(down[0]);
    peer.from = up[0];
    peer.to = down[1];
    return peer;
}

/* The exit code, or minus the signal. */
static int reap(peer_t *peer)
{
    int status;

    while (waitpid(peer->pid, &status, 0) < 0) {
        ck_assert_int_eq(errno, EINTR);
    }
    close(peer->from);
    close(peer->to);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Kills it and waits until only the zombie is left, which is not reaped yet. */
static void kill_peer(peer_t *peer)
{
    siginfo_t info;

    ck_assert_int_eq(kill(peer->pid, SIGKILL), 0);
    ck_assert_int_eq(waitid(P_PID, (id_t)peer->pid, &info, WEXITED | WNOWAIT), 0);
}

static apr_thread_t *run_thread(apr_thread_start_t fn, void *arg)
{
    apr_thread_t *thread;

    ck_assert_int_eq(apr_thread_create(&thread, NULL, fn, arg, unit_pool), APR_SUCCESS);
    return thread;
}

static void join(apr_thread_t *thread)
{
    apr_status_t result;

    ck_assert_int_eq(apr_thread_join(&result, thread), APR_SUCCESS);
}

/* ---- short forms --------------------------------------------------------- */

static apr_status_t take(const char *id, apr_interval_time_t patience, tus_lock_t **lock,
                         apr_pool_t *p)
{
    apr_time_t deadline = patience ? apr_time_now() + patience : 0;

    return shm->acquire(locks, &store, id, deadline, NULL, lock, p);
}

static tus_lock_t *must_take(const char *id)
{
    tus_lock_t *lock = NULL;

    ck_assert_int_eq(take(id, PATIENT, &lock, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(lock);
    return lock;
}

static apr_status_t try_take(const char *id)
{
    tus_lock_t *lock;
    apr_status_t rv = take(id, 0, &lock, unit_pool);

    if (rv == APR_SUCCESS) {
        shm->release(lock);
    }
    return rv;
}

/* Polls the wakeup; nonzero if it is readable. */
static int is_woken(apr_interval_time_t timeout)
{
    apr_pollfd_t pollfd;
    apr_int32_t n = 0;
    apr_status_t rv;

    if (shm->wakeup(locks, &pollfd) != APR_SUCCESS) {
        return 0;
    }
    do {
        rv = apr_poll(&pollfd, 1, &n, timeout);
    } while (APR_STATUS_IS_EINTR(rv));
    return rv == APR_SUCCESS && n == 1 && (pollfd.rtnevents & APR_POLLIN);
}

/* As a holder does that has nothing else to wait for. */
static int wait_until_asked(tus_lock_t *lock)
{
    apr_time_t deadline = apr_time_now() + PATIENT;

    while (shm->asked(lock) != TUS_ASKED_RELEASE) {
        if (apr_time_now() >= deadline) {
            return 0;
        }
        is_woken(PATIENT);
    }
    return 1;
}

/* What other processes do. */

static int take_and_leave(peer_t *parent, void *id)
{
    tus_lock_t *lock;

    (void)parent;
    if (take(id, PATIENT, &lock, unit_pool) != APR_SUCCESS) {
        return 1;
    }
    shm->release(lock);
    return 0;
}

static int hold_until_told(peer_t *parent, void *id)
{
    tus_lock_t *lock;

    if (take(id, PATIENT, &lock, unit_pool) != APR_SUCCESS) {
        return 1;
    }
    say(parent);
    hear(parent);
    shm->release(lock);
    return 0;
}

static int hold_until_asked(peer_t *parent, void *id)
{
    tus_lock_t *lock;

    if (take(id, PATIENT, &lock, unit_pool) != APR_SUCCESS) {
        return 1;
    }
    say(parent);
    if (!wait_until_asked(lock)) {
        return 2;
    }
    shm->release(lock);
    return 0;
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
            shm->asked(lock);
            if (shared->before[u] != count + 1) {
                shared->torn = 1;
            }
            shared->after[u] = count + 1;
            if (i % 3) {
                shm->release(lock);
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
        join(threads[i]);
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

    make_and_attach(ENTRIES, PROCESSES);
    for (i = 0; i < 4; i++) {
        peers[i] = spawn(run_rounds_when_told, NULL);
    }
    for (i = 0; i < 4; i++) {
        say(&peers[i]);
    }
    for (i = 0; i < 4; i++) {
        ck_assert_int_eq(reap(&peers[i]), 0);
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
    make_and_attach(ENTRIES, PROCESSES);
    ck_assert(run_rounds());
    ck_assert_int_eq(shared->torn, 0);
    ck_assert_uint_eq(shared->after[0], THREADS * ROUNDS / UPLOADS);
}
END_TEST

START_TEST(uploads_are_told_apart)
{
    tus_identity_t other_device = { store.device + 1, store.inode, store.owner };
    tus_identity_t other_inode = { store.device, store.inode + 1, store.owner };
    tus_lock_t *lock;

    make_and_attach(ENTRIES, PROCESSES);
    must_take("same");
    ck_assert_int_eq(shm->acquire(locks, &other_device, "same", 0, NULL, &lock, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(shm->acquire(locks, &other_inode, "same", 0, NULL, &lock, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(take("other", 0, &lock, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(take("same", 0, &lock, unit_pool), APR_EBUSY);
}
END_TEST

START_TEST(release_is_idempotent_and_done_by_the_pool)
{
    tus_lock_t *lock;
    apr_pool_t *p;

    make_and_attach(ENTRIES, PROCESSES);
    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(take("id", 0, &lock, p), APR_SUCCESS);
    apr_pool_destroy(p);

    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(take("id", 0, &lock, p), APR_SUCCESS);
    shm->release(lock);
    ck_assert_int_eq(shm->asked(lock), TUS_ASKED_NOTHING);
    must_take("id");
    shm->release(lock);
    apr_pool_destroy(p);
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
}
END_TEST

/* ---- asking -------------------------------------------------------------- */

START_TEST(try_disturbs_nobody)
{
    tus_lock_t *lock;

    make_and_attach(ENTRIES, PROCESSES);
    lock = must_take("id");
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
    ck_assert_int_eq(shm->asked(lock), TUS_ASKED_NOTHING);
    ck_assert(!is_woken(0));
}
END_TEST

START_TEST(holder_is_woken_by_another_process)
{
    tus_lock_t *lock;
    peer_t peer;

    make_and_attach(ENTRIES, PROCESSES);
    lock = must_take("id");
    ck_assert(!is_woken(0));
    peer = spawn(take_and_leave, "id");
    ck_assert(is_woken(PATIENT));
    ck_assert_int_eq(shm->asked(lock), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
    ck_assert_int_eq(shm->asked(lock), TUS_ASKED_RELEASE);
    shm->release(lock);
    ck_assert_int_eq(reap(&peer), 0);
    ck_assert(!is_woken(0));

    /* The next holder is asked nothing. */
    lock = must_take("id");
    ck_assert_int_eq(shm->asked(lock), TUS_ASKED_NOTHING);
}
END_TEST

START_TEST(holder_elsewhere_yields)
{
    peer_t peer;

    make_and_attach(ENTRIES, PROCESSES);
    peer = spawn(hold_until_asked, "id");
    ck_assert(hear(&peer));
    must_take("id");
    ck_assert_int_eq(reap(&peer), 0);
}
END_TEST

START_TEST(holder_that_never_looked_leaves_no_noise)
{
    tus_lock_t *lock;
    peer_t peer;

    make_and_attach(ENTRIES, PROCESSES);
    lock = must_take("id");
    peer = spawn(take_and_leave, "id");
    ck_assert(is_woken(PATIENT));
    shm->release(lock);
    ck_assert_int_eq(reap(&peer), 0);
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
    held->was_asked = wait_until_asked(held->lock);
    shm->release(held->lock);
    return NULL;
}

START_TEST(all_holders_of_a_process_are_woken)
{
    apr_thread_t *threads[THREADS];
    peer_t peers[THREADS];
    held_t held[THREADS];
    char ids[THREADS][8];
    unsigned i;

    make_and_attach(ENTRIES, PROCESSES);
    for (i = 0; i < THREADS; i++) {
        apr_snprintf(ids[i], sizeof(ids[i]), "id-%u", i);
        held[i].lock = must_take(ids[i]);
        threads[i] = run_thread(hold_in_thread, &held[i]);
    }
    for (i = 0; i < THREADS; i++) {
        peers[i] = spawn(take_and_leave, ids[i]);
    }
    for (i = 0; i < THREADS; i++) {
        join(threads[i]);
        ck_assert(held[i].was_asked);
    }
    for (i = 0; i < THREADS; i++) {
        ck_assert_int_eq(reap(&peers[i]), 0);
    }
    ck_assert(!is_woken(0));
}
END_TEST

/* Asks the holder, and is gone: nobody rings again. */
static void ask_once(const char *id)
{
    tus_lock_t *lock;

    ck_assert_int_eq(take(id, 1, &lock, unit_pool), APR_TIMEUP);
}

START_TEST(one_answer_does_not_swallow_anothers_wakeup)
{
    tus_lock_t *first, *second, *third;

    make_and_attach(ENTRIES, PROCESSES);
    first = must_take("first");
    second = must_take("second");
    third = must_take("third");
    ask_once("first");
    ask_once("second");
    ask_once("third");
    ck_assert_int_eq(shm->asked(second), TUS_ASKED_RELEASE);
    ck_assert(is_woken(0));
    shm->release(third);
    ck_assert(is_woken(0));
    ck_assert_int_eq(shm->asked(first), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
}
END_TEST

START_TEST(holder_that_does_not_look_does_not_keep_others_awake)
{
    tus_lock_t *busy, *idle;
    apr_time_t deadline;
    peer_t peer;

    make_and_attach(ENTRIES, PROCESSES);
    busy = must_take("busy");
    idle = must_take("idle");
    peer = spawn(take_and_leave, "busy");
    ck_assert(is_woken(PATIENT));
    deadline = apr_time_now() + PATIENT;
    while (is_woken(0)) {
        ck_assert_int_eq(shm->asked(idle), TUS_ASKED_NOTHING);
        ck_assert(apr_time_now() < deadline);
    }
    /* It is rung for again, so it cannot miss it, and finds it also by itself. */
    ck_assert(is_woken(PATIENT));
    ck_assert_int_eq(shm->asked(busy), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
    shm->release(busy);
    ck_assert_int_eq(reap(&peer), 0);
}
END_TEST

/* ---- giving up ----------------------------------------------------------- */

START_TEST(deadline_ends_the_wait)
{
    tus_lock_t *lock;
    apr_time_t deadline;

    make_and_attach(ENTRIES, PROCESSES);
    must_take("id");
    deadline = apr_time_now() + apr_time_from_msec(30);
    ck_assert_int_eq(shm->acquire(locks, &store, "id", deadline, NULL, &lock, unit_pool),
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

    make_and_attach(ENTRIES, PROCESSES);
    memset(&action, 0, sizeof(action));
    action.sa_handler = ignore_signal;
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    must_take("id");
    peer = spawn(signal_parent_until_told, NULL);
    deadline = apr_time_now() + apr_time_from_msec(100);
    ck_assert_int_eq(shm->acquire(locks, &store, "id", deadline, NULL, &lock, unit_pool),
                     APR_TIMEUP);
    ck_assert(apr_time_now() >= deadline);
    say(&peer);
    ck_assert_int_eq(reap(&peer), 0);
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

    make_and_attach(ENTRIES, PROCESSES);
    must_take("id");
    ck_assert_int_eq(
        shm->acquire(locks, &store, "id", apr_time_now() + PATIENT, &cancel, &lock, unit_pool),
        APR_EINTR);
    ck_assert_int_eq(count, 3);
}
END_TEST

/* ---- the killed ---------------------------------------------------------- */

START_TEST(killed_holder_is_replaced)
{
    peer_t peer;

    make_and_attach(ENTRIES, PROCESSES);
    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
    kill_peer(&peer);
    ck_assert_int_eq(try_take("id"), APR_SUCCESS); /* though it is not reaped */
    ck_assert_int_eq(reap(&peer), -SIGKILL);

    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    kill_peer(&peer);
    ck_assert_int_eq(reap(&peer), -SIGKILL);
    must_take("id");
}
END_TEST

START_TEST(holder_killed_while_another_waits)
{
    peer_t holder, waiter;

    make_and_attach(ENTRIES, PROCESSES);
    holder = spawn(hold_until_told, "id");
    ck_assert(hear(&holder));
    waiter = spawn(take_and_leave, "id");
    kill_peer(&holder);
    ck_assert_int_eq(reap(&waiter), 0);
    ck_assert_int_eq(reap(&holder), -SIGKILL);
}
END_TEST

START_TEST(killed_waiter_leaves_no_trace)
{
    tus_lock_t *lock;
    peer_t peer;

    make_and_attach(ENTRIES, PROCESSES);
    lock = must_take("id");
    peer = spawn(take_and_leave, "id");
    ck_assert(is_woken(PATIENT));
    kill_peer(&peer);
    ck_assert_int_eq(reap(&peer), -SIGKILL);
    ck_assert_int_eq(shm->asked(lock), TUS_ASKED_RELEASE);
    ck_assert(!is_woken(0));
    shm->release(lock);
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
            shm->asked(lock);
        }
        apr_pool_destroy(p);
    }
}

START_TEST(killed_at_any_instant)
{
    peer_t peers[3];
    unsigned round, i;

    make_and_attach(UPLOADS, 4);
    for (round = 0; round < 60; round++) {
        for (i = 0; i < 3; i++) {
            peers[i] = spawn(take_and_release_for_ever, NULL);
            ck_assert(hear(&peers[i]));
        }
        apr_sleep(rand() % 3000); /* so that the kill falls somewhere else each time */
        for (i = 0; i < 3; i++) {
            kill_peer(&peers[i]);
            ck_assert_int_eq(reap(&peers[i]), -SIGKILL);
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
static apr_uint64_t start_time(pid_t pid)
{
    char *path = apr_psprintf(unit_pool, "/proc/%ld/stat", (long)pid);
    unsigned long long ticks = 0;
    char line[1024];
    FILE *file = fopen(path, "r");
    char *field;
    int i;

    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
    fclose(file);
    field = strrchr(line, ')');
    for (i = 2; i < 22 && field; i++) {
        field = strchr(field + 1, ' ');
    }
    ck_assert_ptr_nonnull(field);
    ck_assert_int_eq(sscanf(field, "%llu", &ticks), 1);
    return ticks;
}

START_TEST(reused_pid_is_not_the_holder)
{
    apr_uint64_t *words, *before;
    apr_uint64_t started;
    apr_size_t i;
    peer_t peer;
    int found = 0;

    make_and_attach(ENTRIES, PROCESSES);
    words = base;
    before = apr_pmemdup(unit_pool, base, size);
    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    ck_assert_int_eq(try_take("id"), APR_EBUSY);

    /* As if the holder had started earlier, and this were another with its pid. */
    started = start_time(peer.pid);
    for (i = 0; i < size / sizeof(*words); i++) {
        if (words[i] == started && before[i] != started) {
            words[i] = started - 1;
            found++;
        }
    }
    ck_assert_int_eq(found, 1);
    must_take("id");
    say(&peer);
    ck_assert_int_eq(reap(&peer), 0);
    ck_assert_int_eq(try_take("id"), APR_EBUSY); /* it let go of nothing */
}
END_TEST

/* ---- slots --------------------------------------------------------------- */

START_TEST(slot_of_the_dead_is_reused_without_its_locks)
{
    peer_t dead, alive;

    make_and_attach(ENTRIES, 2); /* this process, and one more */
    dead = spawn(hold_until_told, "old");
    ck_assert(hear(&dead));
    kill_peer(&dead);
    ck_assert_int_eq(reap(&dead), -SIGKILL);
    alive = spawn(hold_until_told, "new");
    ck_assert(hear(&alive));
    ck_assert_int_eq(try_take("new"), APR_EBUSY);
    ck_assert_int_eq(try_take("old"), APR_SUCCESS);
    say(&alive);
    ck_assert_int_eq(reap(&alive), 0);
}
END_TEST

START_TEST(slots_run_out_and_come_back)
{
    tus_locks_t *mine, *second, *third;
    tus_lock_t *lock;
    apr_pool_t *p;

    make_and_attach(ENTRIES, 2);
    mine = locks;
    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(tus_lock_shm_attach(&second, base, size, mutex, p), APR_SUCCESS);
    ck_assert_int_eq(shm->acquire(second, &store, "id", 0, NULL, &lock, p), APR_SUCCESS);
    ck_assert_int_eq(tus_lock_shm_attach(&third, base, size, mutex, unit_pool), APR_ENOSPC);
    ck_assert_int_eq(shm->acquire(mine, &store, "id", 0, NULL, &lock, unit_pool), APR_EBUSY);
    apr_pool_destroy(p);
    ck_assert_int_eq(tus_lock_shm_attach(&third, base, size, mutex, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(shm->acquire(third, &store, "id", 0, NULL, &lock, unit_pool), APR_SUCCESS);
}
END_TEST

START_TEST(new_owner_of_a_slot_is_not_woken_for_the_old)
{
    peer_t peer;

    make_and_attach(ENTRIES, 2);
    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    ask_once("id");
    kill_peer(&peer);
    ck_assert_int_eq(reap(&peer), -SIGKILL);

    ck_assert_int_eq(attach(), APR_SUCCESS); /* to the other slot, of two */
    ck_assert(!is_woken(0));
}
END_TEST

START_TEST(forked_child_gives_nothing_away)
{
    apr_pool_t *p;
    tus_lock_t *lock;
    pid_t pid;
    int status;

    make_table(ENTRIES, 1);
    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(tus_lock_shm_attach(&locks, base, size, mutex, p), APR_SUCCESS);
    ck_assert_int_eq(take("id", 0, &lock, p), APR_SUCCESS);
    pid = fork();
    if (pid == 0) {
        apr_pool_destroy(p);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
    ck_assert_int_eq(attach(), APR_ENOSPC);
}
END_TEST

/* ---- a full table -------------------------------------------------------- */

/* Takes as many uploads as there are places for; the last of them in `lock`. */
static unsigned fill(tus_lock_t **lock, apr_pool_t *p)
{
    unsigned n = 0;
    apr_status_t rv;

    do {
        tus_lock_t *next;

        rv = take(apr_psprintf(p, "filler-%u", n), 0, &next, p);
        if (rv == APR_SUCCESS) {
            *lock = next;
            n++;
        }
    } while (rv == APR_SUCCESS && n < 100000);
    return rv == APR_ENOSPC ? n : 0;
}

START_TEST(full_table_recovers)
{
    tus_lock_t *last = NULL;
    apr_pool_t *p;
    unsigned n;

    make_and_attach(4, PROCESSES);
    apr_pool_create(&p, unit_pool);
    n = fill(&last, p);
    ck_assert_uint_ge(n, 4);
    ck_assert_int_eq(try_take("one more"), APR_ENOSPC);
    ck_assert_int_eq(take("one more", PATIENT, &(tus_lock_t *){ NULL }, unit_pool), APR_ENOSPC);
    shm->release(last);
    ck_assert_int_eq(try_take("one more"), APR_SUCCESS);
    apr_pool_destroy(p);

    apr_pool_create(&p, unit_pool);
    ck_assert_uint_eq(fill(&last, p), n);
    apr_pool_destroy(p);
}
END_TEST

static int fill_until_told(peer_t *parent, void *arg)
{
    tus_lock_t *last;

    (void)arg;
    if (fill(&last, unit_pool) == 0) {
        return 1;
    }
    say(parent);
    hear(parent);
    return 0;
}

START_TEST(table_filled_by_the_dead_is_free)
{
    peer_t peer;

    make_and_attach(4, PROCESSES);
    peer = spawn(fill_until_told, NULL);
    ck_assert(hear(&peer));
    ck_assert_int_eq(try_take("one more"), APR_ENOSPC);
    kill_peer(&peer);
    ck_assert_int_eq(try_take("one more"), APR_SUCCESS);
    ck_assert_int_eq(reap(&peer), -SIGKILL);
}
END_TEST

static const char *scattered(unsigned i)
{
    return apr_psprintf(unit_pool, "%08x%08x", i * 2654435761u, i);
}

START_TEST(all_entries_can_be_held)
{
    unsigned i;

    make_and_attach(1000, PROCESSES);
    for (i = 0; i < 1000; i++) {
        must_take(scattered(i));
    }
    for (i = 0; i < 1000; i++) {
        ck_assert_int_eq(try_take(scattered(i)), APR_EBUSY);
    }
}
END_TEST

/* ---- refusals ------------------------------------------------------------ */

START_TEST(other_layout_is_refused)
{
    apr_uint32_t *words;
    tus_locks_t *other;
    int i;

    make_table(ENTRIES, PROCESSES);
    words = base;
    for (i = 0; i < 6; i++) { /* magic, layout, size in two words, and the two counts */
        apr_uint32_t word = words[i];

        words[i] = word + 1;
        ck_assert_int_eq(tus_lock_shm_attach(&other, base, size, mutex, unit_pool), TUS_EDAMAGED);
        words[i] = word;
    }
    ck_assert_int_eq(tus_lock_shm_attach(&other, base, size - 1, mutex, unit_pool), TUS_EDAMAGED);
    ck_assert_int_eq(tus_lock_shm_attach(&other, base, 3, mutex, unit_pool), TUS_EDAMAGED);
    ck_assert_int_eq(tus_lock_shm_attach(&other, base, size, mutex, unit_pool), APR_SUCCESS);
    memset(base, 0, size);
    ck_assert_int_eq(tus_lock_shm_attach(&other, base, size, mutex, unit_pool), TUS_EDAMAGED);
}
END_TEST

START_TEST(table_must_fit_and_hold_something)
{
    apr_shm_t *memory;

    size = tus_lock_shm_size(ENTRIES, PROCESSES);
    ck_assert_int_eq(apr_shm_create(&memory, size, NULL, unit_pool), APR_SUCCESS);
    base = apr_shm_baseaddr_get(memory);
    ck_assert_int_eq(tus_lock_shm_init(base, size - 1, ENTRIES, PROCESSES), APR_EINVAL);
    ck_assert_int_eq(tus_lock_shm_init(base, size, 0, PROCESSES), APR_EINVAL);
    ck_assert_int_eq(tus_lock_shm_init(base, size, ENTRIES, 0), APR_EINVAL);
    ck_assert_int_eq(tus_lock_shm_init(base, size, ENTRIES, PROCESSES), APR_SUCCESS);
}
END_TEST

/* A table without events still asks: its holders look by themselves. */
START_TEST(table_goes_without_events)
{
    struct rlimit few = { 0, 0 }, limit;
    apr_pollfd_t pollfd;
    apr_shm_t *memory;

    size = tus_lock_shm_size(ENTRIES, PROCESSES);
    ck_assert_int_eq(apr_shm_create(&memory, size, NULL, unit_pool), APR_SUCCESS);
    base = apr_shm_baseaddr_get(memory);
    getrlimit(RLIMIT_NOFILE, &limit);
    few.rlim_max = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &few);
    ck_assert_int_eq(tus_lock_shm_init(base, size, ENTRIES, PROCESSES), APR_SUCCESS);
    setrlimit(RLIMIT_NOFILE, &limit);
    ck_assert_int_eq(tus_lock_shm_attach(&locks, base, size, mutex, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_lock_shm.wakeup(locks, &pollfd), APR_ENOTIMPL);
}
END_TEST

START_TEST(broken_mutex_is_an_error)
{
    apr_os_global_mutex_t global;
    apr_os_proc_mutex_t proc;
    tus_locks_t *other;
    tus_lock_t *lock, *second;
    int saved, read_only;

    /* fcntl() refuses to write-lock what is open for reading only. */
    ck_assert_int_eq(apr_global_mutex_create(&mutex, NULL, APR_LOCK_FCNTL, unit_pool), APR_SUCCESS);
    make_and_attach(ENTRIES, PROCESSES);
    lock = must_take("held");
    ck_assert_int_eq(apr_os_global_mutex_get(&global, mutex), APR_SUCCESS);
    ck_assert_int_eq(apr_os_proc_mutex_get(&proc, global.proc_mutex), APR_SUCCESS);
    saved = dup(proc.crossproc);
    read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(dup2(read_only, proc.crossproc), proc.crossproc);

    ck_assert_int_eq(take("free", 0, &second, unit_pool), EBADF);
    ck_assert_int_eq(take("free", PATIENT, &second, unit_pool), EBADF);
    ck_assert_int_eq(take("held", PATIENT, &second, unit_pool), EBADF);
    ck_assert_int_eq(tus_lock_shm_attach(&other, base, size, mutex, unit_pool), EBADF);
    shm->release(lock);

    ck_assert_int_eq(dup2(saved, proc.crossproc), proc.crossproc);
    close(saved);
    close(read_only);
    ck_assert_int_eq(try_take("free"), APR_SUCCESS);
    ck_assert_int_eq(try_take("held"), APR_SUCCESS);
}
END_TEST

/* With what the processes share, and time enough for valgrind. */
static TCase *add_lock_case(Suite *suite, const char *name)
{
    TCase *tcase = add_case(suite, name);

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 120);
    return tcase;
}

Suite *lock_suite(void)
{
    Suite *suite = suite_create("lock");
    TCase *tcase;

    tcase = add_lock_case(suite, "exclusion");
    tcase_add_test(tcase, processes_and_threads_exclude_each_other);
    tcase_add_test(tcase, threads_of_one_process_exclude_each_other);
    tcase_add_test(tcase, uploads_are_told_apart);
    tcase_add_test(tcase, release_is_idempotent_and_done_by_the_pool);

    tcase = add_lock_case(suite, "asking");
    tcase_add_test(tcase, try_disturbs_nobody);
    tcase_add_test(tcase, holder_is_woken_by_another_process);
    tcase_add_test(tcase, holder_elsewhere_yields);
    tcase_add_test(tcase, holder_that_never_looked_leaves_no_noise);
    tcase_add_test(tcase, all_holders_of_a_process_are_woken);
    tcase_add_test(tcase, one_answer_does_not_swallow_anothers_wakeup);
    tcase_add_test(tcase, holder_that_does_not_look_does_not_keep_others_awake);

    tcase = add_lock_case(suite, "giving up");
    tcase_add_test(tcase, deadline_ends_the_wait);
    tcase_add_test(tcase, signals_do_not_shorten_the_wait);
    tcase_add_test(tcase, cancel_ends_the_wait);

    tcase = add_lock_case(suite, "the killed");
    tcase_add_test(tcase, killed_holder_is_replaced);
    tcase_add_test(tcase, holder_killed_while_another_waits);
    tcase_add_test(tcase, killed_waiter_leaves_no_trace);
    tcase_add_test(tcase, killed_at_any_instant);
    tcase_add_test(tcase, reused_pid_is_not_the_holder);

    tcase = add_lock_case(suite, "slots");
    tcase_add_test(tcase, slot_of_the_dead_is_reused_without_its_locks);
    tcase_add_test(tcase, slots_run_out_and_come_back);
    tcase_add_test(tcase, new_owner_of_a_slot_is_not_woken_for_the_old);
    tcase_add_test(tcase, forked_child_gives_nothing_away);

    tcase = add_lock_case(suite, "a full table");
    tcase_add_test(tcase, full_table_recovers);
    tcase_add_test(tcase, table_filled_by_the_dead_is_free);
    tcase_add_test(tcase, all_entries_can_be_held);

    tcase = add_lock_case(suite, "refusals");
    tcase_add_test(tcase, other_layout_is_refused);
    tcase_add_test(tcase, table_must_fit_and_hold_something);
    tcase_add_test(tcase, table_goes_without_events);
    tcase_add_test(tcase, broken_mutex_is_an_error);
    return suite;
}
