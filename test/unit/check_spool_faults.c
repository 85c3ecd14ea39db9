/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The spool when processes die at any call, calls fail, disks are full, and many put and tell at
 * once: every event is told, in order; twice only if somebody died.
 */
#include "calls.h"
#include "peers.h"
#include "scratch.h"
#include "spooling.h"

#include <apr_file_io.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECOND apr_time_from_sec(1)
#define HOUR (3600 * SECOND)
#define TOLD_MAX 64

/* What processes know of each other. */
typedef struct shared_t {
    int done; /* steps of putting that returned */
    apr_status_t rv[8];
    int puts_off; /* one event, the next time it is asked about */
    int told_len;
    char told[TOLD_MAX][32];
} shared_t;

static shared_t *shared;

static void setup(void)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
}

static void teardown(void)
{
    munmap(shared, sizeof(*shared));
}

/* What is pending happened. */
static tus_spool_e write_down(void *baton, const tus_spooled_t *event, apr_time_t *due,
                              apr_pool_t *p)
{
    const char *text = spooled_text(event, p);

    (void)baton;
    if (strcmp(event->body, "{}") != 0 || shared->told_len == TOLD_MAX) {
        return TUS_SPOOL_FAILED;
    }
    apr_cpystrn(shared->told[shared->told_len++], text, sizeof(shared->told[0]));
    if (event->is_pending) {
        return TUS_SPOOL_READY;
    }
    *due = apr_time_now() + 10 * SECOND;
    if (shared->puts_off && strcmp(text, "one/create/b") == 0) {
        shared->puts_off = 0;
        return TUS_SPOOL_LATER;
    }
    return TUS_SPOOL_DONE;
}

static apr_status_t tell_all(apr_time_t ahead, apr_time_t *next)
{
    static const tus_spool_teller_t teller = { .tell = write_down };

    return work_shard(tus_spool_shard("one"), apr_time_now() + ahead, 0, &teller, next, unit_pool);
}

static int times_told(const char *text)
{
    int i, times = 0;

    for (i = 0; i < shared->told_len; i++) {
        times += strcmp(shared->told[i], text) == 0;
    }
    return times;
}

static int last_told(const char *text)
{
    int i, last = -1;

    for (i = 0; i < shared->told_len; i++) {
        last = strcmp(shared->told[i], text) == 0 ? i : last;
    }
    return last;
}

static int first_told(const char *text)
{
    int i;

    for (i = 0; i < shared->told_len && strcmp(shared->told[i], text) != 0; i++) {
    }
    return i;
}

static apr_uint64_t waiting(void)
{
    apr_uint64_t count = 0;
    apr_time_t oldest;

    ck_assert_int_eq(tus_spool_count(scratch, &count, &oldest, unit_pool), APR_SUCCESS);
    return count;
}

/* Whatever happened, everything is told in the end, and nothing is left of it. */
static void tell_the_rest(void)
{
    apr_time_t next;

    shared->puts_off = 0;
    ck_assert_int_eq(tell_all(3 * HOUR, &next), APR_SUCCESS);
    ck_assert_int_eq(next, 0);
    ck_assert_uint_eq(waiting(), 0);
    ck_assert(!scratch_exists("spool/failed"));
    if (scratch_exists("spool")) {
        rmdir(
            scratch_path(apr_psprintf(unit_pool, "spool/%02x", (unsigned)tus_spool_shard("one"))));
        ck_assert_int_eq(rmdir(scratch_path("spool")), 0); /* it was empty */
    }
}

/* ---- putting ------------------------------------------------------------- */

/* Stops at the first that fails. */
static int put_some(void *durable)
{
    tus_spooled_t create = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    tus_spooled_t finish = spooled("one", TUS_HOOK_POST_FINISH, HOOK_A);
    int i;

    for (i = 0; i < 6; i++) {
        apr_status_t rv;

        switch (i) {
        case 0:
            rv = tus_spool_put(scratch, &create, *(int *)durable, unit_pool);
            break;
        case 1:
            rv = tus_spool_confirm(scratch, &create, unit_pool);
            break;
        case 3:
            rv = tus_spool_retract(scratch, &finish, unit_pool);
            break;
        case 5:
            rv = tus_spool_confirm(scratch, &finish, unit_pool);
            break;
        default:
            rv = tus_spool_put(scratch, &finish, *(int *)durable, unit_pool);
        }
        shared->rv[i] = rv;
        if (rv != APR_SUCCESS) {
            return 1;
        }
        shared->done = i + 1;
    }
    return 0;
}

