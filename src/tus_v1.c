/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The protocol tus 1.0: headers in, a deed, headers out. What is said in
 * quotation marks is the protocol's text.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>

#include <string.h>

/* ---- a request's parts --------------------------------------------------- */

static const char *header_in(const request_rec *r, const char *name)
{
    return apr_table_get(r->headers_in, name);
}

/* The length of the body, -1 where only its end will tell. HTTP_IN judges both headers. */
static apr_off_t body_length(const request_rec *r)
{
    const char *value = header_in(r, "Content-Length");
    apr_off_t length;

    if (header_in(r, "Transfer-Encoding")) {
        return -1;
    }
    if (!value) {
        return r->connection->master && ap_request_has_body((request_rec *)r) ? -1 : 0;
    }
    return tus_header_integer(value, &length) == APR_SUCCESS ? length : -1;
}

static const tus_error_t *check_media_type(const request_rec *r)
{
    if (tus_header_is_media_type(header_in(r, "Content-Type"), TUS_MEDIA_TYPE)) {
        return NULL;
    }
    return tus_error(r->pool, TUS_ERR_INVALID_CONTENT_TYPE, NULL);
}

static const tus_error_t *check_body_limit(const request_rec *r, apr_off_t length)
{
    apr_off_t limit = tus_amend_limit(r);

    if (!limit || length <= limit) {
        return NULL;
    }
    return tus_error(r->pool, TUS_ERR_MAX_SIZE_EXCEEDED,
                     "the request has more than the %" APR_OFF_T_FMT
                     " bytes that LimitRequestBody allows",
                     limit);
}

/* "Upload-Length ... MUST be a non-negative integer" */
static const tus_error_t *parse_length(const request_rec *r, const tus_core_t *core,
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

/* ---- a request's story in the log ---------------------------------------- */

static void note_upload(request_rec *r, const tus_upload_t *upload)
{
    apr_table_setn(r->notes, "tus-id", upload->record->id);
    apr_table_setn(r->notes, "tus-offset", apr_off_t_toa(r->pool, upload->offset));
}

static void log_created(request_rec *r, const tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;
    const char *size =
        record->size == TUS_SIZE_UNKNOWN ? "deferred" : apr_off_t_toa(r->pool, record->size);

    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "UploadCreated id=%s size=%s", record->id, size);
}

static void log_ended(request_rec *r, const tus_upload_t *upload, const char *reason)
{
    const tus_record_t *record = upload->record;

    if (upload->finished_now) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "UploadFinished id=%s size=%" APR_OFF_T_FMT,
                      record->id, record->size);
    }
    else if (reason) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "UploadInterrupted id=%s offset=%" APR_OFF_T_FMT " reason=%s", record->id,
                      upload->offset, reason);
    }
}

/* ---- receiving ----------------------------------------------------------- */

static const char *reason_of(tus_body_e state)
{
    switch (state) {
    case TUS_BODY_ASKED:
        return "taken-over";
    case TUS_BODY_TIMEOUT:
        return "timeout";
    case TUS_BODY_INCOMPLETE:
        return "client-gone";
    case TUS_BODY_ANSWERED:
        return "bad-body";
    case TUS_BODY_REFUSED:
        return "not-stored";
    case TUS_BODY_DONE:
    case TUS_BODY_AGAIN:
        break;
    }
    return NULL;
}

/* What ended the body early; the bytes that arrived are stored in each case. */
static const tus_error_t *error_of(request_rec *r, const tus_body_t *body, tus_body_e state)
{
    switch (state) {
    case TUS_BODY_TIMEOUT:
        return tus_error(r->pool, TUS_ERR_READ_TIMEOUT, NULL);
    case TUS_BODY_ASKED:
        return tus_error(r->pool, TUS_ERR_UPLOAD_INTERRUPTED, NULL);
    case TUS_BODY_INCOMPLETE:
        return tus_error(r->pool, TUS_ERR_UPLOAD_INTERRUPTED,
                         "the request ended before its body did; what arrived is kept");
    case TUS_BODY_REFUSED:
        return body->error;
    default:
        return NULL;
    }
}

