/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Concatenation: finals that are made, wait and are joined, beside other
 * requests at each of their calls, and by processes that die at each of them.
 */
#include "core_fakes.h"

#include <apr_file_info.h>
#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define LARGE (APR_INT64_C(1) << 62)

static tus_record_t *record_of(const char *id)
{
    tus_record_t *record = NULL;

    ck_assert_int_eq(core.meta->provider->get(core.meta, id, &record, unit_pool), APR_SUCCESS);
    return record;
}

/* ---- parts --------------------------------------------------------------- */

static tus_upload_t *ck_create_as(const char *owner, apr_off_t size, int is_partial)
{
    tus_creation_t creation = { .size = size, .owner = owner, .is_partial = is_partial };
    tus_upload_t *upload;

    ck_ok(tus_create(&upload, &core, &creation, unit_pool));
    return upload;
}

static const char *make_owned(const char *owner, apr_off_t size, int is_partial, const char *text)
{
    tus_upload_t *upload = ck_create_as(owner, size, is_partial);

    ck_append(upload, text);
    tus_upload_release(upload);
    return upload->record->id;
}

/* Whoever holds an upload that has all its bytes finishes it. */
static void finish(const char *id)
{
    tus_upload_release(ck_hold(id));
    ck_assert_int_gt(record_of(id)->finished, 0);
}

static const char *make_open_part(apr_off_t size, const char *text)
{
    return make_owned("alice", size, 1, text);
}

static const char *make_part(const char *text)
{
    const char *id = make_open_part((apr_off_t)strlen(text), text);

    finish(id);
    return id;
}

/* What a PATCH does that brings the rest, until it dies. */
static void fill_and_finish(const char *id, const char *text)
{
    tus_upload_t *upload = ck_hold(id);

    ck_append(upload, text);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
}

/* The same, and it lives. */
static const tus_error_t *fill_part(const char *id, const char *text)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool);

    if (!error && !tus_commit_is_finished(upload)) {
        error = tus_append(upload, text, strlen(text));
        if (!error) {
            error = tus_append_end(upload);
        }
    }
    tus_upload_release(upload);
    return error || !upload->finished_now ? error : tus_join_waiting(&core, id, unit_pool);
}

/* ---- finals -------------------------------------------------------------- */

/* The parts' ids, a space between them. */
static tus_creation_t final_of(const char *parts)
{
    tus_creation_t creation = { .owner = "alice", .concat = "final;/files/..." };
    char *last, *list = apr_pstrdup(unit_pool, parts);

    creation.parts = apr_array_make(unit_pool, 4, sizeof(const char *));
    for (char *id = apr_strtok(list, " ", &last); id; id = apr_strtok(NULL, " ", &last)) {
        APR_ARRAY_PUSH(creation.parts, const char *) = id;
    }
    return creation;
}

static const char *list(const char *a, const char *b)
{
    return apr_pstrcat(unit_pool, a, " ", b, NULL);
}

static const tus_error_t *try_join(tus_upload_t **final, const char *parts, int may_wait)
{
    tus_creation_t creation = final_of(parts);

    return tus_join_create(final, &core, &creation, may_wait, unit_pool);
}

static tus_upload_t *ck_join(const char *parts)
{
    tus_upload_t *final;

    ck_ok(try_join(&final, parts, 1));
    ck_assert_ptr_null(final->lock);
    ck_assert_ptr_null(final->writer);
    ck_nothing_held();
    return final;
}

static const char *make_waiting(const char *parts)
{
    tus_upload_t *final = ck_join(parts);

    ck_assert(!tus_commit_is_finished(final));
    calls();
    return final->record->id;
}

static void ck_refused(const char *parts, int may_wait, tus_err_e err, const char *named)
{
    tus_upload_t *final;
    const tus_error_t *error;

    calls();
    error = try_join(&final, parts, may_wait);
    ck_error(error, err, APR_SUCCESS);
    ck_assert_ptr_null(strstr(error->message, "(null)"));
    if (named) {
        ck_assert_msg(strstr(error->message, named) != NULL, "%s", error->message);
    }
    ck_nothing_held();
    ck_assert_ptr_null(strstr(calls(), "pre-create"));
}

static void ck_joined(const char *id, const char *text)
{
    tus_record_t *record = record_of(id);
    tus_upload_t *upload;

    ck_nothing_held();
    ck_assert_int_eq(record->is_final, 1);
    ck_assert_int_gt(record->finished, 0);
    ck_assert_int_eq(record->size, (apr_off_t)strlen(text));
    ck_assert_str_eq(scratch_get(data_of(id)), text);
    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, record->size);
}

static void ck_waiting(const char *id)
{
    tus_upload_t *upload;

    ck_nothing_held();
    ck_assert_int_eq(record_of(id)->finished, 0);
    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->offset, 0);
    ck_assert(!tus_commit_is_finished(upload));
    ck_assert(!tus_commit_has_all(upload));
}

static int files_in_store(void)
{
    apr_dir_t *dir;
    apr_finfo_t finfo;
    int count = 0;

    ck_assert_int_eq(apr_dir_open(&dir, scratch_path("store"), unit_pool), APR_SUCCESS);
    while (apr_dir_read(&finfo, APR_FINFO_NAME, dir) == APR_SUCCESS) {
        count += finfo.name[0] != '.';
    }
    apr_dir_close(dir);
    return count;
}

/* ---- what is joined ------------------------------------------------------ */

/* Linked before its record is there; the data noted before it is made, and synced before Finished.
 */
START_TEST(final_of_finished_parts_is_joined)
{
    const char *a = make_part("one");
    const char *b = make_part("three");
    tus_creation_t creation = final_of(list(b, a));
    const tus_record_t *record;
    tus_upload_t *final;

    creation.metadata = "filename YS50eHQ=";
    ck_ok(tus_metadata_parse(creation.metadata, &creation.pairs, unit_pool));
    calls();
    ck_ok(tus_join_create(&final, &core, &creation, _i, unit_pool));
    ck_assert_str_eq(calls(),
                     "get get"
                     " wait links pre-create try note-create create link will-create locate put"
                     " confirm post-create close release release"
                     " try get resume fence written get marked get get"
                     " note-change concat flush written pre-finish will-finish locate put-durable"
                     " post-finish close release get");
    ck_assert_ptr_null(final->lock);
    ck_assert_ptr_null(final->writer);
    ck_joined(final->record->id, "threeone");
    record = record_of(final->record->id);
    ck_assert_int_eq(record->ours, 1);
    ck_assert_int_eq(record->is_partial, 0);
    ck_assert_int_eq(record->parts->nelts, 2);
    ck_assert_str_eq(APR_ARRAY_IDX(record->parts, 0, const char *), b);
    ck_assert_str_eq(APR_ARRAY_IDX(record->parts, 1, const char *), a);
    ck_assert_str_eq(record->concat, creation.concat);
    ck_assert_str_eq(record->metadata, creation.metadata);
    ck_assert_str_eq(record->owner, "alice");
}
END_TEST

START_TEST(part_may_stand_there_twice)
{
    const char *a = make_part("a");
    const char *b = make_part("bb");
    tus_upload_t *final;

    final = ck_join(apr_pstrcat(unit_pool, a, " ", b, " ", a, " ", a, NULL));
    ck_joined(final->record->id, "abbaa");
    ck_joined(ck_join(list(b, b))->record->id, "bbbb");
}
END_TEST

