/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Ids: a part of a URL and the name of a file. */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <string.h>
#include <strings.h>

#define ID_BYTES 16

#define INFO ".info"

apr_status_t tus_id_make(const char **id, apr_pool_t *p)
{
    unsigned char bytes[ID_BYTES];
    apr_status_t rv = apr_generate_random_bytes(bytes, sizeof(bytes));

    if (rv == APR_SUCCESS) {
        *id = apr_pescape_hex(p, bytes, sizeof(bytes), 0);
    }
    return rv;
}

/* unreserved, RFC 3986, 2.3. Each request asks several times: strspn() makes a table for each. */
static const char unreserved[256] = {
    ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['-'] = 1,
    ['.'] = 1,         ['_'] = 1,         ['~'] = 1,
};

static apr_size_t unreserved_len(const char *text)
{
    apr_size_t len = 0;

    while (unreserved[(unsigned char)text[len]]) {
        len++;
    }
    return len;
}

static int is_segment(const char *segment, apr_size_t len)
{
    const apr_size_t info = sizeof(INFO) - 1;

    if (len < 1 || len > TUS_ID_SEGMENT_MAX || segment[0] == '.') {
        return 0;
    }
    /* In any case: some file systems take X.INFO for the record of X. */
    return len < info || strncasecmp(segment + len - info, INFO, info) != 0;
}

int tus_id_is_valid(const char *id)
{
    if (!id || strlen(id) > TUS_ID_MAX) {
        return 0;
    }
    for (;;) {
        apr_size_t len = unreserved_len(id);

        if (!is_segment(id, len)) {
            return 0;
        }
        if (id[len] != '/') {
            return id[len] == '\0';
        }
        id += len + 1;
    }
}

/* No two ids have the same: none that is its own key starts with "~". */
const char *tus_id_key(const char *id, char key[TUS_ID_KEY_SIZE])
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;
    apr_size_t len = strlen(id);

    if (len < TUS_ID_KEY_SIZE && id[0] != '~' && !strchr(id, '/')) {
        return memcpy(key, id, len + 1);
    }
    apr_sha1_init(&sha1);
    apr_sha1_update_binary(&sha1, (const unsigned char *)id, (unsigned)len);
    apr_sha1_final(digest, &sha1);
    key[0] = '~';
    apr_escape_hex(key + 1, digest, sizeof(digest), 0, NULL);
    return key;
}
