/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Tells what waits in the spools (tus_watch.c): it learns in which shards there
 * is something to do, and some threads go through them. So the events of an
 * upload are told in order, those of different uploads beside each other, and
 * connections are kept.
 *
 * It learns it from the bell, by the time of the files, and from a patrol: another
 * server may share the spools, or a process have died before it rang.
 *
 * A call that takes long keeps its pass, and its thread. The shard is then gone
 * through by another one, past the endpoint that hangs.
 */
#include "tus_httpd.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_pool.h>

#include <http_main.h>

#include <string.h>

#define INTERVAL apr_time_from_msec(100)
#define PATROL apr_time_from_sec(5)

#define THREADS 64

/* For one pass; then other shards have their turn, and this one a second pass. */
#define PASS_BUDGET apr_time_from_sec(1)

/* What could not be begun is tried again after so long; what another server works off. */
#define AGAIN apr_time_from_sec(60)
#define BUSY apr_time_from_sec(1)

/* A shard with very many names rests longer than they took to read. */
#define REST_PER_NAME 2
#define REST_MIN apr_time_from_msec(50)

/* A request that is about to put something touches the spool; it has done so after this. */
#define PUT_TIME apr_time_from_sec(60)

/* Spools that nobody touches are looked through all the same, each once in this time. */
#define ROUND apr_time_from_sec(600)

/* The clock by which directories are dated lags behind. */
#define CLOCK_LAG apr_time_from_msec(50)

struct round_t;
struct store_t;

/* A shard of a store's spool. */
typedef struct shard_t {
    tus_health_waiter_t waiter; /* the first member */
    struct store_t *store;
    int number;
    int is_queued;           /* a thread will come to it */
    struct round_t *worker;  /* goes through it, and its call does not take long */
    int users;               /* that one, and those whose calls do */
    tus_spool_shard_t files; /* while there are users */
    apr_time_t seen;         /* when it was last begun with; 0: never */
    apr_time_t due;          /* 0: nothing is */
    apr_time_t rest;         /* not before this */
    int is_patient;          /* the next pass is */
} shard_t;

typedef struct store_t {
    const tus_state_store_t *known;
    const char *dir;            /* in TusStateDir */
    int place;                  /* of the bell */
    shard_t *shards;            /* NULL until it has a spool */
    apr_time_t touched, looked; /* its spool, when all shards were last looked at; and when */
    apr_time_t due;             /* the earliest of its shards that are not at work */
} store_t;

/* A pass. */
typedef struct round_t {
    tus_deliver_t pass; /* the first member */
    shard_t *shard;
    apr_time_t begin;
    struct round_t *next;
} round_t;

/* Of the process whose turn it is, from its start to its end. */
static struct {
    apr_pool_t *pool;
    server_rec *server;
    apr_interval_time_t min_age;
    apr_thread_pool_t *threads;
    apr_hash_t *by_name;        /* name of a store -> store_t */
    apr_array_header_t *stores; /* of store_t * */
    apr_uint64_t heard;         /* of the bell */
    apr_time_t patrolled;
    apr_time_t registered;     /* when the registry was last read */
    apr_finfo_t registry;      /* and what it was like */
    apr_thread_mutex_t *mutex; /* guards the rest, and all of the shards and of the stores' due */
    tus_healths_t *healths;
    round_t *rounds;
} courier;

static apr_uint32_t is_ending; /* also without a turn */

static int is_cancelled(void *baton)
{
    (void)baton;
    return apr_atomic_read32(&is_ending) != 0;
}

static const tus_cancel_t cancel = { is_cancelled, NULL };

/* ---- when a shard is gone through ---------------------------------------------- */

static void *APR_THREAD_FUNC work(apr_thread_t *thread, void *data);

static void bring_forward(apr_time_t *due, apr_time_t time)
{
    if (!*due || time < *due) {
        *due = time;
    }
}

/* The mutex is held, here and below. */
static void push(shard_t *shard, apr_time_t now)
{
    shard->due = 0;
    shard->is_queued =
        apr_thread_pool_push(courier.threads, work, shard, APR_THREAD_TASK_PRIORITY_NORMAL, NULL)
        == APR_SUCCESS;
    if (!shard->is_queued) {
        bring_forward(&shard->due, now + BUSY);
        bring_forward(&shard->store->due, shard->due);
    }
}

