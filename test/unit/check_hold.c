/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Finding, holding and inspecting uploads, also such as other programs left
 * there: tusd, the application that takes finished files away, and whoever owns
 * the store and means harm.
 */
#include "core_fakes.h"

#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

typedef const tus_error_t *(*way_fn)(tus_upload_t **upload, const char *id);

static const tus_error_t *by_find(tus_upload_t **upload, const char *id)
{
    return tus_upload_find(upload, &core, id, unit_pool);
}

static const tus_error_t *by_hold(tus_upload_t **upload, const char *id)
{
    return tus_upload_hold(upload, &core, id, NULL, NULL, unit_pool);
}

static const tus_error_t *by_inspect(tus_upload_t **upload, const char *id)
{
    return tus_upload_inspect(upload, &core, id, unit_pool);
}

/* All ways to an upload. */
static const way_fn ways[] = { by_find, by_hold, by_inspect };

static void ck_refused(way_fn way, const char *id, tus_err_e err, apr_status_t rv)
{
    int descriptors = open_descriptors();
    tus_upload_t *upload;

    ck_error(way(&upload, id), err, rv);
    ck_nothing_held();
    ck_assert_int_eq(open_descriptors(), descriptors);
}

static const char *tusd_record(const char *id, const char *size)
{
    return apr_psprintf(unit_pool,
                        "{\"ID\":\"%s\",%s,\"Offset\":0,\"MetaData\":{\"filename\":\"a.txt\"},"
                        "\"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null}",
                        id, size);
}

static const char *our_record(const char *id, const char *size, const char *ours)
{
    return apr_psprintf(unit_pool,
                        "{\"ID\":\"%s\",%s,\"MetaData\":{},\"ModTus\":{"
                        "\"Created\":\"2026-11-22T14:00:00.000000Z\"%s}}",
                        id, size, ours);
}

#define SIZE_8 "\"Size\":8,\"SizeIsDeferred\":false"
#define DEFERRED "\"Size\":0,\"SizeIsDeferred\":true"
#define FINISHED ",\"Finished\":\"2026-11-22T15:00:00.000000Z\""

/* An upload as it lies in a store. */
static void plant(const char *id, const char *json, const char *text)
{
    plant_record(id, json);
    if (text) {
        scratch_put(data_of(id), text);
    }
}

static const tus_record_t *record_of(const char *id)
{
    const char *json = record_json(id);
    tus_record_t *record = NULL;

    ck_assert_ptr_nonnull(json);
    ck_assert_int_eq(tus_record_parse(&record, json, strlen(json), unit_pool), APR_SUCCESS);
    return record;
}

/* ---- what is there ------------------------------------------------------- */

START_TEST(unfinished_upload_is_found)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_str_eq(calls(), "get size marked size");
    ck_assert_str_eq(upload->record->id, id);
    ck_assert_int_eq(upload->offset, 4);
    ck_assert_int_gt(upload->modified, 0);
    ck_assert_int_eq(upload->recorded, 1);
    ck_assert_int_eq(upload->created, 0);
    ck_assert(!tus_commit_is_finished(upload));
    ck_assert_ptr_null(upload->lock);
    ck_assert_ptr_null(upload->writer);
    ck_nothing_held();
}
END_TEST

/* Locked, then the fence, then all is read again: what was read before may be history. */
START_TEST(unfinished_upload_is_held)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    ck_assert_str_eq(calls(), "try get resume fence written get marked");
    ck_assert_int_eq(upload->offset, 4);
    ck_assert_int_gt(upload->modified, 0);
    ck_assert_ptr_nonnull(upload->writer);
    ck_assert_int_eq(upload->recorded, 1);
    tus_upload_release(upload);
    ck_assert_str_eq(calls(), "close release");
    ck_nothing_held();
    tus_upload_release(upload);
    ck_assert_str_eq(calls(), "");
}
END_TEST

START_TEST(unfinished_upload_is_inspected)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    /* Its data is not looked at before it is fenced. */
    ck_assert_str_eq(calls(), "get try resume fence written get marked close release");
    ck_assert_int_eq(upload->offset, 4);
    ck_assert(!tus_commit_is_finished(upload));
    ck_assert_ptr_null(upload->lock);
    ck_assert_ptr_null(upload->writer);
    ck_nothing_held();
}
END_TEST