static void check_what_was_put(void)
{
    tell_the_rest();
    ck_assert_int_le(times_told("one/create/a"), 1);
    ck_assert_int_le(times_told("one/finish/a"), 1);
    if (shared->done >= 1) {
        ck_assert_int_eq(times_told("one/create/a"), 1);
    }
    if (shared->done >= 5 || shared->done == 3) {
        ck_assert_int_ge(times_told("one/finish/a"), shared->done >= 5);
    }
    if (shared->done < 2) {
        ck_assert_int_eq(times_told("one/finish/a"), 0);
    }
    if (times_told("one/finish/a")) {
        ck_assert_int_lt(first_told("one/create/a"), first_told("one/finish/a"));
    }
}

START_TEST(test_dies_putting)
{
    int durable = _i, n;
    calls_end_t end;

    for (n = 1;; n++) {
        memset(shared, 0, sizeof(*shared));
        end = run_with_call(n, 0, put_some, &durable);
        if (!end.was_hit) {
            break;
        }
        ck_assert_int_eq(end.code, -SIGKILL);
        check_what_was_put();
    }
    ck_assert_int_eq(end.code, 0);
    ck_assert_int_eq(shared->done, 6);
    check_what_was_put();
    ck_assert_int_gt(n, 15);
}
END_TEST

START_TEST(test_putting_fails)
{
    static const int errors[] = { ENOSPC, EIO };
    int durable = _i % 2, error = errors[_i / 2], harmless = 0, n;
    calls_end_t end;

    for (n = 1;; n++) {
        memset(shared, 0, sizeof(*shared));
        end = run_with_call(n, error, put_some, &durable);
        if (!end.was_hit) {
            break;
        }
        if (end.code == 0) {
            harmless++;
        }
        else {
            ck_assert_int_eq(shared->rv[shared->done], error);
        }
        check_what_was_put();
    }
    ck_assert_int_eq(end.code, 0);
    ck_assert_int_le(harmless, 1 + 3); /* removing a file that could not be made; touching */
}
END_TEST

START_TEST(test_full_disk)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    char *body = apr_palloc(unit_pool, 100001);
    apr_time_t next;

    memset(body, ' ', 100000);
    body[100000] = '\0';
    scratch_limit_files(50000);
    event.body = body;
    event.len = 100000;
    ck_assert_int_ne(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(waiting(), 0);
    ck_assert(!scratch_exists(spooled_path(&event, ".new.tmp")));
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_int_ne(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
    scratch_unlimit_files();
    ck_assert_int_eq(tell_all(TUS_SPOOL_PENDING, &next), APR_SUCCESS); /* the small one */
    ck_assert_int_eq(times_told("one/create/a"), 1);
}
END_TEST

/* ---- telling ------------------------------------------------------------- */

static void put_a_life(void)
{
    memset(shared, 0, sizeof(*shared));
    shared->puts_off = 1;
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_CREATE, HOOK_B);
    put("one", TUS_HOOK_POST_FINISH, HOOK_A);
    ready("one", TUS_HOOK_POST_TERMINATE, HOOK_A);
    ready("one", TUS_HOOK_POST_TERMINATE, HOOK_B);
}

static int tell_once(void *unused)
{
    apr_time_t next;
    apr_status_t rv = tell_all(TUS_SPOOL_PENDING, &next);
    apr_uint64_t count;
    apr_time_t oldest;

    (void)unused;
    if (!next && tus_spool_count(scratch, &count, &oldest, unit_pool) == APR_SUCCESS && count) {
        return 2; /* nobody would come back for it */
    }
    return rv != APR_SUCCESS;
}

static void check_what_was_told(void)
{
    tell_the_rest();
    ck_assert_int_ge(times_told("one/create/a"), 1);
    ck_assert_int_ge(times_told("one/create/b"), 1);
    ck_assert_int_ge(times_told("one/finish/a"), 1);
    ck_assert_int_ge(times_told("one/terminate/a"), 1);
    ck_assert_int_ge(times_told("one/terminate/b"), 1);
    ck_assert_int_lt(last_told("one/create/a"), first_told("one/finish/a"));
    ck_assert_int_lt(last_told("one/finish/a"), first_told("one/terminate/a"));
    ck_assert_int_lt(last_told("one/create/b"), first_told("one/terminate/b"));
}

