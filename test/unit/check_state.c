/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The state directory and the registry of stores. */
#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define PROCESSES 4

static apr_global_mutex_t *mutex;
static tus_state_t *state;

static void reopen(void)
{
    ck_assert_int_eq(tus_state_open(&state, scratch_path("state"), mutex, unit_pool), APR_SUCCESS);
}

static void setup(void)
{
    scratch_mkdir("state");
    ck_assert_int_eq(chmod(scratch_path("state"), 0700), 0);
    ck_assert_int_eq(apr_global_mutex_create(&mutex, NULL, APR_LOCK_DEFAULT, unit_pool),
                     APR_SUCCESS);
    reopen();
}

static tus_state_store_t make_store(const char *path, apr_uint64_t device, apr_uint64_t inode,
                                    apr_uint32_t owner)
{
    return (tus_state_store_t){
        .provider = "file", .driver = "sdbm", .path = path, .identity = { device, inode, owner }
    };
}

/* The name of the store's directory, which is there. */
static const char *find(tus_state_store_t store)
{
    const char *dir, *name;

    ck_assert_int_eq(tus_state_store(state, &store, &dir, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(strlen(store.name), TUS_STATE_NAME_LEN);
    ck_assert_uint_eq(strspn(store.name, "0123456789abcdef"), TUS_STATE_NAME_LEN);
    name = apr_pstrcat(unit_pool, "state/", store.name, NULL);
    ck_assert_str_eq(dir, scratch_path(name));
    ck_assert(S_ISDIR(scratch_stat(name).st_mode));
    ck_assert_uint_eq(scratch_mode(name), 0700);
    return apr_pstrdup(unit_pool, store.name);
}

static apr_array_header_t *registry(void)
{
    apr_array_header_t *stores;

    ck_assert_int_eq(tus_state_stores(state, &stores, unit_pool), APR_SUCCESS);
    return stores;
}

static const tus_state_store_t *line(int i)
{
    return &APR_ARRAY_IDX(registry(), i, tus_state_store_t);
}

/* ---- opening ------------------------------------------------------------- */

static apr_status_t open_dir(const char *name)
{
    tus_state_t *opened;

    return tus_state_open(&opened, scratch_path(name), mutex, unit_pool);
}

START_TEST(test_open)
{
    ck_assert(APR_STATUS_IS_ENOENT(open_dir("missing")));
    scratch_put("file", "");
    ck_assert_int_eq(open_dir("file"), TUS_EREFUSED);
    ck_assert_int_eq(chmod(scratch_path("state"), 0755), 0);
    ck_assert_int_eq(open_dir("state"), APR_SUCCESS);
    ck_assert_int_eq(chmod(scratch_path("state"), 0770), 0);
    ck_assert_int_eq(open_dir("state"), TUS_EREFUSED);
    ck_assert_int_eq(chmod(scratch_path("state"), 01707), 0);
    ck_assert_int_eq(open_dir("state"), TUS_EREFUSED);
    ck_assert_int_eq(chmod(scratch_path("state"), 0700), 0);
    scratch_symlink("state", "link");
    ck_assert_int_eq(open_dir("link"), APR_SUCCESS);
}
END_TEST

START_TEST(test_open_of_somebody_elses)
{
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(scratch_path("state"), 4711, 0), 0);
        ck_assert_int_eq(open_dir("state"), TUS_EREFUSED);
        return;
    }
    /* Root's own directory is nobody else's, though of no use to us. */
    ck_assert_int_eq(tus_state_open(&state, "/", mutex, unit_pool), APR_SUCCESS);
}
END_TEST

/* ---- finding ------------------------------------------------------------- */

