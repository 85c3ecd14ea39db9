/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Cross-origin requests (the Fetch standard, "CORS protocol"), with the
 * reference server's behaviour.
 *
 * A browser sends a preflight without credentials, so it has to be answered
 * before authentication, and it is answered from the configuration alone. What
 * judges before check_access_ex judges preflights too: Order, Allow and Deny of
 * mod_access_compat. With their 403 no page gets through.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_protocol.h>

#include <string.h>

static const char *header_in(const request_rec *r, const char *name)
{
    return apr_table_get(r->headers_in, name);
}

/* Origin, or NULL; "null" is an origin like any. */
static const char *origin_of(const request_rec *r)
{
    const char *origin = header_in(r, "Origin");

    return origin && *origin ? origin : NULL;
}

static int is_allowed(const tus_settings_t *settings, const char *origin)
{
    const ap_regex_t *regex = settings->cors_origin.regex;

    return !regex || ap_regexec(regex, origin, 0, NULL, 0) == 0;
}

/* No browser overrides the method of a preflight: who does so wants to pass for one. */
int tus_cors_is_preflight(const request_rec *r)
{
    const tus_request_t *request = tus_mount_of(r);

    return request && request->settings->cors && r->method_number == M_OPTIONS
           && !header_in(r, "X-HTTP-Method-Override") && origin_of(r)
           && header_in(r, "Access-Control-Request-Method");
}

int tus_cors_access(request_rec *r)
{
    return tus_cors_is_preflight(r) ? OK : DECLINED;
}

const tus_error_t *tus_cors_judge(request_rec *r, const tus_settings_t *settings)
{
    const char *origin = settings->cors ? origin_of(r) : NULL;

    if (!origin || is_allowed(settings, origin)
        || strcasecmp(origin, tus_origin_of(r, settings)) == 0) {
        return NULL;
    }
    return tus_error(r->pool, TUS_ERR_ORIGIN_NOT_ALLOWED, NULL);
}

/* httpd makes one field of what stands in headers_out and here. */
static void vary_by_origin(request_rec *r)
{
    const char *vary = apr_table_get(r->err_headers_out, "Vary");

    if (!vary || !ap_find_list_item(r->pool, vary, "origin")) {
        apr_table_mergen(r->err_headers_out, "Vary", "Origin");
    }
}

static void answer_list(request_rec *r, const char *name, const tus_list_t *list)
{
    if (list->names && *list->names) {
        tus_answer_header(r, name, list->names);
    }
}

static void answer_preflight(request_rec *r, const tus_settings_t *settings)
{
    answer_list(r, "Access-Control-Allow-Methods", &settings->cors_methods);
    answer_list(r, "Access-Control-Allow-Headers", &settings->cors_headers);
    tus_answer_header(
        r, "Access-Control-Max-Age",
        apr_psprintf(r->pool, "%" APR_TIME_T_FMT, apr_time_sec(settings->cors_max_age)));
}

void tus_cors_headers(request_rec *r, const tus_settings_t *settings)
{
    const char *origin = origin_of(r);

    if (!settings->cors) {
        return;
    }
    vary_by_origin(r);
    if (!origin || !is_allowed(settings, origin)) {
        return;
    }
    tus_answer_header(r, "Access-Control-Allow-Origin", origin);
    if (settings->cors_credentials) {
        tus_answer_header(r, "Access-Control-Allow-Credentials", "true");
    }
    if (tus_cors_is_preflight(r)) {
        answer_preflight(r, settings);
    }
    else {
        answer_list(r, "Access-Control-Expose-Headers", &settings->cors_expose);
    }
}
