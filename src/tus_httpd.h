/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * tus_httpd.h: ring 4, where the deeds meet httpd.
 */
#ifndef TUS_HTTPD_H
#define TUS_HTTPD_H

#include "tus_core.h"

#include <httpd.h>
#include <http_config.h>
#include <http_log.h>

#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 129)
#error "mod_tus needs Apache httpd 2.4.58 or later"
#endif

extern module AP_MODULE_DECLARE_DATA tus_module;
APLOG_USE_MODULE(tus);

/* ---- tus_config.c: what the directives say ------------------------------- */

/** TusEngine, and the scope that said it. */
typedef struct tus_engine_t {
    int on;
    const char *scope; /**< path of that <Location>, <Directory> or .htaccess; NULL: the server */
    int is_location;   /**< scope is a URL path; else a directory */
    int is_pattern;    /**< scope has wildcards or is a regular expression */
} tus_engine_t;

/** TusStore. */
typedef struct tus_store_spec_t {
    const tus_store_provider_t *provider; /**< NULL: none said */
    const char *path;             /**< as written; in .htaccess made absolute below its directory */
    const char *htaccess;         /**< directory of the .htaccess that said it, or NULL */
    apr_uint64_t htaccess_device; /**< what that directory was when the .htaccess was read */
    apr_uint64_t htaccess_inode;
    const char *where; /**< "file:line" for messages */
} tus_store_spec_t;

/** TusMetadata. */
typedef struct tus_meta_spec_t {
    const tus_meta_provider_t *provider;
    const char *driver; /**< or NULL */
} tus_meta_spec_t;

/** What holds for a request, all scopes merged. */
typedef struct tus_settings_t {
    tus_engine_t engine;
    tus_store_spec_t store;
    tus_meta_spec_t meta;
    apr_off_t max_size;       /**< bytes, 0 for none; TusAllowMaxSize not yet applied */
    int max_size_htaccess;    /**< an .htaccess said max_size */
    apr_off_t allow_max_size; /**< bytes, 0 for none */
    const char *base_url;     /**< or NULL: derived */
    tus_sync_e sync;
    apr_fileperms_t file_mode;
    apr_interval_time_t lock_timeout;
    apr_array_header_t *allow_store; /**< of const char *; NULL: the .htaccess's own tree */
} tus_settings_t;

extern const command_rec tus_config_commands[];

/** create_dir_config and merge_dir_config of the module record. */
void *tus_config_create(apr_pool_t *p, char *dir);
void *tus_config_merge(apr_pool_t *p, void *base, void *add);

/** What holds where nobody said anything. */
const tus_settings_t *tus_config_defaults(void);

/** What holds for this request. */
const tus_settings_t *tus_config_of(const request_rec *r);

/** TusMaxSize with the ceiling of TusAllowMaxSize applied to what an .htaccess said; 0 for none. */
apr_off_t tus_config_max_size(const tus_settings_t *settings);

/** TusStateDir. */
const char *tus_config_state_dir(server_rec *s);

/** Every TusStore of the server's own configuration: an array of tus_store_spec_t. */
const apr_array_header_t *tus_config_stores(void);

/** Forgets what an earlier reading of the configuration said; from pre_config. */
void tus_config_reset(apr_pool_t *pconf);

/* ---- tus_parse.c: the arguments of the directives ------------------------- */

/**
 * Reads a directive's arguments into the member that the name says.
 * @return NULL, or what is wrong with them, as the middle of a sentence
 */
typedef const char *(*tus_parse_fn)(cmd_parms *cmd, tus_settings_t *to, int argc,
                                    char *const argv[]);

