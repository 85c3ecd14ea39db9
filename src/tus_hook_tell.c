/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Hooks that are told what has happened. Before it is written down, each event
 * goes to the spool as one that is pending; after that it is confirmed, and told
 * by tus_courier.c. Who dies in between leaves a pending one, which the record
 * bears out or does not.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

/* Post-* that an upload's finish is told by. */
static int is_durable(const tus_core_t *core, tus_hook_e type)
{
    return core->sync == TUS_SYNC_ALWAYS
           || (core->sync == TUS_SYNC_FINISH && type == TUS_HOOK_POST_FINISH);
}

static tus_spooled_t spooled_of(const tus_upload_t *upload, const tus_hook_t *hook,
                                const tus_hook_event_t *event)
{
    return (tus_spooled_t){ .id = upload->record->id,
                            .created = upload->record->created,
                            .type = event->type,
                            .hook = hook->reference,
                            .event_id = event->event_id,
                            .at = upload->core->now(),
                            .headers = event->headers,
                            .body = event->body,
                            .len = event->len };
}

static apr_status_t spool(const tus_upload_t *upload, const tus_hook_t *hook,
                          const tus_hook_event_t *event)
{
    const tus_core_t *core = upload->core;
    const tus_spooled_t spooled = spooled_of(upload, hook, event);
    apr_status_t rv = hook->spec->htaccess ? tus_hook_table_note(hook, upload->pool) : APR_SUCCESS;

    return rv == APR_SUCCESS ? tus_spool_put(core->state_dir, &spooled,
                                             is_durable(core, event->type), upload->pool)
                             : rv;
}

/* Hooks of the endpoint that a request came to; where none did, those of the creating one. */
static apr_status_t find_hooks(const apr_array_header_t **hooks, const tus_upload_t *upload,
                               const request_rec *r, tus_hook_e type)
{
    if (r) {
        *hooks = tus_hook_table_of(r, type, upload->pool);
        return APR_SUCCESS;
    }
    return tus_hook_record_find(hooks, upload->core, upload->record, type, upload->pool);
}

const tus_error_t *tus_hook_tell(tus_hook_e type, const tus_upload_t *upload, const request_rec *r)
{
    const apr_array_header_t *hooks;
    const tus_error_t *error = NULL;
    tus_hook_event_t event;
    apr_status_t found = find_hooks(&hooks, upload, r, type);

    if (found != APR_SUCCESS) {
        return tus_hook_record_error(upload, found);
    }
    for (int i = 0; !error && hooks && i < hooks->nelts; i++) {
        const tus_hook_t *hook = &APR_ARRAY_IDX(hooks, i, tus_hook_t);
        apr_status_t rv = APR_SUCCESS;

        error = tus_hook_event_make(&event, type, upload, r, hook->settings->hook_forward, 1);
        if (!error) {
            rv = spool(upload, hook, &event);
        }
        if (rv != APR_SUCCESS) {
            error =
                tus_error_system(upload->pool, rv, "cannot spool %s of upload %s in TusStateDir",
                                 tus_hook_name(type), upload->record->id);
        }
    }
    return error;
}

const tus_error_t *tus_hook_keep(const tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    const tus_record_t *record = upload->record;
    apr_status_t rv = APR_SUCCESS;

    if (is_durable(core, record->finished ? TUS_HOOK_POST_FINISH : TUS_HOOK_POST_CREATE)) {
        rv = tus_spool_sync(core->state_dir, record->id);
    }
    return rv == APR_SUCCESS
               ? NULL
               : tus_error_system(upload->pool, rv,
                                  "cannot sync the spool of upload %s in TusStateDir", record->id);
}

/* One that stays pending, also as its hook is not found now, is judged later, by its record. */
void tus_hook_told(tus_hook_e type, const tus_upload_t *upload, const request_rec *r)
{
    const apr_array_header_t *hooks;
    const tus_hook_event_t event = { .type = type };

    find_hooks(&hooks, upload, r, type);
    for (int i = 0; hooks && i < hooks->nelts; i++) {
        const tus_spooled_t spooled =
            spooled_of(upload, &APR_ARRAY_IDX(hooks, i, tus_hook_t), &event);

        tus_spool_confirm(upload->core->state_dir, &spooled, upload->pool);
    }
    if (hooks && hooks->nelts && tus_shared_bell()) {
        tus_bell_ring(tus_shared_bell(), upload->core->state_dir,
                      tus_spool_shard(upload->record->id));
    }
}
