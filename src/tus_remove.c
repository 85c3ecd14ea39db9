/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Removing: on a client's word, or what was left by requests that died. Data
 * goes before the record, so that whatever a crash leaves still names itself.
 */
#include "tus_core.h"

#include <apr_strings.h>

const tus_error_t *tus_terminate(tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    const char *id = upload->record->id;
    apr_status_t rv = core->meta->provider->note(core->meta, id, TUS_NOTE_CHANGE);

    if (rv == APR_SUCCESS) {
        rv = core->store->provider->remove(core->store, id);
    }
    if (rv == APR_SUCCESS) {
        rv = core->meta->provider->remove(core->meta, id);
    }
    tus_upload_release(upload);
    if (rv != APR_SUCCESS) {
        return tus_error_system(upload->pool, rv, "cannot remove upload %s", id);
    }
    return NULL;
}

/* ---- settling ------------------------------------------------------------ */

/*
 * A record of ours whose data is gone before it was finished is what a
 * termination left that was cut short.
 */
static tus_settled_e settle_recorded(const tus_core_t *core, const tus_record_t *record)
{
    apr_off_t size;
    apr_time_t modified;
    apr_status_t rv = core->store->provider->size(core->store, record, &size, &modified);

    if (APR_STATUS_IS_ENOENT(rv) && record->ours && !record->finished) {
        rv = core->meta->provider->remove(core->meta, record->id);
        return rv == APR_SUCCESS ? TUS_SETTLED_GONE : TUS_SETTLED_CARRY;
    }
    return rv == APR_SUCCESS || rv == TUS_EREFUSED || APR_STATUS_IS_ENOENT(rv) ? TUS_SETTLED_KEEP
                                                                               : TUS_SETTLED_CARRY;
}

/* To fence the data of a record confirms it, should its maker have died before. */
static apr_status_t confirm(const tus_core_t *core, const tus_record_t *record, apr_pool_t *p)
{
    const tus_store_provider_t *store = core->store->provider;
    tus_writer_t *writer;
    apr_status_t rv = store->resume(core->store, record, &writer, p);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = store->fence ? store->fence(writer) : APR_SUCCESS;
    store->close(writer, 1);
    return rv;
}

static tus_settled_e settle_held(const tus_core_t *core, const char *id, int created,
                                 tus_record_t **record, apr_pool_t *p)
{
    apr_status_t rv = core->meta->provider->get(core->meta, id, record, p);

    if (rv == APR_SUCCESS) {
        if (created && APR_STATUS_IS_EAGAIN(confirm(core, *record, p))) {
            return TUS_SETTLED_CARRY; /* another server's request holds it */
        }
        return settle_recorded(core, *record);
    }
    if (rv == TUS_EDAMAGED || rv == TUS_EREFUSED) {
        return TUS_SETTLED_GONE; /* whose fault it was reads it in the log of a request */
    }
    if (!APR_STATUS_IS_ENOENT(rv)) {
        return TUS_SETTLED_CARRY;
    }
    if (created && core->store->provider->discard(core->store, id) != APR_SUCCESS) {
        return TUS_SETTLED_CARRY;
    }
    return TUS_SETTLED_GONE;
}

static tus_settled_e settle(void *baton, const char *id, int created, tus_record_t **record,
                            apr_pool_t *p)
{
    const tus_core_t *core = baton;
    tus_lock_t *lock;
    tus_settled_e settled;

    if (core->locks->provider->acquire(core->locks, &core->store->identity, id, 0, core->cancel,
                                       &lock, p)
        != APR_SUCCESS) {
        return TUS_SETTLED_CARRY;
    }
    settled = settle_held(core, id, created, record, p);
    core->locks->provider->release(lock);
    return settled;
}

apr_status_t tus_settle(const tus_core_t *core, apr_interval_time_t budget, apr_pool_t *p)
{
    return core->meta->provider->fold(core->meta, settle, (void *)core, budget, core->cancel, p);
}
