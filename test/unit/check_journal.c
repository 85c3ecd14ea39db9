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
#include <sys/wait.h>
#include <unistd.h>

#define HEADER "mod_tus journal 1\n"

#define WRITERS 4
#define NOTES 20000 /* of each writer */

/* What a fold has handed out: ids, as "+id" or "=id". */
static apr_array_header_t *handed;
static apr_hash_t *held; /* ids that are to be carried */
static apr_status_t answer;

static const char *journal(void)
{
    return scratch_path("journal");
}

static void mend(void)
{
    ck_assert_int_eq(tus_journal_mend(journal(), unit_pool), APR_SUCCESS);
    ck_assert(!scratch_exists("journal.fold"));
    ck_assert(!scratch_exists("journal.new"));
}

static void put_lines(const char *name, const char *lines)
{
    scratch_put(name, apr_pstrcat(unit_pool, HEADER, lines, NULL));
}

/* Of a journal with a header. */
static const char *lines_of(const char *name)
{
    const char *text = scratch_get(name);

    ck_assert_int_eq(strncmp(text, HEADER, strlen(HEADER)), 0);
    return text + strlen(HEADER);
}

static void setup(void)
{
    mend();
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
    ck_assert(!scratch_exists("journal.new"));
}

/* Not folded, for lines may be missing, until it is mended; then what is left of it is. */
static void assert_mends_to(const char *want)
{
    ck_assert_int_eq(fold(), TUS_EDAMAGED);
    ck_assert_int_eq(fold(), TUS_EDAMAGED);
    mend();
    assert_folds_to(want);
    assert_folds_to("");
}

/* ---- lines --------------------------------------------------------------- */

START_TEST(test_lines)
{
    ck_assert_int_eq(tus_journal_note(journal(), "one", 1), APR_SUCCESS);
    ck_assert_int_eq(tus_journal_note(journal(), "a/b~c", 0), APR_SUCCESS);
    ck_assert_str_eq(lines_of("journal"), "+one\n=a/b~c\n");
    ck_assert_uint_eq(scratch_mode("journal"), 0600);
    assert_folds_to("+one =a/b~c");
    ck_assert_str_eq(lines_of("journal"), "");
    assert_folds_to("");
}
END_TEST

START_TEST(test_where_nothing_was_noted_nothing_is_done)
{
    struct stat before = scratch_stat("journal");

    assert_folds_to("");
    ck_assert_uint_eq(scratch_stat("journal").st_ino, before.st_ino);
    ck_assert_int_eq(scratch_stat("journal").st_ctim.tv_nsec, before.st_ctim.tv_nsec);
}
END_TEST

START_TEST(test_each_id_once_and_created_stays)
{
    put_lines("journal", "=one\n+two\n+one\n=two\n=one\n=three\n=three\n");
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
        { "+a\n" HEADER "+b\n", "+a +b" },
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put_lines("journal", cases[i][0]);
        assert_mends_to(cases[i][1]);
        put_lines("journal.fold", cases[i][0]);
        assert_mends_to(cases[i][1]);
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
    assert_mends_to("+ok");
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
    scratch_limit_files(strlen(HEADER) + 7 + 3);
    ck_assert_int_ne(tus_journal_note(journal(), "second", 1), APR_SUCCESS);
    scratch_unlimit_files();
    ck_assert_str_eq(lines_of("journal"), "+first\n+se");
    ck_assert_int_eq(tus_journal_note(journal(), "third", 0), APR_SUCCESS);
    assert_mends_to("+first =third");
}
END_TEST

/* ---- what somebody did to it ---------------------------------------------- */

START_TEST(test_removed)
{
    ck_assert_int_eq(tus_journal_note(journal(), "lost", 1), APR_SUCCESS);
    ck_assert_int_eq(unlink(journal()), 0);
    ck_assert_int_eq(fold(), TUS_EDAMAGED);
    mend();
    assert_folds_to("");
    ck_assert_int_eq(unlink(journal()), 0);
    ck_assert_int_eq(tus_journal_note(journal(), "later", 1), APR_SUCCESS);
    assert_mends_to("+later");
}
END_TEST

