/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Finding an upload, and holding it. Held means: this request has its entry in
 * the lock table and, while there are bytes to come, the fence on its data, so
 * that no other request of any process writes it.
 */
#include "tus_core.h"

#include <apr_strings.h>

/* Between two tries for a fence that another server holds: nobody can wake us for that. */
#define FENCE_INTERVAL apr_time_from_msec(5)

/* Without TusExpire a finished upload whose data was taken away is remembered so long. */
#define REMEMBER (24 * 3600 * APR_USEC_PER_SEC)

static const tus_error_t *not_found(apr_pool_t *p)
{
    return tus_error(p, TUS_ERR_UPLOAD_NOT_FOUND, NULL);
}

/* A record or data file that is not what it should be; who planted it learns nothing. */
static const tus_error_t *unusable(const char *what, const char *id, apr_status_t rv, apr_pool_t *p)
{
    return tus_error_system(p, rv, "cannot use the %s of upload %s", what, id);
}

static const tus_error_t *load_record(tus_upload_t *upload, const char *id)
{
    tus_meta_t *meta = upload->core->meta;
    apr_status_t rv = meta->provider->get(meta, id, &upload->record, upload->pool);

    if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv)) { /* or what an upload is below */
        return not_found(upload->pool);
    }
    if (rv == TUS_EUNWRITTEN) { /* nothing was promised of it: the client begins anew */
        upload->core->events->lost(upload->core->baton, id);
        return not_found(upload->pool);
    }
    if (rv == APR_SUCCESS && upload->record->finished && upload->record->size == TUS_SIZE_UNKNOWN) {
        rv = TUS_EDAMAGED;
    }
    if (rv != APR_SUCCESS) {
        return unusable("record", id, rv, upload->pool);
    }
    upload->recorded = 1;
    return NULL;
}

/* The size of the data is the offset, or tells that somebody else has been at it. */
static const tus_error_t *check_offset(tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;

    if (record->size != TUS_SIZE_UNKNOWN && upload->offset > record->size) {
        return tus_error_system(upload->pool, TUS_EDAMAGED,
                                "the data of upload %s has %" APR_OFF_T_FMT
                                " bytes, more than its length of %" APR_OFF_T_FMT,
                                record->id, upload->offset, record->size);
    }
    return NULL;
}

/* It may be: the sweep removes the data first, and then writes down that it did. */
static int is_being_expired(const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;

    return record->ours && !record->finished && record->expire
           && upload->core->now() >= record->created + record->expire;
}

/*
 * The data of a finished upload is the application's, to change and to take away;
 * the upload is complete all the same, else a client that missed the last answer
 * would send everything once more.
 */
static int is_complete(const tus_upload_t *upload)
{
    return upload->record->ours && upload->record->finished;
}

/* For so long it need not even be looked whether there is data. */
static int is_remembered(const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;
    apr_interval_time_t remember = record->expire ? record->expire : REMEMBER;

    return is_complete(upload) && upload->core->now() - record->finished < remember;
}

static void count_as_complete(tus_upload_t *upload)
{
    upload->offset = upload->record->size;
    upload->modified = upload->record->finished;
}

static const tus_error_t *without_data(const tus_upload_t *upload)
{
    return is_being_expired(upload) ? tus_error(upload->pool, TUS_ERR_UPLOAD_GONE, NULL)
                                    : not_found(upload->pool);
}

/* How much of an upload under way there is: so much of its data's size as counts. */
static const tus_error_t *count(tus_upload_t *upload, apr_off_t size)
{
    const tus_error_t *error = tus_chunk_count(upload, size);

    if (!error) {
        error = tus_proof_count(upload);
    }
    if (!error) {
        error = check_offset(upload);
    }
    if (upload->record->is_final && !tus_commit_is_finished(upload)) {
        upload->offset = 0; /* what a join has done so far is nobody's business */
    }
    return error;
}

static const tus_error_t *load_size(tus_upload_t *upload)
{
    tus_store_t *store = upload->core->store;
    apr_off_t size;
    apr_status_t rv;

    if (is_remembered(upload)) {
        count_as_complete(upload);
        return NULL;
    }
    rv = store->provider->size(store, upload->record, &size, &upload->modified);
    if (APR_STATUS_IS_ENOENT(rv)) {
        return without_data(upload);
    }
    if (rv != APR_SUCCESS) {
        return unusable("data", upload->record->id, rv, upload->pool);
    }
    if (is_complete(upload)) {
        count_as_complete(upload);
        return NULL;
    }
    return count(upload, size);
}

static tus_upload_t *make_upload(const tus_core_t *core, apr_pool_t *p)
{
    tus_upload_t *upload = apr_pcalloc(p, sizeof(*upload));

    upload->core = core;
    upload->pool = p;
    return upload;
}

/* Its record is read. */
static const tus_error_t *look(tus_upload_t *upload)
{
    const tus_error_t *error = upload->record->expired ? NULL : load_size(upload);

    return !error && tus_expire_is_over(upload) ? tus_expire_error(upload) : error;
}

