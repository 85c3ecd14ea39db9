/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * mod_tus.h: what other modules see of mod_tus.
 *
 * The provider tables of version 0. A provider is registered with
 * ap_register_provider() under one of the groups below; a NULL member that is
 * marked optional means "not offered", and Tus-Extension is computed from what
 * is there. Only APR is needed to implement one.
 *
 * Statuses are apr_status_t; besides APR's own there are the TUS_E* below. A
 * provider never logs and never answers: the caller does.
 */
#ifndef MOD_TUS_H
#define MOD_TUS_H

#include <apr.h>
#include <apr_errno.h>
#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_global_mutex.h>
#include <apr_optional.h>
#include <apr_optional_hooks.h>
#include <apr_poll.h>
#include <apr_pools.h>
#include <apr_portable.h>
#include <apr_tables.h>
#include <apr_time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUS_STORE_GROUP "tus-store"
#define TUS_META_GROUP "tus-meta"
#define TUS_LOCK_GROUP "tus-lock"
#define TUS_HOOK_GROUP "tus-hook"
#define TUS_PROVIDER_VERSION "0"

/** A record or an index that cannot be read as what it should be. */
#define TUS_EDAMAGED (APR_OS_START_USERERR + 0x7501)
/** Something that is no regular file with one link, or not beneath its store. */
#define TUS_EREFUSED (APR_OS_START_USERERR + 0x7502)
/** A record that never reached the disk before the system went down: empty, or all zero bytes. */
#define TUS_EUNWRITTEN (APR_OS_START_USERERR + 0x7503)

/** Asks whether to give up a long call. Passed down, never stored. */
typedef struct tus_cancel_t {
    /** Nonzero once the caller should return APR_EINTR. */
    int (*cancelled)(void *baton);
    void *baton;
} tus_cancel_t;

/** One pair of Upload-Metadata. The value is any bytes, NUL-terminated for comfort. */
typedef struct tus_pair_t {
    const char *key;
    const char *value;
    apr_size_t len;
} tus_pair_t;

/** The size of an upload whose length is deferred. */
#define TUS_SIZE_UNKNOWN APR_INT64_C(-1)

/** What is kept of an upload: ID.info. */
typedef struct tus_record_t {
    const char *id;
    apr_off_t size;            /**< bytes, or TUS_SIZE_UNKNOWN */
    apr_array_header_t *pairs; /**< of tus_pair_t: MetaData */
    const char *metadata;      /**< Upload-Metadata as received, or NULL */
    int is_partial;
    int is_final;
    apr_array_header_t *parts;     /**< of const char *: ids of a final's parts, or NULL */
    const char *storage_type;      /**< "filestore" */
    const char *storage_path;      /**< absolute path of the bytes, or NULL */
    const char *storage_info_path; /**< absolute path of ID.info, or NULL */

    /* Ours, under "ModTus". Without it the record was written by somebody else. */
    int ours;
    apr_time_t created;
    apr_time_t finished;        /**< 0 while unfinished */
    apr_interval_time_t expire; /**< an unfinished one is kept so long without bytes; 0: for ever */
    apr_time_t expired;         /**< since when its data may be gone for that, or 0 */
    const char *owner;          /**< the user who created it, or NULL */
    const char *concat;         /**< Upload-Concat as received, or NULL */
    const apr_array_header_t *hooks; /**< of const char *: what its hooks are known by, or NULL */
    const char *seal;                /**< that of `hooks`, or NULL */
} tus_record_t;

/* ---- data stores --------------------------------------------------------- */

/** Where a store lies. */
typedef struct tus_place_t {
    /**
     * NULL: `path` is the administrator's word and is opened as it stands.
     * Else `path` is relative, and lies beneath this directory through no
     * symbolic link.
     */
    const char *root;
    const char *path;
    /** What `root` must be, so that it cannot be swapped; inode 0 checks nothing. */
    apr_uint64_t root_device;
    apr_uint64_t root_inode;
    /** Permissions of the files and directories that are made, in APR's APR_FPROT_* bits. */
    apr_fileperms_t file_mode;
    apr_fileperms_t dir_mode;
} tus_place_t;

/** What a store is, whatever the path that leads to it. */
typedef struct tus_identity_t {
    apr_uint64_t device;
    apr_uint64_t inode;
    apr_uint32_t owner; /**< uid of the directory */
} tus_identity_t;

typedef struct tus_store_provider_t tus_store_provider_t;

