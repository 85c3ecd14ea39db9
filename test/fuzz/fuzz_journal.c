/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The input is a journal; its first two bytes say how many empty lines stand in
 * front of it.
 */
#include "fuzz.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The longest line; what is longer may be read as two. */
#define LINE_MAX_BYTES 1002

/* What a line says: all from its last sign on, if that is an id. */
static const char *id_of(const char *line, apr_size_t len, apr_pool_t *p)
{
    apr_size_t i;

    for (i = len; i > 0; i--) {
        if (line[i - 1] == '+' || line[i - 1] == '=') {
            const char *id = apr_pstrmemdup(p, line + i, len - i);

            return strlen(id) == len - i && tus_id_is_valid(id) ? id : NULL;
        }
    }
    return NULL;
}

static void note(apr_hash_t *ids, const char *id, int created)
{
    int was = apr_hash_get(ids, id, APR_HASH_KEY_STRING) == (void *)2;

    apr_hash_set(ids, id, APR_HASH_KEY_STRING, created || was ? (void *)2 : (void *)1);
}

/* All whole lines, read another way; NULL if one is too long for that. */
static apr_hash_t *expect(const char *data, apr_size_t len, apr_pool_t *p)
{
    apr_hash_t *ids = apr_hash_make(p);
    const char *newline;

    while (len > 0 && (newline = memchr(data, '\n', len)) != NULL) {
        apr_size_t line_len = (apr_size_t)(newline - data);
        const char *id = id_of(data, line_len, p);

        if (line_len >= LINE_MAX_BYTES) {
            return NULL;
        }
        if (id) {
            note(ids, id, data[line_len - strlen(id) - 1] == '+');
        }
        data += line_len + 1;
        len -= line_len + 1;
    }
    return ids;
}

static void add(apr_hash_t *ids, const apr_array_header_t *noted, apr_off_t from, apr_off_t to)
{
    apr_off_t end = from;
    int i, j;

    for (i = 0; i < noted->nelts; i++) {
        const tus_noted_t *one = &APR_ARRAY_IDX(noted, i, tus_noted_t);

        HOLDS(tus_id_is_valid(one->id) && one->end > end && one->end <= to);
        end = one->end;
        for (j = 0; j < i && i < 64; j++) {
            HOLDS(strcmp(APR_ARRAY_IDX(noted, j, tus_noted_t).id, one->id) != 0);
        }
        note(ids, one->id, one->created);
    }
}

static apr_hash_t *read_all(const char *name, apr_size_t size, apr_pool_t *p)
{
    apr_hash_t *ids = apr_hash_make(p);
    apr_array_header_t *noted;
    apr_off_t offset = 0, before;
    int fd = open(fuzz_path(name, p), O_RDONLY | O_CLOEXEC);

    do {
        before = offset;
        HOLDS(tus_journal_read(fd, &offset, &noted, p) == APR_SUCCESS);
        HOLDS(offset >= before && offset <= (apr_off_t)size);
        HOLDS(offset > before || noted->nelts == 0);
        add(ids, noted, before, offset);
    } while (offset > before);
    HOLDS(offset == (apr_off_t)size);
    close(fd);
    return ids;
}

static void compare(apr_hash_t *ids, apr_hash_t *others, apr_pool_t *p)
{
    apr_hash_index_t *i;

    HOLDS(apr_hash_count(ids) == apr_hash_count(others));
    for (i = apr_hash_first(p, ids); i; i = apr_hash_next(i)) {
        HOLDS(apr_hash_get(others, apr_hash_this_key(i), APR_HASH_KEY_STRING)
              == apr_hash_this_val(i));
    }
}

static apr_status_t carry(void *baton, apr_array_header_t *noted, apr_pool_t *p)
{
    int i;

    (void)p;
    for (i = 0; i < noted->nelts; i++) {
        APR_ARRAY_IDX(noted, i, tus_noted_t).carry = 1;
        *(int *)baton += 1;
    }
    return APR_SUCCESS;
}

static void compare_journal(apr_hash_t *ids, apr_pool_t *p)
{
    apr_size_t len;

    fuzz_get("journal", &len, p);
    compare(read_all("journal", len, p), ids, p);
}

/* Folded, with all of it carried, it says the same in its own words; so it does when mended. */
static void fold(apr_hash_t *ids, apr_pool_t *p)
{
    const char *path = fuzz_path("journal", p);
    int carried = 0;
    apr_status_t rv = tus_journal_fold(path, carry, &carried, p);

    if (rv != APR_SUCCESS) {
        HOLDS(rv == TUS_EDAMAGED);
        HOLDS(tus_journal_mend(path, p) == APR_SUCCESS);
        compare_journal(ids, p);
        carried = 0;
        HOLDS(tus_journal_fold(path, carry, &carried, p) == APR_SUCCESS);
    }
    HOLDS(access(fuzz_path("journal.fold", p), F_OK) != 0);
    HOLDS((carried == 0) == (apr_hash_count(ids) == 0));
    compare_journal(ids, p);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    apr_size_t lines;
    const char *padding = fuzz_padding(&data, &len, &lines, p);
    apr_hash_t *ids, *expected;
    char *text = apr_palloc(p, lines + len);

    memcpy(text, padding, lines);
    memcpy(text + lines, data, len);
    fuzz_put("journal", text, lines + len);
    ids = read_all("journal", lines + len, p);
    expected = expect(data, len, p);
    if (expected) {
        compare(ids, expected, p);
    }
    fold(ids, p);
}
