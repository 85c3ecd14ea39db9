/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Removing: on a client's word, or what was left by requests that died. Data
 * goes before the record, so that whatever a crash leaves still names itself.
 */
#include "tus_core.h"

#include <apr_strings.h>

apr_status_t tus_remove(tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    const tus_meta_provider_t *meta = core->meta->provider;
    const char *id = upload->record->id;
    apr_status_t rv = meta->note(core->meta, id, TUS_NOTE_CHANGE);

    if (rv == APR_SUCCESS) {
        rv = core->store->provider->remove(core->store, upload->record);
    }
    return rv == APR_SUCCESS ? tus_remove_record(core, id) : rv;
}

/* Notes of one that was would be taken for those of the next of that id. */
apr_status_t tus_remove_record(const tus_core_t *core, const char *id)
{
    apr_status_t rv = core->meta->provider->remove(core->meta, id);

    return rv == APR_SUCCESS ? tus_remove_notes(core, id) : rv;
}

apr_status_t tus_remove_notes(const tus_core_t *core, const char *id)
{
    const tus_meta_provider_t *meta = core->meta->provider;
    apr_status_t rv = meta->unmark(core->meta, id);

    if (rv == APR_SUCCESS) {
        rv = meta->note_synced(core->meta, id, 0);
    }
    return rv == APR_SUCCESS ? meta->unlink(core->meta, id) : rv;
}

static const tus_error_t *remove_and_tell(tus_upload_t *upload)
{
    const tus_core_t *core = upload->core;
    const tus_error_t *error = core->events->will_terminate(core->baton, upload);
    apr_status_t rv;

    if (error) {
        tus_upload_release(upload);
        return error;
    }
    rv = tus_remove(upload);
    if (rv == APR_SUCCESS) {
        core->events->post_terminate(core->baton, upload);
    }
    tus_upload_release(upload);
    if (rv != APR_SUCCESS) {
        return tus_error_system(upload->pool, rv, "cannot remove upload %s", upload->record->id);
    }
    return NULL;
}

/* Asked once, though it judges twice: on arrival where another holds the upload, and held. */
static const tus_error_t *ask(void *baton, const tus_upload_t *upload)
{
    int *asked = baton;
    tus_upload_t copy = *upload;

    if (*asked) {
        return NULL;
    }
    *asked = 1;
    return upload->core->events->pre_terminate(upload->core->baton, &copy);
}

const tus_error_t *tus_terminate(tus_upload_t **upload, const tus_core_t *core, const char *id,
                                 apr_pool_t *p)
{
    int asked = 0;
    const tus_error_t *error = tus_upload_hold_to_end(upload, core, id, ask, &asked, p);

    return error ? error : remove_and_tell(*upload);
}

const tus_error_t *tus_stop(tus_upload_t *upload)
{
    if (upload->core->store->provider->remove) {
        return remove_and_tell(upload);
    }
    tus_upload_release(upload);
    return NULL;
}

/* ---- settling ------------------------------------------------------------ */

typedef struct settling_t {
    const tus_core_t *core;
    apr_time_t *expires;
    apr_off_t stored; /* bytes of the upload looked at last */
} settling_t;

static tus_settled_e settle_gone(const tus_core_t *core, const char *id)
{
    return tus_remove_record(core, id) == APR_SUCCESS ? TUS_SETTLED_GONE : TUS_SETTLED_CARRY;
}

/*
 * A record of ours whose data is gone before it was finished or expired is what
 * a termination left that was cut short.
 */
static tus_settled_e settle_recorded(settling_t *settling, const tus_record_t *record)
{
    const tus_core_t *core = settling->core;
    apr_time_t modified;
    apr_status_t rv =
        core->store->provider->size(core->store, record, &settling->stored, &modified);

    if (APR_STATUS_IS_ENOENT(rv) && record->ours && !record->finished && !record->expired) {
        return settle_gone(core, record->id);
    }
    return rv == APR_SUCCESS || rv == TUS_EREFUSED || APR_STATUS_IS_ENOENT(rv) ? TUS_SETTLED_KEEP
                                                                               : TUS_SETTLED_CARRY;
}

static int is_confirmed(settling_t *settling, const tus_record_t *record)
{
    tus_store_t *store = settling->core->store;

    return store->provider->confirmed
           && store->provider->confirmed(store, record, &settling->stored);
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
    store->close(writer);
    return rv;
}

static tus_settled_e settle_held(settling_t *settling, const char *id, int created,
                                 tus_record_t **record, apr_pool_t *p)
{
    const tus_core_t *core = settling->core;
    apr_status_t rv = core->meta->provider->get(core->meta, id, record, p);

    if (rv == APR_SUCCESS) {
        if (created && is_confirmed(settling, *record)) {
            return TUS_SETTLED_KEEP;
        }
        if (created && APR_STATUS_IS_EAGAIN(confirm(core, *record, p))) {
            return TUS_SETTLED_CARRY; /* another server's request holds it */
        }
        return settle_recorded(settling, *record);
    }
    if (rv == TUS_EDAMAGED || rv == TUS_EREFUSED) {
        return TUS_SETTLED_GONE; /* whose fault it was reads it in the log of a request */
    }
    if (rv == TUS_EUNWRITTEN) { /* what is left of it does not prove that it is ours */
        core->events->lost(core->baton, id);
        return TUS_SETTLED_GONE;
    }
    if (!APR_STATUS_IS_ENOENT(rv)) {
        return TUS_SETTLED_CARRY;
    }
    if (created && core->store->provider->discard(core->store, id) != APR_SUCCESS) {
        return TUS_SETTLED_CARRY;
    }
    return settle_gone(core, id);
}

static void note_expiry(const settling_t *settling, const tus_record_t *record)
{
    apr_time_t at = (record->expired ? record->expired : record->created) + record->expire;

    if (!record->expire || record->finished) {
        return;
    }
    if (!*settling->expires || at < *settling->expires) {
        *settling->expires = at;
    }
}

/* Where the request died that should have done it; what fails is told to who asks with HEAD. */
static void complete(const settling_t *settling, const tus_record_t *record, apr_pool_t *p)
{
    const tus_core_t *core = settling->core;

    if (record->finished) {
        if (record->is_partial) {
            tus_join_waiting(core, record->id, p);
        }
    }
    else if (record->is_final) {
        tus_join_try(core, record->id, p);
    }
    else if (record->ours && settling->stored == record->size && !tus_late_leave(core, record)) {
        tus_late_finish(core, record->id, p);
    }
}

static tus_settled_e settle(void *baton, const char *id, int created, tus_record_t **record,
                            apr_pool_t *p)
{
    settling_t *settling = baton;
    const tus_core_t *core = settling->core;
    tus_lock_t *lock;
    tus_settled_e settled;

    if (core->locks->provider->acquire(core->locks, &core->store->identity, id, 0, core->cancel,
                                       &lock, p)
        != APR_SUCCESS) {
        return TUS_SETTLED_CARRY;
    }
    settled = settle_held(settling, id, created, record, p);
    core->locks->provider->release(lock);
    if (settled == TUS_SETTLED_KEEP) {
        note_expiry(settling, *record);
        complete(settling, *record, p);
    }
    return settled;
}

apr_status_t tus_settle(const tus_core_t *core, apr_interval_time_t budget, apr_time_t *expires,
                        apr_pool_t *p)
{
    settling_t settling = { .core = core, .expires = expires };

    return core->meta->provider->fold(core->meta, settle, &settling, budget, core->cancel, p);
}
