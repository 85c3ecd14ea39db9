/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The metadata provider "dbm": whatever was done to the index's files, and
 * whoever died when, after a fold it holds just what the records say.
 */
#include "indexed.h"

#include <apr_strings.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- damage -------------------------------------------------------------- */

static const char *const index_files[] = { "state/index.sdbm.pag", "state/index.sdbm.dir",
                                           "state/index.ids", "state/clean" };

#define INDEX_FILES (int)(sizeof(index_files) / sizeof(index_files[0]))

static void scribble(const char *name, unsigned seed)
{
    int fd = open(scratch_path(name), O_WRONLY);
    unsigned char bytes[4096];
    apr_size_t i;

    ck_assert_int_ge(fd, 0);
    srandom(seed);
    for (i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)random();
    }
    ck_assert_int_eq(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    close(fd);
}

static void damage(const char *name, int how)
{
    struct stat before = scratch_stat(name);
    const char *path = scratch_path(name);

    switch (how) {
    case 0:
        ck_assert_int_eq(unlink(path), 0);
        return;
    case 1:
        ck_assert_int_eq(truncate(path, 0), 0);
        return;
    case 2:
        ck_assert_int_eq(truncate(path, before.st_size / 2), 0);
        return;
    default:
        do { /* until the clock of the file system has gone on */
            scribble(name, 1);
        } while (scratch_stat(name).st_ctim.tv_nsec == before.st_ctim.tv_nsec);
    }
}

START_TEST(test_damage_is_healed)
{
    static const char *const drivers[] = { "sdbm", "gdbm", "db" };
    static const char *const single[] = { NULL, "state/index.gdbm", "state/index.db" };
    int driver, file, how;

    create_many(0, 100);
    for (driver = 0; driver < 3; driver++) {
        place.driver = drivers[driver];
        if (tus_meta_dbm.check(place.driver, unit_pool) != NULL) {
            continue;
        }
        for (file = driver == 0 ? 0 : 1; file < INDEX_FILES; file++) {
            for (how = 0; how < 4; how++) {
                fold();
                assert_indexed(0, 100);
                damage(driver && file == 1 ? single[driver] : index_files[file], how);
                ck_assert_int_eq(walk(), TUS_EDAMAGED);
                fold();
                assert_indexed(0, 100);
            }
        }
    }
}
END_TEST

/* The mark vouches for files that are no database: an answer may be wrong, but nobody dies. */
static void use_damaged_index(int trial)
{
    tus_mark_t mark = { .live = 100, .lines = 100 };
    int i;

    for (i = 0; i < 3; i++) {
        if (trial >> i & 1) {
            scribble(index_files[i], (unsigned)trial);
        }
    }
    ck_assert_int_eq(tus_mark_write(&place, &mark, unit_pool), APR_SUCCESS);
    apr_hash_clear(entries);
    walk();
    create_many(100, 120);
    fold_for(LONG_BUDGET);
}

