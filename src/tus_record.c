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
#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>

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

static int digits(const char *text, int count)
{
    int number = 0;

    while (count-- > 0) {
        number = number * 10 + (*text++ - '0');
    }
    return number;
}

static int read_time(apr_time_t *time, const tus_value_t *json)
{
    apr_time_exp_t t = { 0 }, there;
    const char *text;

    *time = 0;
    if (!tus_value_string(&text, json)) {
        return 0;
    }
    if (!text) {
        return 1;
    }
    if (!apr_date_checkmask(text, "####-##-##T##:##:##.######Z")) {
        return 0;
    }
    t.tm_year = digits(text, 4) - 1900;
    t.tm_mon = digits(text + 5, 2) - 1;
    t.tm_mday = digits(text + 8, 2);
    t.tm_hour = digits(text + 11, 2);
    t.tm_min = digits(text + 14, 2);
    t.tm_sec = digits(text + 17, 2);
    t.tm_usec = digits(text + 20, 6);
    if (apr_time_exp_gmt_get(time, &t) != APR_SUCCESS || *time <= 0) {
        return 0;
    }
    apr_time_exp_gmt(&there, *time); /* is there such a day and hour? */
    return there.tm_mon == t.tm_mon && there.tm_mday == t.tm_mday && there.tm_hour == t.tm_hour
           && there.tm_min == t.tm_min && there.tm_sec == t.tm_sec;
}

static int read_expire(apr_interval_time_t *expire, const tus_value_t *json)
{
    int is_integer = tus_value_is(json, TUS_VALUE_INTEGER);
    double seconds = is_integer ? (double)json->integer : json ? json->real : 0;

    *expire = 0;
    if (!json) {
        return 1;
    }
    if (!(is_integer || json->type == TUS_VALUE_REAL)
        || !(seconds >= 0 && seconds <= apr_time_sec(TUS_EXPIRE_MAX))) {
        return 0;
    }
    *expire = (apr_interval_time_t)(seconds * APR_USEC_PER_SEC + 0.5);
    return *expire > 0 || !(seconds > 0); /* a moment is not for ever */
}

static int read_size(apr_off_t *size, const tus_value_t *root)
{
    const tus_value_t *json = tus_value_get(root, "Size");
    int deferred;

    if (!tus_value_boolean(&deferred, tus_value_get(root, "SizeIsDeferred"))) {
        return 0;
    }
    if (!tus_value_number(size, json) && !(deferred && !json)) {
        return 0;
    }
    if (deferred) {
        *size = TUS_SIZE_UNKNOWN;
    }
    return 1;
}

static int read_pairs(apr_array_header_t **pairs, const tus_value_t *json, apr_pool_t *p)
{
    *pairs = apr_array_make(p, json ? json->count : 0, sizeof(tus_pair_t));
    if (tus_value_is_absent(json)) {
        return 1;
    }
    for (const tus_value_t *value = json->first; value; value = value->next) {
        tus_pair_t *pair = apr_array_push(*pairs);

        if (value->type != TUS_VALUE_STRING) {
            return 0;
        }
        pair->key = value->name;
        pair->value = value->text;
        pair->len = value->len;
    }
    return json->type == TUS_VALUE_OBJECT;
}

static int read_parts(apr_array_header_t **parts, const tus_value_t *json, apr_pool_t *p)
{
    *parts = NULL;
    if (tus_value_is_absent(json)) {
        return 1;
    }
    *parts = apr_array_make(p, json->count, sizeof(const char *));
    for (const tus_value_t *part = json->first; part; part = part->next) {
        if (!tus_value_id(apr_array_push(*parts), part)) {
            return 0;
        }
    }
    return json->type == TUS_VALUE_ARRAY;
}

static int read_storage(tus_record_t *record, const tus_value_t *json)
{
    return (tus_value_is_absent(json) || json->type == TUS_VALUE_OBJECT)
           && tus_value_string(&record->storage_type, tus_value_get(json, "Type"))
           && tus_value_string(&record->storage_path, tus_value_get(json, "Path"))
           && tus_value_string(&record->storage_info_path, tus_value_get(json, "InfoPath"));
}

static apr_hash_t *by_key(const apr_array_header_t *pairs, apr_pool_t *p)
{
    apr_hash_t *hash = apr_hash_make(p);

    for (int i = 0; i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        apr_hash_set(hash, pair->key, APR_HASH_KEY_STRING, pair);
    }
    return hash;
}

static int has_value(const tus_pair_t *written, const tus_pair_t *pair, apr_pool_t *p)
{
    apr_size_t len;
    const char *clean = tus_json_clean(pair->value, pair->len, &len, p);

    return written && len == written->len && memcmp(clean, written->value, len) == 0;
}

