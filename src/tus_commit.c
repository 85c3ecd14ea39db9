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

/* Another server's upload, until we write to it: what it did not say begins now. */
void tus_commit_adopt(tus_upload_t *upload)
{
    tus_record_t *record = upload->record;

    if (!record->ours) {
        record->ours = 1;
        record->created = upload->core->now();
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

/* The index hears of it first; what this request creates was noted before its data was made. */
const tus_error_t *tus_commit_record(tus_upload_t *upload, int durable)
{
    const tus_core_t *core = upload->core;
    const char *id = upload->record->id;
    apr_status_t rv = APR_SUCCESS;

    if (!upload->created) {
        rv = core->meta->provider->note(core->meta, id, TUS_NOTE_CHANGE);
    }
    if (rv == APR_SUCCESS) {
        rv = core->meta->provider->put(core->meta, upload->record, durable, upload->pool);
    }
    if (rv == APR_SUCCESS && !upload->recorded) {
        rv = core->store->provider->confirm(upload->writer);
    }
    if (rv != APR_SUCCESS) {
        return tus_error_system(upload->pool, rv, "cannot write the record of upload %s", id);
    }
    upload->recorded = 1;
    upload->changed = 0;
    return NULL;
}

/* Data first, then the record that vouches for it. */
const tus_error_t *tus_commit_finish(tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    tus_record_t *record = upload->record;
    int durable = core->sync != TUS_SYNC_NONE;
    const tus_error_t *error = durable && record->size ? tus_commit_data(upload) : NULL;

    if (error) {
        return error;
    }
    tus_commit_adopt(upload);
    record->finished = core->now();
    error = tus_commit_record(upload, durable);
    if (error) {
        record->finished = 0;
        return error;
    }
    upload->finished_now = 1;
    return NULL;
}
