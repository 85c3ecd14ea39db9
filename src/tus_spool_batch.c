/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The names of a shard in order, a batch at a time, however many there are.
 *
 * A directory that changes while it is read may be without a name that was put
 * before one that it has. So it is read twice: what the first reading has was
 * there when the second began, and with it all that comes before.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define FIRST 1u

/* A turn, and the name: uploads from `start` on come first. */
typedef struct found_t {
    char text[1 + TUS_SPOOLED_NAME_SIZE + sizeof(TUS_SPOOLED_PENDING)];
    unsigned char seen; /* in which readings, in bits */
} found_t;

struct tus_spool_batch_t {
    const char *start;
    apr_array_header_t *found;
    found_t after; /* the end of the last batch */
    int is_cut;    /* there are more behind */
};

static int compare(const void *one, const void *other)
{
    return strcmp(((const found_t *)one)->text, ((const found_t *)other)->text);
}

static found_t *found_at(const tus_spool_batch_t *batch, int index)
{
    return &APR_ARRAY_IDX(batch->found, index, found_t);
}

tus_spool_batch_t *tus_spool_batch_make(const char *start, apr_pool_t *p)
{
    tus_spool_batch_t *batch = apr_pcalloc(p, sizeof(*batch));

    batch->start = apr_pstrdup(p, start);
    batch->found = apr_array_make(p, 64, sizeof(found_t));
    return batch;
}

void tus_spool_batch_begin(tus_spool_batch_t *batch)
{
    if (batch->found->nelts > 0) {
        batch->after = *found_at(batch, batch->found->nelts - 1);
    }
    apr_array_clear(batch->found);
    batch->is_cut = 0;
}

/* Sorts what was found, each name once, and keeps a batch of it. */
static void settle(tus_spool_batch_t *batch)
{
    int i, kept = 0;

    qsort(batch->found->elts, (size_t)batch->found->nelts, sizeof(found_t), compare);
    for (i = 0; i < batch->found->nelts; i++) {
        found_t *found = found_at(batch, i);

        if (kept && compare(found_at(batch, kept - 1), found) == 0) {
            found_at(batch, kept - 1)->seen |= found->seen;
        }
        else {
            *found_at(batch, kept++) = *found;
        }
    }
    if (kept > TUS_SPOOL_BATCH) {
        kept = TUS_SPOOL_BATCH;
        batch->is_cut = 1;
    }
    batch->found->nelts = kept;
}

void tus_spool_batch_add(tus_spool_batch_t *batch, const char *name, int reading)
{
    found_t found = { "", (unsigned char)(FIRST << reading) };

    apr_snprintf(found.text, sizeof(found.text), "%c%s", strcmp(name, batch->start) < 0 ? '1' : '0',
                 name);
    if (compare(&found, &batch->after) <= 0
        || (batch->is_cut && compare(&found, found_at(batch, TUS_SPOOL_BATCH - 1)) > 0)) {
        return;
    }
    APR_ARRAY_PUSH(batch->found, found_t) = found;
    if (batch->found->nelts == 2 * TUS_SPOOL_BATCH) {
        settle(batch);
    }
}

static int same_upload(const found_t *one, const found_t *other)
{
    return strncmp(one->text, other->text, 1 + TUS_SPOOLED_KEY_LEN) == 0;
}

int tus_spool_batch_end(tus_spool_batch_t *batch, int *count)
{
    int whole;

    settle(batch);
    whole = batch->found->nelts;
    if (batch->is_cut) {
        const found_t *last = found_at(batch, whole - 1);

        while (whole && same_upload(found_at(batch, whole - 1), last)) {
            whole--;
        }
    }
    if (whole) {
        batch->found->nelts = whole;
    }
    *count = batch->found->nelts;
    return batch->is_cut;
}

const char *tus_spool_batch_name(const tus_spool_batch_t *batch, int index, int *is_new)
{
    const found_t *found = found_at(batch, index);

    *is_new = !(found->seen & FIRST);
    return found->text + 1;
}
