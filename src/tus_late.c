/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Finishing late. A sweep that finds an upload that only has to be finished does
 * not do so at once: to join takes time, and so do those who are asked before.
 */
#include "tus_core.h"

/* Should that fail, the next request for the upload finishes it. */
int tus_late_leave(const tus_core_t *core, const tus_record_t *record)
{
    if (!core->finish_later) {
        return 0;
    }
    core->meta->provider->note(core->meta, record->id, TUS_NOTE_CHANGE);
    core->finish_later(core->later, core, record);
    return 1;
}

const tus_error_t *tus_late_finish(const tus_core_t *core, const char *id, apr_pool_t *p)
{
    const tus_error_t *error;
    tus_upload_t *upload;

    if (!tus_upload_try(&upload, core, id, p)) {
        return NULL;
    }
    if (upload->record->is_final) {
        tus_upload_release(upload);
        return tus_join_now(core, id, p);
    }
    error = tus_commit_complete(upload);
    tus_upload_release(upload);
    if (!error && upload->finished_now && upload->record->is_partial) {
        error = tus_join_waiting(core, id, p);
    }
    return error;
}
