/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Chunks with a checksum: their bytes count once they are verified, whoever
 * fails or dies before. What a process leaves that is killed between any two
 * calls is left here by a process that ends there.
 */
#include "core_fakes.h"

#include <apr_encode.h>
#include <apr_file_info.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define SYNCS (TUS_SYNC_ALWAYS + 1)

static unsigned sha1(void)
{
    return tus_checksum_named("sha1");
}

static tus_checksum_t checksum_of(const char *text)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    tus_checksum_t checksum = { 0 };
    apr_sha1_ctx_t context;

    apr_sha1_init(&context);
    apr_sha1_update(&context, text, (unsigned)strlen(text));
    apr_sha1_final(digest, &context);
    ck_ok(
        tus_checksum_parse(apr_pstrcat(unit_pool, "sha1 ",
                                       apr_pencode_base64_binary(unit_pool, digest, sizeof(digest),
                                                                 APR_ENCODE_NONE, NULL),
                                       NULL),
                           TUS_CHECKSUMS_ALL, &checksum, unit_pool));
    return checksum;
}

static const tus_error_t *verify(tus_upload_t *upload, const char *text)
{
    tus_checksum_t checksum = checksum_of(text);

    return tus_chunk_verify(upload, &checksum);
}

/* Holds an upload whose next bytes have a checksum. */
static tus_upload_t *ck_begin(const char *id)
{
    tus_upload_t *upload = ck_hold(id);

    ck_ok(tus_chunk_begin(upload, sha1()));
    return upload;
}

static tus_record_t *record_of(const char *id)
{
    tus_record_t *record = NULL;

    ck_assert_int_eq(core.meta->provider->get(core.meta, id, &record, unit_pool), APR_SUCCESS);
    return record;
}

/* So many bytes count, and no others are there or marked. */
static void ck_has(const char *id, const char *text)
{
    tus_upload_t *upload;

    ck_nothing_held();
    ck_assert(!is_marked(id));
    ck_assert_str_eq(scratch_get(data_of(id)), text);
    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, (apr_off_t)strlen(text));
}

static void ck_finished(const char *id, const char *text)
{
    ck_has(id, text);
    ck_assert_int_gt(record_of(id)->finished, 0);
}

static void ck_unfinished(const char *id, const char *text)
{
    ck_has(id, text);
    ck_assert_int_eq(record_of(id)->finished, 0);
}

/* As it is left by a request that died: so many bytes are verified. */
static const char *make_marked(apr_off_t size, const char *text, apr_off_t verified)
{
    const char *id = make_upload(size, text);

    plant_mark(id, verified);
    return id;
}

/* ---- the verdict --------------------------------------------------------- */

START_TEST(mark_goes_before_the_first_byte)
{
    static const char *const marks[] = { "mark", "mark", "mark-durable" };
    static const char *const writing[] = { "write write", "write write", "synced write write" };
    const char *id = make_upload(12, "four");
    tus_upload_t *upload = ck_hold(id);

    core.sync = (tus_sync_e)_i;
    calls();
    ck_ok(tus_chunk_begin(upload, sha1()));
    ck_assert_str_eq(calls(), marks[_i]);
    ck_append(upload, "mo");
    ck_append(upload, "re");
    ck_assert_str_eq(calls(), writing[_i]);
    ck_assert_int_eq(upload->offset, 8);
    ck_assert(is_marked(id));
}
END_TEST

START_TEST(right_chunk_counts)
{
    const char *id = make_upload(12, "four");
    tus_upload_t *upload = ck_begin(id);

    core.sync = (tus_sync_e)_i;
    ck_append(upload, "mo");
    ck_append(upload, "re");
    ck_ok(verify(upload, "more"));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "fourmore");
    upload = ck_begin(id);
    ck_append(upload, "last");
    ck_ok(verify(upload, "last"));
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 1);
    tus_upload_release(upload);
    ck_finished(id, "fourmorelast");
    ck_assert_int_eq(calls_of("truncate"), 0);
}
END_TEST

