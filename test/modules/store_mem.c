/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The data store "mem". All uploads of all stores are in one hash, known by
 * store and id, and one mutex guards it. A writer keeps no pointer to the data:
 * it is looked up each time, so that it may be gone.
 */
#include "store_mem.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Half a name in ASCII: a device that no file system has. */
#define DEVICE APR_UINT64_C(0x6d656d6d656d)

typedef struct data_t {
    char *bytes;
    apr_size_t size;
    apr_size_t room;
    apr_time_t modified;
    int confirmed;
} data_t;

typedef struct mem_store_t {
    tus_store_t base;
    const char *path; /* only a name */
} mem_store_t;

struct tus_writer_t {
    const mem_store_t *store;
    const char *id;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static apr_pool_t *pool; /* of the hash and its keys */
static apr_hash_t *uploads;

static const mem_store_t *of(const tus_store_t *store)
{
    return (const mem_store_t *)store;
}

/* ---- with the mutex held ------------------------------------------------- */

static const char *key_of(const char *path, const char *id, apr_pool_t *p)
{
    return apr_pstrcat(p, path, "\n", id, NULL);
}

static apr_status_t make_hash(void)
{
    apr_status_t rv = uploads ? APR_SUCCESS : apr_pool_create(&pool, NULL);

    if (rv == APR_SUCCESS && !uploads) {
        uploads = apr_hash_make(pool);
    }
    return rv;
}

/* The data, or NULL; the key is made in a pool that is gone on return. */
static data_t *find(const char *path, const char *id)
{
    apr_pool_t *p;
    data_t *data;

    if (!uploads || apr_pool_create(&p, pool) != APR_SUCCESS) {
        return NULL;
    }
    data = apr_hash_get(uploads, key_of(path, id, p), APR_HASH_KEY_STRING);
    apr_pool_destroy(p);
    return data;
}

/* Nonzero if `path` is `dir` or lies below it. */
static int is_within(const char *path, const char *dir)
{
    apr_size_t len = strlen(dir);

    return !strncmp(path, dir, len) && (!path[len] || path[len] == '/');
}

/* Ids are paths: none may be a directory of another. */
static int is_taken(const char *key)
{
    apr_hash_index_t *index;

    for (index = apr_hash_first(NULL, uploads); index; index = apr_hash_next(index)) {
        const char *other = apr_hash_this_key(index);

        if (is_within(other, key) || is_within(key, other)) {
            return 1;
        }
    }
    return 0;
}

static apr_status_t insert(const char *path, const char *id)
{
    const char *key;
    data_t *data;

    if (make_hash() != APR_SUCCESS) {
        return APR_ENOMEM;
    }
    key = key_of(path, id, pool);
    if (is_taken(key)) {
        return APR_EEXIST;
    }
    data = calloc(1, sizeof *data);
    if (!data) {
        return APR_ENOMEM;
    }
    data->modified = apr_time_now();
    apr_hash_set(uploads, key, APR_HASH_KEY_STRING, data);
    return APR_SUCCESS;
}

static void forget(const char *path, const char *id)
{
    data_t *data = find(path, id);

    if (data && !data->confirmed) {
        apr_hash_set(uploads, key_of(path, id, pool), APR_HASH_KEY_STRING, NULL);
        free(data->bytes);
        free(data);
    }
}

static apr_status_t grow(data_t *data, apr_size_t size)
{
    apr_size_t room = data->room ? data->room : 4096;
    char *bytes;

    while (room < size) {
        room *= 2;
    }
    if (room == data->room) {
        return APR_SUCCESS;
    }
    bytes = realloc(data->bytes, room);
    if (!bytes) {
        return APR_ENOMEM;
    }
    data->bytes = bytes;
    data->room = room;
    return APR_SUCCESS;
}

static apr_status_t append(data_t *data, apr_off_t offset, const char *bytes, apr_size_t len)
{
    apr_status_t rv;

    if (offset != (apr_off_t)data->size) {
        return APR_EINVAL;
    }
    rv = grow(data, data->size + len);
    if (rv == APR_SUCCESS && len) {
        memcpy(data->bytes + data->size, bytes, len);
        data->size += len;
        data->modified = apr_time_now();
    }
    return rv;
}

/* ---- opening ------------------------------------------------------------- */

/* FNV-1a; never 0, which would be no inode. */
static apr_uint64_t hash(const char *text)
{
    apr_uint64_t sum = APR_UINT64_C(0xcbf29ce484222325);

    for (; *text; text++) {
        sum = (sum ^ (unsigned char)*text) * APR_UINT64_C(0x100000001b3);
    }
    return sum | 1;
}

static const char *place_path(const tus_place_t *place, apr_pool_t *p)
{
    if (!place->root) {
        return apr_pstrdup(p, place->path);
    }
    return apr_pstrcat(p, strcmp(place->root, "/") ? place->root : "", "/", place->path, NULL);
}

static apr_status_t mem_open(tus_store_t **result, const tus_place_t *place, apr_pool_t *p)
{
    mem_store_t *store = apr_pcalloc(p, sizeof *store);

    store->path = place_path(place, p);
    store->base.provider = &store_mem;
    store->base.identity.device = DEVICE;
    store->base.identity.inode = hash(store->path);
    store->base.identity.owner = geteuid();
    *result = &store->base;
    return APR_SUCCESS;
}

static apr_status_t mem_path(tus_store_t *store, const char **path, apr_pool_t *p)
{
    *path = apr_pstrdup(p, of(store)->path);
    return APR_SUCCESS;
}

/* ---- writing ------------------------------------------------------------- */

static tus_writer_t *make_writer(tus_store_t *store, const char *id, apr_pool_t *p)
{
    tus_writer_t *writer = apr_pcalloc(p, sizeof *writer);

    writer->store = of(store);
    writer->id = apr_pstrdup(p, id);
    return writer;
}

/* There is no elsewhere. */
static apr_status_t mem_locate(tus_store_t *store, tus_record_t *record, apr_pool_t *p)
{
    (void)store;
    (void)p;
    record->storage_type = "memstore";
    record->storage_path = NULL;
    record->storage_info_path = NULL;
    return APR_SUCCESS;
}

static apr_status_t mem_create(tus_store_t *store, const tus_record_t *record,
                               tus_writer_t **writer, apr_pool_t *p)
{
    apr_status_t rv;

    if (record->storage_path) {
        return TUS_EREFUSED;
    }
    pthread_mutex_lock(&mutex);
    rv = insert(of(store)->path, record->id);
    pthread_mutex_unlock(&mutex);
    if (rv == APR_SUCCESS) {
        *writer = make_writer(store, record->id, p);
    }
    return rv;
}

static apr_status_t mem_confirm(tus_writer_t *writer)
{
    data_t *data;

    pthread_mutex_lock(&mutex);
    data = find(writer->store->path, writer->id);
    if (data) {
        data->confirmed = 1;
    }
    pthread_mutex_unlock(&mutex);
    return data ? APR_SUCCESS : APR_ENOENT;
}

static apr_status_t mem_discard(tus_store_t *store, const char *id)
{
    pthread_mutex_lock(&mutex);
    forget(of(store)->path, id);
    pthread_mutex_unlock(&mutex);
    return APR_SUCCESS;
}

static apr_status_t look(const mem_store_t *store, const char *id, apr_off_t *size,
                         apr_time_t *modified)
{
    const data_t *data;

    pthread_mutex_lock(&mutex);
    data = find(store->path, id);
    if (data) {
        *size = (apr_off_t)data->size;
        *modified = data->modified;
    }
    pthread_mutex_unlock(&mutex);
    return data ? APR_SUCCESS : APR_ENOENT;
}

static apr_status_t mem_resume(tus_store_t *store, const tus_record_t *record,
                               tus_writer_t **writer, apr_pool_t *p)
{
    apr_off_t size;
    apr_time_t modified;
    apr_status_t rv = look(of(store), record->id, &size, &modified);

    if (rv == APR_SUCCESS) {
        *writer = make_writer(store, record->id, p);
    }
    return rv;
}

static apr_status_t mem_written(tus_writer_t *writer, apr_off_t *size, apr_time_t *modified)
{
    return look(writer->store, writer->id, size, modified);
}

static apr_status_t mem_write(tus_writer_t *writer, apr_off_t offset, const char *bytes,
                              apr_size_t len, apr_size_t *done)
{
    apr_status_t rv = APR_ENOENT;
    data_t *data;

    pthread_mutex_lock(&mutex);
    data = find(writer->store->path, writer->id);
    if (data) {
        rv = append(data, offset, bytes, len);
    }
    pthread_mutex_unlock(&mutex);
    *done = rv == APR_SUCCESS ? len : 0;
    return rv;
}

/* There is no storage more stable than this. */
static apr_status_t mem_flush(tus_writer_t *writer)
{
    (void)writer;
    return APR_SUCCESS;
}

static apr_status_t mem_close(tus_writer_t *writer)
{
    (void)writer;
    return APR_SUCCESS;
}

/* ---- reading ------------------------------------------------------------- */

static apr_status_t mem_size(tus_store_t *store, const tus_record_t *record, apr_off_t *size,
                             apr_time_t *modified)
{
    return look(of(store), record->id, size, modified);
}

apr_status_t store_mem_copy(const char *path, const char *id, const char **bytes, apr_size_t *len,
                            apr_pool_t *p)
{
    const data_t *data;

    pthread_mutex_lock(&mutex);
    data = find(path, id);
    if (data) {
        *bytes = apr_pmemdup(p, data->size ? data->bytes : "", data->size);
        *len = data->size;
    }
    pthread_mutex_unlock(&mutex);
    return data ? APR_SUCCESS : APR_ENOENT;
}

const tus_store_provider_t store_mem = { .name = "mem",
                                         .open = mem_open,
                                         .path = mem_path,
                                         .create = mem_create,
                                         .locate = mem_locate,
                                         .confirm = mem_confirm,
                                         .discard = mem_discard,
                                         .resume = mem_resume,
                                         .written = mem_written,
                                         .write = mem_write,
                                         .flush = mem_flush,
                                         .close = mem_close,
                                         .size = mem_size };
