/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which requests are ours, what upload they name, and the path that the client
 * knows the endpoint by.
 *
 * This is decided in post_perdir_config: the configuration is complete, and
 * neither mod_dir nor mod_rewrite of a parent .htaccess has changed anything.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include <string.h>

/* What follows the scope in the path, without a leading "/"; NULL if path is not below it. */
static const char *below(const char *scope, const char *path)
{
    const char *relative = tus_path_beneath(scope, path);

    return relative ? relative + strspn(relative, "/") : NULL;
}

/* The path that the client asked for, decoded and normalised, before any rewriting. */
static char *asked_path(request_rec *r)
{
    const request_rec *first = r;
    char *path;

    while (first->prev) {
        first = first->prev;
    }
    path = apr_pstrdup(r->pool, first->parsed_uri.path ? first->parsed_uri.path : "/");
    ap_no2slash(path); /* "//host/" at the start of Location would lead to that host */
    return path;
}

/* A scope with a pattern does not tell where it ends: only a creation names the base. */
static const char *last_segment(request_rec *r, const char *path)
{
    const char *slash = strrchr(path, '/');

    return r->method_number == M_POST || !slash ? "" : slash + 1;
}

static const char *relative_path(request_rec *r, const tus_engine_t *engine, const char *asked)
{
    const char *relative = NULL;

    if (!engine->scope) {
        relative = below("/", r->uri);
    }
    else if (engine->is_pattern) {
        return last_segment(r, asked);
    }
    else if (engine->is_location) {
        relative = below(engine->scope, r->uri);
    }
    else if (r->filename) {
        relative = below(engine->scope, apr_pstrcat(r->pool, r->filename, r->path_info, NULL));
    }
    return relative ? relative : last_segment(r, asked);
}

/* What is left of the client's path without its end; a rewrite of the end leaves its directory. */
static const char *base_path(request_rec *r, const char *asked, const char *relative)
{
    apr_size_t len = strlen(asked);
    apr_size_t tail = strlen(relative);
    const char *base;

    if (tail > len || strcmp(asked + len - tail, relative) != 0) {
        const char *slash = strrchr(asked, '/');

        tail = slash ? strlen(slash + 1) : 0;
    }
    base = apr_pstrmemdup(r->pool, asked, len - tail);
    if (len == tail || base[len - tail - 1] != '/') {
        base = apr_pstrcat(r->pool, base, "/", NULL);
    }
    return ap_os_escape_path(r->pool, base, 1);
}

static tus_request_t *make_request(request_rec *r, const tus_settings_t *settings)
{
    tus_request_t *request = apr_pcalloc(r->pool, sizeof(*request));

    request->said = apr_pcalloc(r->pool, sizeof(*request->said));
    request->chosen = apr_array_make(r->pool, 1, sizeof(const char *));
    const char *asked = asked_path(r);
    const char *relative = relative_path(r, &settings->engine, asked);

    request->settings = settings;
    request->id = *relative ? relative : NULL;
    request->path = base_path(r, asked, relative);
    request->base = tus_origin_base(r, settings, request->path);
    request->offers = tus_endpoint_offers(settings);
    return request;
}

/* Others must not take what is named here for a file, a directory or a backend's URL. */
static void claim(request_rec *r)
{
    r->finfo.filetype = APR_REG;
    r->handler = "tus";
    if (r->proxyreq) {
        r->proxyreq = PROXYREQ_NONE;
        r->filename = apr_pstrcat(r->pool, ap_document_root(r), r->uri, NULL);
    }
}

/* No stat() has told so. */
static int is_supposed(const request_rec *r)
{
    return r->finfo.filetype == APR_REG && !r->finfo.valid;
}

/* A HEAD that speaks no tus, and any GET, may be for others. */
static int is_protocol(const request_rec *r)
{
    return apr_table_get(r->headers_in, "Tus-Resumable")
           && (r->method_number != M_GET || r->header_only);
}

/* Only <Location> sections are known yet, and are asked once more later. */
static int is_in_endpoint(request_rec *r)
{
    ap_conf_vector_t *config = r->per_dir_config;
    const tus_engine_t *engine = ap_location_walk(r) == OK ? &tus_config_of(r)->engine : NULL;

    r->per_dir_config = config;
    return engine && engine->on && engine->is_location;
}

int tus_mount_storage(request_rec *r)
{
    if (!r->main && r->finfo.filetype == APR_NOFILE && is_protocol(r) && is_in_endpoint(r)) {
        r->finfo.filetype = APR_REG;
    }
    return DECLINED;
}

/* An ErrorDocument is a page, wherever it lies. */
static int is_error_document(const request_rec *r)
{
    return r->prev && ap_is_HTTP_ERROR(r->prev->status);
}

/* With TusDownload Off a GET, or a HEAD that speaks no tus, is ours only to refuse an upload. */
static int is_for_others(request_rec *r, const tus_request_t *request)
{
    if (r->method_number != M_GET || is_protocol(r)) {
        return 0;
    }
    return !request->id || !tus_endpoint_has(r, request->settings, request->id);
}

static int mount(request_rec *r)
{
    const tus_settings_t *settings = tus_config_of(r);
    tus_request_t *request;
    int status;

    if (r->main || !settings->engine.on || is_error_document(r)) {
        return DECLINED;
    }
    status = tus_override_method(r);
    if (status != OK) {
        return status;
    }
    settings = tus_config_of(r); /* an <If> may have judged the new method */
    if (!settings->engine.on) {
        return DECLINED;
    }
    request = make_request(r, settings);
    if (!settings->download && is_for_others(r, request)) {
        return DECLINED;
    }
    ap_set_module_config(r->request_config, &tus_module, request);
    claim(r);
    return DECLINED;
}

int tus_mount_request(request_rec *r)
{
    int status = mount(r);

    if (is_supposed(r) && !tus_mount_of(r)) { /* an <If> has turned it off */
        r->finfo.filetype = APR_NOFILE;
        apr_stat(&r->finfo, r->filename, APR_FINFO_MIN, r->pool);
    }
    return status;
}

int tus_mount_type(request_rec *r)
{
    return tus_mount_of(r) ? OK : DECLINED;
}

const tus_request_t *tus_mount_of(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &tus_module);
}
