/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What all children and all generations of children share: the lock table, its
 * mutex, the mutex of the metadata index, the counters, and the courier's bell.
 *
 * They are made once, in the process pool, and found again after a graceful
 * restart: a mutex of the new generation's own would not exclude the old one,
 * whose children go on receiving for minutes. TusStateDir is made here too,
 * while we still may.
 */
#include "tus_httpd.h"

#include <ap_mpm.h>
#include <apr_shm.h>
#include <apr_strings.h>

#include <http_core.h>
#include <unixd.h>
#include <util_mutex.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_MUTEX "tus-lock"
#define META_MUTEX "tus-meta"

/* Requests per worker thread: its own, and those of mod_http2's workers. */
#define REQUESTS_PER_THREAD 4

/* Processes of the generation before, on top of those that the MPM may run. */
#define OLD_PROCESSES 64

/* Kept across restarts; its layout is known by its key. */
typedef struct retained_t {
    apr_shm_t *shm;
    apr_global_mutex_t *lock_mutex;
    apr_global_mutex_t *meta_mutex;
} retained_t;

#define RETAINED_KEY "mod_tus-shared-" APR_STRINGIFY(TUS_LOCK_SHM_LAYOUT)

/* The counters' memory, which another layout does not share; and the bell's. */
#define METRICS_KEY "mod_tus-metrics-" APR_STRINGIFY(TUS_METRICS_LAYOUT)
#define BELL_KEY "mod_tus-bell-1"

static retained_t *retained;
static apr_shm_t **metrics; /* retained too, as is the next */
static apr_shm_t **bell;
static tus_locks_t *locks;
static tus_state_t *state;
static const char *state_why;

tus_locks_t *tus_shared_locks(void)
{
    return locks;
}

apr_global_mutex_t *tus_shared_meta_mutex(void)
{
    return retained ? retained->meta_mutex : NULL;
}

void *tus_shared_bell(void)
{
    return bell ? apr_shm_baseaddr_get(*bell) : NULL;
}

tus_state_t *tus_shared_state(const char **why)
{
    *why = state_why;
    return state;
}

int tus_shared_register(apr_pool_t *pconf)
{
    if (ap_mutex_register(pconf, LOCK_MUTEX, NULL, APR_LOCK_DEFAULT, 0) != APR_SUCCESS
        || ap_mutex_register(pconf, META_MUTEX, NULL, APR_LOCK_DEFAULT, 0) != APR_SUCCESS) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}

/* ---- the parent ---------------------------------------------------------- */

static unsigned query(int what, unsigned otherwise)
{
    int value;

    return ap_mpm_query(what, &value) == APR_SUCCESS && value > 0 ? (unsigned)value : otherwise;
}

static apr_status_t make_table(apr_pool_t *p)
{
    unsigned daemons = query(AP_MPMQ_HARD_LIMIT_DAEMONS, 1);
    unsigned threads = query(AP_MPMQ_HARD_LIMIT_THREADS, 1);
    unsigned processes = daemons + (daemons < OLD_PROCESSES ? daemons : OLD_PROCESSES);
    unsigned entries = daemons * threads * REQUESTS_PER_THREAD;
    apr_size_t size = tus_lock_shm_size(entries, processes);
    apr_status_t rv = apr_shm_create(&retained->shm, size, NULL, p);
    void *base;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    base = apr_shm_baseaddr_get(retained->shm);
    memset(base, 0, size);
    return tus_lock_shm_init(base, size, entries, processes);
}

/* A POSIX semaphore stays taken when its holder is killed: every upload would wait for ever. */
static apr_status_t make_mutex(apr_global_mutex_t **mutex, const char *name, server_rec *s)
{
    apr_status_t rv = ap_global_mutex_create(mutex, NULL, name, NULL, s, s->process->pool, 0);

    return rv == APR_SUCCESS && apr_global_mutex_mech(*mutex) == APR_LOCK_POSIXSEM ? APR_ENOTIMPL
                                                                                   : rv;
}

static apr_status_t make_retained(server_rec *s)
{
    apr_status_t rv;

    retained = ap_retained_data_create(RETAINED_KEY, sizeof(*retained));
    rv = make_mutex(&retained->lock_mutex, LOCK_MUTEX, s);
    if (rv == APR_SUCCESS) {
        rv = make_mutex(&retained->meta_mutex, META_MUTEX, s);
    }
    return rv == APR_SUCCESS ? make_table(s->process->pool) : rv;
}

