/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* POST: creation, creation-with-upload, creation-defer-length and concatenation. */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <string.h>

/* ---- what is wanted ------------------------------------------------------ */

/* "The request MUST include one of": Upload-Length, or Upload-Defer-Length: 1. */
static const tus_error_t *parse_size(const request_rec *r, const tus_request_t *request,
                                     const tus_core_t *core, apr_off_t *size)
{
    const char *length = tus_v1_field(r, "Upload-Length");
    const char *defer = tus_v1_field(r, "Upload-Defer-Length");

    if (length && defer) {
        return tus_error(r->pool, TUS_ERR_AMBIGUOUS_UPLOAD_LENGTH, NULL);
    }
    if (!defer) {
        return tus_v1_parse_length(r, core, length, size);
    }
    if (strcmp(defer, "1") != 0) {
        return tus_error(r->pool, TUS_ERR_INVALID_UPLOAD_LENGTH_DEFER, NULL);
    }
    if (!(request->offers & TUS_EXT_CREATION_DEFER_LENGTH)) {
        return tus_error(r->pool, TUS_ERR_NOT_IMPLEMENTED, NULL);
    }
    *size = TUS_SIZE_UNKNOWN;
    return NULL;
}

/* Clients name parts by what Location said, or by what they think is the same. */
static const apr_array_header_t *bases_of(const request_rec *r, const tus_request_t *request)
{
    apr_array_header_t *bases = apr_array_make(r->pool, 2, sizeof(const char *));

    APR_ARRAY_PUSH(bases, const char *) = request->base;
    APR_ARRAY_PUSH(bases, const char *) = request->path;
    return bases;
}

static const tus_error_t *parse_concat(const request_rec *r, const tus_request_t *request,
                                       tus_creation_t *creation)
{
    tus_concat_t concat = { 0 };
    const tus_error_t *error;

    creation->concat = tus_v1_field(r, "Upload-Concat");
    if (!creation->concat) {
        return NULL;
    }
    if (!(request->offers & TUS_EXT_CONCATENATION)) {
        return tus_error(r->pool, TUS_ERR_CONCATENATION_UNSUPPORTED, NULL);
    }
    error = tus_concat_parse(creation->concat, bases_of(r, request), &concat, r->pool);
    creation->is_partial = concat.is_partial;
    creation->parts = concat.parts;
    return error;
}

/* "The Client MUST NOT include the Upload-Length header in the final upload creation." */
static const tus_error_t *check_final(const request_rec *r, const tus_incoming_t *incoming)
{
    if (tus_v1_field(r, "Upload-Length") || tus_v1_field(r, "Upload-Defer-Length")) {
        return tus_error(r->pool, TUS_ERR_INVALID_CONCAT,
                         "a final upload has the length of its parts; send no Upload-Length");
    }
    return incoming->length ? tus_error(r->pool, TUS_ERR_MODIFY_FINAL, NULL) : NULL;
}

static const tus_error_t *check_data(const request_rec *r, const tus_request_t *request,
                                     const tus_incoming_t *incoming, tus_creation_t *creation)
{
    if (incoming->length == 0) {
        return NULL;
    }
    if (!(request->offers & TUS_EXT_CREATION_WITH_UPLOAD)) {
        return tus_error(r->pool, TUS_ERR_NOT_IMPLEMENTED, NULL);
    }
    if (creation->size != TUS_SIZE_UNKNOWN && incoming->length > creation->size) {
        return tus_error(r->pool, TUS_ERR_UPLOAD_SIZE_EXCEEDED, NULL);
    }
    /* Who is told of creations hears of this one before its bytes are there. */
    creation->whole =
        incoming->length == creation->size && !tus_hook_table_of(r, TUS_HOOK_POST_CREATE, r->pool);
    return tus_v1_check_media_type(r);
}

static const tus_error_t *parse_creation(request_rec *r, const tus_request_t *request,
                                         const tus_core_t *core, tus_incoming_t *incoming,
                                         tus_creation_t *creation)
{
    const tus_error_t *error = tus_incoming_parse(incoming, r, request);

    creation->owner = r->user;
    if (!error) {
        error = parse_concat(r, request, creation);
    }
    if (!error && creation->parts) {
        error = check_final(r, incoming);
    }
    else if (!error) {
        error = parse_size(r, request, core, &creation->size);
    }
    if (!error) {
        creation->metadata = tus_v1_field(r, "Upload-Metadata");
        error = tus_metadata_parse(creation->metadata, &creation->pairs, r->pool);
    }
    return error ? error : check_data(r, request, incoming, creation);
}

/* ---- what is answered ---------------------------------------------------- */

static int answer_created(request_rec *r, const tus_request_t *request, const tus_upload_t *upload,
                          int with_offset)
{
    const char *location = apr_pstrcat(r->pool, request->base, upload->record->id, NULL);

    apr_table_setn(r->headers_out, "Location", location);
    if (with_offset) {
        tus_answer_header(r, "Upload-Offset", apr_off_t_toa(r->pool, upload->offset));
    }
    return tus_answer_done(r, HTTP_CREATED);
}

/*
 * A client whose creating request ends early, but who can still read, is told
 * of the upload: it goes on from the offset instead of starting over.
 */
static int create_with_data(request_rec *r, const tus_request_t *request, tus_upload_t *upload,
                            tus_incoming_t *incoming)
{
    const tus_error_t *error = tus_incoming_receive(incoming, r, upload);
    const tus_error_t *stopped = NULL;

    if (incoming->state == TUS_BODY_STOPPED) {
        stopped = tus_stop(upload);
        return tus_answer_error(r, stopped ? stopped : error);
    }
    if (incoming->is_void) {
        tus_create_undo(upload);
        return error ? tus_answer_error(r, error) : incoming->http_status;
    }
    tus_v1_release(r, upload);
    return answer_created(r, request, upload, 1);
}

static int create_final(request_rec *r, const tus_request_t *request, const tus_core_t *core,
                        const tus_creation_t *creation)
{
    int may_wait = (request->offers & TUS_EXT_CONCATENATION_UNFINISHED) != 0;
    tus_upload_t *upload;
    const tus_error_t *error = tus_join_create(&upload, core, creation, may_wait, r->pool);

    if (error) {
        return tus_answer_error(r, error);
    }
    tus_v1_note(r, upload);
    return answer_created(r, request, upload, 0);
}

int tus_v1_create(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    tus_creation_t creation = { 0 };
    tus_incoming_t incoming;
    tus_upload_t *upload;
    const tus_error_t *error = parse_creation(r, request, core, &incoming, &creation);

    if (!error && creation.parts) {
        return create_final(r, request, core, &creation);
    }
    if (!error) {
        error = tus_create(&upload, core, &creation, r->pool);
    }
    if (error) {
        return tus_answer_error(r, error);
    }
    if (incoming.length != 0 || incoming.algorithms) {
        return create_with_data(r, request, upload, &incoming);
    }
    tus_v1_note(r, upload);
    tus_v1_release(r, upload);
    return answer_created(r, request, upload, 0);
}
