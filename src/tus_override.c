/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * X-HTTP-Method-Override (tus 1.0, Headers): for clients whose way to us lets
 * no PATCH or DELETE through. It becomes the method in post_perdir_config, so
 * that Require method, <Limit>, AllowMethods and <If> judge what will be done.
 *
 * The framing of the answer follows the method on the wire all the same:
 * header_only stays as it was.
 */
#include "tus_httpd.h"

#include <http_protocol.h>
#include <http_request.h>

#include <string.h>

static const char *const overridable[] = { "PATCH", "DELETE", "HEAD", "POST", "GET", "OPTIONS" };

static const char *header(const request_rec *r)
{
    return apr_table_get(r->headers_in, "X-HTTP-Method-Override");
}

/*
 * From the start: <If> and <Limit> have judged the old method, and what they
 * merged cannot be taken out again. Where that fails the request ends: what it
 * has then are the server's defaults, without the rules of its place.
 */
static int configure_again(request_rec *r)
{
    int status;

    r->per_dir_config = r->server->lookup_defaults;
    status = ap_run_map_to_storage(r);
    if (status == OK) {
        status = ap_location_walk(r);
    }
    return status == OK ? ap_if_walk(r) : status;
}

int tus_override_method(request_rec *r)
{
    const char *method = header(r);

    if (!method || strcmp(method, r->method) == 0) {
        return OK;
    }
    for (apr_size_t i = 0; i < sizeof(overridable) / sizeof(overridable[0]); i++) {
        if (strcmp(method, overridable[i]) == 0) {
            r->method = overridable[i];
            r->method_number = ap_method_number_of(r->method);
            return configure_again(r);
        }
    }
    return OK;
}

int tus_override_is_refused(const request_rec *r)
{
    const char *method = header(r);

    return method && strcmp(method, r->method) != 0;
}