START_TEST(test_scribbled_sdbm_crashes_nobody)
{
    int status;
    pid_t pid;

    create_many(0, 100);
    fold();
    pid = fork();
    if (pid == 0) {
        use_damaged_index(_i);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    tus_mark_drop(place.state_dir, unit_pool);
    fold();
    assert_indexed(0, 120);
}
END_TEST

START_TEST(test_another_boot)
{
    const char *mark;
    char *boot;

    create_many(0, 10);
    fold();
    mark = scratch_get("state/clean");
    boot = strchr(mark, '\n') + 1;
    boot[0] = boot[0] == '0' ? '1' : '0';
    scratch_put("state/clean", mark);
    settled = 0;
    fold();
    ck_assert_int_eq(settled, 10);
    assert_indexed(0, 10);
}
END_TEST

/* The mark of an index that has changed since, as a restored backup may have it. */
START_TEST(test_a_mark_of_old)
{
    const char *mark;

    create_many(0, 10);
    fold();
    mark = scratch_get("state/clean");
    create_many(10, 20);
    fold();
    scratch_put("state/clean", mark);
    ck_assert_int_eq(walk(), TUS_EDAMAGED);
    fold();
    assert_indexed(0, 20);
}
END_TEST

/* What an older version wrote would be skipped, entry by entry. */
START_TEST(test_a_mark_of_another_format)
{
    char *mark;

    create_many(0, 10);
    fold();
    mark = apr_pstrdup(unit_pool, scratch_get("state/clean"));
    *strchr(mark, '\n') = '\0';
    ck_assert_str_eq(mark, "mod_tus index 2");
    scratch_put("state/clean",
                apr_pstrcat(unit_pool, "mod_tus index 1\n", mark + strlen(mark) + 1, NULL));
    ck_assert_int_eq(walk(), TUS_EDAMAGED);
    settled = 0;
    fold();
    ck_assert_int_eq(settled, 10);
    assert_indexed(0, 10);
}
END_TEST

START_TEST(test_a_mark_that_counts_what_cannot_be)
{
    static const tus_mark_t marks[] = {
        { -1, 10 }, { 11, 10 }, { 10, -1 }, { -2, -1 }, { APR_INT64_MAX, APR_INT64_MAX }
    };
    apr_size_t i;

    create_many(0, 10);
    fold();
    for (i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        ck_assert_int_eq(tus_mark_write(&place, &marks[i], unit_pool), APR_SUCCESS);
        ck_assert_int_eq(walk(), TUS_EDAMAGED);
    }
    settled = 0;
    fold();
    ck_assert_int_eq(settled, 10);
    assert_indexed(0, 10);
}
END_TEST

START_TEST(test_full_disk)
{
    create_many(0, 50);
    fold();
    create_many(50, 300);
    scratch_limit_files(12 * 1024);
    ck_assert_int_ne(fold_for(LONG_BUDGET), APR_SUCCESS);
    ck_assert_int_ne(fold_for(LONG_BUDGET), APR_SUCCESS);
    scratch_unlimit_files();
    fold();
    assert_indexed(0, 300);
}
END_TEST

/* ---- rebuilding ---------------------------------------------------------- */

START_TEST(test_rebuild_in_slices)
{
    int slices = 0;
    apr_status_t rv;

    create_many(0, 200);
    fold();
    tus_mark_drop(place.state_dir, unit_pool);
    while (APR_STATUS_IS_INCOMPLETE(rv = fold_for(0))) {
        create(name_of(200 + slices)); /* as it goes on */
        terminate(name_of(slices));
        slices++;
        ck_assert_int_eq(tus_meta_dbm.open(&meta, &place, unit_pool), APR_SUCCESS);
        ck_assert_int_le(slices, 201);
    }
    ck_assert_int_eq(rv, APR_SUCCESS);
    ck_assert_int_ge(slices, 100);
    fold();
    assert_indexed(slices, 200 + slices);
    ck_assert(!scratch_exists("state/rebuild"));
    ck_assert(!scratch_exists("state/rebuild.at"));
}
END_TEST

START_TEST(test_rebuild_meets_a_held_upload)
{
    create_many(0, 5);
    fold();
    tus_mark_drop(place.state_dir, unit_pool);
    apr_hash_set(held, name_of(2), APR_HASH_KEY_STRING, "");
    fold();
    ck_assert_str_eq(strchr(scratch_get("state/journal"), '\n'), "\n=upload-2\n");
    apr_hash_clear(held);
    fold();
    assert_indexed(0, 5);
}
END_TEST

START_TEST(test_damage_in_a_rebuild)
{
    static const char *const texts[] = { "",
                                         "garbage",
                                         "00000000000000000007",
                                         "-0000000000000000007",
                                         "99999999999999999999",
                                         "00000000000000099999" };

    create_many(0, 50);
    fold();
    tus_mark_drop(place.state_dir, unit_pool);
    ck_assert_int_eq(fold_for(0), APR_INCOMPLETE); /* begun */
    ck_assert_int_eq(fold_for(0), APR_INCOMPLETE);
    scratch_put("state/rebuild.at", texts[_i]);
    fold();
    assert_indexed(0, 50);
}
END_TEST

/* What the list lacked would be missing in an index that counts as whole. */
START_TEST(test_damage_to_the_list_of_a_rebuild)
{
    create_many(0, 50);
    fold();
    tus_mark_drop(place.state_dir, unit_pool);
    ck_assert_int_eq(fold_for(0), APR_INCOMPLETE); /* begun */
    ck_assert_int_eq(fold_for(0), APR_INCOMPLETE);
    damage("state/rebuild", _i);
    ck_assert_int_eq(fold_for(0), TUS_EDAMAGED);
    fold();
    assert_indexed(0, 50);
}
END_TEST

/* Damage to what is there is told, once; an index that is not there is simply made. */
START_TEST(test_what_a_fold_says)
{
    const char *mark;
    char *boot;

    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_INCOMPLETE);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_SUCCESS);
    create_many(0, 10);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_SUCCESS);
    damage("state/index.sdbm.pag", 1);
    ck_assert_int_eq(fold_for(LONG_BUDGET), TUS_EDAMAGED);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_SUCCESS);
    damage("state/journal", 0);
    ck_assert_int_eq(fold_for(LONG_BUDGET), TUS_EDAMAGED);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_SUCCESS);
    damage("state/clean", 0);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_INCOMPLETE);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_SUCCESS);
    mark = scratch_get("state/clean");
    boot = strchr(mark, '\n') + 1;
    boot[0] = boot[0] == '0' ? '1' : '0';
    scratch_put("state/clean", mark);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_INCOMPLETE);
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_SUCCESS);
    assert_indexed(0, 10);
}
END_TEST

