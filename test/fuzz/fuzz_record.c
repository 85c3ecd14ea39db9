/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is ID.info. */
#include "fuzz.h"

#include <string.h>

/* Above, its JSON may grow too large: a byte is written as six at the worst. */
#define INPUT_MAX (TUS_RECORD_MAX / 8)

/* The longest Upload-Metadata that is read. */
#define METADATA_MAX (64 * 1024)

static void compare_pairs(const apr_array_header_t *pairs, const apr_array_header_t *again)
{
    int i;

    HOLDS(again->nelts == pairs->nelts);
    for (i = 0; i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);
        const tus_pair_t *other = tus_metadata_get(again, pair->key);

        HOLDS(pair->value[pair->len] == '\0');
        HOLDS(other && other->len == pair->len && !memcmp(other->value, pair->value, pair->len));
    }
}

static void compare_parts(const apr_array_header_t *parts, const apr_array_header_t *again)
{
    int i;

    HOLDS((again != NULL) == (parts != NULL));
    HOLDS(!parts || again->nelts == parts->nelts);
    for (i = 0; parts && i < parts->nelts; i++) {
        HOLDS(tus_id_is_valid(APR_ARRAY_IDX(parts, i, const char *)));
        HOLDS(fuzz_same(APR_ARRAY_IDX(parts, i, const char *),
                        APR_ARRAY_IDX(again, i, const char *)));
    }
}

static void compare_hooks(const apr_array_header_t *hooks, const apr_array_header_t *again)
{
    int n = hooks ? hooks->nelts : 0, i;

    HOLDS((again ? again->nelts : 0) == n);
    for (i = 0; i < n; i++) {
        HOLDS(tus_hook_is_reference(APR_ARRAY_IDX(hooks, i, const char *)));
        HOLDS(fuzz_same(APR_ARRAY_IDX(hooks, i, const char *),
                        APR_ARRAY_IDX(again, i, const char *)));
    }
}

static void check(const tus_record_t *record)
{
    HOLDS(tus_id_is_valid(record->id));
    HOLDS(record->size >= 0 || record->size == TUS_SIZE_UNKNOWN);
    HOLDS(record->created >= 0 && record->finished >= 0 && record->expired >= 0);
    HOLDS(record->expire >= 0 && record->expire <= TUS_EXPIRE_MAX);
    HOLDS(!record->ours || record->created > 0);
    HOLDS(!record->metadata || fuzz_is_header(record->metadata));
}

static void compare(const tus_record_t *record, const tus_record_t *again)
{
    HOLDS(fuzz_same(again->id, record->id) && again->size == record->size);
    HOLDS(again->is_partial == record->is_partial && again->is_final == record->is_final);
    HOLDS(again->ours == record->ours && again->created == record->created);
    HOLDS(again->finished == record->finished && again->expire == record->expire);
    HOLDS(again->expired == record->expired && fuzz_same(again->owner, record->owner));
    HOLDS(fuzz_same(again->concat, record->concat));
    HOLDS(fuzz_same(again->metadata, record->metadata));
    HOLDS(fuzz_same(again->storage_type, record->storage_type));
    if (record->storage_type) {
        HOLDS(fuzz_same(again->storage_path, record->storage_path));
        HOLDS(fuzz_same(again->storage_info_path, record->storage_info_path));
    }
    compare_pairs(record->pairs, again->pairs);
    compare_parts(record->parts, again->parts);
    compare_hooks(record->hooks, again->hooks);
}

/* What HEAD says of the metadata, whoever wrote it, is a header that can be read. */
static void check_header(const tus_record_t *record, apr_pool_t *p)
{
    const char *header = tus_metadata_format(record->pairs, p);
    apr_array_header_t *pairs;

    if (header) {
        HOLDS(fuzz_is_header(header));
        HOLDS(strlen(header) > METADATA_MAX || tus_metadata_parse(header, &pairs, p) == NULL);
    }
}

static void index_it(const tus_record_t *record, apr_pool_t *p)
{
    tus_entry_t entry, again;
    const char *json;
    apr_size_t len;

    tus_entry_of_record(&entry, record, p);
    if (tus_entry_format(&entry, &json, &len, p) != APR_SUCCESS) {
        HOLDS(strlen(record->id) > 64);
        return;
    }
    HOLDS(tus_entry_parse(&again, json, len, p) == APR_SUCCESS);
    HOLDS(fuzz_same(again.id, record->id) && again.size == record->size);
    HOLDS(again.finished == record->finished && again.expire == record->expire);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    tus_record_t *record, *again;
    const char *json, *json_again;
    apr_size_t size, size_again;

    if (len > INPUT_MAX || tus_record_parse(&record, data, len, p) != APR_SUCCESS) {
        return;
    }
    check(record);
    check_header(record, p);
    index_it(record, p);
    HOLDS(tus_record_format(record, &json, &size, p) == APR_SUCCESS && size <= TUS_RECORD_MAX);
    HOLDS(tus_record_parse(&again, json, size, p) == APR_SUCCESS);
    compare(record, again);
    HOLDS(tus_record_format(again, &json_again, &size_again, p) == APR_SUCCESS);
    HOLDS(size_again == size && memcmp(json_again, json, size) == 0);
}
