/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The courier's bell, in shared memory: whoever has put an event into a spool
 * says into which shard of which store. Stores that share a place are rung for
 * together; what for is found out by looking.
 */
#include "tus_words.h"

#include <apr_lib.h>

#include <string.h>

#define WORD_BITS 64

typedef struct bell_t {
    apr_uint64_t rung; /* grows with each ring; looked at first */
    apr_uint64_t shards[TUS_BELL_PLACES][TUS_SPOOL_SHARDS / WORD_BITS];
} bell_t;

apr_size_t tus_bell_size(void)
{
    return sizeof(bell_t);
}

static int digit(char c)
{
    return apr_isdigit(c) ? c - '0' : (c - 'a' + 10) & 15;
}

/* Names of stores are random. */
int tus_bell_place(const char *state_dir)
{
    const char *slash = strrchr(state_dir, '/');
    const char *name = slash ? slash + 1 : state_dir;

    return strlen(name) < 2 ? 0 : digit(name[0]) << 4 | digit(name[1]);
}

void tus_bell_ring(void *memory, const char *state_dir, int shard)
{
    bell_t *bell = memory;
    apr_uint64_t *word = &bell->shards[tus_bell_place(state_dir)][shard / WORD_BITS];

    __atomic_fetch_or(word, APR_UINT64_C(1) << shard % WORD_BITS, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&bell->rung, 1, __ATOMIC_SEQ_CST);
}

int tus_bell_heard(void *memory, apr_uint64_t *heard)
{
    bell_t *bell = memory;
    apr_uint64_t rung = __atomic_load_n(&bell->rung, __ATOMIC_SEQ_CST);
    int is_new = rung != *heard;

    *heard = rung;
    return is_new;
}

void tus_bell_take(void *memory, tus_bell_fn fn, void *baton)
{
    bell_t *bell = memory;

    for (int i = 0; i < TUS_BELL_PLACES * TUS_SPOOL_SHARDS / WORD_BITS; i++) {
        apr_uint64_t *word = &bell->shards[0][0] + i;
        apr_uint64_t bits = 0;

        if (__atomic_load_n(word, __ATOMIC_SEQ_CST)) {
            bits = __atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST);
        }
        for (int bit = 0; bits; bit++, bits >>= 1) {
            if (bits & 1) {
                int number = i * WORD_BITS + bit;

                fn(baton, number / TUS_SPOOL_SHARDS, number % TUS_SPOOL_SHARDS);
            }
        }
    }
}
