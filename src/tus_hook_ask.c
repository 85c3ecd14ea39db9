/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Hooks that are asked before something happens. The request waits; no answer,
 * or one that makes no sense, means that it does not happen.
 *
 * An upload that a sweep finishes has no request: there it is the sweep that
 * waits, for a while, and asks again in one of its next rounds.
 */
#include "tus_httpd.h"

#include <apr_portable.h>
#include <apr_strings.h>

#include <http_core.h>

#include <poll.h>

/* How often who waits for the next try looks whether it is worth it. */
#define LOOK_AGAIN apr_time_from_msec(100)

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

/* An HTTP/2 stream that is reset is seen as aborted; a client of HTTP/1.1 has closed its side. */
static int is_client_gone(const request_rec *r)
{
    const conn_rec *c = r->connection;
    struct pollfd pollfd = { .events = POLLRDHUP };

    if (c->aborted || c->master) {
        return c->aborted;
    }
    return apr_os_sock_get(&pollfd.fd, ap_get_conn_socket((conn_rec *)c)) == APR_SUCCESS
           && poll(&pollfd, 1, 0) > 0;
}

static int is_worth_it(const request_rec *r)
{
    return !is_client_gone(r) && !tus_watch_is_leaving();
}

/* @return nonzero if all that time has passed */
static int pause_for(apr_interval_time_t time, const request_rec *r)
{
    while (time > 0 && is_worth_it(r)) {
        apr_interval_time_t slice = time < LOOK_AGAIN ? time : LOOK_AGAIN;

        apr_sleep(slice);
        time -= slice;
    }
    return time <= 0;
}

/*
 * As TusHookRetry says: so often in all, each wait twice as long as the one before. But
 * somebody has a worker for that: no try begins later than Timeout after the first one.
 */
static apr_status_t call(tus_called_t *called, const tus_hook_t *hook,
                         const tus_hook_event_t *event, const request_rec *r, apr_pool_t *p)
{
    const tus_retry_t *retry = &hook->settings->hook_retry;
    apr_interval_time_t backoff = retry->backoff;
    apr_time_t last = apr_time_now() + r->server->timeout;

    for (int left = retry->times;; left--) {
        apr_status_t rv = tus_hook_call(called, hook, event, r, NULL, p);

        tus_metrics_hook(event->type, called->time, is_answer(rv, called));
        if (is_answer(rv, called) || left <= 1 || !may_recover(rv, called->status)
            || apr_time_now() + backoff > last || !pause_for(backoff, r)) {
            return rv;
        }
        tus_metrics_hook_retry(event->type);
        backoff *= 2;
    }
}

/* A noted hook has no line, only the directory of its .htaccess. */
static const char *said_where(const tus_hook_t *hook)
{
    return hook->spec->where ? hook->spec->where : hook->spec->htaccess;
}

static const tus_error_t *failed(const tus_hook_t *hook, const tus_hook_event_t *event,
                                 const request_rec *r, apr_status_t rv, const tus_called_t *called,
                                 const char *why)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                  "hook %s %s (%s) failed: status %d after %" APR_TIME_T_FMT " ms: %s",
                  tus_hook_name(event->type), hook->spec->text, said_where(hook), called->status,
                  apr_time_as_msec(called->time), why);
    return tus_error(r->pool, APR_STATUS_IS_EBUSY(rv) ? TUS_ERR_HOOK_BUSY : TUS_ERR_HOOK_FAILED,
                     NULL);
}

/* ---- what is made of an answer ------------------------------------------------- */

/* @return NULL, or what is wrong with it */
static const char *read_answer(tus_verdict_t **verdict, apr_status_t rv, const tus_called_t *called,
                               apr_pool_t *p)
{
    if (!is_answer(rv, called)) {
        return called->why ? called->why : "the status means no success";
    }
    return tus_hook_json_parse(verdict, called->body, called->len, p);
}