/** An opened store. A provider's own struct starts with this. */
typedef struct tus_store_t {
    const tus_store_provider_t *provider;
    tus_identity_t identity;
} tus_store_t;

/** An upload's bytes, open for writing by one request. A provider's own. */
typedef struct tus_writer_t tus_writer_t;

struct tus_store_provider_t {
    /** The word after TusStore. */
    const char *name;

    /**
     * Opens the store; cheap enough for each request.
     * @param p owns the store and what it holds open
     * @return APR_SUCCESS, TUS_EREFUSED where `place` does not hold, or what the system said
     */
    apr_status_t (*open)(tus_store_t **store, const tus_place_t *place, apr_pool_t *p);

    /** The store's path, all symbolic links resolved, allocated from p. */
    apr_status_t (*path)(tus_store_t *store, const char **path, apr_pool_t *p);

    /**
     * Where ID.info lies: a directory handle, valid as long as the store is.
     * NULL (optional): records lie in the state directory.
     */
    apr_status_t (*info_dir)(tus_store_t *store, apr_os_file_t *dir);

    /**
     * Makes the empty data of a new upload and fences it; directories above it too.
     * @return APR_SUCCESS; APR_EEXIST (test with APR_STATUS_IS_EEXIST) also where the name is
     *         another upload's directory; TUS_EREFUSED if the record's storage_path leads out of
     *         the store; or what the system said
     */
    apr_status_t (*create)(tus_store_t *store, const tus_record_t *record, tus_writer_t **writer,
                           apr_pool_t *p);

    /**
     * Fills the record's storage_* members from p: where data and ID.info lie by
     * now, whatever a record that was moved with its store says.
     */
    apr_status_t (*locate)(tus_store_t *store, tus_record_t *record, apr_pool_t *p);

    /** The upload's record exists: what create made is no orphan from here on. */
    apr_status_t (*confirm)(tus_writer_t *writer);

    /**
     * Nonzero if the data is there and confirmed. Optional: without it, it is
     * opened and fenced to make sure.
     * @param size set to the bytes stored so far, if so
     */
    int (*confirmed)(tus_store_t *store, const tus_record_t *record, apr_off_t *size);

    /** Removes what create made at the id and confirm never saw; leaves all else. */
    apr_status_t (*discard)(tus_store_t *store, const char *id);

    /**
     * Opens the data for writing.
     * @return APR_SUCCESS; APR_ENOENT; TUS_EREFUSED
     */
    apr_status_t (*resume)(tus_store_t *store, const tus_record_t *record, tus_writer_t **writer,
                           apr_pool_t *p);

    /**
     * Excludes every other writer, of any process, until close or the death of
     * this process. Optional: without it the lock provider alone excludes.
     * @return APR_SUCCESS; APR_EAGAIN while another holds it; APR_ENOENT if the
     *         data was removed or replaced meanwhile
     */
    apr_status_t (*fence)(tus_writer_t *writer);

    /**
     * Bytes stored so far, and when they last changed.
     * @return APR_SUCCESS; APR_ENOENT if the data was removed or replaced meanwhile
     */
    apr_status_t (*written)(tus_writer_t *writer, apr_off_t *size, apr_time_t *modified);

    /**
     * Writes all of the bytes at the offset.
     * @param done the bytes that are stored, also on failure
     * @return APR_SUCCESS; APR_ENOENT likewise; TUS_EDAMAGED if there are fewer bytes than that
     */
    apr_status_t (*write)(tus_writer_t *writer, apr_off_t offset, const char *data, apr_size_t len,
                          apr_size_t *done);

    /**
     * The same, with bytes that are in a pipe, which has that many. Optional: without it they are
     * read, and written.
     * @param done the bytes that were taken out and are stored, also on failure
     */
    apr_status_t (*splice)(tus_writer_t *writer, apr_off_t offset, apr_os_file_t pipe,
                           apr_size_t len, apr_size_t *done);

    /** Returns when the bytes are on stable storage. */
    apr_status_t (*flush)(tus_writer_t *writer);

    /** Starts to bring these bytes there, and does not wait. Optional. */
    void (*write_back)(tus_writer_t *writer, apr_off_t offset, apr_off_t len);

    /** Ends writing and lifts the fence. */
    apr_status_t (*close)(tus_writer_t *writer);

    /**
     * Cuts the data back to that size; the bytes behind it are gone on return.
     * Optional: without it there are no checksums and no concatenation.
     */
    apr_status_t (*truncate)(tus_writer_t *writer, apr_off_t size);