START_TEST(pool_lets_go)
{
    const char *id = make_upload(8, "four");
    int descriptors = open_descriptors();
    tus_upload_t *upload;
    apr_pool_t *p;

    apr_pool_create(&p, unit_pool);
    ck_ok(tus_upload_hold(&upload, &core, id, NULL, NULL, p));
    apr_pool_destroy(p);
    ck_assert_int_eq(open_descriptors(), descriptors);
    ck_ok(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool));
    ck_assert_int_eq(times_asked(), 0);
}
END_TEST

START_TEST(finished_upload_takes_no_fence)
{
    const char *id = make_upload(4, "");
    tus_upload_t *upload = ck_hold(id);

    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    calls();
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert_str_eq(calls(), "get");
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, 4);
    upload = ck_hold(id);
    ck_assert_str_eq(calls(), "try get");
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert_int_eq(tus_append_room(upload), 0);
    ck_error(tus_append(upload, "x", 1), TUS_ERR_UPLOAD_SIZE_EXCEEDED, APR_SUCCESS);
    ck_ok(tus_append(upload, "", 0));
    tus_upload_release(upload);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
}
END_TEST

/* A day later it counts whether there is data, but not how much. */
START_TEST(data_of_a_finished_upload_is_looked_at_later)
{
    const char *id = make_upload(4, "");
    tus_upload_t *upload = ck_hold(id);

    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    scratch_put(data_of(id), "three and more");
    fake_time += apr_time_from_sec(24 * 3600);
    calls();
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert_str_eq(calls(), "get size");
    ck_assert_int_eq(upload->offset, 4);
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    ck_error(tus_upload_inspect(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND,
             APR_SUCCESS);
}
END_TEST

/* Its last request died after the last byte, before its record said so. */
START_TEST(upload_with_all_bytes_is_finished_on_the_way)
{
    const char *id = make_upload(8, "fourmore");
    tus_upload_t *upload;

    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert(!tus_commit_is_finished(upload));
    calls();
    ck_ok(ways[_i](&upload, id));
    ck_assert_int_eq(upload->finished_now, 1);
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, 8);
    ck_assert_int_eq(calls_of("flush"), 1);
    ck_assert_int_eq(calls_of("put-durable"), 1);
    ck_assert_int_gt(record_of(id)->finished, 0);
    tus_upload_release(upload);
    ck_nothing_held();
    ck_ok(ways[_i](&upload, id));
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert_int_eq(calls_of("put-durable"), 1);
    ck_assert_int_eq(calls_of("pre-finish"), 1);
    ck_assert_int_eq(calls_of("post-finish"), 1);
}
END_TEST

