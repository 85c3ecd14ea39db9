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

typedef struct tus_upload_t tus_upload_t;

/**
 * Who is told what happens to an upload, and asked before it does. The pre_*
 * return NULL, or the error that the request ends with.
 */
typedef struct tus_events_t {
    /** Before anything is made; may change the record's id, pairs and storage_path. */
    const tus_error_t *(*pre_create)(void *baton, tus_upload_t *upload);
    /** The id or storage_path that pre_create chose is taken, or none that can be made.
     *  @return NULL, or the error that the request ends with */
    const tus_error_t *(*not_made)(void *baton, tus_upload_t *upload);
    /** All is made but the record: what is to be told of it is written down now, if anything is. */
    const tus_error_t *(*will_create)(void *baton, tus_upload_t *upload);
    void (*post_create)(void *baton, tus_upload_t *upload);
    /** All bytes are stored and synced. */
    const tus_error_t *(*pre_finish)(void *baton, tus_upload_t *upload);
    /** Likewise: all that is missing is a record that says so. */
    const tus_error_t *(*will_finish)(void *baton, tus_upload_t *upload);
    void (*post_finish)(void *baton, tus_upload_t *upload);
    const tus_error_t *(*pre_terminate)(void *baton, tus_upload_t *upload);
    /** Likewise: it is about to be removed. */
    const tus_error_t *(*will_terminate)(void *baton, tus_upload_t *upload);
    void (*post_terminate)(void *baton, tus_upload_t *upload);
    void (*expired)(void *baton, tus_upload_t *upload);
    /** Its data was cut back: a system that went down may not have stored the rest of it. */
    void (*cut)(void *baton, tus_upload_t *upload, apr_off_t stored);
    /** Its record never reached the disk before the system went down. */
    void (*lost)(void *baton, const char *id);
} tus_events_t;

/** An endpoint as the deeds see it. */
typedef struct tus_core_t {
    tus_store_t *store;
    const char *state_dir; /**< the store's own, in TusStateDir */
    tus_meta_t *meta;
    tus_locks_t *locks;
    tus_sync_e sync;
    apr_off_t max_size;         /**< bytes, 0 for none */
    apr_interval_time_t expire; /**< for uploads that are created, 0 for none */
    apr_interval_time_t lock_timeout;
    apr_time_t boot;    /**< when the system was booted */
    apr_time_t settled; /**< what was written before this is on stable storage */
    apr_time_t (*now)(void);
    const tus_cancel_t *cancel; /**< or NULL */
    int limits_unknown;         /**< a sweep's: what an endpoint allows is not known */
    /** NULL, or who finishes uploads instead of the caller, who has no time for it: tus_late.c. */
    void (*finish_later)(void *later, const struct tus_core_t *core, const tus_record_t *record);
    void *later;
    const tus_events_t *events;
    void *baton; /**< of the events */
} tus_core_t;

/** An upload in the hands of one request, allocated from its pool. */
struct tus_upload_t {
    const tus_core_t *core;
    apr_pool_t *pool;
    tus_record_t *record;
    apr_off_t offset;       /**< bytes stored */
    apr_time_t modified;    /**< when they last changed */
    tus_lock_t *lock;       /**< NULL unless held */
    tus_writer_t *writer;   /**< NULL unless held and unfinished */
    int created;            /**< made by this request */
    int recorded;           /**< ID.info exists */
    int lasting;            /**< it is known to be on stable storage */
    int changed;            /**< the record says more than ID.info */
    int noted;              /**< its id stands in the journal for as long as it is held */
    int declared;           /**< its length came with the bytes of this request */
    int finished_now;       /**< finished by this request */
    tus_digest_t *digest;   /**< of the chunk that is to be verified, or NULL */
    apr_off_t unverified;   /**< where that chunk starts */
    int paced;              /**< the next two are known */
    apr_off_t synced;       /**< noted as on stable storage */
    apr_off_t written_back; /**< on its way there */
};

/* ---- tus_upload.c: finding and holding ----------------------------------- */

/** May this upload be held? Called on arrival where another holds it, and under the lock. */
typedef const tus_error_t *(*tus_judge_fn)(void *baton, const tus_upload_t *upload);