START_TEST(part_is_read_once_however_often_it_is_named)
{
    const char *a = make_part("a");
    int gets = calls_of("get");

    ck_assert_int_eq(tus_join_length(&core,
                                     &(tus_record_t){ .size = TUS_SIZE_UNKNOWN,
                                                      .parts = final_of(list(a, a)).parts,
                                                      .owner = "alice" },
                                     unit_pool),
                     2);
    ck_assert_int_eq(calls_of("get") - gets, 1);
}
END_TEST

START_TEST(one_part_makes_a_final)
{
    ck_joined(ck_join(make_part("alone"))->record->id, "alone");
}
END_TEST

START_TEST(empty_parts_make_an_empty_final)
{
    const char *a = make_part("");
    const char *b = make_part("b");

    ck_joined(ck_join(list(a, a))->record->id, "");
    ck_joined(ck_join(apr_pstrcat(unit_pool, a, " ", b, " ", a, NULL))->record->id, "b");
}
END_TEST

START_TEST(part_of_tusd_is_joined)
{
    plant_record("t", "{\"ID\":\"t\",\"Size\":4,\"SizeIsDeferred\":false,\"MetaData\":{},"
                      "\"IsPartial\":true}");
    scratch_put("store/t", "tusd");
    ck_joined(ck_join(list(make_part("our"), "t"))->record->id, "ourtusd");
    scratch_put("store/t", "tus");
    ck_refused("t", 0, TUS_ERR_UPLOAD_NOT_FINISHED, "t");
}
END_TEST

/* Nobody is asked for a part, and nothing is written for a final. */
START_TEST(parts_are_only_read)
{
    const char *a = make_part("one");
    const char *b = make_open_part(5, "th");
    const char *json[] = { record_json(a), record_json(b) };
    const struct stat before[] = { scratch_stat(data_of(a)), scratch_stat(data_of(b)) };
    tus_upload_t *final;
    struct stat after;

    other_holds(a, 0);
    other_holds(b, 0);
    ck_ok(try_join(&final, list(a, a), 0));
    ck_assert(tus_commit_is_finished(final));
    ck_ok(try_join(&final, list(a, b), 1));
    ck_assert_int_eq(tus_join_length(&core, final->record, unit_pool), 8);
    ck_ok(tus_upload_inspect(&final, &core, final->record->id, unit_pool));
    ck_ok(tus_join_try(&core, final->record->id, unit_pool));
    ck_ok(tus_join_waiting(&core, b, unit_pool));
    ck_assert(!tus_commit_is_finished(final));
    ck_assert_int_eq(times_asked(), 0);
    ck_assert_ptr_eq(record_json(a), json[0]);
    ck_assert_ptr_eq(record_json(b), json[1]);
    after = scratch_stat(data_of(a));
    ck_assert_int_eq(after.st_mtim.tv_sec, before[0].st_mtim.tv_sec);
    ck_assert_int_eq(after.st_mtim.tv_nsec, before[0].st_mtim.tv_nsec);
    after = scratch_stat(data_of(b));
    ck_assert_int_eq(after.st_mtim.tv_sec, before[1].st_mtim.tv_sec);
    ck_assert_int_eq(after.st_mtim.tv_nsec, before[1].st_mtim.tv_nsec);
    other_lets_go(a);
    other_lets_go(b);
    ck_nothing_held();
}
END_TEST

/* ---- what is no part ----------------------------------------------------- */

static const struct {
    const char *part, *final;
    int allowed;
} owners[] = {
    { "alice", "alice", 1 }, { "alice", "bob", 0 }, { "alice", NULL, 0 },
    { NULL, "alice", 0 },    { NULL, NULL, 1 },
};

START_TEST(part_belongs_to_its_owner)
{
    const char *part = make_owned(owners[_i].part, 3, 1, "one");
    tus_creation_t creation = final_of(part);
    const tus_error_t *error;
    tus_upload_t *final;

    finish(part);
    creation.owner = owners[_i].final;
    error = tus_join_create(&final, &core, &creation, 1, unit_pool);
    if (owners[_i].allowed) {
        ck_ok(error);
        ck_joined(final->record->id, "one");
    }
    else {
        ck_error(error, TUS_ERR_INVALID_CONCAT, APR_SUCCESS);
        ck_assert_ptr_nonnull(strstr(error->message, part));
        ck_assert_int_eq(files_in_store(), 1);
    }
}
END_TEST

/* What tusd made has no owner. */
START_TEST(part_of_tusd_belongs_to_everybody)
{
    tus_creation_t creation = final_of("t");
    tus_upload_t *final;

    plant_record("t", "{\"ID\":\"t\",\"Size\":4,\"SizeIsDeferred\":false,\"MetaData\":{},"
                      "\"IsPartial\":true}");
    scratch_put("store/t", "tusd");
    creation.owner = owners[_i].final;
    ck_ok(tus_join_create(&final, &core, &creation, 1, unit_pool));
    ck_joined(final->record->id, "tusd");
}
END_TEST

START_TEST(other_uploads_are_no_parts)
{
    const char *part = make_part("one");
    const char *plain = make_owned("alice", 5, 0, "plain");
    const char *final = ck_join(part)->record->id;
    const char *waiting = make_waiting(make_open_part(5, ""));

    ck_refused(list(part, plain), 1, TUS_ERR_INVALID_CONCAT, plain);
    ck_refused(list(part, final), 1, TUS_ERR_INVALID_CONCAT, final);
    ck_refused(waiting, 1, TUS_ERR_INVALID_CONCAT, waiting);
    ck_refused(list(part, "missing"), 1, TUS_ERR_INVALID_CONCAT, "missing");
    ck_refused("../x", 1, TUS_ERR_INVALID_CONCAT, NULL);
    ck_refused("a.info", 1, TUS_ERR_INVALID_CONCAT, NULL);
}
END_TEST

static void name_it(tus_upload_t *upload)
{
    upload->record->id = "self";
}

START_TEST(final_is_no_part_of_itself)
{
    on_pre_create = name_it;
    ck_refused("self", 1, TUS_ERR_INVALID_CONCAT, "self");
    plant_record("self", "{\"ID\":\"self\",\"Size\":4,\"SizeIsDeferred\":false,\"MetaData\":{},"
                         "\"IsPartial\":true,\"IsFinal\":true,\"PartialUploads\":[\"self\"]}");
    scratch_put("store/self", "");
    ck_ok(tus_join_try(&core, "self", unit_pool));
    ck_assert_str_eq(scratch_get("store/self"), "");
    ck_refused("self", 1, TUS_ERR_INVALID_CONCAT, "self");
}
END_TEST

START_TEST(expired_part_is_no_part)
{
    const char *part;

    core.expire = apr_time_from_sec(1000);
    part = make_open_part(5, "");
    fake_time = apr_time_now() + apr_time_from_sec(2000);
    ck_refused(part, 1, TUS_ERR_INVALID_CONCAT, part);
    fake_time += apr_time_from_sec(1000);
    ck_refused(part, 1, TUS_ERR_INVALID_CONCAT, part);
}
END_TEST

