/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * TusStateDir: a directory for each store that was ever used, and the registry
 * of which is whose.
 *
 * A process has the registry as it last read it. Only a store that is not in it
 * as it stands costs more than a look-up.
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES (TUS_STATE_NAME_LEN / 2)
#define NAME_TRIES 3

/* What a store was found as less than that ago, it is taken for by its directory alone. */
#define RECENT apr_time_from_sec(1)

/* In these words it was asked for. */
typedef struct known_t {
    tus_state_store_t store;
    apr_time_t found; /* last, or 0 */
} known_t;

/* What hardly ever leads to another store. */
typedef struct inode_t {
    apr_uint64_t device;
    apr_uint64_t inode;
} inode_t;

/* The registry as it was read at one time. */
typedef struct snapshot_t {
    apr_pool_t *pool;
    apr_hash_t *stores; /* key_of() -> known_t */
    apr_hash_t *inodes; /* inode_t -> the same; of several, one */
} snapshot_t;

struct tus_state_t {
    apr_pool_t *pool; /* used under the global mutex only */
    const char *path;
    apr_global_mutex_t *mutex;
    apr_thread_mutex_t *lock; /* guards the snapshot; never held for I/O */
    snapshot_t *snapshot;
};

/* ---- which line is a store's --------------------------------------------- */

typedef enum {
    OTHER,    /* another store */
    RESTORED, /* only path and owner: what was indexed is not what is there */
    REMOUNTED,
    MOVED,
    SAME
} likeness_e;

static likeness_e compare(const tus_state_store_t *known, const tus_state_store_t *wanted)
{
    int path = strcmp(known->path, wanted->path) == 0;
    int device = known->identity.device == wanted->identity.device;

    if (known->identity.owner != wanted->identity.owner
        || strcmp(known->provider, wanted->provider) != 0) {
        return OTHER;
    }
    if (known->identity.inode != wanted->identity.inode) {
        return path ? RESTORED : OTHER;
    }
    if (device) {
        return path ? SAME : MOVED;
    }
    return path ? REMOUNTED : OTHER;
}

/* The most alike; the latest of several, for a line that changes goes to the end. */
static int find_line(const apr_array_header_t *stores, const tus_state_store_t *wanted,
                     likeness_e *likeness)
{
    int i, found = -1;

    *likeness = OTHER;
    for (i = 0; i < stores->nelts; i++) {
        likeness_e alike = compare(&APR_ARRAY_IDX(stores, i, tus_state_store_t), wanted);

        if (alike != OTHER && alike >= *likeness) {
            *likeness = alike;
            found = i;
        }
    }
    return found;
}

/* A directory may have two paths at once: then the line keeps the one that it has. */
static int still_leads(const tus_state_store_t *known)
{
    struct stat st;

    return stat(known->path, &st) == 0 && st.st_dev == known->identity.device
           && st.st_ino == known->identity.inode;
}

static int same_driver(const char *one, const char *other)
{
    return one && other ? strcmp(one, other) == 0 : one == other;
}

/* ---- the directory of a store -------------------------------------------- */

static const char *dir_of(const tus_state_t *state, const char *name, apr_pool_t *p)
{
    return apr_pstrcat(p, state->path, "/", name, NULL);
}

static apr_status_t make_dir(const tus_state_t *state, const char *name, apr_pool_t *p)
{
    return apr_dir_make(dir_of(state, name, p),
                        APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE, p);
}

static apr_status_t add_line(const tus_state_t *state, apr_array_header_t *stores,
                             tus_state_store_t *store, apr_pool_t *p)
{
    unsigned char bytes[NAME_BYTES];
    apr_status_t rv;
    int tries = 0;

    do {
        rv = apr_generate_random_bytes(bytes, sizeof(bytes));
        if (rv == APR_SUCCESS) {
            store->name = apr_pescape_hex(p, bytes, sizeof(bytes), 0);
            rv = make_dir(state, store->name, p);
        }
    } while (APR_STATUS_IS_EEXIST(rv) && ++tries < NAME_TRIES);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    APR_ARRAY_PUSH(stores, tus_state_store_t) = *store;
    rv = tus_registry_write(state->path, stores, p);
    if (rv != APR_SUCCESS) {
        apr_dir_remove(dir_of(state, store->name, p), p); /* else each request would leave one */
    }
    return rv;
}

