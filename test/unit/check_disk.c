/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Ring 3 over what lies on disk: data by the provider "file", records by "dbm".
 * What a process leaves that is killed between any two calls is left here by a
 * process that ends there.
 */
#include "core_fakes.h"

#include <apr_file_info.h>
#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void setup(void)
{
    keep_records_on_disk();
}

static const char *info_of(const char *id)
{
    return apr_pstrcat(unit_pool, "store/", id, ".info", NULL);
}

static int has_text(const char *name, const char *text)
{
    return strstr(scratch_get(name), text) != NULL;
}

/* Everything in the store, hidden files too, a space between. */
static const char *listing(void)
{
    const char *all = "";
    apr_dir_t *dir;
    apr_finfo_t finfo;

    ck_assert_int_eq(apr_dir_open(&dir, scratch_path("store"), unit_pool), APR_SUCCESS);
    while (apr_dir_read(&finfo, APR_FINFO_NAME, dir) == APR_SUCCESS) {
        if (strcmp(finfo.name, ".") != 0 && strcmp(finfo.name, "..") != 0) {
            all = apr_pstrcat(unit_pool, all, *all ? " " : "", finfo.name, NULL);
        }
    }
    apr_dir_close(dir);
    return all;
}

/* The id of the only upload in the store, or NULL where there is none. */
static const char *only_id(void)
{
    const char *all = listing();
    char *id;

    if (!*all) {
        return NULL;
    }
    id = apr_pstrndup(unit_pool, all, 32);
    ck_assert_msg(strlen(all) == 32 + 1 + 32 + 5 && scratch_exists(data_of(id))
                      && scratch_exists(info_of(id)),
                  "in the store is: %s", all);
    return id;
}

START_TEST(upload_lives_on_disk)
{
    tus_upload_t *upload = ck_create(8, 0);
    const char *id = upload->record->id;
    struct stat before, after;

    ck_assert_str_eq(only_id(), id);
    ck_assert_uint_eq(scratch_mode(data_of(id)), 0640);
    ck_assert_uint_eq(scratch_mode(info_of(id)), 0640);
    ck_assert(!has_text(info_of(id), "Finished"));
    before = scratch_stat(info_of(id));
    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    after = scratch_stat(info_of(id));
    ck_assert_uint_eq(after.st_ino, before.st_ino);
    ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);

    upload = ck_hold(id);
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert(has_text(info_of(id), "Finished"));
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
    ck_assert_str_eq(only_id(), id);

    settle_all();
    ck_assert(is_indexed(id));
    ck_ok(end_upload(id));
    ck_assert_str_eq(listing(), "");
    settle_all();
    ck_assert(!is_indexed(id));
}
END_TEST

START_TEST(undone_creation_leaves_nothing_on_disk)
{
    static const char *const creating[] = { "create", "put", "confirm" };
    tus_creation_t creation = { .size = 8 };
    tus_upload_t *upload;

    settle_all();
    fail_call(creating[_i], 1, ENOSPC);
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_INSUFFICIENT_STORAGE,
             ENOSPC);
    ck_assert_str_eq(listing(), "");
    ck_nothing_held();
    settle_all();
    ck_assert(!is_indexed(upload->record->id));
}
END_TEST

START_TEST(orphan_is_carried_until_nobody_has_it)
{
    tus_upload_t *upload = ck_create(8, 1);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    settle_all();
    settle_all();
    ck_assert_str_eq(listing(), id);
    ck_assert(!is_indexed(id));
    tus_upload_release(upload);
    settle_all();
    ck_assert_str_eq(listing(), "");
}
END_TEST

START_TEST(held_upload_is_carried_until_it_has_a_record)
{
    tus_upload_t *upload = ck_create(8, 1);
    const char *id = upload->record->id;

    settle_all();
    ck_append(upload, "fourmore");
    ck_ok(tus_append_end(upload));
    settle_all();
    tus_upload_release(upload);
    settle_all();
    ck_assert(is_indexed(id));
    ck_assert_str_eq(only_id(), id);
}
END_TEST

