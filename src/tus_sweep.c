/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is done in the background, by mod_watchdog's singleton: one process of
 * the server at a time goes through the registry, settles each store and removes
 * what has expired.
 */
#include "tus_httpd.h"

#include <ap_mpm.h>
#include <apr_hash.h>
#include <apr_optional.h>
#include <apr_strings.h>

#include <mod_watchdog.h>

#define WATCHDOG_NAME "_tus_sweep_"
#define INTERVAL apr_time_from_sec(1)

/* For one store in one round: a rebuild goes on in the next. */
#define BUDGET apr_time_from_msec(200)

/* A walk through an index takes its time: not more than a tenth of ours. */
#define WALK_SHARE 10

/* Stores by their name in the registry -> plan_t; of the one thread that sweeps. */
static apr_hash_t *plans;

/* Of one store: when its uploads are to be looked through for expired ones; 0 for never. */
typedef struct plan_t {
    apr_time_t due;
    apr_time_t rest; /* not before this */
    int rebuilding;  /* its index is being made anew, and the log knows */
} plan_t;

/* For finals that nobody else is left to join, in one round; then a HEAD does it. */
#define JOIN_BUDGET apr_time_from_sec(10)

typedef struct round_t {
    server_rec *server;
    apr_pool_t *pool;
    const tus_state_store_t *store; /* the one at hand */
    apr_array_header_t *joins;      /* of join_t */
    apr_time_t deadline;            /* of the joins, or 0 */
} round_t;

typedef struct join_t {
    const tus_state_store_t *store;
    const char *id;
} join_t;

static int is_ending(void *baton)
{
    const round_t *round = baton;
    int state;

    if (round->deadline && apr_time_now() >= round->deadline) {
        return 1;
    }
    return ap_mpm_query(AP_MPMQ_MPM_STATE, &state) == APR_SUCCESS && state == AP_MPMQ_STOPPING;
}

/* One store's large finals are not to keep the others' uploads from expiring. */
static void join_later(void *baton, const char *id)
{
    round_t *round = baton;
    join_t *join = apr_array_push(round->joins);

    join->store = round->store;
    join->id = apr_pstrdup(round->pool, id);
}

static apr_status_t open_store(tus_core_t **core, round_t *round, const tus_state_store_t *store,
                               apr_pool_t *p)
{
    tus_cancel_t *cancel = apr_pcalloc(p, sizeof(*cancel));
    apr_status_t rv = tus_endpoint_reopen(core, store, p);

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_TRACE1, rv, round->server,
                     "store %s is left alone in this round", store->path);
        return rv;
    }
    cancel->cancelled = is_ending;
    cancel->baton = round;
    (*core)->cancel = cancel;
    return APR_SUCCESS;
}

/* Of a store that this process has not met yet nothing is known: look at once. */
static plan_t *plan_of(const tus_state_store_t *known)
{
    static apr_pool_t *pool; /* lives as long as this process; no other thread has it */
    plan_t *plan;

    if (!pool) {
        apr_pool_create(&pool, NULL);
        plans = apr_hash_make(pool);
    }
    plan = apr_hash_get(plans, known->name, APR_HASH_KEY_STRING);
    if (!plan) {
        plan = apr_pcalloc(pool, sizeof(*plan));
        plan->due = 1;
        apr_hash_set(plans, apr_pstrdup(pool, known->name), APR_HASH_KEY_STRING, plan);
    }
    return plan;
}

static void log_failure(server_rec *s, const tus_state_store_t *known, apr_status_t rv)
{
    if (!APR_STATUS_IS_EBUSY(rv) && !APR_STATUS_IS_EINTR(rv)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "the index of store %s cannot be brought up to date in TusStateDir/%s",
                     known->path, known->name);
    }
}

/* Each rebuild once when it begins, and once when it has come to its end. */
static void log_settled(server_rec *s, const tus_state_store_t *known, plan_t *plan,
                        apr_status_t rv)
{
    if (rv == TUS_EDAMAGED) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "the index of store %s, or its journal, was damaged in TusStateDir/%s: it is"
                     " made anew",
                     known->path, known->name);
        plan->rebuilding = 1;
    }
    else if (APR_STATUS_IS_INCOMPLETE(rv) && !plan->rebuilding) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s, "the index of store %s is made anew",
                     known->path);
        plan->rebuilding = 1;
    }
    else if (rv == APR_SUCCESS && plan->rebuilding) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s, "the index of store %s is whole", known->path);
        plan->rebuilding = 0;
    }
    else if (rv != APR_SUCCESS && !APR_STATUS_IS_INCOMPLETE(rv)) {
        log_failure(s, known, rv);
    }
}

