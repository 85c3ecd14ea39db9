/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The index of a store: an apr_dbm database in its state directory.
 *
 *   index.*     key: tus_id_key(); value: the entry's JSON, or "-" once the upload
 *               is gone
 *   index.ids   a line "=ID" for each key
 *
 * They are opened, used and closed under the mutex, and only while the mark
 * (tus_mark.c) vouches for them.
 *
 * The ids are what a walk goes by. A walk by key would be one long look at
 * files under the mutex, and with sdbm at every page of a file whose holes grow
 * to a thousand times its size.
 */
#include "tus_words.h"

#include <apr_dbm.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * sdbm splits a page of 1024 bytes until the new pair fits. Three pairs a page
 * at the least keep its tree shallow; with one, its 32 bits of hash run out.
 */
#define VALUE_MAX 240

/* sdbm takes note of 4 KiB more of its .dir file when that grew by far more, and loses keys. */
#define SDBM_DIR_SIZE (64 * 1024 * 1024)

#define GONE "-"

#define HOLD_MAX apr_time_from_msec(50)
#define HOLD_CHECK 64 /* entries between two looks at the clock */

/* The index while the mutex is held. */
typedef struct index_t {
    const tus_meta_place_t *place;
    apr_pool_t *pool;
    apr_dbm_t *dbm;
    tus_mark_t mark;
} index_t;

/* ---- drivers ------------------------------------------------------------- */

const char *tus_index_check_driver(const char *driver, apr_pool_t *p)
{
    const char *known = tus_mark_driver(driver);
    const char *one, *two;

    if (!known) {
        return apr_psprintf(p,
                            "there is no dbm driver \"%s\"; it can be sdbm (the default), gdbm"
                            " or db",
                            driver);
    }
    if (apr_dbm_get_usednames_ex(p, known, "index", &one, &two) != APR_SUCCESS) {
        return apr_psprintf(p,
                            "the dbm driver \"%s\" is not in this build of APR-util; sdbm"
                            " always is",
                            known);
    }
    return NULL;
}

apr_status_t tus_index_judge(const tus_meta_place_t *place, apr_pool_t *p)
{
    tus_mark_t mark;
    apr_status_t rv = tus_mark_read(place, &mark, p);

    if (rv == TUS_EDAMAGED) {
        return tus_mark_is_of_now(place, p) ? TUS_EDAMAGED : APR_NOTFOUND;
    }
    /* So a rebuild costs less than one more look at an upload for each that went. */
    return rv == APR_SUCCESS && mark.lines > 2 * mark.live + 1000 ? APR_NOTFOUND : rv;
}

/* ---- open and close ------------------------------------------------------ */

/* Takes the mutex. On failure everything is closed again. */
static apr_status_t index_open(index_t *index, const tus_meta_place_t *place, apr_int32_t mode,
                               apr_pool_t *p)
{
    const char *driver = tus_mark_driver(place->driver);
    const char *path = apr_pstrcat(p, place->state_dir, "/index.", driver, NULL);
    apr_status_t rv;

    *index = (index_t){ .place = place, .pool = p };
    if (!driver) {
        return APR_EINVAL;
    }
    rv = apr_global_mutex_lock(place->mutex);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = mode == APR_DBM_RWCREATE ? APR_SUCCESS : tus_mark_read(place, &index->mark, p);
    if (rv == APR_SUCCESS && mode != APR_DBM_READONLY) {
        rv = tus_mark_drop(place->state_dir, p);
    }
    if (rv == APR_SUCCESS) {
        rv =
            apr_dbm_open_ex(&index->dbm, driver, path, mode, APR_FPROT_UREAD | APR_FPROT_UWRITE, p);
    }
    if (rv != APR_SUCCESS) {
        apr_global_mutex_unlock(place->mutex);
    }
    return rv;
}

/* Where a change failed there will be no mark. */
static apr_status_t index_close(index_t *index, apr_status_t rv, int changed)
{
    apr_status_t unlock_rv;

    apr_dbm_close(index->dbm);
    if (rv == APR_SUCCESS && changed) {
        rv = tus_mark_write(index->place, &index->mark, index->pool);
    }
    unlock_rv = apr_global_mutex_unlock(index->place->mutex);
    return rv == APR_SUCCESS ? unlock_rv : rv;
}

static apr_status_t grow(const tus_meta_place_t *place, const char *name, off_t size, apr_pool_t *p)
{
    int fd = open(apr_pstrcat(p, place->state_dir, "/", name, NULL), O_WRONLY | O_CREAT | O_CLOEXEC,
                  S_IRUSR | S_IWUSR);
    apr_status_t rv;

    if (fd < 0) {
        return errno;
    }
    rv = ftruncate(fd, size) == 0 ? APR_SUCCESS : errno;
    close(fd);
    return rv;
}

