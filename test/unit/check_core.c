/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Creating, appending, finishing, removing. The order of the providers' calls
 * is tested where a crash between two of them must leave something provable.
 */
#include "core_fakes.h"

#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define BIRTH 01640
#define MODE 0640

static tus_record_t *record_of(const char *id)
{
    const char *json = record_json(id);
    tus_record_t *record = NULL;

    ck_assert_msg(json != NULL, "there is no record of %s", id);
    ck_assert_int_eq(tus_record_parse(&record, json, strlen(json), unit_pool), APR_SUCCESS);
    return record;
}

/* Data and record say the same, and nobody has it. */
static void ck_finished(const char *id, const char *text)
{
    const tus_record_t *record = record_of(id);

    ck_nothing_held();
    ck_assert_int_eq(record->size, (apr_off_t)strlen(text));
    ck_assert_int_gt(record->finished, 0);
    ck_assert_str_eq(scratch_get(data_of(id)), text);
    ck_assert_uint_eq(scratch_mode(data_of(id)), MODE);
}

static void ck_unfinished(const char *id, const char *text)
{
    ck_nothing_held();
    ck_assert_int_eq(record_of(id)->finished, 0);
    ck_assert_str_eq(scratch_get(data_of(id)), text);
}

/* ---- creating ------------------------------------------------------------ */

START_TEST(creation_is_noted_made_recorded_confirmed)
{
    tus_upload_t *upload = ck_create(5, 0);
    const tus_record_t *record = record_of(upload->record->id);

    ck_assert_str_eq(
        calls(), "pre-create try note-create create will-create locate put confirm post-create");
    ck_assert(tus_id_is_valid(record->id));
    ck_assert_int_eq(record->size, 5);
    ck_assert_int_eq(record->ours, 1);
    ck_assert_int_gt(record->created, 0);
    ck_assert_int_eq(record->finished, 0);
    ck_assert_str_eq(record->owner, "alice");
    ck_assert_str_eq(record->storage_type, "filestore");
    ck_assert_str_eq(record->storage_path, scratch_path(data_of(record->id)));
    ck_assert_str_eq(record->storage_info_path,
                     apr_pstrcat(unit_pool, record->storage_path, ".info", NULL));
    ck_assert(!tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->recorded, 1);
    ck_assert_int_eq(upload->offset, 0);
    ck_assert_uint_eq(scratch_mode(data_of(record->id)), MODE);
    tus_upload_release(upload);
    ck_assert_str_eq(calls(), "close release");
    tus_upload_release(upload);
    ck_assert_str_eq(calls(), "");
    ck_unfinished(record->id, "");
}
END_TEST

START_TEST(creation_keeps_the_metadata)
{
    tus_creation_t creation = { .size = 5, .metadata = "filename YS50eHQ=,empty" };
    const tus_record_t *record;
    tus_upload_t *upload;

    ck_assert_ptr_null(tus_metadata_parse(creation.metadata, &creation.pairs, unit_pool));
    ck_ok(tus_create(&upload, &core, &creation, unit_pool));
    record = record_of(upload->record->id);
    ck_assert_str_eq(record->metadata, creation.metadata);
    ck_assert_int_eq(record->pairs->nelts, 2);
    ck_assert_ptr_null(record->owner);
}
END_TEST

START_TEST(creations_differ)
{
    tus_upload_t *first = ck_create(5, 0);
    tus_upload_t *second = ck_create(5, 0);

    ck_assert_str_ne(first->record->id, second->record->id);
}
END_TEST

START_TEST(empty_upload_is_finished_at_once)
{
    tus_upload_t *upload = ck_create(0, _i);

    ck_assert_str_eq(calls(), "pre-create try note-create create written pre-finish will-finish "
                              "will-create locate put-durable confirm"
                              " post-create post-finish");
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->finished_now, 1);
    tus_upload_release(upload);
    ck_finished(upload->record->id, "");
}
END_TEST

START_TEST(whole_creation_is_recorded_once)
{
    tus_upload_t *upload = ck_create(9, 1);
    const char *id = upload->record->id;

    ck_assert_str_eq(calls(), "pre-create try note-create create");
    ck_assert_ptr_null(record_json(id));
    ck_assert_int_eq(upload->recorded, 0);
    ck_append(upload, "four");
    ck_append(upload, "five!");
    ck_assert_ptr_null(record_json(id));
    ck_assert_uint_eq(scratch_mode(data_of(id)), BIRTH);
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "write write flush written pre-finish will-finish will-create locate "
                              "put-durable confirm post-create"
                              " post-finish");
    ck_assert_int_eq(upload->finished_now, 1);
    tus_upload_release(upload);
    ck_finished(id, "fourfive!");
}
END_TEST

START_TEST(whole_creation_cut_short_is_recorded)
{
    tus_upload_t *upload = ck_create(9, 1);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(
        calls(),
        "pre-create try note-create create write will-create locate put confirm post-create");
    ck_assert_int_eq(upload->finished_now, 0);
    tus_upload_release(upload);
    ck_unfinished(id, "four");
    upload = ck_hold(id);
    ck_append(upload, "five!");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourfive!");
}
END_TEST

START_TEST(whole_creation_that_died_is_an_orphan)
{
    apr_pool_t *p;
    tus_creation_t creation = { .size = 9, .whole = 1 };
    tus_upload_t *upload;
    const char *id;

    apr_pool_create(&p, unit_pool);
    ck_ok(tus_create(&upload, &core, &creation, p));
    ck_append(upload, "four");
    id = apr_pstrdup(unit_pool, upload->record->id);
    apr_pool_destroy(p);
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND, 0);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert(!scratch_exists(data_of(id)));
}
END_TEST

