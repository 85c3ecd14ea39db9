/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What other modules are asked and told, and what comes of what they say:
 * refusals, names that they choose, uploads that they stop.
 */
#include "core_fakes.h"

#include <apr_file_info.h>
#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static tus_record_t *record_of(const char *id)
{
    tus_record_t *record = NULL;
    apr_status_t rv = core.meta->provider->get(core.meta, id, &record, unit_pool);

    ck_assert(rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv));
    return rv == APR_SUCCESS ? record : NULL;
}

static void ck_gone(const char *id)
{
    tus_upload_t *upload;

    ck_nothing_held();
    ck_assert_ptr_null(record_of(id));
    ck_assert(!scratch_exists(data_of(id)));
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND, 0);
}

static void ck_empty_store(void)
{
    ck_nothing_held();
    ck_assert_msg(rmdir(scratch_path("store")) == 0, "the store is not empty");
    scratch_mkdir("store");
}

/* ---- creating ------------------------------------------------------------ */

START_TEST(refused_creation_makes_nothing)
{
    tus_creation_t creation = { .size = 8, .whole = _i };
    tus_upload_t *upload;

    fail_call("pre-create", 1, APR_EGENERAL);
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_UPLOAD_REJECTED, 0);
    ck_assert_str_eq(calls(), "pre-create");
    ck_empty_store();
}
END_TEST

static apr_array_header_t *chosen_pairs;

static void change_it(tus_upload_t *upload)
{
    ck_assert_ptr_null(upload->record->id);
    ck_assert_int_eq(upload->record->size, 8);
    ck_assert_str_eq(upload->record->owner, "alice");
    upload->record->id = "user-7/report";
    upload->record->metadata = "filename YS50eHQ=";
    upload->record->pairs = chosen_pairs;
}

START_TEST(creation_is_changed_by_who_is_asked)
{
    const char *id = "user-7/report";
    tus_upload_t *upload;

    ck_ok(tus_metadata_parse("filename YS50eHQ=", &chosen_pairs, unit_pool));
    on_pre_create = change_it;
    upload = ck_create(8, _i);
    ck_append(upload, "fourmore");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_str_eq(upload->record->id, id);
    ck_assert_str_eq(record_of(id)->metadata, "filename YS50eHQ=");
    ck_assert_int_gt(record_of(id)->finished, 0);
    ck_assert_str_eq(scratch_get("store/user-7/report"), "fourmore");
    ck_ok(end_upload(id));
    ck_gone(id);
}
END_TEST

static void name_it(tus_upload_t *upload)
{
    upload->record->id = "report";
}

static void make_another(const char *id, const char *json, const char *text)
{
    if (json) {
        plant_record(id, json);
    }
    if (text) {
        scratch_put(data_of(id), text);
    }
}

#define RECORD "{\"ID\":\"report\",\"Size\":8,\"SizeIsDeferred\":false,\"MetaData\":{}}"

static const struct {
    const char *json, *text;
} others[] = {
    { RECORD, "four" }, { RECORD, NULL }, { "{", "four" }, { "{", NULL }, { NULL, "x" }
};

/* By an upload of whatever state, or by a file of somebody else. */
START_TEST(chosen_id_that_is_in_use_stays_as_it_is)
{
    const char *json = others[_i].json, *text = others[_i].text;
    tus_creation_t creation = { .size = 8 };
    tus_upload_t *upload;

    make_another("report", json, text);
    on_pre_create = name_it;
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR,
             EEXIST);
    ck_nothing_held();
    ck_assert_int_eq(calls_of("post-create"), 0);
    ck_assert_int_eq(calls_of("pre-create"), 1);
    settle_all();
    ck_assert_ptr_eq(record_json("report"), json);
    ck_assert_int_eq(scratch_exists("store/report"), text != NULL);
    if (text) {
        ck_assert_str_eq(scratch_get("store/report"), text);
    }
}
END_TEST

START_TEST(chosen_id_that_is_held_disturbs_nobody)
{
    tus_creation_t creation = { .size = 8 };
    tus_upload_t *upload;

    other_holds("report", 1);
    on_pre_create = name_it;
    ck_assert_ptr_nonnull(tus_create(&upload, &core, &creation, unit_pool));
    ck_assert_int_eq(times_asked(), 0);
    other_lets_go("report");
    ck_empty_store();
}
END_TEST

