/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is done in the background (tus_watch.c): one process of the server at a
 * time goes through the registry, settles each store and removes
 * what has expired.
 */
#include "tus_httpd.h"

#include <apr_hash.h>
#include <apr_strings.h>

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

/* For what nobody else is left to finish, in one round; the rest waits for another. */
#define FINISH_BUDGET apr_time_from_sec(10)

/* Hooks are asked as long as that, and given up after this. */
#define ASK_LIMIT apr_time_from_sec(30)

/* Before an upload that could not be finished is tried again; longer each time. */
#define FINISH_PAUSE apr_time_from_sec(1)

typedef struct round_t {
    server_rec *server;
    apr_pool_t *pool;
    const tus_state_store_t *store; /* the one at hand */
    apr_array_header_t *joins;      /* of late_t: what is finished after all stores were settled */
    apr_array_header_t *asks;       /* the same, where hooks are asked: last of all */
    apr_time_t deadline;            /* of what is finished, or 0 */
} round_t;

typedef struct late_t {
    const tus_state_store_t *store;
    const char *id;
    const apr_array_header_t *hooks; /* of tus_hook_t */
} late_t;

static int is_ending(void *baton)
{
    const round_t *round = baton;

    return (round->deadline && apr_time_now() >= round->deadline) || tus_watch_is_leaving();
}

/* One store's large finals and slow hooks are not to keep the others' uploads from expiring. */
static void finish_later(void *baton, const tus_core_t *core, const tus_record_t *record)
{
    round_t *round = baton;
    const apr_array_header_t *hooks;
    late_t *late;

    /* Whose seal is wrong has none, and its finish fails. */
    tus_hook_record_find(&hooks, core, record, TUS_HOOK_PRE_FINISH, round->pool);
    late = apr_array_push(hooks->nelts ? round->asks : round->joins);
    late->store = round->store;
    late->id = apr_pstrdup(round->pool, record->id);
    late->hooks = hooks;
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
    core->finish_later = finish_later;
    core->later = round;
    rv = tus_settle(core, BUDGET, &plan->due, p);
    log_settled(round->server, round->store, plan, rv);
    if (rv == APR_SUCCESS) {
        expire(round->server, round->store, core, plan, p);
    }
}

/* What could not be done is still noted, so that the next rounds come upon it again. */
static void finish_one(round_t *round, const late_t *late, apr_pool_t *p)
{
    const char *name = apr_pstrcat(p, late->store->name, "/", late->id, NULL);
    const tus_error_t *error;
    tus_core_t *core;

    if (tus_rest_is_on(name) || tus_hook_is_resting(late->hooks)
        || open_store(&core, round, late->store, p) != APR_SUCCESS) {
        return;
    }
    round->store = late->store;
    core->finish_later = finish_later; /* what waited for this one */
    core->later = round;
    error = tus_late_finish(core, late->id, p);
    if (error) {
        apr_status_t rv;
        const char *story = tus_error_story(error, &rv, p);

        ap_log_error(APLOG_MARK, APLOG_INFO, rv, round->server,
                     "upload %s of store %s is left to be finished later, or by a HEAD: %s",
                     late->id, late->store->path, story);
        tus_rest_begin(name, FINISH_PAUSE);
    }
    else {
        tus_rest_end(name);
    }
}

/* The list grows meanwhile: by finals whose last part was finished. Each round begins with others,
 * so that nobody's slow ones are always before everybody else's. */
static void finish_all(round_t *round, const apr_array_header_t *list, apr_interval_time_t limit,
                       apr_pool_t *p)
{
    static unsigned turn;
    apr_time_t begin = apr_time_now();
    int count = list->nelts, first = count ? (int)(turn++ % (unsigned)count) : 0;

    round->deadline = begin + limit;
    for (int i = 0;
         i < list->nelts && !tus_watch_is_leaving() && apr_time_now() < begin + FINISH_BUDGET;
         i++) {
        const late_t late = APR_ARRAY_IDX(list, i < count ? (first + i) % count : i, late_t);

        apr_pool_clear(p);
        finish_one(round, &late, p);
    }
}

/* All other work of a sweep has at least as much time as those who wait for hooks. */
static void ask_all(round_t *round, apr_pool_t *p)
{
    static apr_time_t rest;
    apr_time_t begin = apr_time_now();

    if (begin >= rest) {
        finish_all(round, round->asks, ASK_LIMIT, p);
        rest = 2 * apr_time_now() - begin;
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
    tus_rest_round(apr_time_now());
    round.joins = apr_array_make(p, 4, sizeof(late_t));
    round.asks = apr_array_make(p, 4, sizeof(late_t));
    apr_pool_create(&pone, p);
    for (int i = 0; i < stores->nelts && !tus_watch_is_leaving(); i++) {
        round.store = &APR_ARRAY_IDX(stores, i, tus_state_store_t);
        apr_pool_clear(pone);
        sweep_store(&round, plan_of(round.store), pone);
    }
    finish_all(&round, round.joins, FINISH_BUDGET, pone);
    ask_all(&round, pone);
}

const tus_watch_t tus_sweep = { .name = "_tus_sweep_",
                                .interval = apr_time_from_sec(1),
                                .work = sweep_all };
