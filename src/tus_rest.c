/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What failed is left in peace for a while, longer each time: uploads that could
 * not be finished, endpoints that gave no answer. It is known by the one thread
 * that sweeps, as long as its process lives; the next one begins anew.
 */
#include "tus_httpd.h"

#include <apr_hash.h>
#include <apr_strings.h>

#define REST_MAX apr_time_from_sec(600)

typedef struct rest_t {
    apr_time_t until;
    apr_interval_time_t time;
} rest_t;

static apr_time_t now;
static apr_pool_t *pool;
static apr_hash_t *rests; /* name -> rest_t */

static void put(const char *name, const rest_t *rest)
{
    apr_hash_set(rests, apr_pstrdup(pool, name), APR_HASH_KEY_STRING,
                 apr_pmemdup(pool, rest, sizeof(*rest)));
}

/* Those that nobody came back to are forgotten, and their memory with them. */
void tus_rest_round(apr_time_t begin)
{
    apr_pool_t *old_pool = pool;
    apr_hash_t *old = rests;

    now = begin;
    if (old && !apr_hash_count(old)) {
        return;
    }
    apr_pool_create(&pool, NULL);
    rests = apr_hash_make(pool);
    for (apr_hash_index_t *i = old ? apr_hash_first(old_pool, old) : NULL; i;
         i = apr_hash_next(i)) {
        const rest_t *rest = apr_hash_this_val(i);

        if (rest->until + REST_MAX > now) {
            put(apr_hash_this_key(i), rest);
        }
    }
    if (old) {
        apr_pool_destroy(old_pool);
    }
}

int tus_rest_is_on(const char *name)
{
    const rest_t *rest = apr_hash_get(rests, name, APR_HASH_KEY_STRING);

    return rest && rest->until > now;
}

/* What went before may have taken long: it rests from its end on. */
void tus_rest_begin(const char *name, apr_interval_time_t first)
{
    const rest_t *before = apr_hash_get(rests, name, APR_HASH_KEY_STRING);
    rest_t rest = { .time = before ? 2 * before->time : first };

    rest.time = rest.time > REST_MAX ? REST_MAX : rest.time;
    rest.until = apr_time_now() + rest.time;
    put(name, &rest);
}

void tus_rest_end(const char *name)
{
    apr_hash_set(rests, name, APR_HASH_KEY_STRING, NULL);
}
