/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Tells what waits in the spools, in one process of the server at a time: it
 * looks for shards in which something is due, and some threads go through them.
 * So the events of an upload are told in order, those of different uploads beside
 * each other, and connections are kept.
 *
 * Which process that is a lock decides, not mod_watchdog's singleton: that comes
 * to another one ten seconds late, and stays with a child that has been asked to
 * end as long as its last client does.
 */
#include "tus_httpd.h"

#include <ap_mpm.h>
#include <apr_atomic.h>
#include <apr_hash.h>
#include <apr_optional.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <apr_thread_pool.h>

#include <http_main.h>
#include <mod_watchdog.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define WATCHDOG_NAME "_tus_courier_"
#define RETAINED_KEY "mod_tus-courier-1"
#define INTERVAL apr_time_from_msec(100)

/* Without a ring: another server may share the spools, or one have died before it rang. */
#define PATROL apr_time_from_sec(2)

#define THREADS 8

/* For one shard at a time; then others have their turn. */
#define SHARD_BUDGET apr_time_from_sec(5)

/* An event that nobody takes any more is looked at again after this. */
#define ORPHAN_INTERVAL apr_time_from_sec(600)

/* The longest wait between two tries. */
#define BACKOFF_MAX apr_time_from_sec(600)

/* The clock by which directories are dated lags behind. */
#define CLOCK_LAG apr_time_from_msec(50)

/* A shard of a store's spool. Guarded by the mutex. */
typedef struct shard_t {
    const tus_state_store_t *store;
    const char *dir; /* of the store, in TusStateDir */
    int number;
    int is_busy;
    apr_time_t seen; /* when it was last begun with; 0: never */
    apr_time_t due;  /* 0: nothing is */
} shard_t;

/* What is known of an endpoint, so that one that is down is not tried for each event. */
typedef struct health_t {
    int is_down;
    apr_time_t until; /* not tried again before */
    apr_interval_time_t backoff;
} health_t;

/* Of the process that has the singleton, from its start to its end. */
static struct {
    apr_pool_t *pool;
    server_rec *server;
    apr_thread_mutex_t *mutex;
    apr_thread_pool_t *threads;
    apr_hash_t *stores;   /* name -> array of shard_t */
    apr_hash_t *healths;  /* key of a hook -> health_t */
    apr_uint64_t rung;    /* what tus_metrics_rings() said last */
    apr_time_t patrolled; /* when all shards were last looked at */
    apr_time_t due;       /* the earliest of all; guarded by the mutex */
    volatile int is_ending;
} courier;

static int is_ending(void *baton)
{
    (void)baton;
    return courier.is_ending;
}

static const tus_cancel_t cancel = { is_ending, NULL };

/* ---- one event ------------------------------------------------------------------ */

typedef struct round_t {
    const tus_core_t *core; /* or NULL: the store cannot be opened now */
    apr_pool_t *pool;
} round_t;

static health_t *health_of(const char *key)
{
    health_t *health = apr_hash_get(courier.healths, key, APR_HASH_KEY_STRING);

    if (!health) {
        health = apr_pcalloc(courier.pool, sizeof(*health));
        apr_hash_set(courier.healths, apr_pstrdup(courier.pool, key), APR_HASH_KEY_STRING, health);
    }
    return health;
}

/* Up to a quarter more or less, so that those that failed together do not come together. */
static apr_interval_time_t jitter(apr_interval_time_t time)
{
    apr_uint32_t random;

    apr_generate_random_bytes((unsigned char *)&random, sizeof(random));
    return time - time / 4 + (apr_interval_time_t)(random % 1000) * (time / 2) / 1000;
}

static apr_interval_time_t clamp(apr_interval_time_t time, apr_interval_time_t min)
{
    return time < min ? min : time > BACKOFF_MAX ? BACKOFF_MAX : time;
}

/* When the endpoint may be tried again; 0 for now. */
static apr_time_t down_until(const char *key)
{
    apr_time_t until;

    apr_thread_mutex_lock(courier.mutex);
    until = health_of(key)->until;
    apr_thread_mutex_unlock(courier.mutex);
    return until;
}

