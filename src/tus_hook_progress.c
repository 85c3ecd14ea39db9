/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * post-receive: told while bytes flow, and advisory. The receiver waits for
 * nobody: threads of this process make the calls, one at a time for a request,
 * and what they cannot keep up with is not told. An answer may stop the upload.
 */
#include "tus_httpd.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <apr_thread_pool.h>

#include <http_main.h>

#include <string.h>

#define THREADS 4

/* Calls that wait for a thread; more are not told. */
#define QUEUE_MAX 256

/* What a request and its calls share; it goes with the last of them. */
struct tus_progress_t {
    apr_pool_t *pool; /* of its own: a call may outlive the request */
    apr_uint32_t users;
    apr_uint32_t is_running; /* a call */
    apr_uint32_t is_stopped; /* reply is there */
    const tus_reply_t *reply;
    tus_identity_t store;
    const char *id;
    apr_array_header_t *keys; /* of the hooks: char * */
};

typedef struct call_t {
    tus_progress_t *progress;
    apr_pool_t *pool;
    tus_hook_event_t event;
} call_t;

static apr_pool_t *pool;
static apr_thread_mutex_t *mutex; /* guards threads */
static apr_thread_pool_t *threads;
static apr_uint32_t is_ending;

static int is_cancelled(void *baton)
{
    (void)baton;
    return (int)apr_atomic_read32(&is_ending);
}

static const tus_cancel_t cancel = { is_cancelled, NULL };

/* ---- a call ------------------------------------------------------------------- */

static void let_go(tus_progress_t *progress)
{
    if (!apr_atomic_dec32(&progress->users)) {
        apr_pool_destroy(progress->pool);
    }
}

static void stop_upload(tus_progress_t *progress, const tus_verdict_t *verdict)
{
    tus_locks_t *locks = tus_shared_locks();

    progress->reply = tus_hook_reply(verdict, progress->pool);
    apr_atomic_set32(&progress->is_stopped, 1);
    locks->provider->stop(locks, &progress->store, progress->id);
}

static void log_failed(const tus_hook_t *hook, const tus_progress_t *progress,
                       const tus_called_t *called, const char *why)
{
    ap_log_error(APLOG_MARK, APLOG_INFO, 0, hook->server,
                 "hook post-receive %s of upload %s was not told: status %d after %" APR_TIME_T_FMT
                 " ms%s%s",
                 hook->spec->text, progress->id, called->status, apr_time_as_msec(called->time),
                 why ? ": " : "", why ? why : "");
}

static void tell(const call_t *call, const char *key)
{
    const tus_hook_t *hook = tus_hook_table_find(key, TUS_HOOK_POST_RECEIVE, call->pool);
    const char *wrong;
    tus_called_t called;
    tus_verdict_t *verdict;
    apr_status_t rv;

    if (!hook) {
        return;
    }
    rv = tus_hook_call(&called, hook, &call->event, NULL, &cancel, call->pool);
    tus_metrics_hook(TUS_HOOK_POST_RECEIVE, called.time,
                     rv == APR_SUCCESS && ap_is_HTTP_SUCCESS(called.status));
    if (rv != APR_SUCCESS || !ap_is_HTTP_SUCCESS(called.status)) {
        log_failed(hook, call->progress, &called, called.why);
        return;
    }
    wrong = tus_hook_json_parse(&verdict, called.body, called.len, call->pool);
    if (wrong) {
        log_failed(hook, call->progress, &called, wrong);
    }
    else if (verdict->stop_upload) {
        stop_upload(call->progress, verdict);
    }
}

static void *APR_THREAD_FUNC work(apr_thread_t *thread, void *data)
{
    call_t *call = data;
    tus_progress_t *progress = call->progress;

    (void)thread;
    for (int i = 0; i < progress->keys->nelts && !apr_atomic_read32(&is_ending); i++) {
        tell(call, APR_ARRAY_IDX(progress->keys, i, const char *));
    }
    apr_pool_destroy(call->pool);
    apr_atomic_set32(&progress->is_running, 0);
    let_go(progress);
    return NULL;
}