/* The verdict is no more durable than the bytes that it is of. */
START_TEST(mark_is_kept_until_the_bytes_are_as_durable)
{
    const char *id = make_upload(12, "four");
    const char *flush, *unmark, *all;
    tus_upload_t *upload;

    core.sync = TUS_SYNC_ALWAYS;
    upload = ck_begin(id);
    calls();
    ck_append(upload, "more");
    ck_ok(verify(upload, "more"));
    ck_ok(tus_append_end(upload));
    all = calls();
    flush = strstr(all, "flush");
    unmark = strstr(all, "unmark");
    ck_assert_ptr_nonnull(flush);
    ck_assert_ptr_nonnull(unmark);
    ck_assert_msg(flush < unmark, "%s", all);
}
END_TEST

/* The bytes are gone, as durably as others come, before the mark goes. */
START_TEST(wrong_chunk_is_gone)
{
    static const char *const discarding[] = { "write truncate unmark", "write truncate unmark",
                                              "synced write truncate flush unmark" };
    const char *id = make_upload(12, "four");
    tus_upload_t *upload = ck_hold(id);

    core.sync = (tus_sync_e)_i;
    ck_ok(tus_chunk_begin(upload, sha1()));
    calls();
    ck_append(upload, "mire");
    ck_error(verify(upload, "more"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    ck_assert_str_eq(calls(), discarding[_i]);
    ck_assert_int_eq(upload->offset, 4);
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(calls_of("put"), 1); /* the creation's */
    tus_upload_release(upload);
    ck_unfinished(id, "four");
}
END_TEST

START_TEST(wrong_last_chunk_finishes_nothing)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_begin(id);

    ck_append(upload, "mire");
    ck_error(verify(upload, "more"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 0);
    tus_upload_release(upload);
    ck_unfinished(id, "four");
    ck_assert_int_eq(calls_of("pre-finish"), 0);
    settle_all();
    ck_unfinished(id, "four");
}
END_TEST

/* Its client went away, or announced a trailer that never came. */
START_TEST(chunk_without_a_verdict_is_gone)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_begin(id);

    core.sync = (tus_sync_e)_i;
    ck_append(upload, "mo");
    ck_append(upload, "re");
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(upload->finished_now, 0);
    ck_assert_int_eq(upload->offset, 4);
    tus_upload_release(upload);
    ck_unfinished(id, "four");
}
END_TEST

START_TEST(chunk_without_bytes)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_begin(id);

    ck_ok(verify(upload, ""));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "four");
    upload = ck_begin(id);
    ck_error(verify(upload, "more"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "four");
    ck_assert_int_eq(calls_of("truncate"), 0);
}
END_TEST

/* A trailer says which only at the end. */
START_TEST(one_of_many_algorithms_decides)
{
    const char *id = make_upload(12, "four");
    unsigned all = tus_checksum_available(TUS_CHECKSUMS_ALL);
    tus_upload_t *upload = ck_hold(id);

    ck_ok(tus_chunk_begin(upload, all));
    ck_append(upload, "more");
    ck_ok(verify(upload, "more"));
    ck_ok(tus_append_end(upload));
    ck_ok(tus_chunk_begin(upload, all));
    ck_append(upload, "last");
    ck_error(verify(upload, "lost"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "fourmore");
}
END_TEST

START_TEST(excess_bytes_are_not_digested)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_begin(id);

    ck_error(tus_append(upload, "more!", 5), TUS_ERR_UPLOAD_SIZE_EXCEEDED, APR_SUCCESS);
    ck_ok(tus_append_end(upload)); /* a request that is refused has no verdict */
    tus_upload_release(upload);
    ck_unfinished(id, "four");
}
END_TEST

START_TEST(unknown_algorithm_marks_nothing)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    calls();
    ck_error(tus_chunk_begin(upload, TUS_CHECKSUMS_ALL + 1), TUS_ERR_INTERNAL_SERVER_ERROR,
             APR_ENOTIMPL);
    ck_assert_str_eq(calls(), "");
    ck_assert_ptr_null(upload->digest);
}
END_TEST

