/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* PATCH: bytes onto the end of an upload. */
#include "tus_httpd.h"

#include <apr_strings.h>

typedef struct patch_t {
    request_rec *r;
    tus_incoming_t incoming;
    apr_off_t offset;       /* Upload-Offset */
    const char *has_length; /* Upload-Length, or NULL */
    apr_off_t length;
    int judged; /* the upload is known */
} patch_t;

static const tus_error_t *parse_patch(patch_t *patch, const tus_request_t *request,
                                      const tus_core_t *core)
{
    request_rec *r = patch->r;
    const tus_error_t *error = tus_v1_check_media_type(r);

    if (error) {
        return error;
    }
    if (tus_header_integer(tus_v1_field(r, "Upload-Offset"), &patch->offset) != APR_SUCCESS) {
        return tus_error(r->pool, TUS_ERR_INVALID_OFFSET, NULL);
    }
    patch->has_length = tus_v1_field(r, "Upload-Length");
    if (patch->has_length) {
        error = tus_v1_parse_length(r, core, patch->has_length, &patch->length);
    }
    return error ? error : tus_incoming_parse(&patch->incoming, r, request);
}

/* Who is finishing may fail yet: until then nobody is told that all is there. */
static const tus_error_t *mismatched(const tus_upload_t *upload, apr_pool_t *p)
{
    if (tus_commit_has_all(upload) && !tus_commit_is_finished(upload)) {
        return tus_error(p, TUS_ERR_MISMATCHED_OFFSET, NULL);
    }
    return tus_error(p, TUS_ERR_MISMATCHED_OFFSET, "the upload is at offset %" APR_OFF_T_FMT,
                     upload->offset);
}

/*
 * "The Upload-Offset header's value MUST be equal to the current offset of the
 * resource": judged before anybody is interrupted for this request, and again
 * under the lock.
 */
static const tus_error_t *judge(void *baton, const tus_upload_t *upload)
{
    patch_t *patch = baton;
    apr_off_t body = patch->incoming.length;
    apr_pool_t *p = patch->r->pool;
    apr_off_t room = tus_append_room(upload);

    patch->judged = 1;
    if (upload->record->is_final) {
        return tus_error(p, TUS_ERR_MODIFY_FINAL, NULL);
    }
    if (patch->offset != upload->offset) {
        return mismatched(upload, p);
    }
    if (patch->has_length) {
        const tus_error_t *error = tus_append_check_length(upload, patch->length);

        if (error) {
            return error;
        }
    }
    if (patch->has_length && upload->record->size == TUS_SIZE_UNKNOWN) {
        room = patch->length - upload->offset;
    }
    if (body > 0 && body > room) {
        return tus_error(p, TUS_ERR_UPLOAD_SIZE_EXCEEDED, NULL);
    }
    return NULL;
}

static int answer(patch_t *patch, tus_upload_t *upload, const tus_error_t *error)
{
    request_rec *r = patch->r;

    if (patch->incoming.state == TUS_BODY_STOPPED) {
        const tus_error_t *failed = tus_stop(upload);

        return tus_answer_error(r, failed ? failed : error);
    }
    tus_v1_release(r, upload);
    if (patch->incoming.state == TUS_BODY_ANSWERED) {
        return patch->incoming.http_status;
    }
    if (error) {
        return tus_answer_error(r, error);
    }
    tus_answer_header(r, "Upload-Offset", apr_off_t_toa(r->pool, upload->offset));
    return tus_answer_done(r, HTTP_NO_CONTENT);
}

int tus_v1_append(request_rec *r, const tus_request_t *request, const tus_core_t *core)
{
    patch_t patch = { .r = r };
    tus_upload_t *upload;
    const tus_error_t *error = parse_patch(&patch, request, core);

    if (!error) {
        error = tus_upload_hold(&upload, core, request->id, judge, &patch, r->pool);
    }
    if (error) {
        if (patch.judged) {
            tus_v1_note(r, upload);
        }
        return tus_answer_error(r, error);
    }
    if (patch.has_length) {
        error = tus_append_declare(upload, patch.length);
    }
    if (!error) {
        error = tus_incoming_receive(&patch.incoming, r, upload);
    }
    return answer(&patch, upload, error);
}
