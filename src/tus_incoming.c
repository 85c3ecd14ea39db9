/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A body on its way into a held upload: what the request says of it, its
 * checksum from a header or a trailer, how it ended, and what is settled then.
 */
#include "tus_httpd.h"

#include <http_protocol.h>

#define CHECKSUM "Upload-Checksum"

/* ---- what the request says ----------------------------------------------- */

/* HTTP_IN judges both headers. */
static apr_off_t body_length(request_rec *r)
{
    const char *value = tus_v1_field(r, "Content-Length");
    apr_off_t length;

    if (tus_v1_field(r, "Transfer-Encoding")) {
        return -1;
    }
    if (!value) {
        return r->connection->master && ap_request_has_body(r) ? -1 : 0;
    }
    return tus_header_integer(value, &length) == APR_SUCCESS ? length : -1;
}

static const tus_error_t *check_limit(const request_rec *r, apr_off_t length)
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

/* Which algorithm a trailer will name is not known before: all that are offered are computed. */
static const tus_error_t *parse_checksum(tus_incoming_t *incoming, const request_rec *r,
                                         const tus_request_t *request)
{
    const char *header = tus_v1_field(r, CHECKSUM);
    int in_trailer = ap_find_token(r->pool, tus_v1_field(r, "Trailer"), CHECKSUM);
    unsigned offered = request->offers & TUS_EXT_CHECKSUM ? request->settings->checksums : 0;
    const tus_error_t *error;

    if (header && in_trailer) {
        return tus_error(r->pool, TUS_ERR_INVALID_CHECKSUM,
                         CHECKSUM " is a header or a trailer, not both");
    }
    if (in_trailer && !(request->offers & TUS_EXT_CHECKSUM_TRAILER)) {
        return tus_error(r->pool, TUS_ERR_UNSUPPORTED_CHECKSUM,
                         CHECKSUM " is not taken from a trailer here; send it as a header");
    }
    if (in_trailer) {
        incoming->algorithms = offered;
    }
    if (!header) {
        return NULL;
    }
    error = tus_checksum_parse(header, offered, &incoming->checksum, r->pool);
    incoming->algorithms = incoming->checksum.algorithm;
    return error;
}

const tus_error_t *tus_incoming_parse(tus_incoming_t *incoming, request_rec *r,
                                      const tus_request_t *request)
{
    const tus_error_t *error;

    *incoming = (tus_incoming_t){ .length = body_length(r), .state = TUS_BODY_DONE };
    error = parse_checksum(incoming, r, request);
    return error ? error : check_limit(r, incoming->length);
}

/* ---- how it ended -------------------------------------------------------- */

static const char *reason_of(tus_body_e state)
{
    switch (state) {
    case TUS_BODY_ASKED:
        return "taken-over";
    case TUS_BODY_STOPPED:
        return "stopped";
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
    case TUS_BODY_STOPPED:
        return body->error;
    default:
        return NULL;
    }
}

/* ---- the verdict --------------------------------------------------------- */

/* With MergeTrailers a trailer is found among the headers. */
static const char *trailer(const request_rec *r, const tus_incoming_t *incoming)
{
    const char *value = apr_table_get(r->trailers_in, CHECKSUM);

    return value || incoming->checksum.digest ? value : tus_v1_field(r, CHECKSUM);
}

static const tus_error_t *verify_trailer(const tus_incoming_t *incoming, const request_rec *r,
                                         tus_upload_t *upload)
{
    const char *value = trailer(r, incoming);
    tus_checksum_t checksum;
    const tus_error_t *error;

    if (!value) {
        return tus_error(r->pool, TUS_ERR_INVALID_CHECKSUM,
                         CHECKSUM " was announced as a trailer and is missing");
    }
    error = tus_checksum_parse(value, incoming->algorithms, &checksum, r->pool);
    return error ? error : tus_chunk_verify(upload, &checksum);
}

/* A checksum that nobody announced cannot be verified any more, and is not to be ignored. */
static const tus_error_t *check_unannounced(const tus_incoming_t *incoming, const request_rec *r,
                                            tus_upload_t *upload, apr_off_t start)
{
    const tus_error_t *error;

    if (!trailer(r, incoming)) {
        return NULL;
    }
    if (upload->core->store->provider->truncate) {
        error = tus_chunk_discard(upload, start);
        if (error) {
            return error;
        }
    }
    return tus_error(r->pool, TUS_ERR_INVALID_CHECKSUM,
                     "a trailer has to be announced: send Trailer: " CHECKSUM " too");
}

static const tus_error_t *verify(const tus_incoming_t *incoming, const request_rec *r,
                                 tus_upload_t *upload, apr_off_t start)
{
    if (incoming->checksum.digest) {
        return tus_chunk_verify(upload, &incoming->checksum);
    }
    if (incoming->algorithms) {
        return verify_trailer(incoming, r, upload);
    }
    return check_unannounced(incoming, r, upload, start);
}

/* ---- receiving ----------------------------------------------------------- */

/* What a client hears of as refused is not kept, nor told to anybody as finished. */
static int ends_creation(tus_body_e state, const tus_error_t *error)
{
    return state == TUS_BODY_ANSWERED || state == TUS_BODY_REFUSED
           || (state == TUS_BODY_DONE && error);
}

/* Bytes that were not verified are gone once the rest is settled. */
const tus_error_t *tus_incoming_receive(tus_incoming_t *incoming, request_rec *r,
                                        tus_upload_t *upload)
{
    apr_off_t start = upload->offset;
    const tus_error_t *error = NULL;
    const tus_error_t *settled;
    tus_body_t body;

    if (incoming->algorithms && upload->writer) { /* none: it is finished, and takes no bytes */
        error = tus_chunk_begin(upload, incoming->algorithms);
    }
    if (error) {
        incoming->is_void = 1;
        return error;
    }
    tus_body_init(&body, r, upload);
    /* Without a body there is nothing to interrupt: what was finished for another is told. */
    incoming->state = incoming->length ? tus_body_receive(&body, incoming->length) : TUS_BODY_DONE;
    incoming->http_status = body.http_status;
    if (incoming->state == TUS_BODY_DONE) {
        tus_answer_after_body(r);
    }
    error = error_of(r, &body, incoming->state);
    if (incoming->state == TUS_BODY_DONE && upload->writer) {
        error = verify(incoming, r, upload, start);
    }
    incoming->is_void = ends_creation(incoming->state, error);
    settled = upload->created && incoming->is_void ? NULL : tus_append_end(upload);
    if (incoming->state != TUS_BODY_DONE) {
        tus_events_interrupted(r, upload, reason_of(incoming->state));
        r->connection->keepalive = AP_CONN_CLOSE; /* the rest of the body is not awaited */
    }
    if (body.told && !incoming->is_void
        && incoming->state != TUS_BODY_STOPPED) { /* nobody needs to hear of what goes */
        tus_hook_progress_tell(body.told, upload, r);
    }
    tus_v1_note(r, upload);
    if (settled) { /* worse than that the client went away */
        incoming->is_void = 1;
        return settled;
    }
    return error;
}