    /**
     * Appends the data of other uploads, in their order, sharing blocks with
     * them where the file system can. Optional: without it there is no
     * concatenation.
     * @param parts of const tus_record_t *; the same one may stand there twice
     * @return APR_SUCCESS; APR_ENOENT if the data of a part is gone; TUS_EDAMAGED if it is not
     *         of its record's size; TUS_EREFUSED; APR_EINTR if cancelled; or what the system said
     */
    apr_status_t (*concat)(tus_writer_t *writer, const apr_array_header_t *parts,
                           const tus_cancel_t *cancel);

    /**
     * Bytes stored so far, without opening the data for writing.
     * @return APR_SUCCESS; APR_ENOENT; TUS_EREFUSED
     */
    apr_status_t (*size)(tus_store_t *store, const tus_record_t *record, apr_off_t *size,
                         apr_time_t *modified);

    /**
     * The bytes as a file opened for reading, owned by p. Optional: without it
     * there is no GET.
     * @param flags added to the file's APR flags (APR_FOPEN_SENDFILE_ENABLED)
     * @param finfo filled for conditional requests and the ETag
     */
    apr_status_t (*read)(tus_store_t *store, const tus_record_t *record, apr_int32_t flags,
                         apr_file_t **file, apr_finfo_t *finfo, apr_pool_t *p);

    /**
     * Removes the data. Optional: without it there is no termination, and nothing expires.
     * @return APR_SUCCESS, also when there was none
     */
    apr_status_t (*remove)(tus_store_t *store, const tus_record_t *record);
};

/* ---- metadata ------------------------------------------------------------ */

typedef struct tus_meta_provider_t tus_meta_provider_t;

/** The opened metadata of one store. A provider's own struct starts with this. */
typedef struct tus_meta_t {
    const tus_meta_provider_t *provider;
} tus_meta_t;

/** What a metadata provider is given. All of it outlives the tus_meta_t. */
typedef struct tus_meta_place_t {
    /** Directory handle where ID.info lies, or -1: below state_dir. */
    apr_os_file_t info_dir;
    /** This store's own directory, which nobody else can write. */
    const char *state_dir;
    /** The word after the colon in TusMetadata, or NULL. */
    const char *driver;
    /** Held across open..close of the index. */
    apr_global_mutex_t *mutex;
    /** Permissions of ID.info. */
    apr_fileperms_t mode;
} tus_meta_place_t;

/** Why an id is noted. */
typedef enum {
    TUS_NOTE_CREATE, /**< its data file is about to be made */
    TUS_NOTE_CHANGE  /**< its record was written or removed */
} tus_note_e;

/** What an id in the journal came to. */
typedef enum {
    TUS_SETTLED_KEEP, /**< it has a record: index that */
    TUS_SETTLED_GONE, /**< it has none: drop it from the index */
    TUS_SETTLED_CARRY /**< a request holds it: ask again at the next fold */
} tus_settled_e;

/**
 * Called by fold for each id in the journal.
 * @param created the id was noted with TUS_NOTE_CREATE
 * @param record set for TUS_SETTLED_KEEP, allocated from p
 */
typedef tus_settled_e (*tus_settle_fn)(void *baton, const char *id, int created,
                                       tus_record_t **record, apr_pool_t *p);

/** An entry of the index. */
typedef struct tus_entry_t {
    const char *id;
    apr_off_t size; /**< or TUS_SIZE_UNKNOWN */
    apr_time_t created;
    apr_time_t finished; /**< 0 while unfinished */
    int is_partial;
    int is_final;
    const char *owner;          /**< or NULL */
    const char *filename;       /**< the start of it, or NULL */
    apr_interval_time_t expire; /**< as in the record */
    apr_time_t expired;         /**< as in the record */
    const char *data; /**< tus_storage_mark() of data that lies elsewhere than at the id, or NULL */
} tus_entry_t;

/** Called by walk for each entry; anything but APR_SUCCESS ends the walk. */
typedef apr_status_t (*tus_entry_fn)(void *baton, const tus_entry_t *entry);

struct tus_meta_provider_t {
    /** The word after TusMetadata, before any colon. */
    const char *name;

    /** NULL, or a sentence that says what is wrong with the driver. */
    const char *(*check)(const char *driver, apr_pool_t *p);