START_TEST(test_found_again)
{
    const char *a = find(make_store("/a", 1, 10, 33)), *b = find(make_store("/b", 1, 11, 33));

    ck_assert_str_ne(a, b);
    ck_assert_str_eq(find(make_store("/a", 1, 10, 33)), a);
    reopen();
    ck_assert_str_eq(find(make_store("/b", 1, 11, 33)), b);
    ck_assert_str_eq(find(make_store("/a", 1, 10, 33)), a);
    ck_assert_int_eq(registry()->nelts, 2);
    ck_assert_str_eq(line(0)->name, a);
    ck_assert_str_eq(line(0)->path, "/a");
    ck_assert_str_eq(line(0)->provider, "file");
    ck_assert_str_eq(line(0)->driver, "sdbm");
    ck_assert_uint_eq(line(0)->identity.device, 1);
    ck_assert_uint_eq(line(0)->identity.inode, 10);
    ck_assert_uint_eq(line(0)->identity.owner, 33);
    ck_assert_uint_eq(scratch_mode("state/stores"), 0600);
    ck_assert(!scratch_exists("state/stores.tmp"));
}
END_TEST

START_TEST(test_matching)
{
    static const struct {
        const char *path;
        apr_uint64_t device, inode;
        apr_uint32_t owner;
        int same, rebuilt;
    } cases[] = {
        { "/store", 1, 10, 33, 1, 0 }, /* as it was */
        { "/moved", 1, 10, 33, 1, 0 }, /* renamed */
        { "/store", 2, 10, 33, 1, 0 }, /* another device number after a boot */
        { "/store", 1, 11, 33, 1, 1 }, /* restored */
        { "/store", 2, 11, 33, 1, 1 }, /* restored, on another device */
        { "/moved", 2, 10, 33, 0, 0 }, /* the inode alone says nothing */
        { "/moved", 1, 11, 33, 0, 0 }, /* nor does the device */
        { "/store", 1, 10, 34, 0, 0 }, /* whatever is alike: somebody else's */
        { "/store", 1, 11, 34, 0, 0 }, { "/moved", 1, 10, 34, 0, 0 },
    };
    const char *name = find(make_store("/store", 1, 10, 33));
    const char *mark = apr_pstrcat(unit_pool, "state/", name, "/clean", NULL);
    const tus_state_store_t *now;

    scratch_put(mark, "whole");
    ck_assert_int_eq(
        strcmp(find(make_store(cases[_i].path, cases[_i].device, cases[_i].inode, cases[_i].owner)),
               name)
            == 0,
        cases[_i].same);
    ck_assert_int_eq(!scratch_exists(mark), cases[_i].rebuilt);
    ck_assert_int_eq(registry()->nelts, cases[_i].same ? 1 : 2);
    now = line(registry()->nelts - 1);
    ck_assert_str_eq(now->path, cases[_i].path);
    ck_assert_uint_eq(now->identity.device, cases[_i].device);
    ck_assert_uint_eq(now->identity.inode, cases[_i].inode);
    ck_assert_uint_eq(now->identity.owner, cases[_i].owner);
}
END_TEST

#define MATCHING_CASES 10

START_TEST(test_stores_change_places)
{
    const char *a = find(make_store("/a", 1, 10, 33)), *b = find(make_store("/b", 1, 11, 33));

    /* mv a c; mv b a: what a directory is goes before where it is. */
    ck_assert_str_eq(find(make_store("/a", 1, 11, 33)), b);
    ck_assert_str_eq(find(make_store("/c", 1, 10, 33)), a);
    ck_assert_str_eq(find(make_store("/a", 1, 11, 33)), b);
    ck_assert_int_eq(registry()->nelts, 2);
    /* Restored at a path that two had: it is the later one's. */
    find(make_store("/c", 1, 11, 33));
    ck_assert_str_eq(find(make_store("/c", 1, 12, 33)), b);
}
END_TEST

START_TEST(test_another_provider_is_another_store)
{
    tus_state_store_t store = make_store("/a", 1, 10, 33);
    const char *name = find(store);

    store.provider = "s3";
    ck_assert_str_ne(find(store), name);
}
END_TEST

START_TEST(test_the_driver_is_kept_up_to_date)
{
    tus_state_store_t store = make_store("/a", 1, 10, 33);
    const char *name = find(store);

    store.driver = "gdbm";
    ck_assert_str_eq(find(store), name);
    ck_assert_str_eq(line(0)->driver, "gdbm");
    store.driver = NULL;
    ck_assert_str_eq(find(store), name);
    ck_assert_ptr_null(line(0)->driver);
    ck_assert_int_eq(registry()->nelts, 1);
}
END_TEST

