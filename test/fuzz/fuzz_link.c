/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The input is the file of the finals that a part is linked to. It stands there
 * twice, with as many empty lines between as its first two bytes say.
 */
#include "fuzz.h"

#include <string.h>

/* A torn line longer than this can take the next one with it. */
#define LINE_MAX_BYTES (32 * 1024)

static int count(const apr_array_header_t *ids, const char *id)
{
    int found = 0, i;

    for (i = 0; i < ids->nelts; i++) {
        found += strcmp(APR_ARRAY_IDX(ids, i, const char *), id) == 0;
    }
    return found;
}

static apr_array_header_t *list(apr_pool_t *p)
{
    apr_array_header_t *finals = NULL;
    int i;

    HOLDS(tus_link_list(fuzz_path("state", p), "part", &finals, p) == APR_SUCCESS && finals);
    for (i = 0; i < finals->nelts; i++) {
        HOLDS(tus_id_is_valid(APR_ARRAY_IDX(finals, i, const char *)));
        HOLDS(count(finals, APR_ARRAY_IDX(finals, i, const char *)) == 1);
    }
    return finals;
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    apr_size_t lines;
    const char *padding = fuzz_padding(&data, &len, &lines, p);
    const apr_array_header_t *before, *after;
    char *text;
    int i;

    if (len > LINE_MAX_BYTES) {
        return;
    }
    text = apr_palloc(p, lines + 2 * len);
    memcpy(text, data, len);
    memcpy(text + len, padding, lines);
    memcpy(text + len + lines, data, len);
    fuzz_mkdir("state");
    fuzz_mkdir("state/links");
    fuzz_put("state/links/part", text, lines + 2 * len);
    before = list(p);

    /* A line that was torn spoils neither those before it nor the next one. */
    HOLDS(tus_link_add(fuzz_path("state", p), "part", "final") == APR_SUCCESS);
    after = list(p);
    HOLDS(count(after, "final") == 1);
    HOLDS(after->nelts == before->nelts + (count(before, "final") == 0));
    for (i = 0; i < before->nelts; i++) {
        HOLDS(strcmp(APR_ARRAY_IDX(before, i, const char *), APR_ARRAY_IDX(after, i, const char *))
              == 0);
    }
    HOLDS(tus_link_remove(fuzz_path("state", p), "part") == APR_SUCCESS);
    HOLDS(list(p)->nelts == 0);
}
