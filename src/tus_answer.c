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

/* The note of tus_answer_after_body(). */
#define BODY_READ "tus-body-read"

/* Headers in headers_out are dropped when another module makes an error of the request. */
void tus_answer_header(request_rec *r, const char *name, const char *value)
{
    apr_table_unset(r->headers_out, name);
    apr_table_setn(r->err_headers_out, name, value);
}

/* Also at insert_error_filter, as HTTP_IN's own 413 and 400 start with no headers at all. */
void tus_answer_common(request_rec *r)
{
    const tus_request_t *request = tus_mount_of(r);

    if (!request) {
        return;
    }
    tus_answer_header(r, "Tus-Resumable", TUS_VERSION);
    tus_answer_header(r, "X-Content-Type-Options", "nosniff");
    tus_cors_headers(r, request->settings);
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
    case TUS_ERR_HOOK_BUSY:
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
    const tus_store_spec_t *store = &request->settings->store;
    apr_status_t rv;

    if (!store->path || !store->provider->info_dir) { /* a path that is no directory's */
        return "";
    }
    rv = tus_check_directory(store->path, r->pool);
    if (rv == APR_SUCCESS) {
        return "";
    }
    return apr_pstrcat(r->pool, ": ", tus_check_explain("TusStore", store->path, rv, r->pool),
                       NULL);
}

/* The client's faults are news for whoever looks; ours are for the administrator. */
static void log_error(request_rec *r, const tus_error_t *error)
{
    const tus_request_t *request = tus_mount_of(r);
    const char *id = request->id ? request->id : "-";
    const char *story;
    apr_status_t rv;

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
    story = tus_error_story(error, &rv, r->pool);
    ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, r, "%s: %s (id=%s)%s", error->code, story, id,
                  explain_store(r, request));
}

void tus_answer_after_body(request_rec *r)
{
    apr_table_setn(r->notes, BODY_READ, "");
}

static int has_unread_body(request_rec *r)
{
    return ap_request_has_body(r) && !apr_table_get(r->notes, BODY_READ);
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

/* ---- what another module says instead ------------------------------------ */

/* A field that httpd would make an error 500 of must not come that far. */
static int may_pass(request_rec *r, const char *name, const char *value)
{
    if (tus_header_is_field(name, value) && !tus_header_is_reserved(name)
        && ap_cstr_casecmp(name, "Content-Type")) { /* reply->content_type says that */
        return 1;
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "field '%s' of a module's reply is not sent",
                  ap_escape_logitem(r->pool, name));
    return 0;
}

/* Others may have a cookie of their own, and CORS has a word in Vary: these add up. */
static int is_shared(const char *name)
{
    return !ap_cstr_casecmp(name, "Set-Cookie") || !ap_cstr_casecmp(name, "Vary");
}

/* What was there under that name is replaced. */
static int clear_header(void *baton, const char *name, const char *value)
{
    request_rec *r = baton;

    (void)value;
    if (!is_shared(name) && !tus_header_is_reserved(name)) {
        apr_table_unset(r->err_headers_out, name);
        apr_table_unset(r->headers_out, name);
    }
    return 1;
}

/* A name that is there more than once in the reply is a list. */
static int pass_header(void *baton, const char *name, const char *value)
{
    request_rec *r = baton;

    if (!may_pass(r, name, value)) {
        return 1;
    }
    if (ap_cstr_casecmp(name, "Set-Cookie") == 0) { /* the one that is no list (RFC 9110, 5.3) */
        apr_table_add(r->err_headers_out, name, value);
    }
    else if (is_shared(name)) {
        if (!ap_find_token(r->pool, apr_table_get(r->err_headers_out, name), value)) {
            apr_table_merge(r->err_headers_out, name, value);
        }
    }
    else { /* where "Header set" has the last word */
        apr_table_merge(r->headers_out, name, value);
    }
    return 1;
}

static void pass_headers(request_rec *r, const apr_table_t *headers)
{
    if (headers) {
        apr_table_do(clear_header, r, headers, NULL);
        apr_table_do(pass_header, r, headers, NULL);
    }
}

static const char *content_type_of(const tus_reply_t *reply)
{
    const char *type = reply && reply->body ? reply->content_type : NULL;

    return type && *type && !*ap_scan_http_field_content(type) ? type : "text/plain; charset=utf-8";
}

static const char *body_of(request_rec *r, const tus_error_t *error)
{
    if (error->reply && error->reply->body) {
        return error->reply->body;
    }
    return apr_pstrcat(r->pool, error->code, ": ", error->message, "\n", NULL);
}

/* ---- an answer that hooks add to ------------------------------------------- */

int tus_answer_done(request_rec *r, int status)
{
    const tus_reply_t *said = tus_mount_of(r)->said;

    pass_headers(r, said->headers);
    if (said->status) {
        status = said->status;
    }
    if (!said->body || AP_STATUS_IS_HEADER_ONLY(status)) {
        return tus_answer_empty(r, status);
    }
    r->status = status;
    r->status_line = ap_get_status_line_ex(r->pool, status);
    ap_set_content_type(r, content_type_of(said));
    ap_set_content_length(r, (apr_off_t)strlen(said->body));
    ap_rputs(said->body, r);
    return OK;
}

/* ---- the answer ----------------------------------------------------------- */

static void set_error_status(request_rec *r, const tus_error_t *error)
{
    r->status = error->status;
    if (error->reply) { /* a status that httpd has no name for would leave as 500 */
        r->status_line = ap_get_status_line_ex(r->pool, r->status);
    }
    if (error->err == TUS_ERR_CHECKSUM_MISMATCH) {
        r->status_line = "460 Checksum Mismatch"; /* httpd has no name for it */
    }
}

int tus_answer_error(request_rec *r, const tus_error_t *error)
{
    const tus_reply_t *reply = error->reply;
    const char *body = body_of(r, error);
    int is_early = has_unread_body(r);

    log_error(r, error);
    set_error_status(r, error);
    tus_metrics_error(error, r->status);
    set_error_headers(r, error);
    pass_headers(r, reply ? reply->headers : NULL);
    if (is_early) {
        give_up_body(r);
    }
    ap_set_content_type(r, content_type_of(reply));
    ap_set_content_length(r, (apr_off_t)strlen(body));
    ap_rputs(body, r);
    if (is_early) {
        ap_rflush(r);
    }
    return OK;
}
