/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Two lines are bases; the rest is Upload-Concat. */
#include "fuzz.h"

#include <apr_strings.h>

#include <string.h>

static void refused(const tus_error_t *error)
{
    HOLDS(fuzz_is_error(error, TUS_ERR_INVALID_CONCAT));
}

/* The same ids, as the URLs of another endpoint and relative ones. */
static void again(const tus_concat_t *concat, const char *prefix, const char *base, apr_pool_t *p)
{
    apr_array_header_t *bases = apr_array_make(p, 1, sizeof(const char *));
    apr_array_header_t *urls = apr_array_make(p, concat->parts->nelts, sizeof(const char *));
    tus_concat_t second;
    int i;

    APR_ARRAY_PUSH(bases, const char *) = base;
    for (i = 0; i < concat->parts->nelts; i++) {
        APR_ARRAY_PUSH(urls, const char *) =
            apr_pstrcat(p, prefix, APR_ARRAY_IDX(concat->parts, i, const char *), NULL);
    }
    HOLDS(!tus_concat_parse(apr_pstrcat(p, "final;", apr_array_pstrcat(p, urls, ' '), NULL), bases,
                            &second, p));
    HOLDS(second.parts->nelts == concat->parts->nelts);
    for (i = 0; i < concat->parts->nelts; i++) {
        HOLDS(strcmp(APR_ARRAY_IDX(second.parts, i, const char *),
                     APR_ARRAY_IDX(concat->parts, i, const char *))
              == 0);
    }
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    apr_array_header_t *bases = apr_array_make(p, 2, sizeof(const char *));
    const char *header;
    tus_concat_t concat;
    const tus_error_t *error;
    int i;

    APR_ARRAY_PUSH(bases, const char *) = fuzz_line(&data, &len, p);
    APR_ARRAY_PUSH(bases, const char *) = fuzz_line(&data, &len, p);
    header = fuzz_text(data, len, p);
    error = tus_concat_parse(header, bases, &concat, p);
    if (error) {
        refused(error);
        return;
    }
    for (i = 0; header[i]; i++) {
        HOLDS((header[i] >= ' ' && header[i] < 0x7f) || header[i] == '\t'); /* HEAD says it again */
    }
    HOLDS(concat.is_partial != concat.is_final);
    HOLDS((concat.parts != NULL) == concat.is_final);
    if (!concat.is_final) {
        return;
    }
    HOLDS(concat.parts->nelts >= 1 && concat.parts->nelts <= TUS_CONCAT_MAX);
    for (i = 0; i < concat.parts->nelts; i++) {
        HOLDS(tus_id_is_valid(APR_ARRAY_IDX(concat.parts, i, const char *)));
    }
    again(&concat, "https://tus.example:8443/a%20b/", "/a b/", p);
    again(&concat, "//[::1]/files/", "http://other/files/", p);
    again(&concat, "./", "/files/", p);
}
