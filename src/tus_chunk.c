/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A chunk with a checksum. Its bytes go to the data file as they arrive, and are
 * digested on the way; but they count only once they are verified. Until then a
 * mark says where they start, and whoever holds the upload next cuts them off.
 */
#include "tus_core.h"

static const tus_error_t *failed(const tus_upload_t *upload, apr_status_t rv, const char *what)
{
    return tus_error_system(upload->pool, rv, "cannot %s the unverified bytes of upload %s", what,
                            upload->record->id);
}

static apr_status_t unmark(tus_upload_t *upload)
{
    tus_meta_t *meta = upload->core->meta;

    upload->digest = NULL;
    return meta->provider->unmark(meta, upload->record->id);
}

const tus_error_t *tus_chunk_begin(tus_upload_t *upload, unsigned algorithms)
{
    const tus_core_t *core = upload->core;
    tus_meta_t *meta = core->meta;
    tus_digest_t *digest;
    apr_status_t rv = tus_digest_begin(&digest, algorithms, upload->pool);

    if (rv == APR_SUCCESS) {
        rv = meta->provider->mark(meta, upload->record->id, upload->offset,
                                  core->sync == TUS_SYNC_ALWAYS);
    }
    if (rv != APR_SUCCESS) {
        return failed(upload, rv, "mark");
    }
    upload->digest = digest;
    upload->unverified = upload->offset;
    return NULL;
}

/*
 * The mark goes last: a request that dies in between is recovered from by the
 * next. A length that came with the chunk goes with it: "the upload and its
 * offset MUST NOT be updated".
 */
const tus_error_t *tus_chunk_discard(tus_upload_t *upload, apr_off_t offset)
{
    const tus_core_t *core = upload->core;
    apr_status_t rv = APR_SUCCESS;

    if (upload->offset > offset) {
        rv = tus_proof_retract(upload, offset);
    }
    if (rv == APR_SUCCESS && upload->offset > offset) {
        rv = core->store->provider->truncate(upload->writer, offset);
    }
    if (rv == APR_SUCCESS && core->sync == TUS_SYNC_ALWAYS) {
        rv = core->store->provider->flush(upload->writer);
    }
    if (rv == APR_SUCCESS) {
        upload->offset = offset;
        rv = unmark(upload);
    }
    if (upload->declared) {
        upload->record->size = TUS_SIZE_UNKNOWN;
        upload->declared = 0;
        upload->changed = 1; /* it may have been written down already */
    }
    return rv == APR_SUCCESS ? NULL : failed(upload, rv, "remove");
}

const tus_error_t *tus_chunk_verify(tus_upload_t *upload, const tus_checksum_t *checksum)
{
    const tus_core_t *core = upload->core;
    const tus_error_t *error;
    int equal;
    apr_status_t rv = tus_digest_compare(upload->digest, checksum, &equal);

    if (rv == APR_SUCCESS && equal && core->sync == TUS_SYNC_ALWAYS) {
        rv = core->store->provider->flush(upload->writer);
    }
    if (rv == APR_SUCCESS && equal) {
        rv = unmark(upload);
    }
    if (rv != APR_SUCCESS) {
        return failed(upload, rv, "verify");
    }
    if (equal) {
        return NULL;
    }
    error = tus_chunk_discard(upload, upload->unverified);
    return error ? error : tus_error(upload->pool, TUS_ERR_CHECKSUM_MISMATCH, NULL);
}

static apr_status_t read_mark(const tus_upload_t *upload, apr_off_t *offset)
{
    tus_meta_t *meta = upload->core->meta;

    return meta->provider->marked(meta, upload->record->id, offset);
}

const tus_error_t *tus_chunk_recover(tus_upload_t *upload)
{
    apr_off_t verified;
    apr_status_t rv = read_mark(upload, &verified);

    if (APR_STATUS_IS_ENOENT(rv)) {
        return NULL;
    }
    if (rv != APR_SUCCESS) {
        return failed(upload, rv, "find");
    }
    if (upload->record->finished || verified > upload->offset) {
        verified = upload->offset;
    }
    return tus_chunk_discard(upload, verified);
}

const tus_error_t *tus_chunk_count(tus_upload_t *upload, apr_off_t size)
{
    tus_store_t *store = upload->core->store;
    apr_off_t verified;
    apr_status_t rv;

    upload->offset = size;
    rv = read_mark(upload, &verified);
    if (APR_STATUS_IS_ENOENT(rv)) { /* taken away since the size was read? then it was cut first */
        rv = store->provider->size(store, upload->record, &verified, &upload->modified);
    }
    if (rv == APR_SUCCESS && verified < size) {
        upload->offset = verified;
    }
    return rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv) ? NULL : failed(upload, rv, "find");
}