static const tus_error_t *find(tus_upload_t *upload, const char *id)
{
    const tus_error_t *error = load_record(upload, id);

    return error ? error : look(upload);
}

const tus_error_t *tus_upload_find(tus_upload_t **result, const tus_core_t *core, const char *id,
                                   apr_pool_t *p)
{
    *result = make_upload(core, p);
    if (!tus_id_is_valid(id)) {
        return not_found(p);
    }
    return find(*result, id);
}

static void close_writer(tus_upload_t *upload)
{
    if (upload->writer) {
        upload->core->store->provider->close(upload->writer);
        upload->writer = NULL;
    }
}

/* ---- holding ------------------------------------------------------------- */

const tus_error_t *tus_upload_locked(const tus_core_t *core, apr_status_t rv, apr_pool_t *p)
{
    if (APR_STATUS_IS_TIMEUP(rv) || APR_STATUS_IS_EBUSY(rv)) {
        return tus_error(p, TUS_ERR_UPLOAD_LOCKED,
                         "another request held the upload for more than %" APR_TIME_T_FMT
                         " s (TusLockTimeout)",
                         apr_time_sec(core->lock_timeout));
    }
    if (APR_STATUS_IS_ENOSPC(rv)) {
        return tus_error(p, TUS_ERR_TOO_BUSY, NULL);
    }
    if (APR_STATUS_IS_EINTR(rv)) {
        return tus_error(p, TUS_ERR_UPLOAD_INTERRUPTED, NULL);
    }
    return tus_error_system(p, rv, "cannot lock the upload");
}

static int is_cancelled(const tus_core_t *core)
{
    return core->cancel && core->cancel->cancelled(core->cancel->baton);
}

/* A holder in another server is not in our table; the kernel's fence still keeps us apart. */
static apr_status_t wait_for_fence(tus_upload_t *upload, apr_time_t deadline)
{
    const tus_core_t *core = upload->core;
    const tus_store_provider_t *store = core->store->provider;

    for (;;) {
        apr_status_t rv = store->fence ? store->fence(upload->writer) : APR_SUCCESS;

        if (!APR_STATUS_IS_EAGAIN(rv)) {
            return rv;
        }
        if (core->now() >= deadline) {
            return APR_TIMEUP;
        }
        if (is_cancelled(core)) {
            return APR_EINTR;
        }
        apr_sleep(FENCE_INTERVAL);
    }
}

static const tus_error_t *opened(const tus_upload_t *upload, apr_status_t rv)
{
    if (APR_STATUS_IS_ENOENT(rv)) {
        return not_found(upload->pool);
    }
    if (APR_STATUS_IS_TIMEUP(rv) || APR_STATUS_IS_EINTR(rv)) {
        return tus_upload_locked(upload->core, rv, upload->pool);
    }
    return rv == APR_SUCCESS ? NULL : unusable("data", upload->record->id, rv, upload->pool);
}

static const tus_error_t *measure(tus_upload_t *upload)
{
    const tus_store_provider_t *store = upload->core->store->provider;
    apr_status_t rv = store->written(upload->writer, &upload->offset, &upload->modified);
    const tus_error_t *error = opened(upload, rv);

    return error ? error : check_offset(upload);
}

static const tus_error_t *open_writer(tus_upload_t *upload, apr_time_t deadline)
{
    tus_store_t *store = upload->core->store;
    apr_status_t rv = store->provider->resume(store, upload->record, &upload->writer, upload->pool);
    const tus_error_t *error;

    if (rv == APR_SUCCESS) {
        rv = wait_for_fence(upload, deadline);
    }
    error = opened(upload, rv);
    return error ? error : measure(upload);
}

/* The record is read again once the fence is up: what was read before may be history. */
static const tus_error_t *open_fenced(tus_upload_t *upload, const char *id, apr_time_t deadline)
{
    const tus_error_t *error = open_writer(upload, deadline);

    return error ? error : load_record(upload, id);
}

static const tus_error_t *recover(tus_upload_t *upload)
{
    const tus_error_t *error = tus_proof_recover(upload);

    return error ? error : tus_chunk_recover(upload);
}

/* Its record alone says that it grows: its data need not be looked at before it is fenced. */
static int is_young(const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;

    return record->ours && !record->finished && !record->expired && !is_being_expired(upload);
}

/* By the time of its data. Whether it has expired, the bytes that count decide. */
static int is_overdue(const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;

    return record->expire && upload->core->now() >= upload->modified + record->expire;
}

static const tus_error_t *open_held(tus_upload_t *upload, const char *id, apr_time_t deadline)
{
    const tus_error_t *error = upload->recorded ? NULL : load_record(upload, id);

    if (!error && !is_young(upload)) {
        error = look(upload);
        if (!error && tus_commit_is_finished(upload)) {
            return NULL;
        }
    }
    if (!error) {
        error = open_fenced(upload, id, deadline);
    }
    if (!error && is_overdue(upload)) { /* else to recover it could make it young again */
        error = look(upload);
        if (!error) {
            error = measure(upload);
        }
    }
    return error ? error : recover(upload);
}

