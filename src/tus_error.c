/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Every error that an endpoint answers with: its code, its status and what the
 * client is told unless somebody knows better.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <stdarg.h>

/* In the order of tus_err_e. */
/* clang-format off */
static const struct {
    const char *code;
    int status;
    const char *message;
} errors[] = {
    [TUS_ERR_UNSUPPORTED_VERSION] = {
        "ERR_UNSUPPORTED_VERSION", 412,
        "Tus-Resumable is missing or names a version that is not spoken here; see Tus-Version" },
    [TUS_ERR_MAX_SIZE_EXCEEDED] = {
        "ERR_MAX_SIZE_EXCEEDED", 413,
        "the upload is larger than this server accepts; see Tus-Max-Size" },
    [TUS_ERR_INVALID_CONTENT_TYPE] = {
        "ERR_INVALID_CONTENT_TYPE", 415,
        "Content-Type must be " TUS_MEDIA_TYPE },
    [TUS_ERR_INVALID_UPLOAD_LENGTH] = {
        "ERR_INVALID_UPLOAD_LENGTH", 400,
        "Upload-Length must be one non-negative integer" },
    [TUS_ERR_INVALID_OFFSET] = {
        "ERR_INVALID_OFFSET", 400,
        "Upload-Offset must be one non-negative integer" },
    [TUS_ERR_UPLOAD_NOT_FOUND] = {
        "ERR_UPLOAD_NOT_FOUND", 404,
        "there is no such upload; create a new one" },
    [TUS_ERR_UPLOAD_GONE] = {
        "ERR_UPLOAD_GONE", 410,
        "the upload has expired or was removed; create a new one" },
    [TUS_ERR_UPLOAD_LOCKED] = {
        "ERR_UPLOAD_LOCKED", 423,
        "another request is still working on this upload; try again later" },
    [TUS_ERR_MISMATCHED_OFFSET] = {
        "ERR_MISMATCHED_OFFSET", 409,
        "Upload-Offset is not where this upload continues; ask with HEAD, and go on from there" },
    [TUS_ERR_UPLOAD_SIZE_EXCEEDED] = {
        "ERR_UPLOAD_SIZE_EXCEEDED", 413,
        "the request carries more bytes than Upload-Length leaves room for" },
    [TUS_ERR_NOT_IMPLEMENTED] = {
        "ERR_NOT_IMPLEMENTED", 501,
        "this server does not offer that; see Tus-Extension" },
    [TUS_ERR_UPLOAD_NOT_FINISHED] = {
        "ERR_UPLOAD_NOT_FINISHED", 400,
        "one of the partial uploads is not finished yet" },
    [TUS_ERR_INVALID_CONCAT] = {
        "ERR_INVALID_CONCAT", 400,
        "Upload-Concat must be partial, or final; and URLs of partial uploads of this endpoint" },
    [TUS_ERR_CONCATENATION_UNSUPPORTED] = {
        "ERR_CONCATENATION_UNSUPPORTED", 400,
        "this server does not concatenate uploads; see Tus-Extension" },
    [TUS_ERR_MODIFY_FINAL] = {
        "ERR_MODIFY_FINAL", 403,
        "a final upload is made of its parts and takes no bytes of its own" },
    [TUS_ERR_AMBIGUOUS_UPLOAD_LENGTH] = {
        "ERR_AMBIGUOUS_UPLOAD_LENGTH", 400,
        "Upload-Length and Upload-Defer-Length exclude each other; send one of them" },
    [TUS_ERR_INVALID_UPLOAD_LENGTH_DEFER] = {
        "ERR_INVALID_UPLOAD_LENGTH_DEFER", 400,
        "Upload-Defer-Length must be 1" },
    [TUS_ERR_INVALID_METADATA] = {
        "ERR_INVALID_METADATA", 400,
        "Upload-Metadata must be a comma-separated list of keys, each with a Base64 value" },
    [TUS_ERR_INVALID_CHECKSUM] = {
        "ERR_INVALID_CHECKSUM", 400,
        "Upload-Checksum must be an algorithm, one space, and its digest in Base64" },
    [TUS_ERR_UNSUPPORTED_CHECKSUM] = {
        "ERR_UNSUPPORTED_CHECKSUM", 400,
        "this checksum algorithm is not offered here; see Tus-Checksum-Algorithm" },
    [TUS_ERR_CHECKSUM_MISMATCH] = {
        "ERR_CHECKSUM_MISMATCH", 460,
        "the bytes that arrived do not have that checksum and were discarded; send them again" },
    [TUS_ERR_UPLOAD_STOPPED] = {
        "ERR_UPLOAD_STOPPED", 400,
        "the server stopped this upload and removed it" },
    [TUS_ERR_UPLOAD_REJECTED] = {
        "ERR_UPLOAD_REJECTED", 400,
        "the server does not accept this upload" },
    [TUS_ERR_TERMINATION_REJECTED] = {
        "ERR_UPLOAD_TERMINATION_REJECTED", 400,
        "the server does not let this upload be removed" },
    [TUS_ERR_UPLOAD_INTERRUPTED] = {
        "ERR_UPLOAD_INTERRUPTED", 503,
        "a newer request took over this upload" },
    [TUS_ERR_READ_TIMEOUT] = {
        "ERR_READ_TIMEOUT", 503,
        "the request body arrived too slowly; what arrived is kept, ask with HEAD and go on" },
    [TUS_ERR_TOO_BUSY] = {
        "ERR_TOO_BUSY", 503,
        "too many uploads are running at this moment; try again later" },
    [TUS_ERR_ORIGIN_NOT_ALLOWED] = {
        "ERR_ORIGIN_NOT_ALLOWED", 403,
        "pages of this origin may not upload here (TusCORSAllowOrigin)" },
    [TUS_ERR_METHOD_NOT_ALLOWED] = {
        "ERR_METHOD_NOT_ALLOWED", 405,
        "this method is not offered here; see Allow" },
    [TUS_ERR_HOOK_FAILED] = {
        "ERR_HOOK_FAILED", 502,
        "the application behind this server could not be asked; try again later" },
    [TUS_ERR_HOOK_BUSY] = {
        "ERR_TOO_BUSY", 503,
        "too many requests wait for the application behind this server; try again later" },
    [TUS_ERR_INSUFFICIENT_STORAGE] = {
        "ERR_INSUFFICIENT_STORAGE", 507,
        "the server has no room left; what arrived is kept, try again later" },
    [TUS_ERR_INTERNAL_SERVER_ERROR] = {
        "ERR_INTERNAL_SERVER_ERROR", 500,
        "something is wrong on the server; its error log says what" },
};
/* clang-format on */