/* Too old, and its endpoint refuses it, or has been tried for long enough. */
static int is_past_hope(const tus_spooled_t *event, const tus_hook_t *hook)
{
    apr_interval_time_t max = hook->settings->hook_max_age;
    apr_interval_time_t backoff;

    if (apr_time_now() - event->at <= max) {
        return 0;
    }
    apr_thread_mutex_lock(courier.mutex);
    backoff = health_of(hook->spec->key)->backoff;
    apr_thread_mutex_unlock(courier.mutex);
    return backoff == 0 || backoff >= (max < BACKOFF_MAX ? max : BACKOFF_MAX);
}

/* @return nonzero if that is news */
static int note_health(const char *key, int is_down, const tus_retry_t *retry)
{
    apr_time_t now = apr_time_now();
    health_t *health;
    int is_news;

    apr_thread_mutex_lock(courier.mutex);
    health = health_of(key);
    is_news = health->is_down != is_down;
    if (!is_down) {
        health->backoff = 0;
        health->until = 0;
    }
    else if (now >= health->until) { /* others that were on their way say nothing new */
        health->backoff = clamp(health->backoff * 2, retry->backoff);
        health->until = now + jitter(health->backoff);
    }
    health->is_down = is_down;
    apr_thread_mutex_unlock(courier.mutex);
    return is_news;
}

static tus_spool_e give_up(const tus_spooled_t *event, const char *why)
{
    tus_metrics_hook_given_up(event->type);
    ap_log_error(
        APLOG_MARK, APLOG_ERR, 0, courier.server,
        "hook %s of upload %s (event %s) was never told and is moved aside, to spool/failed"
        " in the store's directory in TusStateDir: %s (TusHookMaxAge)",
        tus_hook_name(event->type), event->id, event->event_id, why);
    return TUS_SPOOL_FAILED;
}

static void log_called(const tus_spooled_t *event, const tus_hook_t *hook,
                       const tus_called_t *called, int is_told, int is_news)
{
    int level = is_told ? APLOG_DEBUG : is_news ? APLOG_WARNING : APLOG_INFO;

    ap_log_error(
        APLOG_MARK, level, 0, hook->server,
        "hook %s %s, event %s of upload %s: %s, status %d after %" APR_TIME_T_FMT " ms%s%s",
        tus_hook_name(event->type), hook->spec->text, event->event_id, event->id,
        is_told ? "told" : "not told, to be tried again", called->status,
        apr_time_as_msec(called->time), called->why ? ": " : "", called->why ? called->why : "");
    if (is_told && is_news) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, hook->server, "hook %s answers again",
                     hook->spec->text);
    }
}

static tus_spool_e tell(const tus_spooled_t *event, const tus_hook_t *hook, apr_time_t *due,
                        apr_pool_t *p)
{
    const tus_hook_event_t sent = { .type = event->type,
                                    .event_id = event->event_id,
                                    .headers = event->headers,
                                    .body = event->body,
                                    .len = event->len };
    apr_interval_time_t age = apr_time_now() - event->at;
    tus_called_t called;
    apr_status_t rv = tus_hook_call(&called, hook, &sent, NULL, &cancel, p);
    int is_told = rv == APR_SUCCESS && ap_is_HTTP_SUCCESS(called.status);
    int is_reached = rv == APR_SUCCESS && called.status < 500;

    if (APR_STATUS_IS_EINTR(rv)) {
        *due = 0;
        return TUS_SPOOL_LATER;
    }
    tus_metrics_hook(event->type, called.time, is_told);
    log_called(event, hook, &called, is_told,
               note_health(hook->spec->key, !is_reached, &hook->settings->hook_retry));
    if (is_told) {
        return TUS_SPOOL_DONE;
    }
    if (is_past_hope(event, hook)) {
        return give_up(event, called.why ? called.why : "its endpoint refuses it");
    }
    tus_metrics_hook_retry(event->type);
    *due = apr_time_now() + jitter(clamp(age / 2, hook->settings->hook_retry.backoff));
    return TUS_SPOOL_LATER;
}

static tus_spool_e orphan(const tus_spooled_t *event, apr_time_t *due)
{
    apr_interval_time_t age = apr_time_now() - event->at;

    if (age > tus_config_defaults()->hook_max_age) {
        return give_up(event, "no TusHook takes it any more");
    }
    *due = apr_time_now() + ORPHAN_INTERVAL;
    return TUS_SPOOL_LATER;
}

/* ---- one that is pending ---------------------------------------------------------- */

