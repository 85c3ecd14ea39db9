/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The lock provider "shm": what holds of every locker, and its table. */
#include "check_locker.h"
#include "tus_words.h"

#include <apr_shm.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRIES 64
#define PROCESSES 8

static apr_global_mutex_t *mutex;
static pid_t maker; /* of the mutex */
static void *base;
static apr_size_t size;

/* ---- the locker ---------------------------------------------------------- */

static void make_mutex(apr_lockmech_e mechanism)
{
    ck_assert_int_eq(apr_global_mutex_create(&mutex, NULL, mechanism, unit_pool), APR_SUCCESS);
    maker = getpid();
}

static void init_table(unsigned entries, unsigned processes)
{
    apr_shm_t *memory;

    size = tus_lock_shm_size(entries, processes);
    ck_assert_int_eq(apr_shm_create(&memory, size, NULL, unit_pool), APR_SUCCESS);
    base = apr_shm_baseaddr_get(memory);
    memset(base, 0, size);
    ck_assert_int_eq(tus_lock_shm_init(base, size, entries, processes), APR_SUCCESS);
}

static void make_table(unsigned entries, unsigned processes)
{
    make_mutex(APR_LOCK_DEFAULT);
    init_table(entries, processes);
}

static apr_status_t attach(tus_locks_t **result, apr_pool_t *p)
{
    apr_status_t rv = APR_SUCCESS;

    if (getpid() != maker) {
        rv = apr_global_mutex_child_init(&mutex, apr_global_mutex_lockfile(mutex), p);
    }
    return rv == APR_SUCCESS ? tus_lock_shm_attach(result, base, size, mutex, p) : rv;
}

/* Where descriptors are scarce its holders are asked too, but must look by themselves. */
static void make_table_without_events(unsigned entries, unsigned processes)
{
    struct rlimit none, limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){ 0, limit.rlim_max };
    make_mutex(APR_LOCK_DEFAULT);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    init_table(entries, processes);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static const locker_t shm = { "shm", &tus_lock_shm, 1, make_table, attach };
static const locker_t shm_without_events = { "shm without events", &tus_lock_shm, 0,
                                             make_table_without_events, attach };

static void setup(void)
{
    locker = &shm;
}

/* ---- the dead ------------------------------------------------------------ */

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

    begin_locking(&shm, ENTRIES, PROCESSES);
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
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert_int_eq(try_take("id"), APR_EBUSY); /* it let go of nothing */
}
END_TEST

/* ---- the mutex ----------------------------------------------------------- */

static int own_the_mutex(peer_t *parent, void *arg)
{
    (void)arg;
    if (apr_global_mutex_lock(mutex) != APR_SUCCESS) {
        return 1;
    }
    say(parent);
    hear(parent);
    return apr_global_mutex_unlock(mutex) == APR_SUCCESS ? 0 : 2;
}

/* Takes an upload; then the peer takes the mutex. */
static tus_lock_t *take_beside_owner(peer_t *peer)
{
    tus_lock_t *lock;

    begin_locking(&shm, ENTRIES, PROCESSES);
    lock = must_take("id");
    *peer = spawn(own_the_mutex, NULL);
    ck_assert(hear(peer));
    return lock;
}

START_TEST(release_does_not_wait_for_the_mutex)
{
    peer_t peer;
    tus_lock_t *lock = take_beside_owner(&peer);

    ck_assert_uint_eq(count_held(), 1);
    release(lock); /* else for ever */
    ck_assert_uint_eq(count_held(), 0);
    say(&peer);
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert_int_eq(try_take("id"), APR_SUCCESS);
}
END_TEST

START_TEST(pool_releases_though_its_thread_has_the_mutex)
{
    tus_lock_t *lock;
    apr_pool_t *p;

    begin_locking(&shm, ENTRIES, PROCESSES);
    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(take("id", 0, &lock, p), APR_SUCCESS);
    ask_once("id");
    ck_assert_int_eq(apr_global_mutex_lock(mutex), APR_SUCCESS);
    apr_pool_destroy(p);
    ck_assert_int_eq(apr_global_mutex_unlock(mutex), APR_SUCCESS);
    ck_assert_int_eq(try_take("id"), APR_SUCCESS);
}
END_TEST