START_TEST(test_dies_telling)
{
    calls_end_t end;
    int n;

    for (n = 1;; n++) {
        put_a_life();
        end = run_with_call(n, 0, tell_once, NULL);
        if (!end.was_hit) {
            break;
        }
        ck_assert_int_eq(end.code, -SIGKILL);
        check_what_was_told();
        ck_assert_int_le(shared->told_len, 5 + 2 + 2); /* but for one, and one put off, no more */
    }
    ck_assert_int_eq(end.code, 0);
    ck_assert_int_gt(n, 30);
    check_what_was_told();
    ck_assert_int_eq(shared->told_len, 5 + 2);
}
END_TEST

START_TEST(test_telling_fails)
{
    static const int errors[] = { ENOSPC, EIO, ENOMEM };
    calls_end_t end;
    int n;

    for (n = 1;; n++) {
        put_a_life();
        end = run_with_call(n, errors[_i], tell_once, NULL);
        if (!end.was_hit) {
            break;
        }
        ck_assert_int_ge(end.code, 0);
        ck_assert_int_le(end.code, 1);
        check_what_was_told();
        ck_assert_int_le(shared->told_len, 5 + 2 + 2);
    }
    ck_assert_int_eq(end.code, 0);
}
END_TEST

/* ---- many at once -------------------------------------------------------- */

#define UPLOADS 300 /* of each who puts */
#define PUTTERS 2
#define TELLERS 2 /* processes */
#define THREADS 2 /* of each */
#define SHARDS 3
#define EVENTS (UPLOADS * PUTTERS * 3 * 2)

static const tus_hook_e life[] = { TUS_HOOK_POST_CREATE, TUS_HOOK_POST_FINISH,
                                   TUS_HOOK_POST_TERMINATE };

/* Ids that fall into few shards. */
static int put_lives(peer_t *parent, void *first)
{
    int number = *(int *)first, made = 0, type;

    (void)parent;
    for (; made < UPLOADS; number += PUTTERS) {
        const char *id = apr_itoa(unit_pool, number);

        if (tus_spool_shard(id) >= SHARDS) {
            continue;
        }
        for (type = 0; type < 3; type++) {
            put(id, life[type], HOOK_A);
            put(id, life[type], HOOK_B);
            confirm(id, life[type], HOOK_A);
            confirm(id, life[type], HOOK_B);
        }
        made++;
    }
    return 0;
}

/* One line, in one write. A seventh is put off, for a moment. */
static tus_spool_e log_it(void *baton, const tus_spooled_t *event, apr_time_t *due, apr_pool_t *p)
{
    unsigned *seed = baton;
    const char *line = apr_pstrcat(p, spooled_text(event, p), "\n", NULL);
    int fd;
    ssize_t written;

    *due = apr_time_now() + 1000;
    if (event->is_pending || rand_r(seed) % 7 == 0) {
        return TUS_SPOOL_LATER;
    }
    fd = open(apr_pstrcat(p, scratch, "/told", NULL), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
              0600);
    written = write(fd, line, strlen(line));
    close(fd);
    return written == (ssize_t)strlen(line) ? TUS_SPOOL_DONE : TUS_SPOOL_LATER;
}

/* Until the file "stop" is there, and then until all is told. */
static void *APR_THREAD_FUNC tell_on(apr_thread_t *thread, void *arg)
{
    unsigned seed = (unsigned)(intptr_t)arg + (unsigned)getpid();
    const tus_spool_teller_t teller = { .tell = log_it, .baton = &seed };
    apr_uint64_t count = 1;
    apr_time_t next, oldest;
    apr_pool_t *p;
    int shard, stop;

    (void)thread;
    apr_pool_create(&p, NULL);
    while (count > 0) {
        stop = access(apr_pstrcat(p, scratch, "/stop", NULL), F_OK) == 0;
        for (shard = 0; shard < SHARDS; shard++) {
            apr_status_t rv =
                work_shard(shard, apr_time_now(), apr_time_now() + 50000, &teller, &next, p);

            if (rv != APR_SUCCESS && rv != APR_EBUSY && rv != APR_INCOMPLETE) {
                _exit(2);
            }
        }
        if (tus_spool_count(scratch, &count, &oldest, p) != APR_SUCCESS) {
            _exit(3);
        }
        count = stop ? count : 1;
        apr_pool_clear(p);
    }
    apr_pool_destroy(p);
    return NULL;
}

