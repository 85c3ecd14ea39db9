/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What happens to uploads: logged, counted, and told other modules. They may
 * refuse some of it, and rename what is created; what they say is checked here,
 * so that the deeds can take it as it stands.
 *
 * Their functions are found through libaprutil by name, not by our symbols, of
 * which none but the module record is visible.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_main.h>

#include <stdarg.h>
#include <string.h>

/* ---- the optional hooks -------------------------------------------------- */

/* Everything but the type of the function, which mod_tus.h has, and all of it in this file. */
#define STATIC_DECLARE(type) static type
#define IMPLEMENT_HOOK(name)                                                                       \
    typedef struct ap_LINK_##name##_t {                                                            \
        ap_HOOK_##name##_t *pFunc;                                                                 \
        const char *szName;                                                                        \
        const char *const *aszPredecessors;                                                        \
        const char *const *aszSuccessors;                                                          \
        int nOrder;                                                                                \
    } ap_LINK_##name##_t;                                                                          \
    APR_IMPLEMENT_OPTIONAL_HOOK_RUN_ALL(ap, STATIC, int, name,                                     \
                                        (const tus_event_t *event, tus_reply_t *reply),            \
                                        (event, reply), OK, DECLINED)

IMPLEMENT_HOOK(tus_pre_create)
IMPLEMENT_HOOK(tus_post_create)
IMPLEMENT_HOOK(tus_receive)
IMPLEMENT_HOOK(tus_pre_finish)
IMPLEMENT_HOOK(tus_post_finish)
IMPLEMENT_HOOK(tus_pre_terminate)
IMPLEMENT_HOOK(tus_post_terminate)

typedef int (*run_fn)(const tus_event_t *event, tus_reply_t *reply);

/* For the calls of one request, which come one after the other. */
#define REPLY_KEY "mod_tus events: reply"

typedef struct kept_t {
    tus_reply_t reply;
    apr_table_t *headers; /* whatever a module put in their place */
} kept_t;

/* An empty reply. It is made once, as `receive` is called for each read. */
static tus_reply_t *empty_reply(apr_pool_t *p)
{
    void *found = NULL;
    kept_t *kept;

    apr_pool_userdata_get(&found, REPLY_KEY, p);
    kept = found;
    if (!kept) {
        kept = apr_palloc(p, sizeof(*kept));
        kept->headers = apr_table_make(p, 4);
        apr_pool_userdata_setn(kept, REPLY_KEY, NULL, p);
    }
    apr_table_clear(kept->headers);
    kept->reply = (tus_reply_t){ .headers = kept->headers };
    return &kept->reply;
}

/* A refusal lives on as the error; the next call needs another reply. */
static const tus_error_t *refused(apr_pool_t *p, tus_err_e err, const tus_reply_t *reply)
{
    apr_pool_userdata_setn(NULL, REPLY_KEY, NULL, p);
    if (reply->status && (reply->status < 400 || reply->status > 599)) {
        return tus_error_system(p, APR_SUCCESS,
                                "a module refused with the status %d; it must be 400 to 599, or 0",
                                reply->status);
    }
    return tus_error_reply(p, err, reply);
}

/* Asks or tells the other modules, who get a copy of the record: they are to change no other. */
static const tus_error_t *run(run_fn fn, request_rec *r, const tus_upload_t *upload,
                              tus_record_t *record, tus_err_e err)
{
    tus_event_t event = { .request = r,
                          .store = &upload->core->store->identity,
                          .record = record,
                          .offset = upload->offset,
                          .pool = r ? r->pool : upload->pool };
    tus_reply_t *reply = empty_reply(upload->pool);

    return fn(&event, reply) == OK ? NULL : refused(upload->pool, err, reply);
}

static int is_hooked(const char *name)
{
    return apr_optional_hook_get(name) != NULL;
}

static const tus_error_t *ask(const char *name, run_fn fn, request_rec *r,
                              const tus_upload_t *upload, tus_err_e err)
{
    tus_record_t copy;

    if (!is_hooked(name)) {
        return NULL;
    }
    copy = *upload->record;
    return run(fn, r, upload, &copy, err);
}

/* It has happened: what is said to it changes nothing. */
static void tell(const char *name, run_fn fn, request_rec *r, const tus_upload_t *upload)
{
    (void)ask(name, fn, r, upload, TUS_ERR_UPLOAD_REJECTED);
}