START_TEST(mutex_of_the_dead_is_taken_over)
{
    peer_t peer;
    tus_lock_t *lock = take_beside_owner(&peer);

    kill_peer(&peer);
    ck_assert_int_eq(try_take("id"), APR_EBUSY);
    ask_once("id");
    ck_assert_int_eq(asked(lock), TUS_ASKED_RELEASE);
    release(lock);
    ck_assert_int_eq(try_take("id"), APR_SUCCESS);
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);
}
END_TEST

/* ---- asked while it lets go ---------------------------------------------- */

#define ASKERS 3
#define STORM apr_time_from_msec(500)

static int ask_for_ever(peer_t *parent, void *id)
{
    apr_pool_t *p;

    say(parent);
    apr_pool_create(&p, NULL);
    for (;;) {
        tus_lock_t *lock;
        apr_status_t rv = take(id, 1, &lock, p);

        if (rv != APR_SUCCESS && rv != APR_TIMEUP) {
            return 1;
        }
        apr_pool_clear(p); /* lets go */
        stop(id);
    }
}

static void spawn_askers(peer_t peers[ASKERS], const char *id)
{
    for (int i = 0; i < ASKERS; i++) {
        peers[i] = spawn(ask_for_ever, (void *)id);
        ck_assert(hear(&peers[i]));
    }
}

static void kill_askers(peer_t peers[ASKERS])
{
    for (int i = 0; i < ASKERS; i++) {
        kill_peer(&peers[i]);
        ck_assert_int_eq(reap_peer(&peers[i]), -SIGKILL);
    }
}

/* Nonzero if the upload could be taken. */
static int take_and_let_go(const char *id, apr_pool_t *p)
{
    tus_lock_t *lock;
    int taken = take(id, 0, &lock, p) == APR_SUCCESS;

    if (taken) {
        release(lock);
    }
    apr_pool_clear(p);
    return taken;
}

/* Whom they ask may be gone: then they ask nobody, and write nowhere else. */
START_TEST(asked_at_the_moment_of_release)
{
    /* What never changes; the count of tickets stands behind it. */
    apr_size_t length = tus_lock_shm_size(0, 0) - sizeof(apr_uint64_t);
    peer_t peers[ASKERS];
    apr_time_t end;
    apr_pool_t *p;
    void *before;
    int taken = 0;

    begin_locking(&shm, ENTRIES, PROCESSES);
    before = apr_pmemdup(unit_pool, base, length);
    spawn_askers(peers, "id");
    apr_pool_create(&p, unit_pool);
    for (end = apr_time_now() + STORM; apr_time_now() < end || taken < 1000;) {
        taken += take_and_let_go("id", p);
        ck_assert_mem_eq(base, before, length);
    }
    kill_askers(peers);
    ck_assert_mem_eq(base, before, length);
    ck_assert_int_eq(asked(must_take("id")), TUS_ASKED_NOTHING);
}
END_TEST

typedef struct noise_t {
    apr_uint32_t over;
    int made;
} noise_t;

static void *APR_THREAD_FUNC make_noise(apr_thread_t *thread, void *arg)
{
    noise_t *noise = arg;
    apr_pool_t *p;

    (void)thread;
    apr_pool_create(&p, NULL);
    while (!__atomic_load_n(&noise->over, __ATOMIC_ACQUIRE)) {
        noise->made += take_and_let_go("noise", p);
    }
    apr_pool_destroy(p);
    return NULL;
}

/* However often others of its process are asked, answer, or are gone by then. */
START_TEST(no_wakeup_is_lost_beside_others)
{
    noise_t noise = { 0 };
    peer_t askers[ASKERS], peer;
    apr_thread_t *thread;
    apr_time_t deadline;
    tus_lock_t *lock;

    begin_locking(&shm, ENTRIES, PROCESSES);
    spawn_askers(askers, "noise");
    thread = run_thread(make_noise, &noise);
    for (int i = 0; i < 50; i++) {
        lock = must_take("mine");
        peer = spawn(take_and_leave, "mine");
        do {
            ck_assert(is_woken(PATIENT));
        } while (asked(lock) != TUS_ASKED_RELEASE);
        release(lock);
        ck_assert_int_eq(reap_peer(&peer), 0);
    }
    __atomic_store_n(&noise.over, 1, __ATOMIC_RELEASE);
    join_thread(thread);
    kill_askers(askers);
    ck_assert_int_gt(noise.made, 0);

    /* What was rung for nobody, any holder silences. */
    lock = must_take("mine");
    deadline = apr_time_now() + PATIENT;
    while (is_woken(0)) {
        ck_assert_int_eq(asked(lock), TUS_ASKED_NOTHING);
        ck_assert(apr_time_now() < deadline);
    }
}
END_TEST

