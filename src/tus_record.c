/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The record of an upload, as JSON.
 *
 * ID.info has the members that tusd writes, and ours under "ModTus":
 *
 *   Created         RFC 3339, UTC, microseconds
 *   Finished        likewise, once the upload is finished
 *   Expire          seconds, with a fraction if there is one, that it is kept without bytes
 *   Expired         like Created, once it was found to have been kept for so long
 *   UploadMetadata  the header as received; MetaData cannot hold all its bytes
 *   UploadConcat    likewise
 *   Owner           the user who created the upload
 *   Hooks           references of those that are told of it where no request leads to them
 *
 * Other programs write these files, so everything in them is checked. "Offset"
 * is not read: the size of the data file is the offset, and tusd writes 0.
 *
 * The read_* functions take a member, NULL if it is absent, and return nonzero
 * if it is as it should be.
 */
#include "tus_words.h"

#include <apr_date.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <jansson.h>

#include <stdio.h>
#include <string.h>

/* ---- time ---------------------------------------------------------------- */

static const char *time_text(apr_time_t time, apr_pool_t *p)
{
    apr_time_exp_t t;

    apr_time_exp_gmt(&t, time);
    return apr_psprintf(p, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", t.tm_year + 1900, t.tm_mon + 1,
                        t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, t.tm_usec);
}

/* ---- reading ------------------------------------------------------------- */

static int read_time(apr_time_t *time, const json_t *json, apr_pool_t *p)
{
    apr_time_exp_t t = { 0 };
    const char *text;

    *time = 0;
    if (!tus_json_string(&text, json, p)) {
        return 0;
    }
    if (!text) {
        return 1;
    }
    if (!apr_date_checkmask(text, "####-##-##T##:##:##.######Z")
        || sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6d", &t.tm_year, &t.tm_mon, &t.tm_mday,
                  &t.tm_hour, &t.tm_min, &t.tm_sec, &t.tm_usec)
               != 7) {
        return 0;
    }
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    /* Written again it shows whether there is such a day and hour. */
    return apr_time_exp_gmt_get(time, &t) == APR_SUCCESS && *time > 0
           && strcmp(time_text(*time, p), text) == 0;
}

static int read_expire(apr_interval_time_t *expire, const json_t *json)
{
    double seconds = json_number_value(json);

    *expire = 0;
    if (!json) {
        return 1;
    }
    if (!json_is_number(json) || !(seconds >= 0 && seconds <= apr_time_sec(TUS_EXPIRE_MAX))) {
        return 0;
    }
    *expire = (apr_interval_time_t)(seconds * APR_USEC_PER_SEC + 0.5);
    return *expire > 0 || !(seconds > 0); /* a moment is not for ever */
}

static int read_size(apr_off_t *size, const json_t *root)
{
    const json_t *json = json_object_get(root, "Size");
    int deferred;

    if (!tus_json_boolean(&deferred, json_object_get(root, "SizeIsDeferred"))) {
        return 0;
    }
    if (!tus_json_number(size, json) && !(deferred && !json)) {
        return 0;
    }
    if (deferred) {
        *size = TUS_SIZE_UNKNOWN;
    }
    return 1;
}

static int read_pairs(apr_array_header_t **pairs, json_t *json, apr_pool_t *p)
{
    const char *key;
    json_t *value;

    *pairs = apr_array_make(p, (int)json_object_size(json), sizeof(tus_pair_t));
    if (json && !json_is_object(json) && !json_is_null(json)) {
        return 0;
    }
    json_object_foreach(json, key, value) {
        tus_pair_t *pair = apr_array_push(*pairs);

        if (!json_is_string(value)) {
            return 0;
        }
        pair->key = apr_pstrdup(p, key);
        pair->len = json_string_length(value);
        pair->value = apr_pstrmemdup(p, json_string_value(value), pair->len);
    }
    return 1;
}

static int read_parts(apr_array_header_t **parts, const json_t *json, apr_pool_t *p)
{
    apr_size_t i;

    *parts = NULL;
    if (!json || json_is_null(json)) {
        return 1;
    }
    if (!json_is_array(json)) {
        return 0;
    }
    *parts = apr_array_make(p, (int)json_array_size(json), sizeof(const char *));
    for (i = 0; i < json_array_size(json); i++) {
        if (!tus_json_id(apr_array_push(*parts), json_array_get(json, i), p)) {
            return 0;
        }
    }
    return 1;
}

static int read_storage(tus_record_t *record, const json_t *json, apr_pool_t *p)
{
    if (json && !json_is_object(json) && !json_is_null(json)) {
        return 0;
    }
    return tus_json_string(&record->storage_type, json_object_get(json, "Type"), p)
           && tus_json_string(&record->storage_path, json_object_get(json, "Path"), p)
           && tus_json_string(&record->storage_info_path, json_object_get(json, "InfoPath"), p);
}