/* Only the first name may be taken: a store can hold files of others. */
START_TEST(taken_id_is_tried_again)
{
    tus_upload_t *upload;

    fail_call("create", 1, EEXIST);
    upload = ck_create(5, 0);
    ck_assert_str_eq(calls(), "pre-create try note-create create release try note-create create"
                              " will-create locate put confirm post-create");
    tus_upload_release(upload);
    ck_unfinished(upload->record->id, "");
}
END_TEST

static apr_status_t always_exists(tus_store_t *store, const tus_record_t *record,
                                  tus_writer_t **writer, apr_pool_t *p)
{
    (void)store;
    (void)record;
    (void)writer;
    (void)p;
    return APR_EEXIST;
}

START_TEST(taken_ids_end_in_an_error)
{
    tus_creation_t creation = { .size = 5 };
    tus_store_provider_t full = *core.store->provider;
    tus_upload_t *upload;

    full.create = always_exists;
    core.store->provider = &full;
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR,
             APR_EEXIST);
    ck_nothing_held();
    ck_assert_int_gt(calls_of("note-create"), 1);
    ck_assert_int_lt(calls_of("note-create"), 10);
}
END_TEST

static const char *const creation_calls[] = { "note-create", "create", "locate", "put", "confirm" };

START_TEST(failed_creation_leaves_nothing)
{
    static const struct {
        apr_status_t rv;
        tus_err_e err;
    } reasons[] = {
        { EIO, TUS_ERR_INTERNAL_SERVER_ERROR },
        { ENOSPC, TUS_ERR_INSUFFICIENT_STORAGE },
        { EDQUOT, TUS_ERR_INSUFFICIENT_STORAGE },
    };
    tus_creation_t creation = { .size = 5 };
    int descriptors = open_descriptors();
    tus_upload_t *upload;

    for (int i = 0; i < COUNT(reasons); i++) {
        fail_call(creation_calls[_i], 1, reasons[i].rv);
        ck_error(tus_create(&upload, &core, &creation, unit_pool), reasons[i].err, reasons[i].rv);
        ck_nothing_held();
        ck_assert_ptr_null(record_json(upload->record->id));
        ck_assert(!scratch_exists(data_of(upload->record->id)));
        ck_assert_int_eq(open_descriptors(), descriptors);
    }
    ck_assert_int_eq(calls_of("post-create"), 0);
    ck_assert_msg(rmdir(scratch_path("store")) == 0, "the store is not empty");
}
END_TEST

START_TEST(creation_without_a_place_in_the_table)
{
    tus_creation_t creation = { .size = 5 };
    tus_upload_t *upload;

    fail_call("try", 1, APR_ENOSPC);
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_TOO_BUSY, APR_SUCCESS);
    ck_assert_str_eq(calls(), "pre-create try");
    fail_call("try", 1, EIO);
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_nothing_held();
}
END_TEST

/* The data of a creation whose undoing fails too is what settle finds. */
START_TEST(failed_undo_leaves_an_orphan)
{
    static const char *const undoing[] = { "note-change", "remove" };
    tus_creation_t creation = { .size = 5, .whole = 1 };
    tus_upload_t *upload;
    const char *id;

    ck_ok(tus_create(&upload, &core, &creation, unit_pool));
    ck_append(upload, "four");
    id = upload->record->id;
    fail_call(undoing[_i], 1, EIO);
    tus_create_undo(upload);
    ck_nothing_held();
    ck_assert(scratch_exists(data_of(id)));
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert(!scratch_exists(data_of(id)));
}
END_TEST

START_TEST(undo_removes_all)
{
    tus_upload_t *upload = ck_create(9, _i);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    calls();
    tus_create_undo(upload);
    ck_assert_str_eq(calls(), _i ? "note-change remove drop unmark note-synced unlink close release"
                                 : "will-terminate note-change remove drop unmark note-synced"
                                   " unlink post-terminate close release");
    ck_nothing_held();
    ck_assert_ptr_null(record_json(id));
    ck_assert(!scratch_exists(data_of(id)));
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND, 0);
}
END_TEST

START_TEST(undo_without_remove_lets_go)
{
    tus_store_provider_t keeping = *core.store->provider;
    tus_upload_t *upload;

    keeping.remove = NULL;
    core.store->provider = &keeping;
    upload = ck_create(9, 1);
    tus_create_undo(upload);
    ck_nothing_held();
    settle_all();
    ck_assert(!scratch_exists(data_of(upload->record->id)));
}
END_TEST

/* What is to be told later must be written down, or it does not happen. */
START_TEST(creation_that_cannot_be_told_is_undone)
{
    tus_upload_t *upload;
    tus_creation_t creation = { .size = 9 };

    fail_call("will-create", 1, APR_ENOSPC);
    ck_error(tus_create(&upload, &core, &creation, unit_pool), TUS_ERR_INSUFFICIENT_STORAGE,
             APR_ENOSPC);
    ck_nothing_held();
    ck_assert_ptr_null(record_json(upload->record->id));
    ck_assert(!scratch_exists(data_of(upload->record->id)));
    ck_assert_int_eq(calls_of("post-create") + calls_of("post-terminate"), 0);
}
END_TEST

START_TEST(finish_that_cannot_be_told_is_made_up_for)
{
    const char *id = make_upload(4, "");
    tus_upload_t *upload = ck_hold(id);

    fail_call("will-finish", 1, APR_ENOSPC);
    ck_append(upload, "four");
    ck_error(tus_append_end(upload), TUS_ERR_INSUFFICIENT_STORAGE, APR_ENOSPC);
    ck_assert_int_eq(record_of(id)->finished, 0);
    ck_assert_int_eq(calls_of("post-finish"), 0);
    tus_upload_release(upload);
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(calls_of("post-finish"), 1);
}
END_TEST

