/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Asserts of processes and threads beside the test.
 */
#include "peers.h"
#include "scratch.h"

#include <apr_strings.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what they do -------------------------------------------------------- */

static int hold(peer_t *parent, void *arg)
{
    (void)parent;
    ck_assert_ptr_null(arg);
    ck_assert_msg(!arg, "%s", "it is NULL");
    mark_point();
    return 7;
}

static int fail_one(peer_t *parent, void *arg)
{
    (void)parent;
    (void)arg;
    ck_assert_int_eq(dup2(open(scratch_path("said"), O_WRONLY | O_CREAT, 0600), STDERR_FILENO),
                     STDERR_FILENO);
    ck_assert_int_eq(40 + 2, 43);
    return 0;
}

static void *hold_in_thread(void *code)
{
    *(int *)code = hold(NULL, NULL);
    return NULL;
}

static void *fail_in_thread(void *arg)
{
    fail_one(NULL, arg);
    return NULL;
}

static int fail_in_its_thread(peer_t *parent, void *arg)
{
    pthread_t other;

    (void)parent;
    if (pthread_create(&other, NULL, fail_in_thread, arg) != 0) {
        return 1;
    }
    pthread_join(other, NULL);
    return 0;
}

/* ---- the tests ----------------------------------------------------------- */

/* How far all open files were written, without stdin, stdout and stderr. Other processes that have
 * them from this one write on from there. */
static long written(void)
{
    DIR *dir = opendir("/proc/self/fdinfo");
    struct dirent *entry;
    long all = 0, pos;

    while (dir && (entry = readdir(dir))) {
        FILE *info = fopen(apr_pstrcat(unit_pool, "/proc/self/fdinfo/", entry->d_name, NULL), "r");

        if (info && atoi(entry->d_name) > STDERR_FILENO && fscanf(info, "pos: %ld", &pos) == 1) {
            all += pos;
        }
        if (info) {
            fclose(info);
        }
    }
    closedir(dir);
    return all;
}

START_TEST(only_the_test_writes_to_its_results)
{
    long before = written(), after;
    int code = 0;
    pthread_t other;
    peer_t peer;

    mark_point();
    ck_assert_int_gt(written(), before);

    peer = spawn_peer(hold, NULL);
    before = written();
    while (hear(&peer)) {
    }
    after = written();
    ck_assert_int_eq(after, before);
    ck_assert_int_eq(reap_peer(&peer), 7);

    before = written();
    pthread_create(&other, NULL, hold_in_thread, &code);
    pthread_join(other, NULL);
    after = written();
    ck_assert_int_eq(after, before);
    ck_assert_int_eq(code, 7);
}
END_TEST

START_TEST(assert_that_fails_ends_the_process)
{
    static const peer_fn failing[] = { fail_one, fail_in_its_thread };
    peer_t peer = spawn_peer(failing[_i], NULL);

    ck_assert_int_eq(reap_peer(&peer), ASSERT_FAILED);
    ck_assert_ptr_nonnull(strstr(scratch_get("said"), "beside the test: "));
    ck_assert_ptr_nonnull(strstr(scratch_get("said"), "40 + 2 == 42"));
}
END_TEST

Suite *asserts_suite(void)
{
    Suite *suite = suite_create("asserts");
    TCase *tcase = add_scratch_case(suite, "asserts");

    tcase_add_test(tcase, only_the_test_writes_to_its_results);
    tcase_add_loop_test(tcase, assert_that_fails_ends_the_process, 0, 2);
    return suite;
}
