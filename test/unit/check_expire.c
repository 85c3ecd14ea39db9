/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Expiry: the moment from which an upload is gone, and the sweep that removes
 * it, whatever fails and whoever dies meanwhile. Time stands still but where a
 * test lets it go on; what the system says of a file is set to it.
 */
#include "core_fakes.h"

#include <apr_file_info.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define EXPIRE apr_time_from_sec(1000)
/* What is busy or has failed is looked at again within this time. */
#define SOON apr_time_from_sec(60)
#define BATCH 1000

static apr_time_t stand_still(void)
{
    return fake_time;
}

static void setup(void)
{
    core.now = stand_still;
    core.expire = EXPIRE;
}

static void setup_on_disk(void)
{
    keep_records_on_disk();
    setup();
}

/* When its bytes last changed. */
static void touch(const char *id, apr_time_t when)
{
    struct timespec times[2];

    times[0].tv_sec = times[1].tv_sec = (time_t)apr_time_sec(when);
    times[0].tv_nsec = times[1].tv_nsec = (long)apr_time_usec(when) * 1000;
    ck_assert_int_eq(utimensat(AT_FDCWD, scratch_path(data_of(id)), times, AT_SYMLINK_NOFOLLOW), 0);
}

/* Its last byte came just now. */
static const char *make_here(apr_off_t size, const char *text)
{
    const char *id = make_upload(size, text);

    touch(id, fake_time);
    return id;
}

static tus_record_t *record_of(const char *id)
{
    tus_record_t *record = NULL;
    apr_status_t rv = core.meta->provider->get(core.meta, id, &record, unit_pool);

    ck_assert(rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv));
    return rv == APR_SUCCESS ? record : NULL;
}

static apr_time_t sweep(void)
{
    apr_time_t next = 1;

    ck_assert_int_eq(tus_expire(&core, &next, unit_pool), APR_SUCCESS);
    ck_nothing_held();
    return next;
}

static apr_time_t sweep_at(apr_time_t when)
{
    fake_time = when;
    return sweep();
}

static void ck_is(const char *id, tus_err_e err)
{
    tus_upload_t *upload;

    ck_error(tus_upload_find(&upload, &core, id, unit_pool), err, APR_SUCCESS);
}

static void ck_lives(const char *id, const char *text)
{
    tus_upload_t *upload;

    ck_nothing_held();
    ck_ok(tus_upload_find(&upload, &core, id, unit_pool));
    ck_assert_int_eq(upload->record->expired, 0);
    ck_assert_str_eq(scratch_get(data_of(id)), text);
}

/* Data gone, record remembered. */
static void ck_expired(const char *id, apr_time_t at)
{
    ck_assert_ptr_nonnull(record_of(id));
    ck_assert_int_eq(record_of(id)->expired, at);
    ck_assert(!scratch_exists(data_of(id)));
    ck_assert(!is_marked(id));
    ck_assert_str_eq(links_of(id), "");
    ck_is(id, TUS_ERR_UPLOAD_GONE);
}

static void ck_forgotten(const char *id)
{
    ck_assert_ptr_null(record_of(id));
    ck_assert(!scratch_exists(data_of(id)));
    ck_assert(!is_marked(id));
    ck_assert_str_eq(links_of(id), "");
    ck_is(id, TUS_ERR_UPLOAD_NOT_FOUND);
}

/* ---- the moment ---------------------------------------------------------- */

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

static const way_fn ways[] = { by_find, by_hold, by_inspect };

static const tus_error_t *try_at(way_fn way, const char *id, apr_time_t when)
{
    tus_upload_t *upload;
    const tus_error_t *error;

    fake_time = when;
    error = way(&upload, id);
    tus_upload_release(upload);
    ck_nothing_held();
    if (error) {
        ck_assert_int_eq(error->rv, APR_SUCCESS);
    }
    return error;
}

static void ck_soon(apr_time_t next)
{
    ck_assert_int_gt(next, fake_time);
    ck_assert_int_le(next, fake_time + SOON);
}

/* Swept or not. */
START_TEST(upload_is_gone_from_a_moment_on)
{
    const char *id = make_here(8, "four");
    apr_time_t at = fake_time + EXPIRE;
    int is_swept = _i >= COUNT(ways);
    way_fn way = ways[_i % COUNT(ways)];

    ck_ok(try_at(way, id, at - 1));
    if (is_swept) {
        sweep_at(at);
    }
    ck_assert_int_eq(try_at(way, id, at)->err, TUS_ERR_UPLOAD_GONE);
    ck_assert_int_eq(try_at(way, id, at + EXPIRE - 1)->err, TUS_ERR_UPLOAD_GONE);
    ck_assert_int_eq(try_at(way, id, at + EXPIRE)->err, TUS_ERR_UPLOAD_NOT_FOUND);
    ck_assert_int_eq(try_at(way, id, at + 10 * EXPIRE)->err, TUS_ERR_UPLOAD_NOT_FOUND);
    if (!is_swept) {
        ck_assert_str_eq(scratch_get(data_of(id)), "four");
    }
    fake_time = at;
    ck_error(end_upload(id), TUS_ERR_UPLOAD_GONE, APR_SUCCESS);
    ck_assert_int_eq(calls_of("pre-terminate"), 0);
}
END_TEST

