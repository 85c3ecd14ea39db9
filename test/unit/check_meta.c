/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The metadata provider "dbm": records. The index is in check_index.c. */
#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static tus_meta_place_t place;
static tus_meta_t *meta;
static int descriptors;

/* ---- fixture ------------------------------------------------------------- */

static void open_meta(void)
{
    ck_assert_int_eq(tus_meta_dbm.open(&meta, &place, unit_pool), APR_SUCCESS);
}

static void setup(void)
{
    scratch_mkdir("store");
    scratch_mkdir("state");
    descriptors = open_descriptors();
    place = (tus_meta_place_t){ .state_dir = scratch_path("state"),
                                .mode = APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD
                                        | APR_FPROT_GWRITE };
    place.info_dir = open(scratch_path("store"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(place.info_dir, 0);
    open_meta();
}

static void teardown(void)
{
    if (place.info_dir != -1) {
        close(place.info_dir);
    }
    ck_assert_int_eq(open_descriptors(), descriptors);
}

static void keep_records_in_state(void)
{
    close(place.info_dir);
    place.info_dir = -1;
    open_meta();
}

static tus_record_t *make_record(const char *id)
{
    tus_record_t *record = apr_pcalloc(unit_pool, sizeof(*record));

    record->id = id;
    record->size = 42;
    record->ours = 1;
    record->created = 1700000000123456;
    record->metadata = "filename d29ybGQ=";
    ck_assert_ptr_null(tus_metadata_parse(record->metadata, &record->pairs, unit_pool));
    record->storage_type = "filestore";
    record->storage_path = "/somewhere";
    record->owner = "joe";
    return record;
}

static apr_status_t put(const char *id)
{
    return tus_meta_dbm.put(meta, make_record(id), 1, unit_pool);
}

static apr_status_t get(const char *id)
{
    tus_record_t *record;

    return tus_meta_dbm.get(meta, id, &record, unit_pool);
}

static void assert_kept(const char *id, apr_off_t size)
{
    tus_record_t *record;

    ck_assert_int_eq(tus_meta_dbm.get(meta, id, &record, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->id, id);
    ck_assert_int_eq(record->size, size);
    ck_assert_int_eq(record->created, 1700000000123456);
    ck_assert_str_eq(record->metadata, "filename d29ybGQ=");
    ck_assert_str_eq(record->storage_path, "/somewhere");
    ck_assert_str_eq(record->owner, "joe");
}

/* ---- put, get, remove ---------------------------------------------------- */

START_TEST(test_round_trip)
{
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    assert_kept("one", 42);
    ck_assert(scratch_exists("store/one.info"));
    ck_assert(!scratch_exists("store/.one.info.tmp"));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
}
END_TEST

START_TEST(test_put_replaces)
{
    tus_record_t *record = make_record("one");
    ino_t before;
    int durable;

    for (durable = 0; durable <= 1; durable++) {
        ck_assert_int_eq(put("one"), APR_SUCCESS);
        before = scratch_stat("store/one.info").st_ino;
        record->size = 43 + durable;
        ck_assert_int_eq(tus_meta_dbm.put(meta, record, durable, unit_pool), APR_SUCCESS);
        ck_assert_uint_ne(scratch_stat("store/one.info").st_ino, before);
        assert_kept("one", 43 + durable);
    }
}
END_TEST

START_TEST(test_mode_is_exact)
{
    umask(077);
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/one.info"), 0660);
}
END_TEST

START_TEST(test_id_with_directories)
{
    ck_assert(APR_STATUS_IS_ENOENT(put("a/b/c")));
    scratch_mkdir("store/a");
    scratch_mkdir("store/a/b");
    ck_assert_int_eq(put("a/b/c"), APR_SUCCESS);
    assert_kept("a/b/c", 42);
    ck_assert(scratch_exists("store/a/b/c.info"));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "a/b/c"), APR_SUCCESS);
    ck_assert(!scratch_exists("store/a/b/c.info"));
}
END_TEST

START_TEST(test_the_longest_id)
{
    char segment[201];
    const char *id;

    memset(segment, 'x', 199);
    segment[199] = '\0';
    id = apr_psprintf(unit_pool, "%s/%s/%s/%s/%s", segment, segment, segment, segment, segment);
    keep_records_in_state();
    ck_assert_int_eq(put(id), APR_SUCCESS);
    assert_kept(id, 42);
}
END_TEST

START_TEST(test_records_in_the_state_directory)
{
    keep_records_in_state();
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
    ck_assert(!scratch_exists("state/info"));
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    ck_assert_int_eq(put("a/b/c"), APR_SUCCESS);
    assert_kept("one", 42);
    assert_kept("a/b/c", 42);
    ck_assert_uint_eq(scratch_mode("state/info"), 0700);
    ck_assert_uint_eq(scratch_mode("state/info/a"), 0700);
    ck_assert(scratch_exists("state/info/a/b/c.info"));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "a/b/c"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(get("a/b/c")));
}
END_TEST

