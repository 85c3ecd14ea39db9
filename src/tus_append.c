/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Bytes onto the end of a held upload, and what is settled once no more come. */
#include "tus_core.h"

apr_off_t tus_append_room(const tus_upload_t *upload)
{
    apr_off_t limit = upload->record->size;

    if (tus_commit_is_finished(upload)) {
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

/* @param data NULL: the bytes are in the pipe */
static apr_status_t store_bytes(tus_upload_t *upload, const char *data, apr_os_file_t pipe,
                                apr_size_t len, apr_size_t *done)
{
    const tus_store_provider_t *store = upload->core->store->provider;

    return data ? store->write(upload->writer, upload->offset, data, len, done)
                : store->splice(upload->writer, upload->offset, pipe, len, done);
}

static const tus_error_t *append(tus_upload_t *upload, const char *data, apr_os_file_t pipe,
                                 apr_size_t len)
{
    apr_off_t room = tus_append_room(upload);
    apr_size_t fits = (apr_off_t)len > room ? (apr_size_t)room : len;
    apr_size_t done = 0;
    const tus_error_t *error;
    apr_status_t rv = APR_SUCCESS;

    if (fits && upload->offset + (apr_off_t)fits == upload->record->size) {
        rv = tus_commit_note(upload); /* who finds all of it there is to finish it, if we die */
    }
    if (rv == APR_SUCCESS && fits) { /* a finished upload has no writer, and no room */
        error = tus_proof_begin(upload);
        if (error) {
            return error;
        }
        tus_commit_adopt(upload);
        rv = store_bytes(upload, data, pipe, fits, &done);
    }
    if (rv == APR_SUCCESS && upload->digest) {
        rv = tus_digest_update(upload->digest, data, done);
    }

    if (done) {
        upload->offset += (apr_off_t)done;
        upload->modified = upload->core->now();
    }
    if (APR_STATUS_IS_ENOENT(rv)) { /* somebody took the data away */
        return tus_error(upload->pool, TUS_ERR_UPLOAD_NOT_FOUND, NULL);
    }
    if (rv != APR_SUCCESS) {
        return tus_error_system(upload->pool, rv,
                                "cannot store bytes of upload %s at offset %" APR_OFF_T_FMT,
                                upload->record->id, upload->offset);
    }
    error = fits ? tus_proof_advance(upload) : NULL;
    if (error) {
        return error;
    }
    return fits < len ? no_room(upload) : NULL;
}

const tus_error_t *tus_append(tus_upload_t *upload, const char *data, apr_size_t len)
{
    return append(upload, data, -1, len);
}

int tus_append_can_splice(const tus_upload_t *upload)
{
    return upload->core->store->provider->splice && !upload->digest;
}

const tus_error_t *tus_append_pipe(tus_upload_t *upload, apr_os_file_t pipe, apr_size_t len)
{
    return append(upload, NULL, pipe, len);
}

const tus_error_t *tus_append_check_length(const tus_upload_t *upload, apr_off_t length)
{
    const tus_core_t *core = upload->core;
    const tus_record_t *record = upload->record;

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
    return NULL;
}

const tus_error_t *tus_append_declare(tus_upload_t *upload, apr_off_t length)
{
    const tus_error_t *error = tus_append_check_length(upload, length);

    if (error || upload->record->size == length) {
        return error;
    }
    tus_commit_adopt(upload);
    upload->record->size = length;
    upload->declared = 1;
    upload->changed = 1;
    return NULL;
}

const tus_error_t *tus_append_end(tus_upload_t *upload)
{
    int always = upload->core->sync == TUS_SYNC_ALWAYS;
    const tus_error_t *error = NULL;

    if (upload->digest) {
        error = tus_chunk_discard(upload, upload->unverified);
    }
    if (error || tus_commit_is_finished(upload)) {
        return error;
    }
    if (tus_commit_has_all(upload)) {
        return tus_commit_finish(upload);
    }
    if (always && upload->offset) {
        error = tus_proof_note(upload);
    }
    if (!error && (!upload->recorded || upload->changed)) {
        error = tus_proof_record(upload);
    }
    return error;
}