START_TEST(gone_upload_disturbs_no_holder)
{
    const char *id = make_here(8, "four");

    other_holds(id, 1);
    fake_time += EXPIRE;
    ck_is(id, TUS_ERR_UPLOAD_GONE);
    ck_error(end_upload(id), TUS_ERR_UPLOAD_GONE, APR_SUCCESS);
    ck_assert_int_eq(times_asked(), 0);
}
END_TEST

/* Once it was said to be gone, it stays so when the clock is put back. */
START_TEST(expired_upload_does_not_come_back)
{
    const char *id = make_here(8, "four");
    apr_time_t at = fake_time + EXPIRE;

    sweep_at(at);
    ck_expired(id, at);
    fake_time = at - EXPIRE / 2;
    ck_is(id, TUS_ERR_UPLOAD_GONE);
}
END_TEST

START_TEST(moment_slides_with_the_bytes)
{
    tus_upload_t *upload = ck_create(12, 0);
    const char *id = upload->record->id;

    ck_assert_int_eq(tus_expire_at(upload), fake_time + EXPIRE);
    fake_time += EXPIRE / 2;
    ck_assert_int_eq(tus_expire_at(upload), fake_time + EXPIRE / 2);
    ck_append(upload, "four");
    ck_assert_int_eq(tus_expire_at(upload), fake_time + EXPIRE);
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    touch(id, fake_time);
    ck_ok(by_find(&upload, id));
    ck_assert_int_eq(tus_expire_at(upload), fake_time + EXPIRE);
    fake_time += EXPIRE - 1;
    upload = ck_hold(id);
    ck_assert_int_eq(tus_expire_at(upload), fake_time + 1);
    ck_append(upload, "more");
    ck_assert_int_eq(tus_expire_at(upload), fake_time + EXPIRE);
    ck_append(upload, "last");
    ck_assert_int_eq(tus_expire_at(upload), 0); /* it has all its bytes */
    ck_ok(tus_append_end(upload));
    ck_assert_int_eq(tus_expire_at(upload), 0);
    ck_assert_int_eq(upload->record->expire, EXPIRE); /* to be remembered so long */
}
END_TEST

START_TEST(record_keeps_what_it_was_created_under)
{
    const char *id = make_here(8, "four");
    tus_upload_t *upload;

    core.expire = _i ? 2 * EXPIRE : 0;
    ck_ok(by_find(&upload, id));
    ck_assert_int_eq(tus_expire_at(upload), fake_time + EXPIRE);
    fake_time += EXPIRE;
    ck_is(id, TUS_ERR_UPLOAD_GONE);
}
END_TEST

START_TEST(upload_without_expire_stays)
{
    const char *id;
    tus_upload_t *upload;

    core.expire = 0;
    id = make_here(8, "four");
    core.expire = EXPIRE;
    ck_assert_int_eq(sweep_at(fake_time + 1000 * EXPIRE), 0);
    ck_lives(id, "four");
    ck_ok(by_find(&upload, id));
    ck_assert_int_eq(tus_expire_at(upload), 0);
    ck_assert(!tus_expire_is_over(upload));
}
END_TEST

START_TEST(final_that_waits_expires)
{
    tus_creation_t part = { .size = 3, .is_partial = 1 };
    tus_creation_t creation = { .parts = apr_array_make(unit_pool, 1, sizeof(const char *)) };
    tus_upload_t *upload;
    const char *id;

    ck_ok(tus_create(&upload, &core, &part, unit_pool));
    tus_upload_release(upload);
    touch(upload->record->id, fake_time);
    APR_ARRAY_PUSH(creation.parts, const char *) = upload->record->id;
    ck_ok(tus_join_create(&upload, &core, &creation, 1, unit_pool));
    id = upload->record->id;
    touch(id, fake_time);
    ck_ok(by_find(&upload, id));
    ck_assert_int_eq(tus_expire_at(upload), fake_time + EXPIRE);
    sweep_at(fake_time + EXPIRE);
    ck_expired(id, fake_time);
    ck_expired(APR_ARRAY_IDX(creation.parts, 0, const char *), fake_time);
}
END_TEST

/* ---- sweeping ------------------------------------------------------------ */

