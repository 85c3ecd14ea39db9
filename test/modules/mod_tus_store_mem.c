/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A module that brings mod_tus the data store "mem", built against mod_tus.h
 * alone. Beside it the handler tus-store-mem tells the bytes of an upload, as
 * the store offers no GET: /URL/ID?STORE.
 */
#include "store_mem.h"

#include <httpd.h>
#include <http_config.h>
#include <http_protocol.h>

#include <ap_provider.h>

#include <string.h>

static int handler(request_rec *r)
{
    const char *bytes;
    apr_size_t len;

    if (!r->handler || strcmp(r->handler, "tus-store-mem") != 0) {
        return DECLINED;
    }
    if (!r->args || !r->path_info || !*r->path_info
        || store_mem_copy(r->args, r->path_info + 1, &bytes, &len, r->pool) != APR_SUCCESS) {
        return HTTP_NOT_FOUND;
    }
    ap_set_content_type(r, "application/octet-stream");
    ap_rwrite(bytes, (int)len, r);
    return OK;
}

/* Modules are registered as they are loaded, before any directive behind LoadModule is read. */
static void register_hooks(apr_pool_t *p)
{
    ap_register_provider(p, TUS_STORE_GROUP, store_mem.name, TUS_PROVIDER_VERSION, &store_mem);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA tus_store_mem_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks, 0
};