START_TEST(termination_that_cannot_be_told_does_not_happen)
{
    const char *id = make_upload(9, "four");
    tus_upload_t *upload;

    fail_call("will-terminate", 1, APR_ENOSPC);
    ck_error(tus_terminate(&upload, &core, id, unit_pool), TUS_ERR_INSUFFICIENT_STORAGE,
             APR_ENOSPC);
    ck_nothing_held();
    ck_unfinished(id, "four");
    ck_assert_int_eq(calls_of("post-terminate"), 0);
}
END_TEST

/* ---- appending ----------------------------------------------------------- */

START_TEST(bytes_are_appended_over_requests)
{
    const char *id = make_upload(12, "");
    tus_upload_t *upload = ck_hold(id);

    ck_assert_int_eq(tus_append_room(upload), 12);
    calls();
    ck_append(upload, "four");
    ck_append(upload, "");
    ck_assert_int_eq(upload->offset, 4);
    ck_assert_int_eq(tus_append_room(upload), 8);
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "write");
    tus_upload_release(upload);
    ck_unfinished(id, "four");

    upload = ck_hold(id);
    ck_assert_int_eq(upload->offset, 4);
    ck_append(upload, "more");
    ck_append(upload, "last");
    ck_assert_int_eq(tus_append_room(upload), 0);
    ck_assert_int_eq(upload->finished_now, 0);
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 1);
    ck_assert(tus_commit_is_finished(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmorelast");
}
END_TEST

/* ---- what others do to the data ------------------------------------------ */

static void take_away(const char *path)
{
    ck_assert_int_eq(unlink(path), 0);
}

static void put_another(const char *path)
{
    scratch_put("another", "four");
    ck_assert_int_eq(rename(scratch_path("another"), path), 0);
}

static void cut_off(const char *path)
{
    ck_assert_int_eq(truncate(path, 3), 0);
}

static const struct {
    void (*harm)(const char *path);
    tus_err_e err;
    apr_status_t rv;
} harms[] = {
    { take_away, TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS },
    { put_another, TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS },
    { cut_off, TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EDAMAGED },
};

START_TEST(harmed_data_takes_no_bytes)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    harms[_i].harm(scratch_path(data_of(id)));
    ck_error(tus_append(upload, "more", 4), harms[_i].err, harms[_i].rv);
    tus_upload_release(upload);
}
END_TEST

/* Bytes that are seen by nobody are bounded like any others, and finish like any others. */
START_TEST(bytes_in_a_pipe_are_appended)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], "moreagain", 9), 9);
    ck_assert(tus_append_can_splice(upload));
    ck_ok(tus_append_pipe(upload, ends[0], 2));
    ck_assert_int_eq(upload->offset, 6);
    ck_error(tus_append_pipe(upload, ends[0], 7), TUS_ERR_UPLOAD_SIZE_EXCEEDED, APR_SUCCESS);
    ck_assert_int_eq(upload->offset, 8);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* What is digested has to be seen. */
START_TEST(what_has_a_checksum_is_not_spliced)
{
    tus_upload_t *upload = ck_hold(make_upload(8, "four"));

    ck_ok(tus_chunk_begin(upload, 1));
    ck_assert(!tus_append_can_splice(upload));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}
END_TEST

/* No record vouches for bytes that nobody can find any more. */
START_TEST(harmed_data_is_not_finished)
{
    const char *id = make_upload(4, "");
    tus_upload_t *upload = ck_hold(id);

    ck_append(upload, "four");
    harms[_i].harm(scratch_path(data_of(id)));
    ck_error(tus_append_end(upload), harms[_i].err, harms[_i].rv);
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert_int_eq(record_of(id)->finished, 0);
    ck_assert_int_eq(calls_of("pre-finish"), 0);
    tus_upload_release(upload);
}
END_TEST

/*
 * In this order: noted before all of it is there, data on stable storage, and only then the
 * record vouches for it.
 */
START_TEST(finish_notes_syncs_and_records)
{
    const char *id = make_upload(4, "");
    tus_upload_t *upload = ck_hold(id);

    calls();
    ck_append(upload, "fo");
    ck_append(upload, "ur");
    ck_assert_str_eq(calls(), "write note-change write");
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(),
                     "flush written pre-finish will-finish locate put-durable post-finish");
    ck_assert_int_eq(record_of(id)->finished, upload->record->finished);
}
END_TEST

START_TEST(excess_bytes_are_not_stored)
{
    const char *id = make_upload(6, "four");
    tus_upload_t *upload = ck_hold(id);

    ck_error(tus_append(upload, "more", 4), TUS_ERR_UPLOAD_SIZE_EXCEEDED, APR_SUCCESS);
    ck_assert_int_eq(upload->offset, 6);
    ck_error(tus_append(upload, "x", 1), TUS_ERR_UPLOAD_SIZE_EXCEEDED, APR_SUCCESS);
    ck_ok(tus_append(upload, "", 0));
    ck_assert_int_eq(upload->offset, 6);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmo");
}
END_TEST

START_TEST(deferred_length_is_limited)
{
    tus_upload_t *upload;
    const char *id;

    core.max_size = 6;
    upload = ck_create(TUS_SIZE_UNKNOWN, 0);
    id = upload->record->id;
    ck_assert_int_eq(tus_append_room(upload), 6);
    ck_append(upload, "four");
    ck_error(tus_append(upload, "more", 4), TUS_ERR_MAX_SIZE_EXCEEDED, APR_SUCCESS);
    ck_assert_int_eq(upload->offset, 6);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "fourmo");
    core.max_size = 0;
    upload = ck_hold(id);
    ck_assert_int_eq(tus_append_room(upload), APR_INT64_MAX - 6);
}
END_TEST

