/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is an integer, a media type, Base64, and bytes to be encoded so. */
#include "fuzz.h"

#include <apr_encode.h>
#include <apr_strings.h>

#include <string.h>

static void read_integer(const char *text, apr_pool_t *p)
{
    apr_off_t number = -1;

    if (tus_header_integer(text, &number) != APR_SUCCESS) {
        HOLDS(number == -1);
        return;
    }
    HOLDS(number >= 0);
    while (*text == '0' && text[1]) {
        text++;
    }
    HOLDS(strcmp(text, apr_psprintf(p, "%" APR_OFF_T_FMT, number)) == 0);
}

static void read_media_type(const char *text, apr_pool_t *p)
{
    int is = tus_header_is_media_type(text, TUS_MEDIA_TYPE);
    const char *with = apr_pstrcat(p, " ", text, " ;charset=x", NULL);

    /* Parameters and space change nothing. */
    HOLDS(tus_header_is_media_type(with, TUS_MEDIA_TYPE) == is);
    HOLDS(!is || !tus_header_is_media_type(text, "application/offset"));
    HOLDS(!is || strlen(text) >= strlen(TUS_MEDIA_TYPE));
}

static void read_base64(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *bytes, *text;
    apr_size_t size;

    if (tus_header_base64(data, len, &bytes, &size, p) != APR_SUCCESS) {
        return;
    }
    HOLDS(size == len / 4 * 3 || (len > 0 && data[len - 1] == '='));
    HOLDS(bytes[size] == '\0');
    text = apr_pencode_base64_binary(p, (const unsigned char *)bytes, (apr_ssize_t)size, 0, NULL);
    HOLDS(len == 0 || (strlen(text) == len && memcmp(text, data, len) == 0));
}

static void write_base64(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *text, *bytes;
    apr_size_t size;

    text = len > 0 ? apr_pencode_base64_binary(p, (const unsigned char *)data, (apr_ssize_t)len, 0,
                                               NULL)
                   : "";
    HOLDS(tus_header_base64(text, strlen(text), &bytes, &size, p) == APR_SUCCESS);
    HOLDS(size == len && memcmp(bytes, len > 0 ? data : "", len) == 0);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *text = fuzz_text(data, len, p);

    read_integer(text, p);
    read_media_type(text, p);
    read_base64(data, len, p);
    write_base64(data, len, p);
}
