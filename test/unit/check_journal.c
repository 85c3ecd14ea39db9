/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The change journal: what is noted is handed out, whoever folds or dies meanwhile. */
#include "scratch.h"
#include "tus_words.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#define WRITERS 4
#define NOTES 20000 /* of each writer */

/* What a fold has handed out: ids, as "+id" or "=id". */
static apr_array_header_t *handed;
static apr_hash_t *held; /* ids that are to be carried */
static apr_status_t answer;

static void setup(void)
{
    handed = apr_array_make(unit_pool, 16, sizeof(const char *));
    held = apr_hash_make(unit_pool);
    answer = APR_SUCCESS;
}

static apr_status_t take(void *baton, apr_array_header_t *noted, apr_pool_t *p)
{
    int i;

    ck_assert_ptr_eq(baton, &answer);
    ck_assert_ptr_nonnull(p);
    for (i = 0; i < noted->nelts; i++) {
        tus_noted_t *one = &APR_ARRAY_IDX(noted, i, tus_noted_t);

        ck_assert_int_eq(one->carry, 0);
        one->carry = apr_hash_get(held, one->id, APR_HASH_KEY_STRING) != NULL;
        APR_ARRAY_PUSH(handed, const char *) =
            apr_pstrcat(unit_pool, one->created ? "+" : "=", one->id, NULL);
    }
    return answer;
}

static const char *journal(void)
{
    return scratch_path("journal");
}

static apr_status_t fold(void)
{
    apr_array_clear(handed);
    return tus_journal_fold(journal(), take, &answer, unit_pool);
}

static void assert_folds_to(const char *want)
{
    ck_assert_int_eq(fold(), APR_SUCCESS);
    ck_assert_str_eq(apr_array_pstrcat(unit_pool, handed, ' '), want);
    ck_assert(!scratch_exists("journal.fold"));
}

/* ---- lines --------------------------------------------------------------- */

START_TEST(test_lines)
{
    ck_assert_int_eq(tus_journal_note(journal(), "one", 1), APR_SUCCESS);
    ck_assert_int_eq(tus_journal_note(journal(), "a/b~c", 0), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("journal"), "+one\n=a/b~c\n");
    ck_assert_uint_eq(scratch_mode("journal"), 0600);
    assert_folds_to("+one =a/b~c");
    ck_assert(!scratch_exists("journal"));
    assert_folds_to("");
}
END_TEST

START_TEST(test_each_id_once_and_created_stays)
{
    scratch_put("journal", "=one\n+two\n+one\n=two\n=one\n=three\n=three\n");
    assert_folds_to("+one +two =three");
}
END_TEST

START_TEST(test_damaged_lines)
{
    static const char *const cases[][2] = {
        { "+abc+def\n=x\n", "+def =x" }, /* torn, then whole */
        { "=ab=cd+ef\n", "+ef" },
        { "+abc", "" }, /* never finished */
        { "+abc\n=de", "+abc" },
        { "\n\n+\n=\nabc\n*abc\n+a b\n+../x\n+.hid\n+ok\n", "+ok" },
        { "+a\r\n+b\n", "+b" },
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scratch_put("journal", cases[i][0]);
        assert_folds_to(cases[i][1]);
    }
}
END_TEST

START_TEST(test_garbage)
{
    static char text[100000];
    int fd = open(journal(), O_WRONLY | O_CREAT | O_APPEND, 0600);

    ck_assert_int_eq(write(fd, text, sizeof(text)), sizeof(text));
    memset(text, 'x', sizeof(text));
    ck_assert_int_eq(write(fd, text, sizeof(text)), sizeof(text));
    ck_assert_int_eq(write(fd, "+a\0b\n\n+ok\n", 10), 10);
    close(fd);
    assert_folds_to("+ok");
}
END_TEST

START_TEST(test_many_lines)
{
    int i;

    for (i = 0; i < 5000; i++) {
        ck_assert_int_eq(
            tus_journal_note(journal(), apr_psprintf(unit_pool, "upload-%d", i), i & 1),
            APR_SUCCESS);
    }
    ck_assert_int_eq(fold(), APR_SUCCESS);
    ck_assert_int_eq(handed->nelts, 5000);
    for (i = 0; i < 5000; i++) {
        ck_assert_str_eq(APR_ARRAY_IDX(handed, i, const char *),
                         apr_psprintf(unit_pool, "%cupload-%d", i & 1 ? '+' : '=', i));
    }
}
END_TEST

START_TEST(test_full_disk_tears_no_other_line)
{
    ck_assert_int_eq(tus_journal_note(journal(), "first", 1), APR_SUCCESS);
    scratch_limit_files(10); /* 7 and three more */
    ck_assert_int_ne(tus_journal_note(journal(), "second", 1), APR_SUCCESS);
    scratch_unlimit_files();
    ck_assert_str_eq(scratch_get("journal"), "+first\n+se");
    ck_assert_int_eq(tus_journal_note(journal(), "third", 0), APR_SUCCESS);
    assert_folds_to("+first =third");
}
END_TEST

/* ---- carrying, and crashes ----------------------------------------------- */

START_TEST(test_carry)
{
    scratch_put("journal", "+one\n=two\n+three\n=four\n");
    apr_hash_set(held, "one", APR_HASH_KEY_STRING, "");
    apr_hash_set(held, "four", APR_HASH_KEY_STRING, "");
    assert_folds_to("+one =two +three =four");
    ck_assert_str_eq(scratch_get("journal"), "+one\n=four\n");
    assert_folds_to("+one =four");
    apr_hash_clear(held);
    assert_folds_to("+one =four");
    assert_folds_to("");
}
END_TEST