START_TEST(chosen_id_is_free_again)
{
    tus_upload_t *upload;

    on_pre_create = name_it;
    for (int i = 0; i < 3; i++) {
        upload = ck_create(8, i == 1);
        ck_append(upload, "fourmore");
        ck_ok(tus_append_end(upload));
        tus_upload_release(upload);
        ck_ok(end_upload("report"));
        ck_gone("report");
        if (i == 1) {
            settle_all();
        }
    }
}
END_TEST

static void place_it(tus_upload_t *upload)
{
    upload->record->storage_path = "by-date/2026/report.pdf";
}

#define PLACE "store/by-date/2026/report.pdf"

START_TEST(data_lies_where_it_was_said)
{
    tus_upload_t *upload;
    const char *id;

    on_pre_create = place_it;
    upload = ck_create(8, _i);
    id = upload->record->id;
    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert(!scratch_exists(data_of(id)));
    ck_assert_str_eq(scratch_get(PLACE), "four");
    ck_assert_str_eq(record_of(id)->storage_path, scratch_path(PLACE));
    upload = ck_hold(id);
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_str_eq(scratch_get(PLACE), "fourmore");
    ck_assert_uint_eq(scratch_mode(PLACE), 0640);
    ck_ok(end_upload(id));
    ck_assert(!scratch_exists(PLACE));
    ck_assert_ptr_null(record_of(id));
}
END_TEST

START_TEST(place_that_is_taken_stays_as_it_is)
{
    tus_creation_t creation = { .size = 8 };
    tus_upload_t *upload;

    on_pre_create = place_it;
    upload = ck_create(8, 0);
    ck_append(upload, "four");
    tus_upload_release(upload);
    ck_assert_ptr_nonnull(tus_create(&upload, &core, &creation, unit_pool));
    ck_nothing_held();
    settle_all();
    ck_assert_str_eq(scratch_get(PLACE), "four");
}
END_TEST

START_TEST(failed_creation_elsewhere_leaves_nothing)
{
    static const char *const words[] = { "locate", "put", "confirm" };
    tus_creation_t creation = { .size = 8 };
    tus_upload_t *upload;

    on_pre_create = place_it;
    fail_call(words[_i], 1, ENOSPC);
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_INSUFFICIENT_STORAGE,
             ENOSPC);
    ck_nothing_held();
    ck_assert(!scratch_exists(PLACE));
    settle_all();
    ck_assert(!scratch_exists(PLACE));
}
END_TEST

/* ---- finishing ----------------------------------------------------------- */

/* With all its bytes, which are on stable storage when the module is asked. */
START_TEST(refused_finish_leaves_it_unfinished)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    ck_append(upload, "more");
    fail_call("pre-finish", 1, APR_EGENERAL);
    ck_error(tus_append_end(upload), TUS_ERR_UPLOAD_REJECTED, APR_SUCCESS);
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert_int_eq(upload->offset, 8);
    tus_upload_release(upload);
    ck_nothing_held();
    ck_assert_int_eq(record_of(id)->finished, 0);
    ck_assert_int_eq(calls_of("flush"), 1);
    ck_assert_int_eq(calls_of("post-finish"), 0);

    fail_call("pre-finish", 1, APR_EGENERAL);
    ck_error(tus_upload_inspect(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_REJECTED, 0);
    ck_nothing_held();
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->finished_now, 1);
    ck_assert_int_eq(calls_of("pre-finish"), 3);
    ck_assert_int_eq(calls_of("post-finish"), 1);
}
END_TEST

START_TEST(refused_empty_upload_leaves_nothing)
{
    tus_creation_t creation = { .size = 0, .whole = _i };
    tus_upload_t *upload;

    fail_call("pre-finish", 1, APR_EGENERAL);
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_UPLOAD_REJECTED, 0);
    ck_assert_int_eq(calls_of("post-create"), 0);
    ck_empty_store();
}
END_TEST

