/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * post-receive: told while bytes flow, and advisory. The receiver waits for
 * nobody: threads of this process make the calls, one at a time for a request and
 * a hook, and what they cannot keep up with is not told. An answer may stop the
 * upload.
 *
 * An endpoint that never answers holds a thread until its TusHookTimeout. So the
 * hooks of all .htaccess files have half of the threads and the server's own the
 * other half, and those that were said in one place have only a few, and while
 * others need them just one: a few that hang do not keep the others from being told.
 */
#include "tus_httpd.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>

#include <http_main.h>

#include <string.h>

/* At once; each ends when it has nothing to do. */
#define THREADS 32

/* Of them, for the hooks of all .htaccess files, and for the server's own. */
#define KIND_THREADS (THREADS / 2)

/* Of these, for the hooks that were said in one place; one when half of them are taken. */
#define SCOPE_THREADS 4

/* Calls that wait for a thread of their place; more are not told. */
#define WAITING_MAX 64

/* A hook that a request tells. */
typedef struct told_t {
    const char *reference;
    int is_htaccess;
    apr_off_t offset;        /* that it was last told; only the request looks at it */
    apr_uint32_t is_running; /* a call */
} told_t;

/* What a request and its calls share; it goes with the last of them. */
struct tus_progress_t {
    apr_pool_t *pool; /* of its own: a call may outlive the request */
    apr_uint32_t users;
    apr_uint32_t is_stopped; /* reply is there */
    const tus_reply_t *reply;
    tus_identity_t store;
    const char *id;
    told_t *hooks;
    int count;
};

typedef struct call_t {
    struct call_t *next; /* that waits */
    tus_progress_t *progress;
    told_t *told;
    apr_pool_t *pool;
    tus_hook_event_t event;
} call_t;

/* A place where hooks were said. */
typedef struct scope_t {
    char key[TUS_HOOK_SCOPE_DIGITS + 1];
    int is_htaccess;
    int threads; /* without any, this is nobody's, and none waits */
    int waiting;
    call_t *first;
    call_t **end;
} scope_t;

typedef struct worker_t {
    apr_pool_t *pool;
    apr_thread_t *thread; /* to be joined */
    scope_t *scope;       /* NULL: it has ended */
} worker_t;

static apr_thread_mutex_t *mutex; /* guards scopes and workers, and who makes a reply */
static scope_t scopes[THREADS];
static worker_t workers[THREADS];
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

/* The request answers when this call, and all that is of its pool, may be gone. */
static void stop_upload(tus_progress_t *progress, const tus_reply_t *reply)
{
    tus_locks_t *locks = tus_shared_locks();

    apr_thread_mutex_lock(mutex);
    if (!apr_atomic_read32(&progress->is_stopped)) { /* by another hook */
        progress->reply = tus_reply_copy(reply, progress->pool);
        apr_atomic_set32(&progress->is_stopped, 1);
    }
    apr_thread_mutex_unlock(mutex);
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

static void tell(const call_t *call)
{
    const tus_hook_t *hook =
        tus_hook_table_find(call->told->reference, TUS_HOOK_POST_RECEIVE, call->pool);
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
        stop_upload(call->progress, tus_hook_reply(verdict, call->pool));
    }
}

static void end_call(call_t *call)
{
    tus_progress_t *progress = call->progress;

    apr_atomic_set32(&call->told->is_running, 0);
    apr_pool_destroy(call->pool);
    let_go(progress);
}

/* ---- who makes it; the mutex is held where nothing else is said --------------------- */

static void put(scope_t *scope, call_t *call)
{
    *scope->end = call;
    scope->end = &call->next;
    scope->waiting++;
}

static call_t *take(scope_t *scope)
{
    call_t *call = scope->first;

    if (call) {
        scope->first = call->next;
        scope->end = scope->first ? scope->end : &scope->first;
        scope->waiting--;
    }
    return call;
}

/* The next call; without any the worker ends. Locks. */
static call_t *next_call(worker_t *worker)
{
    call_t *call;

    apr_thread_mutex_lock(mutex);
    call = take(worker->scope);
    if (!call) {
        worker->scope->threads--;
        worker->scope = NULL;
    }
    apr_thread_mutex_unlock(mutex);
    return call;
}

/* Without the mutex. */
static void *APR_THREAD_FUNC work(apr_thread_t *thread, void *data)
{
    call_t *call;

    (void)thread;
    while ((call = next_call(data))) {
        if (!apr_atomic_read32(&is_ending)) {
            tell(call);
        }
        end_call(call);
    }
    return NULL;
}

static int is_of(const scope_t *scope, const told_t *told)
{
    return scope->is_htaccess == told->is_htaccess
           && strncmp(scope->key, told->reference, TUS_HOOK_SCOPE_DIGITS) == 0;
}

/* @return NULL if all are other places' */
static scope_t *scope_of(const told_t *told)
{
    scope_t *unused = NULL;

    for (int i = 0; i < THREADS; i++) {
        if (!scopes[i].threads) {
            unused = &scopes[i];
        }
        else if (is_of(&scopes[i], told)) {
            return &scopes[i];
        }
    }
    if (unused) {
        memset(unused, 0, sizeof(*unused));
        apr_cpystrn(unused->key, told->reference, sizeof(unused->key));
        unused->is_htaccess = told->is_htaccess;
        unused->end = &unused->first;
    }
    return unused;
}

