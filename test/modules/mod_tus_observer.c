/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A module that takes part in uploads through mod_tus's optional hooks and
 * functions, built against mod_tus.h alone.
 *
 *   TusObserverLog FILE   gets a line for each event
 *
 * What it does to an upload, the upload's own metadata says:
 *
 *   refuse HOOK     refuses in that hook, with a reply as `how` says:
 *                   default, full or error, and with the status `status`
 *   rename ID       another id
 *   storage PATH    another storage_path
 *   metadata WORD   other metadata: replace, append, none, or what cannot be: null, space, twice
 *   stop-at N       refuses in receive once there are N bytes
 *   headers none    leaves each reply without the table that it came with
 *
 * The last event of a request is its note "tus-observed".
 *
 * And its handler "tus-observer", below any URL:
 *
 *   /stop/ID?STORE   stops an upload of the store in that directory
 *   /metadata        parses the header Metadata and formats it again
 */
#include <httpd.h>
#include <http_config.h>
#include <http_log.h>
#include <http_protocol.h>

#include <mod_tus.h>

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

extern module AP_MODULE_DECLARE_DATA tus_observer_module;
APLOG_USE_MODULE(tus_observer);

static const char *log_file;

/* Found once all modules are there; the header is only a promise that they can be. */
static APR_OPTIONAL_FN_TYPE(tus_parse_metadata) * parse_metadata;
static APR_OPTIONAL_FN_TYPE(tus_format_metadata) * format_metadata;
static APR_OPTIONAL_FN_TYPE(tus_make_error) * make_error;
static APR_OPTIONAL_FN_TYPE(tus_stop_upload) * stop_upload;

/* ---- the hooks ----------------------------------------------------------- */

static const char *wish(const tus_event_t *event, const char *key)
{
    const apr_array_header_t *pairs = event->record->pairs;

    for (int i = 0; pairs && i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        if (!strcmp(pair->key, key)) {
            return pair->value;
        }
    }
    return NULL;
}

/* One write to a file opened for appending: lines of several processes do not mix. */
static void observe(const char *name, const tus_event_t *event)
{
    const request_rec *r = event->request;
    const tus_record_t *record = event->record;
    apr_file_t *file;
    apr_size_t len;
    const char *line;

    if (!log_file) {
        return;
    }
    line = apr_psprintf(event->pool,
                        "%s id=%s offset=%" APR_OFF_T_FMT " size=%" APR_OFF_T_FMT
                        " finished=%d method=%s metadata=%s\n",
                        name, record->id ? record->id : "-", event->offset, record->size,
                        record->finished != 0, r ? r->method : "-",
                        record->metadata ? record->metadata : "-");
    if (apr_file_open(&file, log_file, APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_APPEND,
                      APR_FPROT_OS_DEFAULT, event->pool)
        != APR_SUCCESS) {
        return;
    }
    apr_file_write_full(file, line, strlen(line), &len);
    apr_file_close(file);
}

static void fill(tus_reply_t *reply, const char *how, apr_pool_t *p)
{
    if (!strcmp(how, "full")) {
        reply->status = 422;
        reply->content_type = "application/json";
        reply->body = "{\"quota\":0}";
        apr_table_setn(reply->headers, "X-Quota", "0");
        apr_table_setn(reply->headers, "Retry-After", "3600");
        apr_table_setn(reply->headers, "Tus-Resumable", "9.9.9");
        apr_table_setn(reply->headers, "Content-Length", "1");
        apr_table_setn(reply->headers, "Transfer-Encoding", "chunked");
        apr_table_setn(reply->headers, "X-Split", "a\r\nX-Injected: b");
    }
    else if (!strcmp(how, "error")) {
        make_error(reply, 429, "ERR_QUOTA", "there is no room left for you", p);
    }
}

static int judge(const char *name, const tus_event_t *event, tus_reply_t *reply)
{
    const char *refuse = wish(event, "refuse");
    const char *how = wish(event, "how");

    observe(name, event);
    if (event->request) {
        apr_table_setn(event->request->notes, "tus-observed",
                       apr_pstrcat(event->pool, name, " ", event->record->id, NULL));
    }
    if (wish(event, "headers")) {
        reply->headers = NULL;
    }
    if (!refuse || strcmp(refuse, name) != 0) {
        return OK;
    }
    fill(reply, how ? how : "default", event->pool);
    if (wish(event, "status")) {
        reply->status = atoi(wish(event, "status"));
    }
    return TUS_REFUSE;
}

static tus_pair_t *append(tus_record_t *record, const char *key, const char *value)
{
    tus_pair_t *pair = &APR_ARRAY_PUSH(record->pairs, tus_pair_t);

    pair->key = key;
    pair->value = value;
    pair->len = value ? strlen(value) : 0;
    return pair;
}

