/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The entry of an upload in the index, as JSON. Each byte counts there, so the
 * names are short:
 *
 *   v     ENTRY_VERSION
 *   id    or the key in its place
 *   size  bytes
 *   kind  the sum of IS_PARTIAL and IS_FINAL
 *   c f   created, finished: microseconds since 1970
 *   x e   expire in microseconds, expired as c and f
 *   d     data
 *   o n   owner, filename
 *
 * What is unknown, unset or false is left out.
 */
#include "tus_words.h"

#include <apr_strings.h>
#include <jansson.h>

#include <string.h>

#define ENTRY_VERSION 2
#define ENTRY_MAX 899
#define ENTRY_TEXT_MAX 200

#define IS_PARTIAL 1
#define IS_FINAL 2

static int read_optional_number(apr_int64_t *number, const json_t *json, apr_int64_t absent)
{
    if (!json) {
        *number = absent;
        return 1;
    }
    return tus_json_number(number, json);
}

static int read_kind(tus_entry_t *entry, const json_t *json)
{
    apr_int64_t kind;

    if (!read_optional_number(&kind, json, 0) || kind > (IS_PARTIAL | IS_FINAL)) {
        return 0;
    }
    entry->is_partial = (kind & IS_PARTIAL) != 0;
    entry->is_final = (kind & IS_FINAL) != 0;
    return 1;
}

static int read_entry(tus_entry_t *entry, const json_t *root, apr_pool_t *p)
{
    return json_integer_value(json_object_get(root, "v")) == ENTRY_VERSION
           && tus_json_id(&entry->id, json_object_get(root, "id"), p)
           && read_optional_number(&entry->size, json_object_get(root, "size"), TUS_SIZE_UNKNOWN)
           && read_kind(entry, json_object_get(root, "kind"))
           && read_optional_number(&entry->created, json_object_get(root, "c"), 0)
           && read_optional_number(&entry->finished, json_object_get(root, "f"), 0)
           && read_optional_number(&entry->expire, json_object_get(root, "x"), 0)
           && read_optional_number(&entry->expired, json_object_get(root, "e"), 0)
           && tus_json_string(&entry->data, json_object_get(root, "d"), p)
           && tus_json_string(&entry->owner, json_object_get(root, "o"), p)
           && tus_json_string(&entry->filename, json_object_get(root, "n"), p);
}

apr_status_t tus_entry_parse(tus_entry_t *entry, const char *json, apr_size_t len, apr_pool_t *p)
{
    json_t *root = len <= ENTRY_MAX && tus_json_is_shallow(json, len)
                       ? json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL)
                       : NULL;
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
    int kind = (entry->is_partial ? IS_PARTIAL : 0) | (entry->is_final ? IS_FINAL : 0);

    /* clang-format off */
    return json_pack("{s:i, s:s, s:o*, s:o*, s:o*, s:o*, s:o*, s:o*, s:s*, s:o*, s:o*}",
                     "v", ENTRY_VERSION,
                     "id", entry->id,
                     "size", set_number(entry->size, entry->size >= 0),
                     "kind", set_number(kind, kind != 0),
                     "c", set_number(entry->created, entry->created > 0),
                     "f", set_number(entry->finished, entry->finished > 0),
                     "x", set_number(entry->expire, entry->expire > 0),
                     "e", set_number(entry->expired, entry->expired > 0),
                     "d", entry->data,
                     "o", owner ? tus_json_text(owner, strlen(owner), p) : NULL,
                     "n", filename ? tus_json_text(entry->filename, filename, p) : NULL);
    /* clang-format on */
}

apr_status_t tus_entry_format(const tus_entry_t *entry, const char **json, apr_size_t *len,
                              apr_pool_t *p)
{
    const char *owner = entry->owner;
    apr_size_t filename = entry->filename ? tus_json_clip(entry->filename, ENTRY_TEXT_MAX) : 0;

    if (!tus_id_is_valid(entry->id)) {
        return TUS_EDAMAGED;
    }
    if (owner && strlen(owner) > ENTRY_TEXT_MAX) {
        owner = NULL;
    }
    /* Escapes can make six bytes of one, so a strange name or a long id may take more cuts. */
    while (tus_json_dump(entry_json(entry, owner, filename, p), ENTRY_MAX, json, len, p)
           != APR_SUCCESS) {
        if (filename > 0) {
            filename = tus_json_clip(entry->filename, filename / 2);
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

/* The mark of data that lies elsewhere than at the id; of a path that leads astray that path's. */
static const char *data_of(const tus_record_t *record, apr_pool_t *p)
{
    const char *name;

    if (tus_storage_name(record, &name) != APR_SUCCESS) {
        return tus_storage_mark(record->storage_path, p);
    }
    return strcmp(name, record->id) == 0 ? NULL : tus_storage_mark(name, p);
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
        entry->filename =
            apr_pstrmemdup(p, filename->value, tus_json_clip(filename->value, ENTRY_TEXT_MAX));
    }
    entry->expire = record->expire;
    entry->expired = record->expired;
    entry->data = data_of(record, p);
}