/* With its lines: only a scan finds what they spoke of. */
START_TEST(test_damage_to_the_journal)
{
    fold();
    create_many(0, 20);
    damage("state/journal", _i);
    ck_assert_int_eq(fold_for(LONG_BUDGET), TUS_EDAMAGED);
    fold();
    assert_indexed(0, 20);
}
END_TEST

static int at_once(void *baton)
{
    (void)baton;
    return 1;
}

/* It died, or was stopped, in the scan: the index is found whole, but that scan has to be done. */
START_TEST(test_a_damaged_journal_is_not_forgotten)
{
    const tus_cancel_t cancel = { .cancelled = at_once };

    fold();
    create_many(0, 1500); /* so many that it looks whether to go on */
    damage("state/journal", 1);
    ck_assert_int_eq(tus_meta_dbm.fold(meta, settle, &place, 0, &cancel, unit_pool), APR_EINTR);
    fold();
    assert_indexed(0, 1500);
}
END_TEST

START_TEST(test_rebuild_interrupted)
{
    create_many(0, 50);
    fold();
    scratch_put("state/rebuild.tmp", "=upload-1\n=upl");
    scratch_put("state/rebuild", "=upload-1\n"); /* of a list before this one */
    scratch_put("state/rebuild.at", "00000000000000000010");
    tus_mark_drop(place.state_dir, unit_pool);
    fold();
    assert_indexed(0, 50);
}
END_TEST

static void plant_record(const char *name, const char *id)
{
    scratch_put(name, apr_psprintf(unit_pool, "{\"ID\":\"%s\",\"Size\":1}", id));
}

START_TEST(test_what_the_scan_finds)
{
    const char *deep = "store/1";
    int i;

    plant_record("store/one.info", "one");
    scratch_mkdir("store/a");
    scratch_mkdir("store/a/b");
    plant_record("store/a/b/two.info", "a/b/two");
    plant_record("store/.hidden.info", ".hidden");
    plant_record("store/.one.info.tmp", "one");
    plant_record("store/a b.info", "a b");
    plant_record("store/.info", "");
    plant_record("store/three", "three");
    plant_record("store/other.info", "another");
    scratch_mkdir("store/dir.info");
    scratch_mkdir("store/.git");
    plant_record("store/.git/four.info", ".git/four");
    scratch_mkdir("outside");
    plant_record("outside/five.info", "link/five");
    scratch_symlink("../outside", "store/link");
    scratch_symlink("../outside/five.info", "store/five.info");
    scratch_symlink("..", "store/a/up");
    ck_assert_int_eq(mkfifo(scratch_path("store/fifo.info"), 0600), 0);
    for (i = 1; i <= 10; i++) {
        scratch_mkdir(deep);
        plant_record(apr_pstrcat(unit_pool, deep, "/x.info", NULL),
                     apr_pstrcat(unit_pool, deep + strlen("store/"), "/x", NULL));
        deep = apr_pstrcat(unit_pool, deep, "/1", NULL);
    }
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_ptr_nonnull(entry_of("one"));
    ck_assert_ptr_nonnull(entry_of("a/b/two"));
    ck_assert_ptr_nonnull(entry_of("1/1/1/1/1/1/1/1/x"));
    ck_assert_int_eq(apr_hash_count(entries), 2 + 8);
}
END_TEST

