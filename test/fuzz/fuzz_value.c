/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The input is JSON, or not: what we read of it ourselves is what jansson reads,
 * and what we write of that is what jansson writes.
 */
#include "fuzz.h"

#include <jansson.h>

#include <stdlib.h>
#include <string.h>

static void write_value(tus_json_out_t *out, const tus_value_t *value)
{
    char bracket = value->type == TUS_VALUE_OBJECT ? '{' : '[';

    switch (value->type) {
    case TUS_VALUE_NULL:
        tus_json_out_null(out, value->name);
        break;
    case TUS_VALUE_FALSE:
    case TUS_VALUE_TRUE:
        tus_json_out_boolean(out, value->name, value->type == TUS_VALUE_TRUE);
        break;
    case TUS_VALUE_INTEGER:
        tus_json_out_integer(out, value->name, value->integer);
        break;
    case TUS_VALUE_REAL:
        tus_json_out_real(out, value->name, value->real);
        break;
    case TUS_VALUE_STRING:
        tus_json_out_bytes(out, value->name, value->text, value->len);
        break;
    case TUS_VALUE_ARRAY:
    case TUS_VALUE_OBJECT:
        tus_json_out_open(out, value->name, bracket);
        for (const tus_value_t *one = value->first; one; one = one->next) {
            write_value(out, one);
        }
        tus_json_out_close(out, (char)(bracket + 2)); /* as ASCII has them */
        break;
    }
}

static const char *text_of(const tus_value_t *value, apr_size_t max, apr_size_t *len, apr_pool_t *p)
{
    const char *text;
    tus_json_out_t out;

    tus_json_out_begin(&out, max, p);
    write_value(&out, value);
    HOLDS(tus_json_out_end(&out, &text, len) == APR_SUCCESS);
    return text;
}

static void compare(const char *text, apr_size_t len, const char *data, apr_size_t size)
{
    const size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(15);
    json_t *json = json_loadb(data, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    char *expected = json_dumps(json, flags);

    HOLDS(len == strlen(expected) && memcmp(text, expected, len) == 0);
    free(expected);
    json_decref(json);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const tus_value_t *plain = tus_value_plain(data, len, p);
    const tus_value_t *value = tus_value_of_jansson(data, len, p);
    apr_size_t max = 32 * len + 64, plain_len, value_len;
    const char *text;

    HOLDS(!plain || value);
    if (!value) {
        return;
    }
    text = text_of(value, max, &value_len, p);
    compare(text, value_len, data, len);
    if (plain) {
        HOLDS(strcmp(text_of(plain, max, &plain_len, p), text) == 0 && plain_len == value_len);
    }
}
