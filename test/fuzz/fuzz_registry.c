/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is the registry of stores. */
#include "fuzz.h"

#include <string.h>

static int is_name(const char *name)
{
    return strlen(name) == TUS_STATE_NAME_LEN
           && strspn(name, "0123456789abcdef") == TUS_STATE_NAME_LEN;
}

static apr_array_header_t *read_stores(apr_pool_t *p)
{
    apr_array_header_t *stores = NULL;
    int i;

    HOLDS(tus_registry_read(fuzz_path("state", p), &stores, p) == APR_SUCCESS && stores);
    for (i = 0; i < stores->nelts; i++) {
        const tus_state_store_t *store = &APR_ARRAY_IDX(stores, i, tus_state_store_t);

        HOLDS(is_name(store->name));
        HOLDS(*store->provider && *store->path && (!store->driver || *store->driver));
    }
    return stores;
}

static void compare(const apr_array_header_t *stores, const apr_array_header_t *again)
{
    int i;

    HOLDS(again->nelts == stores->nelts);
    for (i = 0; i < stores->nelts; i++) {
        const tus_state_store_t *one = &APR_ARRAY_IDX(stores, i, tus_state_store_t);
        const tus_state_store_t *other = &APR_ARRAY_IDX(again, i, tus_state_store_t);

        HOLDS(fuzz_same(one->name, other->name) && fuzz_same(one->path, other->path));
        HOLDS(fuzz_same(one->provider, other->provider) && fuzz_same(one->driver, other->driver));
        HOLDS(one->identity.device == other->identity.device);
        HOLDS(one->identity.inode == other->identity.inode);
        HOLDS(one->identity.owner == other->identity.owner);
    }
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *state = fuzz_path("state", p), *written, *again;
    apr_array_header_t *stores;
    apr_size_t size, size_again;

    fuzz_mkdir("state");
    fuzz_put("state/stores", data, len);
    stores = read_stores(p);

    /* Written and read it is the same, and so written again. */
    HOLDS(tus_registry_write(state, stores, p) == APR_SUCCESS);
    written = fuzz_get("state/stores", &size, p);
    compare(stores, read_stores(p));
    HOLDS(tus_registry_write(state, stores, p) == APR_SUCCESS);
    again = fuzz_get("state/stores", &size_again, p);
    HOLDS(size_again == size && memcmp(again, written, size) == 0);
}