/*
 * Receives the body into a held upload and settles what arrived. The first
 * error counts: that the rest could not be settled either is no news then.
 */
static const tus_error_t *receive(request_rec *r, tus_upload_t *upload, tus_body_t *body,
                                  tus_body_e *state)
{
    const tus_error_t *error, *settled;

    tus_body_init(body, r, upload);
    *state = tus_body_receive(body);
    error = error_of(r, body, *state);
    settled = tus_append_end(upload);
    log_ended(r, upload, reason_of(*state));
    note_upload(r, upload);
    if (*state != TUS_BODY_DONE) {
        r->connection->keepalive = AP_CONN_CLOSE; /* the rest of the body is not awaited */
    }
    return error ? error : settled;
}

/* ---- OPTIONS ------------------------------------------------------------- */

static int handle_options(request_rec *r, const tus_request_t *request)
{
    apr_off_t max_size = tus_config_max_size(request->settings);

    tus_answer_header(r, "Tus-Version", TUS_VERSION);
    tus_answer_header(r, "Tus-Extension",
                      tus_endpoint_extensions(request->settings->store.provider, r->pool));
    if (max_size) {
        tus_answer_header(r, "Tus-Max-Size", apr_off_t_toa(r->pool, max_size));
    }
    return tus_answer_empty(r, HTTP_OK);
}

/* ---- POST ---------------------------------------------------------------- */

/* "The request MUST include one of": Upload-Length, or Upload-Defer-Length: 1. */
static const tus_error_t *parse_size(const request_rec *r, const tus_core_t *core, apr_off_t *size)
{
    const char *length = header_in(r, "Upload-Length");
    const char *defer = header_in(r, "Upload-Defer-Length");

    if (length && defer) {
        return tus_error(r->pool, TUS_ERR_AMBIGUOUS_UPLOAD_LENGTH, NULL);
    }
    if (!defer) {
        return parse_length(r, core, length, size);
    }
    if (strcmp(defer, "1") != 0) {
        return tus_error(r->pool, TUS_ERR_INVALID_UPLOAD_LENGTH_DEFER, NULL);
    }
    *size = TUS_SIZE_UNKNOWN;
    return NULL;
}

static const tus_error_t *parse_creation(const request_rec *r, const tus_core_t *core,
                                         apr_off_t length, tus_creation_t *creation)
{
    const tus_error_t *error = parse_size(r, core, &creation->size);

    if (error) {
        return error;
    }
    creation->metadata = header_in(r, "Upload-Metadata");
    error = tus_metadata_parse(creation->metadata, &creation->pairs, r->pool);
    if (error || length == 0) {
        return error;
    }
    error = check_media_type(r);
    if (error) {
        return error;
    }
    if (creation->size != TUS_SIZE_UNKNOWN && length > creation->size) {
        return tus_error(r->pool, TUS_ERR_UPLOAD_SIZE_EXCEEDED, NULL);
    }
    creation->whole = length == creation->size;
    return check_body_limit(r, length);
}

static int answer_created(request_rec *r, const tus_request_t *request, const tus_upload_t *upload,
                          int with_offset)
{
    const char *location = apr_pstrcat(r->pool, request->base, upload->record->id, NULL);

    apr_table_setn(r->headers_out, "Location", location);
    if (with_offset) {
        tus_answer_header(r, "Upload-Offset", apr_off_t_toa(r->pool, upload->offset));
    }
    return tus_answer_empty(r, HTTP_CREATED);
}

/*
 * A client whose creating request ends early, but who can still read, is told
 * of the upload: it goes on from the offset instead of starting over.
 */