START_TEST(expired_upload_is_removed_and_then_forgotten)
{
    const char *id = make_here(8, "four");
    apr_time_t at = fake_time + EXPIRE;

    plant_mark(id, 4);
    core.meta->provider->link(core.meta, id, "final");
    ck_assert_int_eq(sweep(), at);
    ck_assert_int_eq(sweep_at(at - 1), at);
    ck_lives(id, "four");
    ck_assert_int_eq(sweep_at(at), at + EXPIRE);
    ck_expired(id, at);
    ck_assert_int_eq(calls_of("expired"), 1);
    ck_assert_int_eq(sweep_at(at + EXPIRE - 1), at + EXPIRE);
    ck_expired(id, at);
    ck_assert_int_eq(sweep_at(at + EXPIRE), 0);
    ck_forgotten(id);
    ck_assert_int_eq(calls_of("expired"), 1);
    ck_assert_int_eq(calls_of("pre-terminate") + calls_of("post-terminate"), 0);
}
END_TEST

/* Nobody swept for long: its moment is when it was, not when it is found. */
START_TEST(late_sweep_remembers_no_longer)
{
    const char *id = make_here(8, "four");
    apr_time_t at = fake_time + EXPIRE;

    ck_assert_int_eq(sweep_at(at + EXPIRE / 2), at + EXPIRE);
    ck_expired(id, at);
    ck_assert_int_eq(sweep_at(at + EXPIRE), 0);
    ck_forgotten(id);
}
END_TEST

START_TEST(very_late_sweeps_forget_it)
{
    const char *id = make_here(8, "four");
    apr_time_t next = sweep_at(fake_time + 10 * EXPIRE);

    ck_is(id, TUS_ERR_UPLOAD_NOT_FOUND);
    ck_assert(!scratch_exists(data_of(id)));
    if (next) { /* at once */
        ck_assert_int_le(next, fake_time);
        ck_assert_int_eq(sweep(), 0);
    }
    ck_forgotten(id);
}
END_TEST

/* The index knows when it was created, its data when bytes last came. */
START_TEST(active_upload_is_looked_at_again)
{
    const char *id = make_here(8, "four");
    apr_time_t created = record_of(id)->created;
    apr_time_t later = created + EXPIRE / 2;

    touch(id, later);
    ck_assert_int_eq(sweep(), created + EXPIRE);
    ck_assert_int_eq(sweep_at(created + EXPIRE), later + EXPIRE);
    ck_lives(id, "four");
    ck_assert_int_eq(sweep_at(later + EXPIRE - 1), later + EXPIRE);
    ck_lives(id, "four");
    sweep_at(later + EXPIRE);
    ck_expired(id, later + EXPIRE);
}
END_TEST

START_TEST(next_is_the_earliest)
{
    apr_time_t start = fake_time;
    const char *a, *b;

    ck_assert_int_eq(sweep(), 0);
    core.expire = 3 * EXPIRE;
    a = make_here(8, "a");
    ck_assert_int_eq(sweep(), start + 3 * EXPIRE);
    core.expire = EXPIRE;
    b = make_here(8, "b");
    make_here(0, "");
    ck_assert_int_eq(sweep(), start + EXPIRE);
    ck_assert_int_eq(sweep_at(start + EXPIRE), start + 2 * EXPIRE);
    ck_expired(b, start + EXPIRE);
    ck_lives(a, "a");
    ck_assert_int_eq(sweep_at(start + 2 * EXPIRE), start + 3 * EXPIRE);
    ck_forgotten(b);
    ck_assert_int_eq(sweep_at(start + 3 * EXPIRE), start + 6 * EXPIRE);
    ck_expired(a, start + 3 * EXPIRE);
}
END_TEST

START_TEST(rest_of_many_is_done_at_once)
{
    apr_time_t next;

    for (int i = 0; i < BATCH + 5; i++) {
        make_here(8, "");
    }
    next = sweep_at(fake_time + EXPIRE);
    ck_assert_int_eq(calls_of("expired"), BATCH);
    ck_assert_int_gt(next, 0);
    ck_assert_int_le(next, fake_time);
    ck_assert_int_eq(sweep(), fake_time + EXPIRE);
    ck_assert_int_eq(calls_of("expired"), BATCH + 5);
    sweep_at(fake_time + EXPIRE);
    ck_assert_int_eq(sweep(), 0);
    ck_assert_int_eq(calls_of("drop"), BATCH + 5);
}
END_TEST