/* Two paths to one directory must not fight over its line. */
START_TEST(test_two_paths)
{
    struct stat st;
    const char *name;
    ino_t inode;

    scratch_mkdir("store");
    scratch_symlink("store", "link");
    st = scratch_stat("store");
    name = find(make_store(scratch_path("store"), st.st_dev, st.st_ino, 33));
    inode = scratch_stat("state/stores").st_ino;
    ck_assert_str_eq(find(make_store(scratch_path("link"), st.st_dev, st.st_ino, 33)), name);
    ck_assert_uint_eq(scratch_stat("state/stores").st_ino, inode);
    ck_assert_str_eq(line(0)->path, scratch_path("store"));
}
END_TEST

START_TEST(test_a_directory_that_was_removed)
{
    tus_state_store_t store = make_store("/a", 1, 10, 33);
    const char *name = find(store);

    ck_assert_int_eq(rmdir(scratch_path(apr_pstrcat(unit_pool, "state/", name, NULL))), 0);
    reopen();
    ck_assert_str_eq(find(store), name);
}
END_TEST

START_TEST(test_registry_that_was_removed)
{
    tus_state_store_t store = make_store("/a", 1, 10, 33);
    const char *name = find(store);

    ck_assert_int_eq(unlink(scratch_path("state/stores")), 0);
    ck_assert_int_eq(registry()->nelts, 0);
    reopen();
    ck_assert_str_ne(find(store), name);
}
END_TEST

START_TEST(test_full_disk)
{
    tus_state_store_t store = make_store("/b", 1, 11, 33);
    const char *a = find(make_store("/a", 1, 10, 33)), *dir;

    scratch_limit_files(50);
    ck_assert_int_ne(tus_state_store(state, &store, &dir, unit_pool), APR_SUCCESS);
    scratch_unlimit_files();
    ck_assert_int_eq(registry()->nelts, 1);
    ck_assert_str_eq(find(make_store("/a", 1, 10, 33)), a);
    find(store);
    ck_assert_int_eq(registry()->nelts, 2);
}
END_TEST

/* ---- hostile paths, damaged lines ---------------------------------------- */

START_TEST(test_any_byte_in_a_path)
{
    char path[300] = "/";
    const char *name;
    int i;

    for (i = 1; i < 256; i++) {
        path[i] = (char)i;
    }
    name = find(make_store(path, 1, 10, 33));
    for (i = 1; i < 256; i++) {
        char one[] = { '/', (char)i, '\0' };

        find(make_store(one, 1, (apr_uint64_t)1000 + (apr_uint64_t)i, 33));
    }
    reopen();
    ck_assert_str_eq(find(make_store(path, 1, 10, 33)), name);
    ck_assert_int_eq(registry()->nelts, 256);
    ck_assert_str_eq(line(0)->path, path);
    for (i = 1; i < 256; i++) {
        ck_assert_int_eq(line(i)->path[1], (char)i);
        ck_assert_int_eq(line(i)->path[2], '\0');
    }
}
END_TEST

START_TEST(test_a_path_that_looks_like_a_line)
{
    find(make_store("/x\n0123456789abcdef\tfile\tsdbm\t1\t10\t33\t/victim\n", 1, 9, 666));
    ck_assert_int_eq(registry()->nelts, 1);
    ck_assert_str_ne(find(make_store("/victim", 1, 10, 33)), "0123456789abcdef");
}
END_TEST

START_TEST(test_longest_values)
{
    char *path = apr_palloc(unit_pool, 4096);
    const char *name;

    memset(path, '\n', 4095);
    path[0] = '/';
    path[4095] = '\0';
    name = find(make_store(path, APR_UINT64_MAX, APR_UINT64_MAX, 0xffffffff));
    reopen();
    ck_assert_str_eq(find(make_store(path, APR_UINT64_MAX, APR_UINT64_MAX, 0xffffffff)), name);
    ck_assert_uint_eq(line(0)->identity.inode, APR_UINT64_MAX);
}
END_TEST