START_TEST(upload_that_cannot_be_finished_is_not_said_to_be)
{
    static const char *const finishing[] = { "flush", "locate", "note-change", "put-durable" };
    const char *id = make_upload(8, "fourmore");

    for (int i = 0; i < COUNT(finishing); i++) {
        fail_call(finishing[i], 1, EIO);
        ck_refused(ways[_i], id, TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
        ck_assert_int_eq(record_of(id)->finished, 0);
    }
}
END_TEST

/* ---- what is not there, or not as it should be --------------------------- */

static const char *const bad_ids[] = {
    "",   ".",       "..",     "../a", "a/../b", "/a",   "a//b",
    "a/", ".hidden", "a.info", "a b",  "a%2fb",  "a\nb",
};

START_TEST(bad_id_is_not_found_and_not_looked_for)
{
    tus_upload_t *upload;

    for (int i = 0; i < COUNT(ways); i++) {
        ck_error(ways[i](&upload, bad_ids[_i]), TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    }
    ck_assert_str_eq(calls(), "");
}
END_TEST

START_TEST(missing_upload_is_not_found)
{
    ck_refused(ways[_i], "a", TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    scratch_put("store/a", "text"); /* a file of somebody else */
    ck_refused(ways[_i], "a", TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/a"), "text");
}
END_TEST

START_TEST(upload_without_data_is_not_found)
{
    const char *id = make_upload(8, "four");

    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    ck_refused(ways[_i], id, TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_assert(!scratch_exists(data_of(id)));
}
END_TEST

/* The sweep removes the data before it writes down that the upload expired. */
START_TEST(upload_without_data_that_is_due_is_gone)
{
    const char *id;

    core.expire = 1000 * APR_USEC_PER_SEC;
    id = make_upload(8, "four");
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    fake_time += core.expire - APR_USEC_PER_SEC;
    ck_refused(ways[_i], id, TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    fake_time += APR_USEC_PER_SEC;
    ck_refused(ways[_i], id, TUS_ERR_UPLOAD_GONE, APR_SUCCESS);
}
END_TEST

START_TEST(damaged_record_is_an_error)
{
    const char *id = make_upload(8, "four");

    plant_record(id, "{\"ID\":\"x\"");
    ck_refused(ways[_i], id, TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EDAMAGED);
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
}
END_TEST

START_TEST(oversized_data_is_an_error)
{
    const char *id = make_upload(4, "four");

    scratch_put(data_of(id), "fourmore");
    ck_refused(ways[_i], id, TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EDAMAGED);
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
    ck_assert_int_eq(record_of(id)->finished, 0);
}
END_TEST

START_TEST(planted_data_is_an_error)
{
    const char *id = make_upload(8, "four");

    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    scratch_plant((plant_e)_i, data_of(id));
    for (int i = 0; i < COUNT(ways); i++) {
        ck_refused(ways[i], id, TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EREFUSED);
    }
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

/* Between the look at the data and the fence. */
START_TEST(planted_data_is_an_error_at_the_fence)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);
    tus_upload_t *other;

    ck_assert_int_eq(link(scratch_path(data_of(id)), scratch_path("link")), 0);
    other_lets_go(id); /* as if it lived in another server: the fence alone excludes */
    ck_error(by_hold(&other, id), TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EREFUSED);
    ck_assert_int_eq(unlink(scratch_path("link")), 0);
    ck_error(by_hold(&other, id), TUS_ERR_UPLOAD_LOCKED, APR_SUCCESS);
    tus_upload_release(upload);
    ck_nothing_held();
}
END_TEST

/* ---- finished, and then somebody came ------------------------------------ */

START_TEST(finished_upload_whose_data_was_taken_stays_complete)
{
    const char *id = make_upload(8, "fourmore");
    tus_upload_t *upload;

    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool)); /* finishes it */
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    ck_ok(ways[_i](&upload, id));
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, 8);
    ck_assert_int_eq(upload->modified, record_of(id)->finished);
    ck_assert_int_eq(tus_append_room(upload), 0);
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert(!scratch_exists(data_of(id)));
    tus_upload_release(upload);
    ck_nothing_held();
}
END_TEST

/* Without a writer nothing may be written, whatever the record and the data say. */
static void ck_takes_nothing(const char *id, const char *text)
{
    tus_upload_t *upload;
    const tus_error_t *error = by_hold(&upload, id);

    if (!error) {
        ck_assert(tus_commit_is_finished(upload));
        ck_assert_int_eq(tus_append_room(upload), 0);
        ck_assert_ptr_nonnull(tus_append(upload, "more", 4));
        tus_append_end(upload);
    }
    tus_upload_release(upload);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get(data_of(id)), text);
}

START_TEST(finished_upload_that_was_cut_takes_nothing)
{
    core.sync = (tus_sync_e)_i;
    plant("a", our_record("a", SIZE_8, FINISHED), "four");
    ck_takes_nothing("a", "four");
    plant("b", our_record("b", SIZE_8, FINISHED), "");
    ck_takes_nothing("b", "");
}
END_TEST

START_TEST(finished_upload_of_no_length_takes_nothing)
{
    core.sync = (tus_sync_e)_i;
    plant("a", our_record("a", DEFERRED, FINISHED), "four");
    ck_takes_nothing("a", "four");
}
END_TEST

START_TEST(finished_upload_of_no_length_has_no_negative_offset)
{
    tus_upload_t *upload;

    plant("a", our_record("a", DEFERRED, FINISHED), NULL);
    if (!ways[_i](&upload, "a")) {
        ck_assert_int_ge(upload->offset, 0);
    }
}
END_TEST

START_TEST(ending_a_finished_upload_changes_nothing)
{
    const char *id = make_upload(8, "fourmore");
    tus_upload_t *upload;
    apr_time_t finished;

    core.sync = (tus_sync_e)_i;
    ck_ok(by_inspect(&upload, id));
    finished = record_of(id)->finished;
    upload = ck_hold(id);
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(record_of(id)->finished, finished);
    ck_assert_int_eq(upload->finished_now, 0);
}
END_TEST

/* ---- tusd's -------------------------------------------------------------- */

START_TEST(upload_of_tusd_is_finished_at_its_size)
{
    const char *json = tusd_record("a", SIZE_8);
    tus_upload_t *upload;

    plant("a", json, "fourmore");
    ck_ok(ways[_i](&upload, "a"));
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, 8);
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert_str_eq(record_json("a"), json);
    ck_assert_int_eq(tus_append_room(upload), 0);
    tus_upload_release(upload);
    ck_nothing_held();
}
END_TEST

