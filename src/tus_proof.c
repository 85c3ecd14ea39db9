/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What of an unfinished upload's data is proven to be stored.
 *
 * While the system runs, the size of the data file is the offset, whoever dies.
 * But a system that went down without writing everything may have kept a size
 * whose bytes never reached the disk. So data that was written before the
 * system was booted, and not before everything was last known to be on stable
 * storage, counts up to the last offset that was noted as synced. Where there is
 * a note, the record is on stable storage: without it the note would be of no use.
 */
#include "tus_core.h"

/* Write-back is started early and in small pieces, so that the sync has little left to wait for. */
#define WRITE_BACK_STEP APR_INT64_C(8388608)
#define SYNC_STEP APR_INT64_C(268435456)

static const tus_error_t *failed(const tus_upload_t *upload, apr_status_t rv, const char *what)
{
    return tus_error_system(upload->pool, rv, "cannot %s what of upload %s is synced", what,
                            upload->record->id);
}

/* Another server's upload has no notes: what it made is taken as it is. */
static int is_doubtful(const tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;

    return upload->record->ours && !upload->record->finished && upload->offset > 0
           && upload->modified < core->boot && upload->modified >= core->settled;
}

const tus_error_t *tus_proof_count(tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;
    apr_off_t synced = 0;
    apr_status_t rv;

    if (!is_doubtful(upload)) {
        return NULL;
    }
    rv = meta->provider->synced(meta, upload->record->id, &synced);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) {
        return failed(upload, rv, "tell");
    }
    if (synced < upload->offset) {
        upload->offset = synced;
    }
    return NULL;
}

const tus_error_t *tus_proof_recover(tus_upload_t *upload)
{
    const tus_store_provider_t *store = upload->core->store->provider;
    apr_off_t stored = upload->offset;
    const tus_error_t *error = tus_proof_count(upload);
    apr_status_t rv;

    if (error || upload->offset == stored) {
        return error;
    }
    rv = store->truncate ? store->truncate(upload->writer, upload->offset) : APR_ENOTIMPL;
    if (rv != APR_SUCCESS) {
        upload->offset = stored;
        return failed(upload, rv, "cut the data back to");
    }
    upload->core->events->cut(upload->core->baton, upload, stored);
    return NULL;
}

apr_status_t tus_proof_retract(tus_upload_t *upload, apr_off_t offset)
{
    tus_meta_t *meta = upload->core->meta;
    apr_status_t rv;

    if (upload->synced <= offset) {
        return APR_SUCCESS;
    }
    rv = meta->provider->note_synced(meta, upload->record->id, offset);
    if (rv == APR_SUCCESS) {
        upload->synced = offset;
    }
    return rv;
}

/* Also a note of another endpoint's, whose TusSync differs. */
static int is_noted(tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;
    apr_off_t synced;

    return upload->recorded
           && !APR_STATUS_IS_ENOENT(meta->provider->synced(meta, upload->record->id, &synced));
}

const tus_error_t *tus_proof_record(tus_upload_t *upload)
{
    int durable = upload->core->sync == TUS_SYNC_ALWAYS || upload->lasting || is_noted(upload);

    return tus_commit_record(upload, durable);
}

/*
 * An upload may grow by many small requests: what was noted before counts, and
 * that there is a note says that there is a record on stable storage.
 */
const tus_error_t *tus_proof_begin(tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;
    int always = upload->core->sync == TUS_SYNC_ALWAYS;
    apr_status_t rv = APR_SUCCESS;

    if (upload->paced || upload->core->sync == TUS_SYNC_NONE) {
        return NULL;
    }
    upload->paced = 1;
    upload->written_back = upload->offset;
    if (upload->offset >= SYNC_STEP || (always && upload->offset > 0)) {
        rv = meta->provider->synced(meta, upload->record->id, &upload->synced);
        upload->lasting |= rv == APR_SUCCESS;
    }
    return rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv) ? NULL : failed(upload, rv, "tell");
}

const tus_error_t *tus_proof_note(tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;
    const tus_error_t *error = tus_proof_begin(upload);
    apr_status_t rv;

    if (!error) {
        error = tus_commit_data(upload);
    }
    if (!error && !upload->lasting) {
        error = tus_commit_record(upload, 1);
    }
    if (error) {
        return error;
    }
    rv = meta->provider->note_synced(meta, upload->record->id, upload->offset);
    upload->synced = upload->offset;
    return rv == APR_SUCCESS ? NULL : failed(upload, rv, "note");
}

/* Nothing is noted of bytes that are not verified yet, nor of an upload without a record. */
const tus_error_t *tus_proof_advance(tus_upload_t *upload)
{
    const tus_store_provider_t *store = upload->core->store->provider;

    if (upload->core->sync == TUS_SYNC_NONE) {
        return NULL;
    }
    if (store->write_back && upload->offset - upload->written_back >= WRITE_BACK_STEP) {
        store->write_back(upload->writer, upload->written_back,
                          upload->offset - upload->written_back);
        upload->written_back = upload->offset;
    }
    if (!upload->digest && upload->recorded && upload->offset - upload->synced >= SYNC_STEP) {
        return tus_proof_note(upload);
    }
    return NULL;
}

/* Of what is small no note was made, unless each request makes one. */
apr_status_t tus_proof_forget(const tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;

    if (core->sync != TUS_SYNC_ALWAYS && upload->record->size < SYNC_STEP) {
        return APR_SUCCESS;
    }
    return core->meta->provider->note_synced(core->meta, upload->record->id, 0);
}