/* "the upload and its offset MUST NOT be updated" */
START_TEST(length_goes_with_its_chunk)
{
    const char *id = make_upload(TUS_SIZE_UNKNOWN, "four");
    tus_upload_t *upload = ck_hold(id);

    ck_ok(tus_append_declare(upload, 8));
    ck_ok(tus_chunk_begin(upload, sha1()));
    ck_append(upload, "mire");
    if (_i) {
        ck_error(verify(upload, "more"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    }
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "four");
    ck_assert_int_eq(record_of(id)->size, TUS_SIZE_UNKNOWN);

    upload = ck_hold(id);
    ck_ok(tus_append_declare(upload, 10));
    ck_ok(tus_chunk_begin(upload, sha1()));
    ck_append(upload, "more");
    ck_ok(verify(upload, "more"));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "fourmore");
    ck_assert_int_eq(record_of(id)->size, 10);
}
END_TEST

START_TEST(known_length_stays_with_a_wrong_chunk)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    ck_ok(tus_append_declare(upload, 8));
    ck_ok(tus_chunk_begin(upload, sha1()));
    ck_append(upload, "mire");
    ck_error(verify(upload, "more"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_int_eq(record_of(id)->size, 8);
}
END_TEST

START_TEST(wrong_chunk_of_an_upload_of_tusd)
{
    tus_upload_t *upload;

    plant_record("a", "{\"ID\":\"a\",\"Size\":8,\"SizeIsDeferred\":false,\"MetaData\":{}}");
    scratch_put("store/a", "four");
    upload = ck_begin("a");
    ck_append(upload, "mire");
    if (_i) { /* else it dies: by its record it has all its bytes */
        ck_error(verify(upload, "more"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
        ck_ok(tus_append_end(upload));
    }
    tus_upload_release(upload);
    ck_ok(tus_upload_find(&upload, &core, "a", unit_pool));
    ck_assert(!tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, 4);
    tus_upload_release(ck_hold("a"));
    ck_unfinished("a", "four");
}
END_TEST

/* ---- creating ------------------------------------------------------------ */

static tus_upload_t *ck_begin_creation(apr_off_t size, int whole)
{
    tus_upload_t *upload = ck_create(size, whole);

    ck_ok(tus_chunk_begin(upload, sha1()));
    return upload;
}

START_TEST(whole_creation_is_verified)
{
    tus_upload_t *upload = ck_begin_creation(8, 1);
    const char *id = upload->record->id;

    ck_append(upload, "fourmore");
    ck_ok(verify(upload, "fourmore"));
    ck_ok(tus_append_end(upload));
    ck_assert_str_eq(calls(), "pre-create try note-create create mark write unmark flush"
                              " written pre-finish will-finish will-create locate put-durable "
                              "confirm post-create post-finish");
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
}
END_TEST

START_TEST(creation_with_a_wrong_chunk_is_undone)
{
    tus_upload_t *upload = ck_begin_creation(8, _i);
    const char *id = upload->record->id;

    ck_append(upload, "fourmire");
    ck_error(verify(upload, "fourmore"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    ck_assert_int_eq(upload->offset, 0);
    ck_ok(tus_append_end(upload));
    tus_create_undo(upload);
    ck_nothing_held();
    ck_assert_int_eq(calls_of("pre-finish"), 0);
    ck_assert(!is_marked(id));
    ck_assert_msg(rmdir(scratch_path("store")) == 0, "the store is not empty");
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND, 0);
}
END_TEST

/* A client that can still read is told of it, and goes on from the start. */
START_TEST(creation_cut_short_has_no_bytes)
{
    tus_upload_t *upload = ck_begin_creation(8, _i);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "");
}
END_TEST

/* ---- recovering ---------------------------------------------------------- */

static const struct {
    const char *text;
    apr_off_t verified;
    const char *left;
} marked[] = {
    { "fourmore", 4, "four" },
    { "fourmo", 4, "four" },
    { "four", 4, "four" },
    { "mo", 0, "" },
};

START_TEST(marked_bytes_do_not_count)
{
    const char *id = make_marked(8, marked[_i].text, marked[_i].verified);
    tus_upload_t *upload;

    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, marked[_i].verified);
    ck_assert(!tus_commit_has_all(upload));
    ck_assert(!tus_commit_is_finished(upload));
    ck_assert_str_eq(scratch_get(data_of(id)), marked[_i].text); /* only found */
    ck_assert(is_marked(id));
}
END_TEST

START_TEST(next_holder_cuts_them_off)
{
    const char *id = make_marked(8, marked[_i].text, marked[_i].verified);
    int cut = strcmp(marked[_i].text, marked[_i].left) != 0;
    tus_upload_t *upload;

    core.sync = TUS_SYNC_ALWAYS;
    upload = ck_hold(id);
    ck_assert_str_eq(strstr(calls(), "written"), cut ? "written get marked truncate flush unmark"
                                                     : "written get marked flush unmark");
    ck_assert_int_eq(upload->offset, marked[_i].verified);
    tus_upload_release(upload);
    ck_unfinished(id, marked[_i].left);
    upload = ck_hold(id);
    ck_append(upload, &"fourmore"[upload->offset]);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
}
END_TEST

static void by_hold(const char *id)
{
    tus_upload_release(ck_hold(id));
}

static void by_inspect(const char *id)
{
    tus_upload_t *upload;

    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 4);
}

static void by_try(const char *id)
{
    tus_upload_t *upload;

    ck_assert(tus_upload_try(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 4);
    tus_upload_release(upload);
}

static void by_settle(const char *id)
{
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_KEEP);
}

static void (*const ways[])(const char *id) = { by_hold, by_inspect, by_try, by_settle };

/* As many bytes as it should have, and not its bytes. */
START_TEST(marked_upload_is_finished_by_nobody)
{
    const char *id = make_marked(8, "fourmire", 4);

    ways[_i](id);
    ck_unfinished(id, "four");
    ck_assert_int_eq(calls_of("pre-finish"), 0);
}
END_TEST

/* A power failure took data, but not the mark: what is there is all there is. */
START_TEST(mark_beyond_the_data)
{
    const char *id = make_marked(12, "four", 6);
    tus_upload_t *upload;

    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 4);
    upload = ck_hold(id);
    ck_assert_int_eq(upload->offset, 4);
    ck_append(upload, "morelast");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished(id, "fourmorelast");
}
END_TEST

