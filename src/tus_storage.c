/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Where a record says that its data lies. Storage is what another program, or
 * the owner of the store, wrote: of its paths only what follows the store's own
 * counts, and only if it stays there.
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <limits.h>
#include <string.h>
#include <strings.h>

#define INFO ".info"
#define MARK_BYTES 8

/* Stricter than the kernel, and than ids only where those would be records or our own. */
static int is_segment(const char *segment, apr_size_t len)
{
    const apr_size_t info = sizeof(INFO) - 1;

    if (len < 1 || len > NAME_MAX || segment[0] == '.') {
        return 0;
    }
    return len < info || strncasecmp(segment + len - info, INFO, info) != 0;
}

static int is_name(const char *name)
{
    if (strlen(name) >= PATH_MAX) {
        return 0;
    }
    for (;;) {
        apr_size_t len = strcspn(name, "/");

        if (!is_segment(name, len)) {
            return 0;
        }
        if (name[len] == '\0') {
            return 1;
        }
        name += len + 1;
    }
}

/* What of the text is left without that end, or -1. */
static apr_ssize_t without_end(const char *text, apr_size_t len, const char *end)
{
    apr_size_t end_len = strlen(end);

    if (len < end_len || memcmp(text + len - end_len, end, end_len) != 0) {
        return -1;
    }
    return (apr_ssize_t)(len - end_len);
}

/* Bytes of the path without "/" and the id, or -1. An id alone lies in "", the working directory.
 */
static apr_ssize_t store_of(const char *path, apr_size_t len, const char *id)
{
    apr_ssize_t left = without_end(path, len, id);

    if (left > 0) {
        return path[left - 1] == '/' ? left - 1 : -1;
    }
    return left;
}

/* What of the path follows the store, whose own path InfoPath tells; NULL if it lies elsewhere. */
static const char *beneath_store(const tus_record_t *record)
{
    const char *path = record->storage_path, *info = record->storage_info_path;
    apr_ssize_t store = without_end(info, strlen(info), INFO);

    if (store >= 0) {
        store = store_of(info, (apr_size_t)store, record->id);
    }
    if (store < 0) {
        return NULL;
    }
    if (store == 0 && info[0] != '/') {
        return path;
    }
    if (strncmp(path, info, (apr_size_t)store) != 0 || path[store] != '/') {
        return NULL;
    }
    return path + store + 1;
}

static const char *find_name(const tus_record_t *record)
{
    const char *path = record->storage_path;

    if (!path || !*path) {
        return record->id;
    }
    if (record->storage_info_path && *record->storage_info_path) {
        return beneath_store(record);
    }
    return store_of(path, strlen(path), record->id) >= 0 ? record->id : path;
}

apr_status_t tus_storage_name(const tus_record_t *record, const char **name)
{
    const char *found = find_name(record);

    if (!found || !is_name(found)) {
        return TUS_EREFUSED;
    }
    *name = found;
    return APR_SUCCESS;
}

const char *tus_storage_mark(const char *name, apr_pool_t *p)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;

    apr_sha1_init(&sha1);
    apr_sha1_update_binary(&sha1, (const unsigned char *)name, (unsigned)strlen(name));
    apr_sha1_final(digest, &sha1);
    return apr_pescape_hex(p, digest, MARK_BYTES, 0);
}