/**
 * Finds an upload without holding it: its record, and the verified bytes stored by now.
 * @return NULL; TUS_ERR_UPLOAD_NOT_FOUND; TUS_ERR_UPLOAD_GONE once it has expired; or a system
 * error
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

/** The same, but an upload that has all its bytes is left as it is: it is about to be removed. */
const tus_error_t *tus_upload_hold_to_end(tus_upload_t **upload, const tus_core_t *core,
                                          const char *id, tus_judge_fn judge, void *baton,
                                          apr_pool_t *p);

/**
 * The state of an upload for HEAD: a holder is asked to let go first, so that
 * the offset is final. The upload is not held on return.
 */
const tus_error_t *tus_upload_inspect(tus_upload_t **upload, const tus_core_t *core, const char *id,
                                      apr_pool_t *p);

/**
 * Holds an upload if nobody else does; disturbs nobody. Expired or not, finished
 * or not: what lies there is what the caller gets.
 * @param upload its writer is NULL if it is finished or its data is gone
 * @return nonzero if it is held now
 */
int tus_upload_try(tus_upload_t **upload, const tus_core_t *core, const char *id, apr_pool_t *p);

/** What a client is told where the lock could not be had, or the fence. */
const tus_error_t *tus_upload_locked(const tus_core_t *core, apr_status_t rv, apr_pool_t *p);

/** Lets go of a held upload. Idempotent; also done when its pool is cleared. */
void tus_upload_release(tus_upload_t *upload);

/* ---- tus_commit.c: what an upload has come to, written down --------------- */

/** Nonzero once the upload is finished, in the sense of its record. */
int tus_commit_is_finished(const tus_upload_t *upload);

/** Nonzero if all its bytes are stored; never of a final. */
int tus_commit_has_all(const tus_upload_t *upload);

/** Makes another server's upload ours, in memory: from the first byte that we write. */
void tus_commit_adopt(tus_upload_t *upload);

/** Returns when the data of a held upload is on stable storage. */
const tus_error_t *tus_commit_data(tus_upload_t *upload);

/** Notes a held upload for the sweep, once: the line is carried as long as it is held. */
apr_status_t tus_commit_note(tus_upload_t *upload);

/** Notes a held upload for the index and writes its record. */
const tus_error_t *tus_commit_record(tus_upload_t *upload, int durable);

/** Finishes a held upload, if it has all its bytes and nobody has done so. */
const tus_error_t *tus_commit_complete(tus_upload_t *upload);

/** Finishes a held upload that has all its bytes: its data is synced, then its record says so. */
const tus_error_t *tus_commit_finish(tus_upload_t *upload);

/* ---- tus_changes.c: what others want of an upload before it is made ------- */

/**
 * Takes over id, pairs and storage_path, of what is not made yet.
 * @param said a copy of the upload's record, changed; its pairs may have been changed in place
 * @param before tus_metadata_format() of the pairs before that
 * @return NULL, or what cannot be and why, in words; then the record may have some of it
 */
const char *tus_changes_take(tus_upload_t *upload, const tus_record_t *said, const char *before);

/* ---- tus_create.c -------------------------------------------------------- */

/** What a client wants to upload. */
typedef struct tus_creation_t {
    apr_off_t size;            /**< bytes, or TUS_SIZE_UNKNOWN */
    const char *metadata;      /**< Upload-Metadata as received, or NULL */
    apr_array_header_t *pairs; /**< its tus_pair_t */
    const char *owner;         /**< the authenticated user, or NULL */
    int whole;                 /**< its bytes arrive in the same request: the record can wait */
    int is_partial;
    apr_array_header_t *parts; /**< of const char *: ids, of a final; else NULL */
    const char *concat;        /**< Upload-Concat as received, or NULL */
    apr_array_header_t *links; /**< of const char *: the parts to be linked to it, or NULL */
} tus_creation_t;

/**
 * Creates an upload; it is held on return. An empty one is finished at once, a
 * final is not.
 */
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
 * Declares the length of an upload whose length is deferred; tus_append_end() writes it down.
 * @return NULL; TUS_ERR_MAX_SIZE_EXCEEDED; TUS_ERR_INVALID_UPLOAD_LENGTH if it is
 *         known already and another, or below what is stored; or a system error
 */
