/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * apr_palloc() of malloc's memory, in the place of APR's own.
 *
 * A pool gives out pieces of one block of 8 KiB, and AddressSanitizer sees the
 * block only. Here each piece has its own end, and is freed with the pool. APR
 * itself calls this too, for all but apr_psprintf().
 */
#include <apr_pools.h>

#include <dlfcn.h>
#include <stdlib.h>

typedef struct block_t {
    struct block_t *next;
    void *memory;
} block_t;

/* The pools that have such memory. */
typedef struct guard_t {
    struct guard_t *next;
    apr_pool_t *pool;
    block_t *blocks;
} guard_t;

static guard_t *guards;

/* The cleanup that frees all is registered: its own memory is the pool's. */
static int is_registering;

static void *pools_own(apr_pool_t *pool, apr_size_t size)
{
    static void *(*palloc)(apr_pool_t *, apr_size_t);

    if (!palloc) {
        *(void **)&palloc = dlsym(RTLD_NEXT, "apr_palloc");
    }
    return palloc(pool, size);
}

/* Registered before all others, so it runs after them. */
static apr_status_t free_blocks(void *data)
{
    guard_t *guard = data, **link;
    block_t *block;

    for (link = &guards; *link != guard; link = &(*link)->next) {
    }
    *link = guard->next;
    while ((block = guard->blocks) != NULL) {
        guard->blocks = block->next;
        free(block->memory);
        free(block);
    }
    free(guard);
    return APR_SUCCESS;
}

static guard_t *guard_of(apr_pool_t *pool)
{
    guard_t *guard;

    for (guard = guards; guard; guard = guard->next) {
        if (guard->pool == pool) {
            return guard;
        }
    }
    guard = calloc(1, sizeof(*guard));
    guard->pool = pool;
    guard->next = guards;
    guards = guard;
    is_registering = 1;
    apr_pool_cleanup_register(pool, guard, free_blocks, apr_pool_cleanup_null);
    is_registering = 0;
    return guard;
}

void *apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    guard_t *guard;
    block_t *block;

    if (is_registering) {
        return pools_own(pool, size);
    }
    guard = guard_of(pool);
    block = malloc(sizeof(*block));
    block->memory = malloc(size);
    block->next = guard->blocks;
    guard->blocks = block;
    return block->memory;
}