/* What is at work begins anew when that is over. */
static void schedule(shard_t *shard, apr_time_t due)
{
    apr_time_t now = apr_time_now();

    if (shard->is_queued) {
        return;
    }
    due = due > shard->rest ? due : shard->rest;
    if (due <= now && !shard->worker) {
        push(shard, now);
        return;
    }
    bring_forward(&shard->due, due);
    if (!shard->worker) {
        bring_forward(&shard->store->due, shard->due);
    }
}

static void wake(tus_health_waiter_t *waiter, apr_time_t due)
{
    schedule((shard_t *)waiter, due);
}

static void begin_due(store_t *store, apr_time_t now)
{
    if (!store->due || store->due > now) {
        return;
    }
    store->due = 0;
    for (int i = 0; i < TUS_SPOOL_SHARDS; i++) {
        if (store->shards[i].due && !store->shards[i].worker) {
            schedule(&store->shards[i], store->shards[i].due);
        }
    }
}

/* ---- a pass ---------------------------------------------------------------------- */

static int is_taken(const tus_deliver_t *pass, const tus_health_t *health)
{
    const shard_t *shard = ((const round_t *)pass)->shard;

    for (const round_t *other = courier.rounds; other; other = other->next) {
        if (&other->pass != pass && other->shard == shard && other->pass.calling == health) {
            return 1;
        }
    }
    return 0;
}

static void begin_round(round_t *round, shard_t *shard)
{
    tus_health_t *given;

    memset(round, 0, sizeof(*round));
    apr_pool_create(&round->pass.pool, NULL);
    round->pass.server = courier.server;
    round->pass.store = shard->store->known;
    round->pass.cancel = &cancel;
    round->pass.min_age = courier.min_age;
    round->pass.healths = courier.healths;
    round->pass.waiter = &shard->waiter;
    round->pass.mutex = courier.mutex;
    round->pass.is_taken = is_taken;
    round->pass.is_patient = shard->is_patient;
    tus_deliver_begin(&round->pass);
    round->shard = shard;
    round->begin = apr_time_now();
    round->next = courier.rounds;
    courier.rounds = round;
    shard->is_queued = 0;
    shard->is_patient = 0;
    shard->worker = round;
    given = tus_health_begin(&shard->waiter);
    if (given) {
        APR_ARRAY_PUSH(round->pass.entered, tus_health_t *) = given;
    }
}

static apr_status_t open_files(shard_t *shard)
{
    apr_status_t rv = shard->users
                          ? APR_SUCCESS
                          : tus_spool_dir_lock(&shard->files, shard->store->dir, shard->number);

    shard->users += rv == APR_SUCCESS;
    return rv;
}

static void end_round(round_t *round, apr_time_t next)
{
    shard_t *shard = round->shard;
    round_t **link = &courier.rounds;
    apr_time_t now = apr_time_now();

    while (*link != round) {
        link = &(*link)->next;
    }
    *link = round->next;
    if (shard->worker == round) {
        shard->worker = NULL;
    }
    if (round->pass.seen * REST_PER_NAME > REST_MIN) {
        shard->rest = now + (apr_interval_time_t)round->pass.seen * REST_PER_NAME;
    }
    if (round->pass.has_left) {
        shard->is_patient = 1;
        next = now;
    }
    if (round->begin > shard->seen) {
        shard->seen = round->begin;
    }
    if (next) {
        bring_forward(&shard->due, next);
    }
    if (shard->due && !is_cancelled(NULL)) {
        schedule(shard, shard->due);
    }
}

static void log_worked(const shard_t *shard, apr_status_t rv)
{
    if (rv == TUS_EDAMAGED) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, courier.server,
                     "a file in the hooks' spool %s/spool is no event, and was moved to its"
                     " directory failed",
                     shard->store->dir);
    }
    else if (rv != APR_SUCCESS && !APR_STATUS_IS_INCOMPLETE(rv) && !APR_STATUS_IS_EBUSY(rv)
             && !APR_STATUS_IS_ENOENT(rv)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, courier.server,
                     "the hooks' spool %s/spool cannot be worked off", shard->store->dir);
    }
}

