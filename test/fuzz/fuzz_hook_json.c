/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is what a hook answers. What it says is then told to a hook. */
#include "fuzz.h"

#include <apr_strings.h>
#include <jansson.h>

#include <string.h>

#define FIELDS_MAX 100
#define FIELD_LEN_MAX 8190
#define LEFT_MAX 20

/* Above, what is told may grow too large: a byte is written as six at the worst. */
#define INPUT_MAX (TUS_HOOK_JSON_MAX / 8)

static void check_fields(const apr_table_t *headers)
{
    const apr_array_header_t *fields = apr_table_elts(headers);

    HOLDS(fields->nelts <= FIELDS_MAX);
    for (int i = 0; i < fields->nelts; i++) {
        const apr_table_entry_t *field = &APR_ARRAY_IDX(fields, i, apr_table_entry_t);

        HOLDS(*field->key && field->key[strspn(field->key, TUS_TCHAR)] == '\0');
        HOLDS(fuzz_is_header(field->val));
        HOLDS(!tus_header_is_reserved(field->key));
        HOLDS(strlen(field->key) + strlen(field->val) <= FIELD_LEN_MAX);
    }
}

static void check_left(const apr_array_header_t *left)
{
    HOLDS(left->nelts <= LEFT_MAX);
    for (int i = 0; i < left->nelts; i++) {
        const char *what = APR_ARRAY_IDX(left, i, const char *);

        HOLDS(*what && strlen(what) < 80);
    }
}

static void check(const tus_verdict_t *verdict)
{
    int status = verdict->status;

    HOLDS(status == 0 || (status >= 200 && status <= 599));
    HOLDS(status != 204 && status != 205 && status != 304);
    HOLDS(!verdict->body || *verdict->body);
    HOLDS(!verdict->id || tus_id_is_valid(verdict->id));
    HOLDS(!verdict->storage_path || *verdict->storage_path);
    check_fields(verdict->headers);
    check_left(verdict->left);
    for (int i = 0; verdict->pairs && i < verdict->pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(verdict->pairs, i, tus_pair_t);

        HOLDS(pair->value[pair->len] == '\0');
    }
}

/* It is JSON without a character that HTML or a log would stumble over, and has what was said. */
static void check_event(const char *json, apr_size_t len, const tus_verdict_t *verdict)
{
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    json_t *upload = json_object_get(json_object_get(root, "Event"), "Upload");
    json_t *metadata = json_object_get(upload, "MetaData");

    HOLDS(root && len <= TUS_HOOK_JSON_MAX && strlen(json) == len);
    for (apr_size_t i = 0; i < len; i++) {
        HOLDS((unsigned char)json[i] >= ' ' && !strchr("<>&", json[i]));
    }
    HOLDS(fuzz_same(json_string_value(json_object_get(upload, "ID")),
                    verdict->id ? verdict->id : ""));
    for (int i = 0; verdict->pairs && i < verdict->pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(verdict->pairs, i, tus_pair_t);
        const json_t *value = json_object_get(metadata, pair->key);

        HOLDS(json_string_length(value) == pair->len);
        HOLDS(memcmp(json_string_value(value), pair->value, pair->len) == 0);
    }
    json_decref(root);
}

static void tell(const tus_verdict_t *verdict, apr_pool_t *p)
{
    const tus_record_t record = { .id = verdict->id,
                                  .size = TUS_SIZE_UNKNOWN,
                                  .pairs = verdict->pairs,
                                  .storage_type = verdict->storage_path ? "filestore" : NULL,
                                  .storage_path = verdict->storage_path };
    const tus_cause_t cause = { .method = "POST",
                                .uri = verdict->body,
                                .remote = verdict->body,
                                .headers = verdict->headers,
                                .user = verdict->body };
    char event_id[TUS_EVENT_ID_SIZE];
    const char *json;
    apr_size_t len;

    HOLDS(tus_hook_event_id(event_id, TUS_HOOK_PRE_CREATE, &record, 0) == event_id);
    if (tus_hook_json_format(&json, &len, TUS_HOOK_PRE_CREATE, event_id, &record, 0, &cause, 1,
                             NULL, p)
        == APR_SUCCESS) {
        check_event(json, len, verdict);
    }
}

/* And bytes that are no JSON, and no UTF-8, can be told. */
static void tell_bytes(const char *data, apr_size_t len, apr_pool_t *p)
{
    apr_array_header_t *pairs = apr_array_make(p, 1, sizeof(tus_pair_t));
    const tus_verdict_t nothing = { 0 };
    const tus_record_t record = { .pairs = pairs };
    const char *text = fuzz_text(data, len, p);
    tus_cause_t cause = { .method = text, .headers = apr_table_make(p, 1), .host = text };
    const char *json;

    APR_ARRAY_PUSH(pairs, tus_pair_t) = (tus_pair_t){ text, apr_pstrmemdup(p, data, len), len };
    apr_table_addn((apr_table_t *)cause.headers, text, text);
    if (len <= INPUT_MAX / 5) {
        HOLDS(tus_hook_json_format(&json, &len, TUS_HOOK_POST_CREATE, "", &record, 0, &cause, 0,
                                   NULL, p)
              == APR_SUCCESS);
        check_event(json, len, &nothing);
    }
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    tus_verdict_t *verdict;
    const char *wrong;

    if (len > INPUT_MAX) {
        return;
    }
    tell_bytes(data, len, p);
    wrong = tus_hook_json_parse(&verdict, data, len, p);
    if (wrong) {
        HOLDS(*wrong && strlen(wrong) < 256);
        return;
    }
    check(verdict);
    tell(verdict, p);
}