#define GOOD "0123456789abcdef\tfile\tsdbm\t1\t10\t33\t/good\n"

START_TEST(test_damaged_lines)
{
    static const char *const lines[] = {
        "\n",
        "\t\t\t\t\t\t\n",
        "garbage\n",
        "../../../../etc/x\tfile\tsdbm\t1\t11\t33\t/x\n",
        "0123456789ABCDEF\tfile\tsdbm\t1\t11\t33\t/x\n",
        "0123456789abcde\tfile\tsdbm\t1\t11\t33\t/x\n",
        "0123456789abcdef0\tfile\tsdbm\t1\t11\t33\t/x\n",
        "0123456789abcdef\tfile\tsdbm\t1\t11\t33\n",
        "0123456789abcdef\tfile\tsdbm\t1\t11\t33\t/x\tmore\n",
        "0123456789abcdef\tfile\tsdbm\t-1\t11\t33\t/x\n",
        "0123456789abcdef\tfile\tsdbm\t 1\t11\t33\t/x\n",
        "0123456789abcdef\tfile\tsdbm\t1\t11x\t33\t/x\n",
        "0123456789abcdef\tfile\tsdbm\t1\t99999999999999999999\t33\t/x\n",
        "0123456789abcdef\tfile\tsdbm\t1\t11\t4294967329\t/x\n", /* 33 in 32 bits */
        "0123456789abcdef\tfile\tsdbm\t1\t11\t33\t/x%zz\n",
        "0123456789abcdef\tfile\tsdbm\t1\t11\t33\t/x%00y\n",
        "0123456789abcdef\tfile\tsdbm\t1\t11\t33\t-\n",
        "0123456789abcdef\tfile\tsdbm\t1\t11\t33\t%2d\n",
        "0123456789abcdef\t-\tsdbm\t1\t11\t33\t/x\n",
    };
    const char *text = "";
    apr_size_t i;

    for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        scratch_put("state/stores", apr_pstrcat(unit_pool, lines[i], GOOD, NULL));
        ck_assert_int_eq(registry()->nelts, 1);
        ck_assert_str_eq(line(0)->path, "/good");
        text = apr_pstrcat(unit_pool, text, lines[i], NULL);
    }
    scratch_put("state/stores",
                apr_pstrcat(unit_pool, text, GOOD, text,
                            "fedcba9876543210\tfile\tsdbm\t1\t11\t33\t/trunc", NULL));
    ck_assert_int_eq(registry()->nelts, 1);
    ck_assert_str_eq(find(make_store("/good", 1, 10, 33)), "0123456789abcdef");
    ck_assert_str_ne(find(make_store("/trunc", 1, 11, 33)), "fedcba9876543210");
    ck_assert_int_eq(registry()->nelts, 2);
}
END_TEST

START_TEST(test_zeros_in_the_registry)
{
    char text[600] = { 0 };
    int fd = open(scratch_path("state/stores"), O_WRONLY | O_CREAT, 0600);

    memcpy(text + 300, "\n" GOOD, sizeof(GOOD));
    ck_assert_int_eq(write(fd, text, sizeof(text)), sizeof(text));
    close(fd);
    ck_assert_int_eq(registry()->nelts, 1);
    ck_assert_str_eq(find(make_store("/good", 1, 10, 33)), "0123456789abcdef");
}
END_TEST

/* ---- many, and many at once ---------------------------------------------- */

static tus_state_store_t numbered(int i, apr_pool_t *p)
{
    return make_store(apr_psprintf(p, "/home/%d/store", i), 1, (apr_uint64_t)i, 33);
}

START_TEST(test_a_thousand_stores)
{
    const char *names[1000];
    int i;

    for (i = 0; i < 1000; i++) {
        names[i] = find(numbered(i, unit_pool));
    }
    reopen();
    ck_assert_int_eq(registry()->nelts, 1000);
    for (i = 0; i < 1000; i++) {
        ck_assert_str_eq(find(numbered(i, unit_pool)), names[i]);
        ck_assert_str_eq(line(i)->name, names[i]);
    }
}
END_TEST

