/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is an entry of the index; and its lines are an id, an owner and a file name. */
#include "fuzz.h"

#include <string.h>

#define ENTRY_MAX 899
#define BARE_MAX 234

static void compare(const tus_entry_t *entry, const tus_entry_t *again)
{
    HOLDS(fuzz_same(again->id, entry->id) && again->size == entry->size);
    HOLDS(again->created == entry->created && again->finished == entry->finished);
    HOLDS(again->expire == entry->expire && again->expired == entry->expired);
    HOLDS(again->is_partial == entry->is_partial && again->is_final == entry->is_final);
    HOLDS(fuzz_same(again->data, entry->data));
    HOLDS(!again->owner || fuzz_same(again->owner, entry->owner));
    HOLDS(!again->filename
          || strncmp(again->filename, entry->filename, strlen(again->filename)) == 0);
}

/* Parsed, formatted and parsed it says the same, but for what did not fit. */
static void parse(const char *data, apr_size_t len, apr_pool_t *p)
{
    tus_entry_t entry, again;
    const char *json, *json_again;
    apr_size_t size, size_again;

    if (tus_entry_parse(&entry, data, len, p) != APR_SUCCESS) {
        return;
    }
    HOLDS(tus_id_is_valid(entry.id) && entry.size >= TUS_SIZE_UNKNOWN);
    HOLDS(entry.created >= 0 && entry.finished >= 0 && entry.expire >= 0 && entry.expired >= 0);
    HOLDS(tus_entry_format(&entry, &json, &size, p) == APR_SUCCESS && size <= ENTRY_MAX);
    HOLDS(tus_entry_parse(&again, json, size, p) == APR_SUCCESS);
    compare(&entry, &again);
    HOLDS(tus_entry_format(&again, &json_again, &size_again, p) == APR_SUCCESS);
    HOLDS(size_again == size && memcmp(json_again, json, size) == 0);
}

/* Any bytes can stand there; they may be left out, and what matters never is. */
static void format(const char *id, const char *owner, const char *filename, apr_pool_t *p)
{
    tus_entry_t entry = { .id = id,
                          .size = APR_INT64_MAX,
                          .created = APR_INT64_MAX,
                          .finished = APR_INT64_MAX,
                          .is_partial = 1,
                          .is_final = 1,
                          .owner = owner,
                          .filename = filename,
                          .expire = APR_INT64_MAX,
                          .expired = APR_INT64_MAX };
    tus_entry_t again;
    const char *json;
    apr_size_t len;

    entry.data = tus_storage_mark(filename, p);
    if (tus_entry_format(&entry, &json, &len, p) != APR_SUCCESS) {
        HOLDS(!tus_id_is_valid(id) || strlen(id) > 64);
        return;
    }
    HOLDS(len <= ENTRY_MAX && tus_entry_parse(&again, json, len, p) == APR_SUCCESS);
    HOLDS(fuzz_same(again.id, id) && fuzz_same(again.data, entry.data));
    HOLDS(again.size == entry.size && again.expired == entry.expired);
    entry.owner = entry.filename = NULL;
    HOLDS(strlen(id) > 64
          || (tus_entry_format(&entry, &json, &len, p) == APR_SUCCESS && len <= BARE_MAX));
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *id, *owner, *filename;

    parse(data, len, p);
    id = fuzz_line(&data, &len, p);
    owner = fuzz_line(&data, &len, p);
    filename = fuzz_line(&data, &len, p);
    format(id, owner, filename, p);
}
