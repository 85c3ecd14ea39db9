/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Concatenation. A final is an upload with a record from the start: it waits
 * until all of its parts are finished, and is then joined by whoever notices:
 * its own creation, the request that finished the last part, the sweep, or a
 * HEAD. The parts are only read.
 *
 * Nobody waits for anybody: who finds a final held leaves it to the holder, and
 * the holder looks at the parts once more after it let go.
 */
#include "tus_core.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <string.h>

/* The finals of a part that are compared with a new one, newest first. */
#define COMPARED_MAX 64

/* ---- the parts ----------------------------------------------------------- */

typedef struct part_t {
    const tus_record_t *record; /* what a store needs to know of it */
    int is_finished;
    apr_time_t expires;
} part_t;

typedef struct parts_t {
    apr_array_header_t *records; /* of const tus_record_t * */
    apr_time_t expires;          /* when the last of those that are missing does, or 0 */
    apr_array_header_t *missing; /* of const char *: those that are not finished, each once */
    apr_off_t size;              /* the sum, or TUS_SIZE_UNKNOWN */
    int too_large;               /* for any file */
} parts_t;

static const tus_error_t *not_a_part(const char *id, const char *why, apr_pool_t *p)
{
    return tus_error(p, TUS_ERR_INVALID_CONCAT, "%s %s", id, why);
}

/* A record of another server's knows no owner. */
static int is_foreign(const tus_record_t *record, const char *owner)
{
    if (!record->ours) {
        return 0;
    }
    return !record->owner != !owner || (owner && strcmp(record->owner, owner) != 0);
}

static const tus_error_t *judge_part(tus_upload_t **part, const tus_core_t *core, const char *id,
                                     const char *owner, apr_pool_t *p)
{
    const tus_error_t *error = tus_upload_find(part, core, id, p);

    if (error && (error->err == TUS_ERR_UPLOAD_NOT_FOUND || error->err == TUS_ERR_UPLOAD_GONE)) {
        return not_a_part(id, "is no upload that exists", p);
    }
    if (error) {
        return error;
    }
    if (!(*part)->record->is_partial || (*part)->record->is_final) {
        return not_a_part(id, "is no partial upload", p);
    }
    if (is_foreign((*part)->record, owner)) {
        return not_a_part(id, "belongs to somebody else", p);
    }
    return NULL;
}

static const char *copy_text(const char *text, apr_pool_t *p)
{
    return text ? apr_pstrdup(p, text) : NULL;
}

/* Without its metadata, which may be large, and there may be thousands of parts. */
static part_t *keep_part(const tus_upload_t *part, apr_pool_t *p)
{
    tus_record_t *record = apr_pcalloc(p, sizeof(*record));
    part_t *kept = apr_pcalloc(p, sizeof(*kept));

    record->id = apr_pstrdup(p, part->record->id);
    record->size = part->record->size;
    record->storage_path = copy_text(part->record->storage_path, p);
    record->storage_info_path = copy_text(part->record->storage_info_path, p);
    kept->record = record;
    kept->is_finished = tus_commit_is_finished(part);
    kept->expires = tus_expire_at(part);
    return kept;
}

static const tus_error_t *find_part(part_t **kept, const tus_core_t *core, const char *id,
                                    const char *owner, apr_pool_t *p)
{
    const tus_error_t *error;
    tus_upload_t *part;
    apr_pool_t *pone;

    apr_pool_create(&pone, p);
    error = judge_part(&part, core, id, owner, pone);
    if (error) {
        error = tus_error_copy(error, p);
    }
    else {
        *kept = keep_part(part, p);
    }
    apr_pool_destroy(pone);
    return error;
}

static void add_size(parts_t *parts, apr_off_t size)
{
    if (parts->size == TUS_SIZE_UNKNOWN || size == TUS_SIZE_UNKNOWN) {
        parts->size = TUS_SIZE_UNKNOWN;
    }
    else if (size > APR_INT64_MAX - parts->size) {
        parts->too_large = 1;
    }
    else {
        parts->size += size;
    }
}