/* ---- a request ------------------------------------------------------------------- */

static apr_status_t end_request(void *progress)
{
    let_go(progress);
    return APR_SUCCESS;
}

/* @return NULL if no hook wants to know */
tus_progress_t *tus_hook_progress_begin(request_rec *r, const tus_upload_t *upload)
{
    const apr_array_header_t *hooks = tus_hook_table_of(r, TUS_HOOK_POST_RECEIVE, r->pool);
    tus_progress_t *progress;
    apr_pool_t *p;

    if (!hooks) {
        return NULL;
    }
    apr_pool_create(&p, NULL);
    progress = apr_pcalloc(p, sizeof(*progress));
    progress->pool = p;
    progress->users = 1;
    progress->store = upload->core->store->identity;
    progress->id = apr_pstrdup(p, upload->record->id);
    progress->keys = apr_array_make(p, hooks->nelts, sizeof(const char *));
    for (int i = 0; i < hooks->nelts; i++) {
        const tus_hook_t *hook = &APR_ARRAY_IDX(hooks, i, tus_hook_t);

        if (hook->spec->htaccess && tus_hook_table_note(hook, r->pool) != APR_SUCCESS) {
            continue; /* advisory */
        }
        APR_ARRAY_PUSH(progress->keys, const char *) = apr_pstrdup(p, hook->spec->key);
    }
    apr_pool_cleanup_register(r->pool, progress, end_request, apr_pool_cleanup_null);
    return progress;
}

static apr_thread_pool_t *get_threads(void)
{
    apr_thread_mutex_lock(mutex);
    if (!threads && apr_thread_pool_create(&threads, 0, THREADS, pool) != APR_SUCCESS) {
        threads = NULL;
    }
    apr_thread_mutex_unlock(mutex);
    return threads;
}

void tus_hook_progress_tell(tus_progress_t *progress, const tus_upload_t *upload, request_rec *r)
{
    apr_thread_pool_t *to = get_threads();
    tus_upload_t copy = *upload;
    apr_pool_t *p;
    call_t *call;

    if (!to || apr_thread_pool_tasks_count(to) >= QUEUE_MAX
        || apr_atomic_cas32(&progress->is_running, 1, 0)) {
        return;
    }
    apr_pool_create(&p, NULL);
    call = apr_pcalloc(p, sizeof(*call));
    call->progress = progress;
    call->pool = p;
    copy.pool = p;
    apr_atomic_inc32(&progress->users);
    if (tus_hook_event_make(&call->event, TUS_HOOK_POST_RECEIVE, &copy, r,
                            tus_config_of(r)->hook_forward, 0)
        || apr_thread_pool_push(to, work, call, APR_THREAD_TASK_PRIORITY_NORMAL, NULL)
               != APR_SUCCESS) {
        apr_pool_destroy(p);
        apr_atomic_set32(&progress->is_running, 0);
        let_go(progress);
    }
}

const tus_error_t *tus_hook_progress_stopped(const tus_progress_t *progress, apr_pool_t *p)
{
    if (!progress || !apr_atomic_read32((apr_uint32_t *)&progress->is_stopped)) {
        return NULL;
    }
    return tus_error_reply(p, TUS_ERR_UPLOAD_STOPPED, progress->reply);
}

/* ---- a process --------------------------------------------------------------------- */

static apr_status_t end_process(void *unused)
{
    (void)unused;
    apr_atomic_set32(&is_ending, 1);
    if (threads) {
        apr_thread_pool_destroy(threads);
    }
    return APR_SUCCESS;
}

void tus_hook_progress_init(apr_pool_t *pchild)
{
    apr_pool_create(&pool, pchild);
    if (apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(pchild, NULL, end_process);
    }
}
