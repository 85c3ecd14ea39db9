/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The record of an upload and its entry in the index, as JSON.
 *
 * ID.info has the members that tusd writes, and ours under "ModTus":
 *
 *   Created         RFC 3339, UTC, microseconds
 *   Finished        likewise, once the upload is finished
 *   UploadMetadata  the header as received; MetaData cannot hold all its bytes
 *   Owner           the user who created the upload
 *
 * Other programs write these files, so everything in them is checked. "Offset"
 * is not read: the size of the data file is the offset, and tusd writes 0.
 *
 * The read_* functions take a member, NULL if it is absent, and return nonzero
 * if it is as it should be.
 */
#include "tus_words.h"

#include <apr_date.h>
#include <apr_strings.h>
#include <jansson.h>

#include <stdio.h>
#include <string.h>

#define ENTRY_VERSION 1
#define ENTRY_MAX 899
#define ENTRY_TEXT_MAX 200

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* ---- text and time ------------------------------------------------------- */

/* Bytes of the UTF-8 character at the text, or 0 if there is none. jansson judges. */
static apr_size_t utf8_length(const char *text, apr_size_t left)
{
    unsigned char lead = (unsigned char)text[0];
    apr_size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    json_t *character;

    if (len == 1) {
        return 1;
    }
    character = len <= left ? json_stringn(text, len) : NULL;
    json_decref(character);
    return character ? len : 0;
}

/* A JSON string of any bytes: like tusd, with U+FFFD for each byte that is not UTF-8. */
static json_t *text_json(const char *text, apr_size_t len, apr_pool_t *p)
{
    json_t *json = json_stringn(text, len);
    char *clean, *end;

    if (json) {
        return json;
    }
    clean = end = apr_palloc(p, len * strlen(REPLACEMENT));
    while (len > 0) {
        apr_size_t n = utf8_length(text, len);

        if (n > 0) {
            memcpy(end, text, n);
            end += n;
        }
        else {
            n = 1;
            memcpy(end, REPLACEMENT, strlen(REPLACEMENT));
            end += strlen(REPLACEMENT);
        }
        text += n;
        len -= n;
    }
    return json_stringn(clean, (apr_size_t)(end - clean));
}

/* How much of the text fits into `max` bytes, whole UTF-8 characters only. */
static apr_size_t clip(const char *text, apr_size_t max)
{
    apr_size_t len = strlen(text);

    if (len <= max) {
        return len;
    }
    while (max > 0 && ((unsigned char)text[max] & 0xc0) == 0x80) {
        max--;
    }
    return max;
}

static const char *time_text(apr_time_t time, apr_pool_t *p)
{
    apr_time_exp_t t;

    apr_time_exp_gmt(&t, time);
    return apr_psprintf(p, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", t.tm_year + 1900, t.tm_mon + 1,
                        t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, t.tm_usec);
}

/* ---- reading ------------------------------------------------------------- */

/* JSON's null is no string, as in Go. */
static int read_string(const char **text, const json_t *json, apr_pool_t *p)
{
    *text = NULL;
    if (!json || json_is_null(json)) {
        return 1;
    }
    if (!json_is_string(json) || strlen(json_string_value(json)) != json_string_length(json)) {
        return 0;
    }
    *text = apr_pstrmemdup(p, json_string_value(json), json_string_length(json));
    return 1;
}

static int read_id(const char **id, const json_t *json, apr_pool_t *p)
{
    return read_string(id, json, p) && tus_id_is_valid(*id);
}

static int read_boolean(int *flag, const json_t *json)
{
    *flag = json_is_true(json);
    return !json || json_is_boolean(json);
}

static int read_number(apr_int64_t *number, const json_t *json)
{
    *number = json_integer_value(json);
    return json_is_integer(json) && *number >= 0;
}

