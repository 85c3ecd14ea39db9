/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a hook is told: tusd's JSON. tusd writes with Go's encoding/json, which
 * escapes more than jansson does, so what jansson wrote is spelled anew.
 */
#include "tus_words.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <jansson.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* No name of a host is longer. */
#define HOST_MAX 256

/* ---- spelled as Go does ------------------------------------------ */

/* What is written without an escape by jansson only; in a JSON text it stands in strings alone. */
static const struct {
    const char *bytes;
    const char *escape;
} escapes[] = {
    { "<", "\\u003c" },
    { ">", "\\u003e" },
    { "&", "\\u0026" },
    { "\xe2\x80\xa8", "\\u2028" },
    { "\xe2\x80\xa9", "\\u2029" },
    { "\xef\xbf\xbd", "\\ufffd" }, /* for most of them a byte that was no UTF-8 */
};

#define ESCAPE_LEN 6

/* How these begin, and the escapes that jansson wrote. */
#define SPECIAL "<>&\xe2\xef\\"

/* Bytes of the text that it begins with and that are escaped as one, or 0. */
static apr_size_t find_escape(const char *text, const char **escape)
{
    for (apr_size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++) {
        apr_size_t len = strlen(escapes[i].bytes);

        if (strncmp(text, escapes[i].bytes, len) == 0) {
            *escape = escapes[i].escape;
            return len;
        }
    }
    return 0;
}

/* The bytes that it takes more than jansson's text has. */
static apr_size_t growth_of(const char *text)
{
    const char *escape;
    apr_size_t growth = 0;

    for (text = strpbrk(text, SPECIAL); text; text = strpbrk(text + 1, SPECIAL)) {
        apr_size_t len = find_escape(text, &escape);

        growth += len ? ESCAPE_LEN - len : 0;
    }
    return growth;
}

/* Copies "\u001F" as "\u001f", and any other escape as it is. */
static const char *copy_escape(char **to, const char *text)
{
    apr_size_t len = text[1] == 'u' ? ESCAPE_LEN : 2;

    *(*to)++ = *text;
    for (apr_size_t i = 1; i < len; i++) {
        *(*to)++ = len == ESCAPE_LEN ? apr_tolower(text[i]) : text[i];
    }
    return text + len;
}

static const char *spell(const char *text, apr_size_t len, apr_pool_t *p)
{
    char *spelled = apr_palloc(p, len + 1);
    char *to = spelled;

    for (;;) {
        apr_size_t plain = strcspn(text, SPECIAL);
        const char *escape;
        apr_size_t replaced;

        memcpy(to, text, plain);
        to += plain;
        text += plain;
        if (!*text) {
            *to = '\0';
            return spelled;
        }
        replaced = find_escape(text, &escape);
        if (replaced) {
            memcpy(to, escape, ESCAPE_LEN);
            to += ESCAPE_LEN;
            text += replaced;
        }
        else if (*text == '\\') {
            text = copy_escape(&to, text);
        }
        else {
            *to++ = *text++;
        }
    }
}

/* ---- the upload -------------------------------------------------- */

static json_t *text_json(const char *text, apr_pool_t *p)
{
    return tus_json_text(text ? text : "", text ? strlen(text) : 0, p);
}

static json_t *optional_json(const char *text, apr_pool_t *p)
{
    return text ? text_json(text, p) : NULL;
}

/* A key may come from another program, and any bytes may stand in a path. */
static int set_member(json_t *object, const char *name, json_t *value, apr_pool_t *p)
{
    json_t *key = text_json(name, p);
    int failed = json_object_set_new(object, key ? json_string_value(key) : NULL, value);

    json_decref(key);
    return failed;
}

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const tus_pair_t *)a)->key, ((const tus_pair_t *)b)->key);
}