START_TEST(remnant_is_removed)
{
    const char *id = make_upload(8, "four");

    settle_all();
    ck_assert(is_indexed(id));
    fail_call("drop", 1, EIO);
    ck_error(end_upload(id), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_assert_str_eq(listing(), apr_pstrcat(unit_pool, id, ".info", NULL));
    settle_all();
    ck_assert_str_eq(listing(), "");
    ck_assert(!is_indexed(id));
}
END_TEST

START_TEST(foreign_files_stay)
{
    static const char *const names[] = { "store/report.pdf", "store/.hidden", "store/x.info",
                                         "store/0123456789abcdef0123456789abcdef" };
    int i;

    for (i = 0; i < COUNT(names); i++) {
        scratch_put(names[i], "text");
        ck_assert_int_eq(chmod(scratch_path(names[i]), 01600), 0);
    }
    tus_upload_release(ck_create(8, 1));
    settle_all();
    settle_all();
    for (i = 0; i < COUNT(names); i++) {
        ck_assert_str_eq(scratch_get(names[i]), "text");
    }
}
END_TEST

START_TEST(directory_of_tusd_is_adopted)
{
    static const char tusd[] =
        "{\"ID\":\"24e533e02ec3bc40c387f1a0e460e216\",\"Size\":8,\"SizeIsDeferred\":false,"
        "\"Offset\":0,\"MetaData\":{\"filename\":\"a.txt\"},\"IsPartial\":false,"
        "\"IsFinal\":false,\"PartialUploads\":null,\"Storage\":{\"Type\":\"filestore\","
        "\"Path\":\"data/24e533e02ec3bc40c387f1a0e460e216\"}}";
    const char *id = "24e533e02ec3bc40c387f1a0e460e216";
    tus_upload_t *upload;

    scratch_put(data_of(id), "four");
    scratch_put(info_of(id), tusd);
    settle_all(); /* the index is built from what is there */
    ck_assert(is_indexed(id));
    ck_assert_str_eq(scratch_get(info_of(id)), tusd);
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 4);
    ck_assert_str_eq(scratch_get(info_of(id)), tusd);
    upload = ck_hold(id);
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert(has_text(info_of(id), "Finished"));
    ck_assert(has_text(info_of(id), "\"filename\":\"a.txt\""));
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
    settle_all();
    ck_assert(is_indexed(id));
}
END_TEST

/* An id may have segments, and a client may make one up from another. */
START_TEST(nothing_is_found_beneath_an_upload)
{
    const char *id = make_upload(8, "four");
    const char *beneath = apr_pstrcat(unit_pool, id, "/x", NULL);
    tus_upload_t *upload;

    ck_error(tus_upload_find(&upload, &core, beneath, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND,
             APR_SUCCESS);
    ck_error(tus_upload_hold(&upload, &core, beneath, NULL, NULL, unit_pool),
             TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_nothing_held();
}
END_TEST

/* In the place of ID.info. */
START_TEST(planted_record_is_an_error)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;
    struct stat before;

    ck_assert_int_eq(unlink(scratch_path(info_of(id))), 0);
    scratch_plant((plant_e)_i, info_of(id));
    before = scratch_stat(info_of(id));
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR,
             TUS_EREFUSED);
    ck_error(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool),
             TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EREFUSED);
    ck_error(tus_upload_inspect(&upload, &core, id, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR,
             TUS_EREFUSED);
    ck_nothing_held();
    settle_all();
    ck_assert_uint_eq(scratch_stat(info_of(id)).st_ino, before.st_ino);
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
}
END_TEST

START_TEST(record_planted_under_a_writer_is_an_error)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    ck_append(upload, "more");
    ck_assert_int_eq(unlink(scratch_path(info_of(id))), 0);
    scratch_plant((plant_e)_i, info_of(id));
    ck_assert_ptr_nonnull(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert(!tus_commit_is_finished(upload));
    tus_upload_release(upload);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
}
END_TEST

START_TEST(unreadable_record_is_an_error)
{
    const char *id = make_upload(8, "four");
    const char *other = make_upload(8, "");
    static const char *const texts[] = { " ", "{", "[]", "null", "{\"ID\":\"x\"}" };
    tus_upload_t *upload;

    for (int i = 0; i < COUNT(texts); i++) {
        scratch_put(info_of(id), texts[i]);
        ck_error(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool),
                 TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EDAMAGED);
    }
    scratch_put(info_of(id), scratch_get(info_of(other))); /* of another upload */
    ck_error(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool),
             TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EDAMAGED);
    ck_assert_int_eq(truncate(scratch_path(info_of(id)), 1000000000), 0);
    ck_error(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool),
             TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EREFUSED);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
}
END_TEST

/* ---- killed -------------------------------------------------------------- */

static const char *victim; /* the upload that a deed is done to */

static void create_whole(void)
{
    tus_upload_t *upload = ck_create(8, 1);

    ck_append(upload, "four");
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}

static void create_and_fill(void)
{
    tus_upload_t *upload = ck_create(8, 0);

    ck_append(upload, "fourmore");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}

static void append_rest(void)
{
    tus_upload_t *upload = ck_hold(victim);

    ck_append(upload, "mo");
    ck_append(upload, "re");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}

static void declare_and_append(void)
{
    tus_upload_t *upload = ck_hold(victim);

    ck_ok(tus_append_declare(upload, 8));
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}