static int read_time(apr_time_t *time, const json_t *json, apr_pool_t *p)
{
    apr_time_exp_t t = { 0 };
    const char *text;

    *time = 0;
    if (!read_string(&text, json, p)) {
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

static int read_size(apr_off_t *size, const json_t *root)
{
    const json_t *json = json_object_get(root, "Size");
    int deferred;

    if (!read_boolean(&deferred, json_object_get(root, "SizeIsDeferred"))) {
        return 0;
    }
    if (!read_number(size, json) && !(deferred && !json)) {
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
        if (!read_id(apr_array_push(*parts), json_array_get(json, i), p)) {
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
    return read_string(&record->storage_type, json_object_get(json, "Type"), p)
           && read_string(&record->storage_path, json_object_get(json, "Path"), p)
           && read_string(&record->storage_info_path, json_object_get(json, "InfoPath"), p);
}

/* Each value as text_json() has it. */
static json_t *pairs_json(const apr_array_header_t *pairs, apr_pool_t *p)
{
    json_t *json = json_object();
    int i;

    for (i = 0; json && pairs && i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        if (json_object_set_new(json, pair->key, text_json(pair->value, pair->len, p)) != 0) {
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

static int read_ours(tus_record_t *record, const json_t *json, json_t *metadata, apr_pool_t *p)
{
    const char *header;

    if (!json) {
        return 1;
    }
    if (!json_is_object(json) || !read_time(&record->created, json_object_get(json, "Created"), p)
        || !read_time(&record->finished, json_object_get(json, "Finished"), p)
        || !read_string(&header, json_object_get(json, "UploadMetadata"), p)
        || !read_string(&record->owner, json_object_get(json, "Owner"), p)
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

    return read_id(&record->id, json_object_get(root, "ID"), p) && read_size(&record->size, root)
           && read_pairs(&record->pairs, metadata, p)
           && read_boolean(&record->is_partial, json_object_get(root, "IsPartial"))
           && read_boolean(&record->is_final, json_object_get(root, "IsFinal"))
           && read_parts(&record->parts, json_object_get(root, "PartialUploads"), p)
           && read_storage(record, json_object_get(root, "Storage"), p)
           && read_ours(record, json_object_get(root, "ModTus"), metadata, p);
}

apr_status_t tus_record_parse(tus_record_t **record, const char *json, apr_size_t len,
                              apr_pool_t *p)
{
    tus_record_t *result = apr_pcalloc(p, sizeof(*result));
    json_t *root;
    int readable;

    if (len > TUS_RECORD_MAX) {
        return TUS_EDAMAGED;
    }
    /* A metadata value may hold NUL; read_string() keeps it out of everything else. */
    root = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    readable = read_record(result, root, p);
    json_decref(root);
    if (!readable) {
        return TUS_EDAMAGED;
    }
    *record = result;
    return APR_SUCCESS;
}

/* ---- writing ------------------------------------------------------------- */

/* Writes into p and drops the JSON. APR_EINVAL if there is none, or too much. */
static apr_status_t dump(json_t *root, apr_size_t max, const char **json, apr_size_t *len,
                         apr_pool_t *p)
{
    apr_size_t size = root ? json_dumpb(root, NULL, 0, JSON_COMPACT) : 0;
    char *text;

    if (size == 0 || size > max) {
        json_decref(root);
        return APR_EINVAL;
    }
    text = apr_palloc(p, size + 1);
    json_dumpb(root, text, size, JSON_COMPACT);
    text[size] = '\0';
    json_decref(root);
    *json = text;
    *len = size;
    return APR_SUCCESS;
}

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

/* A path that is not UTF-8 is left out: another path would be worse than none. */
static json_t *storage_json(const tus_record_t *record)
{
    if (!record->storage_type) {
        return json_null();
    }
    return json_pack("{s:o*, s:o*, s:s}", "InfoPath", json_string(record->storage_info_path),
                     "Path", json_string(record->storage_path), "Type", record->storage_type);
}

static json_t *ours_json(const tus_record_t *record, apr_pool_t *p)
{
    const char *owner = record->owner;
    const char *finished = record->finished ? time_text(record->finished, p) : NULL;

    if (!record->ours) {
        return NULL;
    }
    return json_pack("{s:s, s:s*, s:s*, s:o*}", "Created", time_text(record->created, p),
                     "Finished", finished, "UploadMetadata", record->metadata, "Owner",
                     owner ? text_json(owner, strlen(owner), p) : NULL);
}

apr_status_t tus_record_format(const tus_record_t *record, const char **json, apr_size_t *len,
                               apr_pool_t *p)
{
    int deferred = record->size == TUS_SIZE_UNKNOWN;
    json_t *root;

    /* Nothing is written that could not be read again. */
    if (!tus_id_is_valid(record->id) || (record->size < 0 && !deferred) || record->finished < 0
        || (record->ours && record->created <= 0)) {
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
                     "Storage", storage_json(record),
                     "ModTus", ours_json(record, p));
    /* clang-format on */
    return dump(root, TUS_RECORD_MAX, json, len, p);
}

/* ---- the entry in the index ---------------------------------------------- */

/*
 * {"v":1,"id":..,"size":..,"created":..,"finished":..,"partial":..,"final":..,
 *  "owner":..,"filename":..}
 *
 * Times are microseconds since 1970; what is unknown, unset or false is left
 * out.
 */

static int read_optional_number(apr_int64_t *number, const json_t *json, apr_int64_t absent)
{
    if (!json) {
        *number = absent;
        return 1;
    }
    return read_number(number, json);
}

static int read_entry(tus_entry_t *entry, const json_t *root, apr_pool_t *p)
{
    return json_integer_value(json_object_get(root, "v")) == ENTRY_VERSION
           && read_id(&entry->id, json_object_get(root, "id"), p)
           && read_optional_number(&entry->size, json_object_get(root, "size"), TUS_SIZE_UNKNOWN)
           && read_optional_number(&entry->created, json_object_get(root, "created"), 0)
           && read_optional_number(&entry->finished, json_object_get(root, "finished"), 0)
           && read_boolean(&entry->is_partial, json_object_get(root, "partial"))
           && read_boolean(&entry->is_final, json_object_get(root, "final"))
           && read_string(&entry->owner, json_object_get(root, "owner"), p)
           && read_string(&entry->filename, json_object_get(root, "filename"), p);
}

apr_status_t tus_entry_parse(tus_entry_t *entry, const char *json, apr_size_t len, apr_pool_t *p)
{
    json_t *root = len <= ENTRY_MAX ? json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    int readable = read_entry(entry, root, p);

    json_decref(root);
    return readable ? APR_SUCCESS : TUS_EDAMAGED;
}

static json_t *set_number(apr_int64_t number, int is_set)
{
    return is_set ? json_integer(number) : NULL;
}

/* The entry with so many bytes of the file name. */
static json_t *entry_json(const tus_entry_t *entry, const char *owner, apr_size_t filename,
                          apr_pool_t *p)
{
    /* clang-format off */
    return json_pack("{s:i, s:s, s:o*, s:o*, s:o*, s:o*, s:o*, s:o*, s:o*}",
                     "v", ENTRY_VERSION,
                     "id", entry->id,
                     "size", set_number(entry->size, entry->size >= 0),
                     "created", set_number(entry->created, entry->created > 0),
                     "finished", set_number(entry->finished, entry->finished > 0),
                     "partial", entry->is_partial ? json_true() : NULL,
                     "final", entry->is_final ? json_true() : NULL,
                     "owner", owner ? text_json(owner, strlen(owner), p) : NULL,
                     "filename", filename ? text_json(entry->filename, filename, p) : NULL);
    /* clang-format on */
}

apr_status_t tus_entry_format(const tus_entry_t *entry, const char **json, apr_size_t *len,
                              apr_pool_t *p)
{
    const char *owner = entry->owner;
    apr_size_t filename = entry->filename ? clip(entry->filename, ENTRY_TEXT_MAX) : 0;

    if (!tus_id_is_valid(entry->id)) {
        return TUS_EDAMAGED;
    }
    if (owner && strlen(owner) > ENTRY_TEXT_MAX) {
        owner = NULL;
    }
    /* Escapes can make six bytes of one, so a strange name or a long id may take more cuts. */
    while (dump(entry_json(entry, owner, filename, p), ENTRY_MAX, json, len, p) != APR_SUCCESS) {
        if (filename > 0) {
            filename = clip(entry->filename, filename / 2);
        }
        else if (owner) {
            owner = NULL;
        }
        else {
            return TUS_EDAMAGED;
        }
    }
    return APR_SUCCESS;
}

void tus_entry_of_record(tus_entry_t *entry, const tus_record_t *record, apr_pool_t *p)
{
    const tus_pair_t *filename = tus_metadata_get(record->pairs, "filename");

    entry->id = record->id;
    entry->size = record->size;
    entry->created = record->created;
    entry->finished = record->finished;
    entry->is_partial = record->is_partial;
    entry->is_final = record->is_final;
    entry->owner = record->owner;
    entry->filename = NULL;
    if (filename && *filename->value) {
        entry->filename = apr_pstrmemdup(p, filename->value, clip(filename->value, ENTRY_TEXT_MAX));
    }
}