/* In any order; hardly ever in another. */
static int are_same(const apr_array_header_t *pairs, const apr_array_header_t *written,
                    apr_pool_t *p)
{
    apr_hash_t *hash = NULL;

    if (pairs->nelts != written->nelts) {
        return 0;
    }
    for (int i = 0; i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);
        const tus_pair_t *other = &APR_ARRAY_IDX(written, i, tus_pair_t);

        if (strcmp(other->key, pair->key) != 0) {
            hash = hash ? hash : by_key(written, p);
            other = apr_hash_get(hash, pair->key, APR_HASH_KEY_STRING);
        }
        if (!has_value(other, pair, p)) {
            return 0;
        }
    }
    return 1;
}

/* MetaData rules, but where it still says what the header said, the header has the exact bytes. */
static void recall_header(tus_record_t *record, const char *header, apr_pool_t *p)
{
    apr_array_header_t *pairs;

    if (!header || tus_metadata_parse(header, &pairs, p) != NULL) {
        return;
    }
    if (are_same(pairs, record->pairs, p)) {
        record->metadata = header;
        record->pairs = pairs;
    }
}

/* What is sent back as a header: no other character may stand in one. */
static int read_field(const char **text, const tus_value_t *json)
{
    if (!tus_value_string(text, json)) {
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
static int read_hooks(const apr_array_header_t **hooks, const tus_value_t *json, apr_pool_t *p)
{
    apr_array_header_t *references;

    if (!json) {
        return 1;
    }
    references = apr_array_make(p, json->count, sizeof(const char *));
    for (const tus_value_t *reference = json->first; reference; reference = reference->next) {
        if (!tus_hook_is_reference(reference->text)) {
            return 0;
        }
        APR_ARRAY_PUSH(references, const char *) = reference->text;
    }
    *hooks = references;
    return json->type == TUS_VALUE_ARRAY;
}

static int read_ours(tus_record_t *record, const tus_value_t *json, apr_pool_t *p)
{
    const char *header;

    if (!json) {
        return 1;
    }
    if (json->type != TUS_VALUE_OBJECT
        || !read_time(&record->created, tus_value_get(json, "Created"))
        || !read_time(&record->finished, tus_value_get(json, "Finished"))
        || !read_expire(&record->expire, tus_value_get(json, "Expire"))
        || !read_time(&record->expired, tus_value_get(json, "Expired"))
        || !tus_value_string(&header, tus_value_get(json, "UploadMetadata"))
        || !read_field(&record->concat, tus_value_get(json, "UploadConcat"))
        || !tus_value_string(&record->owner, tus_value_get(json, "Owner"))
        || !read_hooks(&record->hooks, tus_value_get(json, "Hooks"), p)
        || !tus_value_string(&record->seal, tus_value_get(json, "Seal")) || record->created == 0) {
        return 0;
    }
    record->ours = 1;
    recall_header(record, header, p);
    return 1;
}

static int read_record(tus_record_t *record, const tus_value_t *root, apr_pool_t *p)
{
    return tus_value_id(&record->id, tus_value_get(root, "ID")) && read_size(&record->size, root)
           && read_pairs(&record->pairs, tus_value_get(root, "MetaData"), p)
           && tus_value_boolean(&record->is_partial, tus_value_get(root, "IsPartial"))
           && tus_value_boolean(&record->is_final, tus_value_get(root, "IsFinal"))
           && read_parts(&record->parts, tus_value_get(root, "PartialUploads"), p)
           && read_storage(record, tus_value_get(root, "Storage"))
           && read_ours(record, tus_value_get(root, "ModTus"), p);
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

    if (len > TUS_RECORD_MAX) {
        return TUS_EDAMAGED;
    }
    if (is_unwritten(json, len)) {
        return TUS_EUNWRITTEN;
    }
    result = apr_pcalloc(p, sizeof(*result));
    /* A metadata value may hold NUL; tus_value_string() keeps it out of everything else. */
    if (!read_record(result, tus_value_load(json, len, p), p)) {
        return TUS_EDAMAGED;
    }
    *record = result;
    return APR_SUCCESS;
}

/* ---- writing ------------------------------------------------------------- */

static void put_clean(tus_json_out_t *out, const char *name, const char *text, apr_size_t len)
{
    const char *clean = tus_json_clean(text, len, &len, out->pool);

    tus_json_out_bytes(out, name, clean, len);
}

static void put_optional(tus_json_out_t *out, const char *name, const char *text)
{
    if (text) {
        put_clean(out, name, text, strlen(text));
    }
}

static void put_pairs(tus_json_out_t *out, const char *name, const apr_array_header_t *pairs)
{
    tus_json_out_open(out, name, '{');
    for (int i = 0; pairs && i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        put_clean(out, pair->key, pair->value, pair->len);
    }
    tus_json_out_close(out, '}');
}

/* @param list of const char * */
static void put_list(tus_json_out_t *out, const char *name, const apr_array_header_t *list)
{
    tus_json_out_open(out, name, '[');
    for (int i = 0; i < list->nelts; i++) {
        tus_json_out_text(out, NULL, APR_ARRAY_IDX(list, i, const char *));
    }
    tus_json_out_close(out, ']');
}

static void put_parts(tus_json_out_t *out, const char *name, const apr_array_header_t *parts)
{
    if (parts) {
        put_list(out, name, parts);
    }
    else {
        tus_json_out_null(out, name);
    }
}

static const char *if_utf8(const char *text, apr_pool_t *p)
{
    apr_size_t len;

    return text && tus_json_clean(text, strlen(text), &len, p) == text ? text : NULL;
}

/*
 * A path that is not UTF-8 is left out: another path would be worse than none.
 * But data that lies elsewhere than at the id must be found again, by a name
 * beneath the store. Where that is no UTF-8 either, there can be no record.
 */
static void put_storage(tus_json_out_t *out, const char *name, const tus_record_t *record)
{
    apr_pool_t *p = out->pool;
    const char *path = if_utf8(record->storage_path, p);
    const char *info = if_utf8(record->storage_info_path, p), *data;

    if (!record->storage_type) {
        tus_json_out_null(out, name);
        return;
    }
    if (record->storage_path && !path && tus_storage_name(record, &data) == APR_SUCCESS
        && strcmp(data, record->id) != 0) {
        path = data;
        info = apr_pstrcat(p, record->id, ".info", NULL);
    }
    tus_json_out_open(out, name, '{');
    tus_json_out_text(out, "InfoPath", info);
    tus_json_out_text(out, "Path", path);
    tus_json_out_text(out, "Type", record->storage_type);
    tus_json_out_close(out, '}');
}

static void put_time(tus_json_out_t *out, const char *name, apr_time_t time)
{
    if (time) {
        tus_json_out_text(out, name, time_text(time, out->pool));
    }
}

static void put_expire(tus_json_out_t *out, const char *name, apr_interval_time_t expire)
{
    if (apr_time_usec(expire) != 0) {
        tus_json_out_real(out, name, (double)expire / APR_USEC_PER_SEC);
    }
    else if (expire) {
        tus_json_out_integer(out, name, apr_time_sec(expire));
    }
}

static void put_ours(tus_json_out_t *out, const char *name, const tus_record_t *record)
{
    tus_json_out_open(out, name, '{');
    put_time(out, "Created", record->created);
    put_time(out, "Finished", record->finished);
    put_expire(out, "Expire", record->expire);
    put_time(out, "Expired", record->expired);
    tus_json_out_text(out, "UploadMetadata", record->metadata);
    put_optional(out, "UploadConcat", record->concat);
    put_optional(out, "Owner", record->owner);
    if (record->hooks && record->hooks->nelts) {
        put_list(out, "Hooks", record->hooks);
    }
    tus_json_out_text(out, "Seal", record->seal);
    tus_json_out_close(out, '}');
}

static int are_ids(const apr_array_header_t *parts)
{
    for (int i = 0; parts && i < parts->nelts; i++) {
        if (!tus_id_is_valid(APR_ARRAY_IDX(parts, i, const char *))) {
            return 0;
        }
    }
    return 1;
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
           && are_ids(record->parts) && are_references(record->hooks);
}

apr_status_t tus_record_format(const tus_record_t *record, const char **json, apr_size_t *len,
                               apr_pool_t *p)
{
    int deferred = record->size == TUS_SIZE_UNKNOWN;
    tus_json_out_t out;

    if (!is_readable(record)) {
        return APR_EINVAL;
    }
    tus_json_out_begin(&out, TUS_RECORD_MAX, p);
    tus_json_out_open(&out, NULL, '{');
    tus_json_out_text(&out, "ID", record->id);
    tus_json_out_integer(&out, "Size", deferred ? 0 : record->size);
    tus_json_out_boolean(&out, "SizeIsDeferred", deferred);
    tus_json_out_integer(&out, "Offset", 0);
    put_pairs(&out, "MetaData", record->pairs);
    tus_json_out_boolean(&out, "IsPartial", record->is_partial);
    tus_json_out_boolean(&out, "IsFinal", record->is_final);
    put_parts(&out, "PartialUploads", record->parts);
    put_storage(&out, "Storage", record);
    if (record->ours) {
        put_ours(&out, "ModTus", record);
    }
    tus_json_out_close(&out, '}');
    return tus_json_out_end(&out, json, len);
}