START_TEST(known_length_rules_over_a_lower_limit)
{
    const char *id = make_upload(9, "four");
    tus_upload_t *upload;

    core.max_size = 5;
    upload = ck_hold(id);
    ck_assert_int_eq(tus_append_room(upload), 5);
    ck_append(upload, "five!");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourfive!");
}
END_TEST

/* ---- declaring the length ------------------------------------------------ */

/* It is written down with the bytes that it came with, and not before. */
START_TEST(length_is_declared_later)
{
    tus_upload_t *upload = ck_create(TUS_SIZE_UNKNOWN, 0);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_int_eq(record_of(id)->size, TUS_SIZE_UNKNOWN);

    upload = ck_hold(id);
    calls();
    ck_ok(tus_append_declare(upload, 8));
    ck_ok(tus_append_declare(upload, 8));
    ck_error(tus_append_declare(upload, 9), TUS_ERR_INVALID_UPLOAD_LENGTH, APR_SUCCESS);
    ck_assert_str_eq(calls(), "");
    ck_assert_int_eq(tus_append_room(upload), 4);
    ck_append(upload, "mo");
    ck_assert_int_eq(record_of(id)->size, TUS_SIZE_UNKNOWN);
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "write synced locate note-change put");
    tus_upload_release(upload);
    ck_assert_int_eq(record_of(id)->size, 8);
    ck_unfinished(id, "fourmo");

    upload = ck_hold(id);
    calls();
    ck_ok(tus_append_declare(upload, 8));
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "");
    ck_append(upload, "re");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
}
END_TEST

START_TEST(length_that_comes_with_the_last_bytes_finishes)
{
    const char *id = make_upload(TUS_SIZE_UNKNOWN, "four");
    tus_upload_t *upload = ck_hold(id);

    calls();
    ck_ok(tus_append_declare(upload, 8));
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(
        calls(),
        "note-change write flush written pre-finish will-finish locate put-durable post-finish");
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
}
END_TEST

/* The bytes of a request that died count, its length does not: a client can declare it again. */
START_TEST(length_of_a_request_that_died_is_open)
{
    const char *id = make_upload(TUS_SIZE_UNKNOWN, "four");
    tus_upload_t *upload = ck_hold(id);

    ck_ok(tus_append_declare(upload, 8));
    ck_append(upload, "more");
    tus_upload_release(upload);
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->record->size, TUS_SIZE_UNKNOWN);
    ck_assert_int_eq(upload->offset, 8);
    ck_assert(!tus_commit_is_finished(upload));
    upload = ck_hold(id);
    ck_ok(tus_append_declare(upload, 8));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
}
END_TEST

START_TEST(length_of_what_is_stored_finishes)
{
    tus_upload_t *upload = ck_create(TUS_SIZE_UNKNOWN, 0);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    ck_ok(tus_append_declare(upload, 4));
    ck_assert_int_eq(tus_append_room(upload), 0);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "four");
}
END_TEST

START_TEST(empty_deferred_upload_is_not_finished)
{
    tus_upload_t *upload = ck_create(TUS_SIZE_UNKNOWN, _i);
    const char *id = upload->record->id;

    ck_assert(!tus_commit_is_finished(upload));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "");
    upload = ck_hold(id);
    ck_ok(tus_append_declare(upload, 0));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "");
}
END_TEST

START_TEST(wrong_length_is_refused)
{
    const char *known = make_upload(9, "four");
    const char *deferred = make_upload(TUS_SIZE_UNKNOWN, "four");
    tus_upload_t *upload = ck_hold(known);

    calls();
    ck_error(tus_append_declare(upload, 8), TUS_ERR_INVALID_UPLOAD_LENGTH, APR_SUCCESS);
    ck_error(tus_append_declare(upload, 10), TUS_ERR_INVALID_UPLOAD_LENGTH, APR_SUCCESS);
    ck_ok(tus_append_declare(upload, 9));
    upload = ck_hold(deferred);
    core.max_size = 10;
    calls();
    ck_error(tus_append_declare(upload, 11), TUS_ERR_MAX_SIZE_EXCEEDED, APR_SUCCESS);
    ck_error(tus_append_declare(upload, 3), TUS_ERR_INVALID_UPLOAD_LENGTH, APR_SUCCESS);
    ck_assert_str_eq(calls(), "");
    ck_assert_int_eq(upload->record->size, TUS_SIZE_UNKNOWN);
    ck_assert_int_eq(record_of(known)->size, 9);
    ck_assert_int_eq(record_of(deferred)->size, TUS_SIZE_UNKNOWN);
    ck_ok(tus_append_declare(upload, 10));
}
END_TEST

