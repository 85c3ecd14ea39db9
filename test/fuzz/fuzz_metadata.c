/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is Upload-Metadata. */
#include "fuzz.h"

#include <string.h>

static int is_key(const char *key)
{
    return *key && !strpbrk(key, " ,\t") && fuzz_is_header(key);
}

static void compare(const apr_array_header_t *pairs, const apr_array_header_t *again)
{
    int i;

    HOLDS(again->nelts == pairs->nelts);
    for (i = 0; i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);
        const tus_pair_t *other = tus_metadata_get(again, pair->key);

        HOLDS(is_key(pair->key));
        HOLDS(tus_metadata_get(pairs, pair->key) == pair); /* no key is there twice */
        HOLDS(pair->value[pair->len] == '\0');
        HOLDS(other && other->len == pair->len && !memcmp(other->value, pair->value, pair->len));
    }
}

/* Whatever the header was, its record can be written, and has the same bytes. */
static void keep(const char *header, apr_array_header_t *pairs, apr_pool_t *p)
{
    tus_record_t record = {
        .id = "x", .pairs = pairs, .metadata = header, .ours = 1, .created = 1
    };
    tus_record_t *again;
    const char *json;
    apr_size_t len;

    HOLDS(tus_record_format(&record, &json, &len, p) == APR_SUCCESS);
    HOLDS(tus_record_parse(&again, json, len, p) == APR_SUCCESS);
    HOLDS(fuzz_same(again->metadata, header));
    compare(pairs, again->pairs);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *header = fuzz_text(data, len, p), *formatted;
    apr_array_header_t *pairs, *again;
    const tus_error_t *error = tus_metadata_parse(header, &pairs, p);

    if (error) {
        HOLDS(fuzz_is_error(error, TUS_ERR_INVALID_METADATA));
        return;
    }
    HOLDS(fuzz_is_header(header));
    formatted = tus_metadata_format(pairs, p);
    HOLDS((formatted == NULL) == (pairs->nelts == 0));
    HOLDS(!formatted || (fuzz_is_header(formatted) && strlen(formatted) <= strlen(header)));
    HOLDS(tus_metadata_parse(formatted, &again, p) == NULL);
    HOLDS(fuzz_same(tus_metadata_format(again, p), formatted));
    compare(pairs, again);
    keep(header, pairs, p);
}