static apr_status_t acquire(tus_upload_t *upload, const char *id, apr_time_t deadline)
{
    const tus_core_t *core = upload->core;

    return core->locks->provider->acquire(core->locks, &core->store->identity, id, deadline,
                                          core->cancel, &upload->lock, upload->pool);
}

/* On arrival: a request that would be refused must not interrupt the holder. */
static const tus_error_t *judge_arrival(tus_upload_t *upload, const char *id, tus_judge_fn judge,
                                        void *baton)
{
    const tus_error_t *error = find(upload, id);

    if (error || !judge) {
        return error;
    }
    return judge(baton, upload);
}

static const tus_error_t *hold(tus_upload_t *upload, const char *id, int is_to_end,
                               tus_judge_fn judge, void *baton)
{
    const tus_core_t *core = upload->core;
    apr_time_t deadline = core->now() + core->lock_timeout;
    apr_status_t rv = acquire(upload, id, 0);
    const tus_error_t *error;

    if (APR_STATUS_IS_EBUSY(rv)) {
        error = judge_arrival(upload, id, judge, baton);
        if (error) {
            return error;
        }
        upload->recorded = 0; /* by then it is history */
        rv = acquire(upload, id, deadline);
    }
    if (rv != APR_SUCCESS) {
        return tus_upload_locked(core, rv, upload->pool);
    }
    error = open_held(upload, id, deadline);
    if (!error && !is_to_end) {
        error = tus_commit_complete(upload);
    }
    if (error || !judge) {
        return error;
    }
    return judge(baton, upload);
}

static const tus_error_t *hold_new(tus_upload_t **result, const tus_core_t *core, const char *id,
                                   int is_to_end, tus_judge_fn judge, void *baton, apr_pool_t *p)
{
    tus_upload_t *upload = make_upload(core, p);
    const tus_error_t *error;

    *result = upload;
    if (!tus_id_is_valid(id)) {
        return not_found(p);
    }
    error = hold(upload, id, is_to_end, judge, baton);
    if (error) {
        tus_upload_release(upload);
    }
    return error;
}

const tus_error_t *tus_upload_hold(tus_upload_t **upload, const tus_core_t *core, const char *id,
                                   tus_judge_fn judge, void *baton, apr_pool_t *p)
{
    return hold_new(upload, core, id, 0, judge, baton, p);
}

const tus_error_t *tus_upload_hold_to_end(tus_upload_t **upload, const tus_core_t *core,
                                          const char *id, tus_judge_fn judge, void *baton,
                                          apr_pool_t *p)
{
    return hold_new(upload, core, id, 1, judge, baton, p);
}

static int open_tried(tus_upload_t *upload, const char *id)
{
    const tus_error_t *error;

    if (load_record(upload, id)) {
        return 0;
    }
    if (upload->record->finished) {
        return 1;
    }
    error = open_fenced(upload, id, 0);
    if (!error) {
        error = recover(upload);
    }
    if (error && error->err == TUS_ERR_UPLOAD_NOT_FOUND) {
        close_writer(upload);
        return 1;
    }
    return !error;
}

int tus_upload_try(tus_upload_t **result, const tus_core_t *core, const char *id, apr_pool_t *p)
{
    tus_upload_t *upload = make_upload(core, p);

    *result = upload;
    if (!tus_id_is_valid(id) || acquire(upload, id, 0) != APR_SUCCESS) {
        return 0;
    }
    if (open_tried(upload, id)) {
        return 1;
    }
    tus_upload_release(upload);
    return 0;
}

/* A final that waits or joins is nobody's to hold; where the joining request died, we go on. */
static const tus_error_t *inspect_final(tus_upload_t **result, const tus_core_t *core,
                                        const char *id, apr_pool_t *p)
{
    const tus_error_t *error = tus_join_try(core, id, p);

    return error ? error : tus_upload_find(result, core, id, p);
}

const tus_error_t *tus_upload_inspect(tus_upload_t **result, const tus_core_t *core, const char *id,
                                      apr_pool_t *p)
{
    tus_upload_t *upload = make_upload(core, p);
    const tus_error_t *error = tus_id_is_valid(id) ? load_record(upload, id) : not_found(p);

    *result = upload;
    if (!error && (upload->record->is_final || !is_young(upload))) {
        error = look(upload);
    }
    if (error || tus_commit_is_finished(upload)) {
        return error;
    }
    if (upload->record->is_final) {
        return inspect_final(result, core, id, p);
    }
    error = hold(upload, id, 0, NULL, NULL);
    tus_upload_release(upload);
    return error;
}

void tus_upload_release(tus_upload_t *upload)
{
    close_writer(upload);
    if (upload->lock) {
        upload->core->locks->provider->release(upload->lock);
        upload->lock = NULL;
    }
}