/* The application was quicker: the part counts as complete, but there is nothing to join. */
START_TEST(part_whose_data_was_taken_is_none)
{
    const char *a = make_part("one");
    const char *b = make_part("two");
    const tus_error_t *error;
    tus_upload_t *final;

    ck_assert_int_eq(unlink(scratch_path(data_of(b))), 0);
    error = try_join(&final, list(a, b), 1);
    ck_error(error, TUS_ERR_INVALID_CONCAT, APR_SUCCESS);
    ck_nothing_held();
    ck_assert_int_eq(files_in_store(), 1);
    ck_assert_int_eq(calls_of("post-finish"), 2); /* the parts' */
}
END_TEST

START_TEST(part_that_was_changed_is_an_error)
{
    const char *part = make_part("one");
    tus_upload_t *final;

    scratch_put(data_of(part), _i ? "on" : "ones");
    ck_assert_ptr_nonnull(try_join(&final, part, 1));
    ck_nothing_held();
    ck_assert_int_eq(files_in_store(), 1);
}
END_TEST

START_TEST(too_many_parts)
{
    tus_creation_t creation = final_of(make_part("x"));
    const char *part = APR_ARRAY_IDX(creation.parts, 0, const char *);
    const tus_error_t *error;
    tus_upload_t *final;

    while (creation.parts->nelts < TUS_CONCAT_MAX) {
        APR_ARRAY_PUSH(creation.parts, const char *) = part;
    }
    ck_ok(tus_join_create(&final, &core, &creation, 1, unit_pool));
    ck_assert_int_eq(stored(final->record->id), TUS_CONCAT_MAX);
    APR_ARRAY_PUSH(creation.parts, const char *) = part;
    error = tus_join_create(&final, &core, &creation, 1, unit_pool);
    ck_error(error, TUS_ERR_INVALID_CONCAT, APR_SUCCESS);
    ck_assert_ptr_null(strstr(error->message, "(null)"));
}
END_TEST

/* ---- lengths ------------------------------------------------------------- */

START_TEST(final_is_not_larger_than_allowed)
{
    const char *a = make_part("four");
    const char *open = make_open_part(4, "");
    const char *deferred = make_open_part(TUS_SIZE_UNKNOWN, "");
    const char *waiting;
    tus_upload_t *final;

    core.max_size = 7;
    ck_refused(list(a, a), 0, TUS_ERR_MAX_SIZE_EXCEEDED, NULL);
    ck_refused(list(a, open), 1, TUS_ERR_MAX_SIZE_EXCEEDED, NULL);
    waiting = make_waiting(list(a, deferred));
    final = ck_hold(deferred);
    ck_ok(tus_append_declare(final, 4));
    ck_append(final, "more");
    ck_ok(tus_append_end(final));
    tus_upload_release(final);
    ck_error(tus_join_waiting(&core, deferred, unit_pool), TUS_ERR_MAX_SIZE_EXCEEDED, APR_SUCCESS);
    ck_waiting(waiting);
    ck_assert_int_eq(stored(waiting), 0);
    core.max_size = 8;
    ck_ok(tus_join_waiting(&core, deferred, unit_pool));
    ck_joined(waiting, "fourmore");
}
END_TEST

START_TEST(lengths_do_not_overflow)
{
    const char *a = make_open_part(LARGE, "");
    const char *b = make_open_part(LARGE - 1, "");
    const char *c = make_open_part(1, "");
    const char *deferred = make_open_part(TUS_SIZE_UNKNOWN, "");
    tus_upload_t *final;

    ck_refused(list(a, a), 1, TUS_ERR_MAX_SIZE_EXCEEDED, NULL);
    ck_refused(apr_pstrcat(unit_pool, b, " ", a, " ", c, NULL), 1, TUS_ERR_MAX_SIZE_EXCEEDED, NULL);
    final = ck_join(list(a, b));
    ck_assert_int_eq(final->record->size, APR_INT64_MAX);

    final = ck_join(list(deferred, a));
    ck_assert_int_eq(final->record->size, TUS_SIZE_UNKNOWN);
    ck_assert_int_eq(tus_join_length(&core, final->record, unit_pool), TUS_SIZE_UNKNOWN);
    final = ck_hold(deferred);
    ck_ok(tus_append_declare(final, LARGE));
    ck_ok(tus_append_end(final));
    tus_upload_release(final);
    ck_assert_int_eq(tus_join_length(&core,
                                     &(tus_record_t){ .size = TUS_SIZE_UNKNOWN,
                                                      .parts = final_of(list(deferred, a)).parts,
                                                      .owner = "alice" },
                                     unit_pool),
                     TUS_SIZE_UNKNOWN);
}
END_TEST

START_TEST(length_is_known_once_all_parts_have_one)
{
    const char *a = make_part("one");
    const char *deferred = make_open_part(TUS_SIZE_UNKNOWN, "th");
    const char *id = make_waiting(list(a, deferred));
    tus_upload_t *part;

    ck_assert_int_eq(record_of(id)->size, TUS_SIZE_UNKNOWN);
    ck_assert_int_eq(tus_join_length(&core, record_of(id), unit_pool), TUS_SIZE_UNKNOWN);
    part = ck_hold(deferred);
    ck_ok(tus_append_declare(part, 5));
    ck_ok(tus_append_end(part));
    tus_upload_release(part);
    ck_assert_int_eq(tus_join_length(&core, record_of(id), unit_pool), 8);
    ck_ok(fill_part(deferred, "ree"));
    ck_joined(id, "onethree");
    ck_assert_int_eq(tus_join_length(&core, record_of(id), unit_pool), 8);
}
END_TEST

START_TEST(length_of_what_is_no_final)
{
    tus_record_t *record = record_of(make_part("one"));

    ck_assert_int_eq(tus_join_length(&core, record, unit_pool), 3);
    record->size = TUS_SIZE_UNKNOWN;
    ck_assert_int_eq(tus_join_length(&core, record, unit_pool), TUS_SIZE_UNKNOWN);
}
END_TEST

/* ---- waiting ------------------------------------------------------------- */

START_TEST(unfinished_part_is_refused_where_nobody_may_wait)
{
    const char *a = make_part("one");
    const char *open = make_open_part(5, "th");

    ck_refused(list(a, open), 0, TUS_ERR_UPLOAD_NOT_FINISHED, open);
    ck_assert_int_eq(files_in_store(), 2);
    ck_assert_str_eq(links_of(a), "");
    ck_assert_str_eq(links_of(open), "");
}
END_TEST

START_TEST(final_waits_for_all_of_its_parts)
{
    const char *a = make_part("one");
    const char *b = make_open_part(5, "th");
    const char *c = make_open_part(3, "");
    const char *id = make_waiting(apr_pstrcat(unit_pool, c, " ", a, " ", b, " ", c, NULL));

    ck_waiting(id);
    ck_assert_int_eq(record_of(id)->size, 14);
    ck_assert_int_eq(stored(id), 0);
    ck_assert_str_eq(links_of(a), "");
    ck_assert_str_eq(links_of(b), id);
    ck_assert_str_eq(links_of(c), id);
    ck_ok(fill_part(b, "ree"));
    ck_waiting(id);
    ck_assert_int_eq(calls_of("concat"), 0);
    ck_ok(fill_part(c, "two"));
    ck_joined(id, "twoonethreetwo");
}
END_TEST