    /** Opens a store's metadata; touches no file. p owns it. */
    apr_status_t (*open)(tus_meta_t **meta, const tus_meta_place_t *place, apr_pool_t *p);

    /**
     * Reads a record.
     * @return APR_SUCCESS; APR_ENOENT; TUS_EUNWRITTEN; TUS_EDAMAGED; TUS_EREFUSED for what is too
     *         large or no record; APR_EINVAL for an invalid id; or what the system said
     */
    apr_status_t (*get)(tus_meta_t *meta, const char *id, tus_record_t **record, apr_pool_t *p);

    /**
     * Replaces the whole record atomically. The caller holds the upload.
     * @param durable it, and all names in its directory, are on stable storage on return
     */
    apr_status_t (*put)(tus_meta_t *meta, const tus_record_t *record, int durable, apr_pool_t *p);

    /** Removes a record. The caller holds the upload. APR_SUCCESS, also when there was none. */
    apr_status_t (*remove)(tus_meta_t *meta, const char *id);

    /** Notes an id for the index, by one append to the journal. */
    apr_status_t (*note)(tus_meta_t *meta, const char *id, tus_note_e why);

    /**
     * Brings the index up to date with the journal, or goes on with rebuilding
     * it for about `budget`. One process at a time calls it for a store.
     * @return APR_SUCCESS when all is done; APR_INCOMPLETE when a rebuild has
     *         more to do; APR_EBUSY while another process does it; TUS_EDAMAGED, once, if
     *         index or journal turned out so, and a rebuild was begun; APR_EINTR if
     *         cancelled; or what the system said
     */
    apr_status_t (*fold)(tus_meta_t *meta, tus_settle_fn settle, void *baton,
                         apr_interval_time_t budget, const tus_cancel_t *cancel, apr_pool_t *p);

    /**
     * Calls fn for each entry of the index as it stands, during a rebuild too.
     * @return APR_SUCCESS; TUS_EDAMAGED where there is no index; or what fn said
     */
    apr_status_t (*walk)(tus_meta_t *meta, tus_entry_fn fn, void *baton, apr_pool_t *p);

    /**
     * Notes that the bytes from this offset on are not verified; they do not
     * count until unmark, whoever dies. The caller holds the upload.
     * @param durable the mark is on stable storage on return
     */
    apr_status_t (*mark)(tus_meta_t *meta, const char *id, apr_off_t offset, int durable);

    /** Takes the mark away, as durably as it was made. APR_SUCCESS, also when there was none. */
    apr_status_t (*unmark)(tus_meta_t *meta, const char *id);

    /** The mark. @return APR_SUCCESS; APR_ENOENT for none; TUS_EDAMAGED; or what the system said */
    apr_status_t (*marked)(tus_meta_t *meta, const char *id, apr_off_t *offset);

    /**
     * Notes that the bytes before this offset are on stable storage; so is the
     * note on return. 0 takes it away. The caller holds the upload.
     */
    apr_status_t (*note_synced)(tus_meta_t *meta, const char *id, apr_off_t offset);

    /** What was noted. @return APR_SUCCESS; APR_ENOENT; TUS_EDAMAGED; or what the system said */
    apr_status_t (*synced)(tus_meta_t *meta, const char *id, apr_off_t *offset);

    /**
     * Links a part to a final that is made of it, on stable storage on return. One that unlink
     * runs beside may be forgotten with the others: look at the part afterwards.
     */
    apr_status_t (*link)(tus_meta_t *meta, const char *part, const char *final);

    /**
     * The finals that a part is linked to, oldest first, each once. Of very many, the latest.
     * @param finals set to an array of const char *, allocated from p; empty for none
     */
    apr_status_t (*links)(tus_meta_t *meta, const char *part, apr_array_header_t **finals,
                          apr_pool_t *p);

    /** Forgets all links of a part. APR_SUCCESS, also when there were none. */
    apr_status_t (*unlink)(tus_meta_t *meta, const char *part);
};

/* ---- locks --------------------------------------------------------------- */

typedef struct tus_lock_provider_t tus_lock_provider_t;

/** The table of running requests. A provider's own struct starts with this. */
typedef struct tus_locks_t {
    const tus_lock_provider_t *provider;
} tus_locks_t;

/** An upload held by one request. A provider's own. */
typedef struct tus_lock_t tus_lock_t;

/** What a newer request wants of a holder. */
typedef enum {
    TUS_ASKED_NOTHING,
    TUS_ASKED_RELEASE, /**< store what you have and let go */
    TUS_ASKED_STOP     /**< the upload is to end */
} tus_asked_e;