/* What later hooks say takes the place of what earlier ones did. */
static void merge_reply(tus_reply_t *reply, const tus_verdict_t *verdict, apr_pool_t *p)
{
    const char *type = apr_table_get(verdict->headers, "Content-Type");

    reply->status = verdict->status ? verdict->status : reply->status;
    reply->body = verdict->body ? verdict->body : reply->body;
    reply->content_type = type ? type : reply->content_type;
    if (!reply->headers) {
        reply->headers = apr_table_make(p, 4);
    }
    apr_table_overlap(reply->headers, verdict->headers, APR_OVERLAP_TABLES_SET);
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

/* ---- an id or a place that cannot be had ---------------------------------------- */

/* Who chose it, until it is made. */
typedef struct choice_t {
    const tus_hook_t *hook;
    const tus_hook_event_t event; /* without a body */
    const tus_called_t called;
    const char *what; /* as the middle of a sentence */
} choice_t;

static void note_choice(const tus_hook_t *hook, const tus_hook_event_t *event,
                        const tus_called_t *called, const tus_verdict_t *verdict,
                        const request_rec *r)
{
    choice_t choice = { .hook = hook,
                        .event = { .type = event->type, .event_id = event->event_id },
                        .called = { .status = called->status, .time = called->time } };

    if (!verdict->id && !verdict->storage_path) {
        return;
    }
    choice.what = verdict->id ? apr_pstrcat(r->pool, "the id '", verdict->id, "'", NULL) : "";
    if (verdict->storage_path) {
        choice.what = apr_pstrcat(r->pool, choice.what, *choice.what ? " and " : "",
                                  "Storage.Path '", verdict->storage_path, "'", NULL);
    }
    APR_ARRAY_PUSH(tus_mount_of(r)->chosen, const choice_t *) =
        apr_pmemdup(r->pool, &choice, sizeof(choice));
}

const tus_error_t *tus_hook_misnamed(const request_rec *r)
{
    const apr_array_header_t *chosen = tus_mount_of(r)->chosen;
    const tus_error_t *error = NULL;

    for (int i = 0; i < chosen->nelts; i++) {
        const choice_t *choice = APR_ARRAY_IDX(chosen, i, const choice_t *);

        error =
            failed(choice->hook, &choice->event, r, APR_SUCCESS, &choice->called,
                   apr_pstrcat(r->pool, "it sets ", choice->what,
                               ", which is taken, or leads through what is no directory", NULL));
    }
    return error;
}

/* ---- an answer ----------------------------------------------------------------- */

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
    apr_status_t rv = call(&called, hook, event, r, r->pool);
    const char *wrong = read_answer(&verdict, rv, &called, r->pool);

    if (!wrong && has_changes(verdict, event->type)) {
        wrong = take_changes(upload, verdict);
    }
    if (wrong) {
        return failed(hook, event, r, rv, &called, wrong);
    }
    if (has_changes(verdict, event->type)) {
        note_choice(hook, event, &called, verdict, r);
    }
    log_asked(hook, event, r, &called, verdict);
    return take(verdict, event->type, r);
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

const tus_error_t *tus_hook_ask_prepare(const tus_upload_t *upload, const request_rec *r)
{
    const apr_array_header_t *hooks = tus_hook_table_of(r, TUS_HOOK_PRE_FINISH, r->pool);
    apr_status_t rv = APR_SUCCESS;

    for (int i = 0; rv == APR_SUCCESS && hooks && i < hooks->nelts; i++) {
        const tus_hook_t *hook = &APR_ARRAY_IDX(hooks, i, tus_hook_t);

        if (hook->spec->htaccess) {
            rv = tus_hook_table_note(hook, r->pool);
        }
    }
    return rv == APR_SUCCESS
               ? NULL
               : tus_error_system(upload->pool, rv, "cannot note a hook in TusStateDir");
}

/* ---- without a request ----------------------------------------------------------- */

/* One that refuses this upload only may well be asked of others in the next round. */
static void rest(const tus_hook_t *hook, int is_reached)
{
    if (is_reached) {
        tus_rest_end(hook->spec->key);
    }
    tus_rest_begin(hook->spec->key, hook->settings->hook_retry.backoff);
}

static const tus_error_t *failed_late(const tus_hook_t *hook, const tus_hook_event_t *event,
                                      const tus_upload_t *upload, apr_status_t rv,
                                      const tus_called_t *called, const char *why)
{
    int is_given_up = APR_STATUS_IS_EINTR(rv);

    ap_log_error(APLOG_MARK, is_given_up ? APLOG_INFO : APLOG_WARNING, 0, hook->server,
                 "hook %s %s (%s) failed: status %d after %" APR_TIME_T_FMT
                 " ms: %s; upload %s is not finished, which is tried again later",
                 tus_hook_name(event->type), hook->spec->text, said_where(hook), called->status,
                 apr_time_as_msec(called->time), why, upload->record->id);
    rest(hook, rv == APR_SUCCESS && called->status < 500);
    return tus_error(upload->pool, TUS_ERR_HOOK_FAILED, NULL);
}

static const tus_error_t *ask_late(const tus_hook_t *hook, const tus_hook_event_t *event,
                                   const tus_upload_t *upload)
{
    tus_verdict_t *verdict;
    tus_called_t called;
    apr_status_t rv = tus_hook_call(&called, hook, event, NULL, upload->core->cancel, upload->pool);
    const char *wrong = read_answer(&verdict, rv, &called, upload->pool);

    tus_metrics_hook(event->type, called.time, is_answer(rv, &called));
    if (wrong) {
        return failed_late(hook, event, upload, rv, &called, wrong);
    }
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, hook->server,
                 "hook %s %s, of upload %s: status %d after %" APR_TIME_T_FMT " ms",
                 tus_hook_name(event->type), hook->spec->text, upload->record->id, called.status,
                 apr_time_as_msec(called.time));
    tus_rest_end(hook->spec->key);
    return NULL;
}

const tus_error_t *tus_hook_ask_late(tus_hook_e type, tus_upload_t *upload)
{
    const apr_array_header_t *hooks;
    const tus_error_t *error = NULL;
    tus_hook_event_t event;
    apr_status_t rv =
        tus_hook_record_find(&hooks, upload->core, upload->record, type, upload->pool);

    if (rv != APR_SUCCESS) {
        return tus_hook_record_error(upload, rv);
    }
    if (hooks->nelts) {
        error = tus_hook_event_make(&event, type, upload, NULL, NULL, 0);
    }
    for (int i = 0; !error && i < hooks->nelts; i++) {
        error = ask_late(&APR_ARRAY_IDX(hooks, i, tus_hook_t), &event, upload);
    }
    return error;
}

int tus_hook_is_resting(const apr_array_header_t *hooks)
{
    for (int i = 0; i < hooks->nelts; i++) {
        if (tus_rest_is_on(APR_ARRAY_IDX(hooks, i, tus_hook_t).spec->key)) {
            return 1;
        }
    }
    return 0;
}