/* All that wait for a part are joined, though one of them cannot be. */
START_TEST(part_ends_the_waiting_of_many)
{
    const char *a = make_part("a");
    const char *b = make_open_part(1, "");
    const char *ids[3];

    ids[0] = make_waiting(list(a, b));
    ids[1] = make_waiting(list(b, a));
    ids[2] = make_waiting(b);
    ck_assert_str_eq(links_of(b), apr_pstrcat(unit_pool, ids[0], " ", ids[1], " ", ids[2], NULL));
    fail_call("concat", 2, ENOSPC);
    ck_error(fill_part(b, "b"), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_joined(ids[0], "ab");
    ck_waiting(ids[1]);
    ck_joined(ids[2], "b");
}
END_TEST

/* ---- later ----------------------------------------------------------------- */

static apr_array_header_t *left; /* of const char *: ids */

static void finish_later(void *baton, const tus_core_t *by, const tus_record_t *record)
{
    ck_assert_ptr_eq(baton, &core);
    ck_assert_ptr_eq(by, &core);
    APR_ARRAY_PUSH(left, const char *) = apr_pstrdup(unit_pool, record->id);
}

/* A sweep that has no time to finish anything; what it left is what the function returns. */
static const char *settle_leaving(void)
{
    left = apr_array_make(unit_pool, 4, sizeof(const char *));
    core.finish_later = finish_later;
    core.later = &core;
    settle_all();
    core.finish_later = NULL;
    return apr_array_pstrcat(unit_pool, left, ' ');
}

/* Again in each round, until it is done: it stays noted. */
START_TEST(full_upload_is_left_and_finished_late)
{
    const char *id = make_open_part(4, "four");

    journal(id, TUS_NOTE_CHANGE);
    fail_call("pre-finish", 1, APR_EGENERAL);
    for (int i = 0; i < 3; i++) {
        ck_assert_str_eq(settle_leaving(), id);
        ck_assert_int_eq(record_of(id)->finished, 0);
        if (i == 1) {
            ck_error(tus_late_finish(&core, id, unit_pool), TUS_ERR_UPLOAD_REJECTED, 0);
        }
    }
    ck_ok(tus_late_finish(&core, id, unit_pool));
    ck_assert_int_gt(record_of(id)->finished, 0);
    ck_nothing_held();
    settle_leaving();
    ck_assert_str_eq(settle_leaving(), "");
    ck_ok(tus_late_finish(&core, id, unit_pool));
}
END_TEST

/* One that waits for a part is not left, nor noted again. */
START_TEST(final_is_left_once_its_parts_are_finished)
{
    const char *a = make_part("a");
    const char *b = make_open_part(1, "");
    const char *id = make_waiting(list(a, b));
    tus_upload_t *upload;

    ck_assert_str_eq(settle_leaving(), "");
    ck_ok(tus_upload_hold(&upload, &core, b, NULL, NULL, unit_pool));
    ck_append(upload, "b");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    ck_assert_str_eq(settle_leaving(), id);
    ck_waiting(id);
    ck_assert_str_eq(settle_leaving(), id);
    ck_ok(tus_late_finish(&core, id, unit_pool));
    ck_joined(id, "ab");
}
END_TEST

/* Whoever holds it finishes it. */
START_TEST(late_finish_leaves_what_is_held)
{
    const char *id = make_open_part(4, "four");

    other_holds(id, 1);
    ck_ok(tus_late_finish(&core, id, unit_pool));
    ck_assert_int_eq(times_asked(), 0);
    other_lets_go(id);
    ck_ok(tus_late_finish(&core, "missing", unit_pool));
}
END_TEST

static void by_waiting(const char *id, const char *part)
{
    (void)id;
    ck_ok(tus_join_waiting(&core, part, unit_pool));
}

static void by_try(const char *id, const char *part)
{
    (void)part;
    ck_ok(tus_join_try(&core, id, unit_pool));
}

static void by_inspect(const char *id, const char *part)
{
    tus_upload_t *upload;

    (void)part;
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert(tus_commit_is_finished(upload));
    ck_assert_ptr_null(upload->lock);
}

static void by_settle(const char *id, const char *part)
{
    (void)id;
    (void)part;
    settle_all();
}

static void by_settling_the_part(const char *id, const char *part)
{
    (void)id;
    settle_all();
    journal(part, TUS_NOTE_CHANGE);
    settle_all();
}

static void (*const ways[])(const char *id, const char *part) = {
    by_waiting, by_try, by_inspect, by_settle, by_settling_the_part,
};

/* Its last part was finished by a request that died, or the join did at some byte. */
START_TEST(waiting_final_is_joined_by_whoever_comes)
{
    const char *a = make_part("one");
    const char *b = make_open_part(3, "two");
    const char *id = make_waiting(list(a, b));

    tus_upload_release(ck_hold(b));
    ck_waiting(id);
    if (_i >= COUNT(ways)) {
        scratch_put(data_of(id), "ontwo");
        ck_waiting(id);
    }
    ways[_i % COUNT(ways)](id, b);
    ck_joined(id, "onetwo");
    ck_assert_int_eq(calls_of("post-create"), 3);
    ck_assert_int_eq(calls_of("post-finish"), 3);
    ways[_i % COUNT(ways)](id, b);
    ck_assert_int_eq(calls_of("concat"), 1);
    ck_assert_int_eq(calls_of("post-finish"), 3);
}
END_TEST

START_TEST(busy_final_is_left_alone)
{
    const char *a = make_part("one");
    const char *b = make_open_part(3, "two");
    const char *id = make_waiting(list(a, b));
    tus_upload_t *upload;

    tus_upload_release(ck_hold(b));
    other_holds(id, _i);
    ck_ok(tus_join_waiting(&core, b, unit_pool));
    ck_ok(tus_join_try(&core, id, unit_pool));
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert(!tus_commit_is_finished(upload));
    ck_assert_int_eq(upload->offset, 0);
    ck_assert_int_eq(times_asked(), 0);
    ck_assert_int_eq(calls_of("concat"), 0);
    other_lets_go(id);
    ck_waiting(id);
}
END_TEST

/* Not in our table, but it has the fence. */
START_TEST(final_that_another_server_joins_is_left_alone)
{
    const char *a = make_part("one");
    const char *b = make_open_part(3, "two");
    const char *id = make_waiting(list(a, b));
    tus_upload_t *elsewhere;

    tus_upload_release(ck_hold(b));
    ck_assert(tus_upload_try(&elsewhere, &core, id, unit_pool));
    other_lets_go(id);
    ck_ok(tus_join_waiting(&core, b, unit_pool));
    ck_assert_int_eq(calls_of("concat"), 0);
    tus_upload_release(elsewhere);
    ck_waiting(id);
    ck_ok(tus_join_waiting(&core, b, unit_pool));
    ck_joined(id, "onetwo");
}
END_TEST

START_TEST(other_uploads_are_not_joined)
{
    const char *part = make_part("one");
    const char *open = make_open_part(8, "four");
    const char *plain = make_owned("alice", 8, 0, "four");
    const char *final = ck_join(part)->record->id;

    ck_ok(tus_join_try(&core, "missing", unit_pool));
    ck_ok(tus_join_try(&core, "../x", unit_pool));
    ck_ok(tus_join_try(&core, part, unit_pool));
    ck_ok(tus_join_try(&core, open, unit_pool));
    ck_ok(tus_join_try(&core, plain, unit_pool));
    ck_ok(tus_join_try(&core, final, unit_pool));
    ck_ok(tus_join_waiting(&core, "missing", unit_pool));
    ck_assert_int_eq(calls_of("concat"), 1);
    ck_joined(final, "one");
    ck_assert_str_eq(scratch_get(data_of(open)), "four");
    ck_nothing_held();
}
END_TEST

START_TEST(final_outlives_a_part_that_is_gone)
{
    const char *a = make_part("one");
    const char *b = make_open_part(3, "");
    const char *id = make_waiting(list(a, b));
    tus_upload_t *upload;

    ck_ok(end_upload(b));
    ck_assert_str_eq(links_of(b), "");
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_waiting(id);
    ck_ok(end_upload(id));
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_NOT_FOUND, 0);
    ck_joined(ck_join(a)->record->id, "one");
}
END_TEST