struct tus_lock_provider_t {
    /** The provider's name. */
    const char *name;

    /**
     * Takes the upload. A holder that asked for it earlier is asked to release it,
     * unless the deadline is 0: that is a try, which disturbs nobody.
     * @param deadline when to give up, an absolute time, or 0
     * @param cancel may be NULL
     * @param lock owned by p, released with it at the latest
     * @return APR_SUCCESS; APR_TIMEUP; APR_EBUSY for a try; APR_ENOSPC when the
     *         table is full; APR_EINTR if cancelled
     */
    apr_status_t (*acquire)(tus_locks_t *locks, const tus_identity_t *store, const char *id,
                            apr_time_t deadline, const tus_cancel_t *cancel, tus_lock_t **lock,
                            apr_pool_t *p);

    /** What the holder of this lock is asked for. Cheap: called for each read. */
    tus_asked_e (*asked)(tus_lock_t *lock);

    /**
     * As asked(), but nobody takes it for an answer: for another thread of the
     * holder's process, while the lock is held. Optional.
     */
    tus_asked_e (*peek)(tus_lock_t *lock);

    /** Lets go. Idempotent. */
    void (*release)(tus_lock_t *lock);

    /**
     * What to poll for, besides one's own input: readable when a holder in
     * this process is asked. Whoever it wakes calls asked().
     * @return APR_SUCCESS, or APR_ENOTIMPL where holders must look by themselves
     */
    apr_status_t (*wakeup)(tus_locks_t *locks, apr_pollfd_t *pollfd);

    /**
     * Asks the holder of an upload, in whatever process, for TUS_ASKED_STOP.
     * @return APR_SUCCESS; APR_ENOENT if nobody holds it; or what the mutex said
     */
    apr_status_t (*stop)(tus_locks_t *locks, const tus_identity_t *store, const char *id);

    /** How many uploads are held at this moment, by any process. */
    apr_status_t (*count)(tus_locks_t *locks, unsigned *held);
};

/* ---- hooks --------------------------------------------------------------- */

typedef struct tus_hook_provider_t tus_hook_provider_t;

/** What one process needs to call hooks: kept connections. A provider's own struct starts with
 *  this. */
typedef struct tus_caller_t {
    const tus_hook_provider_t *provider;
} tus_caller_t;

/** One call. */
typedef struct tus_call_t {
    const char *url;            /**< http: or https: */
    const char *socket;         /**< path of a unix socket that is connected to, or NULL */
    const char *address;        /**< "ADDRESS:PORT" that is connected to, whatever the URL's name
                                     resolves to, or NULL */
    const apr_table_t *headers; /**< sent; Content-Type is application/json unless it is here. Those
                                     that frame a message or belong to the connection are left out,
                                     and so is Host; "Connection: close" keeps it for no other call.
                                     NULL: none */
    const char *body;
    apr_size_t len;
    apr_interval_time_t timeout; /**< for all of it, name and connection included */
    int is_verified;             /**< the server's certificate must be good, for the URL's name */
    int is_public;  /**< no address of this host, a link or a private network is connected to */
    apr_size_t max; /**< bytes of the answer's body that are taken */
    const tus_cancel_t *cancel; /**< or NULL */
} tus_call_t;

/** What came back. */
typedef struct tus_called_t {
    int status;               /**< of the final HTTP response, 200 or more; 0 where there is none */
    const char *content_type; /**< or NULL */
    const char *body; /**< as it came, NUL-terminated for comfort; NULL without a response */
    apr_size_t len;
    apr_interval_time_t time; /**< that it took, failed or not */
    const char *why;          /**< one sentence where the call failed, else NULL */
} tus_called_t;

struct tus_hook_provider_t {
    /** The provider's name. */
    const char *name;

    /**
     * Readies a process, after fork; touches no network. p owns it, and what is kept open; no call
     * may be under way when it goes.
     * @return APR_SUCCESS, or why it cannot be
     */
    apr_status_t (*open)(tus_caller_t **caller, apr_pool_t *p);