const tus_error_t *tus_append_declare(tus_upload_t *upload, apr_off_t length);

/** The same, but nothing is declared: may this length be? */
const tus_error_t *tus_append_check_length(const tus_upload_t *upload, apr_off_t length);

/**
 * Stores bytes at the end of a held upload.
 * @return NULL; TUS_ERR_UPLOAD_SIZE_EXCEEDED or TUS_ERR_MAX_SIZE_EXCEEDED once the room
 *         is used up; or a system error. upload->offset is true in each case.
 */
const tus_error_t *tus_append(tus_upload_t *upload, const char *data, apr_size_t len);

/** Nonzero where tus_append_pipe() may be called: nobody needs to see the bytes. */
int tus_append_can_splice(const tus_upload_t *upload);

/**
 * The same, with bytes that are in a pipe.
 * @return as tus_append(); NULL only if all of them were taken out of the pipe
 */
const tus_error_t *tus_append_pipe(tus_upload_t *upload, apr_os_file_t pipe, apr_size_t len);

/**
 * Ends appending, however it went: a chunk that was to be verified and was not
 * is gone, what else was stored is acknowledged as TusSync says, and the upload
 * finished if it has all its bytes.
 */
const tus_error_t *tus_append_end(tus_upload_t *upload);

/* ---- tus_chunk.c: bytes that count only once they are verified ------------- */

/**
 * What is appended to a held upload from now on has a checksum.
 * @param algorithms the one that it has; all that it may have where a trailer will tell
 */
const tus_error_t *tus_chunk_begin(tus_upload_t *upload, unsigned algorithms);

/**
 * Verifies what was appended since tus_chunk_begin().
 * @return NULL; TUS_ERR_CHECKSUM_MISMATCH, and then the bytes are gone; or a system error
 */
const tus_error_t *tus_chunk_verify(tus_upload_t *upload, const tus_checksum_t *checksum);

/** Cuts a held upload back to an offset, with whatever was to be verified. */
const tus_error_t *tus_chunk_discard(tus_upload_t *upload, apr_off_t offset);

/** Cuts off what a request left that died before its chunk was verified; held and fenced. */
const tus_error_t *tus_chunk_recover(tus_upload_t *upload);

/** Bytes of an upload's data that count. @param size all that there are */
const tus_error_t *tus_chunk_count(tus_upload_t *upload, apr_off_t size);

/* ---- tus_proof.c: what of the data is proven to be stored ------------------ */

/** Leaves of upload->offset what is proven, after the system was booted anew. */
const tus_error_t *tus_proof_count(tus_upload_t *upload);

/** Cuts off what is not; held and fenced. Before anything else touches the data. */
const tus_error_t *tus_proof_recover(tus_upload_t *upload);

/** Around each write: starts the write-back, and notes now and then what is synced. */
const tus_error_t *tus_proof_begin(tus_upload_t *upload);
const tus_error_t *tus_proof_advance(tus_upload_t *upload);

/** Syncs the data of a held upload, and the record that is to say so, and notes that. */
const tus_error_t *tus_proof_note(tus_upload_t *upload);

/** Takes back what was noted beyond this offset: data is about to be cut off there. */
apr_status_t tus_proof_retract(tus_upload_t *upload, apr_off_t offset);

/** Writes the record of a held upload, durably where something is noted that it stands for. */
const tus_error_t *tus_proof_record(tus_upload_t *upload);

/** Takes the note of a finished upload away. */
apr_status_t tus_proof_forget(const tus_upload_t *upload);

/* ---- tus_join.c: concatenation --------------------------------------------- */

/**
 * Creates a final upload and, if all its parts are finished, joins them. Where
 * the same final was made a moment ago, that one is the result.
 * @param upload not held on return; finished or waiting
 * @return NULL; TUS_ERR_INVALID_CONCAT for a part that cannot be one; TUS_ERR_UPLOAD_NOT_FINISHED
 *         where unfinished parts are not allowed; TUS_ERR_MAX_SIZE_EXCEEDED; or as tus_create()
 */