/* Zeroed. The pool's end, not the module's, takes it away. NULL if it cannot be had. */
static apr_shm_t **find_or_make(const char *key, apr_size_t size, const char *what, server_rec *s)
{
    apr_shm_t **kept = ap_retained_data_get(key);
    apr_shm_t *shm;
    apr_status_t rv;

    if (kept) {
        return kept;
    }
    rv = apr_shm_create(&shm, size, NULL, s->process->pool);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, s, "cannot make shared memory for %s", what);
        return NULL;
    }
    memset(apr_shm_baseaddr_get(shm), 0, size);
    kept = ap_retained_data_create(key, sizeof(*kept));
    *kept = shm;
    return kept;
}

/* Uploads do not need them, so the server starts without, should it come to that. */
static void open_luxuries(server_rec *s)
{
    metrics =
        find_or_make(METRICS_KEY, tus_metrics_size(), "the counters; there are no metrics", s);
    bell = find_or_make(BELL_KEY, tus_bell_size(), "a bell; hooks are told up to 5 s late", s);
}

/* Ours: made a moment ago, or with a registry in it. Whatever else is there stays as it is. */
static int is_ours(int dir, int made)
{
    return made || faccessat(dir, "stores", F_OK, 0) == 0;
}

/* O_NOFOLLOW and the handle: what is given to User must be what was made. */
static apr_status_t own_directory(const char *path, int made)
{
    struct stat st;
    apr_status_t rv = APR_SUCCESS;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        return errno;
    }
    if (fstat(fd, &st) != 0) {
        rv = errno;
    }
    else if (geteuid() == 0 && is_ours(fd, made)
             && (fchown(fd, ap_unixd_config.user_id, ap_unixd_config.group_id) != 0
                 || fchmod(fd, S_IRWXU) != 0)) {
        rv = errno;
    }
    close(fd);
    return rv;
}

static apr_status_t make_state_dir(const char *path)
{
    int made = mkdir(path, S_IRWXU) == 0;

    return made || errno == EEXIST ? own_directory(path, made) : errno;
}

int tus_shared_open(server_rec *s)
{
    const char *dir = tus_config_state_dir(s);
    apr_status_t rv = make_state_dir(dir);

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, s,
                     "TusStateDir %s cannot be made; uploads will be refused until it can be", dir);
    }
    open_luxuries(s);
    retained = ap_retained_data_get(RETAINED_KEY);
    if (retained) {
        return OK;
    }
    rv = make_retained(s);
    if (rv == APR_ENOTIMPL) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s,
                     "Mutex posixsem cannot be used for " LOCK_MUTEX " and " META_MUTEX
                     ": it does not recover when a process is killed that holds it. Say:"
                     " Mutex pthread " LOCK_MUTEX ", and the same for " META_MUTEX);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s,
                     "cannot make mod_tus's shared memory and mutexes (see the Mutex directive"
                     " for " LOCK_MUTEX " and " META_MUTEX ")");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}

/* ---- a child ------------------------------------------------------------- */

static apr_status_t attach_mutex(apr_global_mutex_t **mutex, apr_pool_t *pchild)
{
    return apr_global_mutex_child_init(mutex, apr_global_mutex_lockfile(*mutex), pchild);
}

static apr_status_t attach_table(apr_pool_t *pchild)
{
    apr_status_t rv = attach_mutex(&retained->lock_mutex, pchild);

    if (rv == APR_SUCCESS) {
        rv = attach_mutex(&retained->meta_mutex, pchild);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_lock_shm_attach(&locks, apr_shm_baseaddr_get(retained->shm),
                                 apr_shm_size_get(retained->shm), retained->lock_mutex, pchild);
    }
    return rv;
}

static void open_state(apr_pool_t *pchild, server_rec *s)
{
    const char *dir = tus_config_state_dir(s);
    apr_status_t rv = tus_state_open(&state, dir, retained->meta_mutex, pchild);

    if (rv == TUS_EREFUSED) {
        state_why = apr_psprintf(pchild,
                                 "TusStateDir %s is not used: it must belong to User, and"
                                 " nobody else may write it (mode 0700)",
                                 dir);
    }
    else if (rv != APR_SUCCESS) {
        state_why = tus_check_explain("TusStateDir", dir, rv, pchild);
    }
}

void tus_shared_attach(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t rv = attach_table(pchild);

    tus_metrics_open(metrics ? apr_shm_baseaddr_get(*metrics) : NULL);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "cannot attach to mod_tus's lock table");
        return;
    }
    open_state(pchild, s);
}