/* What its record says of it, while nobody holds the upload. */
static tus_spool_e judge(const tus_core_t *core, const tus_spooled_t *event, apr_pool_t *p)
{
    tus_record_t *record;
    apr_status_t rv = core->meta->provider->get(core->meta, event->id, &record, p);
    int is_there = rv == APR_SUCCESS && record->created == event->created;

    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv) && !APR_STATUS_IS_ENOTDIR(rv)) {
        return TUS_SPOOL_LATER;
    }
    switch (event->type) {
    case TUS_HOOK_POST_CREATE:
        return is_there ? TUS_SPOOL_READY : TUS_SPOOL_DONE;
    case TUS_HOOK_POST_FINISH:
        return is_there && record->finished ? TUS_SPOOL_READY : TUS_SPOOL_DONE;
    case TUS_HOOK_POST_TERMINATE:
        return is_there ? TUS_SPOOL_DONE : TUS_SPOOL_READY;
    default:
        return TUS_SPOOL_DONE;
    }
}

/* One that did not happen goes while we hold the upload: nobody can be putting it anew. */
static tus_spool_e judge_held(const tus_core_t *core, const tus_spooled_t *event, apr_pool_t *p)
{
    tus_spool_e what = judge(core, event, p);

    if (what == TUS_SPOOL_DONE && tus_spool_retract(core->state_dir, event, p) != APR_SUCCESS) {
        return TUS_SPOOL_LATER;
    }
    return what;
}

static tus_spool_e judge_pending(const tus_core_t *core, const tus_spooled_t *event,
                                 apr_time_t *due, apr_pool_t *p)
{
    tus_lock_t *lock;
    tus_spool_e what = TUS_SPOOL_LATER;

    if (core
        && core->locks->provider->acquire(core->locks, &core->store->identity, event->id, 0, NULL,
                                          &lock, p)
               == APR_SUCCESS) {
        what = judge_held(core, event, p);
        core->locks->provider->release(lock);
    }
    *due = apr_time_now() + apr_time_from_sec(1);
    return what;
}

static tus_spool_e on_event(void *baton, const tus_spooled_t *event, apr_time_t *due, apr_pool_t *p)
{
    const round_t *round = baton;
    const tus_hook_t *hook;

    if (courier.is_ending) {
        *due = 0;
        return TUS_SPOOL_LATER;
    }
    if (event->is_pending) {
        return judge_pending(round->core, event, due, p);
    }
    hook = tus_hook_table_find(event->hook, event->type, p);
    if (!hook) {
        return orphan(event, due);
    }
    *due = down_until(hook->spec->key);
    if (*due <= apr_time_now()) {
        return tell(event, hook, due, p);
    }
    return is_past_hope(event, hook) ? give_up(event, "its endpoint cannot be reached")
                                     : TUS_SPOOL_LATER;
}

/* ---- shards ------------------------------------------------------------------------ */

static void log_worked(const shard_t *shard, apr_status_t rv)
{
    if (rv == TUS_EDAMAGED) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, courier.server,
                     "a file in the hooks' spool %s/spool is no event, and was moved to its"
                     " directory failed",
                     shard->dir);
    }
    else if (rv != APR_SUCCESS && !APR_STATUS_IS_INCOMPLETE(rv) && !APR_STATUS_IS_EBUSY(rv)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, courier.server,
                     "the hooks' spool %s/spool cannot be worked off", shard->dir);
    }
}

/* The mutex is held. */
static void bring_forward(apr_time_t due)
{
    if (due && (!courier.due || due < courier.due)) {
        courier.due = due;
    }
}

static void *APR_THREAD_FUNC work(apr_thread_t *thread, void *data)
{
    shard_t *shard = data;
    apr_time_t begin = apr_time_now(), due = 0;
    round_t round = { 0 };
    tus_core_t *core;
    apr_status_t rv;

    (void)thread;
    apr_pool_create(&round.pool, NULL);
    if (tus_endpoint_reopen(&core, shard->store, round.pool) == APR_SUCCESS) {
        round.core = core;
    }
    rv = tus_spool_work(shard->dir, shard->number, begin, begin + SHARD_BUDGET, on_event, &round,
                        &due, round.pool);
    log_worked(shard, rv);
    apr_pool_destroy(round.pool);

    apr_thread_mutex_lock(courier.mutex);
    shard->seen = begin;
    shard->due = due;
    shard->is_busy = 0;
    bring_forward(due);
    apr_thread_mutex_unlock(courier.mutex);
    return NULL;
}

