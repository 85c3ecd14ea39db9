/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a hook says: tusd's JSON. tusd reads with Go's encoding/json, which
 * matches names in any case, skips what it does not know, and gives up where a
 * type is wrong. Of two members of the same name jansson keeps the last, where Go
 * would merge two objects.
 */
#include "tus_words.h"

#include <apr_strings.h>
#include <jansson.h>

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define STATUS_MIN 200
#define STATUS_MAX 599

/* What httpd and clients take of one field, and of them all. */
#define FIELD_LEN_MAX 8190
#define FIELDS_MAX 100

/* What was left out is for a log: so many entries of it, and so much of a name. */
#define LEFT_MAX 20
#define SHOWN_MAX 64

/* Into a verdict, or a member of it. @return NULL, or what is wrong with the member */
typedef const char *(*read_fn)(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                               apr_pool_t *p);

typedef struct member_t {
    const char *name;
    read_fn read;
    apr_size_t offset; /* of what it is read into */
} member_t;

static const char *wrong_type(const char *name, const char *type, apr_pool_t *p)
{
    return apr_psprintf(p, "its %s is not %s", name, type);
}

static void leave(tus_verdict_t *verdict, const char *what)
{
    if (verdict->left->nelts < LEFT_MAX) {
        APR_ARRAY_PUSH(verdict->left, const char *) = what;
    }
}

/* Reads those members of an object that are known. The table ends with a name of NULL. */
static const char *read_members(const member_t *known, tus_verdict_t *verdict, json_t *object,
                                apr_pool_t *p)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value) {
        const member_t *member = known;
        const char *wrong;

        while (member->name && strcasecmp(name, member->name) != 0) {
            member++;
        }
        if (!member->name || json_is_null(value)) {
            continue;
        }
        wrong = member->read(verdict, (char *)verdict + member->offset, member->name, value, p);
        if (wrong) {
            return wrong;
        }
    }
    return NULL;
}

static const char *read_flag(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                             apr_pool_t *p)
{
    (void)verdict;
    if (!json_is_boolean(json)) {
        return wrong_type(name, "true or false", p);
    }
    *(int *)to = json_is_true(json);
    return NULL;
}

/* An empty one says nothing: tusd has its own instead. */
static const char *read_text(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                             apr_pool_t *p)
{
    const char *text;

    (void)verdict;
    if (!tus_json_string(&text, json, p)) {
        return wrong_type(name, "a string without NUL", p);
    }
    *(const char **)to = *text ? text : NULL;
    return NULL;
}

static const char *read_id(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                           apr_pool_t *p)
{
    const char *wrong = read_text(verdict, to, name, json, p);

    return !wrong && verdict->id && !tus_id_is_valid(verdict->id)
               ? wrong_type(name, "one that an upload can have", p)
               : wrong;
}

static const char *read_status(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                               apr_pool_t *p)
{
    apr_int64_t status = json_integer_value(json);

    (void)to;
    if (!json_is_integer(json)) {
        return wrong_type(name, "an integer", p);
    }
    verdict->status = 0;
    if (status < STATUS_MIN || status > STATUS_MAX || status == 204 || status == 205
        || status == 304) {
        if (status != 0) {
            leave(verdict, apr_psprintf(p, "%s %" APR_INT64_T_FMT, name, status));
        }
        return NULL;
    }
    verdict->status = (int)status;
    return NULL;
}

/* ---- maps ---------------------------------------------------------- */

/* Go's map[string]string: null in it is "". */
static const char *check_map(const char *name, json_t *json, apr_pool_t *p)
{
    const char *key;
    json_t *value;

    if (!json_is_object(json)) {
        return wrong_type(name, "an object", p);
    }
    json_object_foreach(json, key, value) {
        if (!json_is_string(value) && !json_is_null(value)) {
            return wrong_type(name, "an object of strings", p);
        }
    }
    return NULL;
}

static const char *text_of(const json_t *json)
{
    return json_is_string(json) ? json_string_value(json) : "";
}

static int may_go_out(const char *name, const json_t *json)
{
    const char *value = text_of(json);
    apr_size_t len = strlen(value);

    return len == json_string_length(json) && strlen(name) + len <= FIELD_LEN_MAX
           && tus_header_is_field(name, value) && !tus_header_is_reserved(name);
}