static int create_with_data(request_rec *r, const tus_request_t *request, tus_upload_t *upload)
{
    tus_body_t body;
    tus_body_e state;
    const tus_error_t *error = receive(r, upload, &body, &state);

    if (state == TUS_BODY_ANSWERED) {
        tus_create_undo(upload);
        return body.http_status;
    }
    if (error && (state == TUS_BODY_REFUSED || state == TUS_BODY_DONE)) {
        tus_create_undo(upload);
        return tus_answer_error(r, error);
    }
    tus_upload_release(upload);
    return answer_created(r, request, upload, 1);
}

static int handle_post(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    apr_off_t length = body_length(r);
    tus_creation_t creation = { 0 };
    tus_upload_t *upload;
    const tus_error_t *error = parse_creation(r, core, length, &creation);

    if (!error) {
        creation.owner = r->user;
        error = tus_create(&upload, core, &creation, r->pool);
    }
    if (error) {
        return tus_answer_error(r, error);
    }
    log_created(r, upload);
    if (length != 0 && !tus_commit_is_finished(upload)) {
        return create_with_data(r, request, upload);
    }
    tus_upload_release(upload);
    log_ended(r, upload, NULL);
    note_upload(r, upload);
    return answer_created(r, request, upload, 0);
}

/* ---- PATCH --------------------------------------------------------------- */

typedef struct patch_t {
    request_rec *r;
    apr_off_t offset;       /* Upload-Offset */
    apr_off_t body;         /* bytes that come, -1 if unknown */
    const char *has_length; /* Upload-Length, or NULL */
    apr_off_t length;
} patch_t;

static const tus_error_t *parse_patch(patch_t *patch, const tus_core_t *core)
{
    const request_rec *r = patch->r;
    const tus_error_t *error = check_media_type(r);

    if (error) {
        return error;
    }
    if (tus_header_integer(header_in(r, "Upload-Offset"), &patch->offset) != APR_SUCCESS) {
        return tus_error(r->pool, TUS_ERR_INVALID_OFFSET, NULL);
    }
    patch->body = body_length(r);
    patch->has_length = header_in(r, "Upload-Length");
    if (patch->has_length) {
        error = parse_length(r, core, patch->has_length, &patch->length);
    }
    return error ? error : check_body_limit(r, patch->body);
}

/*
 * "The Upload-Offset header's value MUST be equal to the current offset of the
 * resource": judged before anybody is interrupted for this request, and again
 * under the lock.
 */
static const tus_error_t *judge_patch(void *baton, const tus_upload_t *upload)
{
    const patch_t *patch = baton;
    apr_pool_t *p = patch->r->pool;
    apr_off_t room = tus_append_room(upload);

    if (upload->record->is_final) {
        return tus_error(p, TUS_ERR_MODIFY_FINAL, NULL);
    }
    if (patch->offset != upload->offset) {
        return tus_error(p, TUS_ERR_MISMATCHED_OFFSET, "the upload is at offset %" APR_OFF_T_FMT,
                         upload->offset);
    }
    if (patch->has_length && upload->record->size == TUS_SIZE_UNKNOWN) {
        room = patch->length - upload->offset;
    }
    if (patch->body > 0 && patch->body > room) {
        return tus_error(p, TUS_ERR_UPLOAD_SIZE_EXCEEDED, NULL);
    }
    return NULL;
}

static int handle_patch(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    patch_t patch = { .r = r };
    tus_upload_t *upload;
    tus_body_t body;
    tus_body_e state = TUS_BODY_DONE;
    const tus_error_t *error = parse_patch(&patch, core);

    if (!error) {
        error = tus_upload_hold(&upload, core, request->id, judge_patch, &patch, r->pool);
    }
    if (error) {
        return tus_answer_error(r, error);
    }
    if (patch.has_length) {
        error = tus_append_declare(upload, patch.length);
    }
    if (!error) {
        error = receive(r, upload, &body, &state);
    }
    tus_upload_release(upload);
    if (state == TUS_BODY_ANSWERED) {
        return body.http_status;
    }
    if (error) {
        return tus_answer_error(r, error);
    }
    tus_answer_header(r, "Upload-Offset", apr_off_t_toa(r->pool, upload->offset));
    return tus_answer_empty(r, HTTP_NO_CONTENT);
}