START_TEST(final_that_was_terminated_is_not_made)
{
    const char *a = make_part("one");
    const char *b = make_open_part(3, "");
    const char *id = make_waiting(list(a, b));

    ck_ok(end_upload(id));
    ck_ok(fill_part(b, "two"));
    ck_assert_int_eq(files_in_store(), 2);
    ck_assert_int_eq(calls_of("concat"), 0);
}
END_TEST

/* From that moment it is gone for clients, swept or not. */
START_TEST(final_that_has_expired_is_not_joined)
{
    const char *a = make_part("one");
    const char *b = make_open_part(3, "two");
    const char *id;
    tus_upload_t *upload;

    core.expire = apr_time_from_sec(1000);
    id = make_waiting(list(a, b));
    tus_upload_release(ck_hold(b));
    fake_time = apr_time_now() + apr_time_from_sec(1500);
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_GONE, APR_SUCCESS);
    ck_ok(tus_join_waiting(&core, b, unit_pool));
    ck_assert_int_eq(calls_of("concat"), 0);
    ck_error(tus_upload_find(&upload, &core, id, unit_pool), TUS_ERR_UPLOAD_GONE, APR_SUCCESS);
}
END_TEST

START_TEST(store_without_concat_joins_nothing)
{
    const char *a = make_part("one");
    const char *b = make_open_part(3, "two");
    const char *id = make_waiting(list(a, b));
    tus_store_provider_t store = *core.store->provider;
    tus_upload_t *upload;

    tus_upload_release(ck_hold(b));
    store.concat = NULL;
    core.store->provider = &store;
    ck_ok(tus_join_waiting(&core, b, unit_pool));
    ck_ok(tus_upload_inspect(&upload, &core, id, unit_pool));
    ck_assert(!tus_commit_is_finished(upload));
    ck_waiting(id);
}
END_TEST

/* ---- the same final again ------------------------------------------------ */

START_TEST(same_final_is_found)
{
    const char *a = make_part("one");
    const char *b = _i ? make_open_part(3, "") : make_part("two");
    const char *id = ck_join(list(a, b))->record->id;
    tus_upload_t *again = ck_join(list(a, b));

    ck_assert_str_eq(again->record->id, id);
    ck_assert_int_eq(again->created, 0);
    ck_assert_int_eq(!!tus_commit_is_finished(again), !_i);
    ck_assert_int_eq(calls_of("post-create"), 3);
    ck_assert_int_eq(calls_of("concat"), !_i);
    ck_assert_int_eq(files_in_store(), 3);
    if (_i) { /* as long as it waits */
        fake_time += 2 * core.lock_timeout;
        ck_assert_str_eq(ck_join(list(a, b))->record->id, id);
    }
}
END_TEST

static void set_metadata(tus_creation_t *creation, const char *header)
{
    creation->metadata = header;
    ck_ok(tus_metadata_parse(header, &creation->pairs, unit_pool));
}

static void other_metadata(tus_creation_t *creation)
{
    set_metadata(creation, "filename YS50eHQ=");
}

static void other_parts(tus_creation_t *creation)
{
    APR_ARRAY_PUSH(creation->parts, const char *) = APR_ARRAY_IDX(creation->parts, 0, const char *);
}

static void other_order(tus_creation_t *creation)
{
    const char **parts = (const char **)creation->parts->elts;
    const char *first = parts[0];

    parts[0] = parts[1];
    parts[1] = first;
}

static void later(tus_creation_t *creation)
{
    (void)creation;
    fake_time += core.lock_timeout + 1;
}

static void after_its_termination(tus_creation_t *creation)
{
    const char *first = APR_ARRAY_IDX(creation->parts, 0, const char *);

    ck_ok(end_upload(links_of(first)));
}

static void (*const differences[])(tus_creation_t *creation) = {
    other_metadata, other_parts, other_order, later, after_its_termination,
};

START_TEST(another_final_is_made)
{
    const char *a = make_part("one");
    const char *b = make_part("two");
    tus_creation_t creation = final_of(list(a, b));
    tus_upload_t *first, *second;

    ck_ok(tus_join_create(&first, &core, &creation, 1, unit_pool));
    differences[_i](&creation);
    ck_ok(tus_join_create(&second, &core, &creation, 1, unit_pool));
    ck_assert_str_ne(second->record->id, first->record->id);
    ck_assert_int_eq(second->created + tus_commit_is_finished(second), 1); /* found once made */
    ck_assert_int_eq(calls_of("concat"), 2);
}
END_TEST

/* Parts of nobody: their finals differ by owner alone. */
START_TEST(final_of_another_owner_is_another)
{
    tus_creation_t creation = final_of("t");
    tus_upload_t *first, *second;

    plant_record("t", "{\"ID\":\"t\",\"Size\":4,\"SizeIsDeferred\":false,\"MetaData\":{},"
                      "\"IsPartial\":true}");
    scratch_put("store/t", "tusd");
    ck_ok(tus_join_create(&first, &core, &creation, 1, unit_pool));
    creation.owner = _i ? NULL : "bob";
    ck_ok(tus_join_create(&second, &core, &creation, 1, unit_pool));
    ck_assert_str_ne(second->record->id, first->record->id);
    ck_ok(tus_join_create(&first, &core, &creation, 1, unit_pool));
    ck_assert_str_eq(second->record->id, first->record->id);
}
END_TEST

START_TEST(same_final_is_found_among_many)
{
    const char *a = make_part("one");
    tus_creation_t creation = final_of(a);
    tus_upload_t *first, *last;

    core.lock_timeout = apr_time_from_sec(20);
    for (int i = 0; i < 70; i++) {
        set_metadata(&creation, apr_psprintf(unit_pool, "n%d", i));
        ck_ok(tus_join_create(i ? &last : &first, &core, &creation, 1, unit_pool));
    }
    set_metadata(&creation, "n30");
    ck_ok(tus_join_create(&last, &core, &creation, 1, unit_pool));
    ck_assert_int_eq(calls_of("concat"), 70);
    ck_assert_str_eq(last->record->metadata, "n30");
}
END_TEST