START_TEST(failed_declaration_leaves_the_length_open)
{
    static const char *const declaring[] = { "locate", "note-change", "put" };
    const char *id = make_upload(TUS_SIZE_UNKNOWN, "four");
    tus_upload_t *upload = ck_hold(id);

    fail_call(declaring[_i], 1, ENOSPC);
    ck_ok(tus_append_declare(upload, 8));
    ck_error(tus_append_end(upload), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_assert_int_eq(upload->offset, 4);
    tus_upload_release(upload);
    ck_unfinished(id, "four");
    ck_assert_int_eq(record_of(id)->size, TUS_SIZE_UNKNOWN);
    upload = ck_hold(id);
    ck_ok(tus_append_declare(upload, 12));
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(record_of(id)->size, 12);
}
END_TEST

/* ---- TusSync ------------------------------------------------------------- */

/* Two requests of a whole upload, and how often each syncs. */
static void append_twice(int *flushes, int *durable)
{
    const char *id = make_upload(8, "");
    tus_upload_t *upload = ck_hold(id);

    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    flushes[0] = calls_of("flush");
    durable[0] = calls_of("put-durable");
    upload = ck_hold(id);
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    flushes[1] = calls_of("flush");
    durable[1] = calls_of("put-durable");
    ck_finished(id, "fourmore");
}

START_TEST(sync_none_syncs_nothing)
{
    int flushes[2], durable[2];

    core.sync = TUS_SYNC_NONE;
    append_twice(flushes, durable);
    ck_assert_int_eq(flushes[1], 0);
    ck_assert_int_eq(durable[1], 0);
    ck_assert_int_eq(calls_of("put"), 2);
}
END_TEST

START_TEST(sync_finish_syncs_what_is_finished)
{
    int flushes[2], durable[2];

    append_twice(flushes, durable);
    ck_assert_int_eq(flushes[0], 0);
    ck_assert_int_eq(durable[0], 0);
    ck_assert_int_eq(flushes[1], 1);
    ck_assert_int_eq(durable[1], 1);
}
END_TEST

START_TEST(sync_always_syncs_every_request)
{
    int flushes[2], durable[2];

    core.sync = TUS_SYNC_ALWAYS;
    append_twice(flushes, durable);
    ck_assert_int_eq(flushes[0], 1);
    ck_assert_int_eq(durable[0], 2); /* the creation, and for the first note */
    ck_assert_int_eq(flushes[1], 2);
    ck_assert_int_eq(durable[1], 3);
    ck_assert_int_eq(calls_of("put"), 0);
}
END_TEST

START_TEST(sync_always_syncs_data_before_the_record_of_a_creation)
{
    tus_upload_t *upload;

    core.sync = TUS_SYNC_ALWAYS;
    upload = ck_create(9, 1);
    ck_append(upload, "four");
    calls();
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(),
                     "flush will-create locate put-durable confirm post-create note-synced");
    tus_upload_release(upload);
    upload = ck_create(TUS_SIZE_UNKNOWN, 0);
    ck_append(upload, "four");
    calls();
    ck_ok(tus_append_declare(upload, 9));
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "flush note-synced locate put-durable");
}
END_TEST

/* ---- errors -------------------------------------------------------------- */

/* The first HOLD_CALLS of them are of the holding. */
#define HOLD_CALLS 7

static const struct {
    const char *word;
    int nth;
} append_calls[] = {
    { "try", 1 },    { "get", 1 },         { "resume", 1 },      { "fence", 1 }, { "written", 1 },
    { "get", 2 },    { "marked", 1 },      { "write", 1 },       { "write", 2 }, { "flush", 1 },
    { "locate", 1 }, { "note-change", 1 }, { "put-durable", 1 },
};

/* The last two writes of an upload, until one call fails. */
static const tus_error_t *append_rest(tus_upload_t **upload, const char *id)
{
    const tus_error_t *error = tus_upload_hold(upload, &core, id, NULL, NULL, unit_pool);

    if (!error) {
        error = tus_append(*upload, "mo", 2);
    }
    if (!error) {
        error = tus_append(*upload, "re", 2);
    }
    return error ? error : tus_append_end(*upload);
}

START_TEST(failed_append_is_true_and_goes_on)
{
    const char *id = make_upload(8, "four");
    int descriptors = open_descriptors();
    tus_upload_t *upload;

    fail_call(append_calls[_i].word, append_calls[_i].nth, EIO);
    ck_error(append_rest(&upload, id), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_assert_int_eq(upload->finished_now, 0);
    if (upload->lock) { /* held */
        ck_assert_int_eq(upload->offset, stored(id));
        ck_assert(!tus_commit_is_finished(upload));
    }
    tus_upload_release(upload);
    ck_nothing_held();
    ck_assert_int_eq(open_descriptors(), descriptors);
    ck_assert_int_eq(record_of(id)->finished, 0);

    upload = ck_hold(id);
    ck_assert_int_eq(upload->offset, stored(id));
    ck_ok(tus_append(upload, &"fourmore"[upload->offset], (apr_size_t)(8 - upload->offset)));
    if (!tus_commit_is_finished(upload)) {
        ck_ok(tus_append_end(upload));
    }
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
}
END_TEST

START_TEST(failed_hold_holds_nothing)
{
    const char *id = make_upload(8, "four");
    int descriptors = open_descriptors();
    tus_upload_t *upload;

    fail_call(append_calls[_i].word, append_calls[_i].nth, ENOSPC);
    ck_assert_ptr_nonnull(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool));
    ck_nothing_held();
    ck_assert_int_eq(open_descriptors(), descriptors);
}
END_TEST

START_TEST(partial_write_counts)
{
    const char *id = make_upload(12, "four");
    tus_upload_t *upload = ck_hold(id);

    fail_write(3, ENOSPC);
    ck_error(tus_append(upload, "morelast", 8), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_assert_int_eq(upload->offset, 7);
    ck_append(upload, "elast");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmorelast");
}
END_TEST

START_TEST(partial_write_of_all_bytes_can_finish)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    fail_write(4, EIO);
    ck_error(tus_append(upload, "more", 4), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
}
END_TEST

#define ROOM 65536

START_TEST(limit_on_files_keeps_the_offset_true)
{
    const char *id = make_upload(2 * ROOM, "four");
    char *data = apr_palloc(unit_pool, 2 * ROOM);
    const tus_error_t *error;
    tus_upload_t *upload = ck_hold(id);

    memset(data, 'x', 2 * ROOM);
    scratch_limit_files(ROOM);
    error = tus_append(upload, data, 2 * ROOM - 4);
    scratch_unlimit_files();
    ck_error(error, TUS_ERR_INTERNAL_SERVER_ERROR, EFBIG);
    ck_assert_int_eq(upload->offset, ROOM);
    ck_assert_int_eq(stored(id), ROOM);
    ck_ok(tus_append_end(upload));
    ck_ok(tus_append(upload, data, ROOM));
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 1);
}
END_TEST