/* ---- what is in the way -------------------------------------------------- */

START_TEST(test_planted_record)
{
    struct stat before;

    scratch_plant((plant_e)_i, "store/one.info");
    before = scratch_stat("store/one.info");
    ck_assert_int_eq(get("one"), TUS_EREFUSED);
    ck_assert_int_eq(put("one"), TUS_EREFUSED);
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), TUS_EREFUSED);
    ck_assert_uint_eq(scratch_stat("store/one.info").st_ino, before.st_ino);
    ck_assert_uint_eq(scratch_stat("store/one.info").st_mode, before.st_mode);
    ck_assert(!scratch_exists("store/.one.info.tmp"));
    if (_i == PLANT_SYMLINK || _i == PLANT_HARD_LINK) {
        ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    }
}
END_TEST

START_TEST(test_planted_temporary_file)
{
    apr_status_t rv;

    scratch_plant((plant_e)_i, "store/.one.info.tmp");
    rv = put("one");
    if (_i == PLANT_DIRECTORY) {
        ck_assert_int_ne(rv, APR_SUCCESS);
        ck_assert(S_ISDIR(scratch_stat("store/.one.info.tmp").st_mode));
        ck_assert(!scratch_exists("store/one.info"));
    }
    else {
        ck_assert_int_eq(rv, APR_SUCCESS);
        assert_kept("one", 42);
        ck_assert(!scratch_exists("store/.one.info.tmp"));
    }
    if (_i == PLANT_SYMLINK || _i == PLANT_HARD_LINK) {
        ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    }
}
END_TEST

START_TEST(test_leftover_of_a_request_that_died)
{
    scratch_put("store/.one.info.tmp", "{\"ID\":\"on");
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    assert_kept("one", 42);
    scratch_put("store/.one.info.tmp", "{\"ID\":\"on");
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
    ck_assert(!scratch_exists("store/.one.info.tmp"));
}
END_TEST

START_TEST(test_symbolic_link_on_the_way)
{
    scratch_mkdir("outside");
    scratch_symlink("../outside", "store/a");
    ck_assert_int_eq(put("a/one"), TUS_EREFUSED);
    ck_assert(!scratch_exists("outside/one.info"));
    ck_assert(!scratch_exists("outside/.one.info.tmp"));
    scratch_put("outside/one.info", "{\"ID\":\"a/one\",\"Size\":1}");
    ck_assert_int_eq(get("a/one"), TUS_EREFUSED);
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "a/one"), TUS_EREFUSED);
    ck_assert(scratch_exists("outside/one.info"));
}
END_TEST

START_TEST(test_invalid_ids)
{
    static const char *const ids[] = { "",      "..",       "../one", "a/../one", "/one",
                                       "one/",  ".one",     "a//one", "a\nb",     "a b",
                                       "a%2fb", "one.info", "\xff",   "a/.b",     "+one" };
    apr_size_t i;

    for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        ck_assert_int_eq(get(ids[i]), APR_EINVAL);
        ck_assert_int_ne(put(ids[i]), APR_SUCCESS);
        ck_assert_int_eq(tus_meta_dbm.remove(meta, ids[i]), APR_EINVAL);
        ck_assert_int_eq(tus_meta_dbm.note(meta, ids[i], TUS_NOTE_CHANGE), APR_EINVAL);
    }
    ck_assert(!scratch_exists("state/journal"));
}
END_TEST

/* ---- what cannot be read or written -------------------------------------- */

START_TEST(test_damaged_record)
{
    static const char *const texts[] = { "",
                                         "{",
                                         "null",
                                         "[]",
                                         "{\"ID\":\"two\",\"Size\":1}",
                                         "{\"ID\":\"../one\",\"Size\":1}",
                                         "{\"Size\":1}",
                                         "{\"ID\":\"one\",\"Size\":-1}",
                                         "{\"ID\":\"one\",\"Size\":1} x" };
    apr_size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        scratch_put("store/one.info", texts[i]);
        ck_assert_int_eq(get("one"), TUS_EDAMAGED);
    }
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    assert_kept("one", 42);
}
END_TEST