START_TEST(empty_upload_of_tusd_is_finished)
{
    tus_upload_t *upload;

    plant("a", tusd_record("a", "\"Size\":0,\"SizeIsDeferred\":false"), "");
    ck_ok(ways[_i](&upload, "a"));
    ck_assert(tus_commit_is_finished(upload));
}
END_TEST

START_TEST(upload_of_tusd_without_data_is_not_found)
{
    plant("a", tusd_record("a", SIZE_8), NULL);
    ck_refused(ways[_i], "a", TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
}
END_TEST

START_TEST(upload_of_tusd_is_continued)
{
    const char *json = tusd_record("a", SIZE_8);
    tus_upload_t *upload;

    plant("a", json, "four");
    upload = ck_hold("a");
    ck_assert(!tus_commit_is_finished(upload));
    ck_append(upload, "mo");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    if (strcmp(record_json("a"), json) != 0) { /* the index is to hear of it */
        ck_assert_int_ge(calls_of("note-change"), 1);
    }
    upload = ck_hold("a");
    ck_append(upload, "re");
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 1);
    tus_upload_release(upload);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get("store/a"), "fourmore");
    ck_assert_int_eq(record_of("a")->ours, 1);
    ck_assert_int_gt(record_of("a")->finished, 0);
    ck_assert_ptr_nonnull(tus_metadata_get(record_of("a")->pairs, "filename"));
}
END_TEST

START_TEST(deferred_upload_of_tusd_is_continued)
{
    tus_upload_t *upload;

    plant("a", tusd_record("a", DEFERRED), "four");
    ck_ok(by_inspect(&upload, "a"));
    ck_assert(!tus_commit_is_finished(upload));
    upload = ck_hold("a");
    ck_ok(tus_append_declare(upload, 6));
    ck_append(upload, "mo");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_int_eq(record_of("a")->size, 6);
    ck_assert_int_gt(record_of("a")->finished, 0);
}
END_TEST

/* ---- between requests ---------------------------------------------------- */

static const tus_error_t *judgement; /* what judge() says on its nth call */
static int judged, judge_refuses_at;
static apr_off_t judged_offset;

static const tus_error_t *judge(void *baton, const tus_upload_t *upload)
{
    ck_assert_ptr_eq(baton, &judged);
    ck_assert_ptr_nonnull(upload->record);
    judged++;
    judged_offset = upload->offset;
    return judged == judge_refuses_at ? judgement : NULL;
}

static const tus_error_t *hold_judged(tus_upload_t **upload, const char *id, int refuses_at)
{
    judged = 0;
    judge_refuses_at = refuses_at;
    judgement = tus_error(unit_pool, TUS_ERR_MISMATCHED_OFFSET, NULL);
    return tus_upload_hold(upload, &core, id, judge, &judged, unit_pool);
}

START_TEST(free_upload_is_judged_once)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    ck_assert_ptr_eq(hold_judged(&upload, id, 1), judgement);
    ck_assert_int_eq(judged, 1);
    ck_assert_int_eq(judged_offset, 4);
    ck_nothing_held();
    ck_ok(hold_judged(&upload, id, 0));
    ck_assert_int_eq(judged, 1);
    ck_assert_ptr_nonnull(upload->writer);
}
END_TEST

START_TEST(judge_that_refuses_disturbs_nobody)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    other_holds(id, 1);
    ck_assert_ptr_eq(hold_judged(&upload, id, 1), judgement);
    ck_assert_int_eq(judged, 1);
    ck_assert_int_eq(judged_offset, 4);
    ck_assert_int_eq(times_asked(), 0);
    ck_assert_str_eq(calls(), "try get size marked size");
    other_lets_go(id);
    ck_nothing_held();
}
END_TEST

