/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a loss of power leaves of unfinished uploads: notes of what is on stable
 * storage, the records that these stand for, and records that never got there.
 */
#include "core_fakes.h"

#include <apr_strings.h>

#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define STEP APR_INT64_C(268435456)

/* ---- notes --------------------------------------------------------------- */

/* Up to four bytes before the offset it is a hole. */
static void ck_append_across(tus_upload_t *upload, apr_off_t offset)
{
    ck_assert_int_eq(truncate(scratch_path(data_of(upload->record->id)), offset - 4), 0);
    upload->offset = offset - 4;
    calls();
    ck_append(upload, "fourmore");
}

static apr_off_t noted_of(const char *id)
{
    apr_off_t offset = -1;
    apr_status_t rv = core.meta->provider->synced(core.meta, id, &offset);

    ck_assert(rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv));
    calls();
    return offset;
}

START_TEST(first_note_stands_for_a_lasting_record)
{
    const char *id = make_upload(4 * STEP, "");
    tus_upload_t *upload = ck_hold(id);

    ck_append_across(upload, STEP);
    ck_assert_str_eq(calls(), "write flush locate note-change put-durable note-synced");
    ck_append_across(upload, 2 * STEP + 4);
    ck_assert_str_eq(calls(), "write flush note-synced");
    tus_upload_release(upload);
    ck_assert_int_eq(noted_of(id), 2 * STEP + 8);
    upload = ck_hold(id);
    ck_append_across(upload, 3 * STEP + 8);
    ck_assert_str_eq(calls(), "synced write flush note-synced");
}
END_TEST

START_TEST(nothing_is_noted_if_the_record_cannot_last)
{
    const char *id = make_upload(2 * STEP, "");
    tus_upload_t *upload = ck_hold(id);

    ck_assert_int_eq(truncate(scratch_path(data_of(id)), STEP), 0);
    upload->offset = STEP;
    fail_call("put-durable", 1, ENOSPC);
    ck_error(tus_append(upload, "four", 4), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_assert_int_eq(noted_of(id), -1);
    tus_upload_release(upload);
    ck_nothing_held();
}
END_TEST

/* It has a record only at its end, and nobody knows its id before. */
START_TEST(nothing_is_noted_of_an_upload_without_a_record)
{
    tus_upload_t *upload = ck_create(2 * STEP, 1);
    const char *id = upload->record->id;

    ck_append_across(upload, STEP);
    ck_assert_str_eq(calls(), "write");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    upload = ck_hold(id);
    calls();
    ck_append(upload, "more");
    ck_assert_str_eq(calls(), "synced write flush locate note-change put-durable note-synced");
}
END_TEST

/* Another endpoint on the same store, whose TusSync differs. */
START_TEST(always_makes_the_record_of_others_last)
{
    const char *id = make_upload(12, "four");
    tus_upload_t *upload = ck_hold(id);

    core.sync = TUS_SYNC_ALWAYS;
    calls();
    ck_append(upload, "mo");
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "synced write flush locate note-change put-durable note-synced");
    tus_upload_release(upload);
    upload = ck_hold(id);
    calls();
    ck_append(upload, "re");
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "synced write flush note-synced");
    ck_assert_int_eq(noted_of(id), 8);
}
END_TEST

/* Whatever TusSync says by then: the bytes that are noted are not to be lost with it. */
START_TEST(record_of_what_is_noted_goes_on_lasting)
{
    tus_upload_t *upload;
    const char *id;

    core.sync = TUS_SYNC_ALWAYS;
    id = make_upload(TUS_SIZE_UNKNOWN, "");
    upload = ck_hold(id);
    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    core.sync = (tus_sync_e)_i;
    upload = ck_hold(id);
    ck_ok(tus_append_declare(upload, 8));
    calls();
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "synced locate note-change put-durable");
}
END_TEST

