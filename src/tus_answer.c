/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What goes out: headers that are on every response, and our own error bodies. */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>

/* The most that is read of a refused body to keep the connection, in bytes. */
#define DISCARD_MAX (64 * 1024)

/* Seconds; long enough to be polite, short enough for a person who waits. */
#define RETRY_AFTER "2"

/* Headers in headers_out are dropped when another module makes an error of the request. */
void tus_answer_header(request_rec *r, const char *name, const char *value)
{
    apr_table_unset(r->headers_out, name);
    apr_table_setn(r->err_headers_out, name, value);
}

/* Also at insert_error_filter, as HTTP_IN's own 413 and 400 start with no headers at all. */
void tus_answer_common(request_rec *r)
{
    if (!tus_mount_of(r)) {
        return;
    }
    tus_answer_header(r, "Tus-Resumable", TUS_VERSION);
    tus_answer_header(r, "X-Content-Type-Options", "nosniff");
}

int tus_answer_empty(request_rec *r, int status)
{
    r->status = status;
    if (!AP_STATUS_IS_HEADER_ONLY(status)) {
        ap_set_content_length(r, 0);
    }
    return OK;
}

static void set_error_headers(request_rec *r, const tus_error_t *error)
{
    switch (error->err) {
    case TUS_ERR_UNSUPPORTED_VERSION:
        tus_answer_header(r, "Tus-Version", TUS_VERSION);
        break;
    case TUS_ERR_READ_TIMEOUT:
    case TUS_ERR_TOO_BUSY:
        tus_answer_header(r, "Retry-After", RETRY_AFTER);
        break;
    default:
        break;
    }
}

/* Names the directory and the fix, where the directory is what is wrong. */
static const char *explain_store(request_rec *r, const tus_request_t *request)
{
    const char *path = request->settings->store.path;
    apr_status_t rv = path ? tus_check_directory(path, r->pool) : APR_SUCCESS;

    if (rv == APR_SUCCESS) {
        return "";
    }
    return apr_pstrcat(r->pool, ": ", tus_check_explain("TusStore", path, rv, r->pool), NULL);
}

/* The client's faults are news for whoever looks; ours are for the administrator. */
static void log_error(request_rec *r, const tus_error_t *error)
{
    const tus_request_t *request = tus_mount_of(r);
    const char *id = request->id ? request->id : "-";
    const char *reason = tus_error_reason(error->rv);

    if (error->err == TUS_ERR_TOO_BUSY) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "%s: the lock table is full (id=%s); it grows with ServerLimit and"
                      " ThreadLimit, at a full restart",
                      error->code, id);
        return;
    }
    if (!error->detail) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, error->rv, r, "%s: %s (id=%s)", error->code,
                      error->message, id);
        return;
    }
    ap_log_rerror(APLOG_MARK, APLOG_ERR, reason ? APR_SUCCESS : error->rv, r,
                  "%s: %s%s%s (id=%s)%s", error->code, error->detail, reason ? ": " : "",
                  reason ? reason : "", id, explain_store(r, request));
}

/*
 * A client that is refused should hear so before it has sent everything. httpd
 * would read a body to its end before the answer leaves; a short one may be.
 */
static void give_up_body(request_rec *r)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_off_t bytes;

    if (tus_header_integer(length, &bytes) != APR_SUCCESS || bytes > DISCARD_MAX) {
        r->connection->keepalive = AP_CONN_CLOSE;
    }
}

int tus_answer_error(request_rec *r, const tus_error_t *error)
{
    const char *body = apr_pstrcat(r->pool, error->code, ": ", error->message, "\n", NULL);
    int has_body = ap_request_has_body(r);

    log_error(r, error);
    set_error_headers(r, error);
    if (has_body) {
        give_up_body(r);
    }
    r->status = error->status;
    ap_set_content_type(r, "text/plain; charset=utf-8");
    ap_set_content_length(r, (apr_off_t)strlen(body));
    ap_rputs(body, r);
    if (has_body) {
        ap_rflush(r);
    }
    return OK;
}
