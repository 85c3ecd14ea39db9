/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * How the endpoints of hooks do. One that is down is tried now and then by one
 * pass alone. One that is not may have several, but no more than a share of what
 * is left: however many endpoints hang, calls of others go on.
 */
#include "tus_words.h"

#include <apr_general.h>
#include <apr_hash.h>
#include <apr_strings.h>

/* No endpoint has more passes than this, nor than this part of those that are free. */
#define PASSES_MAX 8
#define SHARE 3

/* One that was not reached last, or never, is tried only while this part of all are free, */
#define RESERVE 4

/* or while no more such tries than this part of all go on: the slow ones that are up, however many,
 * do not keep the others from ever being tried. */
#define TRIES 16

/* Nor has one place where hooks were said, an .htaccess or a section, more such tries than this
 * part of all, however many hooks it has. */
#define SCOPE_SHARE 8

/* Such a place. */
typedef struct scope_t {
    int tries; /* of endpoints that were not reached last, or never */
} scope_t;

struct tus_health_t {
    tus_healths_t *all;
    const char *key;
    scope_t *scope;
    int is_up, is_down; /* as the last call said; neither: there was none */
    int is_tried;       /* its pass is one of the scope's tries */
    apr_time_t until;   /* of one that is down: not tried again before */
    apr_interval_time_t backoff;
    int passes;
    int hanging; /* those whose call takes long */
    tus_health_waiter_t *first, *last;
};

struct tus_healths_t {
    apr_pool_t *pool;
    apr_hash_t *by_key;
    apr_hash_t *scopes; /* by what keys begin with */
    int max, passes, tries;
    int is_short; /* somebody waits who has no pass at all */
    tus_health_wake_fn wake;
};

tus_healths_t *tus_health_open(int max, tus_health_wake_fn wake, apr_pool_t *p)
{
    tus_healths_t *all = apr_pcalloc(p, sizeof(*all));

    all->pool = p;
    all->by_key = apr_hash_make(p);
    all->scopes = apr_hash_make(p);
    all->max = max;
    all->wake = wake;
    return all;
}

static scope_t *scope_of(tus_healths_t *all, const char *key)
{
    const char *name = apr_pstrndup(all->pool, key, TUS_HOOK_SCOPE_DIGITS);
    scope_t *scope = apr_hash_get(all->scopes, name, APR_HASH_KEY_STRING);

    if (!scope) {
        scope = apr_pcalloc(all->pool, sizeof(*scope));
        apr_hash_set(all->scopes, name, APR_HASH_KEY_STRING, scope);
    }
    return scope;
}

tus_health_t *tus_health_find(tus_healths_t *all, const char *key)
{
    tus_health_t *health = apr_hash_get(all->by_key, key, APR_HASH_KEY_STRING);

    if (!health) {
        health = apr_pcalloc(all->pool, sizeof(*health));
        health->all = all;
        health->key = apr_pstrdup(all->pool, key);
        health->scope = scope_of(all, key);
        apr_hash_set(all->by_key, health->key, APR_HASH_KEY_STRING, health);
    }
    return health;
}

/* Up to a quarter more or less, so that those that failed together do not come together. */
apr_interval_time_t tus_health_jitter(apr_interval_time_t time)
{
    apr_uint32_t random;

    apr_generate_random_bytes((unsigned char *)&random, sizeof(random));
    return time - time / 4 + (apr_interval_time_t)(random % 1000) * (time / 2) / 1000;
}

apr_interval_time_t tus_health_clamp(apr_interval_time_t time, apr_interval_time_t min)
{
    return time < min ? min : time > TUS_HEALTH_BACKOFF_MAX ? TUS_HEALTH_BACKOFF_MAX : time;
}

/* ---- passes ------------------------------------------------------------------ */

static int may_be_tried(const tus_health_t *health, int room)
{
    const tus_healths_t *all = health->all;

    return !health->passes && health->scope->tries < all->max / SCOPE_SHARE
           && (room > all->max / RESERVE || all->tries < all->max / TRIES);
}

static int has_room(const tus_health_t *health)
{
    int room = health->all->max - health->all->passes;

    if (room <= 0) {
        return 0;
    }
    if (!health->is_up) {
        return may_be_tried(health, room);
    }
    return !health->passes || (health->passes < room / SHARE && health->passes < PASSES_MAX);
}