START_TEST(test_size_limit)
{
    char *text = apr_palloc(unit_pool, TUS_RECORD_MAX + 1);
    const char *json = "{\"ID\":\"one\",\"Size\":1}";

    memset(text, ' ', TUS_RECORD_MAX);
    text[TUS_RECORD_MAX] = '\0';
    memcpy(text, json, strlen(json));
    scratch_put("store/one.info", text);
    ck_assert_int_eq(get("one"), APR_SUCCESS);
    ck_assert_int_eq(truncate(scratch_path("store/one.info"), TUS_RECORD_MAX + 1), 0);
    ck_assert_int_eq(get("one"), TUS_EREFUSED);
    ck_assert_int_eq(truncate(scratch_path("store/one.info"), 1024 * 1024 * 1024), 0);
    ck_assert_int_eq(get("one"), TUS_EREFUSED);
}
END_TEST

START_TEST(test_full_disk_keeps_the_old_record)
{
    tus_record_t *record = make_record("one");

    ck_assert_int_eq(put("one"), APR_SUCCESS);
    record->size = 43;
    scratch_limit_files(20);
    ck_assert_int_ne(tus_meta_dbm.put(meta, record, 1, unit_pool), APR_SUCCESS);
    scratch_unlimit_files();
    assert_kept("one", 42);
    ck_assert(!scratch_exists("store/.one.info.tmp"));
}
END_TEST

START_TEST(test_unusable_record_is_not_written)
{
    tus_record_t *record = make_record("one");

    record->size = -2;
    ck_assert_int_eq(tus_meta_dbm.put(meta, record, 0, unit_pool), APR_EINVAL);
    ck_assert(!scratch_exists("store/one.info"));
}
END_TEST

START_TEST(test_a_store_that_went)
{
    ck_assert_int_eq(rmdir(scratch_path("store")), 0);
    ck_assert(APR_STATUS_IS_ENOENT(put("one")));
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(rmdir(scratch_path("state")), 0);
    ck_assert(APR_STATUS_IS_ENOENT(tus_meta_dbm.note(meta, "one", TUS_NOTE_CREATE)));
    keep_records_in_state();
    ck_assert(APR_STATUS_IS_ENOENT(put("one")));
}
END_TEST

/* ---- the driver ---------------------------------------------------------- */

START_TEST(test_check)
{
    const char *why;

    ck_assert_ptr_null(tus_meta_dbm.check(NULL, unit_pool));
    ck_assert_ptr_null(tus_meta_dbm.check("sdbm", unit_pool));
    why = tus_meta_dbm.check("ndbm", unit_pool);
    ck_assert_ptr_nonnull(why);
    ck_assert_ptr_nonnull(strstr(why, "\"ndbm\""));
    ck_assert_ptr_nonnull(strstr(why, "gdbm"));
    ck_assert_ptr_nonnull(tus_meta_dbm.check("", unit_pool));
    ck_assert_ptr_nonnull(tus_meta_dbm.check("SDBM", unit_pool));
    ck_assert_ptr_nonnull(tus_meta_dbm.check("default", unit_pool));
}
END_TEST

Suite *meta_suite(void)
{
    Suite *suite = suite_create("meta");
    TCase *tcase = add_scratch_case(suite, "records");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_put_replaces);
    tcase_add_test(tcase, test_mode_is_exact);
    tcase_add_test(tcase, test_id_with_directories);
    tcase_add_test(tcase, test_the_longest_id);
    tcase_add_test(tcase, test_records_in_the_state_directory);
    tcase_add_loop_test(tcase, test_planted_record, 0, PLANT_COUNT);
    tcase_add_loop_test(tcase, test_planted_temporary_file, 0, PLANT_COUNT);
    tcase_add_test(tcase, test_leftover_of_a_request_that_died);
    tcase_add_test(tcase, test_symbolic_link_on_the_way);
    tcase_add_test(tcase, test_invalid_ids);
    tcase_add_test(tcase, test_damaged_record);
    tcase_add_test(tcase, test_size_limit);
    tcase_add_test(tcase, test_full_disk_keeps_the_old_record);
    tcase_add_test(tcase, test_unusable_record_is_not_written);
    tcase_add_test(tcase, test_a_store_that_went);
    tcase_add_test(tcase, test_check);
    return suite;
}