/* ---- HEAD, GET, DELETE --------------------------------------------------- */

static int handle_head(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    tus_upload_t *upload;
    const tus_record_t *record;
    const tus_error_t *error = tus_upload_inspect(&upload, core, request->id, r->pool);

    /* "The Server MUST prevent the client and/or proxies from caching the response" */
    tus_answer_header(r, "Cache-Control", "no-store");
    if (error) {
        return tus_answer_error(r, error);
    }
    log_ended(r, upload, NULL);
    note_upload(r, upload);
    record = upload->record;
    tus_answer_header(r, "Upload-Offset", apr_off_t_toa(r->pool, upload->offset));
    if (record->size == TUS_SIZE_UNKNOWN) {
        tus_answer_header(r, "Upload-Defer-Length", "1");
    }
    else {
        tus_answer_header(r, "Upload-Length", apr_off_t_toa(r->pool, record->size));
    }
    if (record->metadata || record->pairs) {
        const char *metadata =
            record->metadata ? record->metadata : tus_metadata_format(record->pairs, r->pool);

        if (metadata) {
            tus_answer_header(r, "Upload-Metadata", metadata);
        }
    }
    return tus_answer_empty(r, HTTP_OK);
}

static int handle_get(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_upload_find(&upload, core, request->id, r->pool);

    if (error) {
        return tus_answer_error(r, error);
    }
    note_upload(r, upload);
    return tus_download(r, upload);
}

static int handle_delete(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_upload_hold(&upload, core, request->id, NULL, NULL, r->pool);

    if (!error) {
        note_upload(r, upload);
        error = tus_terminate(upload);
    }
    if (error) {
        return tus_answer_error(r, error);
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "UploadTerminated id=%s", request->id);
    return tus_answer_empty(r, HTTP_NO_CONTENT);
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
    { "POST", 0, 1, handle_post },   { "HEAD", 1, 1, handle_head },
    { "PATCH", 1, 1, handle_patch }, { "DELETE", 1, 1, handle_delete },
    { "GET", 1, 0, handle_get },
};

#define METHOD_COUNT (sizeof(methods) / sizeof(methods[0]))

static int is_offered(const method_t *method, const tus_settings_t *settings)
{
    const tus_store_provider_t *store = settings->store.provider;

    if (!store) {
        return 1; /* the request will be told what is missing */
    }
    if (method->deed == handle_delete) {
        return store->remove != NULL;
    }
    if (method->deed == handle_get) {
        return store->read != NULL;
    }
    return 1;
}

static int refuse_method(request_rec *r, const tus_request_t *request)
{
    const char *allow = "OPTIONS";

    for (apr_size_t i = 0; i < METHOD_COUNT; i++) {
        if (methods[i].is_for_upload == (request->id != NULL)
            && is_offered(&methods[i], request->settings)) {
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
            return method->is_for_upload == (request->id != NULL)
                           && is_offered(method, request->settings)
                       ? method
                       : NULL;
        }
    }
    return NULL;
}

/* "If the version specified by the Client is not supported by the Server, ..." */
static int speaks_version(const request_rec *r)
{
    const char *version = header_in(r, "Tus-Resumable");

    return version && strcmp(version, TUS_VERSION) == 0;
}

int tus_v1_handle(request_rec *r, const tus_request_t *request)
{
    const method_t *method;
    tus_core_t *core;
    const tus_error_t *error;

    if (r->method_number == M_OPTIONS && !tus_override_is_refused(r)) {
        return handle_options(r, request);
    }
    method = find_method(r, request);
    if (!method) {
        return refuse_method(r, request);
    }
    if (method->needs_version && !speaks_version(r)) {
        return tus_answer_error(r, tus_error(r->pool, TUS_ERR_UNSUPPORTED_VERSION, NULL));
    }
    error = tus_endpoint_open(&core, request->settings, r->pool);
    if (error) {
        return tus_answer_error(r, error);
    }
    return method->deed(r, request, core);
}