const tus_error_t *tus_join_create(tus_upload_t **upload, const tus_core_t *core,
                                   const tus_creation_t *creation, int may_wait, apr_pool_t *p);

/**
 * Joins a final whose parts are all finished by now, or leaves that for later;
 * else, or while another request does so, it is left as it is. Interrupts nobody.
 */
const tus_error_t *tus_join_try(const tus_core_t *core, const char *id, apr_pool_t *p);

/** The same, but nothing is left for later. */
const tus_error_t *tus_join_now(const tus_core_t *core, const char *id, apr_pool_t *p);

/**
 * After a part was finished and released: joins the finals that waited for it.
 * @return NULL, or why one of them could not be joined
 */
const tus_error_t *tus_join_waiting(const tus_core_t *core, const char *part, apr_pool_t *p);

/** When the last of the unfinished parts of a final expires; 0 if none is left. */
apr_time_t tus_join_expires(const tus_upload_t *final);

/** The length of a final: the sum of its parts' lengths, or TUS_SIZE_UNKNOWN. */
apr_off_t tus_join_length(const tus_core_t *core, const tus_record_t *record, apr_pool_t *p);

/* ---- tus_late.c: what a sweep finishes after all else ----------------------- */

/**
 * Leaves an upload that has all it needs to be finished later; it is noted, so that it is found
 * again whoever dies before that.
 * @return nonzero if somebody does so later; else the caller has to
 */
int tus_late_leave(const tus_core_t *core, const tus_record_t *record);

/**
 * Finishes what was left: an upload that has all its bytes, or a final whose parts are finished.
 * What is not like that any more, or is held by a request, stays as it is. Interrupts nobody.
 * @return NULL, or why it could not be finished
 */
const tus_error_t *tus_late_finish(const tus_core_t *core, const char *id, apr_pool_t *p);

/* ---- tus_expire.c ---------------------------------------------------------- */

/**
 * When an unfinished upload expires unless bytes arrive; 0 for never. A final
 * lives as long as one of the parts that it waits for.
 */
apr_time_t tus_expire_at(const tus_upload_t *upload);

/** Nonzero once it has expired, swept or not. */
int tus_expire_is_over(const tus_upload_t *upload);

/** What a client is told of it: gone while that is remembered, then not found. */
const tus_error_t *tus_expire_error(const tus_upload_t *upload);

/**
 * Removes the uploads of a store that have expired, and the records of those
 * that expired long enough ago.
 * @param next set to when there will be something to do again, or 0 for never
 * @return APR_SUCCESS; APR_EINTR if cancelled; or what the metadata said
 */
apr_status_t tus_expire(const tus_core_t *core, apr_time_t *next, apr_pool_t *p);

/* ---- tus_remove.c -------------------------------------------------------- */

/**
 * Terminates an upload: data and record are gone on return. Whoever listens is
 * asked before a holder is interrupted.
 * @param upload not held on return
 */
const tus_error_t *tus_terminate(tus_upload_t **upload, const tus_core_t *core, const char *id,
                                 apr_pool_t *p);

/** Ends a held upload that another module stopped: removed where the store can, and released. */
const tus_error_t *tus_stop(tus_upload_t *upload);

/** Removes what belongs to a held upload: data, record and notes. Asks and tells nobody. */
apr_status_t tus_remove(tus_upload_t *upload);

/** Removes the record of an id, or the half of one, and what is noted of it; the caller holds it.
 */
apr_status_t tus_remove_record(const tus_core_t *core, const char *id);

/** Removes what is noted of an id in the state directory; the caller holds it. */
apr_status_t tus_remove_notes(const tus_core_t *core, const char *id);

/**
 * Brings the index up to date, and removes what was left by requests that
 * died: data that never got a record, records whose data is gone. Joins finals
 * whose parts are all there.
 * @param budget about how long it may take
 * @param expires set to the earliest time at which one of the uploads looked at expires, if that
 *        is earlier than what it is or if it is 0
 * @return APR_SUCCESS; APR_INCOMPLETE if there is more to do; or what the system said
 */
apr_status_t tus_settle(const tus_core_t *core, apr_interval_time_t budget, apr_time_t *expires,
                        apr_pool_t *p);

#endif /* TUS_CORE_H */
