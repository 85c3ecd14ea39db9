/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Bytes onto the end of a held upload, and what is settled once no more come. */
#include "tus_core.h"

apr_off_t tus_append_room(const tus_upload_t *upload)
{
    apr_off_t limit = upload->record->size;

    if (tus_upload_is_finished(upload)) {
        return 0;
    }
    if (limit == TUS_SIZE_UNKNOWN) {
        limit = upload->core->max_size ? upload->core->max_size : APR_INT64_MAX;
    }
    return limit > upload->offset ? limit - upload->offset : 0;
}

static const tus_error_t *no_room(const tus_upload_t *upload)
{
    if (upload->record->size == TUS_SIZE_UNKNOWN) {
        return tus_error(upload->pool, TUS_ERR_MAX_SIZE_EXCEEDED, NULL);
    }
    return tus_error(upload->pool, TUS_ERR_UPLOAD_SIZE_EXCEEDED,
                     "the upload has a length of %" APR_OFF_T_FMT
                     " bytes, and the request brought more",
                     upload->record->size);
}

/* Another server's upload, until we write to it: what it did not say begins now. */
static void adopt(tus_upload_t *upload)
{
    tus_record_t *record = upload->record;

    if (!record->ours) {
        record->ours = 1;
        record->created = upload->core->now();
        upload->changed = 1;
    }
}

const tus_error_t *tus_append(tus_upload_t *upload, const char *data, apr_size_t len)
{
    const tus_store_provider_t *store = upload->core->store->provider;
    apr_off_t room = tus_append_room(upload);
    apr_size_t fits = (apr_off_t)len > room ? (apr_size_t)room : len;
    apr_size_t done = 0;
    apr_status_t rv = APR_SUCCESS;

    if (fits) { /* a finished upload has no writer, and no room */
        adopt(upload);
        rv = store->write(upload->writer, upload->offset, data, fits, &done);
    }

    upload->offset += (apr_off_t)done;
    if (rv != APR_SUCCESS) {
        return tus_error_system(upload->pool, rv,
                                "cannot store bytes of upload %s at offset %" APR_OFF_T_FMT,
                                upload->record->id, upload->offset);
    }
    return fits < len ? no_room(upload) : NULL;
}

/* The index hears of it first; what this request creates was noted before its data was made. */
static const tus_error_t *put_record(tus_upload_t *upload, int durable)
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

const tus_error_t *tus_append_declare(tus_upload_t *upload, apr_off_t length)
{
    const tus_core_t *core = upload->core;
    tus_record_t *record = upload->record;
    const tus_error_t *error;

    if (record->size == length) {
        return NULL;
    }
    if (record->size != TUS_SIZE_UNKNOWN) {
        return tus_error(upload->pool, TUS_ERR_INVALID_UPLOAD_LENGTH,
                         "the length of the upload is %" APR_OFF_T_FMT " and cannot be changed",
                         record->size);
    }
    if (core->max_size && length > core->max_size) {
        return tus_error(upload->pool, TUS_ERR_MAX_SIZE_EXCEEDED, NULL);
    }
    if (length < upload->offset) {
        return tus_error(upload->pool, TUS_ERR_INVALID_UPLOAD_LENGTH,
                         "Upload-Length is less than the %" APR_OFF_T_FMT " bytes stored already",
                         upload->offset);
    }
    record->size = length;
    error = put_record(upload, core->sync == TUS_SYNC_ALWAYS);
    if (error) {
        record->size = TUS_SIZE_UNKNOWN;
    }
    return error;
}

static const tus_error_t *flush(tus_upload_t *upload)
{
    apr_status_t rv = upload->core->store->provider->flush(upload->writer);

    if (rv == APR_SUCCESS) {
        return NULL;
    }
    return tus_error_system(upload->pool, rv, "cannot sync the data of upload %s",
                            upload->record->id);
}

const tus_error_t *tus_append_end(tus_upload_t *upload)
{
    int always = upload->core->sync == TUS_SYNC_ALWAYS;
    const tus_error_t *error = NULL;

    if (tus_upload_is_finished(upload)) {
        return NULL;
    }
    if (upload->offset == upload->record->size) {
        return tus_finish(upload);
    }
    if (always && upload->offset) {
        error = flush(upload);
    }
    if (!error && (!upload->recorded || upload->changed)) {
        error = put_record(upload, always);
    }
    return error;
}

/* Data first, then the record that vouches for it. */
const tus_error_t *tus_finish(tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    tus_record_t *record = upload->record;
    int durable = core->sync != TUS_SYNC_NONE;
    const tus_error_t *error = durable && record->size ? flush(upload) : NULL;

    if (error) {
        return error;
    }
    adopt(upload);
    record->finished = core->now();
    error = put_record(upload, durable);
    if (error) {
        record->finished = 0;
        return error;
    }
    upload->finished_now = 1;
    return NULL;
}