START_TEST(running_upload_is_left_alone)
{
    const char *id = make_here(12, "four");
    tus_upload_t *upload = ck_hold(id);
    apr_time_t next;

    fake_time += EXPIRE + 1;
    ck_assert_int_eq(tus_expire(&core, &next, unit_pool), APR_SUCCESS);
    ck_soon(next);
    ck_assert_int_eq(times_asked(), 0);
    ck_append(upload, "more");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    touch(id, fake_time);
    fake_time = next;
    ck_assert_int_eq(sweep(), scratch_stat(data_of(id)).st_mtim.tv_sec * APR_USEC_PER_SEC
                                  + scratch_stat(data_of(id)).st_mtim.tv_nsec / 1000 + EXPIRE);
    ck_lives(id, "fourmore");
}
END_TEST

/* It is not in our table, but it has the fence. */
START_TEST(upload_of_another_server_is_left_alone)
{
    const char *id = make_here(8, "four");
    tus_upload_t *elsewhere = ck_hold(id);
    apr_time_t next, at = fake_time + EXPIRE;

    other_lets_go(id);
    fake_time = at;
    ck_assert_int_eq(tus_expire(&core, &next, unit_pool), APR_SUCCESS);
    ck_soon(next);
    ck_assert_int_eq(record_of(id)->expired, 0);
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
    tus_upload_release(elsewhere);
    ck_assert_int_eq(sweep_at(next), at + EXPIRE);
    ck_expired(id, at);
}
END_TEST

START_TEST(finished_upload_stays)
{
    const char *id = make_here(8, "fourmore");
    tus_upload_t *upload;

    ck_ok(by_inspect(&upload, id));
    ck_assert_int_gt(record_of(id)->finished, 0);
    ck_assert_int_eq(sweep(), 0);
    ck_assert_int_eq(sweep_at(fake_time + 100 * EXPIRE), 0);
    ck_lives(id, "fourmore");
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0); /* by the application */
    ck_assert_int_eq(sweep_at(fake_time + 100 * EXPIRE), 0);
    ck_assert_ptr_nonnull(record_of(id));
}
END_TEST

/* Its last request died after the last byte. */
START_TEST(complete_upload_is_finished_and_stays)
{
    const char *id = make_here(8, "fourmore");
    tus_upload_t *upload;

    ck_assert_int_eq(sweep_at(fake_time + 3 * EXPIRE), 0);
    ck_assert_int_gt(record_of(id)->finished, 0);
    ck_assert_int_eq(calls_of("post-finish"), 1);
    ck_assert_int_eq(calls_of("expired"), 0);
    ck_lives(id, "fourmore");
    ck_ok(by_find(&upload, id));
    ck_assert(tus_commit_is_finished(upload));
}
END_TEST

START_TEST(complete_upload_that_cannot_be_finished_is_tried_again)
{
    static const char *const finishing[] = { "flush", "note-change", "put-durable" };
    const char *id = make_here(8, "fourmore");
    apr_time_t next;

    fail_call(finishing[_i], 1, EIO);
    next = sweep_at(fake_time + EXPIRE);
    ck_assert_int_eq(record_of(id)->finished, 0);
    ck_lives(id, "fourmore");
    ck_soon(next);
    ck_assert_int_eq(sweep_at(next), 0);
    ck_assert_int_gt(record_of(id)->finished, 0);
}
END_TEST

START_TEST(refused_upload_stays_and_is_asked_for_again)
{
    const char *id = make_here(8, "fourmore");

    for (int i = 1; i < 4; i++) {
        fail_call("pre-finish", 1, APR_EGENERAL);
        sweep_at(fake_time + EXPIRE);
        ck_assert_int_eq(calls_of("pre-finish"), i);
        ck_lives(id, "fourmore");
    }
    sweep_at(fake_time + EXPIRE);
    ck_assert_int_gt(record_of(id)->finished, 0);
}
END_TEST

START_TEST(part_that_is_finished_on_the_way_is_joined)
{
    tus_creation_t part = { .size = 3, .is_partial = 1 };
    tus_creation_t creation = { .parts = apr_array_make(unit_pool, 1, sizeof(const char *)) };
    tus_upload_t *upload;

    ck_ok(tus_create(&upload, &core, &part, unit_pool));
    ck_append(upload, "one");
    tus_upload_release(upload);
    touch(upload->record->id, fake_time);
    APR_ARRAY_PUSH(creation.parts, const char *) = upload->record->id;
    core.expire = 10 * EXPIRE;
    ck_ok(tus_join_create(&upload, &core, &creation, 1, unit_pool));
    ck_assert(!tus_commit_is_finished(upload));
    touch(upload->record->id, fake_time);
    sweep_at(fake_time + EXPIRE);
    ck_assert_int_gt(record_of(upload->record->id)->finished, 0);
    ck_assert_str_eq(scratch_get(data_of(upload->record->id)), "one");
}
END_TEST

