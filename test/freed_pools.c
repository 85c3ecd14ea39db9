/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Preloaded into the httpd that AddressSanitizer watches: the memory of a pool that
 * is destroyed is freed at once, where APR would keep it for the next pool and
 * nobody could tell that a pointer to it outlived it. The pools of connections
 * have allocators of their own, for which MaxMemFree does the same.
 */
#include <apr_allocator.h>
#include <apr_general.h>
#include <apr_pools.h>

#include <dlfcn.h>

typedef apr_status_t initialize_fn(int *argc, const char *const **argv, const char *const **env);

apr_status_t apr_app_initialize(int *argc, const char *const **argv, const char *const **env)
{
    initialize_fn *next = (initialize_fn *)dlsym(RTLD_NEXT, "apr_app_initialize");
    apr_status_t rv = next(argc, argv, env);
    apr_pool_t *pool;

    if (rv == APR_SUCCESS) {
        rv = apr_pool_create(&pool, NULL); /* has the allocator of all pools without parent */
    }
    if (rv == APR_SUCCESS) {
        apr_allocator_max_free_set(apr_pool_allocator_get(pool), 1);
        apr_pool_destroy(pool);
    }
    return rv;
}