START_TEST(finish_is_told_once_and_only_if_it_is_so)
{
    static const char *const words[] = { "flush", "locate", "put-durable" };
    const char *id = make_upload(8, "fourmore");
    tus_upload_t *upload;

    fail_call(words[_i], 1, EIO);
    ck_error(tus_upload_inspect(&upload, &core, id, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_assert_int_eq(calls_of("post-finish"), 0);
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    settle_all();
    ck_assert_int_eq(calls_of("post-finish"), 1);
}
END_TEST

/* Its last request died after the last byte: nobody has to ask for it. */
START_TEST(complete_upload_is_finished_by_the_sweep)
{
    const char *id = make_upload(8, "fourmore");

    settle_all();
    ck_nothing_held();
    ck_assert_int_gt(record_of(id)->finished, 0);
    ck_assert_int_eq(calls_of("post-finish"), 1);
    settle_all();
    ck_assert_int_eq(calls_of("post-finish"), 1);
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
}
END_TEST

START_TEST(upload_of_another_server_is_finished_by_nobody)
{
    make_another("report", RECORD, "fourmore");
    journal("report", TUS_NOTE_CREATE);
    settle_all();
    ck_assert_str_eq(record_json("report"), RECORD);
    ck_assert_int_eq(calls_of("pre-finish"), 0);
}
END_TEST

/* ---- terminating --------------------------------------------------------- */

START_TEST(refused_termination_disturbs_nobody)
{
    const char *id = make_upload(8, "four");

    other_holds(id, 1);
    fail_call("pre-terminate", 1, APR_EGENERAL);
    ck_error(end_upload(id), TUS_ERR_TERMINATION_REJECTED, APR_SUCCESS);
    ck_assert_int_eq(times_asked(), 0);
    other_lets_go(id);
    fail_call("pre-terminate", 1, APR_EGENERAL);
    ck_error(end_upload(id), TUS_ERR_TERMINATION_REJECTED, APR_SUCCESS);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
    ck_assert_int_eq(calls_of("post-terminate"), 0);
}
END_TEST

START_TEST(termination_is_asked_for_and_told_once)
{
    const char *id = make_upload(8, "four");

    if (_i) {
        other_holds(id, 1);
    }
    ck_ok(end_upload(id));
    ck_gone(id);
    ck_assert_int_eq(calls_of("pre-terminate"), 1);
    ck_assert_int_eq(calls_of("post-terminate"), 1);
    ck_error(end_upload(id), TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_assert_int_eq(calls_of("pre-terminate"), 1);
}
END_TEST

START_TEST(failed_termination_is_not_told)
{
    static const char *const words[] = { "note-change", "remove", "drop", "unmark", "unlink" };
    const char *id = make_upload(8, "four");

    fail_call(words[_i], 1, EIO);
    ck_error(end_upload(id), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_nothing_held();
    ck_assert_int_eq(calls_of("post-terminate"), 0);
}
END_TEST

/* A client must be able to give back what cannot be finished: on a full disk above all. */
START_TEST(upload_that_cannot_be_finished_can_be_terminated)
{
    static const char *const words[] = { "pre-finish", "flush", "put-durable" };
    const char *id = make_upload(8, "fourmore");

    fail_call(words[_i], 1, ENOSPC);
    ck_ok(end_upload(id));
    ck_gone(id);
}
END_TEST

/* ---- stopping ------------------------------------------------------------ */

/* The holder does it, when it sees that it was asked to. */
START_TEST(stopped_upload_is_removed)
{
    tus_upload_t *upload = ck_create(12, _i);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    calls();
    ck_ok(tus_stop(upload));
    ck_assert_str_eq(calls(), "will-terminate note-change remove drop unmark note-synced unlink "
                              "post-terminate close release");
    ck_gone(id);
    settle_all();
    ck_empty_store();
}
END_TEST

START_TEST(stopped_upload_stays_where_nothing_is_removed)
{
    tus_store_provider_t keeping = *core.store->provider;
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    keeping.remove = NULL;
    core.store->provider = &keeping;
    upload = ck_hold(id);
    ck_ok(tus_stop(upload));
    ck_nothing_held();
    ck_assert_int_eq(calls_of("post-terminate"), 0);
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
}
END_TEST

START_TEST(stop_that_fails_lets_go)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    fail_call("remove", 1, EIO);
    ck_error(tus_stop(upload), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_nothing_held();
    ck_ok(end_upload(id));
    ck_gone(id);
}
END_TEST

/* ---- killed -------------------------------------------------------------- */

static void create_whole(void)
{
    tus_upload_t *upload = ck_create(8, 1);

    ck_append(upload, "fourmore");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}

static int files_in(const char *name)
{
    apr_dir_t *dir;
    apr_finfo_t finfo;
    int count = 0;

    if (apr_dir_open(&dir, scratch_path(name), unit_pool) != APR_SUCCESS) {
        return 0;
    }
    while (apr_dir_read(&finfo, APR_FINFO_NAME, dir) == APR_SUCCESS) {
        count += strcmp(finfo.name, ".") != 0 && strcmp(finfo.name, "..") != 0;
    }
    apr_dir_close(dir);
    return count;
}

static void place_and_name(tus_upload_t *upload)
{
    place_it(upload);
    name_it(upload);
}

/* Wherever its data lies: what has no record is removed, and the name is free again. */
START_TEST(killed_creation_elsewhere_is_all_or_nothing)
{
    int nth, kept = 0;

    on_pre_create = place_and_name;
    settle_all();
    for (nth = 1;; nth++) {
        int died = died_at(nth, create_whole);

        settle_all();
        if (record_of("report")) {
            ck_assert_str_eq(scratch_get(PLACE), "fourmore");
            ck_ok(end_upload("report"));
            kept++;
        }
        ck_assert_msg(!scratch_exists(PLACE), "an orphan is left after %d calls", nth);
        if (!died) {
            break;
        }
    }
    ck_assert_int_ge(kept, 2);
    ck_assert_int_eq(files_in("store/by-date/2026"), 0);
}
END_TEST

Suite *events_suite(void)
{
    Suite *suite = suite_create("events");
    TCase *tcase = add_core_case(suite, "create");

    tcase_add_loop_test(tcase, refused_creation_makes_nothing, 0, 2);
    tcase_add_loop_test(tcase, creation_is_changed_by_who_is_asked, 0, 2);
    tcase_add_loop_test(tcase, chosen_id_that_is_in_use_stays_as_it_is, 0, COUNT(others));
    tcase_add_test(tcase, chosen_id_that_is_held_disturbs_nobody);
    tcase_add_test(tcase, chosen_id_is_free_again);
    tcase_add_loop_test(tcase, data_lies_where_it_was_said, 0, 2);
    tcase_add_test(tcase, place_that_is_taken_stays_as_it_is);
    tcase_add_loop_test(tcase, failed_creation_elsewhere_leaves_nothing, 0, 3);

    tcase = add_core_case(suite, "finish");
    tcase_add_test(tcase, refused_finish_leaves_it_unfinished);
    tcase_add_loop_test(tcase, refused_empty_upload_leaves_nothing, 0, 2);
    tcase_add_loop_test(tcase, finish_is_told_once_and_only_if_it_is_so, 0, 3);
    tcase_add_test(tcase, complete_upload_is_finished_by_the_sweep);
    tcase_add_test(tcase, upload_of_another_server_is_finished_by_nobody);

    tcase = add_core_case(suite, "terminate");
    tcase_add_test(tcase, refused_termination_disturbs_nobody);
    tcase_add_loop_test(tcase, termination_is_asked_for_and_told_once, 0, 2);
    tcase_add_loop_test(tcase, failed_termination_is_not_told, 0, 5);
    tcase_add_loop_test(tcase, upload_that_cannot_be_finished_can_be_terminated, 0, 3);
    tcase_add_loop_test(tcase, stopped_upload_is_removed, 0, 2);
    tcase_add_test(tcase, stopped_upload_stays_where_nothing_is_removed);
    tcase_add_test(tcase, stop_that_fails_lets_go);

    tcase = add_core_case(suite, "killed");
    tcase_add_checked_fixture(tcase, keep_records_on_disk, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, killed_creation_elsewhere_is_all_or_nothing);
    return suite;
}