/* Bytes that were not verified make no upload complete. */
START_TEST(unverified_bytes_expire)
{
    const char *id = make_here(8, "fourmire");
    apr_time_t at = fake_time + EXPIRE;

    plant_mark(id, 4);
    sweep_at(at);
    ck_expired(id, at);
    ck_assert_int_eq(calls_of("pre-finish"), 0);
}
END_TEST

/* Data gone, record not: nothing is left to expire. */
START_TEST(remnant_of_a_termination_is_removed)
{
    const char *id = make_here(8, "four");

    core.meta->provider->link(core.meta, id, "final");
    plant_mark(id, 4);
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    ck_assert_int_eq(sweep_at(fake_time + EXPIRE), 0);
    ck_forgotten(id);
    ck_assert_int_eq(calls_of("expired"), 0);
}
END_TEST

/* ---- what is not ours to remove ------------------------------------------ */

/* A record as it lies in the store since START; NULL: the data is at the id. */
static void plant(const char *id, int is_ours, const char *name)
{
    tus_record_t record = { .id = id, .size = 8, .ours = is_ours };

    if (is_ours) {
        record.created = fake_time;
        record.expire = EXPIRE;
    }
    if (name) {
        record.storage_type = "filestore";
        record.storage_path = scratch_path(data_of(name));
        record.storage_info_path = apr_pstrcat(unit_pool, scratch_path(data_of(id)), ".info", NULL);
    }
    ck_assert_int_eq(core.meta->provider->put(core.meta, &record, 0, unit_pool), APR_SUCCESS);
}

static void plant_data(const char *name)
{
    scratch_put(data_of(name), "four");
    touch(name, fake_time);
}

/* Expires it, and forgets it. */
static void sweep_all(const char *id)
{
    apr_time_t at = fake_time + EXPIRE;

    sweep_at(at);
    ck_assert_int_eq(record_of(id)->expired, at);
    sweep_at(at + EXPIRE);
    ck_assert_ptr_null(record_of(id));
    sweep_at(at + 10 * EXPIRE);
    ck_assert_int_eq(sweep(), 0);
}

START_TEST(foreign_files_stay)
{
    static const char *const names[] = { "store/report.pdf", "store/.hidden", "store/x.info",
                                         "store/0123456789abcdef0123456789abcdef" };
    const char *id = make_here(8, "four");

    for (int i = 0; i < COUNT(names); i++) {
        scratch_put(names[i], "text");
    }
    sweep_all(id);
    for (int i = 0; i < COUNT(names); i++) {
        ck_assert_str_eq(scratch_get(names[i]), "text");
    }
}
END_TEST

START_TEST(record_of_another_server_stays)
{
    const char *json;

    plant("theirs", 0, NULL);
    plant_data("theirs");
    json = record_json("theirs");
    ck_assert_int_eq(sweep_at(fake_time + 100 * EXPIRE), 0);
    ck_assert_str_eq(record_json("theirs"), json);
    ck_lives("theirs", "four");
    plant_record("theirs", "{\"ID\":\"theirs\"");
    ck_assert_int_eq(sweep(), 0);
    ck_assert_str_eq(scratch_get("store/theirs"), "four");
}
END_TEST

START_TEST(data_elsewhere_is_removed)
{
    scratch_mkdir("store/sub");
    plant("a", 1, "sub/x");
    plant_data("sub/x");
    sweep_all("a");
    ck_assert(!scratch_exists("store/sub/x"));
}
END_TEST

START_TEST(data_that_another_record_names_stays)
{
    plant("a", 1, NULL);
    plant_data("a");
    plant("b", _i, "a");
    if (_i) { /* ours, and not expired by then */
        tus_record_t *other = record_of("b");

        other->finished = fake_time;
        ck_assert_int_eq(core.meta->provider->put(core.meta, other, 0, unit_pool), APR_SUCCESS);
    }
    sweep_all("a");
    ck_assert_str_eq(scratch_get("store/a"), "four");
    ck_assert_ptr_nonnull(record_of("b"));
}
END_TEST

START_TEST(data_that_two_records_name_stays)
{
    plant("a", 1, "x");
    plant("b", 0, "x");
    plant_data("x");
    sweep_all("a");
    ck_assert_str_eq(scratch_get("store/x"), "four");
}
END_TEST

/* Its own record says nothing of where its data lies: at its id. */
START_TEST(data_of_another_upload_stays)
{
    plant("b", 0, NULL);
    plant_data("b");
    plant("a", 1, "b");
    sweep_all("a");
    ck_assert_str_eq(scratch_get("store/b"), "four");
    ck_assert_ptr_nonnull(record_of("b"));
}
END_TEST

