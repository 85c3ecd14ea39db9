/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Expiry. An unfinished upload expires so long after its last byte as its record
 * says; from that moment it is gone for clients, whether its data has been
 * removed or not. Its record is kept as long again, so that they hear "gone"
 * rather than "not found".
 *
 * The index says which uploads may be due; what is done is decided by the record
 * and the data of each, held, so that one that is running, finished or not ours
 * stays as it is.
 */
#include "tus_core.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <string.h>

/* Uploads dealt with between two walks through the index; of more that are due, these by chance. */
#define BATCH 1000

/* One that is running now is looked at again after this. */
#define BUSY_INTERVAL apr_time_from_sec(10)

/* ---- one upload ---------------------------------------------------------- */

apr_time_t tus_expire_at(const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;

    if (record->expired) {
        return record->expired;
    }
    if (!record->ours || record->finished || !record->expire || tus_commit_has_all(upload)) {
        return 0;
    }
    if (record->is_final && upload->core->now() >= upload->modified + record->expire) {
        apr_time_t parts = tus_join_expires(upload);

        return parts ? parts : upload->modified + record->expire;
    }
    return upload->modified + record->expire;
}

int tus_expire_is_over(const tus_upload_t *upload)
{
    apr_time_t at = tus_expire_at(upload);

    return upload->record->expired || (at && upload->core->now() >= at);
}

const tus_error_t *tus_expire_error(const tus_upload_t *upload)
{
    apr_time_t forgotten = tus_expire_at(upload) + upload->record->expire;

    return tus_error(
        upload->pool,
        upload->core->now() < forgotten ? TUS_ERR_UPLOAD_GONE : TUS_ERR_UPLOAD_NOT_FOUND, NULL);
}

/* ---- all uploads of a store ---------------------------------------------- */

typedef struct sweep_t {
    const tus_core_t *core;
    apr_pool_t *pool;
    apr_time_t now;
    apr_time_t next;         /* when there is something to do again, or 0 */
    apr_array_header_t *due; /* of const char * */
    apr_uint32_t seen;       /* how many were due */
    apr_uint32_t dice;
    apr_hash_t *named; /* mark of data elsewhere than at its id -> records, counted */
} sweep_t;

static void look_again(sweep_t *sweep, apr_time_t when)
{
    if (when && (!sweep->next || when < sweep->next)) {
        sweep->next = when;
    }
}

/* When the entry's upload may have to be looked at; bytes since then only make it later. */
static apr_time_t earliest(const tus_entry_t *entry)
{
    if (entry->finished || !entry->expire) {
        return 0;
    }
    return (entry->expired ? entry->expired : entry->created) + entry->expire;
}

static apr_size_t times_named(const sweep_t *sweep, const char *mark)
{
    apr_size_t *count = apr_hash_get(sweep->named, mark, APR_HASH_KEY_STRING);

    return count ? *count : 0;
}

static void count_name(sweep_t *sweep, const char *mark)
{
    apr_size_t *count = apr_hash_get(sweep->named, mark, APR_HASH_KEY_STRING);

    if (!count) {
        count = apr_pcalloc(sweep->pool, sizeof(*count));
        apr_hash_set(sweep->named, apr_pstrdup(sweep->pool, mark), APR_HASH_KEY_STRING, count);
    }
    (*count)++;
}

/* Each one that is due has the same chance: some may be due for long, and stay. */
static void choose(sweep_t *sweep, const char *id)
{
    apr_uint32_t place = sweep->seen++;

    if (place < BATCH) {
        APR_ARRAY_PUSH(sweep->due, const char *) = apr_pstrdup(sweep->pool, id);
        return;
    }
    look_again(sweep, sweep->now);
    sweep->dice = sweep->dice * 1664525u + 1013904223u;
    place = (apr_uint32_t)(((apr_uint64_t)sweep->dice * sweep->seen) >> 32);
    if (place < BATCH) {
        APR_ARRAY_IDX(sweep->due, place, const char *) = apr_pstrdup(sweep->pool, id);
    }
}

static apr_status_t collect(void *baton, const tus_entry_t *entry)
{
    sweep_t *sweep = baton;
    apr_time_t when = earliest(entry);

    if (entry->data) {
        count_name(sweep, entry->data);
    }
    if (when && when <= sweep->now) {
        choose(sweep, entry->id);
    }
    else {
        look_again(sweep, when);
    }
    return APR_SUCCESS;
}

/* Data that another record stands for too is not ours to remove. */
static int is_shared(const sweep_t *sweep, const tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;
    tus_record_t *other;
    apr_size_t named;
    apr_status_t rv;
    const char *name;

    if (tus_storage_name(upload->record, &name) != APR_SUCCESS) {
        return 1;
    }
    named = times_named(sweep, tus_storage_mark(name, upload->pool));
    if (strcmp(name, upload->record->id) == 0) {
        return named > 0;
    }
    if (named > 1) {
        return 1;
    }
    rv = meta->provider->get(meta, name, &other, upload->pool);
    return !APR_STATUS_IS_ENOENT(rv) && !APR_STATUS_IS_ENOTDIR(rv) && !APR_STATUS_IS_EINVAL(rv);
}