/* But just between two lines: nothing tells of that. */
START_TEST(test_cut_anywhere)
{
    const char *text = HEADER "+one\n=two\n+three\n";
    int at;

    for (at = 0; text[at]; at++) {
        if (at > 0 && text[at - 1] == '\n') {
            continue;
        }
        scratch_put("journal", apr_pstrndup(unit_pool, text, (apr_size_t)at));
        ck_assert_int_eq(fold(), TUS_EDAMAGED);
        mend();
        scratch_put("journal", apr_pstrndup(unit_pool, text, (apr_size_t)at));
        ck_assert_int_eq(tus_journal_note(journal(), "later", 1), APR_SUCCESS);
        ck_assert_int_eq(fold(), TUS_EDAMAGED);
        mend();
        ck_assert_int_eq(fold(), APR_SUCCESS);
        ck_assert_str_eq(APR_ARRAY_IDX(handed, handed->nelts - 1, const char *), "+later");
    }
}
END_TEST

START_TEST(test_a_header_that_is_none)
{
    static const char *const texts[] = {
        "", "\n", "mod_tus journal 2\n", "+one\n", "mod_tus journal 1", "=mod_tus journal 1\n"
    };

    scratch_put("journal", texts[_i]);
    ck_assert_int_eq(fold(), TUS_EDAMAGED);
    ck_assert_int_eq(handed->nelts, 0);
    mend();
    assert_folds_to(_i == 3 ? "+one" : "");
}
END_TEST

START_TEST(test_mending_loses_no_line)
{
    scratch_put("journal.fold", "+one\n=torn");
    scratch_put("journal", "=two\n");
    mend();
    ck_assert_str_eq(lines_of("journal"), "=two\n+one\n");
    mend();
    ck_assert_str_eq(lines_of("journal"), "=two\n+one\n");
    assert_folds_to("=two +one");
}
END_TEST

/* ---- carrying, and crashes ----------------------------------------------- */

START_TEST(test_carry)
{
    put_lines("journal", "+one\n=two\n+three\n=four\n");
    apr_hash_set(held, "one", APR_HASH_KEY_STRING, "");
    apr_hash_set(held, "four", APR_HASH_KEY_STRING, "");
    assert_folds_to("+one =two +three =four");
    ck_assert_str_eq(lines_of("journal"), "+one\n=four\n");
    assert_folds_to("+one =four");
    apr_hash_clear(held);
    assert_folds_to("+one =four");
    assert_folds_to("");
}
END_TEST

START_TEST(test_failure_keeps_everything)
{
    put_lines("journal", "+one\n=two\n");
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
    put_lines("journal.fold", "+one\n=two\n");
    assert_folds_to("+one =two");
    put_lines("journal.fold", "+one\n=two\n");
    put_lines("journal", "=three\n");
    assert_folds_to("+one =two =three");
    put_lines("journal.fold", "+one\n=two\n");
    put_lines("journal", "=three\n+one\n");
    assert_folds_to("+one =two =three +one");
    put_lines("journal.fold", ""); /* cut by nobody: it only died early */
    assert_folds_to("");
}
END_TEST

/* It had given the old journal its second name, and had not put a new one in its place. */
START_TEST(test_folder_that_died_between_link_and_rename)
{
    put_lines("journal", "+one\n");
    ck_assert_int_eq(link(journal(), scratch_path("journal.fold")), 0);
    scratch_put("journal.new", "");
    ck_assert_int_eq(tus_journal_note(journal(), "two", 0), APR_SUCCESS);
    assert_folds_to("+one =two");
    put_lines("journal", "+one\n");
    ck_assert_int_eq(link(journal(), scratch_path("journal.fold")), 0);
    mend();
    assert_folds_to("+one");
}
END_TEST

