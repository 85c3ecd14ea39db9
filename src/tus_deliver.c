/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What becomes of an event that waits: it is told, tried again later, or given
 * up. Of one that is pending, the upload's record says whether it happened.
 *
 * A spool may have very many events that cannot be told now: their endpoint is
 * down or has enough to do, or there is none any more. They are passed by without
 * being opened; but for those that may be too old.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_main.h>

/* An event that nobody takes any more is looked at again after this, or by the next process. */
#define ORPHAN_INTERVAL apr_time_from_sec(600)

/* Whoever finds no place at an endpoint, and is not called when there is one, looks after this. */
#define NO_PLACE apr_time_from_sec(2)

#define KEY_LEN (TUS_HOOK_KEY_SIZE - 1)

/* What a pass knows of the hook of some events. */
typedef struct known_t {
    tus_health_t *health; /* of its endpoint; NULL: nobody takes any of them */
    apr_time_t held;      /* its events are held back until then; 0: they are not */
} known_t;

/* ---- what a pass knows --------------------------------------------------------- */

void tus_deliver_begin(tus_deliver_t *pass)
{
    pass->known = apr_hash_make(pass->pool);
    pass->entered = apr_array_make(pass->pool, 2, sizeof(tus_health_t *));
}

static int is_entered(const tus_deliver_t *pass, const tus_health_t *health)
{
    for (int i = 0; i < pass->entered->nelts; i++) {
        if (APR_ARRAY_IDX(pass->entered, i, tus_health_t *) == health) {
            return 1;
        }
    }
    return 0;
}

void tus_deliver_let_go(tus_deliver_t *pass)
{
    apr_time_t now = apr_time_now();
    int kept = 0;

    for (int i = 0; i < pass->entered->nelts; i++) {
        tus_health_t *health = APR_ARRAY_IDX(pass->entered, i, tus_health_t *);

        if (health == pass->calling) {
            kept = 1;
        }
        else {
            tus_health_leave(health, now);
        }
    }
    apr_array_clear(pass->entered);
    if (kept) {
        tus_health_hang(pass->calling, 1);
        APR_ARRAY_PUSH(pass->entered, tus_health_t *) = pass->calling;
    }
}

void tus_deliver_end(tus_deliver_t *pass)
{
    apr_thread_mutex_lock(pass->mutex);
    if (pass->is_over && pass->entered->nelts) {
        tus_health_hang(APR_ARRAY_IDX(pass->entered, 0, tus_health_t *), 0);
    }
    pass->calling = NULL;
    tus_deliver_let_go(pass);
    apr_thread_mutex_unlock(pass->mutex);
}

/* A hook whose URL was changed has the endpoint that there is now. */
static const tus_hook_t *find_any(const char *key, apr_pool_t *p)
{
    const tus_hook_t *hook = tus_hook_table_find(key, TUS_HOOK_POST_CREATE, p);

    hook = hook ? hook : tus_hook_table_find(key, TUS_HOOK_POST_FINISH, p);
    return hook ? hook : tus_hook_table_find(key, TUS_HOOK_POST_TERMINATE, p);
}

static known_t *known_of(tus_deliver_t *pass, const char *key)
{
    known_t *known = apr_hash_get(pass->known, key, KEY_LEN);
    const tus_hook_t *hook;
    apr_pool_t *p;

    if (known) {
        return known;
    }
    known = apr_pcalloc(pass->pool, sizeof(*known));
    apr_hash_set(pass->known, apr_pstrmemdup(pass->pool, key, KEY_LEN), KEY_LEN, known);
    apr_pool_create(&p, pass->pool);
    hook = find_any(apr_pstrmemdup(p, key, KEY_LEN), p);
    if (hook) {
        apr_thread_mutex_lock(pass->mutex);
        known->health = tus_health_find(pass->healths, hook->spec->key);
        apr_thread_mutex_unlock(pass->mutex);
    }
    else {
        known->held = apr_time_now() + ORPHAN_INTERVAL;
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, pass->server,
                     "no TusHook takes the events of hook %.*s, which wait", KEY_LEN, key);
    }
    apr_pool_destroy(p);
    return known;
}

/* ---- before a file is opened ----------------------------------------------------- */

/* An event is not older than its upload. */
static int may_be_too_old(const tus_deliver_t *pass, const tus_spooled_name_t *name)
{
    return apr_time_now() - name->created > pass->min_age;
}

static apr_time_t hold(void *baton, const tus_spooled_name_t *name)
{
    tus_deliver_t *pass = baton;
    known_t *known = known_of(pass, name->hook);

    pass->seen++;
    if (!known->held) {
        apr_thread_mutex_lock(pass->mutex);
        known->held = tus_health_down(known->health, apr_time_now());
        apr_thread_mutex_unlock(pass->mutex);
    }
    return may_be_too_old(pass, name) ? 0 : known->held;
}