START_TEST(finals_of_a_part_are_made_one_at_a_time)
{
    const char *a = make_part("one");
    const char *name = apr_pstrcat(unit_pool, "finals of ", a, NULL);
    tus_upload_t *final;

    ck_assert(!tus_id_is_valid(name));
    other_holds(name, 0);
    ck_error(try_join(&final, a, 1), TUS_ERR_UPLOAD_LOCKED, APR_SUCCESS);
    ck_assert_int_eq(files_in_store(), 1);
    other_holds(name, 1);
    ck_joined(ck_join(a)->record->id, "one");
}
END_TEST

/* ---- beside other requests ----------------------------------------------- */

static const char *parts, *last_part, *final_id;
static const tus_error_t *error_meanwhile;
static tus_upload_t *made_meanwhile;
static int happened;

static void finish_last_part(void)
{
    error_meanwhile = fill_part(last_part, "two");
}

static void inspect_the_final(void)
{
    tus_upload_t *upload;

    error_meanwhile = tus_upload_inspect(&upload, &core, final_id, unit_pool);
}

static void create_the_same(void)
{
    happened = 1;
    error_meanwhile = try_join(&made_meanwhile, parts, 1);
}

static void make_the_parts(void)
{
    const char *a = make_part("one");

    last_part = make_open_part(3, "");
    parts = list(a, last_part);
    error_meanwhile = NULL;
}

/* So that the finals of one round say nothing to the next. */
static void forget_links(void)
{
    const char *first = strtok(apr_pstrdup(unit_pool, parts), " ");

    ck_assert_int_eq(core.meta->provider->unlink(core.meta, first), APR_SUCCESS);
}

/* The last part is finished before the nth call of the creation. */
START_TEST(part_is_finished_while_its_final_is_made)
{
    int before, nth;

    for (nth = 1;; nth++) {
        tus_upload_t *final;

        make_the_parts();
        before = calls_of("post-finish");
        do_at(nth, finish_last_part);
        ck_ok(try_join(&final, parts, 1));
        ck_ok(error_meanwhile);
        if (record_of(last_part)->finished == 0) {
            break;
        }
        ck_joined(final->record->id, "onetwo");
        ck_assert_int_eq(calls_of("post-finish") - before, 2);
        ck_ok(end_upload(final->record->id));
    }
    ck_assert_int_ge(nth, 20);
}
END_TEST

static void inspect_it(void)
{
    tus_upload_t *upload;

    ck_ok(tus_upload_inspect(&upload, &core, final_id, unit_pool));
}

static void try_it(void)
{
    ck_ok(tus_join_try(&core, final_id, unit_pool));
}

static void sweep_it(void)
{
    journal(final_id, TUS_NOTE_CHANGE);
    settle_all();
}

static void (*const looks[])(void) = { inspect_it, try_it, sweep_it };

/* ... and before the nth call of somebody who looks at it. */
START_TEST(part_is_finished_while_its_final_is_looked_at)
{
    int nth;

    for (nth = 1;; nth++) {
        make_the_parts();
        final_id = make_waiting(parts);
        settle_all();
        do_at(nth, finish_last_part);
        looks[_i]();
        ck_ok(error_meanwhile);
        if (record_of(last_part)->finished == 0) {
            break;
        }
        ck_joined(final_id, "onetwo");
    }
    ck_assert_int_ge(nth, 10);
    do_at(0, NULL);
}
END_TEST

static void finish_first_part(void)
{
    error_meanwhile = fill_part(strtok(apr_pstrdup(unit_pool, parts), " "), "one");
}

static void finish_it_again(void)
{
    inspect_the_final();
}

static void end_the_final(void)
{
    error_meanwhile = end_upload(final_id);
}

/* Both parts at once: one of the two requests joins. */
START_TEST(parts_are_finished_at_the_same_time)
{
    int nth;

    for (nth = 1;; nth++) {
        const char *a = make_open_part(3, "");
        int before;

        last_part = make_open_part(3, "");
        parts = list(a, last_part);
        final_id = make_waiting(parts);
        before = calls_of("concat");
        do_at(nth, finish_first_part);
        ck_ok(fill_part(last_part, "two"));
        ck_ok(error_meanwhile);
        if (record_of(a)->finished == 0) {
            break;
        }
        ck_joined(final_id, "onetwo");
        ck_assert_int_eq(calls_of("concat") - before, 1);
    }
    ck_assert_int_ge(nth, 20);
    do_at(0, NULL);
}
END_TEST

/* Whoever looks while it is joined does not wait, and whoever ends it does. */
START_TEST(final_is_in_use_while_it_is_joined)
{
    void (*const deeds[])(void) = { finish_it_again, end_the_final };
    int nth;

    for (nth = 1; nth < 60; nth++) {
        make_the_parts();
        final_id = make_waiting(parts);
        do_at(nth, deeds[_i]);
        ck_ok(fill_part(last_part, "two"));
        do_at(0, NULL);
        ck_nothing_held();
        if (_i && !error_meanwhile && !record_json(final_id)) {
            ck_assert(!scratch_exists(data_of(final_id)));
        }
        else {
            ck_assert(!error_meanwhile || error_meanwhile->err == TUS_ERR_UPLOAD_LOCKED);
            ck_joined(final_id, "onetwo");
        }
    }
}
END_TEST

/* A client that lost patience asks again before the nth call of its first request. */
START_TEST(same_final_is_made_at_the_same_time)
{
    int nth, found = 0;

    make_the_parts();
    ck_ok(fill_part(last_part, "two"));
    for (nth = 1;; nth++) {
        int before = calls_of("post-create");
        tus_upload_t *final;

        happened = 0;
        fake_time += 2 * core.lock_timeout;
        do_at(nth, create_the_same);
        ck_ok(try_join(&final, parts, 1));
        if (!happened) {
            break;
        }
        ck_assert_int_eq(calls_of("post-create") - before, 1);
        if (error_meanwhile) {
            ck_error(error_meanwhile, TUS_ERR_UPLOAD_LOCKED, APR_SUCCESS);
        }
        else {
            ck_assert_str_eq(made_meanwhile->record->id, final->record->id);
            found++;
        }
        ck_joined(final->record->id, "onetwo");
        forget_links();
    }
    ck_assert_int_ge(found, 20);
    do_at(0, NULL);
}
END_TEST

/* ---- errors -------------------------------------------------------------- */

static void ck_parts_unharmed(void)
{
    const char *a = strtok(apr_pstrdup(unit_pool, parts), " ");

    ck_assert_str_eq(scratch_get(data_of(a)), "one");
    ck_assert_str_eq(scratch_get(data_of(last_part)), "two");
    ck_assert_int_gt(record_of(a)->finished, 0);
    ck_assert_int_gt(record_of(last_part)->finished, 0);
}

/* Its nth call fails: nothing is left, or the final that is had by asking again. */
START_TEST(failed_creation_of_a_final_is_all_or_nothing)
{
    int descriptors, failed = 0, kept = 0, nth;

    make_the_parts();
    ck_ok(fill_part(last_part, "two"));
    descriptors = open_descriptors();
    for (nth = 1;; nth++) {
        const tus_error_t *error;
        tus_upload_t *final;

        calls();
        fail_at(nth, EIO);
        error = try_join(&final, parts, 1);
        if (is_failure_ahead()) {
            ck_ok(error);
            break;
        }
        ck_nothing_held();
        ck_assert_int_eq(open_descriptors(), descriptors);
        failed += error != NULL;
        if (files_in_store() > 2) {
            const char *id = links_of(strtok(apr_pstrdup(unit_pool, parts), " "));

            ck_ok(tus_upload_inspect(&final, &core, id, unit_pool));
            ck_joined(id, "onetwo");
            ck_assert_str_eq(ck_join(parts)->record->id, id);
            ck_ok(end_upload(id));
            kept += error != NULL;
        }
        ck_assert_int_eq(files_in_store(), 2);
        ck_parts_unharmed();
        forget_links();
    }
    fail_no_more();
    ck_assert_int_ge(failed, 15);
    ck_assert_int_le(kept, 2); /* where nothing but the last look at it failed */
}
END_TEST

