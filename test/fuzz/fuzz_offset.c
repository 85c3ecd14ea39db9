/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is the text of a note of an offset. */
#include "fuzz.h"

#include <apr_strings.h>

#include <string.h>
#include <unistd.h>

static int says(const char *text, apr_off_t offset, apr_pool_t *p)
{
    const char *plain = apr_psprintf(p, "%" APR_OFF_T_FMT, offset);

    while (*text == '0' && text[1] >= '0' && text[1] <= '9') {
        text++;
    }
    return strcmp(text, plain) == 0 || strcmp(text, apr_pstrcat(p, plain, " durable", NULL)) == 0;
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *text = fuzz_text(data, len, p), *state = fuzz_path("state", p);
    apr_off_t offset = -1;
    apr_status_t rv;

    fuzz_mkdir("state");
    fuzz_mkdir("state/synced");
    if (symlink(text, fuzz_path("state/synced/id", p)) != 0) {
        return; /* none, or too much for a symbolic link */
    }
    rv = tus_offset_read(state, TUS_OFFSET_SYNCED, "id", &offset);
    HOLDS(rv == TUS_EDAMAGED || (rv == APR_SUCCESS && offset >= 0 && says(text, offset, p)));

    /* It can be replaced, whatever it is, and removed. */
    HOLDS(tus_offset_note(state, TUS_OFFSET_SYNCED, "id", (apr_off_t)len, len % 2) == APR_SUCCESS);
    HOLDS(tus_offset_read(state, TUS_OFFSET_SYNCED, "id", &offset) == APR_SUCCESS);
    HOLDS(offset == (apr_off_t)len);
    HOLDS(tus_offset_drop(state, TUS_OFFSET_SYNCED, "id") == APR_SUCCESS);
    HOLDS(APR_STATUS_IS_ENOENT(tus_offset_read(state, TUS_OFFSET_SYNCED, "id", &offset)));
    HOLDS(symlink(text, fuzz_path("state/synced/id", p)) == 0);
    HOLDS(tus_offset_drop(state, TUS_OFFSET_SYNCED, "id") == APR_SUCCESS);
    HOLDS(APR_STATUS_IS_ENOENT(tus_offset_read(state, TUS_OFFSET_SYNCED, "id", &offset)));
}
