/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is done in the background: mod_watchdog calls for it in every process, and
 * one process of the server at a time does it.
 *
 * Which one that is a lock decides, not mod_watchdog's singleton: that comes to
 * another one a second late or more, and stays with a child that has been asked
 * to end as long as its last client does.
 *
 * mod_watchdog's threads belong to the process, not to the child's pool. Under
 * prefork a signal ends a child without a word to them: then the end of that pool
 * waits until what is under way has come to its end, before what it works with goes.
 */
#include "tus_httpd.h"

#include <ap_mpm.h>
#include <apr_atomic.h>
#include <apr_optional.h>
#include <apr_thread_mutex.h>

#include <mod_watchdog.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define RETAINED_KEY "mod_tus-watch-1"

#define WATCHES_MAX 4

/* Of one of them. What is its own is guarded by `life`. */
typedef struct post_t {
    const tus_watch_t *watch;
    server_rec *server;
    int number; /* of its byte in the lock file */
    apr_thread_mutex_t *life;
    int is_ours; /* this process does it */
} post_t;

static post_t posts[WATCHES_MAX];
static int post_count;

static apr_uint32_t is_open; /* from child_init to the end of its pool */

/* A file without a name, kept across restarts: who has a byte of it locked does that work. */
static int *lock_file;

static apr_status_t make_lock_file(void)
{
    int fd;

    lock_file = ap_retained_data_get(RETAINED_KEY);
    if (lock_file) {
        return APR_SUCCESS;
    }
    fd = memfd_create("mod_tus watch", MFD_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    lock_file = ap_retained_data_create(RETAINED_KEY, sizeof(*lock_file));
    *lock_file = fd;
    return APR_SUCCESS;
}

/* The lock is the process's: the kernel lifts it, should it die. */
static int set_lock(const post_t *post, short type)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = post->number, .l_len = 1
    };

    return fcntl(*lock_file, F_SETLK, &lock) == 0;
}

int tus_watch_is_leaving(void)
{
    int state;

    return !apr_atomic_read32(&is_open)
           || (ap_mpm_query(AP_MPMQ_MPM_STATE, &state) == APR_SUCCESS && state == AP_MPMQ_STOPPING);
}

static void resign(post_t *post)
{
    if (!post->is_ours) {
        return;
    }
    if (post->watch->end) {
        post->watch->end();
    }
    set_lock(post, F_UNLCK);
    post->is_ours = 0;
}

static void take_over(post_t *post)
{
    if (!set_lock(post, F_WRLCK)) {
        return;
    }
    post->is_ours = 1;
    if (post->watch->begin && post->watch->begin(post->server) != APR_SUCCESS) {
        resign(post);
    }
}

static void work_or_resign(int event, post_t *post, apr_pool_t *pool)
{
    if (event != AP_WATCHDOG_STATE_RUNNING || tus_watch_is_leaving()) {
        resign(post);
        return;
    }
    if (!post->is_ours) {
        take_over(post);
    }
    if (post->is_ours) {
        apr_pool_t *p;

        apr_pool_create(&p, pool);
        post->watch->work(post->server, p);
        apr_pool_destroy(p);
    }
}

static apr_status_t on_watchdog(int event, void *data, apr_pool_t *pool)
{
    post_t *post = data;

    if (apr_atomic_read32(&is_open)) {
        apr_thread_mutex_lock(post->life);
        work_or_resign(event, post, pool);
        apr_thread_mutex_unlock(post->life);
    }
    return APR_SUCCESS;
}

static apr_status_t end_process(void *unused)
{
    (void)unused;
    apr_atomic_set32(&is_open, 0);
    for (int i = 0; i < post_count; i++) {
        if (posts[i].watch->hurry) {
            posts[i].watch->hurry();
        }
    }
    for (int i = 0; i < post_count; i++) {
        apr_thread_mutex_lock(posts[i].life);
        resign(&posts[i]);
        apr_thread_mutex_unlock(posts[i].life);
    }
    return APR_SUCCESS;
}

void tus_watch_init(apr_pool_t *pchild, server_rec *s)
{
    apr_pool_t *p;
    apr_status_t rv = APR_SUCCESS;

    apr_pool_create(&p, NULL); /* the watchdog's threads may outlive the child's pool */
    for (int i = 0; i < post_count && rv == APR_SUCCESS; i++) {
        rv = apr_thread_mutex_create(&posts[i].life, APR_THREAD_MUTEX_DEFAULT, p);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "this process does nothing in the background");
        return;
    }
    apr_pool_pre_cleanup_register(pchild, NULL, end_process);
    apr_atomic_set32(&is_open, 1);
}

/* ---- the parent ------------------------------------------------------------------ */

typedef APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) get_instance_fn;
typedef APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) register_callback_fn;

/* The first TusHook that is told what has happened, or NULL. */
static const tus_said_hook_t *find_told(void)
{
    const apr_array_header_t *hooks = tus_config_hooks();
    const unsigned told = TUS_HOOK_BIT(TUS_HOOK_POST_CREATE) | TUS_HOOK_BIT(TUS_HOOK_POST_FINISH)
                          | TUS_HOOK_BIT(TUS_HOOK_POST_TERMINATE);

    for (int i = 0; i < hooks->nelts; i++) {
        const tus_said_hook_t *said = &APR_ARRAY_IDX(hooks, i, tus_said_hook_t);

        if (said->spec->events & told) {
            return said;
        }
    }
    return NULL;
}

int tus_watch_check(server_rec *s)
{
    const tus_said_hook_t *told;

    if (APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance)
        && APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback)) {
        return OK;
    }
    told = find_told();
    if (told) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s,
                     "TusHook %s takes post-* events, and nobody would tell them: mod_watchdog is"
                     " not loaded; add: LoadModule watchdog_module %s",
                     told->spec->text, "modules/mod_watchdog.so");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                 "mod_watchdog is not loaded: the index of uploads is not kept up to date, nothing"
                 " is cleaned up, and no .htaccess's TusHook is told of anything; add: LoadModule"
                 " watchdog_module modules/mod_watchdog.so");
    return OK;
}

static post_t *post_of(const tus_watch_t *watch)
{
    int i = 0;

    while (i < post_count && posts[i].watch != watch) {
        i++;
    }
    ap_assert(i < WATCHES_MAX);
    if (i == post_count) {
        posts[i] = (post_t){ .watch = watch, .number = i };
        post_count++;
    }
    return &posts[i];
}

int tus_watch_register(const tus_watch_t *watch, server_rec *s, apr_pool_t *pconf)
{
    get_instance_fn *get_instance = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    register_callback_fn *register_callback =
        APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    post_t *post = post_of(watch);
    ap_watchdog_t *watchdog;
    apr_status_t rv;

    if (!get_instance || !register_callback) {
        return OK; /* tus_watch_check() has said so */
    }
    post->server = s;
    rv = make_lock_file();
    if (rv == APR_SUCCESS) {
        rv = get_instance(&watchdog, watch->name, 0, 0, pconf);
    }
    if (rv == APR_SUCCESS) {
        rv = register_callback(watchdog, watch->interval, post, on_watchdog);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "cannot register with mod_watchdog");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}