START_TEST(test_failure_keeps_everything)
{
    scratch_put("journal", "+one\n=two\n");
    answer = APR_EGENERAL;
    ck_assert_int_eq(fold(), APR_EGENERAL);
    ck_assert_int_eq(tus_journal_note(journal(), "three", 0), APR_SUCCESS);
    ck_assert_int_eq(fold(), APR_EGENERAL);
    answer = APR_SUCCESS;
    assert_folds_to("+one =two =three");
}
END_TEST

/* As left by a folder that died: after its rename, while reading, and after it carried. */
START_TEST(test_leftover_of_a_folder_that_died)
{
    scratch_put("journal.fold", "+one\n=two\n");
    assert_folds_to("+one =two");
    scratch_put("journal.fold", "+one\n=two\n");
    scratch_put("journal", "=three\n");
    assert_folds_to("+one =two =three");
    scratch_put("journal.fold", "+one\n=two\n");
    scratch_put("journal", "=three\n+one\n");
    assert_folds_to("+one =two =three +one");
}
END_TEST

START_TEST(test_carrying_fails)
{
    apr_hash_set(held, "one", APR_HASH_KEY_STRING, "");
    scratch_put("journal.fold", "+one\n");
    scratch_mkdir("journal");
    ck_assert_int_ne(fold(), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("journal.fold"), "+one\n");
    ck_assert_int_eq(rmdir(journal()), 0);
    apr_hash_clear(held);
    assert_folds_to("+one");
}
END_TEST

/* ---- races --------------------------------------------------------------- */

static void wait_for_child(pid_t pid)
{
    int status;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A writer that had the journal open before it was renamed, and writes after that. */
START_TEST(test_folder_waits_for_a_late_writer)
{
    int ready[2];
    char byte;
    pid_t pid;

    ck_assert_int_eq(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        int fd = open(journal(), O_WRONLY | O_APPEND | O_CREAT, 0600);

        if (flock(fd, LOCK_SH) != 0 || write(ready[1], "x", 1) != 1) {
            _exit(1);
        }
        while (!scratch_exists("journal.fold")) {
            usleep(1000);
        }
        usleep(50000); /* gives a folder that does not wait the time to miss the line */
        _exit(write(fd, "+late\n", 6) == 6 ? 0 : 1);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    assert_folds_to("+late");
    wait_for_child(pid);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

static void note_all(int writer)
{
    char id[32];
    int i;

    for (i = 0; i < NOTES; i++) {
        apr_snprintf(id, sizeof(id), "%d-%d", writer, i);
        if (tus_journal_note(journal(), id, i & 1) != APR_SUCCESS) {
            _exit(1);
        }
    }
    _exit(0);
}

/* Marks what was handed out; a few ids are carried, each once. */
static apr_status_t mark(void *baton, apr_array_header_t *noted, apr_pool_t *p)
{
    unsigned char *marks = baton;
    int i, writer, number;

    (void)p;
    for (i = 0; i < noted->nelts; i++) {
        tus_noted_t *one = &APR_ARRAY_IDX(noted, i, tus_noted_t);
        unsigned char *seen;

        ck_assert_int_eq(sscanf(one->id, "%d-%d", &writer, &number), 2);
        ck_assert_int_eq(one->created, number & 1);
        seen = &marks[writer * NOTES + number];
        *seen += 1;
        one->carry = number % 100 == 7 && *seen == 1;
    }
    return APR_SUCCESS;
}

START_TEST(test_no_line_is_lost)
{
    unsigned char *marks = apr_pcalloc(unit_pool, WRITERS * NOTES);
    pid_t pids[WRITERS];
    apr_pool_t *p;
    int i, running = WRITERS;

    for (i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            note_all(i);
        }
    }
    apr_pool_create(&p, unit_pool);
    while (running > 0) {
        apr_pool_clear(p);
        ck_assert_int_eq(tus_journal_fold(journal(), mark, marks, p), APR_SUCCESS);
        for (i = 0; i < WRITERS; i++) {
            int status;

            if (pids[i] && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
                ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
                pids[i] = 0;
                running--;
            }
        }
    }
    for (i = 0; i < 2; i++) { /* what is left, and what that carried */
        ck_assert_int_eq(tus_journal_fold(journal(), mark, marks, p), APR_SUCCESS);
    }
    for (i = 0; i < WRITERS * NOTES; i++) {
        ck_assert_int_eq(marks[i], i % NOTES % 100 == 7 ? 2 : 1);
    }
    ck_assert(!scratch_exists("journal"));
}
END_TEST

Suite *journal_suite(void)
{
    Suite *suite = suite_create("journal");
    TCase *tcase = add_scratch_case(suite, "journal");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, test_lines);
    tcase_add_test(tcase, test_each_id_once_and_created_stays);
    tcase_add_test(tcase, test_damaged_lines);
    tcase_add_test(tcase, test_garbage);
    tcase_add_test(tcase, test_many_lines);
    tcase_add_test(tcase, test_full_disk_tears_no_other_line);
    tcase_add_test(tcase, test_carry);
    tcase_add_test(tcase, test_failure_keeps_everything);
    tcase_add_test(tcase, test_leftover_of_a_folder_that_died);
    tcase_add_test(tcase, test_carrying_fails);
    tcase_add_test(tcase, test_folder_waits_for_a_late_writer);
    tcase_add_test(tcase, test_no_line_is_lost);
    return suite;
}
