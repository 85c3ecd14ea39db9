/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What an upload has come to, written down: its data, its record, its finish. */
#include "tus_core.h"

int tus_commit_is_finished(const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;

    if (record->ours) {
        return record->finished != 0;
    }
    return record->size != TUS_SIZE_UNKNOWN && upload->offset >= record->size;
}

/* A final is made of its parts: how much of it there is says nothing. */
int tus_commit_has_all(const tus_upload_t *upload)
{
    return !upload->record->is_final && upload->offset == upload->record->size;
}

/* Another server's upload, until we write to it: what it did not say begins now. */
void tus_commit_adopt(tus_upload_t *upload)
{
    tus_record_t *record = upload->record;

    if (!record->ours) {
        record->ours = 1;
        record->created = upload->core->now();
        record->expire = upload->core->expire;
        upload->changed = 1;
    }
}

const tus_error_t *tus_commit_data(tus_upload_t *upload)
{
    apr_status_t rv = upload->core->store->provider->flush(upload->writer);

    if (rv == APR_SUCCESS) {
        return NULL;
    }
    return tus_error_system(upload->pool, rv, "cannot sync the data of upload %s",
                            upload->record->id);
}

/* What this request creates was noted before its data was made. */
apr_status_t tus_commit_note(tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;
    apr_status_t rv = APR_SUCCESS;

    if (!upload->created && !upload->noted) {
        rv = meta->provider->note(meta, upload->record->id, TUS_NOTE_CHANGE);
        upload->noted = rv == APR_SUCCESS;
    }
    return rv;
}

/* The index hears of it first. */
static apr_status_t write_record(tus_upload_t *upload, int durable)
{
    const tus_core_t *core = upload->core;
    tus_record_t *record = upload->record;
    apr_status_t rv = core->store->provider->locate(core->store, record, upload->pool);

    if (rv == APR_SUCCESS) {
        rv = tus_commit_note(upload);
    }
    if (rv == APR_SUCCESS) {
        rv = core->meta->provider->put(core->meta, record, durable, upload->pool);
    }
    if (rv == APR_SUCCESS && !upload->recorded) {
        rv = core->store->provider->confirm(upload->writer);
    }
    return rv;
}

const tus_error_t *tus_commit_record(tus_upload_t *upload, int durable)
{
    const tus_core_t *core = upload->core;
    const tus_error_t *error =
        upload->recorded ? NULL : core->events->will_create(core->baton, upload);
    apr_status_t rv;

    if (error) {
        return error;
    }
    rv = write_record(upload, durable);

    if (rv != APR_SUCCESS) {
        return tus_error_system(upload->pool, rv, "cannot write the record of upload %s",
                                upload->record->id);
    }
    upload->changed = 0;
    upload->lasting = durable;
    if (!upload->recorded) {
        upload->recorded = 1;
        core->events->post_create(core->baton, upload);
    }
    return NULL;
}

/* The data may have been removed, replaced or cut by others while it came. */
static const tus_error_t *check_data(tus_upload_t *upload)
{
    apr_off_t size;
    apr_time_t modified;
    apr_status_t rv = upload->core->store->provider->written(upload->writer, &size, &modified);

    if (APR_STATUS_IS_ENOENT(rv)) {
        return tus_error(upload->pool, TUS_ERR_UPLOAD_NOT_FOUND, NULL);
    }
    if (rv == APR_SUCCESS && size != upload->offset) {
        rv = TUS_EDAMAGED;
    }
    return rv == APR_SUCCESS
               ? NULL
               : tus_error_system(upload->pool, rv, "cannot finish upload %s", upload->record->id);
}

/* Data first, then the record that vouches for it. */
const tus_error_t *tus_commit_finish(tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    tus_record_t *record = upload->record;
    int durable = core->sync != TUS_SYNC_NONE;
    const tus_error_t *error = durable && record->size ? tus_commit_data(upload) : NULL;

    if (!error) {
        error = check_data(upload);
    }
    if (!error) {
        error = core->events->pre_finish(core->baton, upload);
    }
    if (error) {
        return error;
    }
    tus_commit_adopt(upload);
    record->finished = core->now();
    error = core->events->will_finish(core->baton, upload);
    if (!error) {
        error = tus_commit_record(upload, durable);
    }
    if (error) {
        record->finished = 0;
        return error;
    }
    upload->finished_now = 1;
    tus_proof_forget(upload);
    core->events->post_finish(core->baton, upload);
    return NULL;
}

const tus_error_t *tus_commit_complete(tus_upload_t *upload)
{
    int is_due = upload->writer && tus_commit_has_all(upload) && !tus_commit_is_finished(upload);

    return is_due ? tus_commit_finish(upload) : NULL;
}