static apr_status_t remove_data(const sweep_t *sweep, tus_upload_t *upload)
{
    tus_store_t *store = upload->core->store;

    if (is_shared(sweep, upload)) {
        return APR_SUCCESS;
    }
    return store->provider->remove(store, upload->record);
}

/* Data before the record, as everywhere: what is left of it is what settling removes. */
static void expire(sweep_t *sweep, tus_upload_t *upload, apr_time_t at)
{
    const tus_core_t *core = sweep->core;

    upload->record->expired = at;
    if (tus_commit_note(upload) != APR_SUCCESS || remove_data(sweep, upload) != APR_SUCCESS
        || tus_remove_notes(core, upload->record->id) != APR_SUCCESS
        || tus_commit_record(upload, 0)) {
        look_again(sweep, sweep->now + BUSY_INTERVAL);
        return;
    }
    core->events->expired(core->baton, upload);
    look_again(sweep, at + upload->record->expire);
}

static void forget(sweep_t *sweep, tus_upload_t *upload)
{
    tus_meta_t *meta = sweep->core->meta;
    const char *id = upload->record->id;

    if (meta->provider->note(meta, id, TUS_NOTE_CHANGE) != APR_SUCCESS
        || remove_data(sweep, upload) != APR_SUCCESS
        || tus_remove_record(sweep->core, id) != APR_SUCCESS) {
        look_again(sweep, sweep->now + BUSY_INTERVAL);
    }
}

static void sweep_held(sweep_t *sweep, tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;
    apr_time_t at = tus_expire_at(upload);

    if (record->expired) {
        apr_time_t forgotten = record->expired + record->expire;

        if (sweep->now >= forgotten) {
            forget(sweep, upload);
        }
        else {
            look_again(sweep, forgotten);
        }
        return;
    }
    if (record->finished || !record->ours) {
        return;
    }
    if (!upload->writer) { /* what a termination left that was cut short */
        forget(sweep, upload);
    }
    else if (tus_commit_has_all(upload)) {
        if (tus_late_leave(sweep->core, record) || tus_commit_finish(upload)) {
            look_again(sweep, sweep->now + BUSY_INTERVAL);
        }
    }
    else if (at && sweep->now >= at) {
        expire(sweep, upload, at);
    }
    else {
        look_again(sweep, at);
    }
}

/* Busy, or nothing that can be dealt with; or removed by hand, which the index is told of. */
static void sweep_other(sweep_t *sweep, const char *id, apr_pool_t *p)
{
    tus_meta_t *meta = sweep->core->meta;
    tus_record_t *record;
    apr_status_t rv = meta->provider->get(meta, id, &record, p);

    if (APR_STATUS_IS_ENOENT(rv) || rv == TUS_EUNWRITTEN) {
        meta->provider->note(meta, id, TUS_NOTE_CHANGE);
        return;
    }
    look_again(sweep, sweep->now + BUSY_INTERVAL);
}

static void sweep_one(sweep_t *sweep, const char *id, apr_pool_t *p)
{
    tus_upload_t *upload;

    if (!tus_upload_try(&upload, sweep->core, id, p)) {
        sweep_other(sweep, id, p);
        return;
    }
    sweep_held(sweep, upload);
    tus_upload_release(upload);
    if (upload->finished_now && upload->record->is_partial) {
        tus_join_waiting(sweep->core, id, p);
    }
}

static apr_status_t sweep_due(sweep_t *sweep)
{
    const tus_cancel_t *cancel = sweep->core->cancel;
    apr_pool_t *pone;

    apr_pool_create(&pone, sweep->pool);
    for (int i = 0; i < sweep->due->nelts; i++) {
        if (cancel && cancel->cancelled(cancel->baton)) {
            return APR_EINTR;
        }
        apr_pool_clear(pone);
        sweep_one(sweep, APR_ARRAY_IDX(sweep->due, i, const char *), pone);
    }
    apr_pool_destroy(pone);
    return APR_SUCCESS;
}

apr_status_t tus_expire(const tus_core_t *core, apr_time_t *next, apr_pool_t *p)
{
    sweep_t sweep = { .core = core, .pool = p, .now = core->now() };
    apr_status_t rv;

    *next = 0;
    sweep.dice = (apr_uint32_t)sweep.now;
    if (!core->store->provider->remove) {
        return APR_SUCCESS;
    }
    sweep.due = apr_array_make(p, 16, sizeof(const char *));
    sweep.named = apr_hash_make(p);
    rv = core->meta->provider->walk(core->meta, collect, &sweep, p);
    if (rv == APR_SUCCESS) {
        rv = sweep_due(&sweep);
    }
    *next = sweep.next;
    return rv;
}