static int tell_with_threads(peer_t *parent, void *unused)
{
    apr_thread_t *threads[THREADS];
    apr_status_t rv;
    int i;

    (void)parent;
    (void)unused;
    for (i = 0; i < THREADS; i++) {
        if (apr_thread_create(&threads[i], NULL, tell_on, (void *)(intptr_t)i, unit_pool)
            != APR_SUCCESS) {
            return 1;
        }
    }
    for (i = 0; i < THREADS; i++) {
        apr_thread_join(&rv, threads[i]);
    }
    return 0;
}

static tus_hook_e type_of(const char *line)
{
    int i;

    for (i = 0; i < 3; i++) {
        const char *name = strchr(tus_hook_name(life[i]), '-') + 1;

        if (strncmp(strchr(line, '/') + 1, name, strlen(name)) == 0) {
            return life[i];
        }
    }
    ck_abort_msg("%s", line);
}

/* Of each upload and hook: none before an earlier one, and as often as may be. */
static void check_log(int may_repeat)
{
    apr_hash_t *last = apr_hash_make(unit_pool);
    char *state, *line, *text = (char *)scratch_get("told");
    int different = 0, all = 0;

    for (line = apr_strtok(text, "\n", &state); line; line = apr_strtok(NULL, "\n", &state)) {
        const char *of = apr_psprintf(unit_pool, "%.*s%c", (int)strcspn(line, "/"), line,
                                      line[strlen(line) - 1]);
        tus_hook_e type = type_of(line);
        int before = (int)(intptr_t)apr_hash_get(last, of, APR_HASH_KEY_STRING);
        int expected = before == 0                      ? TUS_HOOK_POST_CREATE
                       : before == TUS_HOOK_POST_CREATE ? TUS_HOOK_POST_FINISH
                                                        : TUS_HOOK_POST_TERMINATE;

        ck_assert_msg(type == (tus_hook_e)expected || (may_repeat && (int)type == before),
                      "%s after %d", line, before);
        different += (int)type != before;
        all++;
        apr_hash_set(last, of, APR_HASH_KEY_STRING, (void *)(intptr_t)type);
    }
    ck_assert_int_eq(different, EVENTS);
    if (!may_repeat) {
        ck_assert_int_eq(all, EVENTS);
    }
    ck_assert_uint_eq(waiting(), 0);
    ck_assert(!scratch_exists("spool/failed"));
}

static void start_putters(peer_t *putters, int *firsts)
{
    int i;

    for (i = 0; i < PUTTERS; i++) {
        firsts[i] = i;
        putters[i] = spawn_peer(put_lives, &firsts[i]);
    }
}

static void end_putters(peer_t *putters)
{
    int i;

    for (i = 0; i < PUTTERS; i++) {
        ck_assert_int_eq(reap_peer(&putters[i]), 0);
    }
    scratch_put("stop", "");
}

START_TEST(test_many_put_and_tell)
{
    peer_t putters[PUTTERS], tellers[TELLERS];
    int firsts[PUTTERS], i;

    for (i = 0; i < TELLERS; i++) {
        tellers[i] = spawn_peer(tell_with_threads, NULL);
    }
    start_putters(putters, firsts);
    end_putters(putters);
    for (i = 0; i < TELLERS; i++) {
        ck_assert_int_eq(reap_peer(&tellers[i]), 0);
    }
    check_log(0);
}
END_TEST

START_TEST(test_tellers_are_killed)
{
    peer_t putters[PUTTERS], teller;
    int firsts[PUTTERS], i;

    start_putters(putters, firsts);
    for (i = 0; i < 50; i++) {
        teller = spawn_peer(tell_with_threads, NULL);
        kill_some_time(&teller, 30000);
    }
    end_putters(putters);
    teller = spawn_peer(tell_with_threads, NULL);
    ck_assert_int_eq(reap_peer(&teller), 0);
    check_log(1);
}
END_TEST

Suite *spool_faults_suite(void)
{
    Suite *suite = suite_create("spool_faults");
    TCase *tcase = add_scratch_case(suite, "faults");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 600);
    tcase_add_loop_test(tcase, test_dies_putting, 0, 2);
    tcase_add_loop_test(tcase, test_putting_fails, 0, 4);
    tcase_add_test(tcase, test_full_disk);
    tcase_add_test(tcase, test_dies_telling);
    tcase_add_loop_test(tcase, test_telling_fails, 0, 3);
    tcase = add_scratch_case(suite, "together");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 600);
    tcase_add_test(tcase, test_many_put_and_tell);
    tcase_add_test(tcase, test_tellers_are_killed);
    return suite;
}