/* A place at the endpoint; without one all events of the hook are held back. The mutex is held. */
static void enter(tus_deliver_t *pass, known_t *known, apr_time_t now)
{
    if (pass->is_taken(pass, known->health)) {
        known->held = now + NO_PLACE; /* this shard's turn comes when the other's is over */
        return;
    }
    if (tus_health_hangs(known->health) && !pass->is_patient) {
        known->held = now + NO_PLACE;
        pass->has_left = 1;
        return;
    }
    if (!is_entered(pass, known->health)) {
        if (!tus_health_enter(known->health, now)) {
            tus_health_wait(known->health, pass->waiter);
            known->held = now + NO_PLACE;
            return;
        }
        APR_ARRAY_PUSH(pass->entered, tus_health_t *) = known->health;
    }
    pass->calling = known->health;
    pass->called = now;
}

/* One that may be too old is opened all the same, and told only if there is a place. */
static apr_time_t take(void *baton, const tus_spooled_name_t *name)
{
    tus_deliver_t *pass = baton;
    known_t *known = known_of(pass, name->hook);
    apr_time_t now = apr_time_now(), until;

    apr_thread_mutex_lock(pass->mutex);
    pass->calling = NULL;
    if (pass->is_over) {
        until = now;
    }
    else {
        if (!known->held) {
            enter(pass, known, now);
        }
        until = may_be_too_old(pass, name) ? 0 : known->held;
    }
    apr_thread_mutex_unlock(pass->mutex);
    return until;
}

/* ---- telling ----------------------------------------------------------------------- */

