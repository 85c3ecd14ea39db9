/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * tus_core.h: ring 3, the deeds. What can be done with an upload, over the
 * provider tables and without HTTP.
 *
 * A deed returns NULL, or the error to answer with. Time enters as an argument
 * through tus_core_t, so that a test decides what time it is.
 */
#ifndef TUS_CORE_H
#define TUS_CORE_H

#include "tus_words.h"

/** What is on stable storage before it is acknowledged. */
typedef enum {
    TUS_SYNC_NONE,   /**< nothing */
    TUS_SYNC_FINISH, /**< a finished upload */
    TUS_SYNC_ALWAYS  /**< every request's bytes */
} tus_sync_e;

/** An endpoint as the deeds see it. */
typedef struct tus_core_t {
    tus_store_t *store;
    tus_meta_t *meta;
    tus_locks_t *locks;
    tus_sync_e sync;
    apr_off_t max_size; /**< bytes, 0 for none */
    apr_interval_time_t lock_timeout;
    apr_time_t (*now)(void);
    const tus_cancel_t *cancel; /**< or NULL */
} tus_core_t;

/** An upload in the hands of one request, allocated from its pool. */
typedef struct tus_upload_t {
    const tus_core_t *core;
    apr_pool_t *pool;
    tus_record_t *record;
    apr_off_t offset;     /**< bytes stored */
    apr_time_t modified;  /**< when they last changed */
    tus_lock_t *lock;     /**< NULL unless held */
    tus_writer_t *writer; /**< NULL unless held and unfinished */
    int created;          /**< made by this request */
    int recorded;         /**< ID.info exists */
    int changed;          /**< the record says more than ID.info */
    int finished_now;     /**< finished by this request */
} tus_upload_t;

/* ---- tus_upload.c: finding and holding ----------------------------------- */

/** May this upload be held? Called on arrival where another holds it, and under the lock. */
typedef const tus_error_t *(*tus_judge_fn)(void *baton, const tus_upload_t *upload);

/**
 * Finds an upload without holding it: its record, and the bytes stored by now.
 * @return NULL; TUS_ERR_UPLOAD_NOT_FOUND; or a system error
 */
const tus_error_t *tus_upload_find(tus_upload_t **upload, const tus_core_t *core, const char *id,
                                   apr_pool_t *p);

/**
 * Holds an upload, asking an older holder to let go. What the judge refuses
 * interrupts nobody. An upload that has all its bytes is finished on the way.
 * @param judge may be NULL
 * @return NULL; the judge's error; TUS_ERR_UPLOAD_NOT_FOUND, _LOCKED, _TOO_BUSY; or a system error
 */
const tus_error_t *tus_upload_hold(tus_upload_t **upload, const tus_core_t *core, const char *id,
                                   tus_judge_fn judge, void *baton, apr_pool_t *p);

/**
 * The state of an upload for HEAD: a holder is asked to let go first, so that
 * the offset is final. The upload is not held on return.
 */
const tus_error_t *tus_upload_inspect(tus_upload_t **upload, const tus_core_t *core, const char *id,
                                      apr_pool_t *p);

/** Lets go of a held upload. Idempotent; also done when its pool is cleared. */
void tus_upload_release(tus_upload_t *upload);

/* ---- tus_commit.c: what an upload has come to, written down --------------- */

/** Nonzero once the upload is finished, in the sense of its record. */
int tus_commit_is_finished(const tus_upload_t *upload);

/** Makes another server's upload ours, in memory: from the first byte that we write. */
void tus_commit_adopt(tus_upload_t *upload);

/** Returns when the data of a held upload is on stable storage. */
const tus_error_t *tus_commit_data(tus_upload_t *upload);

/** Notes a held upload for the index and writes its record. */
const tus_error_t *tus_commit_record(tus_upload_t *upload, int durable);

/** Finishes a held upload that has all its bytes: its data is synced, then its record says so. */
const tus_error_t *tus_commit_finish(tus_upload_t *upload);

/* ---- tus_create.c -------------------------------------------------------- */

/** What a client wants to upload. */
typedef struct tus_creation_t {
    apr_off_t size;            /**< bytes, or TUS_SIZE_UNKNOWN */
    const char *metadata;      /**< Upload-Metadata as received, or NULL */
    apr_array_header_t *pairs; /**< its tus_pair_t */
    const char *owner;         /**< the authenticated user, or NULL */
    int whole;                 /**< its bytes arrive in the same request: the record can wait */
} tus_creation_t;

/** Creates an upload; it is held on return. An empty one is finished at once. */
const tus_error_t *tus_create(tus_upload_t **upload, const tus_core_t *core,
                              const tus_creation_t *creation, apr_pool_t *p);

/**
 * Takes back an upload that the client will never hear of: what was made is
 * removed as far as the store offers it, and the upload released.
 */
void tus_create_undo(tus_upload_t *upload);

/* ---- tus_append.c -------------------------------------------------------- */

/** How many bytes the upload still takes: up to its size, or to the largest allowed. */
apr_off_t tus_append_room(const tus_upload_t *upload);

/**
 * Declares the length of an upload whose length is deferred.
 * @return NULL; TUS_ERR_MAX_SIZE_EXCEEDED; TUS_ERR_INVALID_UPLOAD_LENGTH if it is
 *         known already and another, or below what is stored; or a system error
 */
const tus_error_t *tus_append_declare(tus_upload_t *upload, apr_off_t length);

/**
 * Stores bytes at the end of a held upload.
 * @return NULL; TUS_ERR_UPLOAD_SIZE_EXCEEDED or TUS_ERR_MAX_SIZE_EXCEEDED once the room
 *         is used up; or a system error. upload->offset is true in each case.
 */
const tus_error_t *tus_append(tus_upload_t *upload, const char *data, apr_size_t len);

/**
 * Ends appending, however it went: what was stored is acknowledged as TusSync
 * says, and the upload finished if it has all its bytes.
 */
const tus_error_t *tus_append_end(tus_upload_t *upload);

/* ---- tus_remove.c -------------------------------------------------------- */

/** Terminates a held upload: data and record are gone on return, and it is released. */
const tus_error_t *tus_terminate(tus_upload_t *upload);

/**
 * Brings the index up to date, and removes what was left by requests that
 * died: data that never got a record, records whose data is gone.
 * @param budget about how long it may take
 * @return APR_SUCCESS; APR_INCOMPLETE if there is more to do; or what the system said
 */
apr_status_t tus_settle(const tus_core_t *core, apr_interval_time_t budget, apr_pool_t *p);

#endif /* TUS_CORE_H */