/* What cannot be read today may be another upload's. */
START_TEST(data_of_an_unreadable_record_stays)
{
    apr_time_t at = fake_time + EXPIRE;

    plant_data("b");
    plant("a", 1, "b");
    if (_i) {
        plant_record("b", "{\"ID\":\"b\"");
        sweep_all("a");
    }
    else {
        fail_call("get", 3, EIO); /* two are of its own record */
        sweep_at(at);
    }
    ck_assert_str_eq(scratch_get("store/b"), "four");
}
END_TEST

START_TEST(data_outside_the_store_stays)
{
    tus_record_t record = { .id = "a",
                            .size = 8,
                            .ours = 1,
                            .created = fake_time,
                            .expire = EXPIRE,
                            .storage_type = "filestore",
                            .storage_path = "/elsewhere",
                            .storage_info_path = "/srv/a.info" };

    scratch_put("elsewhere", "four");
    ck_assert_int_eq(core.meta->provider->put(core.meta, &record, 0, unit_pool), APR_SUCCESS);
    ck_soon(sweep_at(fake_time + EXPIRE));
    sweep_at(fake_time + 10 * EXPIRE);
    ck_assert_str_eq(scratch_get("elsewhere"), "four");
    ck_assert_int_eq(calls_of("remove"), 0);
}
END_TEST

/* ---- what sweeps, and what stops it -------------------------------------- */

START_TEST(store_that_removes_nothing_is_not_swept)
{
    tus_store_provider_t keeping = *core.store->provider;
    const char *id = make_here(8, "four");

    keeping.remove = NULL;
    core.store->provider = &keeping;
    ck_assert_int_eq(sweep_at(fake_time + EXPIRE), 0);
    ck_assert_int_eq(calls_of("walk"), 0);
    ck_assert_str_eq(scratch_get(data_of(id)), "four");
}
END_TEST

START_TEST(index_that_fails_removes_nothing)
{
    static const apr_status_t failures[] = { TUS_EDAMAGED, EIO };
    const char *id = make_here(8, "four");
    apr_time_t next;

    fake_time += EXPIRE;
    calls();
    fail_call("walk", 1, failures[_i]);
    ck_assert_int_eq(tus_expire(&core, &next, unit_pool), failures[_i]);
    ck_assert_str_eq(calls(), "walk");
    sweep();
    ck_expired(id, fake_time);
}
END_TEST

static int cancelled_at;

static int is_cancelled(void *baton)
{
    return ++*(int *)baton >= cancelled_at;
}

START_TEST(sweep_is_cancelled_between_uploads)
{
    int seen = 0;
    tus_cancel_t cancel = { is_cancelled, &seen };
    apr_time_t next;

    for (int i = 0; i < 5; i++) {
        make_here(8, "four");
    }
    fake_time += EXPIRE;
    cancelled_at = 3;
    core.cancel = &cancel;
    ck_assert_int_eq(tus_expire(&core, &next, unit_pool), APR_EINTR);
    ck_nothing_held();
    ck_assert_int_eq(calls_of("expired"), 2);
    core.cancel = NULL;
    sweep();
    ck_assert_int_eq(calls_of("expired"), 5);
}
END_TEST

/* ---- settling tells when to sweep ---------------------------------------- */

static apr_time_t settle_with(apr_time_t expires)
{
    ck_assert_int_eq(tus_settle(&core, apr_time_from_sec(1), &expires, unit_pool), APR_SUCCESS);
    return expires;
}

START_TEST(settle_tells_what_expires_first)
{
    apr_time_t start = fake_time;
    const char *id;

    ck_assert_int_eq(settle_with(0), 0);
    ck_assert_int_eq(settle_with(start), start);
    core.expire = 3 * EXPIRE;
    make_here(8, "four");
    core.expire = 2 * EXPIRE;
    id = make_here(8, "four");
    core.expire = 0;
    make_here(8, "four");
    ck_assert_int_eq(settle_with(0), start + 2 * EXPIRE);
    ck_assert_int_eq(settle_with(0), 0); /* nothing new */
    journal(id, TUS_NOTE_CHANGE);
    ck_assert_int_eq(settle_with(start + EXPIRE), start + EXPIRE);
    journal(id, TUS_NOTE_CHANGE);
    ck_assert_int_eq(settle_with(start + 5 * EXPIRE), start + 2 * EXPIRE);

    sweep_at(start + 2 * EXPIRE);
    ck_assert_int_eq(settle_with(0), start + 4 * EXPIRE); /* to be forgotten */
}
END_TEST

START_TEST(settle_tells_nothing_of_what_stays)
{
    tus_upload_t *upload = ck_create(8, 1);

    ck_append(upload, "fourmore");
    ck_ok(tus_append_end(upload));
    tus_upload_release(upload);
    plant("theirs", 0, NULL);
    plant_data("theirs");
    journal("theirs", TUS_NOTE_CREATE);
    ck_assert_int_eq(settle_with(0), 0);
}
END_TEST