static const char *read_headers(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                                apr_pool_t *p)
{
    const char *wrong = check_map(name, json, p);
    const char *key;
    json_t *value;

    (void)to;
    if (wrong) {
        return wrong;
    }
    json_object_foreach(json, key, value) {
        if (may_go_out(key, value) && apr_table_elts(verdict->headers)->nelts < FIELDS_MAX) {
            apr_table_set(verdict->headers, key, text_of(value));
        }
        else {
            leave(verdict,
                  apr_psprintf(p, "field '%.*s'", (int)tus_json_clip(key, SHOWN_MAX), key));
        }
    }
    return NULL;
}

static const char *read_pairs(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                              apr_pool_t *p)
{
    const char *wrong = check_map(name, json, p);
    const char *key;
    json_t *value;

    (void)to;
    if (wrong) {
        return wrong;
    }
    verdict->pairs = apr_array_make(p, (int)json_object_size(json), sizeof(tus_pair_t));
    json_object_foreach(json, key, value) {
        tus_pair_t *pair = apr_array_push(verdict->pairs);

        pair->key = apr_pstrdup(p, key);
        pair->len = json_string_length(value);
        pair->value = apr_pstrmemdup(p, text_of(value), pair->len);
    }
    return NULL;
}

static const char *read_storage(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                                apr_pool_t *p)
{
    const char *wrong = check_map(name, json, p);
    json_t *path = json_object_get(json, "Path");

    if (wrong || !path || json_is_null(path)) {
        return wrong;
    }
    return read_text(verdict, to, "Storage.Path", path, p);
}

/* ---- the answer ---------------------------------------------------- */

static const char *read_response(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                                 apr_pool_t *p)
{
    static const member_t members[] = {
        { "StatusCode", read_status, 0 },
        { "Body", read_text, offsetof(tus_verdict_t, body) },
        { "Header", read_headers, 0 },
        { NULL, NULL, 0 },
    };

    (void)to;
    return json_is_object(json) ? read_members(members, verdict, json, p)
                                : wrong_type(name, "an object", p);
}

static const char *read_changes(tus_verdict_t *verdict, void *to, const char *name, json_t *json,
                                apr_pool_t *p)
{
    static const member_t members[] = {
        { "ID", read_id, offsetof(tus_verdict_t, id) },
        { "MetaData", read_pairs, 0 },
        { "Storage", read_storage, offsetof(tus_verdict_t, storage_path) },
        { NULL, NULL, 0 },
    };

    (void)to;
    return json_is_object(json) ? read_members(members, verdict, json, p)
                                : wrong_type(name, "an object", p);
}

static const char *read_answer(tus_verdict_t *verdict, json_t *root, apr_pool_t *p)
{
    static const member_t members[] = {
        { "HTTPResponse", read_response, 0 },
        { "RejectUpload", read_flag, offsetof(tus_verdict_t, reject_upload) },
        { "RejectTermination", read_flag, offsetof(tus_verdict_t, reject_termination) },
        { "ChangeFileInfo", read_changes, 0 },
        { "StopUpload", read_flag, offsetof(tus_verdict_t, stop_upload) },
        { NULL, NULL, 0 },
    };

    if (json_is_null(root)) {
        return NULL;
    }
    return json_is_object(root) ? read_members(members, verdict, root, p)
                                : "it is JSON, but no object";
}

static int is_blank(const char *text, apr_size_t len)
{
    while (len > 0 && memchr(" \t\r\n", *text, 4)) {
        text++;
        len--;
    }
    return len == 0;
}

const char *tus_hook_json_parse(tus_verdict_t **verdict, const char *text, apr_size_t len,
                                apr_pool_t *p)
{
    tus_verdict_t *result = apr_pcalloc(p, sizeof(*result));
    const char *wrong;
    json_error_t error;
    json_t *root;

    result->headers = apr_table_make(p, 2);
    result->left = apr_array_make(p, 1, sizeof(const char *));
    *verdict = result;
    if (is_blank(text, len)) {
        return NULL;
    }
    if (!tus_json_is_shallow(text, len)) {
        return "it is nested too deeply";
    }
    root = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!root) {
        return apr_psprintf(p, "it is not JSON: %s", error.text);
    }
    wrong = read_answer(result, root, p);
    json_decref(root);
    return wrong;
}