static int is_due(const shard_t *shard, apr_time_t now)
{
    apr_time_t changed;

    if (shard->due && shard->due <= now) {
        return 1;
    }
    changed = tus_spool_changed(shard->dir, shard->number);
    return changed && changed > shard->seen - CLOCK_LAG;
}

static void look_at(shard_t *shard, apr_time_t now)
{
    apr_thread_mutex_lock(courier.mutex);
    if (!shard->is_busy && is_due(shard, now)
        && apr_thread_pool_push(courier.threads, work, shard, APR_THREAD_TASK_PRIORITY_NORMAL, NULL)
               == APR_SUCCESS) {
        shard->is_busy = 1;
    }
    if (!shard->is_busy) {
        bring_forward(shard->due);
    }
    apr_thread_mutex_unlock(courier.mutex);
}

static const char *dir_of(const tus_state_store_t *store, apr_pool_t *p)
{
    return apr_pstrcat(p, tus_config_state_dir(ap_server_conf), "/", store->name, NULL);
}

static tus_state_store_t *copy_store(const tus_state_store_t *store, apr_pool_t *p)
{
    tus_state_store_t *copy = apr_pmemdup(p, store, sizeof(*store));

    copy->name = apr_pstrdup(p, store->name);
    copy->provider = apr_pstrdup(p, store->provider);
    copy->driver = apr_pstrdup(p, store->driver);
    copy->path = apr_pstrdup(p, store->path);
    return copy;
}

static shard_t *shards_of(const tus_state_store_t *known)
{
    shard_t *shards = apr_hash_get(courier.stores, known->name, APR_HASH_KEY_STRING);
    tus_state_store_t *store;
    const char *dir;

    if (shards) {
        return shards;
    }
    store = copy_store(known, courier.pool);
    dir = dir_of(store, courier.pool);
    shards = apr_pcalloc(courier.pool, TUS_SPOOL_SHARDS * sizeof(*shards));
    for (int i = 0; i < TUS_SPOOL_SHARDS; i++) {
        shards[i].store = store;
        shards[i].dir = dir;
        shards[i].number = i;
    }
    apr_hash_set(courier.stores, store->name, APR_HASH_KEY_STRING, shards);
    return shards;
}

static void patrol(apr_time_t now, apr_pool_t *p)
{
    apr_array_header_t *stores;
    const char *why;
    tus_state_t *state = tus_shared_state(&why);

    if (!state || tus_state_stores(state, &stores, p) != APR_SUCCESS) {
        return;
    }
    courier.patrolled = now;
    apr_thread_mutex_lock(courier.mutex);
    courier.due = 0;
    apr_thread_mutex_unlock(courier.mutex);
    for (int i = 0; i < stores->nelts; i++) {
        shard_t *shards = shards_of(&APR_ARRAY_IDX(stores, i, tus_state_store_t));

        for (int j = 0; j < TUS_SPOOL_SHARDS && !courier.is_ending; j++) {
            look_at(&shards[j], now);
        }
    }
}

static int is_any_due(apr_time_t now)
{
    int is_due;

    apr_thread_mutex_lock(courier.mutex);
    is_due = courier.due && courier.due <= now;
    apr_thread_mutex_unlock(courier.mutex);
    return is_due;
}

static void tick(apr_pool_t *pool)
{
    apr_time_t now = apr_time_now();
    apr_uint64_t rung = tus_metrics_rings();
    apr_pool_t *p;

    if (rung == courier.rung && now < courier.patrolled + PATROL && !is_any_due(now)) {
        return;
    }
    courier.rung = rung;
    apr_pool_create(&p, pool);
    patrol(now, p);
    apr_pool_destroy(p);
}

/* ---- life --------------------------------------------------------------------------- */

static apr_status_t start(server_rec *s)
{
    apr_status_t rv;

    memset(&courier, 0, sizeof(courier));
    courier.server = s;
    apr_pool_create(&courier.pool, NULL);
    courier.stores = apr_hash_make(courier.pool);
    courier.healths = apr_hash_make(courier.pool);
    rv = apr_thread_mutex_create(&courier.mutex, APR_THREAD_MUTEX_DEFAULT, courier.pool);
    return rv == APR_SUCCESS ? apr_thread_pool_create(&courier.threads, 0, THREADS, courier.pool)
                             : rv;
}

/* The calls that run are cut short: what they were to tell stays in the spool. */
static void stop(void)
{
    courier.is_ending = 1;
    if (courier.threads) {
        apr_thread_pool_destroy(courier.threads);
    }
    apr_pool_destroy(courier.pool);
    courier.pool = NULL;
}