START_TEST(finished_upload_is_not_cut)
{
    const char *id = make_upload(8, "fourmore");

    tus_upload_release(ck_hold(id)); /* finishes it */
    plant_mark(id, 4);
    if (ways[_i] != by_inspect && ways[_i] != by_try) {
        ways[_i](id);
    }
    else {
        tus_upload_t *upload;

        ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
        ck_assert_int_eq(upload->offset, 8);
    }
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
    ck_assert_int_eq(calls_of("truncate"), 0);
    ck_ok(end_upload(id));
    ck_assert(!is_marked(id));
}
END_TEST

/* Finished between the look at the record and the fence, by a holder who could not unmark. */
static const char *finishing;

static void finish_it(void)
{
    scratch_put(data_of(finishing), "fourmore");
    plant_record(finishing,
                 apr_psprintf(unit_pool,
                              "{\"ID\":\"%s\",\"Size\":8,\"SizeIsDeferred\":false,\"MetaData\":{},"
                              "\"ModTus\":{\"Created\":\"2026-11-22T14:00:00.000000Z\","
                              "\"Finished\":\"2026-11-22T15:00:00.000000Z\"}}",
                              finishing));
    plant_mark(finishing, 4);
}

START_TEST(upload_finished_meanwhile_is_not_cut)
{
    tus_upload_t *upload;

    finishing = make_upload(8, "four");
    other_holds(finishing, 1);
    on_asked = finish_it;
    ck_ok(tus_upload_inspect(&upload, &core, finishing, unit_pool));
    ck_assert_int_eq(upload->offset, 8);
    ck_assert_str_eq(scratch_get(data_of(finishing)), "fourmore");
}
END_TEST

START_TEST(damaged_mark_is_an_error)
{
    const char *id = make_upload(8, "fourmo");
    tus_upload_t *upload;

    fail_call("marked", 1, TUS_EDAMAGED);
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR,
             TUS_EDAMAGED);
    fail_call("marked", 1, TUS_EDAMAGED);
    ck_error(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool),
             TUS_ERR_INTERNAL_SERVER_ERROR, TUS_EDAMAGED);
    ck_unfinished(id, "fourmo");
}
END_TEST