/* The bytes that follow are others. A length that was written down with the note is open again. */
START_TEST(note_of_bytes_that_are_cut_off_is_taken_back)
{
    const char *id = make_upload(TUS_SIZE_UNKNOWN, "");
    tus_upload_t *upload = ck_hold(id);
    tus_record_t *record;
    apr_off_t left = _i ? 4 : 0;

    ck_ok(tus_append_declare(upload, 2 * STEP));
    ck_append_across(upload, STEP);
    ck_assert_int_eq(upload->synced, STEP + 4);
    calls();
    ck_ok(tus_chunk_discard(upload, left));
    ck_assert_str_eq(calls(), "note-synced truncate unmark");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_int_eq(noted_of(id), left ? left : -1);
    ck_assert_int_eq(core.meta->provider->get(core.meta, id, &record, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(record->size, TUS_SIZE_UNKNOWN);
}
END_TEST

START_TEST(bytes_stay_if_their_note_cannot_be_taken_back)
{
    const char *id = make_upload(2 * STEP, "");
    tus_upload_t *upload = ck_hold(id);

    ck_append_across(upload, STEP);
    fail_call("note-synced", 1, EIO);
    ck_error(tus_chunk_discard(upload, 4), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_assert_int_eq(stored(id), STEP + 4);
    ck_assert_int_eq(upload->offset, STEP + 4);
}
END_TEST

/* ---- records that never reached the disk --------------------------------- */

static const apr_off_t sizes[] = { 0, 1, 4096, 70000 };

static const char *info_of(const char *id)
{
    return apr_pstrcat(unit_pool, "store/", id, ".info", NULL);
}

/* An unfinished upload whose ID.info lost its bytes, or its size too. */
static const char *make_unwritten(int size, int is_partial)
{
    tus_creation_t creation = { .size = 8, .is_partial = is_partial };
    tus_upload_t *upload;

    ck_ok(tus_create(&upload, &core, &creation, unit_pool));
    ck_append(upload, "four");
    tus_upload_release(upload);
    scratch_put(info_of(upload->record->id), "");
    ck_assert_int_eq(truncate(scratch_path(info_of(upload->record->id)), sizes[size]), 0);
    return upload->record->id;
}

static void ck_untouched(const char *id, int size)
{
    ck_nothing_held();
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
    ck_assert_int_eq(scratch_stat(info_of(id)).st_size, sizes[size]);
}

static const tus_error_t *by_find(const char *id)
{
    tus_upload_t *upload;

    return tus_upload_find(&upload, &core, id, unit_pool);
}

static const tus_error_t *by_hold(const char *id)
{
    tus_upload_t *upload;

    return tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool);
}

static const tus_error_t *by_inspect(const char *id)
{
    tus_upload_t *upload;

    return tus_upload_inspect(&upload, &core, id, unit_pool);
}

static const tus_error_t *by_terminate(const char *id)
{
    tus_upload_t *upload;

    return tus_terminate(&upload, &core, id, unit_pool);
}

static const tus_error_t *(*const ways[])(const char *id) = { by_find, by_hold, by_inspect,
                                                              by_terminate };

START_TEST(unwritten_record_is_not_found)
{
    const char *id = make_unwritten(_i, 0);

    for (int i = 0; i < COUNT(ways); i++) {
        ck_error(ways[i](id), TUS_ERR_UPLOAD_NOT_FOUND, APR_SUCCESS);
        ck_assert_int_eq(calls_of("lost"), i + 1);
    }
    ck_untouched(id, _i);
}
END_TEST

START_TEST(unwritten_part_is_no_part)
{
    const char *id = make_unwritten(_i, 1);
    tus_creation_t creation = { .parts = apr_array_make(unit_pool, 1, sizeof(const char *)) };
    tus_upload_t *final;

    APR_ARRAY_PUSH(creation.parts, const char *) = id;
    ck_error(tus_join_create(&final, &core, &creation, 1, unit_pool), TUS_ERR_INVALID_CONCAT,
             APR_SUCCESS);
    ck_assert_int_eq(calls_of("lost"), 1);
    ck_untouched(id, _i);
}
END_TEST

/* Noted as created or not: an empty file does not prove who made it. */
START_TEST(settle_leaves_an_unwritten_record_and_asks_no_more)
{
    const char *id;

    settle_all();
    id = make_unwritten(_i, 0);
    journal(id, TUS_NOTE_CHANGE);
    settle_all();
    ck_assert_int_eq(calls_of("lost"), 1);
    settle_all();
    ck_assert_int_eq(calls_of("lost"), 1);
    ck_assert(!is_indexed(id));
    ck_untouched(id, _i);
}
END_TEST

/* An index of another time may still have it. */
START_TEST(sweep_forgets_an_unwritten_record)
{
    const char *id;
    apr_time_t next;

    core.expire = apr_time_from_sec(10);
    id = make_upload(8, "four");
    settle_all();
    ck_assert(is_indexed(id));
    scratch_put(info_of(id), "");
    fake_time += apr_time_from_sec(100);
    ck_assert_int_eq(tus_expire(&core, &next, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(next, 0);
    settle_all();
    ck_assert(!is_indexed(id));
    ck_untouched(id, 0);
}
END_TEST

Suite *proof_suite(void)
{
    Suite *suite = suite_create("proof");
    TCase *tcase = add_core_case(suite, "notes");

    tcase_add_test(tcase, first_note_stands_for_a_lasting_record);
    tcase_add_test(tcase, nothing_is_noted_if_the_record_cannot_last);
    tcase_add_test(tcase, nothing_is_noted_of_an_upload_without_a_record);
    tcase_add_test(tcase, always_makes_the_record_of_others_last);
    tcase_add_loop_test(tcase, record_of_what_is_noted_goes_on_lasting, TUS_SYNC_NONE,
                        TUS_SYNC_ALWAYS);
    tcase_add_loop_test(tcase, note_of_bytes_that_are_cut_off_is_taken_back, 0, 2);
    tcase_add_test(tcase, bytes_stay_if_their_note_cannot_be_taken_back);

    tcase = add_core_case(suite, "unwritten");
    tcase_add_checked_fixture(tcase, keep_records_on_disk, NULL);
    tcase_add_loop_test(tcase, unwritten_record_is_not_found, 0, COUNT(sizes));
    tcase_add_loop_test(tcase, unwritten_part_is_no_part, 0, COUNT(sizes));
    tcase_add_loop_test(tcase, settle_leaves_an_unwritten_record_and_asks_no_more, 0, COUNT(sizes));
    tcase_add_test(tcase, sweep_forgets_an_unwritten_record);
    return suite;
}