START_TEST(missing_upload_disturbs_nobody)
{
    tus_upload_t *upload;

    other_holds("a", 1);
    ck_error(hold_judged(&upload, "a", 0), TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_error(by_inspect(&upload, "a"), TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_assert_int_eq(judged, 0);
    ck_assert_int_eq(times_asked(), 0);
}
END_TEST

static const char *growing; /* the upload whose holder stores more */

static void store_more(void)
{
    scratch_put(data_of(growing), "fourmo");
}

START_TEST(upload_is_judged_again_under_the_lock)
{
    tus_upload_t *upload;

    growing = make_upload(8, "four");
    other_holds(growing, 1);
    on_asked = store_more;
    ck_assert_ptr_eq(hold_judged(&upload, growing, 2), judgement);
    ck_assert_int_eq(judged, 2);
    ck_assert_int_eq(judged_offset, 6);
    ck_assert_int_eq(times_asked(), 1);
    ck_nothing_held();
}
END_TEST

START_TEST(willing_holder_is_followed)
{
    tus_upload_t *upload;

    growing = make_upload(8, "four");
    other_holds(growing, 1);
    on_asked = store_more;
    ck_ok(hold_judged(&upload, growing, 0));
    ck_assert_int_eq(judged, 2);
    ck_assert_int_eq(upload->offset, 6);
    ck_append(upload, "re");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get(data_of(growing)), "fourmore");
}
END_TEST

START_TEST(inspection_waits_for_the_final_offset)
{
    tus_upload_t *upload;

    growing = make_upload(8, "four");
    other_holds(growing, 1);
    on_asked = store_more;
    ck_ok(by_inspect(&upload, growing));
    ck_assert_int_eq(upload->offset, 6);
    ck_assert_int_eq(times_asked(), 1);
    ck_nothing_held();
}
END_TEST

START_TEST(find_disturbs_nobody)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    other_holds(id, 1);
    ck_ok(by_find(&upload, id));
    ck_assert_int_eq(upload->offset, 4);
    ck_assert_int_eq(times_asked(), 0);
}
END_TEST

START_TEST(unwilling_holder_is_waited_for_in_vain)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    other_holds(id, 0);
    ck_error(by_hold(&upload, id), TUS_ERR_UPLOAD_LOCKED, APR_SUCCESS);
    ck_assert_int_eq(times_asked(), 1);
    ck_error(by_inspect(&upload, id), TUS_ERR_UPLOAD_LOCKED, APR_SUCCESS);
    ck_assert_int_eq(times_asked(), 2);
    other_lets_go(id);
    ck_nothing_held();
}
END_TEST

static const char *ending; /* the upload that its holder ends */

static void terminate_it(void)
{
    plant_record(ending, NULL);
    ck_assert_int_eq(unlink(scratch_path(data_of(ending))), 0);
}

START_TEST(upload_terminated_by_its_holder_is_not_found)
{
    ending = make_upload(8, "four");
    other_holds(ending, 1);
    on_asked = terminate_it;
    ck_refused(ways[_i], ending, TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_assert_int_eq(times_asked(), 1);
}
END_TEST

static void finish_it(void)
{
    scratch_put(data_of(ending), "fourmore");
    plant_record(ending, our_record(ending, SIZE_8, FINISHED));
}

START_TEST(upload_finished_by_its_holder_is_finished_once)
{
    tus_upload_t *upload;

    ending = make_upload(8, "four");
    other_holds(ending, 1);
    on_asked = finish_it;
    ck_ok(ways[_i](&upload, ending));
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, 8);
    ck_assert_int_eq(upload->finished_now, 0);
    tus_upload_release(upload);
    ck_nothing_held();
}
END_TEST

static const struct {
    apr_status_t rv;
    tus_err_e err;
    apr_status_t said;
} lock_errors[] = {
    { APR_ENOSPC, TUS_ERR_TOO_BUSY, APR_SUCCESS },
    { APR_TIMEUP, TUS_ERR_UPLOAD_LOCKED, APR_SUCCESS },
    { APR_EINTR, TUS_ERR_UPLOAD_INTERRUPTED, APR_SUCCESS },
    { EIO, TUS_ERR_INTERNAL_SERVER_ERROR, EIO },
};

START_TEST(lock_that_fails_is_told)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    fail_call("try", 1, lock_errors[_i].rv);
    ck_refused(by_hold, id, lock_errors[_i].err, lock_errors[_i].said);
    fail_call("try", 1, lock_errors[_i].rv);
    ck_refused(by_inspect, id, lock_errors[_i].err, lock_errors[_i].said);
    other_holds(id, 1);
    fail_call("wait", 1, lock_errors[_i].rv);
    ck_error(by_hold(&upload, id), lock_errors[_i].err, lock_errors[_i].said);
}
END_TEST