/* Each value as tus_json_text() has it. */
static json_t *pairs_json(const apr_array_header_t *pairs, apr_pool_t *p)
{
    json_t *json = json_object();
    int i;

    for (i = 0; json && pairs && i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        if (json_object_set_new(json, pair->key, tus_json_text(pair->value, pair->len, p)) != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

/* MetaData rules, but where it still says what the header said, the header has the exact bytes. */
static void recall_header(tus_record_t *record, const char *header, json_t *metadata, apr_pool_t *p)
{
    apr_array_header_t *pairs;
    json_t *json;

    if (!header || tus_metadata_parse(header, &pairs, p) != NULL) {
        return;
    }
    json = pairs_json(pairs, p);
    if (json_equal(json, metadata)) {
        record->metadata = header;
        record->pairs = pairs;
    }
    json_decref(json);
}

/* What is sent back as a header: no other character may stand in one. */
static int read_field(const char **text, const json_t *json, apr_pool_t *p)
{
    if (!tus_json_string(text, json, p)) {
        return 0;
    }
    for (const char *c = *text; c && *c; c++) {
        if (apr_iscntrl(*c)) {
            return 0;
        }
    }
    return 1;
}

/* As tus_hook_reference() has them: whatever else may stand there tells nobody. */
static int read_hooks(const apr_array_header_t **hooks, const json_t *json, apr_pool_t *p)
{
    apr_array_header_t *references;
    const json_t *reference;
    size_t i;

    if (!json) {
        return 1;
    }
    references = apr_array_make(p, (int)json_array_size(json), sizeof(const char *));
    json_array_foreach(json, i, reference) {
        const char *text = json_string_value(reference);

        if (!tus_hook_is_reference(text)) {
            return 0;
        }
        APR_ARRAY_PUSH(references, const char *) = apr_pstrdup(p, text);
    }
    *hooks = references;
    return json_is_array(json);
}

static int read_ours(tus_record_t *record, const json_t *json, json_t *metadata, apr_pool_t *p)
{
    const char *header;

    if (!json) {
        return 1;
    }
    if (!json_is_object(json) || !read_time(&record->created, json_object_get(json, "Created"), p)
        || !read_time(&record->finished, json_object_get(json, "Finished"), p)
        || !read_expire(&record->expire, json_object_get(json, "Expire"))
        || !read_time(&record->expired, json_object_get(json, "Expired"), p)
        || !tus_json_string(&header, json_object_get(json, "UploadMetadata"), p)
        || !read_field(&record->concat, json_object_get(json, "UploadConcat"), p)
        || !tus_json_string(&record->owner, json_object_get(json, "Owner"), p)
        || !read_hooks(&record->hooks, json_object_get(json, "Hooks"), p)
        || !tus_json_string(&record->seal, json_object_get(json, "Seal"), p)
        || record->created == 0) {
        return 0;
    }
    record->ours = 1;
    recall_header(record, header, metadata, p);
    return 1;
}

static int read_record(tus_record_t *record, const json_t *root, apr_pool_t *p)
{
    json_t *metadata = json_object_get(root, "MetaData");

    return tus_json_id(&record->id, json_object_get(root, "ID"), p)
           && read_size(&record->size, root) && read_pairs(&record->pairs, metadata, p)
           && tus_json_boolean(&record->is_partial, json_object_get(root, "IsPartial"))
           && tus_json_boolean(&record->is_final, json_object_get(root, "IsFinal"))
           && read_parts(&record->parts, json_object_get(root, "PartialUploads"), p)
           && read_storage(record, json_object_get(root, "Storage"), p)
           && read_ours(record, json_object_get(root, "ModTus"), metadata, p);
}

/* What a rename leaves of a file whose bytes were not written when the system went down. */
static int is_unwritten(const char *text, apr_size_t len)
{
    apr_size_t i = 0;

    while (i < len && text[i] == '\0') {
        i++;
    }
    return i == len;
}

apr_status_t tus_record_parse(tus_record_t **record, const char *json, apr_size_t len,
                              apr_pool_t *p)
{
    tus_record_t *result;
    json_t *root;
    int readable;

    if (len > TUS_RECORD_MAX) {
        return TUS_EDAMAGED;
    }
    if (is_unwritten(json, len)) {
        return TUS_EUNWRITTEN;
    }
    result = apr_pcalloc(p, sizeof(*result));
    /* A metadata value may hold NUL; tus_json_string() keeps it out of everything else. */
    root = tus_json_is_shallow(json, len)
               ? json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL)
               : NULL;
    readable = read_record(result, root, p);
    json_decref(root);
    if (!readable) {
        return TUS_EDAMAGED;
    }
    *record = result;
    return APR_SUCCESS;
}

/* ---- writing ------------------------------------------------------------- */

static json_t *parts_json(const apr_array_header_t *parts)
{
    json_t *json = parts ? json_array() : json_null();
    int i;

    for (i = 0; json && parts && i < parts->nelts; i++) {
        const char *id = APR_ARRAY_IDX(parts, i, const char *);

        if (!tus_id_is_valid(id) || json_array_append_new(json, json_string(id)) != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static int is_utf8(const char *text)
{
    json_t *json = json_string(text);

    json_decref(json);
    return json != NULL;
}

/*
 * A path that is not UTF-8 is left out: another path would be worse than none.
 * But data that lies elsewhere than at the id must be found again, by a name
 * beneath the store. Where that is no UTF-8 either, there can be no record.
 */
static json_t *storage_json(const tus_record_t *record, apr_pool_t *p)
{
    const char *path = record->storage_path, *name;

    if (!record->storage_type) {
        return json_null();
    }
    if (path && !is_utf8(path) && tus_storage_name(record, &name) == APR_SUCCESS
        && strcmp(name, record->id) != 0) {
        return json_pack("{s:s, s:s, s:s}", "InfoPath", apr_pstrcat(p, record->id, ".info", NULL),
                         "Path", name, "Type", record->storage_type);
    }
    return json_pack("{s:o*, s:o*, s:s}", "InfoPath", json_string(record->storage_info_path),
                     "Path", json_string(path), "Type", record->storage_type);
}

static json_t *optional_text(const char *text, apr_pool_t *p)
{
    return text ? tus_json_text(text, strlen(text), p) : NULL;
}

static const char *optional_time(apr_time_t time, apr_pool_t *p)
{
    return time ? time_text(time, p) : NULL;
}

static json_t *expire_json(apr_interval_time_t expire)
{
    if (apr_time_usec(expire) != 0) {
        return json_real((double)expire / APR_USEC_PER_SEC);
    }
    return expire ? json_integer(apr_time_sec(expire)) : NULL;
}

static json_t *hooks_json(const apr_array_header_t *hooks)
{
    json_t *json = hooks && hooks->nelts ? json_array() : NULL;

    for (int i = 0; json && i < hooks->nelts; i++) {
        json_array_append_new(json, json_string(APR_ARRAY_IDX(hooks, i, const char *)));
    }
    return json;
}

static json_t *ours_json(const tus_record_t *record, apr_pool_t *p)
{
    if (!record->ours) {
        return NULL;
    }
    /* clang-format off */
    return json_pack("{s:s, s:s*, s:o*, s:s*, s:s*, s:o*, s:o*, s:o*, s:s*}",
                     "Created", time_text(record->created, p),
                     "Finished", optional_time(record->finished, p),
                     "Expire", expire_json(record->expire),
                     "Expired", optional_time(record->expired, p),
                     "UploadMetadata", record->metadata,
                     "UploadConcat", optional_text(record->concat, p),
                     "Owner", optional_text(record->owner, p),
                     "Hooks", hooks_json(record->hooks),
                     "Seal", record->seal);
    /* clang-format on */
}

static int are_references(const apr_array_header_t *hooks)
{
    for (int i = 0; hooks && i < hooks->nelts; i++) {
        if (!tus_hook_is_reference(APR_ARRAY_IDX(hooks, i, const char *))) {
            return 0;
        }
    }
    return 1;
}

/* Nothing is written that could not be read again. */
static int is_readable(const tus_record_t *record)
{
    return tus_id_is_valid(record->id) && (record->size >= 0 || record->size == TUS_SIZE_UNKNOWN)
           && (!record->ours || record->created > 0) && record->finished >= 0
           && record->expired >= 0 && record->expire >= 0 && record->expire <= TUS_EXPIRE_MAX
           && are_references(record->hooks);
}

apr_status_t tus_record_format(const tus_record_t *record, const char **json, apr_size_t *len,
                               apr_pool_t *p)
{
    int deferred = record->size == TUS_SIZE_UNKNOWN;
    json_t *root;

    if (!is_readable(record)) {
        return APR_EINVAL;
    }
    /* clang-format off */
    root = json_pack("{s:s, s:I, s:b, s:i, s:o, s:b, s:b, s:o, s:o, s:o*}",
                     "ID", record->id,
                     "Size", (json_int_t)(deferred ? 0 : record->size),
                     "SizeIsDeferred", deferred,
                     "Offset", 0,
                     "MetaData", pairs_json(record->pairs, p),
                     "IsPartial", record->is_partial,
                     "IsFinal", record->is_final,
                     "PartialUploads", parts_json(record->parts),
                     "Storage", storage_json(record, p),
                     "ModTus", ours_json(record, p));
    /* clang-format on */
    return tus_json_dump(root, TUS_RECORD_MAX, json, len, p);
}
