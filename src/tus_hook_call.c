/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* One call of a hook: what the configuration says of it, made a call of the provider. */
#include "tus_httpd.h"

#include <ap_provider.h>
#include <apr_strings.h>

#include <string.h>

/* Bytes of an answer that are read; tusd's have a few hundred. */
#define ANSWER_MAX (1024 * 1024)

static tus_caller_t *caller; /* of this process */

void tus_hook_call_init(apr_pool_t *pchild, server_rec *s)
{
    const tus_hook_provider_t *provider =
        ap_lookup_provider(TUS_HOOK_GROUP, tus_hook_http.name, TUS_PROVIDER_VERSION);
    apr_status_t rv = provider->open(&caller, pchild);

    if (rv != APR_SUCCESS) {
        caller = NULL;
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "this process cannot call hooks");
    }
}

static apr_status_t fail(tus_called_t *called, apr_status_t rv, const char *why)
{
    *called = (tus_called_t){ .why = why };
    return rv;
}

/* Else an .htaccess would get what the server's own endpoints take for the server's word. */
static const char *secret_of(const tus_hook_t *hook)
{
    const tus_secret_t *secret = &hook->settings->hook_secret;

    return hook->spec->htaccess ? secret->htaccess : secret->server;
}

static apr_status_t sign(apr_table_t *headers, const tus_hook_t *hook,
                         const tus_hook_event_t *event, apr_pool_t *p)
{
    const char *secret = secret_of(hook), *signature;
    apr_time_t now = apr_time_now();
    apr_status_t rv;

    apr_table_setn(headers, TUS_SIGN_ID, event->event_id);
    if (!secret || !*secret) {
        return APR_SUCCESS;
    }
    rv = tus_sign(&signature, secret, event->event_id, now, event->body, event->len, p);
    apr_table_setn(headers, TUS_SIGN_TIMESTAMP,
                   apr_psprintf(p, "%" APR_TIME_T_FMT, apr_time_sec(now)));
    apr_table_setn(headers, TUS_SIGN_SIGNATURE, signature);
    return rv;
}

/* Who waits for this server with a worker of its own may do so only if enough are left. */
static apr_status_t call_local(tus_called_t *called, const tus_call_t *call, const request_rec *r,
                               apr_pool_t *p)
{
    apr_status_t rv;
    int slot;

    if (!r) {
        return caller->provider->call(caller, call, called, p);
    }
    rv = tus_hook_local_enter(&slot);
    if (rv != APR_SUCCESS) {
        return fail(called, rv, "too many requests wait for hooks of this server itself");
    }
    rv = caller->provider->call(caller, call, called, p);
    tus_hook_local_leave(slot);
    return rv;
}

apr_status_t tus_hook_call(tus_called_t *called, const tus_hook_t *hook,
                           const tus_hook_event_t *event, const request_rec *r,
                           const tus_cancel_t *cancel, apr_pool_t *p)
{
    const tus_target_t *target = &hook->spec->target;
    apr_table_t *headers =
        event->headers ? apr_table_copy(p, event->headers) : apr_table_make(p, 4);
    tus_call_t call = {
        .url = target->url,
        .socket = target->socket,
        .headers = headers,
        .body = event->body,
        .len = event->len,
        .timeout = hook->settings->hook_timeout,
        .is_verified = hook->settings->hook_verify,
        .max = ANSWER_MAX,
        .cancel = cancel,
    };
    apr_status_t rv;

    if (!caller) {
        return fail(called, APR_EGENERAL, "this process cannot call hooks");
    }
    if (!tus_hook_table_allows(hook, &call.is_public)) {
        return fail(called, TUS_EREFUSED, "TusAllowHook does not let an .htaccess call it");
    }
    rv = sign(headers, hook, event, p);
    if (rv == APR_SUCCESS && !target->origin) {
        rv = tus_hook_local_aim(&call, headers, hook, r, p);
    }
    if (rv != APR_SUCCESS) {
        return fail(called, rv, "the call cannot be made");
    }
    return target->origin ? caller->provider->call(caller, &call, called, p)
                          : call_local(called, &call, r, p);
}