/* What is looked at may be discarded at this very moment, or begun. */
static tus_upload_t *running;
static void (*before_size)(void), (*after_size)(void);
static const tus_store_provider_t *beneath;

static apr_status_t size_meanwhile(tus_store_t *store, const tus_record_t *record, apr_off_t *size,
                                   apr_time_t *modified)
{
    apr_status_t rv;

    if (before_size) {
        before_size();
    }
    rv = beneath->size(store, record, size, modified);
    if (after_size) {
        after_size();
    }
    return rv;
}

static void begin_and_append(void)
{
    ck_ok(tus_chunk_begin(running, sha1()));
    ck_append(running, "mire");
}

static void discard_it(void)
{
    ck_ok(tus_chunk_discard(running, 4));
}

START_TEST(find_beside_a_chunk_counts_verified_bytes)
{
    const char *id = make_upload(8, "four");
    tus_store_provider_t store = *core.store->provider;
    tus_upload_t *upload;

    beneath = core.store->provider;
    running = ck_hold(id);
    if (_i) {
        begin_and_append();
    }
    before_size = _i ? NULL : begin_and_append;
    after_size = _i ? discard_it : NULL;
    store.size = size_meanwhile;
    core.store->provider = &store;
    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 4);
}
END_TEST

/* ---- errors -------------------------------------------------------------- */

/* As a PATCH does. The first error counts. */
static const tus_error_t *patch(const char *id, const char *text, const char *verified)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool);
    const tus_error_t *settled = NULL;

    if (!error) {
        error = tus_chunk_begin(upload, sha1());
    }
    if (!error) {
        error = tus_append(upload, text, 2);
        if (!error) {
            error = tus_append(upload, text + 2, strlen(text + 2));
        }
        if (!error) {
            error = verify(upload, verified);
        }
        settled = tus_append_end(upload);
    }
    tus_upload_release(upload);
    return error ? error : settled;
}

static const struct {
    const char *word;
    int nth;
} patch_calls[] = {
    { "marked", 1 },      { "mark-durable", 1 }, { "write", 1 }, { "write", 2 },
    { "note-change", 1 }, { "unmark", 1 },       { "flush", 1 }, { "locate", 1 },
    { "put-durable", 1 }, { "pre-finish", 1 },
};

START_TEST(failed_chunk_is_true_and_goes_on)
{
    const char *id = make_upload(8, "four");
    int descriptors = open_descriptors();
    tus_upload_t *upload;

    core.sync = TUS_SYNC_ALWAYS;
    fail_call(patch_calls[_i].word, patch_calls[_i].nth, EIO);
    ck_assert_ptr_nonnull(patch(id, "more", "more"));
    ck_nothing_held();
    ck_assert_int_eq(open_descriptors(), descriptors);
    upload = ck_hold(id);
    ck_assert_int_eq(upload->offset, stored(id));
    ck_assert(upload->offset == 4 || upload->offset == 8);
    ck_assert(!is_marked(id) || record_of(id)->finished); /* there it says nothing */
    tus_upload_release(upload);
    if (upload->offset == 4) {
        ck_ok(patch(id, "more", "more"));
    }
    ck_assert_str_eq(scratch_get(data_of(id)), "fourmore");
    ck_assert_int_gt(record_of(id)->finished, 0);
    ck_assert_int_eq(calls_of("post-finish"), 1);
}
END_TEST

static const struct {
    const char *word;
    int nth;
} discard_calls[] = { { "truncate", 1 }, { "flush", 1 }, { "unmark", 1 } };

