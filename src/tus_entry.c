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

#include <string.h>

#define ENTRY_VERSION 2
#define ENTRY_MAX 899
#define ENTRY_TEXT_MAX 200

#define IS_PARTIAL 1
#define IS_FINAL 2

static int read_optional_number(apr_int64_t *number, const tus_value_t *json, apr_int64_t absent)
{
    if (!json) {
        *number = absent;
        return 1;
    }
    return tus_value_number(number, json);
}

static int read_kind(tus_entry_t *entry, const tus_value_t *json)
{
    apr_int64_t kind;

    if (!read_optional_number(&kind, json, 0) || kind > (IS_PARTIAL | IS_FINAL)) {
        return 0;
    }
    entry->is_partial = (kind & IS_PARTIAL) != 0;
    entry->is_final = (kind & IS_FINAL) != 0;
    return 1;
}

static int read_version(const tus_value_t *value)
{
    apr_int64_t version;

    return tus_value_number(&version, value) && version == ENTRY_VERSION;
}

static int read_entry(tus_entry_t *entry, const tus_value_t *root)
{
    return read_version(tus_value_get(root, "v"))
           && tus_value_id(&entry->id, tus_value_get(root, "id"))
           && read_optional_number(&entry->size, tus_value_get(root, "size"), TUS_SIZE_UNKNOWN)
           && read_kind(entry, tus_value_get(root, "kind"))
           && read_optional_number(&entry->created, tus_value_get(root, "c"), 0)
           && read_optional_number(&entry->finished, tus_value_get(root, "f"), 0)
           && read_optional_number(&entry->expire, tus_value_get(root, "x"), 0)
           && read_optional_number(&entry->expired, tus_value_get(root, "e"), 0)
           && tus_value_string(&entry->data, tus_value_get(root, "d"))
           && tus_value_string(&entry->owner, tus_value_get(root, "o"))
           && tus_value_string(&entry->filename, tus_value_get(root, "n"));
}

apr_status_t tus_entry_parse(tus_entry_t *entry, const char *json, apr_size_t len, apr_pool_t *p)
{
    const tus_value_t *root = len <= ENTRY_MAX ? tus_value_load(json, len, p) : NULL;

    return read_entry(entry, root) ? APR_SUCCESS : TUS_EDAMAGED;
}

static void put_number(tus_json_out_t *out, const char *name, apr_int64_t number, int is_set)
{
    if (is_set) {
        tus_json_out_integer(out, name, number);
    }
}

static void put_clean(tus_json_out_t *out, const char *name, const char *text, apr_size_t len)
{
    const char *clean;

    if (len > 0) {
        clean = tus_json_clean(text, len, &len, out->pool);
        tus_json_out_bytes(out, name, clean, len);
    }
}

/* The entry with so many bytes of the owner's name and of the file's. */
static apr_status_t format(const tus_entry_t *entry, apr_size_t owner, apr_size_t filename,
                           const char **json, apr_size_t *len, apr_pool_t *p)
{
    int kind = (entry->is_partial ? IS_PARTIAL : 0) | (entry->is_final ? IS_FINAL : 0);
    tus_json_out_t out;

    tus_json_out_begin(&out, ENTRY_MAX, p);
    tus_json_out_open(&out, NULL, '{');
    tus_json_out_integer(&out, "v", ENTRY_VERSION);
    tus_json_out_text(&out, "id", entry->id);
    put_number(&out, "size", entry->size, entry->size >= 0);
    put_number(&out, "kind", kind, kind != 0);
    put_number(&out, "c", entry->created, entry->created > 0);
    put_number(&out, "f", entry->finished, entry->finished > 0);
    put_number(&out, "x", entry->expire, entry->expire > 0);
    put_number(&out, "e", entry->expired, entry->expired > 0);
    tus_json_out_text(&out, "d", entry->data);
    put_clean(&out, "o", entry->owner, owner);
    put_clean(&out, "n", entry->filename, filename);
    tus_json_out_close(&out, '}');
    return tus_json_out_end(&out, json, len);
}

apr_status_t tus_entry_format(const tus_entry_t *entry, const char **json, apr_size_t *len,
                              apr_pool_t *p)
{
    apr_size_t owner = entry->owner ? strlen(entry->owner) : 0;
    apr_size_t filename = entry->filename ? tus_json_clip(entry->filename, ENTRY_TEXT_MAX) : 0;

    if (!tus_id_is_valid(entry->id)) {
        return TUS_EDAMAGED;
    }
    if (owner > ENTRY_TEXT_MAX) {
        owner = 0;
    }
    /* Escapes can make six bytes of one, so a strange name or a long id may take more cuts. */
    while (format(entry, owner, filename, json, len, p) != APR_SUCCESS) {
        if (filename > 0) {
            filename = tus_json_clip(entry->filename, filename / 2);
        }
        else if (owner > 0) {
            owner = 0;
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