/* Another thread may have replaced what it is recalled from: then it is not. */
static int is_recalled_as(const tus_state_store_t *store, const char *dir, apr_pool_t *p)
{
    const char *recalled = tus_state_recall(state, store, p);

    return !recalled || strcmp(recalled, dir) == 0;
}

/* Finds 20 stores over and over; they stay what they are. */
static int find_twenty(apr_pool_t *parent)
{
    char names[20][TUS_STATE_NAME_LEN + 1] = { { 0 } };
    apr_pool_t *p;
    int i, failed = 0;

    apr_pool_create(&p, parent);
    for (i = 0; i < 400; i++) {
        tus_state_store_t store;
        const char *dir;

        apr_pool_clear(p);
        store = numbered(i % 20, p);
        failed += tus_state_store(state, &store, &dir, p) != APR_SUCCESS;
        failed += !failed && !is_recalled_as(&store, dir, p);
        if (i >= 20 && !failed) {
            failed += strcmp(names[i % 20], store.name) != 0;
        }
        if (!failed) {
            apr_cpystrn(names[i % 20], store.name, TUS_STATE_NAME_LEN + 1);
        }
    }
    apr_pool_destroy(p);
    return failed;
}

static void *APR_THREAD_FUNC run_thread(apr_thread_t *thread, void *data)
{
    apr_thread_exit(thread, find_twenty(data) == 0 ? APR_SUCCESS : APR_EGENERAL);
    return NULL;
}

static int run_threads(void)
{
    apr_thread_t *threads[THREADS];
    apr_pool_t *pools[THREADS]; /* of no parent, for they are used at once */
    int i, failed = 0;

    for (i = 0; i < THREADS; i++) {
        apr_pool_create_unmanaged_ex(&pools[i], NULL, NULL);
        failed +=
            apr_thread_create(&threads[i], NULL, run_thread, pools[i], pools[i]) != APR_SUCCESS;
    }
    for (i = 0; i < THREADS; i++) {
        apr_status_t rv = APR_EGENERAL;

        apr_thread_join(&rv, threads[i]);
        apr_pool_destroy(pools[i]);
        failed += rv != APR_SUCCESS;
    }
    return failed;
}

START_TEST(test_threads_and_processes)
{
    pid_t pids[PROCESSES];
    int i, status;

    for (i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            _exit(apr_global_mutex_child_init(&mutex, NULL, unit_pool) == APR_SUCCESS
                          && run_threads() == 0
                      ? 0
                      : 1);
        }
    }
    for (i = 0; i < PROCESSES; i++) {
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    ck_assert_int_eq(registry()->nelts, 20);
    ck_assert_int_eq(find_twenty(unit_pool), 0);
    ck_assert_int_eq(registry()->nelts, 20);
}
END_TEST

/* ---- recalling ------------------------------------------------------------ */

/* By its directory, and by no path. */
static const char *recall(tus_state_store_t store)
{
    store.path = NULL;
    return tus_state_recall(state, &store, unit_pool);
}

/* The name of its directory, recalled right after it was found by its path. */
static const char *find_and_recall(tus_state_store_t store)
{
    const char *name, *dir;

    do { /* once, unless this process stood still for a second */
        name = find(store);
        dir = recall(store);
    } while (!dir);
    ck_assert_str_eq(dir, scratch_path(apr_pstrcat(unit_pool, "state/", name, NULL)));
    return name;
}

START_TEST(test_recalled_by_its_directory)
{
    tus_state_store_t a = make_store("/a", 1, 10, 33), b = make_store("/b", 1, 11, 33);

    ck_assert_ptr_null(recall(a));
    ck_assert_str_ne(find_and_recall(a), find_and_recall(b));
    a.driver = NULL;
    find_and_recall(a);
    reopen();
    ck_assert_ptr_null(recall(a));
}
END_TEST

