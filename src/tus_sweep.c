/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is done in the background, by mod_watchdog's singleton: one process of
 * the server at a time goes through the registry and settles each store.
 */
#include "tus_httpd.h"

#include <apr_optional.h>

#include <mod_watchdog.h>

#define WATCHDOG_NAME "_tus_sweep_"
#define INTERVAL apr_time_from_sec(1)

/* For one store in one round: a rebuild goes on in the next. */
#define BUDGET apr_time_from_msec(200)

static void settle_store(server_rec *s, const tus_state_store_t *known, apr_pool_t *p)
{
    tus_core_t *core;
    apr_status_t rv = tus_endpoint_reopen(&core, known, p);

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_TRACE1, rv, s, "store %s is left alone in this round",
                     known->path);
        return;
    }
    rv = tus_settle(core, BUDGET, p);
    if (rv == TUS_EDAMAGED) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s, "the index of store %s is made anew",
                     known->path);
    }
    else if (rv != APR_SUCCESS && !APR_STATUS_IS_INCOMPLETE(rv) && !APR_STATUS_IS_EBUSY(rv)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "the index of store %s cannot be brought up to date in TusStateDir/%s",
                     known->path, known->name);
    }
}

static void settle_all(server_rec *s, apr_pool_t *p)
{
    apr_array_header_t *stores;
    apr_pool_t *pround;
    const char *why;
    tus_state_t *state = tus_shared_state(&why);

    if (!state || tus_state_stores(state, &stores, p) != APR_SUCCESS) {
        return;
    }
    apr_pool_create(&pround, p);
    for (int i = 0; i < stores->nelts; i++) {
        apr_pool_clear(pround);
        settle_store(s, &APR_ARRAY_IDX(stores, i, tus_state_store_t), pround);
    }
}

static apr_status_t on_watchdog(int event, void *data, apr_pool_t *pool)
{
    if (event == AP_WATCHDOG_STATE_RUNNING) {
        apr_pool_t *p;

        apr_pool_create(&p, pool);
        settle_all(data, p);
        apr_pool_destroy(p);
    }
    return APR_SUCCESS;
}

int tus_sweep_register(server_rec *s, apr_pool_t *pconf)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) * get_instance;
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) * register_callback;
    ap_watchdog_t *watchdog;
    apr_status_t rv;

    get_instance = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    register_callback = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    if (!get_instance || !register_callback) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "mod_watchdog is not loaded: the index of uploads is not kept up to date, and"
                     " nothing is cleaned up; add: LoadModule watchdog_module ...");
        return OK;
    }
    rv = get_instance(&watchdog, WATCHDOG_NAME, 0, 1, pconf);
    if (rv == APR_SUCCESS) {
        rv = register_callback(watchdog, INTERVAL, s, on_watchdog);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "cannot register with mod_watchdog");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}