/* Only with a whole index: what it does not know yet might be named by another record. */
static void expire(server_rec *s, const tus_state_store_t *known, const tus_core_t *core,
                   plan_t *plan, apr_pool_t *p)
{
    apr_time_t begin = apr_time_now();
    apr_time_t end;
    apr_status_t rv;

    if (!plan->due || plan->due > begin || plan->rest > begin) {
        return;
    }
    rv = tus_expire(core, &plan->due, p);
    end = apr_time_now();
    plan->rest = end + (end - begin) * WALK_SHARE;
    if (rv != APR_SUCCESS) {
        plan->due = plan->due ? plan->due : end;
    }
    if (rv != APR_SUCCESS && rv != TUS_EDAMAGED) { /* that, the next settling finds too */
        log_failure(s, known, rv);
    }
}

static void sweep_store(round_t *round, plan_t *plan, apr_pool_t *p)
{
    tus_core_t *core;
    apr_status_t rv = open_store(&core, round, round->store, p);

    if (rv != APR_SUCCESS) {
        return;
    }
    core->join_later = join_later;
    core->later = round;
    rv = tus_settle(core, BUDGET, &plan->due, p);
    log_settled(round->server, round->store, plan, rv);
    if (rv == APR_SUCCESS) {
        expire(round->server, round->store, core, plan, p);
    }
}

static void join_all(round_t *round, apr_pool_t *p)
{
    tus_core_t *core;

    round->deadline = apr_time_now() + JOIN_BUDGET;
    for (int i = 0; i < round->joins->nelts && !is_ending(round); i++) {
        const join_t *join = &APR_ARRAY_IDX(round->joins, i, join_t);
        const tus_error_t *error;

        apr_pool_clear(p);
        if (open_store(&core, round, join->store, p) != APR_SUCCESS) {
            continue;
        }
        error = tus_join_try(core, join->id, p);
        if (error) {
            apr_status_t rv;
            const char *story = tus_error_story(error, &rv, p);

            ap_log_error(APLOG_MARK, APLOG_INFO, rv, round->server,
                         "upload %s of store %s is left to be joined by the next HEAD: %s",
                         join->id, join->store->path, story);
        }
    }
}

static void sweep_all(server_rec *s, apr_pool_t *p)
{
    round_t round = { .server = s, .pool = p };
    apr_array_header_t *stores;
    apr_pool_t *pone;
    const char *why;
    tus_state_t *state = tus_shared_state(&why);

    if (!state || tus_state_stores(state, &stores, p) != APR_SUCCESS) {
        return;
    }
    round.joins = apr_array_make(p, 4, sizeof(join_t));
    apr_pool_create(&pone, p);
    for (int i = 0; i < stores->nelts; i++) {
        round.store = &APR_ARRAY_IDX(stores, i, tus_state_store_t);
        apr_pool_clear(pone);
        sweep_store(&round, plan_of(round.store), pone);
    }
    join_all(&round, pone);
}

static apr_status_t on_watchdog(int event, void *data, apr_pool_t *pool)
{
    if (event == AP_WATCHDOG_STATE_RUNNING) {
        apr_pool_t *p;

        apr_pool_create(&p, pool);
        sweep_all(data, p);
        apr_pool_destroy(p);
    }
    return APR_SUCCESS;
}

int tus_sweep_register(server_rec *s, apr_pool_t *pconf)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) * get_instance;
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) * register_callback;
    ap_watchdog_t *watchdog;
    apr_status_t rv;

    get_instance = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    register_callback = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    if (!get_instance || !register_callback) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "mod_watchdog is not loaded: the index of uploads is not kept up to date, and"
                     " nothing is cleaned up; add: LoadModule watchdog_module ...");
        return OK;
    }
    rv = get_instance(&watchdog, WATCHDOG_NAME, 0, 1, pconf);
    if (rv == APR_SUCCESS) {
        rv = register_callback(watchdog, INTERVAL, s, on_watchdog);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "cannot register with mod_watchdog");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}