/* What waits goes on waiting, and gives back the room that it took. */
START_TEST(failed_join_can_be_tried_again)
{
    int descriptors = -1, failed = 0, nth;

    for (nth = 1;; nth++) {
        const tus_error_t *error;
        tus_upload_t *upload;

        make_the_parts();
        final_id = make_waiting(parts);
        fill_and_finish(last_part, "two");
        if (descriptors < 0) {
            descriptors = open_descriptors();
        }
        fail_at(nth, ENOSPC);
        error = tus_join_waiting(&core, last_part, unit_pool);
        if (is_failure_ahead()) {
            ck_ok(error);
            break;
        }
        ck_nothing_held();
        ck_assert_int_eq(open_descriptors(), descriptors);
        if (error) {
            ck_waiting(final_id);
            failed++;
        }
        ck_ok(tus_upload_inspect(&upload, &core, final_id, unit_pool));
        ck_joined(final_id, "onetwo");
        ck_parts_unharmed();
    }
    fail_no_more();
    ck_assert_int_ge(failed, 8);
}
END_TEST

START_TEST(full_disk_gets_its_room_back)
{
    tus_upload_t *final;

    make_the_parts();
    final_id = make_waiting(parts);
    fail_call("concat", 1, ENOSPC);
    scratch_put(data_of(final_id), "onet");
    ck_error(fill_part(last_part, "two"), TUS_ERR_INSUFFICIENT_STORAGE, ENOSPC);
    ck_assert_int_eq(stored(final_id), 0);
    ck_waiting(final_id);
    fail_call("concat", 1, ENOSPC);
    ck_error(tus_upload_inspect(&final, &core, final_id, unit_pool), TUS_ERR_INSUFFICIENT_STORAGE,
             ENOSPC);
    ck_ok(tus_upload_inspect(&final, &core, final_id, unit_pool));
    ck_joined(final_id, "onetwo");
}
END_TEST

/* A module that does not want it leaves it unfinished, and is asked again. */
START_TEST(refused_final_is_unfinished)
{
    tus_upload_t *final;

    make_the_parts();
    final_id = make_waiting(parts);
    fill_and_finish(last_part, "two");
    fail_call("pre-finish", 1, APR_EGENERAL);
    ck_error(tus_join_waiting(&core, last_part, unit_pool), TUS_ERR_UPLOAD_REJECTED, APR_SUCCESS);
    ck_waiting(final_id);
    ck_ok(tus_upload_inspect(&final, &core, final_id, unit_pool));
    ck_joined(final_id, "onetwo");
}
END_TEST

/* The record was written, and only then something failed: it may be finished by what it says. */
static const tus_meta_provider_t *beneath;

static apr_status_t put_and_fail(tus_meta_t *meta, const tus_record_t *record, int durable,
                                 apr_pool_t *p)
{
    apr_status_t rv = beneath->put(meta, record, durable, p);

    return rv == APR_SUCCESS && record->finished ? EIO : rv;
}

START_TEST(final_whose_record_was_written_has_its_bytes)
{
    tus_meta_provider_t meta = *core.meta->provider;

    make_the_parts();
    final_id = make_waiting(parts);
    fill_and_finish(last_part, "two");
    beneath = core.meta->provider;
    meta.put = put_and_fail;
    core.meta->provider = &meta;
    ck_error(tus_join_waiting(&core, last_part, unit_pool), TUS_ERR_INTERNAL_SERVER_ERROR, EIO);
    core.meta->provider = beneath;
    if (record_of(final_id)->finished) {
        ck_joined(final_id, "onetwo");
    }
    else {
        ck_waiting(final_id);
    }
}
END_TEST

static int cancelled(void *baton)
{
    (void)baton;
    return 1;
}

START_TEST(cancelled_join_waits_on)
{
    static const tus_cancel_t cancel = { cancelled, NULL };
    tus_upload_t *final;

    make_the_parts();
    final_id = make_waiting(parts);
    core.cancel = &cancel;
    ck_assert_ptr_nonnull(fill_part(last_part, "two"));
    ck_waiting(final_id);
    ck_assert_int_eq(stored(final_id), 0);
    core.cancel = NULL;
    ck_ok(tus_upload_inspect(&final, &core, final_id, unit_pool));
    ck_joined(final_id, "onetwo");
}
END_TEST

/* HEAD, by whoever was told of the same final. */
static void look_at_the_same(void)
{
    const char *id = links_of(strtok(apr_pstrdup(unit_pool, parts), " "));
    tus_upload_t *upload;

    if (*id && !tus_upload_inspect(&upload, &core, id, unit_pool)
        && tus_commit_is_finished(upload)) {
        final_id = id;
    }
}

/* Our join failed, but who asked meanwhile could do it, and was told so. */
START_TEST(final_that_another_finished_is_not_undone)
{
    int kept = 0;

    for (int nth = 1; nth < 60; nth++) {
        tus_upload_t *final;

        make_the_parts();
        ck_ok(fill_part(last_part, "two"));
        final_id = NULL;
        fail_call("concat", 1, ENOSPC);
        do_at(nth, look_at_the_same);
        (void)try_join(&final, parts, 1);
        fail_no_more();
        do_at(0, NULL);
        ck_nothing_held();
        if (final_id) {
            ck_joined(final_id, "onetwo");
            kept++;
        }
    }
    ck_assert_int_ge(kept, 1);
}
END_TEST

/* ---- killed -------------------------------------------------------------- */

static void create_it(void)
{
    ck_joined(ck_join(parts)->record->id, "onetwo");
}

static void finish_last(void)
{
    ck_ok(fill_part(last_part, "two"));
}

static int ids_in(const char *links)
{
    int count = *links != '\0';

    for (; *links; links++) {
        count += *links == ' ';
    }
    return count;
}

static void settle_twice(void)
{
    settle_all();
    settle_all(); /* what the first has finished is told to the index */
}

START_TEST(killed_creation_is_all_or_nothing)
{
    const char *first;
    int nth, made = 0;

    settle_all();
    make_the_parts();
    ck_ok(fill_part(last_part, "two"));
    first = strtok(apr_pstrdup(unit_pool, parts), " ");
    for (nth = 1; died_at(nth, create_it); nth++) {
        const char *id = links_of(first);
        tus_upload_t *final;

        ck_assert_int_le(ids_in(id), 1);
        if (!_i) {
            settle_twice();
        }
        if (*id && !tus_upload_inspect(&final, &core, id, unit_pool)) {
            ck_joined(id, "onetwo");
            settle_twice();
            ck_assert(is_indexed(id));
            ck_ok(end_upload(id));
            made++;
        }
        settle_twice();
        ck_parts_unharmed();
        ck_assert_int_eq(files_in_store(), 4); /* data and records of the parts */
        forget_links();
    }
    ck_assert_int_ge(nth, 30);
    ck_assert_int_ge(made, 10);
    ck_joined(links_of(first), "onetwo");
}
END_TEST