/* ---- a crowd ------------------------------------------------------------- */

#define CROWD 8
#define TURNS 5000

typedef struct turns_t {
    char id[2];
    int taken;
    long slept;
} turns_t;

/* How often, of a thread or of all. */
static long times_slept(int who)
{
    struct rusage usage;

    ck_assert_int_eq(getrusage(who, &usage), 0);
    return usage.ru_nvcsw;
}

static void *APR_THREAD_FUNC take_turns(apr_thread_t *thread, void *arg)
{
    turns_t *turns = arg;
    long before = times_slept(RUSAGE_THREAD);
    apr_pool_t *p;

    (void)thread;
    apr_pool_create(&p, NULL);
    for (int i = 0; i < TURNS; i++) {
        turns->taken += take_and_let_go(turns->id, p);
    }
    turns->slept = times_slept(RUSAGE_THREAD) - before;
    apr_pool_destroy(p);
    return NULL;
}

/* All had to once, when the mutex was held for long. */
START_TEST(a_crowd_does_not_sleep_in_line)
{
    turns_t turns[CROWD] = { 0 };
    apr_thread_t *threads[CROWD];
    long before, slept = 0;

    begin_locking(&shm, ENTRIES, PROCESSES);
    ck_assert_int_eq(apr_global_mutex_lock(mutex), APR_SUCCESS);
    before = times_slept(RUSAGE_SELF);
    for (int i = 0; i < CROWD; i++) {
        turns[i].id[0] = (char)('a' + i);
        threads[i] = run_thread(take_turns, &turns[i]);
    }
    while (times_slept(RUSAGE_SELF) < before + CROWD) {
        apr_thread_yield();
    }
    ck_assert_int_eq(apr_global_mutex_unlock(mutex), APR_SUCCESS);
    for (int i = 0; i < CROWD; i++) {
        join_thread(threads[i]);
        ck_assert_int_eq(turns[i].taken, TURNS);
        slept += turns[i].slept;
    }
    ck_assert_int_lt(slept, CROWD * TURNS / 10);
}
END_TEST

/* ---- slots --------------------------------------------------------------- */

START_TEST(slot_of_the_dead_is_reused_without_its_locks)
{
    peer_t dead, alive;

    begin_locking(&shm, ENTRIES, 2); /* this process, and one more */
    dead = spawn(hold_until_told, "old");
    ck_assert(hear(&dead));
    kill_peer(&dead);
    ck_assert_int_eq(reap_peer(&dead), -SIGKILL);
    alive = spawn(hold_until_told, "new");
    ck_assert(hear(&alive));
    ck_assert_int_eq(try_take("new"), APR_EBUSY);
    ck_assert_int_eq(try_take("old"), APR_SUCCESS);
    say(&alive);
    ck_assert_int_eq(reap_peer(&alive), 0);
}
END_TEST