START_TEST(full_disk_keeps_the_offset_true)
{
    char *data = apr_palloc(unit_pool, 2 * ROOM);
    tus_place_t place = { .file_mode = APR_FPROT_UREAD | APR_FPROT_UWRITE };
    const tus_store_provider_t *wrapped = core.store->provider;
    tus_upload_t *upload;

    memset(data, 'x', 2 * ROOM);
    ck_assert_int_eq(rmdir(scratch_path("store")), 0);
    scratch_mount("store", ROOM);
    scratch_put("store/filler", "some");
    place.path = scratch_path("store");
    ck_assert_int_eq(tus_store_file.open(&core.store, &place, unit_pool), APR_SUCCESS);
    core.store->provider = wrapped;
    upload = ck_create(ROOM, 0);
    ck_error(tus_append(upload, data, ROOM), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_assert_int_gt(upload->offset, 0);
    ck_assert_int_lt(upload->offset, ROOM);
    ck_assert_int_eq(upload->offset, stored(upload->record->id));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_int_eq(unlink(scratch_path("store/filler")), 0);
    upload = ck_hold(upload->record->id);
    ck_ok(tus_append(upload, data, (apr_size_t)tus_append_room(upload)));
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 1);
    ck_assert_uint_eq(strspn(scratch_get(data_of(upload->record->id)), "x"), ROOM);
}
END_TEST

/* ---- terminating --------------------------------------------------------- */

START_TEST(termination_removes_data_before_the_record)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload;

    calls();
    ck_ok(end_upload(id));
    ck_assert_str_eq(
        strstr(calls(), "pre-terminate"),
        "pre-terminate will-terminate note-change remove drop unmark note-synced unlink"
        " post-terminate close"
        " release");
    ck_nothing_held();
    ck_assert_ptr_null(record_json(id));
    ck_assert(!scratch_exists(data_of(id)));
    ck_error(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND,
             APR_SUCCESS);
}
END_TEST

START_TEST(finished_upload_is_terminated)
{
    const char *id;
    tus_upload_t *upload = ck_create(4, 1);

    id = upload->record->id;
    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    if (_i) { /* the application took the data */
        ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    }
    ck_ok(end_upload(id));
    ck_nothing_held();
    ck_assert_ptr_null(record_json(id));
    ck_assert(!scratch_exists(data_of(id)));
}
END_TEST

START_TEST(failed_termination_lets_go_and_can_be_repeated)
{
    static const char *const terminating[] = { "note-change", "remove", "drop" };
    const char *id = make_upload(8, "four");

    fail_call(terminating[_i], 1, EIO);
    ck_error(end_upload(id), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_nothing_held();
    ck_assert_ptr_nonnull(record_json(id));
    settle_all();
    if (strcmp(terminating[_i], "drop") == 0) { /* the data is gone: settle ends it */
        ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    }
    else {
        ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
        ck_ok(end_upload(id));
    }
    ck_assert_ptr_null(record_json(id));
    ck_assert(!scratch_exists(data_of(id)));
}
END_TEST

/* ---- settling ------------------------------------------------------------ */

START_TEST(settle_keeps_what_has_a_record)
{
    const char *id = make_upload(8, "four");

    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
    ck_assert_int_eq(calls_of("discard") + calls_of("remove") + calls_of("drop"), 0);
    ck_nothing_held();
    ck_unfinished(id, "four");
}
END_TEST

/* One look tells that it is confirmed, and its size; another server's fence keeps from nothing. */
START_TEST(settle_opens_nothing_that_is_confirmed)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    other_lets_go(id);
    calls();
    settle_all();
    ck_assert_str_eq(calls(), "try get release");
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
    tus_upload_release(upload);
    ck_unfinished(id, "four");
}
END_TEST

/* As if its maker had died between the record and confirm. */
static const char *make_unconfirmed(void)
{
    const char *id = make_upload(8, "four");

    ck_assert_int_eq(chmod(scratch_path(data_of(id)), 01640), 0);
    return id;
}

START_TEST(settle_confirms_what_was_not)
{
    const char *id = make_unconfirmed();

    settle_all();
    ck_assert_str_eq(calls(), "try get resume fence close size release");
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
    ck_assert_uint_eq(scratch_mode(data_of(id)), 0640);
    ck_unfinished(id, "four");
}
END_TEST

/* Whoever has its fence may be about to confirm it: asked again, until that is done. */
START_TEST(settle_carries_what_another_server_may_confirm)
{
    tus_upload_t *upload;
    const char *id = make_upload(8, "four");

    upload = ck_hold(id);
    other_lets_go(id);
    ck_assert_int_eq(chmod(scratch_path(data_of(id)), 01640), 0);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_CARRY);
    ck_assert_uint_eq(scratch_mode(data_of(id)), 01640);
    tus_upload_release(upload);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
    ck_assert_uint_eq(scratch_mode(data_of(id)), 0640);
}
END_TEST

START_TEST(settle_fences_where_a_store_cannot_tell)
{
    const char *id = make_upload(8, "four");
    tus_store_provider_t store = *core.store->provider;

    store.confirmed = NULL;
    core.store->provider = &store;
    settle_all();
    ck_assert_str_eq(calls(), "try get resume fence close size release");
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
}
END_TEST