START_TEST(failed_discard_goes_on)
{
    const char *id = make_upload(8, "four");
    int twice = _i >= COUNT(discard_calls);
    const char *word = discard_calls[_i % COUNT(discard_calls)].word;
    tus_upload_t *upload;

    core.sync = TUS_SYNC_ALWAYS;
    upload = ck_begin(id);
    ck_append(upload, "mire");
    fail_call(word, 1, EIO);
    ck_error(verify(upload, "more"), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    if (twice) { /* nor can it be done at the end */
        fail_call(word, 1, EIO);
    }
    if (tus_append_end(upload)) {
        ck_assert(twice);
    }
    ck_assert_int_eq(upload->finished_now, 0);
    tus_upload_release(upload);
    ck_nothing_held();
    fail_no_more();
    ck_assert_int_eq(calls_of("pre-finish"), 0);

    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 4);
    upload = ck_hold(id);
    ck_assert_int_eq(upload->offset, 4);
    tus_upload_release(upload);
    ck_unfinished(id, "four");
    ck_ok(patch(id, "more", "more"));
    ck_finished(id, "fourmore");
}
END_TEST

START_TEST(failed_recovery_holds_nothing)
{
    const char *id = make_marked(8, "fourmire", 4);
    int descriptors = open_descriptors();
    tus_upload_t *upload;

    core.sync = TUS_SYNC_ALWAYS;
    fail_call(discard_calls[_i].word, 1, EIO);
    ck_error(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool),
             TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    ck_nothing_held();
    ck_assert_int_eq(open_descriptors(), descriptors);
    ck_assert(is_marked(id));
    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 4);
    fail_call(discard_calls[_i].word, 1, EIO);
    ck_assert(!tus_upload_try(&upload, &core, id, unit_pool));
    ck_nothing_held();
    tus_upload_release(ck_hold(id));
    ck_unfinished(id, "four");
}
END_TEST

START_TEST(partial_write_of_a_chunk_is_gone)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_begin(id);

    fail_write(3, ENOSPC);
    ck_error(tus_append(upload, "more", 4), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_assert_int_eq(stored(id), 7);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_unfinished(id, "four");
}
END_TEST