static apr_status_t locked(const tus_meta_place_t *place,
                           apr_status_t (*fn)(const tus_meta_place_t *, apr_pool_t *),
                           apr_pool_t *p)
{
    apr_status_t unlock_rv, rv = apr_global_mutex_lock(place->mutex);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = fn(place, p);
    unlock_rv = apr_global_mutex_unlock(place->mutex);
    return rv == APR_SUCCESS ? unlock_rv : rv;
}

static apr_status_t discard(const tus_meta_place_t *place, apr_pool_t *p)
{
    return tus_mark_drop(place->state_dir, p);
}

apr_status_t tus_index_discard(const tus_meta_place_t *place, apr_pool_t *p)
{
    return locked(place, discard, p);
}

/* By removing: APR_DBM_RWTRUNC fails with db. */
apr_status_t tus_index_reset(const tus_meta_place_t *place, apr_pool_t *p)
{
    index_t index;
    apr_status_t rv = locked(place, tus_mark_clear, p);

    if (rv == APR_SUCCESS) {
        rv = index_open(&index, place, APR_DBM_RWCREATE, p);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = grow(place, TUS_INDEX_LIST, 0, p);
    if (rv == APR_SUCCESS && strcmp(tus_mark_driver(place->driver), "sdbm") == 0) {
        rv = grow(place, "index.sdbm.dir", SDBM_DIR_SIZE, p);
    }
    return index_close(&index, rv, 1);
}

static apr_status_t complete(const tus_meta_place_t *place, apr_pool_t *p)
{
    tus_mark_t mark;
    apr_status_t rv = tus_mark_read(place, &mark, p);

    if (rv == APR_SUCCESS) {
        rv = tus_mark_drop(place->state_dir, p);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_rebuild_end(place->state_dir, p);
    }
    return rv == APR_SUCCESS ? tus_mark_write(place, &mark, p) : rv;
}

apr_status_t tus_index_complete(const tus_meta_place_t *place, apr_pool_t *p)
{
    return locked(place, complete, p);
}

static const char *list_path(const tus_meta_place_t *place, apr_pool_t *p)
{
    return apr_pstrcat(p, place->state_dir, "/" TUS_INDEX_LIST, NULL);
}

/* ---- writing ------------------------------------------------------------- */

static const char *key_of(const char *id, apr_pool_t *p)
{
    return tus_id_key(id, apr_palloc(p, TUS_ID_KEY_SIZE));
}

/* Less of the file name, whole UTF-8 characters of it. */
static const char *shorten(const char *filename, apr_pool_t *p)
{
    apr_size_t len = strlen(filename) / 2;

    while (len > 0 && ((unsigned char)filename[len] & 0xc0) == 0x80) {
        len--;
    }
    return len > 0 ? apr_pstrmemdup(p, filename, len) : NULL;
}

static apr_status_t format_value(apr_datum_t *value, const tus_entry_t *given, const char *key,
                                 apr_pool_t *p)
{
    tus_entry_t entry = *given;
    const char *json;
    apr_size_t len;

    entry.id = key;
    for (;;) {
        apr_status_t rv = tus_entry_format(&entry, &json, &len, p);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        if (len <= VALUE_MAX) {
            *value = (apr_datum_t){ .dptr = (char *)json, .dsize = len };
            return APR_SUCCESS;
        }
        if (entry.filename) {
            entry.filename = shorten(entry.filename, p);
        }
        else if (entry.owner) {
            entry.owner = NULL;
        }
        else {
            return APR_EINVAL;
        }
    }
}

/* A key stays when its upload goes: so each has one line in the list, also if it comes back. */
static apr_status_t change_entry(index_t *index, const tus_index_change_t *change,
                                 apr_array_header_t *lines)
{
    apr_pool_t *p = lines->pool;
    const char *text = key_of(change->id, p);
    apr_datum_t key = { .dptr = (char *)text, .dsize = strlen(text) };
    apr_datum_t value = { .dptr = (char *)GONE, .dsize = strlen(GONE) };
    apr_datum_t old = { 0 };
    int known, live;
    apr_status_t rv = apr_dbm_fetch(index->dbm, key, &old);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    known = old.dptr != NULL;
    live = known && old.dsize > strlen(GONE);
    apr_dbm_freedatum(index->dbm, old);
    if (change->entry) {
        rv = format_value(&value, change->entry, text, p);
    }
    else if (!live) {
        return APR_SUCCESS;
    }
    if (rv == APR_SUCCESS) {
        rv = apr_dbm_store(index->dbm, key, value);
    }
    if (rv == APR_SUCCESS && !known) {
        APR_ARRAY_PUSH(lines, const char *) = apr_pstrcat(p, "=", change->id, "\n", NULL);
    }
    index->mark.live += (change->entry != NULL) - live;
    return rv;
}

static apr_status_t append_lines(index_t *index, apr_array_header_t *lines)
{
    const char *text = apr_array_pstrcat(lines->pool, lines, 0);
    apr_size_t done;
    apr_status_t rv;
    struct stat st;
    int fd = open(list_path(index->place, lines->pool), O_WRONLY | O_CLOEXEC);

    if (fd < 0) {
        return errno;
    }
    rv = fstat(fd, &st) == 0 ? tus_beneath_write(fd, st.st_size, text, strlen(text), &done) : errno;
    close(fd);
    index->mark.lines += lines->nelts;
    return rv;
}

/* As many changes as there is time for. */
static apr_status_t write_some(const tus_meta_place_t *place, const apr_array_header_t *changes,
                               int *next, apr_pool_t *p)
{
    apr_array_header_t *lines = apr_array_make(p, changes->nelts, sizeof(const char *));
    index_t index;
    apr_status_t rv = index_open(&index, place, APR_DBM_READWRITE, p);
    apr_time_t deadline = apr_time_now() + HOLD_MAX;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    while (rv == APR_SUCCESS && *next < changes->nelts) {
        rv = change_entry(&index, &APR_ARRAY_IDX(changes, *next, tus_index_change_t), lines);
        *next += 1;
        if (*next % HOLD_CHECK == 0 && apr_time_now() >= deadline) {
            break;
        }
    }
    if (rv == APR_SUCCESS && lines->nelts > 0) {
        rv = append_lines(&index, lines);
    }
    return index_close(&index, rv, 1);
}

apr_status_t tus_index_write(const tus_meta_place_t *place, const apr_array_header_t *changes,
                             apr_pool_t *p)
{
    apr_status_t rv = APR_SUCCESS;
    apr_pool_t *phold;
    int next = 0;

    apr_pool_create(&phold, p);
    while (rv == APR_SUCCESS && next < changes->nelts) {
        apr_pool_clear(phold);
        rv = write_some(place, changes, &next, phold);
    }
    apr_pool_destroy(phold);
    return rv;
}

/* ---- reading ------------------------------------------------------------- */

/* The values of these ids as they are, under the mutex. */
static apr_status_t fetch_values(const tus_meta_place_t *place, const apr_array_header_t *noted,
                                 apr_datum_t *values, apr_pool_t *p)
{
    index_t index;
    apr_status_t rv = index_open(&index, place, APR_DBM_READONLY, p);
    int i;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    for (i = 0; i < noted->nelts && rv == APR_SUCCESS; i++) {
        const char *text = key_of(APR_ARRAY_IDX(noted, i, tus_noted_t).id, p);
        apr_datum_t key = { .dptr = (char *)text, .dsize = strlen(text) };
        apr_datum_t value = { 0 };

        rv = apr_dbm_fetch(index.dbm, key, &value);
        if (rv == APR_SUCCESS && value.dptr) {
            values[i].dptr = apr_pmemdup(p, value.dptr, value.dsize);
            values[i].dsize = value.dsize;
            apr_dbm_freedatum(index.dbm, value);
        }
    }
    return index_close(&index, rv, 0);
}

/* Hands out one block of the list. What cannot be read is skipped. */
static apr_status_t walk_block(const tus_meta_place_t *place, const apr_array_header_t *noted,
                               tus_entry_fn fn, void *baton, apr_pool_t *p)
{
    apr_datum_t *values = apr_pcalloc(p, (apr_size_t)noted->nelts * sizeof(*values) + 1);
    apr_status_t rv = fetch_values(place, noted, values, p);
    int i;

    for (i = 0; i < noted->nelts && rv == APR_SUCCESS; i++) {
        const char *id = APR_ARRAY_IDX(noted, i, tus_noted_t).id;
        tus_entry_t entry;

        if (values[i].dptr
            && tus_entry_parse(&entry, values[i].dptr, values[i].dsize, p) == APR_SUCCESS
            && strcmp(entry.id, key_of(id, p)) == 0) {
            entry.id = id;
            rv = fn(baton, &entry);
        }
    }
    return rv;
}

apr_status_t tus_index_walk(const tus_meta_place_t *place, tus_entry_fn fn, void *baton,
                            apr_pool_t *p)
{
    apr_off_t offset = 0, before;
    apr_array_header_t *noted;
    apr_pool_t *pblock;
    apr_status_t rv;
    int fd = open(list_path(place, p), O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return errno == ENOENT ? TUS_EDAMAGED : errno;
    }
    apr_pool_create(&pblock, p);
    do {
        apr_pool_clear(pblock);
        before = offset;
        rv = tus_journal_read(fd, &offset, &noted, pblock);
        if (rv == APR_SUCCESS) {
            rv = walk_block(place, noted, fn, baton, pblock);
        }
    } while (rv == APR_SUCCESS && offset > before);
    apr_pool_destroy(pblock);
    close(fd);
    return rv;
}
