/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The spool: events that wait to be told, a file for each.
 *
 *   spool/SHARD/NAME           it happened; SHARD is the start of NAME
 *   spool/SHARD/NAME.new       pending: it is about to happen
 *   spool/SHARD/NAME.new.tmp   it is being written
 *   spool/failed/              what was moved aside
 *
 * A file is written once, and only its name and its times change after that. So
 * whoever dies leaves a whole event, and the next to come knows all that he knew.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPOOL "spool"
#define SHARD_LEN (TUS_SPOOL_SHARD_SIZE - 1)

static apr_status_t path_of(char path[APR_PATH_MAX], const char *state_dir,
                            const tus_spooled_t *event, const char *suffix)
{
    char name[TUS_SPOOLED_NAME_SIZE];
    apr_status_t rv = tus_spooled_name(name, event);
    int len;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    len = apr_snprintf(path, APR_PATH_MAX, "%s/" SPOOL "/%.*s/%s%s", state_dir, SHARD_LEN, name,
                       name, suffix);
    return len < APR_PATH_MAX - 1 ? APR_SUCCESS : APR_ENAMETOOLONG;
}

int tus_spool_shard(const char *id)
{
    char key[TUS_SPOOLED_KEY_LEN + 1];

    tus_spooled_key(id, key);
    key[SHARD_LEN] = '\0';
    return (int)strtol(key, NULL, 16);
}

/* ---- putting ------------------------------------------------------------- */

static apr_status_t make_dirs(const char *path)
{
    char shard[APR_PATH_MAX];
    apr_status_t rv;

    apr_cpystrn(shard, path, sizeof(shard));
    *strrchr(shard, '/') = '\0';
    rv = tus_keyed_make_dir(shard); /* where it lies in */
    return rv == APR_SUCCESS ? tus_keyed_make_dir(path) : rv;
}

/* Before anything else: whoever dies then leaves a spool that is looked into. */
static void touch(const char *state_dir)
{
    char path[APR_PATH_MAX];

    apr_snprintf(path, sizeof(path), "%s/" SPOOL, state_dir);
    utimensat(AT_FDCWD, path, NULL, 0); /* there may be none yet */
}

apr_status_t tus_spool_put(const char *state_dir, const tus_spooled_t *event, int durable,
                           apr_pool_t *p)
{
    char path[APR_PATH_MAX];
    const char *text;
    apr_size_t len;
    apr_status_t rv = path_of(path, state_dir, event, TUS_SPOOLED_PENDING);

    if (rv == APR_SUCCESS) {
        rv = tus_spooled_format(event, &text, &len, p);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    touch(state_dir);
    rv = tus_small_replace(path, text, durable, p);
    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = make_dirs(path);
        if (rv == APR_SUCCESS) {
            rv = tus_small_replace(path, text, durable, p);
        }
    }
    return rv;
}

apr_status_t tus_spool_confirm(const char *state_dir, const tus_spooled_t *event, apr_pool_t *p)
{
    char path[APR_PATH_MAX];
    apr_status_t rv = path_of(path, state_dir, event, "");

    if (rv != APR_SUCCESS) {
        return rv;
    }
    return rename(apr_pstrcat(p, path, TUS_SPOOLED_PENDING, NULL), path) == 0 ? APR_SUCCESS : errno;
}

apr_status_t tus_spool_retract(const char *state_dir, const tus_spooled_t *event, apr_pool_t *p)
{
    char path[APR_PATH_MAX];
    apr_status_t rv = path_of(path, state_dir, event, TUS_SPOOLED_PENDING);

    (void)p;
    return rv == APR_SUCCESS ? tus_small_remove(path) : rv;
}

static apr_status_t sync_shard(int spool, int shard)
{
    int dir;
    apr_status_t rv = tus_spool_dir_shard(spool, shard, &dir);

    if (rv == APR_SUCCESS) {
        rv = fsync(dir) == 0 ? APR_SUCCESS : errno;
        close(dir);
    }
    return rv;
}

apr_status_t tus_spool_sync(const char *state_dir, const char *id)
{
    int spool;
    apr_status_t rv = tus_spool_dir_open(state_dir, &spool);

    if (rv == APR_SUCCESS) {
        rv = sync_shard(spool, tus_spool_shard(id));
        close(spool);
    }
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}

/* ---- looking at it ------------------------------------------------------- */

apr_time_t tus_spool_touched(const char *state_dir)
{
    char path[APR_PATH_MAX];
    struct stat st;

    apr_snprintf(path, sizeof(path), "%s/" SPOOL, state_dir);
    return stat(path, &st) == 0 ? tus_spool_dir_time(&st.st_mtim) : 0;
}

void tus_spool_changed(const char *state_dir, apr_time_t changed[TUS_SPOOL_SHARDS])
{
    tus_spool_times_t times;
    char name[TUS_SPOOL_SHARD_SIZE];
    int spool, i;

    memset(changed, 0, TUS_SPOOL_SHARDS * sizeof(*changed));
    if (tus_spool_dir_open(state_dir, &spool) != APR_SUCCESS) {
        return;
    }
    for (i = 0; i < TUS_SPOOL_SHARDS; i++) {
        if (tus_spool_dir_times(spool, tus_spool_dir_name(i, name), &times) == APR_SUCCESS) {
            changed[i] = times.due;
        }
    }
    close(spool);
}

typedef struct count_t {
    apr_uint64_t waiting;
    apr_time_t oldest;
} count_t;

/* Also of a file that somebody else looked into, it says no more than that it waits until then. */
static void count_name(void *baton, int dir, const char *name)
{
    count_t *count = baton;
    tus_spooled_e kind = tus_spooled_kind(name);
    tus_spool_times_t times;
    apr_time_t since;

    if ((kind != TUS_SPOOLED_READY && kind != TUS_SPOOLED_PENDS)
        || tus_spool_dir_times(dir, name, &times) != APR_SUCCESS) {
        return;
    }
    since = times.due < times.since ? times.due : times.since;
    count->waiting++;
    count->oldest = !count->oldest || since < count->oldest ? since : count->oldest;
}

static apr_status_t count_shard(int spool, int shard, count_t *count)
{
    int dir;
    apr_status_t rv = tus_spool_dir_shard(spool, shard, &dir);

    if (rv == APR_SUCCESS) {
        rv = tus_spool_dir_each(dir, count_name, count);
        close(dir);
    }
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}

apr_status_t tus_spool_count(const char *state_dir, apr_uint64_t *waiting, apr_time_t *oldest,
                             apr_pool_t *p)
{
    count_t count = { 0, 0 };
    int spool, shard;
    apr_status_t rv = tus_spool_dir_open(state_dir, &spool);

    (void)p;
    if (rv == APR_SUCCESS) {
        for (shard = 0; shard < TUS_SPOOL_SHARDS && rv == APR_SUCCESS; shard++) {
            rv = count_shard(spool, shard, &count);
        }
        close(spool);
    }
    *waiting = count.waiting;
    *oldest = count.oldest;
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}