/* It had made the first journal, which still had the name that it was written under. */
START_TEST(test_mender_that_died_early)
{
    ck_assert_int_eq(link(journal(), scratch_path("journal.new")), 0);
    ck_assert_int_eq(tus_journal_note(journal(), "one", 1), APR_SUCCESS);
    assert_folds_to("+one");
    ck_assert_str_eq(lines_of("journal"), "");
}
END_TEST

START_TEST(test_carrying_fails)
{
    apr_hash_set(held, "one", APR_HASH_KEY_STRING, "");
    put_lines("journal.fold", "+one\n");
    ck_assert_int_eq(unlink(journal()), 0);
    scratch_mkdir("journal");
    ck_assert_int_ne(fold(), APR_SUCCESS);
    ck_assert_str_eq(lines_of("journal.fold"), "+one\n");
    ck_assert_int_eq(rmdir(journal()), 0);
    apr_hash_clear(held);
    mend();
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

static const char *name_of(int number)
{
    return apr_psprintf(unit_pool, "journal-%d", number);
}

static const char *journal_of(int number)
{
    return scratch_path(name_of(number));
}

static void remove_journal(void)
{
    ck_assert_int_eq(unlink(journal()), 0);
}

/* What is kept open is not the journal any more: it was folded, mended, or removed. */
START_TEST(test_a_line_that_comes_too_late_is_written_again)
{
    static void (*const takes_away[])(void) = { mend, remove_journal };

    ck_assert_int_eq(tus_journal_init(unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_journal_note(journal(), "early", 1), APR_SUCCESS);
    assert_folds_to("+early");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(tus_journal_note(journal(), "kept", 0), APR_SUCCESS);
        assert_folds_to("=kept");
        ck_assert_int_eq(tus_journal_note(journal(), "again", 0), APR_SUCCESS);
        assert_folds_to("=again");
        takes_away[i]();
        ck_assert_int_eq(tus_journal_note(journal(), "late", 0), APR_SUCCESS);
        mend();
        assert_folds_to("=late");
    }
}
END_TEST

/* In each stand the lines of its own, and of nobody else. */
START_TEST(test_more_journals_than_are_kept_open)
{
    enum { JOURNALS = 64 };

    ck_assert_int_eq(tus_journal_init(unit_pool), APR_SUCCESS);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < JOURNALS; i++) {
            const char *id = apr_psprintf(unit_pool, "%d-%d", i, round);

            ck_assert_int_eq(tus_journal_note(journal_of(i), id, 0), APR_SUCCESS);
        }
    }
    for (int i = 0; i < JOURNALS; i++) {
        ck_assert_str_eq(scratch_get(name_of(i)),
                         apr_psprintf(unit_pool, "=%d-0\n=%d-1\n=%d-2\n", i, i, i));
    }
}
END_TEST

/* A writer that has the replaced journal open, and is in the middle of a line. */
static apr_status_t fold_beside_a_late_writer(void)
{
    apr_status_t rv;
    pid_t pid;

    ck_assert_int_eq(tus_journal_note(journal(), "early", 1), APR_SUCCESS);
    pid = fork();
    if (pid == 0) {
        int fd = open(journal(), O_WRONLY | O_APPEND);

        if (write(fd, "+la", 3) != 3) {
            _exit(1);
        }
        while (!scratch_exists("journal.fold")) {
            usleep(100);
        }
        _exit(write(fd, "te\n", 3) == 3 ? 0 : 1);
    }
    while (strcmp(lines_of("journal"), "+early\n") == 0) {
        usleep(100);
    }
    rv = fold();
    wait_for_child(pid);
    return rv;
}

