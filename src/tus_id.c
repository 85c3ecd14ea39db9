/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Ids: a part of a URL and the name of a file. */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_general.h>

#include <string.h>
#include <strings.h>

#define ID_BYTES 16
#define ID_MAX 1000
#define SEGMENT_MAX 200

/* "unreserved" of RFC 3986, section 2.3. */
#define UNRESERVED "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

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

static int is_segment(const char *segment, apr_size_t len)
{
    const apr_size_t info = sizeof(INFO) - 1;

    if (len < 1 || len > SEGMENT_MAX || segment[0] == '.') {
        return 0;
    }
    /* In any case: some file systems take X.INFO for the record of X. */
    return len < info || strncasecmp(segment + len - info, INFO, info) != 0;
}

int tus_id_is_valid(const char *id)
{
    if (!id || strlen(id) > ID_MAX) {
        return 0;
    }
    for (;;) {
        apr_size_t len = strspn(id, UNRESERVED);

        if (!is_segment(id, len)) {
            return 0;
        }
        if (id[len] != '/') {
            return id[len] == '\0';
        }
        id += len + 1;
    }
}
