/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The protocol tus 1.0: headers in, a deed, headers out. What is said in
 * quotation marks is the protocol's text. POST and PATCH have files of their
 * own, as they bring bytes.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <string.h>

/* ---- what the methods share ---------------------------------------------- */

const char *tus_v1_field(const request_rec *r, const char *name)
{
    return apr_table_get(r->headers_in, name);
}

const tus_error_t *tus_v1_check_media_type(const request_rec *r)
{
    if (tus_header_is_media_type(tus_v1_field(r, "Content-Type"), TUS_MEDIA_TYPE)) {
        return NULL;
    }
    return tus_error(r->pool, TUS_ERR_INVALID_CONTENT_TYPE, NULL);
}

const tus_error_t *tus_v1_parse_length(const request_rec *r, const tus_core_t *core,
                                       const char *value, apr_off_t *length)
{
    if (tus_header_integer(value, length) != APR_SUCCESS) {
        return tus_error(r->pool, TUS_ERR_INVALID_UPLOAD_LENGTH, NULL);
    }
    if (core->max_size && *length > core->max_size) {
        return tus_error(r->pool, TUS_ERR_MAX_SIZE_EXCEEDED,
                         "the upload has more than the %" APR_OFF_T_FMT
                         " bytes that TusMaxSize allows",
                         core->max_size);
    }
    return NULL;
}

/* "MUST be included in every PATCH response if the upload is going to expire" */
static void announce_expiry(request_rec *r, const tus_upload_t *upload)
{
    apr_time_t at = tus_expire_at(upload);
    char *date;

    if (at) {
        date = apr_palloc(r->pool, APR_RFC822_DATE_LEN);
        apr_rfc822_date(date, at);
        tus_answer_header(r, "Upload-Expires", date);
    }
}

void tus_v1_note(request_rec *r, const tus_upload_t *upload)
{
    apr_table_setn(r->notes, "tus-id", upload->record->id);
    apr_table_setn(r->notes, "tus-offset", apr_off_t_toa(r->pool, upload->offset));
    announce_expiry(r, upload);
}

/* The part is finished and its client is told so, whatever becomes of the final. */
static void join_waiting(request_rec *r, const tus_upload_t *part)
{
    const tus_error_t *error = tus_join_waiting(part->core, part->record->id, r->pool);

    if (error) {
        apr_status_t rv;
        const char *story = tus_error_story(error, &rv, r->pool);

        ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, r,
                      "an upload that waited for part %s cannot be joined: %s", part->record->id,
                      story);
    }
}

void tus_v1_release(request_rec *r, tus_upload_t *upload)
{
    tus_upload_release(upload);
    if (upload->finished_now && upload->record->is_partial) {
        join_waiting(r, upload);
    }
}

/* ---- OPTIONS ------------------------------------------------------------- */

static int handle_options(request_rec *r, const tus_request_t *request)
{
    const tus_settings_t *settings = request->settings;
    apr_off_t max_size = tus_config_max_size(settings);

    tus_answer_header(r, "Tus-Version", TUS_VERSION);
    if (request->offers) {
        tus_answer_header(r, "Tus-Extension", tus_endpoint_extensions(request->offers, r->pool));
    }
    if (request->offers & TUS_EXT_CHECKSUM) {
        tus_answer_header(r, "Tus-Checksum-Algorithm",
                          tus_checksum_names(settings->checksums, r->pool));
    }
    if (max_size) {
        tus_answer_header(r, "Tus-Max-Size", apr_off_t_toa(r->pool, max_size));
    }
    return tus_answer_empty(r, HTTP_OK);
}

/* ---- HEAD, GET, DELETE --------------------------------------------------- */

/* As received; of another server's final all that is known is what it was made of. */
static const char *concat_of(const request_rec *r, const tus_request_t *request,
                             const tus_record_t *record)
{
    apr_array_header_t *urls;

    if (record->concat || !record->is_final || !record->parts) {
        return record->concat || !record->is_partial ? record->concat : "partial";
    }
    if (record->parts->nelts > TUS_CONCAT_MAX) {
        return NULL;
    }
    urls = apr_array_make(r->pool, record->parts->nelts, sizeof(const char *));
    for (int i = 0; i < record->parts->nelts; i++) {
        APR_ARRAY_PUSH(urls, const char *) = apr_pstrcat(
            r->pool, request->base, APR_ARRAY_IDX(record->parts, i, const char *), NULL);
    }
    return apr_pstrcat(r->pool, "final;", apr_array_pstrcat(r->pool, urls, ' '), NULL);
}

static const char *metadata_of(const request_rec *r, const tus_record_t *record)
{
    return record->metadata ? record->metadata : tus_metadata_format(record->pairs, r->pool);
}

/* Of a final that waits or joins there is no offset to go on from. */
static void set_progress(request_rec *r, const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;
    int is_waiting = record->is_final && !tus_commit_is_finished(upload);
    apr_off_t size = is_waiting ? tus_join_length(upload->core, record, r->pool) : record->size;

    if (!is_waiting) {
        tus_answer_header(r, "Upload-Offset", apr_off_t_toa(r->pool, upload->offset));
    }
    if (size != TUS_SIZE_UNKNOWN) {
        tus_answer_header(r, "Upload-Length", apr_off_t_toa(r->pool, size));
    }
    else if (!is_waiting) {
        tus_answer_header(r, "Upload-Defer-Length", "1");
    }
}