static void terminate_it(void)
{
    ck_ok(end_upload(victim));
}

/* It can be inspected, is finished or goes on, and ends as it should; then it is terminated. */
static void ck_goes_on(const char *id)
{
    tus_upload_t *upload;

    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, stored(id));
    ck_assert_uint_eq(scratch_mode(data_of(id)), 0640);
    ck_assert_int_eq(!!tus_commit_is_finished(upload), upload->record->size == upload->offset);
    ck_assert_int_eq(strncmp(scratch_get(data_of(id)), "fourmore", (size_t)upload->offset), 0);
    if (!tus_commit_is_finished(upload)) {
        upload = ck_hold(id);
        ck_ok(tus_append_declare(upload, 8));
        ck_append(upload, &"fourmore"[upload->offset]);
        ck_ok(tus_append_end(upload));
        tus_upload_release(upload);
    }
    ck_assert(has_text(info_of(id), "Finished"));
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
    settle_all();
    ck_assert(is_indexed(id));
    ck_ok(end_upload(id));
    settle_all();
    ck_assert(!is_indexed(id));
    ck_assert_str_eq(listing(), "");
    ck_nothing_held();
}

START_TEST(killed_creation_is_all_or_nothing)
{
    static void (*const deeds[])(void) = { create_whole, create_and_fill };
    int nth, kept = 0;

    settle_all();
    for (nth = 1; died_at(nth, deeds[_i]); nth++) {
        const char *id;

        settle_all();
        id = only_id();
        if (id) {
            ck_goes_on(id);
            kept++;
        }
    }
    ck_assert_int_ge(nth, 8);
    ck_assert_int_ge(kept, 1);
    ck_assert_int_lt(kept, nth - 1);
    ck_goes_on(only_id());
}
END_TEST

static void make_victim(apr_off_t size)
{
    victim = make_upload(size, "four");
}

START_TEST(killed_append_goes_on)
{
    static void (*const deeds[])(void) = { append_rest, declare_and_append };
    const apr_off_t sizes[] = { 8, TUS_SIZE_UNKNOWN };
    int nth;

    settle_all();
    make_victim(sizes[_i % 2]);
    for (nth = 1; died_at(nth, deeds[_i % 2]); nth++) {
        ck_assert_int_ge(stored(victim), 4);
        if (_i < 2) { /* else a client is faster than the sweep */
            settle_all();
        }
        ck_goes_on(victim);
        make_victim(sizes[_i % 2]);
    }
    ck_assert_int_ge(nth, 12);
    ck_goes_on(victim);
}
END_TEST

START_TEST(killed_termination_is_all_or_nothing)
{
    int nth, kept = 0;

    settle_all();
    make_victim(8);
    for (nth = 1; died_at(nth, terminate_it); nth++) {
        tus_upload_t *upload;
        const tus_error_t *error = tus_upload_inspect(&upload, &core, victim, unit_pool);

        settle_all();
        ck_assert_int_eq(error == NULL, scratch_exists(data_of(victim)));
        if (error) {
            ck_error(error, TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
            ck_assert_str_eq(listing(), "");
            ck_assert(!is_indexed(victim));
        }
        else {
            ck_goes_on(victim);
            kept++;
        }
        make_victim(8);
    }
    ck_assert_int_ge(nth, 10);
    ck_assert_int_ge(kept, 8);
    ck_assert_str_eq(listing(), "");
}
END_TEST

Suite *disk_suite(void)
{
    Suite *suite = suite_create("disk");
    TCase *tcase = add_core_case(suite, "disk");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, upload_lives_on_disk);
    tcase_add_loop_test(tcase, undone_creation_leaves_nothing_on_disk, 0, 3);
    tcase_add_test(tcase, orphan_is_carried_until_nobody_has_it);
    tcase_add_test(tcase, held_upload_is_carried_until_it_has_a_record);
    tcase_add_test(tcase, remnant_is_removed);
    tcase_add_test(tcase, foreign_files_stay);
    tcase_add_test(tcase, directory_of_tusd_is_adopted);
    tcase_add_loop_test(tcase, planted_record_is_an_error, 0, PLANT_COUNT);
    tcase_add_loop_test(tcase, record_planted_under_a_writer_is_an_error, 0, PLANT_COUNT);
    tcase_add_test(tcase, nothing_is_found_beneath_an_upload);
    tcase_add_test(tcase, unreadable_record_is_an_error);

    tcase = add_core_case(suite, "killed");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, killed_creation_is_all_or_nothing, 0, 2);
    tcase_add_loop_test(tcase, killed_append_goes_on, 0, 4);
    tcase_add_test(tcase, killed_termination_is_all_or_nothing);
    return suite;
}