START_TEST(test_only_the_same_store_is_recalled)
{
    const tus_state_store_t store = make_store("/a", 1, 10, 33);
    tus_state_store_t others[] = { make_store("/a", 2, 10, 33),
                                   make_store("/a", 1, 11, 33),
                                   make_store("/a", 1, 10, 34),
                                   store,
                                   store,
                                   store };

    others[3].provider = "s3";
    others[4].driver = "gdbm";
    others[5].driver = NULL;
    find_and_recall(store);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        ck_assert_ptr_null(recall(others[i]));
    }
    find_and_recall(store);
}
END_TEST

/* To be recalled does not make it found: its path has to be looked at again. */
START_TEST(test_not_recalled_for_long)
{
    const tus_state_store_t store = make_store("/a", 1, 10, 33);
    const char *name = find_and_recall(store);
    apr_time_t deadline = apr_time_now() + apr_time_from_sec(60);

    while (recall(store)) {
        ck_assert(apr_time_now() < deadline);
        apr_sleep(apr_time_from_msec(10));
    }
    ck_assert_ptr_null(recall(store));
    ck_assert_str_eq(find_and_recall(store), name);
}
END_TEST

/* Found at its new path, its line is brought up to date; until then it is recalled all the same. */
START_TEST(test_recalled_where_it_moved)
{
    const char *name = find_and_recall(make_store("/a", 1, 10, 33));

    ck_assert_str_eq(find_and_recall(make_store("/b", 1, 10, 33)), name);
    ck_assert_str_eq(line(0)->path, "/b");
    /* What was restored at its path is another directory. */
    ck_assert_ptr_null(recall(make_store("/b", 1, 11, 33)));
    ck_assert_str_eq(find_and_recall(make_store("/b", 1, 11, 33)), name);
    ck_assert_ptr_null(recall(make_store("/b", 1, 10, 33)));
}
END_TEST

/* Its owner renames a store for each request: that fills neither the registry nor this process. */
START_TEST(test_a_store_that_always_moves)
{
    const char *name = find(make_store("/a", 1, 10, 33));
    apr_pool_t *p;
    int i;

    apr_pool_create(&p, unit_pool);
    for (i = 0; i < 500; i++) {
        tus_state_store_t store = make_store(apr_psprintf(p, "/a/%d", i), 1, 10, 33);
        const char *dir;

        ck_assert_int_eq(tus_state_store(state, &store, &dir, p), APR_SUCCESS);
        ck_assert_str_eq(store.name, name);
        apr_pool_clear(p);
    }
    ck_assert_int_eq(registry()->nelts, 1);
    ck_assert_str_eq(line(0)->path, "/a/499");
}
END_TEST

Suite *state_suite(void)
{
    Suite *suite = suite_create("state");
    TCase *tcase = add_scratch_case(suite, "state");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, test_open);
    tcase_add_test(tcase, test_open_of_somebody_elses);
    tcase_add_test(tcase, test_found_again);
    tcase_add_loop_test(tcase, test_matching, 0, MATCHING_CASES);
    tcase_add_test(tcase, test_stores_change_places);
    tcase_add_test(tcase, test_another_provider_is_another_store);
    tcase_add_test(tcase, test_the_driver_is_kept_up_to_date);
    tcase_add_test(tcase, test_two_paths);
    tcase_add_test(tcase, test_a_directory_that_was_removed);
    tcase_add_test(tcase, test_registry_that_was_removed);
    tcase_add_test(tcase, test_full_disk);
    tcase_add_test(tcase, test_any_byte_in_a_path);
    tcase_add_test(tcase, test_a_path_that_looks_like_a_line);
    tcase_add_test(tcase, test_longest_values);
    tcase_add_test(tcase, test_damaged_lines);
    tcase_add_test(tcase, test_zeros_in_the_registry);
    tcase_add_test(tcase, test_a_thousand_stores);
    tcase_add_test(tcase, test_threads_and_processes);
    tcase_add_test(tcase, test_recalled_by_its_directory);
    tcase_add_test(tcase, test_only_the_same_store_is_recalled);
    tcase_add_test(tcase, test_not_recalled_for_long);
    tcase_add_test(tcase, test_recalled_where_it_moved);
    tcase_add_test(tcase, test_a_store_that_always_moves);
    return suite;
}
