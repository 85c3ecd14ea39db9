/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Where a client believes this server to be. Behind a proxy that is where the
 * proxy is; what strangers say in the same headers counts only where the
 * administrator has said that a proxy is there.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>

static const char *header_in(const request_rec *r, const char *name)
{
    return apr_table_get(r->headers_in, name);
}

/* What the proxy says; nothing without TusForwarded. */
static tus_forwarded_t read_forwarded(request_rec *r, const tus_settings_t *settings)
{
    tus_forwarded_t said = { NULL, NULL };

    if (settings->forwarded) {
        tus_forwarded_parse(&said, header_in(r, "Forwarded"), header_in(r, "X-Forwarded-Proto"),
                            header_in(r, "X-Forwarded-Host"), ap_http_scheme(r), r->pool);
    }
    return said;
}

/* HTTP/1.0 may come without Host. */
static const char *server_host(request_rec *r)
{
    const char *name = ap_get_server_name_for_url(r);
    apr_port_t port = ap_get_server_port(r);

    return ap_is_default_port(port, r) ? name : apr_psprintf(r->pool, "%s:%d", name, port);
}

/* Host, by the same grammar: with its port unless that is the scheme's own. */
static const char *own_host(request_rec *r, const char *scheme)
{
    tus_forwarded_t own;

    tus_forwarded_parse(&own, NULL, NULL, header_in(r, "Host"), scheme, r->pool);
    return own.host ? own.host : server_host(r);
}

static const char *origin_of(request_rec *r, const tus_forwarded_t *said)
{
    const char *scheme = said->scheme ? said->scheme : ap_http_scheme(r);
    const char *host = said->host ? said->host : own_host(r, scheme);

    return apr_pstrcat(r->pool, scheme, "://", host, NULL);
}

const char *tus_origin_of(request_rec *r, const tus_settings_t *settings)
{
    tus_forwarded_t said = read_forwarded(r, settings);

    return origin_of(r, &said);
}

const char *tus_origin_base(request_rec *r, const tus_settings_t *settings, const char *path)
{
    const char *base = settings->base_url ? settings->base_url : path;
    tus_forwarded_t said = read_forwarded(r, settings);

    if (*base != '/' || !(said.scheme || said.host)) {
        return base;
    }
    return apr_pstrcat(r->pool, origin_of(r, &said), base, NULL);
}