/* Reads the record of each part once, however often it is named. */
static const tus_error_t *load_parts(parts_t *parts, const tus_core_t *core,
                                     const tus_record_t *final, apr_pool_t *p)
{
    apr_hash_t *known = apr_hash_make(p);

    if (final->parts->nelts > TUS_CONCAT_MAX) {
        return tus_error(p, TUS_ERR_INVALID_CONCAT, "there are more than %d parts", TUS_CONCAT_MAX);
    }
    parts->records = apr_array_make(p, final->parts->nelts, sizeof(const tus_record_t *));
    parts->missing = apr_array_make(p, 4, sizeof(const char *));
    parts->size = 0;
    parts->expires = 0;
    parts->too_large = 0;
    for (int i = 0; i < final->parts->nelts; i++) {
        const char *id = APR_ARRAY_IDX(final->parts, i, const char *);
        part_t *part = apr_hash_get(known, id, APR_HASH_KEY_STRING);

        if (!part) {
            const tus_error_t *error = find_part(&part, core, id, final->owner, p);

            if (error) {
                return error;
            }
            if (!part->is_finished) {
                APR_ARRAY_PUSH(parts->missing, const char *) = id;
                parts->expires = part->expires > parts->expires ? part->expires : parts->expires;
            }
            apr_hash_set(known, id, APR_HASH_KEY_STRING, part);
        }
        APR_ARRAY_PUSH(parts->records, const tus_record_t *) = part->record;
        add_size(parts, part->record->size);
    }
    return NULL;
}

static const tus_error_t *check_size(const tus_core_t *core, const parts_t *parts, apr_pool_t *p)
{
    if (parts->too_large) {
        return tus_error(p, TUS_ERR_MAX_SIZE_EXCEEDED, "the parts have more bytes than a file can");
    }
    if (core->max_size && parts->size > core->max_size) {
        return tus_error(p, TUS_ERR_MAX_SIZE_EXCEEDED,
                         "the parts have more than the %" APR_OFF_T_FMT
                         " bytes that TusMaxSize allows",
                         core->max_size);
    }
    return NULL;
}

apr_off_t tus_join_length(const tus_core_t *core, const tus_record_t *record, apr_pool_t *p)
{
    parts_t parts;

    if (record->size != TUS_SIZE_UNKNOWN || !record->parts) {
        return record->size;
    }
    return load_parts(&parts, core, record, p) || parts.too_large ? TUS_SIZE_UNKNOWN : parts.size;
}

apr_time_t tus_join_expires(const tus_upload_t *final)
{
    apr_time_t expires = 0;
    apr_pool_t *p;
    parts_t parts;

    if (!final->record->parts) {
        return 0;
    }
    apr_pool_create(&p, final->pool);
    if (!load_parts(&parts, final->core, final->record, p)) {
        expires = parts.expires;
    }
    apr_pool_destroy(p);
    return expires;
}

/* ---- joining ------------------------------------------------------------- */

static apr_status_t copy_parts(tus_upload_t *final, const parts_t *parts)
{
    const tus_core_t *core = final->core;
    const tus_store_provider_t *store = core->store->provider;
    apr_status_t rv = APR_SUCCESS;

    if (final->offset > 0) { /* what a join left that died */
        rv = store->truncate(final->writer, 0);
    }
    return rv == APR_SUCCESS ? store->concat(final->writer, parts->records, core->cancel) : rv;
}

static const tus_error_t *join(tus_upload_t *final, const parts_t *parts)
{
    const tus_core_t *core = final->core;
    const tus_error_t *error = check_size(core, parts, final->pool);
    apr_status_t rv;

    if (error) {
        return error;
    }
    rv = tus_commit_note(final); /* who finds all parts finished is to join them, if we die */
    if (rv == APR_SUCCESS) {
        rv = copy_parts(final, parts);
    }
    if (rv == APR_SUCCESS) {
        final->offset = final->record->size = parts->size;
        return tus_commit_finish(final);
    }
    core->store->provider->truncate(final->writer, 0); /* room for others until it is tried again */
    if (APR_STATUS_IS_ENOENT(rv)) {
        return not_a_part(final->record->id, "cannot be joined: the data of a part is gone",
                          final->pool);
    }
    return tus_error_system(final->pool, rv, "cannot join the parts of upload %s",
                            final->record->id);
}

static int is_waiting(const tus_upload_t *final)
{
    if (final->core->limits_unknown && final->record->size == TUS_SIZE_UNKNOWN) {
        return 0; /* nobody has held it against TusMaxSize yet */
    }
    return final->record->is_final && final->record->parts && !tus_expire_is_over(final)
           && !tus_commit_is_finished(final);
}