/* @return when there is something to do again, or 0 */
static apr_time_t go_through(round_t *round)
{
    shard_t *shard = round->shard;
    tus_spool_teller_t teller = tus_deliver_teller;
    apr_time_t next = 0;
    apr_status_t rv;

    apr_thread_mutex_lock(courier.mutex);
    rv = open_files(shard);
    apr_thread_mutex_unlock(courier.mutex);
    if (rv == APR_SUCCESS) {
        teller.baton = round;
        rv = tus_spool_work(&shard->files, round->begin, round->begin + PASS_BUDGET, &teller, &next,
                            round->pass.pool);
        apr_thread_mutex_lock(courier.mutex);
        if (--shard->users == 0) {
            tus_spool_dir_unlock(&shard->files);
        }
        apr_thread_mutex_unlock(courier.mutex);
    }
    else if (!APR_STATUS_IS_ENOENT(rv)) { /* else nobody ever put anything */
        next = round->begin + (APR_STATUS_IS_EBUSY(rv) ? BUSY : AGAIN);
    }
    tus_deliver_end(&round->pass); /* the place that it was given, too, goes to another */
    log_worked(shard, rv);
    return next;
}

static void *APR_THREAD_FUNC work(apr_thread_t *thread, void *data)
{
    round_t round;
    apr_time_t next;

    (void)thread;
    apr_thread_mutex_lock(courier.mutex);
    begin_round(&round, data);
    apr_thread_mutex_unlock(courier.mutex);
    next = go_through(&round);
    apr_thread_mutex_lock(courier.mutex);
    end_round(&round, next);
    apr_thread_mutex_unlock(courier.mutex);
    apr_pool_destroy(round.pass.pool);
    return NULL;
}

/* When such a call ends the pass is late, and begins no other. */
static void pass_by_those_that_hang(apr_time_t now)
{
    for (round_t *round = courier.rounds; round; round = round->next) {
        if (!round->pass.is_over && round->pass.calling && round->pass.called + PASS_BUDGET < now) {
            round->pass.is_over = 1;
            tus_deliver_let_go(&round->pass);
            round->shard->worker = NULL;
            schedule(round->shard, now);
        }
    }
}

/* ---- what there is to do ----------------------------------------------------------- */

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

static store_t *find_store(const tus_state_store_t *known)
{
    store_t *store = apr_hash_get(courier.by_name, known->name, APR_HASH_KEY_STRING);

    if (!store) {
        store = apr_pcalloc(courier.pool, sizeof(*store));
        store->known = copy_store(known, courier.pool);
        store->dir = dir_of(known, courier.pool);
        store->place = tus_bell_place(store->dir);
        apr_hash_set(courier.by_name, store->known->name, APR_HASH_KEY_STRING, store);
        APR_ARRAY_PUSH(courier.stores, store_t *) = store;
    }
    return store;
}

static shard_t *shards_of(store_t *store)
{
    if (!store->shards) {
        store->shards = apr_pcalloc(courier.pool, TUS_SPOOL_SHARDS * sizeof(*store->shards));
        for (int i = 0; i < TUS_SPOOL_SHARDS; i++) {
            store->shards[i].store = store;
            store->shards[i].number = i;
        }
    }
    return store->shards;
}

static void look_at_shards(store_t *store, apr_time_t now)
{
    apr_time_t changed[TUS_SPOOL_SHARDS];
    shard_t *shards = shards_of(store);

    tus_spool_changed(store->dir, changed);
    apr_thread_mutex_lock(courier.mutex);
    for (int i = 0; i < TUS_SPOOL_SHARDS; i++) {
        if (changed[i] && changed[i] > shards[i].seen - CLOCK_LAG) {
            schedule(&shards[i], now);
        }
    }
    apr_thread_mutex_unlock(courier.mutex);
}

/* The rounds of all stores are spread over the time. */
static void look_at(store_t *store, apr_time_t now)
{
    apr_time_t touched = tus_spool_touched(store->dir);
    apr_interval_time_t round = ROUND + apr_time_from_sec(store->place);

    if (touched
        && (touched != store->touched || touched > now - PUT_TIME || store->looked < now - round)) {
        store->touched = touched;
        store->looked = now;
        look_at_shards(store, now);
    }
}

