/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* From a request and its upload to what a hook is sent. */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>

/* The request as the client sent it, before any override, rewrite or internal redirect. */
static const request_rec *first_of(const request_rec *r)
{
    while (r->main || r->prev) {
        r = r->main ? r->main : r->prev;
    }
    return r;
}

static const char *method_of(const request_rec *r, apr_pool_t *p)
{
    const char *line = r->the_request;

    return line ? ap_getword_white(p, &line) : r->method;
}

static const char *host_of(const request_rec *r, apr_pool_t *p)
{
    const char *host = apr_table_get(r->headers_in, "Host");

    return host ? host
                : ap_construct_server(p, ap_get_server_name((request_rec *)r),
                                      ap_get_server_port(r), (request_rec *)r);
}

static const tus_cause_t *cause_of(const request_rec *r, apr_pool_t *p)
{
    const request_rec *first = first_of(r);
    tus_cause_t *cause = apr_pcalloc(p, sizeof(*cause));

    cause->method = method_of(first, p);
    cause->uri = first->unparsed_uri;
    cause->remote = apr_psprintf(p, strchr(r->useragent_ip, ':') ? "[%s]:%u" : "%s:%u",
                                 r->useragent_ip, r->useragent_addr->port);
    cause->headers = first->headers_in;
    cause->user = r->user;
    cause->scheme = ap_http_scheme(r);
    cause->host = host_of(first, p);
    return cause;
}

static const apr_table_t *forwarded(const apr_array_header_t *names, const request_rec *r,
                                    apr_pool_t *p)
{
    apr_table_t *headers = NULL;

    for (int i = 0; r && names && i < names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(names, i, const char *);
        const char *value = apr_table_get(r->headers_in, name);

        if (value && tus_header_is_field(name, value)) {
            headers = headers ? headers : apr_table_make(p, names->nelts);
            apr_table_set(headers, name, value); /* a call may outlive the request */
        }
    }
    return headers;
}

const tus_error_t *tus_hook_event_make(tus_hook_event_t *event, tus_hook_e type,
                                       const tus_upload_t *upload, const request_rec *r,
                                       const apr_array_header_t *forward, int is_kept)
{
    apr_pool_t *p = upload->pool;
    tus_store_t *store = upload->core->store;
    tus_record_t record = *upload->record;
    char *id = apr_palloc(p, TUS_EVENT_ID_SIZE);
    apr_status_t rv = record.id ? store->provider->locate(store, &record, p) : APR_SUCCESS;

    event->type = type;
    event->event_id = tus_hook_event_id(id, type, &record, upload->offset);
    event->headers = forwarded(forward, r, p);
    if (rv == APR_SUCCESS) {
        rv = tus_hook_json_format(&event->body, &event->len, type, event->event_id, &record,
                                  upload->offset, r ? cause_of(r, p) : NULL, is_kept, forward, p);
    }
    return rv == APR_SUCCESS ? NULL
                             : tus_error_system(p, rv, "cannot describe upload %s to its hooks",
                                                record.id ? record.id : "(new)");
}