START_TEST(slots_run_out_and_come_back)
{
    tus_locks_t *mine, *second, *third;
    tus_lock_t *lock;
    apr_pool_t *p;

    begin_locking(&shm, ENTRIES, 2);
    mine = locks;
    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(tus_lock_shm_attach(&second, base, size, mutex, p), APR_SUCCESS);
    ck_assert_int_eq(tus_lock_shm.acquire(second, &a_store, "id", 0, NULL, &lock, p), APR_SUCCESS);
    ck_assert_int_eq(tus_lock_shm_attach(&third, base, size, mutex, unit_pool), APR_ENOSPC);
    ck_assert_int_eq(tus_lock_shm.acquire(mine, &a_store, "id", 0, NULL, &lock, unit_pool),
                     APR_EBUSY);
    apr_pool_destroy(p);
    ck_assert_int_eq(tus_lock_shm_attach(&third, base, size, mutex, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_lock_shm.acquire(third, &a_store, "id", 0, NULL, &lock, unit_pool),
                     APR_SUCCESS);
}
END_TEST

START_TEST(new_owner_of_a_slot_is_not_woken_for_the_old)
{
    peer_t peer;

    begin_locking(&shm, ENTRIES, 2);
    peer = spawn(hold_until_told, "id");
    ck_assert(hear(&peer));
    ask_once("id");
    kill_peer(&peer);
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);

    ck_assert_int_eq(attach(&locks, unit_pool), APR_SUCCESS); /* to the other slot, of two */
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
    ck_assert_int_eq(attach(&locks, unit_pool), APR_ENOSPC);
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

    begin_locking(&shm, 4, PROCESSES);
    apr_pool_create(&p, unit_pool);
    n = fill(&last, p);
    ck_assert_uint_ge(n, 4);
    ck_assert_int_eq(try_take("one more"), APR_ENOSPC);
    ck_assert_int_eq(take("one more", PATIENT, &(tus_lock_t *){ NULL }, unit_pool), APR_ENOSPC);
    release(last);
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

    begin_locking(&shm, 4, PROCESSES);
    peer = spawn(fill_until_told, NULL);
    ck_assert(hear(&peer));
    ck_assert_int_eq(try_take("one more"), APR_ENOSPC);
    kill_peer(&peer);
    ck_assert_int_eq(try_take("one more"), APR_SUCCESS);
    ck_assert_int_eq(reap_peer(&peer), -SIGKILL);
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

START_TEST(table_without_events_says_so)
{
    apr_pollfd_t pollfd;

    begin_locking(&shm_without_events, ENTRIES, PROCESSES);
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
    make_table(ENTRIES, PROCESSES);
    make_mutex(APR_LOCK_FCNTL);
    ck_assert_int_eq(attach(&locks, unit_pool), APR_SUCCESS);
    lock = must_take("held");
    ck_assert_int_eq(apr_os_global_mutex_get(&global, mutex), APR_SUCCESS);
    ck_assert_int_eq(apr_os_proc_mutex_get(&proc, global.proc_mutex), APR_SUCCESS);
    saved = dup(proc.crossproc);
    read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(dup2(read_only, proc.crossproc), proc.crossproc);

    ck_assert_int_eq(take("free", 0, &second, unit_pool), EBADF);
    ck_assert_int_eq(take("free", PATIENT, &second, unit_pool), EBADF);
    ck_assert_int_eq(take("held", PATIENT, &second, unit_pool), EBADF);
    ck_assert_int_eq(stop("held"), EBADF);
    ck_assert_int_eq(tus_lock_shm_attach(&other, base, size, mutex, unit_pool), EBADF);
    release(lock);

    ck_assert_int_eq(dup2(saved, proc.crossproc), proc.crossproc);
    close(saved);
    close(read_only);
    ck_assert_int_eq(try_take("free"), APR_SUCCESS);
    ck_assert_int_eq(try_take("held"), APR_SUCCESS);
}
END_TEST

/* With time enough for valgrind. */
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

    locker_conformance(suite, &shm);
    locker_conformance(suite, &shm_without_events);

    tcase = add_lock_case(suite, "the mutex");
    tcase_add_test(tcase, release_does_not_wait_for_the_mutex);
    tcase_add_test(tcase, pool_releases_though_its_thread_has_the_mutex);
    tcase_add_test(tcase, mutex_of_the_dead_is_taken_over);
    tcase_add_test(tcase, a_crowd_does_not_sleep_in_line);

    tcase = add_lock_case(suite, "asked while it lets go");
    tcase_add_test(tcase, asked_at_the_moment_of_release);
    tcase_add_test(tcase, no_wakeup_is_lost_beside_others);

    tcase = add_lock_case(suite, "slots");
    tcase_add_test(tcase, reused_pid_is_not_the_holder);
    tcase_add_test(tcase, slot_of_the_dead_is_reused_without_its_locks);
    tcase_add_test(tcase, slots_run_out_and_come_back);
    tcase_add_test(tcase, new_owner_of_a_slot_is_not_woken_for_the_old);
    tcase_add_test(tcase, forked_child_gives_nothing_away);

    tcase = add_lock_case(suite, "a full table");
    tcase_add_test(tcase, full_table_recovers);
    tcase_add_test(tcase, table_filled_by_the_dead_is_free);

    tcase = add_lock_case(suite, "refusals");
    tcase_add_test(tcase, other_layout_is_refused);
    tcase_add_test(tcase, table_must_fit_and_hold_something);
    tcase_add_test(tcase, table_without_events_says_so);
    tcase_add_test(tcase, broken_mutex_is_an_error);
    return suite;
}