START_TEST(settle_removes_orphans)
{
    tus_upload_t *upload = ck_create(8, 1);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    tus_upload_release(upload);
    calls();
    settle_all();
    ck_assert_str_eq(calls(), "try get discard drop unmark note-synced unlink release");
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert(!scratch_exists(data_of(id)));
}
END_TEST

START_TEST(settle_carries_what_is_held)
{
    tus_upload_t *upload = ck_create(8, 1);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_CARRY);
    ck_assert_int_eq(times_asked(), 0);
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_CARRY);
    tus_upload_release(upload);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
    ck_finished(id, "fourmore");
}
END_TEST

/* Its maker is in another server: not in our table, but it has the fence. */
START_TEST(settle_carries_what_another_server_makes)
{
    tus_upload_t *upload = ck_create(8, 1);
    const char *id = upload->record->id;

    other_lets_go(id);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_CARRY);
    ck_assert(scratch_exists(data_of(id)));
    tus_upload_release(upload);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert(!scratch_exists(data_of(id)));
}
END_TEST

START_TEST(settle_leaves_data_that_was_not_noted_as_created)
{
    tus_upload_t *upload = ck_create(8, 1);

    ck_append(upload, "four");
    tus_upload_release(upload);
    settle_all();
    scratch_put("store/foreign", "text");
    ck_assert_int_eq(chmod(scratch_path("store/foreign"), BIRTH), 0);
    journal("foreign", TUS_NOTE_CHANGE);
    settle_all();
    ck_assert_int_eq(settled_as("foreign"), TUS_SETTLED_GONE);
    ck_assert_str_eq(scratch_get("store/foreign"), "text");
}
END_TEST

START_TEST(settle_leaves_foreign_files)
{
    scratch_put("store/foreign", "text");
    journal("foreign", TUS_NOTE_CREATE);
    journal("nothing", TUS_NOTE_CREATE);
    settle_all();
    ck_assert_int_eq(settled_as("foreign"), TUS_SETTLED_GONE);
    ck_assert_int_eq(settled_as("nothing"), TUS_SETTLED_GONE);
    ck_assert_str_eq(scratch_get("store/foreign"), "text");
}
END_TEST

START_TEST(settle_removes_the_record_of_a_termination_cut_short)
{
    const char *id = make_upload(8, "four");

    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert_ptr_null(record_json(id));
}
END_TEST

START_TEST(settle_keeps_records_whose_data_was_taken_away)
{
    const char *tusd = "{\"ID\":\"b\",\"Size\":8,\"SizeIsDeferred\":false,\"MetaData\":{}}";
    const char *id = make_upload(4, "four");

    tus_upload_release(ck_hold(id)); /* finishes it */
    ck_assert_int_gt(record_of(id)->finished, 0);
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    plant_record("b", tusd);
    journal("b", TUS_NOTE_CHANGE);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
    ck_assert_int_eq(settled_as("b"), TUS_SETTLED_KEEP);
    ck_assert_ptr_nonnull(record_json(id));
    ck_assert_str_eq(record_json("b"), tusd);
}
END_TEST

START_TEST(settle_leaves_the_data_of_a_damaged_record)
{
    const char *id = make_upload(8, "four");

    plant_record(id, "{");
    journal(id, TUS_NOTE_CREATE);
    settle_all();
    ck_assert_int_ne(settled_as(id), TUS_SETTLED_KEEP);
    ck_assert_str_eq(record_json(id), "{");
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
}
END_TEST

/* Whatever the system refuses today says nothing about the upload. */
START_TEST(settle_asks_again_after_an_error)
{
    static const char *const settling[] = { "try", "get", "size" };
    const char *id = make_upload(8, "four");

    fail_call(settling[_i], 1, EMFILE);
    settle_all();
    ck_assert_int_ne(settled_as(id), TUS_SETTLED_GONE);
    ck_nothing_held();
    ck_unfinished(id, "four");
}
END_TEST

START_TEST(settle_asks_again_after_a_failed_removal)
{
    tus_upload_t *upload = ck_create(8, 1);
    const char *id = upload->record->id;

    tus_upload_release(upload);
    fail_call("discard", 1, EIO);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_CARRY);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert(!scratch_exists(data_of(id)));

    id = make_upload(8, "four");
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    fail_call("drop", 1, EIO);
    settle_all();
    ck_assert_int_ne(settled_as(id), TUS_SETTLED_GONE);
    journal(id, TUS_NOTE_CHANGE);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert_ptr_null(record_json(id));
}
END_TEST

/* A process that died after each call of a whole upload, and what settle makes of it. */
static const struct {
    const char *word;
    int kept;
} crashes[] = {
    { "note-create", 0 }, { "create", 0 }, { "write", 0 },       { "flush", 0 },
    { "pre-finish", 0 },  { "locate", 0 }, { "put-durable", 0 }, { "confirm", 1 },
};

START_TEST(crash_before_each_call_is_settled)
{
    tus_creation_t creation = { .size = 4, .whole = 1 };
    tus_upload_t *upload;
    const tus_error_t *error;
    const char *id;
    apr_pool_t *p;

    apr_pool_create(&p, unit_pool);
    fail_call(crashes[_i].word, 1, EIO);
    error = tus_create(&upload, &core, &creation, p);
    if (!error) {
        error = tus_append(upload, "four", 4);
    }
    if (!error) {
        error = tus_append_end(upload);
    }
    ck_assert_ptr_nonnull(error);
    id = apr_pstrdup(unit_pool, upload->record->id);
    apr_pool_destroy(p); /* as the kernel does: closed, and no more */
    settle_all();
    ck_assert_int_eq(scratch_exists(data_of(id)), crashes[_i].kept);
    ck_assert_int_eq(record_json(id) != NULL, crashes[_i].kept);
    if (crashes[_i].kept) {
        ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
        ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
        ck_assert(tus_commit_is_finished(upload));
    }
}
END_TEST