/* ---- failures ------------------------------------------------------------ */

static void prepare(const char *id)
{
    core.meta->provider->link(core.meta, id, "final");
    core.meta->provider->mark(core.meta, id, 4, 0);
}

/* Its nth call fails: a minute later all is as it should be. */
START_TEST(failed_expiry_is_tried_again)
{
    int nth, descriptors = open_descriptors();

    for (nth = 1;; nth++) {
        const char *id = make_here(8, "four");
        apr_time_t at = fake_time + EXPIRE, next = 0;
        tus_upload_t *upload;
        apr_status_t rv;

        prepare(id);
        fake_time = at;
        calls();
        fail_at(nth, EIO);
        rv = tus_expire(&core, &next, unit_pool);
        if (is_failure_ahead()) {
            break;
        }
        ck_nothing_held();
        ck_assert_int_eq(open_descriptors(), descriptors);
        ck_assert_ptr_nonnull(by_find(&upload, id)); /* gone, remembered or not */
        ck_assert(rv == APR_SUCCESS || nth == 1);
        sweep_at(at + SOON);
        ck_assert_msg(!scratch_exists(data_of(id)), "the data is still there after %s", calls());
        ck_assert_msg(!is_marked(id) && !*links_of(id), "a mark or link is left after %s", calls());
        sweep_at(at + EXPIRE + SOON);
        sweep_at(at + EXPIRE + 2 * SOON);
        ck_forgotten(id);
    }
    fail_no_more();
    ck_assert_int_ge(nth, 10);
}
END_TEST

START_TEST(failed_forgetting_is_tried_again)
{
    int nth, descriptors = open_descriptors();

    for (nth = 1;; nth++) {
        const char *id = make_here(8, "four");
        apr_time_t at = fake_time + EXPIRE, next;

        sweep_at(at);
        ck_expired(id, at);
        fake_time = at + EXPIRE;
        fail_at(nth, EIO);
        (void)tus_expire(&core, &next, unit_pool);
        if (is_failure_ahead()) {
            break;
        }
        ck_nothing_held();
        ck_assert_int_eq(open_descriptors(), descriptors);
        ck_is(id, TUS_ERR_UPLOAD_NOT_FOUND);
        sweep_at(at + EXPIRE + SOON);
        ck_forgotten(id);
    }
    fail_no_more();
    ck_assert_int_ge(nth, 6);
}
END_TEST

/* ---- on disk, and killed -------------------------------------------------- */

static void sweep_once(void)
{
    apr_time_t next;

    ck_assert_int_eq(tus_expire(&core, &next, unit_pool), APR_SUCCESS);
}