/* The registry is only ever replaced as a whole. */
static int is_registry_new(apr_pool_t *p)
{
    const char *path = apr_pstrcat(p, tus_config_state_dir(courier.server), "/stores", NULL);
    apr_finfo_t found;

    if (apr_stat(&found, path, APR_FINFO_MTIME | APR_FINFO_SIZE | APR_FINFO_INODE, p)
        != APR_SUCCESS) {
        return 1;
    }
    if (found.mtime == courier.registry.mtime && found.size == courier.registry.size
        && found.inode == courier.registry.inode) {
        return 0;
    }
    courier.registry.mtime = found.mtime;
    courier.registry.size = found.size;
    courier.registry.inode = found.inode;
    return 1;
}

static void read_registry(apr_time_t now, apr_pool_t *p)
{
    apr_array_header_t *stores;
    const char *why;
    tus_state_t *state = tus_shared_state(&why);

    if ((!is_registry_new(p) && courier.registered + ROUND > now) || !state
        || tus_state_stores(state, &stores, p) != APR_SUCCESS) {
        return;
    }
    courier.registered = now;
    for (int i = 0; i < stores->nelts; i++) {
        find_store(&APR_ARRAY_IDX(stores, i, tus_state_store_t));
    }
}

static void patrol(apr_time_t now, apr_pool_t *p)
{
    courier.patrolled = now;
    read_registry(now, p);
    for (int i = 0; i < courier.stores->nelts && !is_cancelled(NULL); i++) {
        look_at(APR_ARRAY_IDX(courier.stores, i, store_t *), now);
    }
}

/* What was heard. */
typedef struct ring_t {
    apr_time_t now;
    int is_unknown; /* also of a store that is not known yet: a patrol finds it */
} ring_t;

static void on_ring(void *baton, int place, int number)
{
    ring_t *ring = baton;
    int found = 0;

    for (int i = 0; i < courier.stores->nelts; i++) {
        store_t *store = APR_ARRAY_IDX(courier.stores, i, store_t *);

        if (store->place == place) {
            schedule(&shards_of(store)[number], ring->now);
            found = 1;
        }
    }
    ring->is_unknown |= !found;
}

static void hear(ring_t *ring)
{
    void *bell = tus_shared_bell();

    if (bell && tus_bell_heard(bell, &courier.heard)) {
        apr_thread_mutex_lock(courier.mutex);
        tus_bell_take(bell, on_ring, ring);
        apr_thread_mutex_unlock(courier.mutex);
    }
}

static void tick(server_rec *s, apr_pool_t *p)
{
    apr_time_t now = apr_time_now();
    ring_t ring = { now, 0 };

    (void)s;
    hear(&ring);
    if (ring.is_unknown || now >= courier.patrolled + PATROL) {
        patrol(now, p);
    }
    apr_thread_mutex_lock(courier.mutex);
    pass_by_those_that_hang(now);
    for (int i = 0; i < courier.stores->nelts; i++) {
        begin_due(APR_ARRAY_IDX(courier.stores, i, store_t *), now);
    }
    apr_thread_mutex_unlock(courier.mutex);
}

/* ---- life --------------------------------------------------------------------------- */

static apr_status_t start(server_rec *s)
{
    apr_pool_t *shared; /* of those who hold the mutex; the other one is this thread's alone */
    apr_status_t rv;

    memset(&courier, 0, sizeof(courier));
    apr_atomic_set32(&is_ending, 0);
    courier.server = s;
    courier.min_age = tus_deliver_min_age();
    apr_pool_create(&courier.pool, NULL);
    courier.by_name = apr_hash_make(courier.pool);
    courier.stores = apr_array_make(courier.pool, 16, sizeof(store_t *));
    apr_pool_create(&shared, courier.pool);
    courier.healths = tus_health_open(THREADS, wake, shared);
    rv = apr_thread_mutex_create(&courier.mutex, APR_THREAD_MUTEX_DEFAULT, courier.pool);
    return rv == APR_SUCCESS ? apr_thread_pool_create(&courier.threads, 0, THREADS, courier.pool)
                             : rv;
}

/* The calls that run are cut short: what they were to tell stays in the spool. */
static void hurry(void)
{
    apr_atomic_set32(&is_ending, 1);
}

static void stop(void)
{
    hurry();
    if (courier.threads) {
        apr_thread_pool_destroy(courier.threads);
    }
    apr_pool_destroy(courier.pool);
    courier.pool = NULL;
}

const tus_watch_t tus_courier = { .name = "_tus_courier_",
                                  .interval = INTERVAL,
                                  .begin = start,
                                  .work = tick,
                                  .hurry = hurry,
                                  .end = stop };

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