static tus_spool_e give_up(const tus_deliver_t *pass, const tus_spooled_t *event, const char *why)
{
    tus_metrics_hook_given_up(event->type);
    ap_log_error(
        APLOG_MARK, APLOG_ERR, 0, pass->server,
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

static int is_too_old(const tus_spooled_t *event, apr_interval_time_t max)
{
    return apr_time_now() - event->at > max;
}

/* Too old, and its endpoint refuses it, or has been tried for long enough. The mutex is held. */
static int is_past_hope(const tus_spooled_t *event, const tus_hook_t *hook,
                        const tus_health_t *health)
{
    apr_interval_time_t max = hook->settings->hook_max_age;

    return is_too_old(event, max) && tus_health_is_hopeless(health, max);
}

/* Notes how the endpoint does. @return nonzero if there is no hope for the event */
static int note(tus_deliver_t *pass, const tus_spooled_t *event, const tus_hook_t *hook,
                tus_health_t *health, const tus_called_t *called, int is_reached, int is_told)
{
    int is_news, is_hopeless;

    apr_thread_mutex_lock(pass->mutex);
    is_news =
        tus_health_note(health, !is_reached, hook->settings->hook_retry.backoff, apr_time_now());
    is_hopeless = !is_told && is_past_hope(event, hook, health);
    apr_thread_mutex_unlock(pass->mutex);
    log_called(event, hook, called, is_told, is_news);
    return is_hopeless;
}

static tus_spool_e tell(tus_deliver_t *pass, const tus_spooled_t *event, const tus_hook_t *hook,
                        tus_health_t *health, apr_time_t *due, apr_pool_t *p)
{
    const tus_hook_event_t sent = { .type = event->type,
                                    .event_id = event->event_id,
                                    .headers = event->headers,
                                    .body = event->body,
                                    .len = event->len };
    apr_interval_time_t age = apr_time_now() - event->at;
    tus_called_t called;
    apr_status_t rv = tus_hook_call(&called, hook, &sent, NULL, pass->cancel, p);
    int is_told = rv == APR_SUCCESS && ap_is_HTTP_SUCCESS(called.status);
    int is_reached = rv == APR_SUCCESS && called.status < 500;

    if (APR_STATUS_IS_EINTR(rv)) {
        return TUS_SPOOL_WAIT;
    }
    tus_metrics_hook(event->type, called.time, is_told);
    if (note(pass, event, hook, health, &called, is_reached, is_told)) {
        return give_up(pass, event, called.why ? called.why : "its endpoint refuses it");
    }
    if (is_told) {
        return TUS_SPOOL_DONE;
    }
    tus_metrics_hook_retry(event->type);
    *due = apr_time_now()
           + tus_health_jitter(tus_health_clamp(age / 2, hook->settings->hook_retry.backoff));
    return TUS_SPOOL_LATER;
}

static tus_spool_e orphan(const tus_deliver_t *pass, const tus_spooled_t *event, apr_time_t *due)
{
    if (is_too_old(event, tus_config_defaults()->hook_max_age)) {
        return give_up(pass, event, "no TusHook takes it any more");
    }
    *due = apr_time_now() + ORPHAN_INTERVAL;
    return TUS_SPOOL_WAIT;
}

/* It was opened because it may be too old, though it cannot be told now. */
static tus_spool_e look_at_age(const tus_deliver_t *pass, const tus_spooled_t *event,
                               const tus_hook_t *hook, const known_t *known, apr_time_t *due)
{
    int is_hopeless;

    apr_thread_mutex_lock(pass->mutex);
    is_hopeless =
        tus_health_down(known->health, apr_time_now()) && is_past_hope(event, hook, known->health);
    apr_thread_mutex_unlock(pass->mutex);
    if (is_hopeless) {
        return give_up(pass, event, "its endpoint cannot be reached");
    }
    *due = known->held;
    return TUS_SPOOL_WAIT;
}

static tus_spool_e deliver(tus_deliver_t *pass, const tus_spooled_t *event, apr_time_t *due,
                           apr_pool_t *p)
{
    const tus_hook_t *hook = tus_hook_table_find(event->hook, event->type, p);
    known_t *known = known_of(pass, event->hook);

    if (!hook || !known->health) {
        return orphan(pass, event, due);
    }
    return known->held ? look_at_age(pass, event, hook, known, due)
                       : tell(pass, event, hook, known->health, due, p);
}

/* ---- one that is pending ---------------------------------------------------------- */

/* Cut short behind the data, a termination is brought to its end by the sweep, and then it was. */
static tus_spool_e judge_termination(const tus_core_t *core, const tus_record_t *record)
{
    apr_off_t size;
    apr_time_t modified;
    apr_status_t rv = core->store->provider->size(core->store, record, &size, &modified);

    return APR_STATUS_IS_ENOENT(rv) && record->ours && !record->finished && !record->expired
               ? TUS_SPOOL_LATER
               : TUS_SPOOL_DONE;
}

/* What its record says of it, while nobody holds the upload. */
static tus_spool_e judge(const tus_core_t *core, const tus_spooled_t *event, apr_pool_t *p)
{
    tus_record_t *record;
    apr_status_t rv = core->meta->provider->get(core->meta, event->id, &record, p);
    int is_there = rv == APR_SUCCESS && record->created == event->created;

    /* Unwritten: to clients there is no such upload. */
    if (rv != APR_SUCCESS && rv != TUS_EUNWRITTEN && !APR_STATUS_IS_ENOENT(rv)
        && !APR_STATUS_IS_ENOTDIR(rv)) {
        return TUS_SPOOL_LATER;
    }
    switch (event->type) {
    case TUS_HOOK_POST_CREATE:
        return is_there ? TUS_SPOOL_READY : TUS_SPOOL_DONE;
    case TUS_HOOK_POST_FINISH:
        return is_there && record->finished ? TUS_SPOOL_READY : TUS_SPOOL_DONE;
    case TUS_HOOK_POST_TERMINATE:
        return is_there ? judge_termination(core, record) : TUS_SPOOL_READY;
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

/* NULL: the store cannot be opened now. */
static const tus_core_t *core_of(tus_deliver_t *pass)
{
    tus_core_t *core;

    if (!pass->core && tus_endpoint_reopen(&core, pass->store, pass->pool) == APR_SUCCESS) {
        pass->core = core;
    }
    return pass->core;
}

static tus_spool_e judge_pending(tus_deliver_t *pass, const tus_spooled_t *event, apr_time_t *due,
                                 apr_pool_t *p)
{
    const tus_core_t *core = core_of(pass);
    tus_spool_e what = TUS_SPOOL_LATER;
    tus_lock_t *lock;

    if (core
        && core->locks->provider->acquire(core->locks, &core->store->identity, event->id, 0, NULL,
                                          &lock, p)
               == APR_SUCCESS) {
        what = judge_held(core, event, p);
        core->locks->provider->release(lock);
    }
    if (what == TUS_SPOOL_LATER && is_too_old(event, tus_config_defaults()->hook_max_age)) {
        return give_up(pass, event, "whether it happened cannot be found out");
    }
    *due = apr_time_now() + apr_time_from_sec(1);
    return what;
}

static tus_spool_e on_event(void *baton, const tus_spooled_t *event, apr_time_t *due, apr_pool_t *p)
{
    tus_deliver_t *pass = baton;

    if (pass->cancel->cancelled(pass->cancel->baton)) {
        return TUS_SPOOL_WAIT;
    }
    return event->is_pending ? judge_pending(pass, event, due, p) : deliver(pass, event, due, p);
}

const tus_spool_teller_t tus_deliver_teller = { .tell = on_event, .hold = hold, .take = take };

/* ---- age ----------------------------------------------------------------------------- */

static apr_interval_time_t lesser(apr_interval_time_t age, const void *config)
{
    apr_interval_time_t said = tus_config_settings(config)->hook_max_age;

    return said < age ? said : age;
}

apr_interval_time_t tus_deliver_min_age(void)
{
    apr_interval_time_t min = tus_config_defaults()->hook_max_age;
    const apr_array_header_t *sections = tus_config_sections();

    for (const server_rec *s = ap_server_conf; s; s = s->next) {
        min = lesser(min, ap_get_module_config(s->lookup_defaults, &tus_module));
    }
    for (int i = 0; i < sections->nelts; i++) {
        min = lesser(min, APR_ARRAY_IDX(sections, i, const tus_section_t *)->config);
    }
    return min;
}