START_TEST(mark_that_fails_takes_no_bytes)
{
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_hold(id);

    fail_call("mark", 1, ENOSPC);
    ck_error(tus_chunk_begin(upload, sha1()), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_assert_ptr_null(upload->digest);
    tus_upload_release(upload);
    ck_unfinished(id, "four");
}
END_TEST

/* ---- what is left of marks ----------------------------------------------- */

static void name_it(tus_upload_t *upload)
{
    upload->record->id = "chosen";
}

/* Another module may choose an id that was in use before. */
START_TEST(mark_of_a_forerunner_marks_nothing)
{
    tus_upload_t *upload;

    plant_mark("chosen", 2); /* its removal could not be ended */
    on_pre_create = name_it;
    upload = ck_create(12, _i);
    ck_append(upload, "four");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    upload = ck_hold("chosen");
    ck_assert_int_eq(upload->offset, 4);
    ck_append(upload, "morelast");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_finished("chosen", "fourmorelast");
}
END_TEST

START_TEST(mark_goes_with_its_upload)
{
    const char *id = make_marked(8, "fourmire", 4);

    ck_ok(end_upload(id));
    ck_assert(!is_marked(id));
}
END_TEST

/* The client hears that it failed and asks no more; the sweep ends what was begun. */
START_TEST(mark_goes_with_a_removal_cut_short)
{
    static const char *const words[] = { "drop", "unmark", "unlink" };
    const char *id = make_upload(8, "four");
    tus_upload_t *upload = ck_begin(id);

    ck_append(upload, "mire");
    fail_call(words[_i], 1, EIO);
    ck_assert_int_eq(tus_remove(upload), EIO);
    tus_upload_release(upload);
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert_ptr_null(record_json(id));
    ck_assert(!is_marked(id));
}
END_TEST

START_TEST(mark_goes_with_an_orphan)
{
    tus_upload_t *upload = ck_begin_creation(8, 1);
    const char *id = upload->record->id;

    ck_append(upload, "four");
    tus_upload_release(upload); /* as if it had died */
    settle_all();
    ck_assert_int_eq(settled_as(id), TUS_SETTLED_GONE);
    ck_assert(!scratch_exists(data_of(id)));
    ck_assert(!is_marked(id));
}
END_TEST

/* ---- killed -------------------------------------------------------------- */

static const char *victim;

static void patch_right(void)
{
    ck_ok(patch(victim, "more", "more"));
}

static void patch_wrong(void)
{
    ck_assert_ptr_nonnull(patch(victim, "mire", "more"));
}

static void patch_part(void)
{
    ck_ok(patch(victim, "mor", "mor"));
}

static void (*const deeds[])(void) = { patch_right, patch_wrong, patch_part };

/* Whatever was unverified is gone once somebody has held it, and never counts before. */
static void ck_goes_on(const char *id, int died)
{
    tus_upload_t *upload;
    apr_off_t found;

    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    found = upload->offset;
    ck_assert(found == 4 || found == 7 || found == 8);
    ck_assert(died || !is_marked(id));
    upload = ck_hold(id);
    ck_assert_int_eq(upload->offset, found);
    ck_assert_int_eq(upload->offset, stored(id));
    ck_assert(!is_marked(id));
    ck_assert_int_eq(strncmp(scratch_get(data_of(id)), "fourmore", (size_t)found), 0);
    if (!tus_commit_is_finished(upload)) {
        ck_append(upload, &"fourmore"[found]);
        ck_ok(tus_append_end(upload));
    }
    tus_upload_release(upload);
    ck_finished(id, "fourmore");
    ck_ok(end_upload(id));
}

START_TEST(killed_chunk_is_all_or_nothing)
{
    void (*deed)(void) = deeds[_i % COUNT(deeds)];
    int nth, old = 0, updated = 0;

    core.sync = (tus_sync_e)(_i / COUNT(deeds));
    settle_all();
    victim = make_upload(8, "four");
    for (nth = 1; died_at(nth, deed); nth++) {
        tus_upload_t *upload;

        ck_ok(tus_upload_find(&upload, &core, victim, unit_pool));
        *(upload->offset == 4 ? &old : &updated) += 1;
        ck_goes_on(victim, 1);
        settle_all();
        victim = make_upload(8, "four");
    }
    ck_assert_int_ge(nth, 14);
    ck_assert_int_ge(old, 10);
    if (deed == patch_wrong) {
        ck_assert_int_eq(updated, 0);
    }
    else {
        ck_assert_int_gt(updated, 0);
    }
    ck_goes_on(victim, 0);
}
END_TEST

/* The sweep comes first. */
START_TEST(killed_chunk_is_settled)
{
    void (*deed)(void) = deeds[_i % COUNT(deeds)];
    int nth;

    settle_all();
    victim = make_upload(8, "four");
    for (nth = 1; died_at(nth, deed); nth++) {
        settle_all();
        ck_goes_on(victim, 1);
        victim = make_upload(8, "four");
    }
    ck_goes_on(victim, 0);
}
END_TEST

static void create_whole(void)
{
    tus_upload_t *upload = ck_begin_creation(8, 1);

    ck_append(upload, "four");
    ck_append(upload, "more");
    ck_ok(verify(upload, "fourmore"));
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}

static void create_wrong(void)
{
    tus_upload_t *upload = ck_begin_creation(8, 1);

    ck_append(upload, "four");
    ck_append(upload, "mire");
    ck_error(verify(upload, "fourmore"), TUS_ERR_CHECKSUM_MISMATCH, APR_SUCCESS);
    ck_ok(tus_append_end(upload));
    tus_create_undo(upload);
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
        count += finfo.name[0] != '.';
    }
    apr_dir_close(dir);
    return count;
}

static void remove_finished(void)
{
    apr_dir_t *dir;
    apr_finfo_t finfo;

    ck_assert_int_eq(apr_dir_open(&dir, scratch_path("store"), unit_pool), APR_SUCCESS);
    while (apr_dir_read(&finfo, APR_FINFO_NAME, dir) == APR_SUCCESS) {
        const char *id = finfo.name;

        if (id[0] != '.' && !strchr(id, '.')) {
            if (record_of(id)->finished) {
                ck_finished(id, "fourmore");
            }
            else { /* the wrong one, dead before it was undone */
                ck_unfinished(id, "");
            }
            ck_ok(end_upload(id));
        }
    }
    apr_dir_close(dir);
}

