/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The grammar of single header values. */
#include "tus_words.h"

#include <apr_encode.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>
#include <strings.h>

apr_status_t tus_header_integer(const char *value, apr_off_t *number)
{
    apr_off_t result;

    /* apr_strtoff() also takes signs, space and an empty string. */
    if (!value || !*value || value[strspn(value, "0123456789")]
        || apr_strtoff(&result, value, NULL, 10) != APR_SUCCESS) {
        return APR_EINVAL;
    }
    *number = result;
    return APR_SUCCESS;
}

int tus_header_is_media_type(const char *value, const char *type)
{
    apr_size_t len = strlen(type);

    if (!value) {
        return 0;
    }
    value += strspn(value, " \t");
    if (strncasecmp(value, type, len) != 0) {
        return 0;
    }
    value += len;
    value += strspn(value, " \t");
    return *value == '\0' || *value == ';';
}

int tus_header_is_field(const char *name, const char *value)
{
    if (!*name || name[strspn(name, TUS_TCHAR)]) {
        return 0;
    }
    for (; *value; value++) {
        if (apr_iscntrl(*value) && *value != '\t') {
            return 0;
        }
    }
    return 1;
}

/* Fields, and beginnings of them. */
static const char *const reserved[] = {
    "Access-Control-",
    "Tus-",
    "Upload-",
    "X-Accel-",
    "X-Sendfile-",
    "Connection",
    "Content-Length",
    "Date",
    "Keep-Alive",
    "Location",
    "Proxy-Connection",
    "Server",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "X-Content-Type-Options",
    "X-Lighttpd-Send-File",
    "X-Sendfile",
};

int tus_header_is_reserved(const char *name)
{
    for (apr_size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        apr_size_t len = strlen(reserved[i]);

        if (strncasecmp(name, reserved[i], len) == 0
            && (name[len] == '\0' || reserved[i][len - 1] == '-')) {
            return 1;
        }
    }
    return 0;
}

apr_status_t tus_header_base64(const char *text, apr_size_t len, const char **bytes,
                               apr_size_t *size, apr_pool_t *p)
{
    char *result = apr_palloc(p, len + 1);
    const char *again;

    *size = 0;
    if (len > 0) {
        if (apr_decode_base64_binary((unsigned char *)result, text, (apr_ssize_t)len,
                                     APR_ENCODE_NONE, size)
            != APR_SUCCESS) {
            return APR_EINVAL;
        }
        /* APR takes other alphabets and lengths, missing padding and stray bits too. */
        again = apr_pencode_base64_binary(p, (const unsigned char *)result, (apr_ssize_t)*size,
                                          APR_ENCODE_NONE, NULL);
        if (!again || strlen(again) != len || memcmp(again, text, len) != 0) {
            return APR_EINVAL;
        }
    }
    result[*size] = '\0';
    *bytes = result;
    return APR_SUCCESS;
}
