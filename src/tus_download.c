/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * GET. The bytes leave as a file bucket through httpd's own filters, so ranges,
 * conditional requests, sendfile and compression are httpd's.
 *
 * A finished upload never changes. An unfinished one does: it is answered with
 * the bytes stored so far, and nothing about it may be kept.
 */
#include "tus_httpd.h"

#include <apr_buckets.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

/*
 * Bytes that are read at once where the file is not sent as it is. With the 8 KB that buckets are
 * usually read by, a download takes 1.7 times the CPU; more than this buys nothing, and each reader
 * who is slow keeps one or two such pieces.
 */
#define READ_SIZE (64 * 1024)

static apr_int32_t sendfile_flag(const request_rec *r)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);

    return core->enable_sendfile == ENABLE_SENDFILE_ON ? APR_FOPEN_SENDFILE_ENABLED : 0;
}

static const tus_error_t *open_file(request_rec *r, const tus_upload_t *upload, apr_file_t **file)
{
    tus_store_t *store = upload->core->store;
    apr_status_t rv =
        store->provider->read(store, upload->record, sendfile_flag(r), file, &r->finfo, r->pool);

    if (APR_STATUS_IS_ENOENT(rv)) {
        return tus_error(r->pool, TUS_ERR_UPLOAD_GONE, "the upload was finished and taken away");
    }
    if (rv != APR_SUCCESS) {
        return tus_error_system(r->pool, rv, "cannot read the data of upload %s",
                                upload->record->id);
    }
    return NULL;
}

static void name_content(request_rec *r, const tus_record_t *record)
{
    const char *type, *disposition;

    tus_disposition(record->pairs, &type, &disposition, r->pool);
    ap_set_content_type(r, type);
    apr_table_setn(r->headers_out, "Content-Disposition", disposition);
}

/* mmap off: a file cut short while it is mapped would take the whole child down. */
static int send_file(request_rec *r, apr_file_t *file, apr_off_t len)
{
    apr_bucket_alloc_t *alloc = r->connection->bucket_alloc;
    apr_bucket_brigade *brigade = apr_brigade_create(r->pool, alloc);
    apr_bucket *bucket = apr_brigade_insert_file(brigade, file, 0, len, r->pool);
    apr_status_t rv;

    apr_bucket_file_enable_mmap(bucket, 0);
    apr_bucket_file_set_buf_size(bucket, READ_SIZE);
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(alloc));
    rv = ap_pass_brigade(r->output_filters, brigade);
    if (rv == APR_SUCCESS || r->status != HTTP_OK || r->connection->aborted) {
        return OK;
    }
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, rv, r, "sending a download ended early");
    return AP_FILTER_ERROR;
}

int tus_download(request_rec *r, tus_upload_t *upload)
{
    apr_file_t *file;
    const tus_error_t *error = open_file(r, upload, &file);
    int status;

    if (error) {
        return tus_answer_error(r, error);
    }
    tus_amend_forbid_includes(r);
    name_content(r, upload->record);
    if (!tus_commit_is_finished(upload)) {
        apr_table_setn(r->headers_out, "Cache-Control", "no-store");
        if (upload->offset == 0) {
            return tus_answer_empty(r, HTTP_NO_CONTENT);
        }
        ap_set_content_length(r, upload->offset);
        return send_file(r, file, upload->offset);
    }
    ap_update_mtime(r, r->finfo.mtime);
    ap_set_last_modified(r);
    ap_set_etag(r);
    apr_table_setn(r->headers_out, "Accept-Ranges", "bytes");
    status = ap_meets_conditions(r);
    if (status != OK) { /* 304 or 412: the headers are the answer */
        return tus_answer_empty(r, status);
    }
    ap_set_content_length(r, r->finfo.size);
    return send_file(r, file, r->finfo.size);
}