/* A part that is gone is no news for whoever asks for the final: it goes on waiting. */
static const tus_error_t *look_at_parts(parts_t *parts, const tus_upload_t *final, int *complete)
{
    const tus_error_t *error = load_parts(parts, final->core, final->record, final->pool);

    *complete = !error && parts->missing->nelts == 0;
    return error && error->err == TUS_ERR_INVALID_CONCAT ? NULL : error;
}

/* One look at a held final. @param again nonzero if its parts were finished meanwhile */
static const tus_error_t *try_held(tus_upload_t *final, int *again)
{
    parts_t parts;
    int complete = 0;
    const tus_error_t *error = look_at_parts(&parts, final, &complete);

    if (error) {
        return error;
    }
    if (complete) {
        return join(final, &parts);
    }
    tus_upload_release(final);
    return look_at_parts(&parts, final, again);
}

const tus_error_t *tus_join_now(const tus_core_t *core, const char *id, apr_pool_t *p)
{
    const tus_error_t *error = NULL;
    tus_upload_t *final;
    int again = core->store->provider->concat != NULL;

    while (again && !error && tus_upload_try(&final, core, id, p)) {
        again = 0;
        if (final->writer && is_waiting(final)) {
            error = try_held(final, &again);
        }
        tus_upload_release(final);
    }
    return error;
}

/* One that waits for its parts is not left: who finishes the last of them comes again. */
static const tus_error_t *leave_if_complete(const tus_core_t *core, const char *id, apr_pool_t *p)
{
    const tus_error_t *error = NULL;
    tus_upload_t *final;
    parts_t parts;
    int complete = 0;

    if (!core->store->provider->concat || tus_upload_find(&final, core, id, p)
        || !is_waiting(final)) {
        return NULL;
    }
    error = look_at_parts(&parts, final, &complete);
    if (complete) {
        tus_late_leave(core, final->record);
    }
    return error;
}

const tus_error_t *tus_join_try(const tus_core_t *core, const char *id, apr_pool_t *p)
{
    return core->finish_later ? leave_if_complete(core, id, p) : tus_join_now(core, id, p);
}

const tus_error_t *tus_join_waiting(const tus_core_t *core, const char *part, apr_pool_t *p)
{
    const tus_error_t *first = NULL;
    apr_array_header_t *finals;
    apr_pool_t *pone;
    apr_status_t rv = core->meta->provider->links(core->meta, part, &finals, p);

    if (rv != APR_SUCCESS) {
        return tus_error_system(p, rv, "cannot tell which uploads wait for part %s", part);
    }
    apr_pool_create(&pone, p);
    for (int i = 0; i < finals->nelts; i++) {
        const tus_error_t *error;

        apr_pool_clear(pone);
        error = tus_join_try(core, APR_ARRAY_IDX(finals, i, const char *), pone);
        if (error && !first) {
            first = tus_error_copy(error, p);
        }
    }
    apr_pool_destroy(pone);
    return first;
}

/* ---- creating ------------------------------------------------------------ */

static int same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static int same_parts(const apr_array_header_t *a, const apr_array_header_t *b)
{
    if (!a || a->nelts != b->nelts) {
        return 0;
    }
    for (int i = 0; i < a->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(a, i, const char *), APR_ARRAY_IDX(b, i, const char *)) != 0) {
            return 0;
        }
    }
    return 1;
}

/* A client that missed the answer asks once more; later it may well want another copy. */
static int is_recent(const tus_upload_t *final)
{
    const tus_core_t *core = final->core;
    apr_time_t finished = final->record->finished;

    return !finished || core->now() - finished <= core->lock_timeout;
}

static int is_same(const tus_upload_t *final, const tus_creation_t *creation)
{
    const tus_record_t *record = final->record;

    return record->ours && record->is_final && same_parts(record->parts, creation->parts)
           && same_text(record->metadata, creation->metadata)
           && same_text(record->owner, creation->owner) && is_recent(final);
}