/* As the watchdog does in each round. */
static apr_time_t round_at(apr_time_t when)
{
    fake_time = when;
    settle_all();
    return sweep();
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

static void ck_nothing_left(const char *id)
{
    settle_all();
    ck_assert(!is_indexed(id));
    ck_assert_int_eq(files_in("store"), 0);
    ck_assert_int_eq(files_in("state/unverified"), 0);
    ck_assert_int_eq(files_in("state/links"), 0);
}

START_TEST(index_follows_an_upload_that_expires)
{
    const char *id = make_here(8, "four");
    apr_time_t at = fake_time + EXPIRE;

    prepare(id);
    round_at(fake_time);
    ck_assert(is_indexed(id));
    ck_assert_int_eq(round_at(at), at + EXPIRE);
    ck_expired(id, at);
    ck_assert_int_eq(round_at(at + 1), at + EXPIRE);
    ck_assert(is_indexed(id));
    ck_assert_int_eq(round_at(at + EXPIRE), 0);
    ck_forgotten(id);
    ck_nothing_left(id);
}
END_TEST

/* The owner of the store removed it by hand. */
START_TEST(entry_without_a_record_is_not_looked_at_for_ever)
{
    const char *id = make_here(8, "four");

    round_at(fake_time);
    ck_assert_int_eq(unlink(scratch_path(data_of(id))), 0);
    ck_assert_int_eq(unlink(scratch_path(apr_pstrcat(unit_pool, data_of(id), ".info", NULL))), 0);
    round_at(fake_time + EXPIRE);
    ck_assert_int_eq(round_at(fake_time + SOON), 0);
    ck_nothing_left(id);
}
END_TEST

/* In a few rounds it is as if nobody had died; clients never see it again. */
START_TEST(killed_expiry_ends_the_same)
{
    int nth;

    settle_all();
    for (nth = 1;; nth++) {
        const char *id = make_here(8, "four");
        apr_time_t at = fake_time + EXPIRE;
        tus_upload_t *upload;
        int died;

        prepare(id);
        settle_all();
        fake_time = at;
        died = died_at(nth, sweep_once);
        ck_assert_ptr_nonnull(by_find(&upload, id));
        round_at(at + SOON);
        ck_assert_ptr_nonnull(by_find(&upload, id));
        ck_assert_msg(!scratch_exists(data_of(id)), "the data is still there after %d calls", nth);
        round_at(at + EXPIRE + SOON);
        round_at(at + EXPIRE + 2 * SOON);
        ck_forgotten(id);
        ck_nothing_left(id);
        if (!died) {
            break;
        }
    }
    ck_assert_int_ge(nth, 12);
}
END_TEST

START_TEST(killed_forgetting_ends_the_same)
{
    int nth;

    settle_all();
    for (nth = 1;; nth++) {
        const char *id = make_here(8, "four");
        apr_time_t at = fake_time + EXPIRE;
        int died;

        prepare(id);
        round_at(at);
        settle_all();
        fake_time = at + EXPIRE;
        died = died_at(nth, sweep_once);
        ck_is(id, TUS_ERR_UPLOAD_NOT_FOUND);
        round_at(at + EXPIRE + SOON);
        ck_forgotten(id);
        ck_nothing_left(id);
        if (!died) {
            break;
        }
    }
    ck_assert_int_ge(nth, 6);
}
END_TEST

Suite *expire_suite(void)
{
    Suite *suite = suite_create("expire");
    TCase *tcase = add_core_case(suite, "moment");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, upload_is_gone_from_a_moment_on, 0, 2 * COUNT(ways));
    tcase_add_test(tcase, gone_upload_disturbs_no_holder);
    tcase_add_test(tcase, expired_upload_does_not_come_back);
    tcase_add_test(tcase, moment_slides_with_the_bytes);
    tcase_add_loop_test(tcase, record_keeps_what_it_was_created_under, 0, 2);
    tcase_add_test(tcase, upload_without_expire_stays);
    tcase_add_test(tcase, final_that_waits_expires);

    tcase = add_core_case(suite, "sweep");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, expired_upload_is_removed_and_then_forgotten);
    tcase_add_test(tcase, late_sweep_remembers_no_longer);
    tcase_add_test(tcase, very_late_sweeps_forget_it);
    tcase_add_test(tcase, active_upload_is_looked_at_again);
    tcase_add_test(tcase, next_is_the_earliest);
    tcase_add_test(tcase, rest_of_many_is_done_at_once);
    tcase_add_test(tcase, running_upload_is_left_alone);
    tcase_add_test(tcase, upload_of_another_server_is_left_alone);
    tcase_add_test(tcase, finished_upload_stays);
    tcase_add_test(tcase, complete_upload_is_finished_and_stays);
    tcase_add_loop_test(tcase, complete_upload_that_cannot_be_finished_is_tried_again, 0, 3);
    tcase_add_test(tcase, refused_upload_stays_and_is_asked_for_again);
    tcase_add_test(tcase, part_that_is_finished_on_the_way_is_joined);
    tcase_add_test(tcase, unverified_bytes_expire);
    tcase_add_test(tcase, remnant_of_a_termination_is_removed);

    tcase = add_core_case(suite, "foreign");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, foreign_files_stay);
    tcase_add_test(tcase, record_of_another_server_stays);
    tcase_add_test(tcase, data_elsewhere_is_removed);
    tcase_add_loop_test(tcase, data_that_another_record_names_stays, 0, 2);
    tcase_add_test(tcase, data_that_two_records_name_stays);
    tcase_add_test(tcase, data_of_another_upload_stays);
    tcase_add_loop_test(tcase, data_of_an_unreadable_record_stays, 0, 2);
    tcase_add_test(tcase, data_outside_the_store_stays);

    tcase = add_core_case(suite, "round");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, store_that_removes_nothing_is_not_swept);
    tcase_add_loop_test(tcase, index_that_fails_removes_nothing, 0, 2);
    tcase_add_test(tcase, sweep_is_cancelled_between_uploads);
    tcase_add_test(tcase, settle_tells_what_expires_first);
    tcase_add_test(tcase, settle_tells_nothing_of_what_stays);
    tcase_add_test(tcase, failed_expiry_is_tried_again);
    tcase_add_test(tcase, failed_forgetting_is_tried_again);

    tcase = add_core_case(suite, "killed");
    tcase_add_checked_fixture(tcase, setup_on_disk, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, index_follows_an_upload_that_expires);
    tcase_add_test(tcase, entry_without_a_record_is_not_looked_at_for_ever);
    tcase_add_test(tcase, killed_expiry_ends_the_same);
    tcase_add_test(tcase, killed_forgetting_ends_the_same);
    return suite;
}
