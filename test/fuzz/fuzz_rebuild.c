/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The first line is how far a rebuild has come, the rest the list of ids that it
 * goes through.
 */
#include "fuzz.h"

#include <apr_strings.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define AT_LEN 20

/* Does all of a slice, or its first, or carries some, by what the id is. */
static apr_status_t do_some(void *baton, apr_array_header_t *noted, apr_pool_t *p)
{
    int i;

    (void)p;
    HOLDS(noted->nelts > 0);
    for (i = 0; i < noted->nelts; i++) {
        tus_noted_t *one = &APR_ARRAY_IDX(noted, i, tus_noted_t);

        HOLDS(tus_id_is_valid(one->id));
        one->carry = one->id[0] == 'c';
    }
    if (APR_ARRAY_IDX(noted, 0, tus_noted_t).id[0] == 's') {
        noted->nelts = 1;
    }
    *(int *)baton += noted->nelts;
    return APR_SUCCESS;
}

/* How many ids the list has, of one block; 0 if the place in it can be one. */
static int count_of(const char *at, apr_size_t len, apr_pool_t *p)
{
    const char *digits = apr_pstrndup(p, at, AT_LEN); /* what is read of the file */
    apr_array_header_t *noted;
    apr_off_t place, offset = 0;
    char *end;
    int fd;

    if (strlen(digits) == AT_LEN && apr_strtoff(&place, digits, &end, 10) == APR_SUCCESS
        && *end == '\0' && place >= 0 && place <= (apr_off_t)len) {
        return 0;
    }
    fd = open(fuzz_path("state/rebuild", p), O_RDONLY | O_CLOEXEC);
    HOLDS(fd >= 0 && tus_journal_read(fd, &offset, &noted, p) == APR_SUCCESS);
    close(fd);
    return noted->nelts;
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *at = fuzz_line(&data, &len, p), *state, *journal;
    apr_size_t slices = 0, lines = len / 2 + 1;
    apr_status_t rv;
    int done = 0, expected;

    fuzz_mkdir("state");
    fuzz_put("state/rebuild.at", at, strlen(at));
    fuzz_put("state/rebuild", data, len);
    expected = count_of(at, len, p);
    state = fuzz_path("state", p);
    journal = fuzz_path("state/journal", p);
    do {
        HOLDS(slices++ <= lines);
        rv = tus_rebuild_slice(state, journal, do_some, &done, p);
    } while (APR_STATUS_IS_INCOMPLETE(rv));
    HOLDS(APR_STATUS_IS_EOF(rv) && done >= expected && (apr_size_t)done <= lines);
    HOLDS(tus_rebuild_end(state, p) == APR_SUCCESS);
    HOLDS(access(fuzz_path("state/rebuild", p), F_OK) != 0);
    HOLDS(tus_rebuild_slice(state, journal, do_some, &done, p) == APR_SUCCESS);
    fuzz_remove("state");
}