static int find_same(tus_upload_t **same, const tus_core_t *core, const tus_creation_t *creation,
                     apr_pool_t *p)
{
    const char *first = APR_ARRAY_IDX(creation->parts, 0, const char *);
    apr_array_header_t *finals;
    int oldest;

    if (core->meta->provider->links(core->meta, first, &finals, p) != APR_SUCCESS) {
        return 0;
    }
    oldest = finals->nelts > COMPARED_MAX ? finals->nelts - COMPARED_MAX : 0;
    for (int i = finals->nelts - 1; i >= oldest; i--) {
        const char *id = APR_ARRAY_IDX(finals, i, const char *);

        if (!tus_upload_find(same, core, id, p) && is_same(*same, creation)) {
            return 1;
        }
    }
    return 0;
}

/* The first part is linked always: that is where the same final is looked for. */
static apr_array_header_t *parts_to_link(const parts_t *parts, const char *first, apr_pool_t *p)
{
    apr_array_header_t *links = apr_array_copy(p, parts->missing);

    if (links->nelts == 0 || strcmp(APR_ARRAY_IDX(links, 0, const char *), first) != 0) {
        APR_ARRAY_PUSH(links, const char *) = first;
    }
    return links;
}

static const tus_error_t *make(tus_upload_t **final, const tus_core_t *core,
                               const tus_creation_t *creation, const parts_t *parts, apr_pool_t *p)
{
    tus_creation_t full = *creation;
    const tus_error_t *error;

    full.size = parts->size;
    full.links = parts_to_link(parts, APR_ARRAY_IDX(creation->parts, 0, const char *), p);
    error = tus_create(final, core, &full, p);
    if (!error) {
        tus_upload_release(*final);
    }
    return error;
}

/* One at a time for a first part: two of the same would not see each other. */
static const tus_error_t *make_or_find(tus_upload_t **final, int *found, const tus_core_t *core,
                                       const tus_creation_t *creation, const parts_t *parts,
                                       apr_pool_t *p)
{
    const tus_lock_provider_t *locks = core->locks->provider;
    const char *name =
        apr_pstrcat(p, "finals of ", APR_ARRAY_IDX(creation->parts, 0, const char *), NULL);
    const tus_error_t *error = NULL;
    tus_lock_t *lock;
    apr_status_t rv = locks->acquire(core->locks, &core->store->identity, name,
                                     core->now() + core->lock_timeout, core->cancel, &lock, p);

    if (rv != APR_SUCCESS) {
        return tus_upload_locked(core, rv, p);
    }
    *found = find_same(final, core, creation, p);
    if (!*found) {
        error = make(final, core, creation, parts, p);
    }
    locks->release(lock);
    return error;
}

/* As if it had never been: the client is told that nothing was made. */
static void undo(const tus_core_t *core, const char *id, apr_pool_t *p)
{
    tus_upload_t *final;

    if (tus_upload_try(&final, core, id, p)) {
        if (!final->record->finished) { /* by somebody else, meanwhile */
            tus_create_undo(final);
        }
        tus_upload_release(final);
    }
}

/* A part may have gone since it was looked at, and the final is not to wait. */
static const tus_error_t *check_made(const tus_upload_t *final, int may_wait)
{
    if (may_wait || tus_commit_is_finished(final)) {
        return NULL;
    }
    return tus_error(final->pool, TUS_ERR_UPLOAD_NOT_FINISHED, NULL);
}

const tus_error_t *tus_join_create(tus_upload_t **final, const tus_core_t *core,
                                   const tus_creation_t *creation, int may_wait, apr_pool_t *p)
{
    const tus_record_t wanted = { .parts = creation->parts, .owner = creation->owner };
    const tus_error_t *error;
    const char *id;
    parts_t parts;
    int found = 0;

    error = load_parts(&parts, core, &wanted, p);
    if (!error) {
        error = check_size(core, &parts, p);
    }
    if (!error && parts.missing->nelts > 0 && !may_wait) {
        error = tus_error(p, TUS_ERR_UPLOAD_NOT_FINISHED, "%s is not finished yet",
                          APR_ARRAY_IDX(parts.missing, 0, const char *));
    }
    if (!error) {
        error = make_or_find(final, &found, core, creation, &parts, p);
    }
    if (error || found) {
        return error;
    }
    id = (*final)->record->id;
    error = tus_join_try(core, id, p);
    if (!error) {
        error = tus_upload_find(final, core, id, p);
    }
    if (!error) {
        error = check_made(*final, may_wait);
    }
    if (error) {
        undo(core, id, p);
    }
    return error;
}