/* ---- between servers: the fence alone ------------------------------------ */

START_TEST(fence_of_another_server_is_waited_for_in_vain)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *holder = ck_hold(id);
    tus_upload_t *upload;
    apr_time_t start = fake_time;

    other_lets_go(id);
    ck_error(ways[_i](&upload, id), TUS_ERR_UPLOAD_LOCKED, APR_SUCCESS);
    ck_assert_int_ge(fake_time - start, core.lock_timeout);
    ck_append(holder, "more");
    ck_ok(tus_append_end(holder));
    tus_upload_release(holder);
    ck_nothing_held();
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
}
END_TEST

static tus_upload_t *elsewhere; /* held by another server */
static void (*deed_elsewhere)(void);
static int looks;

static apr_time_t tick_and_do(void)
{
    fake_time += apr_time_from_msec(1);
    if (++looks == 3) { /* by then the fence was tried */
        deed_elsewhere();
    }
    return fake_time;
}

static void hold_elsewhere(const char *id, void (*deed)(void))
{
    elsewhere = ck_hold(id);
    other_lets_go(id);
    deed_elsewhere = deed;
    looks = 0;
    core.now = tick_and_do;
}

static void let_go_elsewhere(void)
{
    ck_append(elsewhere, "mo");
    tus_upload_release(elsewhere);
}

START_TEST(fence_of_another_server_is_followed)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    hold_elsewhere(id, let_go_elsewhere);
    ck_ok(by_hold(&upload, id));
    ck_assert_int_gt(calls_of("fence"), 2);
    ck_assert_int_eq(upload->offset, 6);
    ck_assert_int_eq(tus_append_room(upload), 2);
}
END_TEST

static void terminate_elsewhere(void)
{
    ck_assert_int_eq(tus_remove(elsewhere), APR_SUCCESS);
    tus_upload_release(elsewhere);
}

START_TEST(upload_terminated_by_another_server_is_not_found)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    hold_elsewhere(id, terminate_elsewhere);
    elsewhere->lock = NULL; /* it would take ours away */
    ck_error(by_hold(&upload, id), TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
    ck_nothing_held();
}
END_TEST

static void finish_elsewhere(void)
{
    ck_append(elsewhere, "more");
    ck_ok(tus_append_end(elsewhere));
    tus_upload_release(elsewhere);
}

START_TEST(upload_finished_by_another_server_is_finished_once)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    hold_elsewhere(id, finish_elsewhere);
    ck_ok(by_hold(&upload, id));
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert_int_eq(calls_of("put-durable"), 1);
    ck_assert_int_eq(tus_append_room(upload), 0);
    ck_error(tus_append(upload, "x", 1), TUS_ERR_UPLOAD_SIZE_EXCEEDED, APR_SUCCESS);
    ck_assert_int_eq(stored(id), 8);
}
END_TEST

static int cancelled_at;

static int is_cancelled(void *baton)
{
    return ++*(int *)baton >= cancelled_at;
}

START_TEST(wait_for_a_fence_is_cancelled)
{
    const char *id = make_upload(8, "four");
    int seen = 0;
    tus_cancel_t cancel = { is_cancelled, &seen };
    tus_upload_t *holder = ck_hold(id);
    tus_upload_t *upload;

    other_lets_go(id);
    cancelled_at = 2;
    core.cancel = &cancel;
    core.lock_timeout = apr_time_from_sec(1000);
    ck_error(by_hold(&upload, id), TUS_ERR_UPLOAD_INTERRUPTED, APR_SUCCESS);
    ck_assert_int_eq(seen, 2);
    tus_upload_release(holder);
    ck_nothing_held();
}
END_TEST

START_TEST(store_without_a_fence_relies_on_the_lock)
{
    const char *id = make_upload(8, "four");
    tus_store_provider_t unfenced = *core.store->provider;
    tus_upload_t *upload;

    unfenced.fence = NULL;
    core.store->provider = &unfenced;
    upload = ck_hold(id);
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_int_eq(calls_of("fence"), 0);
    ck_assert_int_gt(record_of(id)->finished, 0);
}
END_TEST

