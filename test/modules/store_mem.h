/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * store_mem.h: the data store "mem", which knows mod_tus.h and APR, not httpd.
 *
 * The bytes lie in this process's memory and end with it, so it serves in one
 * child process only. It offers nothing that is optional: no GET, no DELETE, no
 * concatenation, no checksums, no expiration.
 */
#ifndef STORE_MEM_H
#define STORE_MEM_H

#include <mod_tus.h>

extern const tus_store_provider_t store_mem;

/**
 * The bytes of an upload.
 * @param path of the store, as said in TusStore
 * @param bytes set to a copy, allocated from p
 * @return APR_SUCCESS; APR_ENOENT
 */
apr_status_t store_mem_copy(const char *path, const char *id, const char **bytes, apr_size_t *len,
                            apr_pool_t *p);

#endif /* STORE_MEM_H */