/* As a client does that goes on: HEAD, PATCH, and HEAD of the final. */
static void go_on(void)
{
    tus_upload_t *upload;

    ck_ok(tus_upload_inspect(&upload, &core, last_part, unit_pool));
    if (upload->finished_now) {
        ck_ok(tus_join_waiting(&core, last_part, unit_pool));
    }
    ck_ok(fill_part(last_part, &"two"[upload->offset]));
    ck_ok(tus_upload_inspect(&upload, &core, final_id, unit_pool));
}

START_TEST(killed_last_part_is_followed_by_its_final)
{
    int nth, settled = 0;

    settle_all();
    make_the_parts();
    final_id = make_waiting(parts);
    for (nth = 1; died_at(nth, finish_last); nth++) {
        if (!_i) {
            settle_twice();
            if (stored(last_part) == 3) { /* nobody has to ask for it */
                ck_joined(final_id, "onetwo");
                ck_assert(is_indexed(final_id));
                settled++;
            }
        }
        go_on();
        ck_joined(final_id, "onetwo");
        ck_parts_unharmed();
        settle_twice();
        ck_ok(end_upload(final_id));
        make_the_parts();
        final_id = make_waiting(parts);
    }
    ck_assert_int_ge(nth, 25);
    ck_assert(_i || settled >= 10);
    ck_joined(final_id, "onetwo");
}
END_TEST

/* The sweep comes while it is joined, and finds it held; then the joining process dies. */
static const tus_store_provider_t *store_beneath;

static apr_status_t concat_and_die(tus_writer_t *writer, const apr_array_header_t *records,
                                   const tus_cancel_t *cancel)
{
    ck_assert_int_eq(store_beneath->concat(writer, records, cancel), APR_SUCCESS);
    settle_twice();
    die_at(1);
    store_beneath->flush(writer);
    return APR_SUCCESS;
}

START_TEST(sweep_follows_who_died_joining)
{
    tus_store_provider_t store = *core.store->provider;

    settle_all();
    make_the_parts();
    final_id = make_waiting(parts);
    settle_twice();
    store_beneath = core.store->provider;
    store.concat = concat_and_die;
    core.store->provider = &store;
    ck_assert(died_at(0, finish_last));
    core.store->provider = store_beneath;
    ck_waiting(final_id);
    settle_twice();
    ck_joined(final_id, "onetwo");
}
END_TEST

Suite *join_suite(void)
{
    Suite *suite = suite_create("join");
    TCase *tcase = add_core_case(suite, "joined");

    tcase_add_loop_test(tcase, final_of_finished_parts_is_joined, 0, 2);
    tcase_add_test(tcase, part_may_stand_there_twice);
    tcase_add_test(tcase, part_is_read_once_however_often_it_is_named);
    tcase_add_test(tcase, one_part_makes_a_final);
    tcase_add_test(tcase, empty_parts_make_an_empty_final);
    tcase_add_test(tcase, part_of_tusd_is_joined);
    tcase_add_test(tcase, parts_are_only_read);

    tcase = add_core_case(suite, "refused");
    tcase_add_loop_test(tcase, part_belongs_to_its_owner, 0, COUNT(owners));
    tcase_add_loop_test(tcase, part_of_tusd_belongs_to_everybody, 1, 3);
    tcase_add_test(tcase, other_uploads_are_no_parts);
    tcase_add_test(tcase, final_is_no_part_of_itself);
    tcase_add_test(tcase, expired_part_is_no_part);
    tcase_add_test(tcase, part_whose_data_was_taken_is_none);
    tcase_add_loop_test(tcase, part_that_was_changed_is_an_error, 0, 2);
    tcase_add_test(tcase, too_many_parts);
    tcase_add_test(tcase, final_is_not_larger_than_allowed);
    tcase_add_test(tcase, lengths_do_not_overflow);
    tcase_add_test(tcase, length_is_known_once_all_parts_have_one);
    tcase_add_test(tcase, length_of_what_is_no_final);

    tcase = add_core_case(suite, "waiting");
    tcase_add_test(tcase, unfinished_part_is_refused_where_nobody_may_wait);
    tcase_add_test(tcase, final_waits_for_all_of_its_parts);
    tcase_add_test(tcase, part_ends_the_waiting_of_many);
    tcase_add_test(tcase, full_upload_is_left_and_finished_late);
    tcase_add_test(tcase, final_is_left_once_its_parts_are_finished);
    tcase_add_test(tcase, late_finish_leaves_what_is_held);
    tcase_add_loop_test(tcase, waiting_final_is_joined_by_whoever_comes, 0, 2 * COUNT(ways));
    tcase_add_loop_test(tcase, busy_final_is_left_alone, 0, 2);
    tcase_add_test(tcase, final_that_another_server_joins_is_left_alone);
    tcase_add_test(tcase, other_uploads_are_not_joined);
    tcase_add_test(tcase, final_outlives_a_part_that_is_gone);
    tcase_add_test(tcase, final_that_was_terminated_is_not_made);
    tcase_add_test(tcase, final_that_has_expired_is_not_joined);
    tcase_add_test(tcase, store_without_concat_joins_nothing);

    tcase = add_core_case(suite, "same");
    tcase_add_loop_test(tcase, same_final_is_found, 0, 2);
    tcase_add_loop_test(tcase, another_final_is_made, 0, COUNT(differences));
    tcase_add_loop_test(tcase, final_of_another_owner_is_another, 0, 2);
    tcase_add_test(tcase, same_final_is_found_among_many);
    tcase_add_test(tcase, finals_of_a_part_are_made_one_at_a_time);

    tcase = add_core_case(suite, "meanwhile");
    tcase_add_test(tcase, part_is_finished_while_its_final_is_made);
    tcase_add_loop_test(tcase, part_is_finished_while_its_final_is_looked_at, 0, COUNT(looks));
    tcase_add_test(tcase, parts_are_finished_at_the_same_time);
    tcase_add_loop_test(tcase, final_is_in_use_while_it_is_joined, 0, 2);
    tcase_add_test(tcase, same_final_is_made_at_the_same_time);
    tcase_add_test(tcase, final_that_another_finished_is_not_undone);

    tcase = add_core_case(suite, "failed");
    tcase_add_test(tcase, failed_creation_of_a_final_is_all_or_nothing);
    tcase_add_test(tcase, failed_join_can_be_tried_again);
    tcase_add_test(tcase, full_disk_gets_its_room_back);
    tcase_add_test(tcase, refused_final_is_unfinished);
    tcase_add_test(tcase, final_whose_record_was_written_has_its_bytes);
    tcase_add_test(tcase, cancelled_join_waits_on);

    tcase = add_core_case(suite, "killed");
    tcase_add_checked_fixture(tcase, keep_records_on_disk, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, killed_creation_is_all_or_nothing, 0, 2);
    tcase_add_loop_test(tcase, killed_last_part_is_followed_by_its_final, 0, 2);
    tcase_add_test(tcase, sweep_follows_who_died_joining);
    return suite;
}