_Static_assert(sizeof(errors) / sizeof(errors[0]) == TUS_ERR_COUNT,
               "every error needs its line in the table");

static tus_error_t *make(apr_pool_t *p, tus_err_e err)
{
    tus_error_t *error = apr_pcalloc(p, sizeof(*error));

    error->err = err;
    error->code = errors[err].code;
    error->status = errors[err].status;
    error->message = errors[err].message;
    return error;
}

const tus_error_t *tus_error(apr_pool_t *p, tus_err_e err, const char *format, ...)
{
    tus_error_t *error = make(p, err);
    va_list args;

    if (format) {
        va_start(args, format);
        error->message = apr_pvsprintf(p, format, args);
        va_end(args);
    }
    return error;
}

const tus_error_t *tus_error_system(apr_pool_t *p, apr_status_t rv, const char *format, ...)
{
    /* APR's test includes an exhausted quota. */
    tus_error_t *error = make(p, APR_STATUS_IS_ENOSPC(rv) ? TUS_ERR_INSUFFICIENT_STORAGE
                                                          : TUS_ERR_INTERNAL_SERVER_ERROR);
    va_list args;

    error->rv = rv;
    va_start(args, format);
    error->detail = apr_pvsprintf(p, format, args);
    va_end(args);
    return error;
}

const tus_error_t *tus_error_reply(apr_pool_t *p, tus_err_e err, const tus_reply_t *reply)
{
    tus_error_t *error = make(p, err);

    error->reply = reply;
    if (reply->status) {
        error->status = reply->status;
    }
    return error;
}

const tus_reply_t *tus_reply_copy(const tus_reply_t *reply, apr_pool_t *p)
{
    tus_reply_t *copy = apr_pmemdup(p, reply, sizeof(*reply));

    copy->content_type = apr_pstrdup(p, reply->content_type);
    copy->body = apr_pstrdup(p, reply->body);
    copy->headers = reply->headers ? apr_table_clone(p, reply->headers) : NULL;
    return copy;
}

const tus_error_t *tus_error_copy(const tus_error_t *error, apr_pool_t *p)
{
    tus_error_t *copy = apr_pmemdup(p, error, sizeof(*error));

    copy->message = apr_pstrdup(p, error->message);
    copy->detail = apr_pstrdup(p, error->detail);
    copy->reply = error->reply ? tus_reply_copy(error->reply, p) : NULL;
    return copy;
}

const char *tus_error_story(const tus_error_t *error, apr_status_t *rv, apr_pool_t *p)
{
    const char *what = error->detail ? error->detail : error->message;
    const char *reason = tus_error_reason(error->rv);

    *rv = reason ? APR_SUCCESS : error->rv;
    return reason ? apr_pstrcat(p, what, ": ", reason, NULL) : what;
}

const char *tus_error_reason(apr_status_t rv)
{
    switch (rv) {
    case TUS_EDAMAGED:
        return "it is damaged";
    case TUS_EREFUSED:
        return "it is no regular file with one link beneath the store";
    case TUS_EUNWRITTEN:
        return "it never reached the disk";
    default:
        return NULL;
    }
}