Suite *core_suite(void)
{
    Suite *suite = suite_create("core");
    TCase *tcase = add_core_case(suite, "create");

    tcase_add_test(tcase, creation_is_noted_made_recorded_confirmed);
    tcase_add_test(tcase, creation_keeps_the_metadata);
    tcase_add_test(tcase, creations_differ);
    tcase_add_loop_test(tcase, empty_upload_is_finished_at_once, 0, 2);
    tcase_add_test(tcase, whole_creation_is_recorded_once);
    tcase_add_test(tcase, whole_creation_cut_short_is_recorded);
    tcase_add_test(tcase, whole_creation_that_died_is_an_orphan);
    tcase_add_test(tcase, taken_id_is_tried_again);
    tcase_add_test(tcase, taken_ids_end_in_an_error);
    tcase_add_loop_test(tcase, failed_creation_leaves_nothing, 0, COUNT(creation_calls));
    tcase_add_test(tcase, creation_without_a_place_in_the_table);
    tcase_add_loop_test(tcase, failed_undo_leaves_an_orphan, 0, 2);
    tcase_add_loop_test(tcase, undo_removes_all, 0, 2);
    tcase_add_test(tcase, undo_without_remove_lets_go);
    tcase_add_test(tcase, creation_that_cannot_be_told_is_undone);
    tcase_add_test(tcase, finish_that_cannot_be_told_is_made_up_for);
    tcase_add_test(tcase, termination_that_cannot_be_told_does_not_happen);

    tcase = add_core_case(suite, "append");
    tcase_add_test(tcase, bytes_are_appended_over_requests);
    tcase_add_test(tcase, finish_notes_syncs_and_records);
    tcase_add_test(tcase, bytes_in_a_pipe_are_appended);
    tcase_add_test(tcase, what_has_a_checksum_is_not_spliced);
    tcase_add_loop_test(tcase, harmed_data_takes_no_bytes, 0, COUNT(harms));
    tcase_add_loop_test(tcase, harmed_data_is_not_finished, 0, COUNT(harms));
    tcase_add_test(tcase, excess_bytes_are_not_stored);
    tcase_add_test(tcase, deferred_length_is_limited);
    tcase_add_test(tcase, known_length_rules_over_a_lower_limit);
    tcase_add_test(tcase, length_is_declared_later);
    tcase_add_test(tcase, length_that_comes_with_the_last_bytes_finishes);
    tcase_add_test(tcase, length_of_a_request_that_died_is_open);
    tcase_add_test(tcase, length_of_what_is_stored_finishes);
    tcase_add_loop_test(tcase, empty_deferred_upload_is_not_finished, 0, 2);
    tcase_add_test(tcase, wrong_length_is_refused);
    tcase_add_loop_test(tcase, failed_declaration_leaves_the_length_open, 0, 3);
    tcase_add_test(tcase, sync_none_syncs_nothing);
    tcase_add_test(tcase, sync_finish_syncs_what_is_finished);
    tcase_add_test(tcase, sync_always_syncs_every_request);
    tcase_add_test(tcase, sync_always_syncs_data_before_the_record_of_a_creation);
    tcase_add_loop_test(tcase, failed_append_is_true_and_goes_on, 0, COUNT(append_calls));
    tcase_add_loop_test(tcase, failed_hold_holds_nothing, 0, HOLD_CALLS);
    tcase_add_test(tcase, partial_write_counts);
    tcase_add_test(tcase, partial_write_of_all_bytes_can_finish);
    tcase_add_test(tcase, limit_on_files_keeps_the_offset_true);
    if (scratch_can_mount()) {
        tcase_add_test(tcase, full_disk_keeps_the_offset_true);
    }

    tcase = add_core_case(suite, "remove");
    tcase_add_test(tcase, termination_removes_data_before_the_record);
    tcase_add_loop_test(tcase, finished_upload_is_terminated, 0, 2);
    tcase_add_loop_test(tcase, failed_termination_lets_go_and_can_be_repeated, 0, 3);
    tcase_add_test(tcase, settle_keeps_what_has_a_record);
    tcase_add_test(tcase, settle_opens_nothing_that_is_confirmed);
    tcase_add_test(tcase, settle_confirms_what_was_not);
    tcase_add_test(tcase, settle_carries_what_another_server_may_confirm);
    tcase_add_test(tcase, settle_fences_where_a_store_cannot_tell);
    tcase_add_test(tcase, settle_removes_orphans);
    tcase_add_test(tcase, settle_carries_what_is_held);
    tcase_add_test(tcase, settle_carries_what_another_server_makes);
    tcase_add_test(tcase, settle_leaves_data_that_was_not_noted_as_created);
    tcase_add_test(tcase, settle_leaves_foreign_files);
    tcase_add_test(tcase, settle_removes_the_record_of_a_termination_cut_short);
    tcase_add_test(tcase, settle_keeps_records_whose_data_was_taken_away);
    tcase_add_test(tcase, settle_leaves_the_data_of_a_damaged_record);
    tcase_add_loop_test(tcase, settle_asks_again_after_an_error, 0, 3);
    tcase_add_test(tcase, settle_asks_again_after_a_failed_removal);
    tcase_add_loop_test(tcase, crash_before_each_call_is_settled, 0, COUNT(crashes));
    return suite;
}