const char *tus_parse_engine(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_store(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_metadata(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_max_size(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_allow_max_size(cmd_parms *cmd, tus_settings_t *to, int argc,
                                     char *const argv[]);
const char *tus_parse_base_url(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_sync(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_file_mode(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_lock_timeout(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_allow_store(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);

/** An absolute path, made canonical without following links. */
const char *tus_parse_absolute(cmd_parms *cmd, const char *arg, const char **path);

/** Nonzero while an .htaccess is read. */
int tus_parse_is_htaccess(const cmd_parms *cmd);

/* ---- tus_place.c: where a store may lie ----------------------------------- */

/**
 * Where TusStore leads, TusAllowStore applied.
 * @param why set to a sentence for the log where it is not allowed
 * @return nonzero if it may be opened
 */
int tus_place_of_store(const tus_settings_t *settings, tus_place_t *place, const char **why,
                       apr_pool_t *p);

/* ---- tus_check.c: what can be judged at start and by configtest ----------- */

/** Warns of stores and a state directory that User cannot use. */
void tus_check_warn(apr_pool_t *p, server_rec *s);

/**
 * What User could do with a directory, judged as User even while still root.
 * @return APR_SUCCESS if it is a directory that User can list, enter and write; or why not
 */
apr_status_t tus_check_directory(const char *path, apr_pool_t *p);

/** A sentence for the log: the path, User's uid, what the system said, and the fix. */
const char *tus_check_explain(const char *directive, const char *path, apr_status_t rv,
                              apr_pool_t *p);

/* ---- tus_guard.c: a store is never served as plain files ------------------ */

/** Resolves the stores of the server's own configuration; from post_config. */
void tus_guard_init(apr_pool_t *pconf, server_rec *s);

/** fixups and handler hook: 404 for what lies in a store, unless it is the endpoint's own. */
int tus_guard_request(request_rec *r);

/* ---- tus_shared.c: what all children and generations share ---------------- */

/** pre_config: registers the mutexes with the Mutex directive. */
int tus_shared_register(apr_pool_t *pconf);

/** post_config: makes table, mutexes and TusStateDir, or finds those of the generation before. */
int tus_shared_open(server_rec *s);

/** child_init: attaches this process. */
void tus_shared_attach(apr_pool_t *pchild, server_rec *s);

/** The lock table, or NULL where it could not be made. */
tus_locks_t *tus_shared_locks(void);

/** The mutex of the metadata index. */
apr_global_mutex_t *tus_shared_meta_mutex(void);

/** The state directory; NULL with the reason in why where it cannot be used. */
tus_state_t *tus_shared_state(const char **why);

/* ---- tus_endpoint.c: from settings to a tus_core_t ------------------------ */

/** Opens what an endpoint's requests work on. Logs nothing. */
const tus_error_t *tus_endpoint_open(tus_core_t **core, const tus_settings_t *settings,
                                     apr_pool_t *p);

/** The same for a store of the registry, if it still is what the registry says. */
apr_status_t tus_endpoint_reopen(tus_core_t **core, const tus_state_store_t *known, apr_pool_t *p);

/** Tus-Extension: what the store's provider offers; NULL for none known. */
const char *tus_endpoint_extensions(const tus_store_provider_t *provider, apr_pool_t *p);

/** Says in the log what each configured store offers; from post_config. */
void tus_endpoint_announce(server_rec *s, apr_pool_t *p);

/* ---- tus_mount.c: which requests are ours, and what they name ------------- */

/** A request that the endpoint owns; NULL from tus_mount_of() for all others. */
typedef struct tus_request_t {
    const tus_settings_t *settings;
    const char *base; /**< path that Location starts with, ending in "/" */
    const char *id;   /**< the upload that the URL names, or NULL at the base itself */
} tus_request_t;

/** For the post_perdir_config hook: claims the request if it is the endpoint's. */
int tus_mount_request(request_rec *r);

/** type_checker hook: the end of an upload's name says nothing about its type or encoding. */
int tus_mount_type(request_rec *r);

/** What tus_mount_request() left on this request, or NULL. */
const tus_request_t *tus_mount_of(const request_rec *r);

/* ---- tus_override.c ------------------------------------------------------- */

/**
 * Makes X-HTTP-Method-Override the request's method, before anything judges it.
 * @return OK, or the status that the request ends with
 */
int tus_override_method(request_rec *r);

/** Nonzero if X-HTTP-Method-Override names a method that cannot be honoured. */
int tus_override_is_refused(const request_rec *r);

/* ---- tus_answer.c: what goes out ------------------------------------------ */

/** Sets a response header that is there on errors too. */
void tus_answer_header(request_rec *r, const char *name, const char *value);

/** The headers that every response of an endpoint carries; also an insert_error_filter hook. */
void tus_answer_common(request_rec *r);

/** Answers without a body. @return what a handler returns */
int tus_answer_empty(request_rec *r, int status);

/** Logs the error, once, and answers with it as text/plain. @return what a handler returns */
int tus_answer_error(request_rec *r, const tus_error_t *error);

/* ---- tus_body.c: the receiver --------------------------------------------- */

/** Why a body ended. */
typedef enum {
    TUS_BODY_DONE,       /**< the whole body was stored */
    TUS_BODY_AGAIN,      /**< nothing to read at the moment */
    TUS_BODY_ASKED,      /**< a newer request wants the upload */
    TUS_BODY_TIMEOUT,    /**< the client stalled */
    TUS_BODY_INCOMPLETE, /**< the client went away */
    TUS_BODY_ANSWERED, /**< httpd refused the body and has answered: LimitRequestBody, bad chunks */
    TUS_BODY_REFUSED   /**< it could not be stored; see error */
} tus_body_e;

/** A body on its way into an upload. */
typedef struct tus_body_t {
    request_rec *r;
    tus_upload_t *upload;
    apr_bucket_brigade *brigade;
    apr_time_t progress;      /**< when bytes last arrived */
    apr_off_t received;       /**< bytes read from the client */
    int http_status;          /**< for TUS_BODY_ANSWERED: what the handler returns */
    const tus_error_t *error; /**< for TUS_BODY_REFUSED */
} tus_body_t;

/** Begins to receive; lifts httpd's built-in LimitRequestBody for this request. */
void tus_body_init(tus_body_t *body, request_rec *r, tus_upload_t *upload);

/** Moves what is there from the connection to the store. Never blocks. */
tus_body_e tus_body_step(tus_body_t *body);

/** The poll driver: steps and waits until the body has ended. */
tus_body_e tus_body_receive(tus_body_t *body);

/* ---- tus_amend.c: httpd core's configuration, changed for one request ----- */

/** Bytes that LimitRequestBody allows, 0 for no limit: httpd's built-in default counts as none. */
apr_off_t tus_amend_limit(const request_rec *r);

/** Lifts httpd's built-in LimitRequestBody; one that somebody set stays. */
void tus_amend_lift_limit(request_rec *r);

/** What leaves is data: server-side includes must not run what an uploader wrote. */
void tus_amend_forbid_includes(request_rec *r);

/* ---- tus_v1.c: the protocol tus 1.0 --------------------------------------- */

/** Handles a request of the endpoint. @return what a handler returns */
int tus_v1_handle(request_rec *r, const tus_request_t *request);

/* ---- tus_download.c ------------------------------------------------------- */

/** Answers a GET with the upload's bytes. */
int tus_download(request_rec *r, tus_upload_t *upload);

/* ---- tus_sweep.c: what is done in the background -------------------------- */

/** Registers the watchdog callback; from post_config. */
int tus_sweep_register(server_rec *s, apr_pool_t *pconf);

#endif /* TUS_HTTPD_H */