apr_time_t tus_health_down(const tus_health_t *health, apr_time_t now)
{
    return health->until > now ? health->until : 0;
}

static void give_place(tus_health_t *health)
{
    health->passes++;
    health->all->passes++;
    if (!health->is_up) {
        health->is_tried = 1;
        health->scope->tries++;
        health->all->tries++;
    }
}

static void end_try(tus_health_t *health)
{
    health->scope->tries -= health->is_tried;
    health->all->tries -= health->is_tried;
    health->is_tried = 0;
}

int tus_health_enter(tus_health_t *health, apr_time_t now)
{
    if (tus_health_down(health, now) || !has_room(health)) {
        return 0;
    }
    give_place(health);
    return 1;
}

void tus_health_hang(tus_health_t *health, int is_hanging)
{
    health->hanging += is_hanging ? 1 : -1;
}

int tus_health_hangs(const tus_health_t *health)
{
    return health->hanging > 0;
}

static void unlink_waiter(tus_health_waiter_t *waiter)
{
    tus_health_t *health = waiter->health;

    *(waiter->before ? &waiter->before->next : &health->first) = waiter->next;
    *(waiter->next ? &waiter->next->before : &health->last) = waiter->before;
    waiter->health = NULL;
}

void tus_health_wait(tus_health_t *health, tus_health_waiter_t *waiter)
{
    if (waiter->given) { /* it begins again, there */
        return;
    }
    if (waiter->health && (waiter->health == health || !tus_health_hangs(waiter->health))) {
        return;
    }
    if (waiter->health) {
        unlink_waiter(waiter);
    }
    health->all->is_short |= !health->passes;
    waiter->health = health;
    waiter->before = health->last;
    waiter->next = NULL;
    *(health->last ? &health->last->next : &health->first) = waiter;
    health->last = waiter;
}

tus_health_t *tus_health_begin(tus_health_waiter_t *waiter)
{
    tus_health_t *given = waiter->given;

    if (waiter->health) {
        unlink_waiter(waiter);
    }
    waiter->given = NULL;
    return given;
}

/* Who waited the longest is given a place; while it is down all are told until when. */
static void go_on(tus_health_t *health, apr_time_t now)
{
    apr_time_t until = tus_health_down(health, now);

    while (health->first && (until || has_room(health))) {
        tus_health_waiter_t *waiter = health->first;

        unlink_waiter(waiter);
        if (!until) {
            give_place(health);
            waiter->given = health;
        }
        health->all->wake(waiter, until ? until : now);
    }
}

/* Those who have nothing come first. */
static void relieve(tus_healths_t *all, apr_time_t now)
{
    apr_hash_index_t *i;

    all->is_short = 0;
    for (i = apr_hash_first(NULL, all->by_key); i; i = apr_hash_next(i)) {
        tus_health_t *health = apr_hash_this_val(i);

        if (!health->passes) {
            go_on(health, now);
            all->is_short |= health->first != NULL;
        }
    }
}

void tus_health_leave(tus_health_t *health, apr_time_t now)
{
    health->passes--;
    health->all->passes--;
    if (!health->passes) {
        end_try(health);
    }
    if (health->all->is_short) {
        relieve(health->all, now);
    }
    go_on(health, now);
}

/* ---- calls ------------------------------------------------------------------- */

int tus_health_note(tus_health_t *health, int is_down, apr_interval_time_t backoff, apr_time_t now)
{
    int is_news = health->is_down != is_down;

    if (!is_down) {
        health->backoff = 0;
        health->until = 0;
    }
    else if (now >= health->until) { /* others that were on their way say nothing new */
        health->backoff = tus_health_clamp(health->backoff * 2, backoff);
        health->until = now + tus_health_jitter(health->backoff);
    }
    health->is_down = is_down;
    health->is_up = !is_down;
    if (health->is_up) {
        end_try(health);
    }
    go_on(health, now);
    return is_news;
}

int tus_health_is_hopeless(const tus_health_t *health, apr_interval_time_t max)
{
    return !health->is_down
           || health->backoff >= (max < TUS_HEALTH_BACKOFF_MAX ? max : TUS_HEALTH_BACKOFF_MAX);
}
