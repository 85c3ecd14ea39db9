/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * JSON, written as one goes, in the compact form. Plain text is written as it
 * stands; how all other strings and numbers are spelled, jansson knows.
 */
#include "tus_words.h"

#include <apr_strings.h>
#include <jansson.h>

#include <stdlib.h>
#include <string.h>

/* Most of what is written is no longer. */
#define USUAL_SIZE 1024

/* The digits that a double has for sure: so what was written short is read and written so again. */
#define REAL_DIGITS 15

/* With its sign. */
#define INTEGER_MAX 21

void tus_json_out_begin(tus_json_out_t *out, apr_size_t max, apr_pool_t *p)
{
    *out = (tus_json_out_t){ .pool = p, .max = max };
    out->size = max < USUAL_SIZE ? max : USUAL_SIZE;
    out->text = apr_palloc(p, out->size + 1);
}

static void grow(tus_json_out_t *out, apr_size_t needed)
{
    apr_size_t size = needed > out->max / 2 ? out->max : 2 * needed;
    char *text = apr_palloc(out->pool, size + 1);

    memcpy(text, out->text, out->len);
    out->text = text;
    out->size = size;
}

static void put(tus_json_out_t *out, const char *bytes, apr_size_t len)
{
    if (out->failed || len > out->max - out->len) {
        out->failed = 1;
        return;
    }
    if (len > out->size - out->len) {
        grow(out, out->len + len);
    }
    memcpy(out->text + out->len, bytes, len);
    out->len += len;
}

/* What jansson makes of a value, which is dropped; NULL: it is none. */
static void put_jansson(tus_json_out_t *out, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(REAL_DIGITS)) : NULL;

    if (text) {
        put(out, text, strlen(text));
    }
    out->failed |= !text;
    free(text);
    json_decref(json);
}

static void put_text(tus_json_out_t *out, const char *text, apr_size_t len)
{
    for (apr_size_t i = 0; i < len; i++) {
        if (!tus_value_is_plain(text[i])) {
            put_jansson(out, json_stringn(text, len));
            return;
        }
    }
    put(out, "\"", 1);
    put(out, text, len);
    put(out, "\"", 1);
}

/* What stands before a value: a comma, and its name. */
static void put_name(tus_json_out_t *out, const char *name)
{
    char last = out->len ? out->text[out->len - 1] : '{';

    if (last != '{' && last != '[') {
        put(out, ",", 1);
    }
    if (name) {
        put_text(out, name, strlen(name));
        put(out, ":", 1);
    }
}

void tus_json_out_open(tus_json_out_t *out, const char *name, char bracket)
{
    put_name(out, name);
    put(out, &bracket, 1);
}

void tus_json_out_close(tus_json_out_t *out, char bracket)
{
    put(out, &bracket, 1);
}

void tus_json_out_bytes(tus_json_out_t *out, const char *name, const char *bytes, apr_size_t len)
{
    put_name(out, name);
    put_text(out, bytes, len);
}

void tus_json_out_text(tus_json_out_t *out, const char *name, const char *text)
{
    if (text) {
        tus_json_out_bytes(out, name, text, strlen(text));
    }
}

void tus_json_out_integer(tus_json_out_t *out, const char *name, apr_int64_t number)
{
    char digits[INTEGER_MAX];
    char *start = digits + sizeof(digits);
    apr_uint64_t rest = number < 0 ? 0 - (apr_uint64_t)number : (apr_uint64_t)number;

    put_name(out, name);
    do {
        *--start = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0) {
        *--start = '-';
    }
    put(out, start, (apr_size_t)(digits + sizeof(digits) - start));
}

void tus_json_out_real(tus_json_out_t *out, const char *name, double number)
{
    put_name(out, name);
    put_jansson(out, json_real(number));
}

void tus_json_out_boolean(tus_json_out_t *out, const char *name, int flag)
{
    put_name(out, name);
    put(out, flag ? "true" : "false", flag ? 4 : 5);
}

void tus_json_out_null(tus_json_out_t *out, const char *name)
{
    put_name(out, name);
    put(out, "null", 4);
}

apr_status_t tus_json_out_end(tus_json_out_t *out, const char **json, apr_size_t *len)
{
    if (out->failed) {
        return APR_EINVAL;
    }
    out->text[out->len] = '\0';
    *json = out->text;
    *len = out->len;
    return APR_SUCCESS;
}