/* ---- pre_create ----------------------------------------------------------- */

static const tus_error_t *ask_modules(request_rec *r, tus_upload_t *upload)
{
    tus_record_t said = *upload->record;
    const char *before = tus_metadata_format(said.pairs, upload->pool);
    const tus_error_t *error;
    const char *wrong;

    if (!is_hooked("tus_pre_create")) {
        return NULL;
    }
    error = run(ap_run_tus_pre_create, r, upload, &said, TUS_ERR_UPLOAD_REJECTED);
    if (error) {
        return error;
    }
    wrong = tus_changes_take(upload, &said, before);
    return wrong
               ? tus_error_system(upload->pool, APR_SUCCESS, "a pre_create function set %s", wrong)
               : NULL;
}

/* The modules of this server first, so that what the application hears of is what they left. */
static const tus_error_t *pre_create(void *baton, tus_upload_t *upload)
{
    const tus_error_t *error = ask_modules(baton, upload);

    if (!error) {
        error = tus_hook_ask(TUS_HOOK_PRE_CREATE, upload, baton);
    }
    return error ? error : tus_hook_ask_prepare(upload, baton);
}

/* What another module chose is the business of tus_create.c. */
static const tus_error_t *not_made(void *baton, tus_upload_t *upload)
{
    (void)upload;
    return tus_hook_misnamed(baton);
}

/* ---- the log -------------------------------------------------------------- */