static void set_if_any(request_rec *r, const char *name, const char *value)
{
    if (value) {
        tus_answer_header(r, name, value);
    }
}

static int handle_head(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_upload_inspect(&upload, core, request->id, r->pool);

    /* "The Server MUST prevent the client and/or proxies from caching the response" */
    tus_answer_header(r, "Cache-Control", "no-store");
    if (error) {
        return tus_answer_error(r, error);
    }
    tus_v1_release(r, upload);
    tus_v1_note(r, upload);
    set_progress(r, upload);
    set_if_any(r, "Upload-Concat", concat_of(r, request, upload->record));
    set_if_any(r, "Upload-Metadata", metadata_of(r, upload->record));
    return tus_answer_empty(r, HTTP_OK);
}

static int handle_get(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_upload_find(&upload, core, request->id, r->pool);

    if (error) {
        return tus_answer_error(r, error);
    }
    tus_v1_note(r, upload);
    return tus_download(r, upload);
}

static int handle_delete(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_terminate(&upload, core, request->id, r->pool);

    if (error) {
        return tus_answer_error(r, error);
    }
    apr_table_setn(r->notes, "tus-id", upload->record->id);
    apr_table_setn(r->notes, "tus-offset", apr_off_t_toa(r->pool, upload->offset));
    return tus_answer_done(r, HTTP_NO_CONTENT);
}

/* ---- which of them ------------------------------------------------------- */

typedef int (*deed_fn)(request_rec *r, const tus_request_t *request, const tus_core_t *core);

typedef struct method_t {
    const char *name;
    int is_for_upload; /* its URL names an upload; else the endpoint */
    int needs_version; /* a browser that follows a link says no version */
    deed_fn deed;
} method_t;

static const method_t methods[] = {
    { "POST", 0, 1, tus_v1_create },  { "HEAD", 1, 1, handle_head },
    { "PATCH", 1, 1, tus_v1_append }, { "DELETE", 1, 1, handle_delete },
    { "GET", 1, 0, handle_get },
};

#define METHOD_COUNT (sizeof(methods) / sizeof(methods[0]))

static int is_offered(const method_t *method, const tus_request_t *request)
{
    const tus_store_provider_t *store = request->settings->store.provider;

    if (!store) {
        return 1; /* the request will be told what is missing */
    }
    if (method->deed == tus_v1_create) {
        return (request->offers & TUS_EXT_CREATION) != 0;
    }
    if (method->deed == handle_delete) {
        return (request->offers & TUS_EXT_TERMINATION) != 0;
    }
    if (method->deed == handle_get) {
        return request->settings->download && store->read;
    }
    return 1;
}

static int refuse_method(request_rec *r, const tus_request_t *request)
{
    const char *allow = "OPTIONS";

    for (apr_size_t i = 0; i < METHOD_COUNT; i++) {
        if (methods[i].is_for_upload == (request->id != NULL) && is_offered(&methods[i], request)) {
            allow = apr_pstrcat(r->pool, allow, ", ", methods[i].name, NULL);
        }
    }
    tus_answer_header(r, "Allow", allow);
    return tus_answer_error(r, tus_error(r->pool, TUS_ERR_METHOD_NOT_ALLOWED, NULL));
}

static const method_t *find_method(const request_rec *r, const tus_request_t *request)
{
    if (tus_override_is_refused(r)) {
        return NULL;
    }
    for (apr_size_t i = 0; i < METHOD_COUNT; i++) {
        const method_t *method = &methods[i];

        if (strcmp(r->method, method->name) == 0) {
            return method->is_for_upload == (request->id != NULL) && is_offered(method, request)
                       ? method
                       : NULL;
        }
    }
    return NULL;
}

/* "If the version specified by the Client is not supported by the Server, ..." */
static int speaks_version(const request_rec *r)
{
    const char *version = tus_v1_field(r, "Tus-Resumable");

    return version && strcmp(version, TUS_VERSION) == 0;
}

/* What is refused whatever the method. */
static const tus_error_t *judge(request_rec *r, const tus_request_t *request,
                                const method_t *method)
{
    const tus_error_t *error = tus_cors_judge(r, request->settings);

    if (!error && method && method->needs_version && !speaks_version(r)) {
        error = tus_error(r->pool, TUS_ERR_UNSUPPORTED_VERSION, NULL);
    }
    return error;
}

int tus_v1_handle(request_rec *r, const tus_request_t *request)
{
    int is_options = r->method_number == M_OPTIONS && !tus_override_is_refused(r);
    const method_t *method = is_options ? NULL : find_method(r, request);
    tus_core_t *core;
    const tus_error_t *error;

    tus_metrics_request(r);
    error = judge(r, request, method);
    if (error) {
        return tus_answer_error(r, error);
    }
    if (is_options) {
        return handle_options(r, request);
    }
    if (!method) {
        return refuse_method(r, request);
    }
    error = tus_endpoint_open(&core, r, request->settings);
    if (error) {
        return tus_answer_error(r, error);
    }
    return method->deed(r, request, core);
}
