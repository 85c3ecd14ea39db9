/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Hooks that are asked before something happens. The request waits; no answer,
 * or one that makes no sense, means that it does not happen.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

/* Another try may end better. */
static int may_recover(apr_status_t rv, int status)
{
    if (rv != APR_SUCCESS) {
        return rv != TUS_EREFUSED && !APR_STATUS_IS_EBUSY(rv) && !APR_STATUS_IS_EINTR(rv);
    }
    return status >= 500 || status == HTTP_TOO_MANY_REQUESTS;
}

static int is_answer(apr_status_t rv, const tus_called_t *called)
{
    return rv == APR_SUCCESS && ap_is_HTTP_SUCCESS(called->status);
}

/* As TusHookRetry says: so often in all, each wait twice as long as the one before. */
static apr_status_t call(tus_called_t *called, const tus_hook_t *hook,
                         const tus_hook_event_t *event, const request_rec *r, apr_pool_t *p)
{
    const tus_retry_t *retry = &hook->settings->hook_retry;
    apr_interval_time_t backoff = retry->backoff;

    for (int left = retry->times;; left--) {
        apr_status_t rv = tus_hook_call(called, hook, event, r, NULL, p);

        tus_metrics_hook(event->type, called->time, is_answer(rv, called));
        if (is_answer(rv, called) || left <= 1 || !may_recover(rv, called->status)) {
            return rv;
        }
        tus_metrics_hook_retry(event->type);
        apr_sleep(backoff);
        backoff *= 2;
    }
}

static const tus_error_t *failed(const tus_hook_t *hook, const tus_hook_event_t *event,
                                 const request_rec *r, apr_status_t rv, const tus_called_t *called,
                                 const char *why)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                  "hook %s %s (%s) failed: status %d after %" APR_TIME_T_FMT " ms: %s",
                  tus_hook_name(event->type), hook->spec->text,
                  hook->spec->where ? hook->spec->where : hook->spec->htaccess, called->status,
                  apr_time_as_msec(called->time), why);
    return tus_error(r->pool, APR_STATUS_IS_EBUSY(rv) ? TUS_ERR_HOOK_BUSY : TUS_ERR_HOOK_FAILED,
                     NULL);
}

/* ---- what is made of an answer ------------------------------------------------- */

/* What later hooks say stands before what earlier ones did. */
static void merge_reply(tus_reply_t *reply, const tus_verdict_t *verdict, apr_pool_t *p)
{
    const char *type = apr_table_get(verdict->headers, "Content-Type");

    reply->status = verdict->status ? verdict->status : reply->status;
    reply->body = verdict->body ? verdict->body : reply->body;
    reply->content_type = type ? type : reply->content_type;
    reply->headers = reply->headers ? apr_table_overlay(p, verdict->headers, reply->headers)
                                    : apr_table_copy(p, verdict->headers);
    apr_table_unset(reply->headers, "Content-Type");
}

/* A refusal that looks like a success would mislead the client. */
const tus_reply_t *tus_hook_reply(const tus_verdict_t *verdict, apr_pool_t *p)
{
    tus_reply_t *reply = apr_pcalloc(p, sizeof(*reply));

    merge_reply(reply, verdict, p);
    if (reply->status < 400) {
        reply->status = 0;
    }
    return reply;
}

static const tus_error_t *reject(const tus_verdict_t *verdict, tus_err_e err, apr_pool_t *p)
{
    return tus_error_reply(p, err, tus_hook_reply(verdict, p));
}

/* @return NULL, or what cannot be, as the middle of a sentence */
static const char *take_changes(tus_upload_t *upload, const tus_verdict_t *verdict)
{
    const char *before = tus_metadata_format(upload->record->pairs, upload->pool);
    tus_record_t said = *upload->record;
    const char *wrong;

    said.id = verdict->id ? verdict->id : said.id;
    said.pairs = verdict->pairs ? verdict->pairs : said.pairs;
    said.storage_path = verdict->storage_path ? verdict->storage_path : said.storage_path;
    wrong = tus_changes_take(upload, &said, before);
    return wrong ? apr_pstrcat(upload->pool, "it sets ", wrong, NULL) : NULL;
}

static const tus_error_t *take(const tus_verdict_t *verdict, tus_hook_e type, request_rec *r)
{
    if (type == TUS_HOOK_PRE_TERMINATE && verdict->reject_termination) {
        return reject(verdict, TUS_ERR_TERMINATION_REJECTED, r->pool);
    }
    if (type == TUS_HOOK_PRE_CREATE && verdict->reject_upload) {
        return reject(verdict, TUS_ERR_UPLOAD_REJECTED, r->pool);
    }
    merge_reply(tus_mount_of(r)->said, verdict, r->pool);
    return NULL;
}

static int has_changes(const tus_verdict_t *verdict, tus_hook_e type)
{
    return type == TUS_HOOK_PRE_CREATE && !verdict->reject_upload;
}

static void log_asked(const tus_hook_t *hook, const tus_hook_event_t *event, const request_rec *r,
                      const tus_called_t *called, const tus_verdict_t *verdict)
{
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, r,
                  "hook %s %s: status %d after %" APR_TIME_T_FMT " ms", tus_hook_name(event->type),
                  hook->spec->text, called->status, apr_time_as_msec(called->time));
    for (int i = 0; i < verdict->left->nelts; i++) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "hook %s %s: not taken from its answer: %s",
                      tus_hook_name(event->type), hook->spec->text,
                      APR_ARRAY_IDX(verdict->left, i, const char *));
    }
}

static const tus_error_t *ask(const tus_hook_t *hook, const tus_hook_event_t *event,
                              tus_upload_t *upload, request_rec *r)
{
    tus_verdict_t *verdict;
    tus_called_t called;
    const char *wrong;
    apr_status_t rv = call(&called, hook, event, r, r->pool);

    if (!is_answer(rv, &called)) {
        return failed(hook, event, r, rv, &called,
                      called.why ? called.why : "the status means no success");
    }
    wrong = tus_hook_json_parse(&verdict, called.body, called.len, r->pool);
    if (!wrong && has_changes(verdict, event->type)) {
        wrong = take_changes(upload, verdict);
    }
    if (wrong) {
        return failed(hook, event, r, rv, &called, wrong);
    }
    log_asked(hook, event, r, &called, verdict);
    return take(verdict, event->type, r);
}

/* Whoever asks waits, and a sweep has no time for that. */
const tus_error_t *tus_hook_leave(tus_hook_e type, const tus_upload_t *upload)
{
    const apr_array_header_t *keys = upload->record->hooks;

    for (int i = 0; keys && i < keys->nelts; i++) {
        if (tus_hook_table_find(APR_ARRAY_IDX(keys, i, const char *), type, upload->pool)) {
            return tus_error(upload->pool, TUS_ERR_HOOK_FAILED,
                             "the upload is left to be finished by the next request for it");
        }
    }
    return NULL;
}

const tus_error_t *tus_hook_ask(tus_hook_e type, tus_upload_t *upload, request_rec *r)
{
    const apr_array_header_t *hooks = tus_hook_table_of(r, type, r->pool);
    tus_hook_event_t event;
    const tus_error_t *error;

    if (!hooks) {
        return NULL;
    }
    error = tus_hook_event_make(&event, type, upload, r, tus_config_of(r)->hook_forward, 0);
    for (int i = 0; !error && i < hooks->nelts; i++) {
        error = ask(&APR_ARRAY_IDX(hooks, i, tus_hook_t), &event, upload, r);
    }
    return error;
}