START_TEST(test_index_of_what_is_gone_is_made_anew)
{
    int i;

    create_many(0, 1500);
    fold();
    for (i = 3; i < 1500; i++) {
        terminate(name_of(i));
    }
    fold();
    assert_indexed(0, 3);
    ck_assert_int_gt(scratch_stat("state/index.ids").st_size, 10000);
    fold();
    assert_indexed(0, 3);
    ck_assert_int_lt(scratch_stat("state/index.ids").st_size, 100);
}
END_TEST

/* ---- crashes ------------------------------------------------------------- */

/* settle() without Check, whose messages a process that is killed would leave torn. */
static tus_settled_e settle_quietly(void *baton, const char *id, int created, tus_record_t **record,
                                    apr_pool_t *p)
{
    (void)baton;
    (void)created;
    return tus_meta_dbm.get(meta, id, record, p) == APR_SUCCESS ? TUS_SETTLED_KEEP
                                                                : TUS_SETTLED_GONE;
}

static void fold_for_ever(void)
{
    apr_pool_t *p;

    apr_pool_create(&p, unit_pool);
    for (;;) {
        apr_pool_clear(p);
        tus_meta_dbm.fold(meta, settle_quietly, NULL, 0, NULL, p);
        tus_meta_dbm.note(meta, "upload-0", TUS_NOTE_CHANGE);
    }
}

/* A folder is killed at any instruction; what it leaves, the next one brings to an end. */
START_TEST(test_kill_the_folder)
{
    int round, status;

    for (round = 0; round < 25; round++) {
        pid_t pid;

        create_many(round * 40, (round + 1) * 40);
        if (round % 5 == 4) {
            tus_mark_drop(place.state_dir, unit_pool);
        }
        pid = fork();
        if (pid == 0) {
            fold_for_ever();
        }
        usleep(200 * (unsigned)(round + 1));
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        fold();
        assert_indexed(0, (round + 1) * 40);
    }
}
END_TEST

Suite *rebuild_suite(void)
{
    Suite *suite = suite_create("rebuild");
    TCase *tcase = add_indexed_case(suite, "rebuild");

    tcase_add_test(tcase, test_damage_is_healed);
    tcase_add_loop_test(tcase, test_scribbled_sdbm_crashes_nobody, 1, 32);
    tcase_add_test(tcase, test_another_boot);
    tcase_add_test(tcase, test_a_mark_of_old);
    tcase_add_test(tcase, test_a_mark_of_another_format);
    tcase_add_test(tcase, test_a_mark_that_counts_what_cannot_be);
    tcase_add_test(tcase, test_full_disk);
    tcase_add_test(tcase, test_rebuild_in_slices);
    tcase_add_test(tcase, test_rebuild_meets_a_held_upload);
    tcase_add_loop_test(tcase, test_damage_in_a_rebuild, 0, 6);
    tcase_add_loop_test(tcase, test_damage_to_the_list_of_a_rebuild, 0, 4);
    tcase_add_test(tcase, test_what_a_fold_says);
    tcase_add_loop_test(tcase, test_damage_to_the_journal, 0, 4);
    tcase_add_test(tcase, test_a_damaged_journal_is_not_forgotten);
    tcase_add_test(tcase, test_rebuild_interrupted);
    tcase_add_test(tcase, test_what_the_scan_finds);
    tcase_add_test(tcase, test_index_of_what_is_gone_is_made_anew);
    tcase_add_test(tcase, test_kill_the_folder);
    return suite;
}