static void change_metadata(const tus_event_t *event, const char *word)
{
    tus_record_t *record = event->record;

    if (!strcmp(word, "replace")) {
        record->pairs = apr_array_make(event->pool, 1, sizeof(tus_pair_t));
        append(record, "by", "observer");
    }
    else if (!strcmp(word, "append")) { /* in place */
        append(record, "by", "observer");
    }
    else if (!strcmp(word, "none")) {
        record->pairs = NULL;
    }
    else if (!strcmp(word, "null")) {
        append(record, "by", NULL)->len = 1;
    }
    else if (!strcmp(word, "space")) {
        append(record, "two words", "x");
    }
    else if (!strcmp(word, "twice")) {
        append(record, "metadata", "x");
    }
}

static int pre_create(const tus_event_t *event, tus_reply_t *reply)
{
    tus_record_t *record = event->record;
    const char *word = wish(event, "metadata");

    if (wish(event, "rename")) {
        record->id = wish(event, "rename");
    }
    if (wish(event, "storage")) {
        record->storage_path = wish(event, "storage");
    }
    if (word) {
        change_metadata(event, word);
    }
    record->size += 1; /* not ours to change: nobody looks at it */
    record->owner = "nobody";
    if (judge("pre_create", event, reply) != OK) {
        return TUS_REFUSE;
    }
    return DECLINED; /* as good as OK */
}

static int post_create(const tus_event_t *event, tus_reply_t *reply)
{
    return judge("post_create", event, reply);
}

static int receive(const tus_event_t *event, tus_reply_t *reply)
{
    const char *stop_at = wish(event, "stop-at");

    if (stop_at && event->offset >= apr_atoi64(stop_at)) {
        make_error(reply, 0, "ERR_OBSERVER", "the observer has seen enough", event->pool);
        return TUS_REFUSE;
    }
    return judge("receive", event, reply);
}

static int pre_finish(const tus_event_t *event, tus_reply_t *reply)
{
    return judge("pre_finish", event, reply);
}

static int post_finish(const tus_event_t *event, tus_reply_t *reply)
{
    return judge("post_finish", event, reply);
}

static int pre_terminate(const tus_event_t *event, tus_reply_t *reply)
{
    return judge("pre_terminate", event, reply);
}

static int post_terminate(const tus_event_t *event, tus_reply_t *reply)
{
    return judge("post_terminate", event, reply);
}

/* ---- the handler --------------------------------------------------------- */

static int handle_stop(request_rec *r, const char *id)
{
    tus_identity_t store;
    struct stat st;
    apr_status_t rv;

    if (!r->args || stat(r->args, &st) != 0) {
        return HTTP_NOT_FOUND;
    }
    store.device = st.st_dev;
    store.inode = st.st_ino;
    store.owner = st.st_uid;
    rv = stop_upload(&store, id);
    ap_rputs(rv == APR_SUCCESS          ? "stopped\n"
             : APR_STATUS_IS_ENOENT(rv) ? "not running\n"
                                        : "failed\n",
             r);
    return OK;
}

static int handle_metadata(request_rec *r)
{
    apr_array_header_t *pairs;
    const char *wrong = parse_metadata(apr_table_get(r->headers_in, "Metadata"), &pairs, r->pool);
    const char *again;

    if (wrong) {
        ap_rprintf(r, "wrong: %s\n", wrong);
        return OK;
    }
    for (int i = 0; i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        ap_rprintf(r, "%s=", pair->key);
        ap_rwrite(pair->value, (int)pair->len, r);
        ap_rputs("\n", r);
    }
    again = format_metadata(pairs, r->pool);
    ap_rprintf(r, "again: %s\n", again ? again : "(none)");
    return OK;
}

static int handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "tus-observer") != 0) {
        return DECLINED;
    }
    if (!r->path_info || !parse_metadata || !format_metadata || !stop_upload) {
        return HTTP_NOT_FOUND;
    }
    ap_set_content_type(r, "text/plain");
    if (!strncmp(r->path_info, "/stop/", 6)) {
        return handle_stop(r, r->path_info + 6);
    }
    return strcmp(r->path_info, "/metadata") ? HTTP_NOT_FOUND : handle_metadata(r);
}

/* ---- the module ---------------------------------------------------------- */

static const char *set_log(cmd_parms *cmd, void *unused, const char *file)
{
    (void)cmd;
    (void)unused;
    log_file = file;
    return NULL;
}

static const command_rec commands[] = { AP_INIT_TAKE1("TusObserverLog", set_log, NULL, RSRC_CONF,
                                                      "a file that gets a line for each event"),
                                        { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL } };

static void retrieve(void)
{
    parse_metadata = APR_RETRIEVE_OPTIONAL_FN(tus_parse_metadata);
    format_metadata = APR_RETRIEVE_OPTIONAL_FN(tus_format_metadata);
    make_error = APR_RETRIEVE_OPTIONAL_FN(tus_make_error);
    stop_upload = APR_RETRIEVE_OPTIONAL_FN(tus_stop_upload);
}

static void register_hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_optional_fn_retrieve(retrieve, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, tus_pre_create, pre_create, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, tus_post_create, post_create, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, tus_receive, receive, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, tus_pre_finish, pre_finish, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, tus_post_finish, post_finish, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, tus_pre_terminate, pre_terminate, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, tus_post_terminate, post_terminate, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA tus_observer_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, commands, register_hooks, 0
};