/* One that stood still for longer than it is waited for has damaged the journal. */
START_TEST(test_half_a_line_of_a_late_writer_is_no_damage)
{
    apr_status_t rv;

    for (int tries = 0; tries < 10; tries++) {
        rv = fold_beside_a_late_writer();
        if (rv != TUS_EDAMAGED) {
            break;
        }
        mend();
        ck_assert_int_eq(fold(), APR_SUCCESS);
    }
    ck_assert_int_eq(rv, APR_SUCCESS);
    ck_assert_str_eq(apr_array_pstrcat(unit_pool, handed, ' '), "+early +late");
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

/* Also not the lines of requests that make the first journal, nor while it is mended. */
START_TEST(test_no_line_is_lost)
{
    unsigned char *marks = apr_pcalloc(unit_pool, WRITERS * NOTES);
    pid_t pids[WRITERS];
    apr_pool_t *p;
    int i, round = 0, running = WRITERS;

    ck_assert_int_eq(unlink(journal()), 0);
    for (i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            if (i % 2 == 0 && tus_journal_init(unit_pool) != APR_SUCCESS) {
                _exit(1);
            }
            note_all(i);
        }
    }
    apr_pool_create(&p, unit_pool);
    while (running > 0) {
        apr_pool_clear(p);
        if (round++ % 8 == 0) {
            ck_assert_int_eq(tus_journal_mend(journal(), p), APR_SUCCESS);
        }
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
    for (i = 0; i < WRITERS * NOTES; i++) { /* a line that came late stands in two journals */
        ck_assert_int_ge(marks[i], i % NOTES % 100 == 7 ? 2 : 1);
    }
    ck_assert_str_eq(lines_of("journal"), "");
}
END_TEST

#define FIRST_ROUNDS 2000

/* A request and a folder make the first journal of a store at the same time. */
START_TEST(test_the_first_line_is_not_lost)
{
    int go[2], done[2], round;
    char byte = 0;
    pid_t pid;

    ck_assert_int_eq(pipe(go), 0);
    ck_assert_int_eq(pipe(done), 0);
    pid = fork();
    for (round = 0; pid == 0 && round < FIRST_ROUNDS; round++) {
        const char *path = journal_of(round);

        if (read(go[0], &byte, 1) != 1 || tus_journal_note(path, "first", 1) != APR_SUCCESS
            || write(done[1], &byte, 1) != 1) {
            _exit(1);
        }
    }
    if (pid == 0) {
        _exit(0);
    }
    for (round = 0; round < FIRST_ROUNDS; round++) {
        const char *path = journal_of(round);

        apr_array_clear(handed);
        ck_assert_int_eq(write(go[1], &byte, 1), 1);
        usleep((useconds_t)(round % 100));
        ck_assert_int_eq(tus_journal_mend(path, unit_pool), APR_SUCCESS);
        ck_assert_int_eq(read(done[0], &byte, 1), 1);
        ck_assert_int_eq(tus_journal_fold(path, take, &answer, unit_pool), APR_SUCCESS);
        ck_assert_int_eq(handed->nelts, 1);
        ck_assert_int_eq(unlink(path), 0);
    }
    wait_for_child(pid);
    close(go[0]);
    close(go[1]);
    close(done[0]);
    close(done[1]);
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
    tcase_add_test(tcase, test_where_nothing_was_noted_nothing_is_done);
    tcase_add_test(tcase, test_removed);
    tcase_add_test(tcase, test_cut_anywhere);
    tcase_add_loop_test(tcase, test_a_header_that_is_none, 0, 6);
    tcase_add_test(tcase, test_mending_loses_no_line);
    tcase_add_test(tcase, test_folder_that_died_between_link_and_rename);
    tcase_add_test(tcase, test_mender_that_died_early);
    tcase_add_test(tcase, test_carry);
    tcase_add_test(tcase, test_failure_keeps_everything);
    tcase_add_test(tcase, test_leftover_of_a_folder_that_died);
    tcase_add_test(tcase, test_carrying_fails);
    tcase_add_test(tcase, test_a_line_that_comes_too_late_is_written_again);
    tcase_add_test(tcase, test_more_journals_than_are_kept_open);
    tcase_add_test(tcase, test_half_a_line_of_a_late_writer_is_no_damage);
    tcase_add_test(tcase, test_no_line_is_lost);
    tcase_add_test(tcase, test_the_first_line_is_not_lost);
    return suite;
}
