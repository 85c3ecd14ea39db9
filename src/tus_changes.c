/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What another module or an application wants of an upload before it is made:
 * another id, other metadata, another place. What is taken over is checked, so
 * that the deeds can take it as it stands.
 */
#include "tus_core.h"

#include <apr_strings.h>

#include <string.h>

static int is_same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static const char *wrong(const tus_upload_t *upload, const char *what, const char *value,
                         const char *why)
{
    return apr_psprintf(upload->pool, "%s '%s': %s", what, value ? value : "", why);
}

static const char *take_id(tus_upload_t *upload, const tus_record_t *said)
{
    if (is_same(said->id, upload->record->id)) {
        return NULL;
    }
    if (!said->id || !tus_id_is_valid(said->id)) {
        return wrong(upload, "the id", said->id, "no upload can have that name");
    }
    upload->record->id = apr_pstrdup(upload->pool, said->id);
    return NULL;
}

static int has_null(const apr_array_header_t *pairs)
{
    for (int i = 0; pairs && i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        if (!pair->key || (!pair->value && pair->len)) {
            return 1;
        }
    }
    return 0;
}

/*
 * The pairs may have been changed in place: what they were tells `before`. They
 * must survive being a header, so they are taken from one.
 */
static const char *take_pairs(tus_upload_t *upload, const tus_record_t *said, const char *before)
{
    tus_record_t *record = upload->record;
    apr_array_header_t *pairs;
    const tus_error_t *error;
    const char *after;

    if (has_null(said->pairs)) {
        return wrong(upload, "metadata", "", "a pair has no key or no value");
    }
    after = tus_metadata_format(said->pairs, upload->pool);
    error = tus_metadata_parse(after, &pairs, upload->pool);
    if (error) {
        return wrong(upload, "metadata", after, error->message);
    }
    if (pairs->nelts != (said->pairs ? said->pairs->nelts : 0)) {
        return wrong(upload, "metadata", after, "a key that it should have cannot be in a header");
    }
    if (is_same(before, after)) {
        return NULL;
    }
    record->pairs = pairs;
    record->metadata = after;
    return NULL;
}

/* Any id: the upload has none yet unless it was given one. */
#define SOME_ID "00000000000000000000000000000000"

static const char *take_storage(tus_upload_t *upload, const tus_record_t *said)
{
    tus_record_t *record = upload->record;
    tus_record_t judged = *record;
    const char *name;

    if (!said->storage_path && !record->storage_path) {
        return NULL;
    }
    judged.id = record->id ? record->id : SOME_ID;
    judged.storage_path = said->storage_path;
    judged.storage_info_path = apr_pstrcat(upload->pool, judged.id, ".info", NULL);
    if (tus_storage_name(&judged, &name) != APR_SUCCESS) {
        return wrong(upload, "the storage_path", said->storage_path,
                     "nothing in the store can have that name");
    }
    record->storage_path = apr_pstrdup(upload->pool, said->storage_path);
    if (record->id) { /* so that the path is relative to the store, whatever it ends in */
        record->storage_info_path = judged.storage_info_path;
    }
    return NULL;
}

const char *tus_changes_take(tus_upload_t *upload, const tus_record_t *said, const char *before)
{
    const char *why = take_id(upload, said);

    if (!why) {
        why = take_pairs(upload, said, before);
    }
    return why ? why : take_storage(upload, said);
}