Suite *hold_suite(void)
{
    Suite *suite = suite_create("hold");
    TCase *tcase = add_core_case(suite, "found");

    tcase_add_test(tcase, unfinished_upload_is_found);
    tcase_add_test(tcase, unfinished_upload_is_held);
    tcase_add_test(tcase, unfinished_upload_is_inspected);
    tcase_add_test(tcase, pool_lets_go);
    tcase_add_test(tcase, finished_upload_takes_no_fence);
    tcase_add_test(tcase, data_of_a_finished_upload_is_looked_at_later);
    tcase_add_loop_test(tcase, upload_with_all_bytes_is_finished_on_the_way, 1, COUNT(ways));
    tcase_add_loop_test(tcase, upload_that_cannot_be_finished_is_not_said_to_be, 1, COUNT(ways));

    tcase = add_core_case(suite, "unusable");
    tcase_add_loop_test(tcase, bad_id_is_not_found_and_not_looked_for, 0, COUNT(bad_ids));
    tcase_add_loop_test(tcase, missing_upload_is_not_found, 0, COUNT(ways));
    tcase_add_loop_test(tcase, upload_without_data_is_not_found, 0, COUNT(ways));
    tcase_add_loop_test(tcase, upload_without_data_that_is_due_is_gone, 0, COUNT(ways));
    tcase_add_loop_test(tcase, damaged_record_is_an_error, 0, COUNT(ways));
    tcase_add_loop_test(tcase, oversized_data_is_an_error, 0, COUNT(ways));
    tcase_add_loop_test(tcase, planted_data_is_an_error, 0, PLANT_COUNT);
    tcase_add_test(tcase, planted_data_is_an_error_at_the_fence);

    tcase = add_core_case(suite, "finished");
    tcase_add_loop_test(tcase, finished_upload_whose_data_was_taken_stays_complete, 0, COUNT(ways));
    tcase_add_loop_test(tcase, finished_upload_that_was_cut_takes_nothing, TUS_SYNC_NONE,
                        TUS_SYNC_ALWAYS + 1);
    tcase_add_loop_test(tcase, finished_upload_of_no_length_takes_nothing, TUS_SYNC_NONE,
                        TUS_SYNC_ALWAYS + 1);
    tcase_add_loop_test(tcase, finished_upload_of_no_length_has_no_negative_offset, 0, COUNT(ways));
    tcase_add_loop_test(tcase, ending_a_finished_upload_changes_nothing, TUS_SYNC_NONE,
                        TUS_SYNC_ALWAYS + 1);

    tcase = add_core_case(suite, "tusd");
    tcase_add_loop_test(tcase, upload_of_tusd_is_finished_at_its_size, 0, COUNT(ways));
    tcase_add_loop_test(tcase, empty_upload_of_tusd_is_finished, 0, COUNT(ways));
    tcase_add_loop_test(tcase, upload_of_tusd_without_data_is_not_found, 0, COUNT(ways));
    tcase_add_test(tcase, upload_of_tusd_is_continued);
    tcase_add_test(tcase, deferred_upload_of_tusd_is_continued);

    tcase = add_core_case(suite, "contended");
    tcase_add_test(tcase, free_upload_is_judged_once);
    tcase_add_test(tcase, judge_that_refuses_disturbs_nobody);
    tcase_add_test(tcase, missing_upload_disturbs_nobody);
    tcase_add_test(tcase, upload_is_judged_again_under_the_lock);
    tcase_add_test(tcase, willing_holder_is_followed);
    tcase_add_test(tcase, inspection_waits_for_the_final_offset);
    tcase_add_test(tcase, find_disturbs_nobody);
    tcase_add_test(tcase, unwilling_holder_is_waited_for_in_vain);
    tcase_add_loop_test(tcase, upload_terminated_by_its_holder_is_not_found, 1, COUNT(ways));
    tcase_add_loop_test(tcase, upload_finished_by_its_holder_is_finished_once, 1, COUNT(ways));
    tcase_add_loop_test(tcase, lock_that_fails_is_told, 0, COUNT(lock_errors));
    tcase_add_loop_test(tcase, fence_of_another_server_is_waited_for_in_vain, 1, COUNT(ways));
    tcase_add_test(tcase, fence_of_another_server_is_followed);
    tcase_add_test(tcase, upload_terminated_by_another_server_is_not_found);
    tcase_add_test(tcase, upload_finished_by_another_server_is_finished_once);
    tcase_add_test(tcase, wait_for_a_fence_is_cancelled);
    tcase_add_test(tcase, store_without_a_fence_relies_on_the_lock);
    return suite;
}