static json_t *metadata_json(const apr_array_header_t *pairs, apr_pool_t *p)
{
    apr_array_header_t *sorted =
        pairs ? apr_array_copy(p, pairs) : apr_array_make(p, 1, sizeof(tus_pair_t));
    json_t *json = json_object();

    qsort(sorted->elts, (size_t)sorted->nelts, sizeof(tus_pair_t), compare_pairs);
    for (int i = 0; i < sorted->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(sorted, i, tus_pair_t);

        if (set_member(json, pair->key, tus_json_text(pair->value, pair->len, p), p) != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static json_t *parts_json(const apr_array_header_t *parts)
{
    json_t *json = parts ? json_array() : json_null();

    for (int i = 0; parts && i < parts->nelts; i++) {
        const char *id = APR_ARRAY_IDX(parts, i, const char *);

        if (!tus_id_is_valid(id) || json_array_append_new(json, json_string(id)) != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static json_t *storage_json(const tus_record_t *record, apr_pool_t *p)
{
    if (!record->storage_type) {
        return json_null();
    }
    return json_pack("{s:o*, s:o*, s:o}", "InfoPath", optional_json(record->storage_info_path, p),
                     "Path", optional_json(record->storage_path, p), "Type",
                     text_json(record->storage_type, p));
}

static json_t *upload_json(const tus_record_t *record, apr_off_t offset, apr_pool_t *p)
{
    int deferred = record->size == TUS_SIZE_UNKNOWN;

    /* clang-format off */
    return json_pack("{s:o, s:I, s:b, s:I, s:o, s:b, s:b, s:o, s:o}",
                     "ID", text_json(record->id, p),
                     "Size", (json_int_t)(deferred ? 0 : record->size),
                     "SizeIsDeferred", deferred,
                     "Offset", (json_int_t)offset,
                     "MetaData", metadata_json(record->pairs, p),
                     "IsPartial", record->is_partial,
                     "IsFinal", record->is_final,
                     "PartialUploads", parts_json(record->parts),
                     "Storage", storage_json(record, p));
    /* clang-format on */
}

/* ---- the request ------------------------------------------------- */

typedef struct field_t {
    const char *name;
    const char *value;
    int at; /* in the order of the request */
} field_t;

static int compare_fields(const void *a, const void *b)
{
    const field_t *field = a, *other = b;
    int order = strcmp(field->name, other->name);

    return order ? order : field->at - other->at;
}

/* As Go's textproto has it: a name that is no token stays as it is. */
static const char *canonical(const char *name, apr_pool_t *p)
{
    char *result = apr_pstrdup(p, name);
    int is_first = 1;

    if (name[strspn(name, TUS_TCHAR)]) {
        return name;
    }
    for (char *c = result; *c; c++) {
        *c = is_first ? apr_toupper(*c) : apr_tolower(*c);
        is_first = *c == '-';
    }
    return result;
}

static int is_one_of(const char *name, const char *const *names)
{
    while (*names && strcasecmp(name, *names) != 0) {
        names++;
    }
    return *names != NULL;
}

static int is_named(const char *name, const apr_array_header_t *names)
{
    for (int i = 0; names && i < names->nelts; i++) {
        if (strcasecmp(name, APR_ARRAY_IDX(names, i, const char *)) == 0) {
            return 1;
        }
    }
    return 0;
}

static apr_array_header_t *sorted_fields(const apr_table_t *headers, int without_secrets,
                                         const apr_array_header_t *forward, apr_pool_t *p)
{
    static const char *const of_the_body[] = { "Trailer", "Transfer-Encoding", NULL };
    static const char *const secrets[] = { "Authorization", "Cookie", "Proxy-Authorization", NULL };
    const apr_array_header_t *all = apr_table_elts(headers);
    apr_array_header_t *fields = apr_array_make(p, all->nelts, sizeof(field_t));

    for (int i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_one_of(entry->key, of_the_body)
            || (without_secrets && is_one_of(entry->key, secrets)
                && !is_named(entry->key, forward))) {
            continue;
        }
        APR_ARRAY_PUSH(fields, field_t) = (field_t){ canonical(entry->key, p), entry->val, i };
    }
    qsort(fields->elts, (size_t)fields->nelts, sizeof(field_t), compare_fields);
    return fields;
}

static json_t *headers_json(const apr_array_header_t *fields, apr_pool_t *p)
{
    json_t *json = json_object(), *values = NULL;
    const char *last = NULL;

    for (int i = 0; i < fields->nelts; i++) {
        const field_t *field = &APR_ARRAY_IDX(fields, i, field_t);
        int failed = 0;

        if (!last || strcmp(field->name, last) != 0) {
            last = field->name;
            values = json_array();
            failed = set_member(json, field->name, values, p);
        }
        if (failed || json_array_append_new(values, text_json(field->value, p)) != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static json_t *request_json(const tus_cause_t *cause, const apr_array_header_t *fields,
                            apr_pool_t *p)
{
    /* clang-format off */
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "Method", text_json(cause->method, p),
                     "URI", text_json(cause->uri, p),
                     "RemoteAddr", text_json(cause->remote, p),
                     "Header", headers_json(fields, p));
    /* clang-format on */
}

static json_t *ours_json(const char *event_id, const tus_cause_t *cause, apr_pool_t *p)
{
    /* clang-format off */
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "EventID", text_json(event_id, p),
                     "User", text_json(cause->user, p),
                     "Scheme", text_json(cause->scheme, p),
                     "Host", text_json(cause->host, p));
    /* clang-format on */
}

apr_status_t tus_hook_json_format(const char **json, apr_size_t *len, tus_hook_e type,
                                  const char *event_id, const tus_record_t *record,
                                  apr_off_t offset, const tus_cause_t *cause, int without_secrets,
                                  const apr_array_header_t *forward, apr_pool_t *p)
{
    static const tus_cause_t none;
    const tus_cause_t *said = cause ? cause : &none;
    const apr_table_t *headers = said->headers ? said->headers : apr_table_make(p, 1);
    const char *text;
    apr_size_t size;
    apr_status_t rv;
    json_t *root;

    if (!event_id) {
        return APR_EINVAL;
    }
    /* clang-format off */
    root = json_pack("{s:s, s:{s:o, s:o, s:o}}",
                     "Type", tus_hook_name(type),
                     "Event",
                     "Upload", upload_json(record, offset, p),
                     "HTTPRequest", request_json(said, sorted_fields(headers, without_secrets,
                                                                     forward, p), p),
                     "ModTus", ours_json(event_id, said, p));
    /* clang-format on */
    rv = tus_json_dump(root, TUS_HOOK_JSON_MAX, &text, &size, p);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    size += growth_of(text);
    if (size > TUS_HOOK_JSON_MAX) {
        return APR_EINVAL;
    }
    *json = spell(text, size, p);
    *len = size;
    return APR_SUCCESS;
}

static int is_host(const char *host)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "-._:[]";

    return strlen(host) < HOST_MAX && host[strspn(host, chars)] == '\0';
}

void tus_hook_json_origin(const char **scheme, const char **host, const char *json, apr_size_t len,
                          apr_pool_t *p)
{
    json_t *root = tus_json_is_shallow(json, len) ? json_loadb(json, len, 0, NULL) : NULL;
    json_t *ours = json_object_get(json_object_get(root, "Event"), "ModTus");
    const char *said;

    said = json_string_value(json_object_get(ours, "Scheme"));
    *scheme = said ? apr_pstrdup(p, said) : "";
    said = json_string_value(json_object_get(ours, "Host"));
    *host = said && is_host(said) ? apr_pstrdup(p, said) : "";
    json_decref(root);
}