    /**
     * POSTs the body and returns when there is an answer, or none will come. Follows no redirect,
     * and keeps no cookie. Any thread may call at any time. The body is sent once, or again on a
     * new connection where a kept one ended before it brought any answer.
     * @param called filled in every case, from p
     * @return APR_SUCCESS if there was a whole response, whatever its status; APR_TIMEUP; APR_EINTR
     *         if cancelled; TUS_EREFUSED for an address that is_public forbids, a URL of another
     *         scheme or with a password, or a header field that is none; TUS_EDAMAGED for an answer
     *         that is too large or not HTTP; APR_ECONNREFUSED where nobody listens; APR_ENOMEM;
     *         APR_EINVAL in a process that was forked after open(); else APR_EGENERAL, also for an
     *         answer that broke off
     */
    apr_status_t (*call)(tus_caller_t *caller, const tus_call_t *call, tus_called_t *called,
                         apr_pool_t *p);
};

/* ---- what other modules can do ------------------------------------------- */

struct request_rec; /* httpd.h */

/** What happened, or is about to. Valid during the call only. */
typedef struct tus_event_t {
    struct request_rec *request; /**< NULL where none is the cause: a sweep */
    const tus_identity_t *store; /**< for tus_stop_upload() */
    tus_record_t *record;        /**< to be changed by pre_create only: id, pairs, storage_path */
    apr_off_t offset;            /**< bytes stored */
    apr_pool_t *pool; /**< the request's, where there is one; for what is put into record */
} tus_event_t;

/** What a client is told instead of our own words. */
typedef struct tus_reply_t {
    int status;               /**< 400 to 599, or 0 for the default */
    const char *content_type; /**< or NULL: text/plain; charset=utf-8 */
    const char *body;         /**< or NULL: ours */
    apr_table_t *headers;     /**< empty; those of the protocol and the connection are not sent */
} tus_reply_t;

/** What a hook function returns to refuse; OK and DECLINED let things go on. */
#define TUS_REFUSE 1

/*
 * Optional hooks, for APR_OPTIONAL_HOOK(ap, tus_NAME, function, NULL, NULL, APR_HOOK_MIDDLE).
 *
 *   pre_create     may rename the upload and change its metadata, or refuse it
 *   post_create    it has a record
 *   receive        bytes arrived; to refuse stops the upload, which is removed
 *   pre_finish     all bytes are stored and synced; to refuse leaves it unfinished
 *   post_finish    its record says that it is finished
 *   pre_terminate  before a DELETE; may refuse it
 *   post_terminate it is gone
 *
 * The reply of a post_* function is not looked at. Functions may run in any
 * thread; those of one request never at the same time.
 */
typedef int ap_HOOK_tus_pre_create_t(const tus_event_t *event, tus_reply_t *reply);
typedef int ap_HOOK_tus_post_create_t(const tus_event_t *event, tus_reply_t *reply);
typedef int ap_HOOK_tus_receive_t(const tus_event_t *event, tus_reply_t *reply);
typedef int ap_HOOK_tus_pre_finish_t(const tus_event_t *event, tus_reply_t *reply);
typedef int ap_HOOK_tus_post_finish_t(const tus_event_t *event, tus_reply_t *reply);
typedef int ap_HOOK_tus_pre_terminate_t(const tus_event_t *event, tus_reply_t *reply);
typedef int ap_HOOK_tus_post_terminate_t(const tus_event_t *event, tus_reply_t *reply);

/**
 * Parses Upload-Metadata.
 * @param pairs set to an array of tus_pair_t, allocated from p
 * @return NULL, or a sentence that says what is wrong
 */
APR_DECLARE_OPTIONAL_FN(const char *, tus_parse_metadata,
                        (const char *header, apr_array_header_t **pairs, apr_pool_t *p));

/** Upload-Metadata of these pairs; NULL where there are none. */
APR_DECLARE_OPTIONAL_FN(const char *, tus_format_metadata,
                        (const apr_array_header_t *pairs, apr_pool_t *p));

/**
 * Fills a reply with an error of this status, whose body is "CODE: message".
 * @param code such as "ERR_QUOTA"
 */
APR_DECLARE_OPTIONAL_FN(void, tus_make_error,
                        (tus_reply_t * reply, int status, const char *code, const char *message,
                         apr_pool_t *p));

/**
 * Stops an upload that is running, in whatever process: its request ends with
 * ERR_UPLOAD_STOPPED, and it is removed where the store offers that.
 * @return APR_SUCCESS once it is asked; APR_ENOENT if none is running
 */
APR_DECLARE_OPTIONAL_FN(apr_status_t, tus_stop_upload,
                        (const tus_identity_t *store, const char *id));

#ifdef __cplusplus
}
#endif

#endif /* MOD_TUS_H */
