/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What jansson leaves to say about strings of any bytes, and members as strict as Go's. */
#include "tus_words.h"

#include <apr_strings.h>
#include <jansson.h>

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* The digits that a double has for sure: so what was written short is read and written so again. */
#define REAL_DIGITS 15

/* jansson itself goes down to 2048, which takes more than the 128 KiB of some threads' stacks. */
#define DEPTH_MAX 64

/* ---- writing ------------------------------------------------------------- */

static int is_ascii(const char *text, apr_size_t len)
{
    unsigned char all = 0;

    for (apr_size_t i = 0; i < len; i++) {
        all |= (unsigned char)text[i];
    }
    return all < 0x80;
}

/* jansson judges. */
static int is_utf8(const char *text, apr_size_t len)
{
    json_t *json = json_stringn(text, len);

    json_decref(json);
    return json != NULL;
}

/* Bytes of the UTF-8 character at the text, or 0 if there is none. */
static apr_size_t utf8_length(const char *text, apr_size_t left)
{
    unsigned char lead = (unsigned char)text[0];
    apr_size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    if (len == 1) {
        return 1;
    }
    return len <= left && is_utf8(text, len) ? len : 0;
}

const char *tus_json_clean(const char *text, apr_size_t len, apr_size_t *clean_len, apr_pool_t *p)
{
    char *clean, *end;

    *clean_len = len;
    if (is_ascii(text, len) || is_utf8(text, len)) {
        return text;
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
    *clean_len = (apr_size_t)(end - clean);
    return clean;
}

json_t *tus_json_text(const char *text, apr_size_t len, apr_pool_t *p)
{
    const char *clean = tus_json_clean(text, len, &len, p);

    return json_stringn(clean, len);
}

apr_size_t tus_json_clip(const char *text, apr_size_t max)
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

apr_status_t tus_json_dump(json_t *root, apr_size_t max, const char **json, apr_size_t *len,
                           apr_pool_t *p)
{
    const size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS);
    apr_size_t size = root ? json_dumpb(root, NULL, 0, flags) : 0;
    char *text;

    if (size == 0 || size > max) {
        json_decref(root);
        return APR_EINVAL;
    }
    text = apr_palloc(p, size + 1);
    json_dumpb(root, text, size, flags);
    text[size] = '\0';
    json_decref(root);
    *json = text;
    *len = size;
    return APR_SUCCESS;
}

/* ---- reading ------------------------------------------------------------- */

int tus_json_is_shallow(const char *text, apr_size_t len)
{
    int depth = 0, in_string = 0;

    for (apr_size_t i = 0; i < len; i++) {
        if (text[i] == '"') {
            in_string = !in_string;
        }
        else if (in_string) {
            i += text[i] == '\\'; /* a quote behind it does not end the string */
        }
        else if (text[i] == '[' || text[i] == '{') {
            if (++depth > DEPTH_MAX) {
                return 0;
            }
        }
        else if (text[i] == ']' || text[i] == '}') {
            depth--;
        }
    }
    return 1;
}

int tus_json_string(const char **text, const json_t *json, apr_pool_t *p)
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
