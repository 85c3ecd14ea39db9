/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Three lines are an id, Storage.Path and Storage.InfoPath; an empty path is absent. */
#include "fuzz.h"

#include <limits.h>
#include <string.h>

static int ends_with(const char *text, const char *end)
{
    apr_size_t len = text ? strlen(text) : 0, end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static int is_mark(const char *mark)
{
    return strlen(mark) == 16 && strspn(mark, "0123456789abcdef") == 16;
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    tus_record_t record = { .id = fuzz_line(&data, &len, p) };
    const char *path = fuzz_line(&data, &len, p), *info = fuzz_line(&data, &len, p);
    const char *name, *again;
    apr_status_t rv;

    if (!tus_id_is_valid(record.id)) {
        return;
    }
    record.storage_path = *path ? path : NULL;
    record.storage_info_path = *info ? info : NULL;
    rv = tus_storage_name(&record, &name);
    if (rv != APR_SUCCESS) {
        HOLDS(rv == TUS_EREFUSED);
        return;
    }
    HOLDS(strlen(name) < PATH_MAX && fuzz_is_name(name, NAME_MAX));
    HOLDS(strcmp(name, record.id) == 0 || ends_with(record.storage_path, name));
    HOLDS(is_mark(tus_storage_mark(name, p)));

    /* A name beneath the store leads to itself. */
    record.storage_path = name;
    record.storage_info_path = NULL;
    HOLDS(tus_storage_name(&record, &again) == APR_SUCCESS);
    HOLDS(strcmp(again, name) == 0 || strcmp(again, record.id) == 0);
}