static void story(request_rec *r, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One line an event, of the request or, where none is the cause, of the server. */
static void story(request_rec *r, int level, const char *format, ...)
{
    char line[HUGE_STRING_LEN];
    va_list args;

    va_start(args, format);
    apr_vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (r) {
        ap_log_rerror(APLOG_MARK, level, 0, r, "%s", line);
    }
    else {
        ap_log_error(APLOG_MARK, level, 0, ap_server_conf, "%s", line);
    }
}

/* ---- the events ----------------------------------------------------------- */

static const tus_error_t *will_create(void *baton, tus_upload_t *upload)
{
    const tus_error_t *error = tus_hook_record_note(upload, baton);

    return error ? error : tus_hook_tell(TUS_HOOK_POST_CREATE, upload, baton);
}

static void post_create(void *baton, tus_upload_t *upload)
{
    const tus_record_t *record = upload->record;

    story(baton, APLOG_INFO, "UploadCreated id=%s size=%s", record->id,
          record->size == TUS_SIZE_UNKNOWN ? "deferred"
                                           : apr_off_t_toa(upload->pool, record->size));
    tus_metrics_upload(TUS_METRIC_CREATED);
    tus_hook_told(TUS_HOOK_POST_CREATE, upload, baton);
    tell("tus_post_create", ap_run_tus_post_create, baton, upload);
}

static const tus_error_t *pre_finish(void *baton, tus_upload_t *upload)
{
    const tus_error_t *error =
        ask("tus_pre_finish", ap_run_tus_pre_finish, baton, upload, TUS_ERR_UPLOAD_REJECTED);

    if (error) {
        return error;
    }
    return baton ? tus_hook_ask(TUS_HOOK_PRE_FINISH, upload, baton)
                 : tus_hook_ask_late(TUS_HOOK_PRE_FINISH, upload);
}

static const tus_error_t *will_finish(void *baton, tus_upload_t *upload)
{
    return tus_hook_tell(TUS_HOOK_POST_FINISH, upload, baton);
}

static void post_finish(void *baton, tus_upload_t *upload)
{
    story(baton, APLOG_INFO, "UploadFinished id=%s size=%" APR_OFF_T_FMT, upload->record->id,
          upload->record->size);
    tus_metrics_upload(TUS_METRIC_FINISHED);
    tus_hook_told(TUS_HOOK_POST_FINISH, upload, baton);
    tell("tus_post_finish", ap_run_tus_post_finish, baton, upload);
}

static const tus_error_t *pre_terminate(void *baton, tus_upload_t *upload)
{
    const tus_error_t *error = ask("tus_pre_terminate", ap_run_tus_pre_terminate, baton, upload,
                                   TUS_ERR_TERMINATION_REJECTED);

    return error ? error : tus_hook_ask(TUS_HOOK_PRE_TERMINATE, upload, baton);
}

/* What was not confirmed of its life is so now, while its record is there to bear it out. */
static const tus_error_t *will_terminate(void *baton, tus_upload_t *upload)
{
    const tus_error_t *error = tus_hook_tell(TUS_HOOK_POST_TERMINATE, upload, baton);

    if (error) {
        return error;
    }
    tus_hook_told(TUS_HOOK_POST_CREATE, upload, baton);
    if (upload->record->finished) {
        tus_hook_told(TUS_HOOK_POST_FINISH, upload, baton);
    }
    return tus_hook_keep(upload);
}

static void post_terminate(void *baton, tus_upload_t *upload)
{
    story(baton, APLOG_INFO, "UploadTerminated id=%s", upload->record->id);
    tus_metrics_upload(TUS_METRIC_TERMINATED);
    tus_hook_told(TUS_HOOK_POST_TERMINATE, upload, baton);
    tell("tus_post_terminate", ap_run_tus_post_terminate, baton, upload);
}

static void expired(void *baton, tus_upload_t *upload)
{
    story(baton, APLOG_INFO, "UploadExpired id=%s offset=%" APR_OFF_T_FMT, upload->record->id,
          upload->offset);
    tus_metrics_upload(TUS_METRIC_EXPIRED);
}

static void cut(void *baton, tus_upload_t *upload, apr_off_t stored)
{
    story(baton, APLOG_INFO,
          "UploadCut id=%s offset=%" APR_OFF_T_FMT " stored=%" APR_OFF_T_FMT
          " reason=system-went-down",
          upload->record->id, upload->offset, stored);
}

static void lost(void *baton, const char *id)
{
    story(baton, APLOG_WARNING,
          "UploadLost id=%s: its ID.info is empty or all zero bytes; it was not on stable storage"
          " when the system went down",
          id);
}

const tus_events_t tus_events = { .pre_create = pre_create,
                                  .not_made = not_made,
                                  .will_create = will_create,
                                  .post_create = post_create,
                                  .pre_finish = pre_finish,
                                  .will_finish = will_finish,
                                  .post_finish = post_finish,
                                  .pre_terminate = pre_terminate,
                                  .will_terminate = will_terminate,
                                  .post_terminate = post_terminate,
                                  .expired = expired,
                                  .cut = cut,
                                  .lost = lost };

const tus_error_t *tus_events_receive(request_rec *r, tus_upload_t *upload)
{
    return ask("tus_receive", ap_run_tus_receive, r, upload, TUS_ERR_UPLOAD_STOPPED);
}

void tus_events_interrupted(request_rec *r, const tus_upload_t *upload, const char *reason)
{
    story(r, APLOG_INFO, "UploadInterrupted id=%s offset=%" APR_OFF_T_FMT " reason=%s",
          upload->record->id, upload->offset, reason);
    tus_metrics_upload(TUS_METRIC_INTERRUPTED);
}

/* ---- the optional functions ----------------------------------------------- */

static const char *parse_metadata(const char *header, apr_array_header_t **pairs, apr_pool_t *p)
{
    const tus_error_t *error = tus_metadata_parse(header, pairs, p);

    return error ? error->message : NULL;
}

static void make_error(tus_reply_t *reply, int status, const char *code, const char *message,
                       apr_pool_t *p)
{
    reply->status = status;
    reply->content_type = NULL;
    reply->body = apr_pstrcat(p, code, ": ", message, "\n", NULL);
}

static apr_status_t stop_upload(const tus_identity_t *store, const char *id)
{
    tus_locks_t *locks = tus_shared_locks();

    return locks ? locks->provider->stop(locks, store, id) : APR_ENOENT;
}

/* Under a name that a function of ours may have too. */
#define REGISTER(name, function)                                                                   \
    do {                                                                                           \
        APR_OPTIONAL_FN_TYPE(name) *typed = function;                                              \
        apr_dynamic_fn_register(#name, (apr_opt_fn_t *)typed);                                     \
    } while (0)

void tus_events_register(void)
{
    REGISTER(tus_parse_metadata, parse_metadata);
    REGISTER(tus_format_metadata, tus_metadata_format);
    REGISTER(tus_make_error, make_error);
    REGISTER(tus_stop_upload, stop_upload);
}
