/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Creating an upload. The order keeps every crash provable: the lock is taken,
 * the id noted in the journal, the data file made, and only then the record. So
 * data without a record always has its id in the journal, and nobody takes it
 * for an orphan while its maker lives.
 */
#include "tus_core.h"

#include <apr_strings.h>

/* 128 random bits do not meet again; but a store may hold files of other makers. */
#define ID_TRIES 3

static tus_record_t *make_record(const tus_core_t *core, const tus_creation_t *creation,
                                 apr_pool_t *p)
{
    tus_record_t *record = apr_pcalloc(p, sizeof(*record));

    record->size = creation->size;
    record->is_partial = creation->is_partial;
    record->is_final = creation->parts != NULL;
    record->parts = creation->parts;
    record->concat = creation->concat;
    record->expire = core->expire;
    record->pairs = creation->pairs;
    record->metadata = creation->metadata;
    record->ours = 1;
    record->created = core->now();
    record->owner = creation->owner;
    return record;
}

/* An id that a hook chose may be one that was: its record outlives its data, and notes may both. */
static apr_status_t check_unused(tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;
    tus_record_t *other;
    apr_status_t rv = meta->provider->get(meta, upload->record->id, &other, upload->pool);

    if (!APR_STATUS_IS_ENOENT(rv)) {
        return APR_EEXIST;
    }
    return tus_remove_notes(upload->core, upload->record->id);
}

static apr_status_t make_data(tus_upload_t *upload, int named)
{
    const tus_core_t *core = upload->core;
    tus_record_t *record = upload->record;
    apr_status_t rv = named ? APR_SUCCESS : tus_id_make(&record->id, upload->pool);

    if (rv == APR_SUCCESS) {
        rv = core->locks->provider->acquire(core->locks, &core->store->identity, record->id, 0,
                                            core->cancel, &upload->lock, upload->pool);
    }
    if (rv == APR_SUCCESS && named) {
        rv = check_unused(upload);
    }
    if (rv == APR_SUCCESS) {
        rv = core->meta->provider->note(core->meta, record->id, TUS_NOTE_CREATE);
    }
    if (rv == APR_SUCCESS) {
        rv = core->store->provider->create(core->store, record, &upload->writer, upload->pool);
    }
    return rv;
}

/* That there is something else already, or on the way: who chose the name is at fault. */
static int is_of_name(apr_status_t rv)
{
    return APR_STATUS_IS_EEXIST(rv) || APR_STATUS_IS_EBUSY(rv) || APR_STATUS_IS_ENOTDIR(rv)
           || APR_STATUS_IS_ENAMETOOLONG(rv) || rv == TUS_EREFUSED;
}

static const tus_error_t *not_made(tus_upload_t *upload, int named, apr_status_t rv)
{
    const tus_core_t *core = upload->core;
    int chosen = named || upload->record->storage_path;
    const tus_error_t *error =
        chosen && is_of_name(rv) ? core->events->not_made(core->baton, upload) : NULL;

    if (error) {
        return error;
    }
    return tus_error_system(upload->pool, rv, "cannot make an upload%s%s",
                            named ? " with the id that a hook chose: " : "",
                            named ? upload->record->id : "");
}

static const tus_error_t *make(tus_upload_t *upload)
{
    int named = upload->record->id != NULL;
    apr_status_t rv = APR_SUCCESS;
    int lock_failed;

    for (int tries = 0; tries < ID_TRIES; tries++) {
        rv = make_data(upload, named);
        if (named || !APR_STATUS_IS_EEXIST(rv)) {
            break;
        }
        tus_upload_release(upload);
    }
    if (rv == APR_SUCCESS) {
        return NULL;
    }
    lock_failed = !upload->lock;
    tus_upload_release(upload);
    if (lock_failed && APR_STATUS_IS_ENOSPC(rv)) {
        return tus_error(upload->pool, TUS_ERR_TOO_BUSY, NULL);
    }
    return not_made(upload, named, rv);
}

/* Before there is a record: a final that exists must be found by the last of its parts. */
static const tus_error_t *link_parts(tus_upload_t *upload, const apr_array_header_t *parts)
{
    tus_meta_t *meta = upload->core->meta;

    for (int i = 0; parts && i < parts->nelts; i++) {
        const char *part = APR_ARRAY_IDX(parts, i, const char *);
        apr_status_t rv = meta->provider->link(meta, part, upload->record->id);

        if (rv != APR_SUCCESS) {
            return tus_error_system(upload->pool, rv, "cannot link upload %s to its part %s",
                                    upload->record->id, part);
        }
    }
    return NULL;
}

const tus_error_t *tus_create(tus_upload_t **result, const tus_core_t *core,
                              const tus_creation_t *creation, apr_pool_t *p)
{
    tus_upload_t *upload = apr_pcalloc(p, sizeof(*upload));
    const tus_error_t *error;

    *result = upload;
    upload->core = core;
    upload->pool = p;
    upload->record = make_record(core, creation, p);
    upload->created = 1;
    upload->modified = upload->record->created;
    error = core->events->pre_create(core->baton, upload);
    if (!error) {
        error = make(upload);
    }
    if (error || (creation->whole && creation->size > 0)) {
        return error;
    }
    error = link_parts(upload, creation->links);
    if (!error) {
        error = tus_append_end(upload);
    }
    if (error) {
        tus_create_undo(upload);
    }
    return error;
}

/* Who was told of its creation is told of its end too. */
static void undo(tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    int is_told = upload->recorded && !core->events->will_terminate(core->baton, upload);

    if (tus_remove(upload) == APR_SUCCESS && is_told) {
        core->events->post_terminate(core->baton, upload);
    }
}

void tus_create_undo(tus_upload_t *upload)
{
    if (upload->core->store->provider->remove) {
        undo(upload);
    }
    tus_upload_release(upload);
}
