/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_tus: resumable uploads for Apache httpd. The front door: the module
 * record, what is hooked where and why there, and the lifecycle.
 */
#include "src/tus_httpd.h"

#include <ap_provider.h>

#include <http_config.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

static int pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    tus_config_reset(pconf);
    return tus_shared_register(pconf);
}

/* A configtest has no log: what can be judged is said here, else in post_config. */
static int check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_CONFIG_TEST) {
        return OK;
    }
    tus_check_warn(ptemp, s);
    return tus_watch_check(s);
}

/* The configuration is read twice at start; shared things are made in the second pass. */
static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    int status;

    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK;
    }
    tus_check_warn(ptemp, s);
    status = tus_watch_check(s);
    if (status == OK) {
        status = tus_shared_open(s);
    }
    if (status != OK) {
        return status;
    }
    tus_halt_init(pconf, s);
    tus_endpoint_announce(s, ptemp);
    tus_guard_init(pconf, s);
    tus_hook_table_init(pconf);
    if (tus_line_init() != APR_SUCCESS || tus_hook_local_init(s) != APR_SUCCESS) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    status = tus_watch_register(&tus_sweep, s, pconf);
    return status == OK ? tus_watch_register(&tus_courier, s, pconf) : status;
}

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    tus_shared_attach(pchild, s);
    tus_splice_init(pchild);
    tus_journal_init(pchild); /* else it goes on without */
    tus_nudge_init(pchild);
    tus_hook_call_init(pchild, s);
    tus_hook_progress_init(pchild);
    tus_watch_init(pchild, s);
}

static int post_perdir_config(request_rec *r)
{
    int status = tus_mount_request(r);

    tus_answer_common(r);
    return status;
}

static int handler(request_rec *r)
{
    const tus_request_t *request = tus_mount_of(r);

    if (!request) {
        return DECLINED;
    }
    if (tus_hook_local_is_call(r)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "a TusHook leads to this endpoint, which would call its hooks again");
        return HTTP_LOOP_DETECTED;
    }
    return tus_v1_handle(r, request);
}

static void register_providers(apr_pool_t *p)
{
    ap_register_provider(p, TUS_STORE_GROUP, tus_store_file.name, TUS_PROVIDER_VERSION,
                         &tus_store_file);
    ap_register_provider(p, TUS_META_GROUP, tus_meta_dbm.name, TUS_PROVIDER_VERSION, &tus_meta_dbm);
    ap_register_provider(p, TUS_HOOK_GROUP, tus_hook_http.name, TUS_PROVIDER_VERSION,
                         &tus_hook_http);
    ap_register_provider(p, TUS_LOCK_GROUP, tus_lock_shm.name, TUS_PROVIDER_VERSION, &tus_lock_shm);
}

static void register_hooks(apr_pool_t *p)
{
    static const char *const loggers[] = { "mod_log_forensic.c", NULL };

    register_providers(p);
    tus_events_register();

    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);

    ap_hook_insert_network_bucket(tus_splice_connection, NULL, NULL, APR_HOOK_MIDDLE);

    /* First and last, so that no other module sees or makes what tells our calls from others. */
    ap_hook_post_read_request(tus_hook_local_read, NULL, loggers, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(tus_hook_local_environment, NULL, NULL, APR_HOOK_REALLY_LAST);

    ap_hook_map_to_storage(tus_mount_storage, NULL, NULL, APR_HOOK_MIDDLE);

    /* Before authentication, so that access rules judge the overridden method. */
    ap_hook_post_perdir_config(post_perdir_config, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_insert_error_filter(tus_answer_common, NULL, NULL, APR_HOOK_MIDDLE);

    /* A preflight has no credentials. */
    ap_hook_check_access_ex(tus_cors_access, NULL, NULL, APR_HOOK_FIRST, AP_AUTH_INTERNAL_PER_CONF);

    ap_hook_type_checker(tus_mount_type, NULL, NULL, APR_HOOK_REALLY_FIRST);

    /* First, so that nobody helps a client to a name in a store; last, when it is final. */
    ap_hook_fixups(tus_guard_request, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(tus_guard_request, NULL, NULL, APR_HOOK_REALLY_LAST);

    /* Before mod_proxy, and whatever a rewriting .htaccess above us has set. */
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(tus_guard_request, NULL, NULL, APR_HOOK_REALLY_FIRST + 1);
    ap_hook_handler(tus_metrics_handler, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA tus_module = { STANDARD20_MODULE_STUFF,
                                             tus_config_create,
                                             tus_config_merge,
                                             NULL,
                                             NULL,
                                             tus_config_commands,
                                             register_hooks,
                                             0 };