static apr_status_t renew_line(const tus_state_t *state, apr_array_header_t *stores, int line,
                               likeness_e likeness, tus_state_store_t *store, apr_pool_t *p)
{
    tus_state_store_t known = APR_ARRAY_IDX(stores, line, tus_state_store_t);
    apr_status_t rv = make_dir(state, known.name, p);
    int i;

    store->name = known.name;
    if (rv != APR_SUCCESS && !APR_STATUS_IS_EEXIST(rv)) {
        return rv;
    }
    if (likeness == MOVED && still_leads(&known)) {
        likeness = SAME;
    }
    if (likeness == SAME && same_driver(known.driver, store->driver)) {
        return APR_SUCCESS;
    }
    if (likeness == RESTORED) {
        rv = tus_mark_drop(dir_of(state, known.name, p), p);
        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    if (likeness != SAME) {
        known.path = store->path;
        known.identity = store->identity;
    }
    known.driver = store->driver;
    for (i = line; i + 1 < stores->nelts; i++) {
        APR_ARRAY_IDX(stores, i, tus_state_store_t) =
            APR_ARRAY_IDX(stores, i + 1, tus_state_store_t);
    }
    APR_ARRAY_IDX(stores, i, tus_state_store_t) = known;
    return tus_registry_write(state->path, stores, p);
}

/* ---- the snapshot -------------------------------------------------------- */

static const char *key_of(const tus_state_store_t *store, apr_pool_t *p)
{
    return apr_psprintf(p, "%s %s %" APR_UINT64_T_FMT " %" APR_UINT64_T_FMT " %u %s",
                        store->provider, store->driver ? store->driver : "-",
                        store->identity.device, store->identity.inode, store->identity.owner,
                        store->path);
}

static void add_store(snapshot_t *snapshot, const tus_state_store_t *store, apr_time_t found)
{
    apr_pool_t *p = snapshot->pool;
    known_t *known = apr_pcalloc(p, sizeof(*known));
    inode_t *inode = apr_pcalloc(p, sizeof(*inode));

    known->store.name = apr_pstrdup(p, store->name);
    known->store.provider = apr_pstrdup(p, store->provider);
    known->store.driver = apr_pstrdup(p, store->driver);
    known->store.identity = store->identity;
    known->found = found;
    *inode = (inode_t){ store->identity.device, store->identity.inode };
    apr_hash_set(snapshot->stores, key_of(store, p), APR_HASH_KEY_STRING, known);
    apr_hash_set(snapshot->inodes, inode, sizeof(*inode), known);
}

/* Also with the words that the store was asked for by. The old one goes, so that none piles up. */
static void replace_snapshot(tus_state_t *state, const apr_array_header_t *stores,
                             const tus_state_store_t *asked)
{
    snapshot_t *old = state->snapshot, *snapshot;
    apr_pool_t *pool;
    int i;

    apr_pool_create(&pool, state->pool);
    snapshot = apr_pcalloc(pool, sizeof(*snapshot));
    snapshot->pool = pool;
    snapshot->stores = apr_hash_make(pool);
    snapshot->inodes = apr_hash_make(pool);
    for (i = 0; i < stores->nelts; i++) {
        add_store(snapshot, &APR_ARRAY_IDX(stores, i, tus_state_store_t), 0);
    }
    add_store(snapshot, asked, apr_time_now());
    apr_thread_mutex_lock(state->lock);
    state->snapshot = snapshot;
    apr_thread_mutex_unlock(state->lock);
    if (old) {
        apr_pool_destroy(old->pool);
    }
}

/* By all that is known of it, or NULL. It counts as found now. */
static const char *recall(tus_state_t *state, const tus_state_store_t *store, apr_pool_t *p)
{
    const char *key = key_of(store, p), *name = NULL;
    known_t *known = NULL;

    apr_thread_mutex_lock(state->lock);
    if (state->snapshot) {
        known = apr_hash_get(state->snapshot->stores, key, APR_HASH_KEY_STRING);
    }
    if (known) {
        known->found = apr_time_now();
        name = apr_pstrdup(p, known->store.name);
    }
    apr_thread_mutex_unlock(state->lock);
    return name;
}

static int is_recent(const known_t *known, const tus_state_store_t *store)
{
    apr_time_t age = apr_time_now() - known->found;

    return age >= 0 && age < RECENT && known->store.identity.owner == store->identity.owner
           && strcmp(known->store.provider, store->provider) == 0
           && same_driver(known->store.driver, store->driver);
}

const char *tus_state_recall(tus_state_t *state, const tus_state_store_t *store, apr_pool_t *p)
{
    const inode_t inode = { store->identity.device, store->identity.inode };
    const known_t *known = NULL;
    const char *dir = NULL;

    apr_thread_mutex_lock(state->lock);
    if (state->snapshot) {
        known = apr_hash_get(state->snapshot->inodes, &inode, sizeof(inode));
    }
    if (known && is_recent(known, store)) {
        dir = dir_of(state, known->store.name, p);
    }
    apr_thread_mutex_unlock(state->lock);
    return dir;
}

static apr_status_t find_or_make(tus_state_t *state, tus_state_store_t *store, apr_pool_t *p)
{
    apr_array_header_t *stores;
    likeness_e likeness;
    int line;
    apr_status_t rv = tus_registry_read(state->path, &stores, p);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    line = find_line(stores, store, &likeness);
    if (line < 0) {
        rv = add_line(state, stores, store, p);
    }
    else {
        rv = renew_line(state, stores, line, likeness, store, p);
    }
    if (rv == APR_SUCCESS) {
        replace_snapshot(state, stores, store);
    }
    return rv;
}

apr_status_t tus_state_store(tus_state_t *state, tus_state_store_t *store, const char **dir,
                             apr_pool_t *p)
{
    apr_status_t rv = APR_SUCCESS, unlock_rv;

    store->name = recall(state, store, p);
    if (!store->name) {
        rv = apr_global_mutex_lock(state->mutex);
        if (rv != APR_SUCCESS) {
            return rv;
        }
        rv = find_or_make(state, store, p);
        unlock_rv = apr_global_mutex_unlock(state->mutex);
        rv = rv == APR_SUCCESS ? unlock_rv : rv;
    }
    if (rv == APR_SUCCESS) {
        *dir = dir_of(state, store->name, p);
    }
    return rv;
}

apr_status_t tus_state_stores(tus_state_t *state, apr_array_header_t **stores, apr_pool_t *p)
{
    return tus_registry_read(state->path, stores, p);
}

/* ---- opening ------------------------------------------------------------- */

static apr_status_t check_dir(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return errno;
    }
    if (!S_ISDIR(st.st_mode) || (st.st_mode & (S_IWGRP | S_IWOTH))
        || (st.st_uid != geteuid() && st.st_uid != 0)) {
        return TUS_EREFUSED;
    }
    return APR_SUCCESS;
}

/* An allocator of its own, as other threads use p's meanwhile. */
static apr_status_t make_pool(apr_pool_t **pool, apr_pool_t *p)
{
    apr_allocator_t *allocator;
    apr_status_t rv = apr_allocator_create(&allocator);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_pool_create_ex(pool, p, NULL, allocator);
    if (rv != APR_SUCCESS) {
        apr_allocator_destroy(allocator);
        return rv;
    }
    apr_allocator_owner_set(allocator, *pool);
    return APR_SUCCESS;
}

apr_status_t tus_state_open(tus_state_t **state, const char *path, apr_global_mutex_t *mutex,
                            apr_pool_t *p)
{
    tus_state_t *result;
    apr_pool_t *pool;
    apr_status_t rv = check_dir(path);

    if (rv == APR_SUCCESS) {
        rv = make_pool(&pool, p);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    result = apr_pcalloc(pool, sizeof(*result));
    result->pool = pool;
    result->path = apr_pstrdup(pool, path);
    result->mutex = mutex;
    rv = apr_thread_mutex_create(&result->lock, APR_THREAD_MUTEX_DEFAULT, pool);
    if (rv == APR_SUCCESS) {
        *state = result;
    }
    return rv;
}
