/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The hooks in an upload's record, for a sweep that finishes it. Whoever owns
 * the store can write there, so they are sealed: no record makes this server
 * call a hook that its endpoint did not have.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_main.h>

static const char *sealed_text(const tus_record_t *record, apr_pool_t *p)
{
    return apr_psprintf(p, "%s\n%" APR_TIME_T_FMT "\n%s", record->id, record->created,
                        apr_array_pstrcat(p, record->hooks, '\n'));
}

const tus_error_t *tus_hook_record_note(tus_upload_t *upload, const request_rec *r)
{
    tus_record_t *record = upload->record;
    char *seal = apr_palloc(upload->pool, TUS_SEAL_SIZE);
    apr_status_t rv;

    record->hooks = tus_hook_table_references(r, upload->pool);
    if (!record->hooks) {
        return NULL;
    }
    record->seal = seal;
    rv = tus_seal_make(seal, upload->core->state_dir, sealed_text(record, upload->pool),
                       upload->pool);
    return rv == APR_SUCCESS ? NULL
                             : tus_error_system(upload->pool, rv,
                                                "cannot seal the hooks of upload "
                                                "%s in TusStateDir",
                                                record->id);
}

static apr_status_t check_seal(const tus_core_t *core, const tus_record_t *record, apr_pool_t *p)
{
    return record->seal ? tus_seal_check(record->seal, core->state_dir, sealed_text(record, p), p)
                        : TUS_EREFUSED;
}

apr_status_t tus_hook_record_find(const apr_array_header_t **found, const tus_core_t *core,
                                  const tus_record_t *record, tus_hook_e type, apr_pool_t *p)
{
    apr_array_header_t *hooks = apr_array_make(p, 1, sizeof(tus_hook_t));
    apr_status_t rv;

    *found = hooks;
    if (!record->hooks) {
        return APR_SUCCESS;
    }
    rv = check_seal(core, record, p);
    for (int i = 0; rv == APR_SUCCESS && i < record->hooks->nelts; i++) {
        const tus_hook_t *hook =
            tus_hook_table_find(APR_ARRAY_IDX(record->hooks, i, const char *), type, p);

        if (hook) {
            APR_ARRAY_PUSH(hooks, tus_hook_t) = *hook;
        }
    }
    return rv;
}

const tus_error_t *tus_hook_record_error(const tus_upload_t *upload, apr_status_t rv)
{
    const char *why = rv == TUS_EREFUSED
                          ? "are not those that this server wrote there: only a request finishes it"
                          : "cannot be compared with their seal: it is finished later, or by a "
                            "request";

    ap_log_error(APLOG_MARK, APLOG_WARNING, rv, ap_server_conf,
                 "the hooks in the record of upload %s %s", upload->record->id, why);
    return tus_error(upload->pool, TUS_ERR_HOOK_FAILED, NULL);
}