static int may_have_thread(const scope_t *scope)
{
    int taken = 0;

    for (int i = 0; i < THREADS; i++) {
        taken += scopes[i].is_htaccess == scope->is_htaccess ? scopes[i].threads : 0;
    }
    if (!scope->threads) {
        return taken < KIND_THREADS;
    }
    return scope->threads < SCOPE_THREADS && taken < KIND_THREADS / 2;
}

/* There is a worker for it. The one that was there before has nothing left to do but to return. */
static void begin_thread(scope_t *scope)
{
    worker_t *worker = workers;
    apr_status_t ignored;

    while (worker->scope) {
        worker++;
    }
    if (worker->thread) {
        apr_thread_join(&ignored, worker->thread);
        apr_pool_destroy(worker->pool);
    }
    apr_pool_create(&worker->pool, NULL); /* that of the child is not for other threads */
    worker->scope = scope;
    if (tus_thread_create(&worker->thread, work, worker, worker->pool) == APR_SUCCESS) {
        scope->threads++;
        return;
    }
    apr_pool_destroy(worker->pool);
    worker->thread = NULL;
    worker->scope = NULL;
}

/* @return 0 if it will not be made */
static int put_in_place(call_t *call)
{
    scope_t *scope = scope_of(call->told);

    if (!scope || apr_atomic_read32(&is_ending)) {
        return 0;
    }
    if (may_have_thread(scope)) {
        begin_thread(scope);
    }
    if (!scope->threads || scope->waiting >= WAITING_MAX) {
        return 0;
    }
    put(scope, call);
    return 1;
}

/* Locks. */
static int push(call_t *call)
{
    int is_pushed;

    apr_thread_mutex_lock(mutex);
    is_pushed = put_in_place(call);
    apr_thread_mutex_unlock(mutex);
    return is_pushed;
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

    if (!hooks || !mutex) {
        return NULL;
    }
    apr_pool_create(&p, NULL);
    progress = apr_pcalloc(p, sizeof(*progress));
    progress->pool = p;
    progress->users = 1;
    progress->store = upload->core->store->identity;
    progress->id = apr_pstrdup(p, upload->record->id);
    progress->hooks = apr_pcalloc(p, (apr_size_t)hooks->nelts * sizeof(told_t));
    for (int i = 0; i < hooks->nelts; i++) {
        const tus_hook_t *hook = &APR_ARRAY_IDX(hooks, i, tus_hook_t);

        if (hook->spec->htaccess && tus_hook_table_note(hook, r->pool) != APR_SUCCESS) {
            continue; /* advisory */
        }
        progress->hooks[progress->count++] = (told_t){
            .reference = apr_pstrdup(p, hook->reference),
            .is_htaccess = hook->spec->htaccess != NULL,
            .offset = upload->offset,
        };
    }
    apr_pool_cleanup_register(r->pool, progress, end_request, apr_pool_cleanup_null);
    return progress;
}

/* @return 0 if it will not be made */
static int begin_call(tus_progress_t *progress, told_t *told, const tus_upload_t *upload,
                      request_rec *r)
{
    tus_upload_t copy = *upload;
    call_t *call;
    apr_pool_t *p;

    apr_pool_create(&p, NULL);
    call = apr_pcalloc(p, sizeof(*call));
    call->progress = progress;
    call->told = told;
    call->pool = p;
    copy.pool = p;
    apr_atomic_inc32(&progress->users);
    if (tus_hook_event_make(&call->event, TUS_HOOK_POST_RECEIVE, &copy, r,
                            tus_config_of(r)->hook_forward, 0)
        || !push(call)) {
        end_call(call);
        return 0;
    }
    return 1;
}

int tus_hook_progress_is_news(const tus_progress_t *progress, const tus_upload_t *upload)
{
    for (int i = 0; progress && i < progress->count; i++) {
        if (progress->hooks[i].offset != upload->offset) {
            return 1;
        }
    }
    return 0;
}

void tus_hook_progress_tell(tus_progress_t *progress, const tus_upload_t *upload, request_rec *r)
{
    for (int i = 0; i < progress->count; i++) {
        told_t *told = &progress->hooks[i];

        if (told->offset != upload->offset && !apr_atomic_cas32(&told->is_running, 1, 0)
            && begin_call(progress, told, upload, r)) {
            told->offset = upload->offset;
        }
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

/* No thread begins any more; those that run end soon. */
static apr_status_t end_process(void *unused)
{
    apr_status_t ignored;

    (void)unused;
    apr_atomic_set32(&is_ending, 1);
    if (!tus_thread_lock_at_end(mutex)) {
        return APR_SUCCESS;
    }
    apr_thread_mutex_unlock(mutex);
    for (int i = 0; i < THREADS; i++) {
        if (workers[i].thread) {
            apr_thread_join(&ignored, workers[i].thread);
        }
    }
    return APR_SUCCESS;
}

void tus_hook_progress_init(apr_pool_t *pchild)
{
    if (apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_DEFAULT, pchild) != APR_SUCCESS) {
        mutex = NULL;
        return;
    }
    apr_pool_pre_cleanup_register(pchild, NULL, end_process);
}
