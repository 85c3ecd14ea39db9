/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Prints the index of a store, one JSON object a line:
 *
 *   tus_index_dump STATE_STORE_DIR [DRIVER]
 *
 * "size" is null while it is deferred, "state" is "open" or "finished", times
 * are microseconds since 1970 or null. Exit status 1 if there is no usable
 * index. It may run beside a server, without the server's mutex: sdbm has locks
 * of its own, and an index that is being written is waited for.
 */
#include "../src/tus_words.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>

#define PATIENCE apr_time_from_msec(300)
#define INTERVAL apr_time_from_msec(5)

static json_t *time_or_null(apr_time_t time)
{
    return time ? json_integer(time) : json_null();
}

static json_t *size_or_null(apr_off_t size)
{
    return size == TUS_SIZE_UNKNOWN ? json_null() : json_integer(size);
}

/* json_pack() has no format for a string that may be NULL and then is null, in old jansson. */
static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static apr_status_t add_entry(void *baton, const tus_entry_t *entry)
{
    json_t *json = json_pack(
        "{s:s, s:o, s:s, s:o, s:o, s:b, s:b, s:o, s:o}", "id", entry->id, "size",
        size_or_null(entry->size), "state", entry->finished ? "finished" : "open", "created",
        time_or_null(entry->created), "finished", time_or_null(entry->finished), "partial",
        entry->is_partial, "final", entry->is_final, "owner", text_or_null(entry->owner),
        "filename", text_or_null(entry->filename));

    return json_array_append_new(baton, json) == 0 ? APR_SUCCESS : APR_EGENERAL;
}

static apr_status_t read_entries(json_t *entries, const tus_meta_place_t *place, apr_pool_t *p)
{
    apr_time_t deadline = apr_time_now() + PATIENCE;
    tus_meta_t *meta;
    apr_status_t rv = tus_meta_dbm.open(&meta, place, p);

    while (rv == APR_SUCCESS) {
        json_array_clear(entries);
        rv = tus_meta_dbm.walk(meta, add_entry, entries, p);
        if (rv == APR_SUCCESS || apr_time_now() >= deadline) {
            return rv;
        }
        apr_sleep(INTERVAL);
        rv = APR_SUCCESS;
    }
    return rv;
}

static void print_entries(const json_t *entries)
{
    apr_size_t i;

    for (i = 0; i < json_array_size(entries); i++) {
        json_dumpf(json_array_get(entries, i), stdout, JSON_COMPACT);
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    tus_meta_place_t place = { .info_dir = -1 };
    json_t *entries = json_array();
    apr_pool_t *p;
    apr_status_t rv;
    char why[200];

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s STATE_STORE_DIR [DRIVER]\n", argv[0]);
        return 2;
    }
    apr_initialize();
    atexit(apr_terminate);
    apr_pool_create(&p, NULL);
    place.state_dir = argv[1];
    place.driver = argc > 2 ? argv[2] : NULL;
    rv = apr_global_mutex_create(&place.mutex, NULL, APR_LOCK_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        rv = read_entries(entries, &place, p);
    }
    if (rv == TUS_EDAMAGED) {
        fprintf(stderr, "%s: no usable index\n", argv[1]);
    }
    else if (rv != APR_SUCCESS) {
        fprintf(stderr, "%s: %s\n", argv[1], apr_strerror(rv, why, sizeof(why)));
    }
    else {
        print_entries(entries);
    }
    json_decref(entries);
    return rv == APR_SUCCESS ? 0 : 1;
}
