/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Upload-Metadata: "The Upload-Metadata request and response header MUST
 * consist of one or more comma-separated key-value pairs" (tus 1.0, Creation).
 */
#include "tus_words.h"

#include <apr_encode.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <jansson.h>

#include <string.h>

/*
 * The largest header that is taken. Whatever its bytes are, its record stays
 * well below TUS_RECORD_MAX: JSON writes one byte as six at the worst.
 */
#define HEADER_MAX (64 * 1024)

/* Bytes of a key that a client is shown. */
#define SHOWN_MAX 64

/* "The key SHOULD be ASCII encoded": what is not must at least be text, to stand in JSON. */
static int is_utf8(const char *text, apr_size_t len)
{
    json_t *json = json_stringn(text, len);

    json_decref(json);
    return json != NULL;
}

/* "The key MUST NOT contain spaces and commas and MUST NOT be empty." */
static int is_key(const char *key, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)key[i];

        if (c <= ' ' || c == 0x7f || c == ',') {
            return 0;
        }
    }
    return len > 0;
}

/* As much of a key as a sentence takes. */
static const char *start_of(const char *key, apr_pool_t *p)
{
    return apr_pstrmemdup(p, key, tus_json_clip(key, SHOWN_MAX));
}

/* Reads one element of the list, `number` for people. */
static const tus_error_t *parse_pair(tus_pair_t *pair, const char *text, apr_size_t len, int number,
                                     apr_pool_t *p)
{
    const char *space;
    apr_size_t key_len;

    while (len > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t')) {
        len--;
    }
    if (len == 0) {
        return tus_error(p, TUS_ERR_INVALID_METADATA, "Upload-Metadata: pair %d has no key",
                         number);
    }

    space = memchr(text, ' ', len);
    key_len = space ? (apr_size_t)(space - text) : len;
    if (!is_key(text, key_len) || !is_utf8(text, key_len)) {
        return tus_error(p, TUS_ERR_INVALID_METADATA,
                         "Upload-Metadata: the key of pair %d has control characters or is not"
                         " UTF-8",
                         number);
    }
    pair->key = apr_pstrmemdup(p, text, key_len);
    if (tus_header_base64(space ? space + 1 : "", space ? len - key_len - 1 : 0, &pair->value,
                          &pair->len, p)
        != APR_SUCCESS) {
        return tus_error(p, TUS_ERR_INVALID_METADATA,
                         "Upload-Metadata: the value of \"%s\" is not padded Base64",
                         start_of(pair->key, p));
    }
    return NULL;
}

const tus_error_t *tus_metadata_parse(const char *header, apr_array_header_t **pairs, apr_pool_t *p)
{
    apr_hash_t *seen = apr_hash_make(p);
    const char *text = header ? header : "";

    *pairs = apr_array_make(p, 4, sizeof(tus_pair_t));
    if (text[strspn(text, " \t")] == '\0') {
        return NULL;
    }
    if (strlen(text) > HEADER_MAX) {
        return tus_error(p, TUS_ERR_INVALID_METADATA, "Upload-Metadata is longer than %d bytes",
                         HEADER_MAX);
    }

    for (;;) {
        apr_size_t len = strcspn(text, ",");
        tus_pair_t *pair = apr_array_push(*pairs);
        const tus_error_t *error = parse_pair(pair, text, len, (*pairs)->nelts, p);

        if (error) {
            return error;
        }
        /* "All keys MUST be unique." */
        if (apr_hash_get(seen, pair->key, APR_HASH_KEY_STRING)) {
            return tus_error(p, TUS_ERR_INVALID_METADATA,
                             "Upload-Metadata: the key \"%s\" is there twice",
                             start_of(pair->key, p));
        }
        apr_hash_set(seen, pair->key, APR_HASH_KEY_STRING, pair->key);
        if (text[len] == '\0') {
            return NULL;
        }
        text += len + 1;
    }
}

const char *tus_metadata_format(const apr_array_header_t *pairs, apr_pool_t *p)
{
    apr_array_header_t *elements;
    int i;

    if (!pairs) {
        return NULL;
    }
    elements = apr_array_make(p, pairs->nelts, sizeof(const char *));
    for (i = 0; i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);
        const char *element = pair->key;

        /* A record may come from another program; what would break the header stays out. */
        if (!is_key(pair->key, strlen(pair->key))) {
            continue;
        }
        if (pair->len > 0) {
            element = apr_pstrcat(p, pair->key, " ",
                                  apr_pencode_base64_binary(p, (const unsigned char *)pair->value,
                                                            (apr_ssize_t)pair->len, APR_ENCODE_NONE,
                                                            NULL),
                                  NULL);
        }
        APR_ARRAY_PUSH(elements, const char *) = element;
    }
    return elements->nelts > 0 ? apr_array_pstrcat(p, elements, ',') : NULL;
}

const tus_pair_t *tus_metadata_get(const apr_array_header_t *pairs, const char *key)
{
    int i;

    for (i = 0; pairs && i < pairs->nelts; i++) {
        const tus_pair_t *pair = &APR_ARRAY_IDX(pairs, i, tus_pair_t);

        if (strcmp(pair->key, key) == 0) {
            return pair;
        }
    }
    return NULL;
}