/* Under prefork a signal ends a child without a word to its watchdogs: then its pool's cleanup
 * does, while the watchdog's thread may be at work. */
static apr_thread_mutex_t *life;
static apr_uint32_t is_open; /* from child_init to the end of its pool */

/* A file without a name, kept across restarts: who has it locked is the courier. */
static int *lock_file;

static apr_status_t make_lock_file(void)
{
    int fd;

    lock_file = ap_retained_data_get(RETAINED_KEY);
    if (lock_file) {
        return APR_SUCCESS;
    }
    fd = memfd_create("mod_tus courier", MFD_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    lock_file = ap_retained_data_create(RETAINED_KEY, sizeof(*lock_file));
    *lock_file = fd;
    return APR_SUCCESS;
}

/* The lock is the process's: the kernel lifts it, should it die. */
static int set_lock(short type)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_len = 1 };

    return fcntl(*lock_file, F_SETLK, &lock) == 0;
}

static int is_leaving(void)
{
    int state;

    return !apr_atomic_read32(&is_open)
           || (ap_mpm_query(AP_MPMQ_MPM_STATE, &state) == APR_SUCCESS && state == AP_MPMQ_STOPPING);
}

static void resign(void)
{
    if (courier.pool) {
        stop();
        set_lock(F_UNLCK);
    }
}

static void work_or_resign(int event, server_rec *s, apr_pool_t *pool)
{
    if (event == AP_WATCHDOG_STATE_RUNNING && !is_leaving()) {
        if (!courier.pool && set_lock(F_WRLCK) && start(s) != APR_SUCCESS) {
            resign();
        }
        if (courier.pool) {
            tick(pool);
        }
    }
    else {
        resign();
    }
}

static apr_status_t on_watchdog(int event, void *data, apr_pool_t *pool)
{
    if (apr_atomic_read32(&is_open)) {
        apr_thread_mutex_lock(life);
        work_or_resign(event, data, pool);
        apr_thread_mutex_unlock(life);
    }
    return APR_SUCCESS;
}

static apr_status_t end_process(void *unused)
{
    (void)unused;
    apr_atomic_set32(&is_open, 0);
    courier.is_ending = 1;
    apr_thread_mutex_lock(life);
    resign();
    apr_thread_mutex_unlock(life);
    return APR_SUCCESS;
}

void tus_courier_init(apr_pool_t *pchild, server_rec *s)
{
    apr_pool_t *p;
    apr_status_t rv;

    apr_pool_create(&p, NULL); /* the watchdog's thread may outlive the child's pool */
    rv = apr_thread_mutex_create(&life, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "this process cannot tell hooks");
        return;
    }
    apr_pool_pre_cleanup_register(pchild, NULL, end_process);
    apr_atomic_set32(&is_open, 1);
}

int tus_courier_register(server_rec *s, apr_pool_t *pconf)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) * get_instance;
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) * register_callback;
    ap_watchdog_t *watchdog;
    apr_status_t rv;

    get_instance = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    register_callback = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    if (!get_instance || !register_callback) {
        return OK; /* tus_sweep_register() has said so */
    }
    rv = make_lock_file();
    if (rv == APR_SUCCESS) {
        rv = get_instance(&watchdog, WATCHDOG_NAME, 0, 0, pconf);
    }
    if (rv == APR_SUCCESS) {
        rv = register_callback(watchdog, INTERVAL, s, on_watchdog);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "cannot register with mod_watchdog");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}

apr_status_t tus_courier_count(apr_uint64_t *waiting, apr_time_t *oldest, apr_pool_t *p)
{
    apr_array_header_t *stores;
    const char *why;
    tus_state_t *state = tus_shared_state(&why);
    apr_status_t rv = state ? tus_state_stores(state, &stores, p) : APR_ENOENT;

    *waiting = 0;
    *oldest = 0;
    for (int i = 0; rv == APR_SUCCESS && i < stores->nelts; i++) {
        apr_uint64_t n;
        apr_time_t at;

        rv = tus_spool_count(dir_of(&APR_ARRAY_IDX(stores, i, tus_state_store_t), p), &n, &at, p);
        *waiting += n;
        if (at && (!*oldest || at < *oldest)) {
            *oldest = at;
        }
    }
    return rv;
}