START_TEST(killed_creation_is_all_or_nothing)
{
    void (*deed)(void) = _i ? create_wrong : create_whole;
    int nth;

    settle_all();
    for (nth = 1; died_at(nth, deed); nth++) {
        settle_all();
        ck_assert_int_le(files_in("store"), 2);
        remove_finished();
        ck_assert_int_eq(files_in("store"), 0);
        ck_assert_msg(files_in("state/unverified") == 0, "a mark is left after call %d", nth);
    }
    ck_assert_int_ge(nth, 12);
}
END_TEST

Suite *chunk_suite(void)
{
    Suite *suite = suite_create("chunk");
    TCase *tcase = add_core_case(suite, "verdict");

    tcase_add_loop_test(tcase, mark_goes_before_the_first_byte, 0, SYNCS);
    tcase_add_loop_test(tcase, right_chunk_counts, 0, SYNCS);
    tcase_add_test(tcase, mark_is_kept_until_the_bytes_are_as_durable);
    tcase_add_loop_test(tcase, wrong_chunk_is_gone, 0, SYNCS);
    tcase_add_test(tcase, wrong_last_chunk_finishes_nothing);
    tcase_add_loop_test(tcase, chunk_without_a_verdict_is_gone, 0, SYNCS);
    tcase_add_test(tcase, chunk_without_bytes);
    tcase_add_test(tcase, one_of_many_algorithms_decides);
    tcase_add_test(tcase, excess_bytes_are_not_digested);
    tcase_add_test(tcase, unknown_algorithm_marks_nothing);
    tcase_add_loop_test(tcase, length_goes_with_its_chunk, 0, 2);
    tcase_add_test(tcase, known_length_stays_with_a_wrong_chunk);
    tcase_add_loop_test(tcase, wrong_chunk_of_an_upload_of_tusd, 0, 2);
    tcase_add_test(tcase, whole_creation_is_verified);
    tcase_add_loop_test(tcase, creation_with_a_wrong_chunk_is_undone, 0, 2);
    tcase_add_loop_test(tcase, creation_cut_short_has_no_bytes, 0, 2);

    tcase = add_core_case(suite, "recovered");
    tcase_add_loop_test(tcase, marked_bytes_do_not_count, 0, COUNT(marked));
    tcase_add_loop_test(tcase, next_holder_cuts_them_off, 0, COUNT(marked));
    tcase_add_loop_test(tcase, marked_upload_is_finished_by_nobody, 0, COUNT(ways));
    tcase_add_test(tcase, mark_beyond_the_data);
    tcase_add_loop_test(tcase, finished_upload_is_not_cut, 0, COUNT(ways));
    tcase_add_test(tcase, upload_finished_meanwhile_is_not_cut);
    tcase_add_test(tcase, damaged_mark_is_an_error);
    tcase_add_loop_test(tcase, find_beside_a_chunk_counts_verified_bytes, 0, 2);

    tcase = add_core_case(suite, "failed");
    tcase_add_loop_test(tcase, failed_chunk_is_true_and_goes_on, 0, COUNT(patch_calls));
    tcase_add_loop_test(tcase, failed_discard_goes_on, 0, 2 * COUNT(discard_calls));
    tcase_add_loop_test(tcase, failed_recovery_holds_nothing, 0, COUNT(discard_calls));
    tcase_add_test(tcase, partial_write_of_a_chunk_is_gone);
    tcase_add_test(tcase, mark_that_fails_takes_no_bytes);
    tcase_add_loop_test(tcase, mark_of_a_forerunner_marks_nothing, 0, 2);
    tcase_add_test(tcase, mark_goes_with_its_upload);
    tcase_add_loop_test(tcase, mark_goes_with_a_removal_cut_short, 0, 3);
    tcase_add_test(tcase, mark_goes_with_an_orphan);

    tcase = add_core_case(suite, "killed");
    tcase_add_checked_fixture(tcase, keep_records_on_disk, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, killed_chunk_is_all_or_nothing, 0, SYNCS * COUNT(deeds));
    tcase_add_loop_test(tcase, killed_chunk_is_settled, 0, COUNT(deeds));
    tcase_add_loop_test(tcase, killed_creation_is_all_or_nothing, 0, 2);
    return suite;
}
