/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * tus_httpd.h: ring 4, where the deeds meet httpd.
 */
#ifndef TUS_HTTPD_H
#define TUS_HTTPD_H

#include "tus_core.h"

#include <apr_hash.h>
#include <apr_thread_mutex.h>

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

/** The tus extensions that an endpoint can offer, a bit each; tus_endpoint.c has their names. */
#define TUS_EXT_CREATION 0x001U
#define TUS_EXT_CREATION_WITH_UPLOAD 0x002U
#define TUS_EXT_CREATION_DEFER_LENGTH 0x004U
#define TUS_EXT_TERMINATION 0x008U
#define TUS_EXT_CONCATENATION 0x010U
#define TUS_EXT_CONCATENATION_UNFINISHED 0x020U
#define TUS_EXT_CHECKSUM 0x040U
#define TUS_EXT_CHECKSUM_TRAILER 0x080U
#define TUS_EXT_EXPIRATION 0x100U
#define TUS_EXT_ALL 0x1ffU

/** TusExtensions: (inherited | on) & ~off; `on` alone where it is absolute. */
typedef struct tus_choice_t {
    unsigned on;
    unsigned off;
    int absolute;
} tus_choice_t;

/** A list of names that a scope replaces or adds to. */
typedef struct tus_list_t {
    const char *names; /**< all of them, separated by ", " as in a header; "" for none */
    const char *added; /**< those that are added to what is inherited; NULL: it is replaced */
} tus_list_t;

/** TusCORSAllowOrigin. */
typedef struct tus_origin_t {
    const char *pattern;
    ap_regex_t *regex; /**< NULL: any origin */
} tus_origin_t;

/** A TusHook. */
typedef struct tus_hook_spec_t {
    const char *text; /**< its URL as written */
    tus_target_t target;
    unsigned events;      /**< TUS_HOOK_BIT() of each */
    const char *scope;    /**< the section or directory that it was said for, NULL: the server */
    const char *htaccess; /**< directory of the .htaccess that said it, or NULL */
    const char *where;    /**< "file:line" for messages */
    char key[TUS_HOOK_KEY_SIZE];
} tus_hook_spec_t;

/** All TusHooks that hold. */
typedef struct tus_hooks_t {
    const apr_array_header_t *list; /**< of tus_hook_spec_t *; NULL for none */
    int drops;                      /**< the server's own `none` came before those in the list */
    int drops_htaccess;             /**< so did one of an .htaccess, for what an .htaccess said */
} tus_hooks_t;

/** TusHookRetry. */
typedef struct tus_retry_t {
    int times;
    apr_interval_time_t
        backoff; /**< before the first retry; each further one waits twice as long */
} tus_retry_t;

/** TusHookSecret: each signs the hooks of those who said it, and no others'. "" is none, NULL
 *  says nothing. */
typedef struct tus_secret_t {
    const char *server;
    const char *htaccess;
} tus_secret_t;

/** TusAllowHook: where an .htaccess's hooks may go. */
typedef struct tus_allow_hook_t {
    int local;                          /**< paths of this virtual host */
    const apr_array_header_t *prefixes; /**< of const char *; NULL for none */
} tus_allow_hook_t;

/** What holds for a request, all scopes merged. */
typedef struct tus_settings_t {
    tus_engine_t engine;
    tus_store_spec_t store;
    tus_meta_spec_t meta;
    apr_off_t max_size;               /**< bytes, 0 for none; TusAllowMaxSize not yet applied */
    int max_size_htaccess;            /**< an .htaccess said max_size */
    apr_off_t allow_max_size;         /**< bytes, 0 for none */
    apr_interval_time_t expire;       /**< 0 for never; TusAllowExpire not yet applied */
    int expire_htaccess;              /**< an .htaccess said expire */
    apr_interval_time_t allow_expire; /**< 0 for none */
    tus_choice_t extensions;
    int keeps_expiration; /**< whatever an .htaccess said: else it could evade TusAllowExpire */
    unsigned protocols;   /**< TUS_PROTOCOL_* */
    unsigned checksums;   /**< as in tus_checksum_named() */
    int download;
    const char *base_url; /**< or NULL: derived */
    int forwarded;
    tus_sync_e sync;
    apr_fileperms_t file_mode;
    apr_fileperms_t dir_mode;
    apr_interval_time_t lock_timeout;
    int cors;
    tus_origin_t cors_origin;
    int cors_credentials;
    tus_list_t cors_methods;
    tus_list_t cors_headers;
    tus_list_t cors_expose;
    apr_interval_time_t cors_max_age;
    apr_array_header_t *allow_store; /**< of const char *; NULL: the .htaccess's own tree */
    int status;                      /**< TusStatus */
    tus_hooks_t hooks;
    apr_interval_time_t hook_timeout;
    tus_retry_t hook_retry;
    apr_interval_time_t hook_interval;      /**< TusHookProgressInterval */
    apr_interval_time_t hook_max_age;       /**< events older than this are given up */
    const apr_array_header_t *hook_forward; /**< of const char *; NULL for none */
    int hook_verify;
    tus_secret_t hook_secret;
    tus_allow_hook_t allow_hook;
    const apr_array_header_t *sections; /**< of const char *: keys of tus_section_t; or NULL */
} tus_settings_t;

/** TusProtocols. */
#define TUS_PROTOCOL_TUS 0x1U

/** A TusHook of the server's own configuration, and the section it stands in. */
typedef struct tus_said_hook_t {
    tus_hook_spec_t *spec;
    server_rec *server;
    void *section; /**< as tus_config_merge() has it */
} tus_said_hook_t;

/**
 * A section of the server's own configuration that says how hooks are called. A virtual host is
 * one, too; the main server is not: what it says holds everywhere.
 */
typedef struct tus_section_t {
    const char *text; /**< as tus_parse_section() has it */
    server_rec *server;
    void *config;                    /**< as tus_config_merge() has it */
    char key[TUS_HOOK_SECTION_SIZE]; /**< set by tus_hook_table_init() */
} tus_section_t;

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

/** TusExpire with the ceiling of TusAllowExpire applied to what an .htaccess said; 0 for never. */
apr_interval_time_t tus_config_expire(const tus_settings_t *settings);

/** TusExtensions, all scopes merged: bits of TUS_EXT_*, whether the store can do them or not. */
unsigned tus_config_extensions(const tus_settings_t *settings);

/** TusStateDir. */
const char *tus_config_state_dir(server_rec *s);

/** Every TusStore of the server's own configuration: an array of tus_store_spec_t. */
const apr_array_header_t *tus_config_stores(void);

/** Every TusHook of the server's own configuration: an array of tus_said_hook_t. */
const apr_array_header_t *tus_config_hooks(void);

/** Every section that says how hooks are called: an array of tus_section_t *. */
const apr_array_header_t *tus_config_sections(void);

/** What holds in a section, as tus_config_create() and tus_config_merge() make them. */
const tus_settings_t *tus_config_settings(const void *section);

/** Forgets what an earlier reading of the configuration said; from pre_config. */
void tus_config_reset(apr_pool_t *pconf);

/**
 * Reads a directive's arguments into the member that the name says, which holds
 * the built-in default on entry.
 * @return NULL, or what is wrong with them, as the middle of a sentence
 */
typedef const char *(*tus_parse_fn)(cmd_parms *cmd, tus_settings_t *to, int argc,
                                    char *const argv[]);

/* ---- tus_parse.c: arguments that are one value ---------------------------- */

const char *tus_parse_meta(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_max_size(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_allow_max_size(cmd_parms *cmd, tus_settings_t *to, int argc,
                                     char *const argv[]);
const char *tus_parse_base_url(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_sync(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_file_mode(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_lock_timeout(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_expire(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_allow_expire(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_download(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_forwarded(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_dir_mode(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_cors(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_cors_origin(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_cors_credentials(cmd_parms *cmd, tus_settings_t *to, int argc,
                                       char *const argv[]);
const char *tus_parse_cors_max_age(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_status(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);

/** What several parsers need: a length of time, On or Off. @return as a parser */
const char *tus_parse_duration(cmd_parms *cmd, const char *arg, apr_interval_time_t min,
                               apr_interval_time_t max, const char *range,
                               apr_interval_time_t *duration);
const char *tus_parse_flag(cmd_parms *cmd, const char *arg, int *flag);

/* ---- tus_parse_hook.c: hooks ------------------------------------------------ */

const char *tus_parse_hook(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_hook_timeout(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_hook_retry(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_hook_interval(cmd_parms *cmd, tus_settings_t *to, int argc,
                                    char *const argv[]);
const char *tus_parse_hook_max_age(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_hook_forward(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_hook_verify(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_hook_secret(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_allow_hook(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);

/* ---- tus_parse_list.c: arguments that are names, also added to what is inherited ---- */

const char *tus_parse_extensions(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_protocols(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_checksums(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_cors_methods(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_cors_headers(cmd_parms *cmd, tus_settings_t *to, int argc,
                                   char *const argv[]);
const char *tus_parse_cors_expose(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);

/**
 * Merges a value onto what it inherits from: it replaces that, or is added to it.
 * @param to changed; what it points to is allocated from p or older
 */
typedef void (*tus_join_fn)(void *to, const void *add, apr_pool_t *p);

void tus_parse_join_choice(void *to, const void *add, apr_pool_t *p);
void tus_parse_join_list(void *to, const void *add, apr_pool_t *p);
void tus_parse_join_hooks(void *to, const void *add, apr_pool_t *p);
void tus_parse_join_secret(void *to, const void *add, apr_pool_t *p);

/* ---- tus_parse_store.c: scopes and paths ---------------------------------- */

const char *tus_parse_engine(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_store(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);
const char *tus_parse_allow_store(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);

/** An absolute path, made canonical without following links. */
const char *tus_parse_absolute(cmd_parms *cmd, const char *arg, const char **path);

/** The path of the section that a directive stands in, or the directory of the .htaccess; NULL for
 *  none. */
const char *tus_parse_scope(const cmd_parms *cmd);

/**
 * The sections of the server's own files that a directive stands in, the outermost first, as they
 * are written; "" for none, and for the virtual host.
 */
const char *tus_parse_section(const cmd_parms *cmd);

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

/** The courier's bell (tus_bell.c); NULL where there is no memory for it. */
void *tus_shared_bell(void);

/** The state directory; NULL with the reason in why where it cannot be used. */
tus_state_t *tus_shared_state(const char **why);

/* ---- tus_halt.c: what is known of the time before --------------------------- */

/** post_config: reads what the last stop left, and sees to it that this one leaves it. */
void tus_halt_init(apr_pool_t *pconf, server_rec *s);

/** When the system was booted, and before which moment all data is on stable storage. */
apr_time_t tus_halt_boot(void);
apr_time_t tus_halt_settled(void);

/* ---- tus_endpoint.c: from settings to a tus_core_t ------------------------ */

/** Opens what an endpoint's requests work on. Logs nothing. */
const tus_error_t *tus_endpoint_open(tus_core_t **core, request_rec *r,
                                     const tus_settings_t *settings);

/** Nonzero if there is such an upload. */
int tus_endpoint_has(request_rec *r, const tus_settings_t *settings, const char *id);

/** The same for a store of the registry, if it still is what the registry says; no events. */
apr_status_t tus_endpoint_reopen(tus_core_t **core, const tus_state_store_t *known, apr_pool_t *p);

/** TUS_EXT_* that are offered: what the settings allow and the store's provider can do. */
unsigned tus_endpoint_offers(const tus_settings_t *settings);

/** The bit of an extension, 0 for one that is unknown. */
unsigned tus_endpoint_extension(const char *name);

/** Extensions as Tus-Extension has them, allocated from p. */
const char *tus_endpoint_extensions(unsigned extensions, apr_pool_t *p);

/** Says in the log what each configured store offers; from post_config. */
void tus_endpoint_announce(server_rec *s, apr_pool_t *p);

/* ---- tus_mount.c: which requests are ours, and what they name ------------- */

/** A request that the endpoint owns; NULL from tus_mount_of() for all others. */
typedef struct tus_request_t {
    const tus_settings_t *settings;
    unsigned offers;            /**< TUS_EXT_* */
    const char *base;           /**< URL or path that Location starts with, ending in "/" */
    const char *path;           /**< path of the endpoint as this request has it, ending in "/" */
    const char *id;             /**< the upload that the URL names, or NULL at the base itself */
    tus_reply_t *said;          /**< what hooks add to the answer */
    apr_array_header_t *chosen; /**< of tus_hook_ask.c: what hooks want created, and where */
} tus_request_t;

/**
 * map_to_storage hook: below a <Location> that is an endpoint httpd need not look for a file in
 * each directory of the path. The <Directory> sections and .htaccess files of that path hold as
 * they do for a file.
 */
int tus_mount_storage(request_rec *r);

/** For the post_perdir_config hook: claims the request if it is the endpoint's. */
int tus_mount_request(request_rec *r);

/** type_checker hook: the end of an upload's name says nothing about its type or encoding. */
int tus_mount_type(request_rec *r);

/** What tus_mount_request() left on this request, or NULL. */
const tus_request_t *tus_mount_of(const request_rec *r);

/* ---- tus_origin.c: the URL that a client knows the endpoint by -------------- */

/** What Location starts with: TusBaseURL, or `path`; with the proxy's scheme and host where
 *  TusForwarded says so. Ends in "/". */
const char *tus_origin_base(request_rec *r, const tus_settings_t *settings, const char *path);

/** The origin (RFC 6454) that a client knows this server by, as a browser writes it. */
const char *tus_origin_of(request_rec *r, const tus_settings_t *settings);

/* ---- tus_cors.c: cross-origin requests --------------------------------------- */

/** check_access_ex hook: lets a preflight of an endpoint with TusCORS On pass without a user. */
int tus_cors_access(request_rec *r);

/** Nonzero if this is a preflight that the endpoint answers. */
int tus_cors_is_preflight(const request_rec *r);

/** Adds the CORS headers of any response, and of a preflight. */
void tus_cors_headers(request_rec *r, const tus_settings_t *settings);

/** NULL, or TUS_ERR_ORIGIN_NOT_ALLOWED. */
const tus_error_t *tus_cors_judge(request_rec *r, const tus_settings_t *settings);

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

/** The request's body was read to its end: an error needs no end of the connection. */
void tus_answer_after_body(request_rec *r);

/** Answers without a body. @return what a handler returns */
int tus_answer_empty(request_rec *r, int status);

/** Answers as hooks want it; without any, as tus_answer_empty(). */
int tus_answer_done(request_rec *r, int status);

/** Logs the error, once, and answers with it as text/plain. @return what a handler returns */
int tus_answer_error(request_rec *r, const tus_error_t *error);

/* ---- tus_body.c: the receiver --------------------------------------------- */

/** Why a body ended. */
typedef enum {
    TUS_BODY_DONE,       /**< the whole body was stored */
    TUS_BODY_AGAIN,      /**< nothing to read at the moment */
    TUS_BODY_ASKED,      /**< a newer request wants the upload */
    TUS_BODY_STOPPED,    /**< another module stopped the upload; see error */
    TUS_BODY_TIMEOUT,    /**< the client stalled */
    TUS_BODY_INCOMPLETE, /**< the client went away */
    TUS_BODY_ANSWERED, /**< httpd refused the body and has answered: LimitRequestBody, bad chunks */
    TUS_BODY_REFUSED   /**< it could not be stored; see error */
} tus_body_e;

/** How a body comes through the connection's network bucket. */
typedef struct tus_splice_t {
    tus_network_t *network; /**< NULL where there is none of ours */
    apr_off_t length;       /**< of the body; -1 where only its end will tell */
    int is_draining;        /**< what httpd has read of it is taken first */
} tus_splice_t;

/** A body on its way into an upload. */
typedef struct tus_body_t {
    request_rec *r;
    tus_upload_t *upload;
    apr_bucket_brigade *brigade;
    tus_splice_t splice;
    char *buffer;                /**< during a step: bytes that are gathered, or NULL */
    apr_size_t gathered;         /**< how many */
    apr_time_t progress;         /**< when bytes last arrived */
    struct tus_progress_t *told; /**< hooks that are told of it, or NULL */
    apr_time_t told_at;          /**< when that was last tried */
    apr_off_t received;          /**< bytes read from the client */
    int http_status;             /**< for TUS_BODY_ANSWERED: what the handler returns */
    const tus_error_t *error;    /**< for TUS_BODY_REFUSED and TUS_BODY_STOPPED */
} tus_body_t;

/** Begins to receive; lifts httpd's built-in LimitRequestBody for this request. */
void tus_body_init(tus_body_t *body, request_rec *r, tus_upload_t *upload);

/** Moves what is there from the connection to the store. Never blocks. */
tus_body_e tus_body_step(tus_body_t *body);

/**
 * The poll driver: steps and waits until the body has ended.
 * @param length of the body; -1 where only its end will tell
 */
tus_body_e tus_body_receive(tus_body_t *body, apr_off_t length);

/* ---- tus_splice.c: bodies that go from the socket into the store unseen ------ */

/** child_init */
void tus_splice_init(apr_pool_t *pchild);

/** insert_network_bucket hook: the connection's bucket is ours. */
apr_status_t tus_splice_connection(conn_rec *c, apr_bucket_brigade *brigade, apr_socket_t *socket);

/** A body is received: in large pieces and, where nobody needs to see its bytes, through pipes. */
void tus_splice_begin(tus_splice_t *splice, const request_rec *r, const tus_upload_t *upload,
                      apr_off_t length);

/** Before each brigade. @return bytes to ask the filters for */
apr_off_t tus_splice_next(const tus_splice_t *splice);

/**
 * The filters have nothing to give.
 * @param received bytes of the body so far
 * @return nonzero if they are to be asked once more: only now the socket is
 */
int tus_splice_drained(tus_splice_t *splice, apr_off_t received);

/** However it ended. */
void tus_splice_end(const tus_splice_t *splice, const request_rec *r);

/* ---- tus_amend.c: httpd core's configuration, changed for one request ----- */

/** Bytes that LimitRequestBody allows, 0 for no limit: httpd's built-in default counts as none. */
apr_off_t tus_amend_limit(const request_rec *r);

/** Lifts httpd's built-in LimitRequestBody; one that somebody set stays. */
void tus_amend_lift_limit(request_rec *r);

/** What leaves is data: server-side includes must not run what an uploader wrote. */
void tus_amend_forbid_includes(request_rec *r);

/* ---- tus_events.c: what happens is logged, counted and told other modules ---- */

/** The events of a core; its baton is the request_rec, or NULL. */
extern const tus_events_t tus_events;

/** Bytes arrived. @return NULL, or the error that stops the upload */
const tus_error_t *tus_events_receive(request_rec *r, tus_upload_t *upload);

/** A request ended before its upload was finished; `reason` is a word for the log. */
void tus_events_interrupted(request_rec *r, const tus_upload_t *upload, const char *reason);

/** Registers the optional functions of mod_tus.h. */
void tus_events_register(void);

/* ---- tus_metrics.c: counters, shared by all children and generations --------- */

/** What happens to uploads, and is counted. */
typedef enum {
    TUS_METRIC_CREATED,
    TUS_METRIC_FINISHED,
    TUS_METRIC_TERMINATED,
    TUS_METRIC_EXPIRED,
    TUS_METRIC_INTERRUPTED,
    TUS_METRIC_COUNT
} tus_metric_e;

/** To be changed with the layout of the counters, or with what they mean. */
#define TUS_METRICS_LAYOUT 2

/** Bytes of shared memory that the counters take. */
apr_size_t tus_metrics_size(void);

/** Uses zeroed shared memory of that size; before that, and for NULL, nothing is counted. */
void tus_metrics_open(void *base);

/** Counts. Cheap, never blocks, safe in any thread. */
void tus_metrics_upload(tus_metric_e what);
void tus_metrics_request(const request_rec *r);
void tus_metrics_error(const tus_error_t *error, int status);
void tus_metrics_received(apr_size_t bytes);

/** A call of a hook. @param time that it took */
void tus_metrics_hook(tus_hook_e type, apr_interval_time_t time, int is_told);
void tus_metrics_hook_retry(tus_hook_e type);
void tus_metrics_hook_given_up(tus_hook_e type);

/** Handler: Prometheus text for SetHandler tus-metrics where TusStatus is On; else 404. */
int tus_metrics_handler(request_rec *r);

/* ---- tus_nudge.c: receivers that cannot hear --------------------------------- */

/** A receiver that is looked after; lives on its stack. */
typedef struct tus_nudge_t {
    struct tus_nudge_t *next;
    tus_locks_t *locks;
    tus_lock_t *lock;
    apr_socket_t *socket; /**< NULL: it needs no looking after */
    apr_time_t asked;     /**< when it was first seen to be asked, or 0 */
    int done;             /**< its socket was shut down for reading */
} tus_nudge_t;

/** child_init: readies this process; the thread comes with the first chunked body. */
void tus_nudge_init(apr_pool_t *pchild);

/** Looks after a receiver until tus_nudge_end(), if it is one that can be blocked. */
void tus_nudge_begin(tus_nudge_t *nudge, const request_rec *r, const tus_upload_t *upload);
void tus_nudge_end(tus_nudge_t *nudge);

/* ---- tus_incoming.c: a body with its checksum, from parsing to settling ------- */

/** What a request says of its body, and how that ended. */
typedef struct tus_incoming_t {
    apr_off_t length;        /**< bytes; -1 where only its end will tell */
    unsigned algorithms;     /**< that it is digested with; 0 without a checksum */
    tus_checksum_t checksum; /**< its digest is NULL where a trailer will tell */
    tus_body_e state;        /**< how it ended */
    int http_status;         /**< for TUS_BODY_ANSWERED: what the handler returns */
    int is_void;             /**< a creation comes to nothing: the upload is to be undone */
} tus_incoming_t;

/**
 * Reads what a request says of its body.
 * @return NULL; TUS_ERR_INVALID_CHECKSUM; TUS_ERR_UNSUPPORTED_CHECKSUM; or
 *         TUS_ERR_MAX_SIZE_EXCEEDED where LimitRequestBody forbids it
 */
const tus_error_t *tus_incoming_parse(tus_incoming_t *incoming, request_rec *r,
                                      const tus_request_t *request);

/** Receives the body into a held upload, verifies it, and settles what arrived. */
const tus_error_t *tus_incoming_receive(tus_incoming_t *incoming, request_rec *r,
                                        tus_upload_t *upload);

/* ---- tus_v1.c: the protocol tus 1.0 --------------------------------------- */

/** Handles a request of the endpoint. @return what a handler returns */
int tus_v1_handle(request_rec *r, const tus_request_t *request);

/** A field of the request, or NULL. */
const char *tus_v1_field(const request_rec *r, const char *name);

/** "Upload-Length ... MUST be a non-negative integer", and at most TusMaxSize. */
const tus_error_t *tus_v1_parse_length(const request_rec *r, const tus_core_t *core,
                                       const char *value, apr_off_t *length);

/** Is the body of the media type that PATCH and creation-with-upload have? */
const tus_error_t *tus_v1_check_media_type(const request_rec *r);

/** Leaves the upload's id and offset for LogFormat, and sets Upload-Expires. */
void tus_v1_note(request_rec *r, const tus_upload_t *upload);

/** Lets go of an upload; the finals that waited for it are joined. */
void tus_v1_release(request_rec *r, tus_upload_t *upload);

/* ---- tus_v1_create.c, tus_v1_append.c: POST and PATCH ---------------------- */

int tus_v1_create(request_rec *r, const tus_request_t *request, const tus_core_t *core);
int tus_v1_append(request_rec *r, const tus_request_t *request, const tus_core_t *core);

/* ---- tus_download.c ------------------------------------------------------- */

/** Answers a GET with the upload's bytes. */
int tus_download(request_rec *r, tus_upload_t *upload);

/* ---- tus_hook_table.c: which hooks there are ---------------------------------- */

/** A hook, and what holds for it. */
typedef struct tus_hook_t {
    const tus_hook_spec_t *spec;
    server_rec *server;
    const tus_settings_t *settings;
    const char *reference; /**< that events name it by */
} tus_hook_t;

/** post_config: gathers the TusHooks of the server's own files, and the sections that say how they
 *  are called. */
void tus_hook_table_init(apr_pool_t *pconf);

/** The hooks of a request's endpoint that take an event: an array of tus_hook_t, or NULL. */
apr_array_header_t *tus_hook_table_of(const request_rec *r, tus_hook_e type, apr_pool_t *p);

/** References of all hooks that may be told of an upload created by this request: an array of
 *  const char *, or NULL. */
const apr_array_header_t *tus_hook_table_references(const request_rec *r, apr_pool_t *p);

/**
 * The hook of that reference, for an event that waits; NULL if it is not configured any more, nor
 * another one in its place. What holds for it is what its own section and those that the reference
 * names say now; sections that are gone say nothing. Of an .htaccess it is what was noted, with
 * what the server's own files say.
 * @param reference any text
 */
const tus_hook_t *tus_hook_table_find(const char *reference, tus_hook_e type, apr_pool_t *p);

/** Notes a hook of an .htaccess in TusStateDir, if it is not there as it is. */
apr_status_t tus_hook_table_note(const tus_hook_t *hook, apr_pool_t *p);

/**
 * May a hook be called? Those of the server's own files may.
 * @param is_public set if only public addresses may be connected to
 */
int tus_hook_table_allows(const tus_hook_t *hook, int *is_public);

/* ---- tus_hook_note.c: the hooks of .htaccess files, in TusStateDir ------------ */

/** What is noted of one. */
typedef struct tus_hook_note_t {
    const char *server; /**< name and port of the virtual host */
    const char *dir;    /**< of the .htaccess */
    const char *url;    /**< as written */
    unsigned events;    /**< TUS_HOOK_BIT() of each that it takes */
    apr_interval_time_t timeout;
    apr_interval_time_t backoff;
    const char *secret; /**< or NULL */
} tus_hook_note_t;

/** Writes a note, unless it is there as it is. */
apr_status_t tus_hook_note_write(const char *state_dir, const char *key,
                                 const tus_hook_note_t *note, apr_pool_t *p);

/** Reads it. @return APR_SUCCESS; APR_ENOENT; TUS_EDAMAGED; or what the system said */
apr_status_t tus_hook_note_read(tus_hook_note_t *note, const char *state_dir, const char *key,
                                apr_pool_t *p);

/* ---- tus_hook_local.c: hooks that this server itself answers -------------------- */

/** post_config: makes what tells our calls from others, or finds it. */
apr_status_t tus_hook_local_init(server_rec *s);

/** post_read_request hook: recognizes a call of ours, and strips what tells it. */
int tus_hook_local_read(request_rec *r);

/** fixups hook: TUS_HOOK=1 in the environment of what answers our call, and nowhere else. */
int tus_hook_local_environment(request_rec *r);

/** Nonzero for a request that is a call of ours, or was made of one. */
int tus_hook_local_is_call(const request_rec *r);

/**
 * Aims a call at this server: address and URL of the virtual host, and the field that tells it.
 * @param r the request that is the cause, or NULL
 */
apr_status_t tus_hook_local_aim(tus_call_t *call, apr_table_t *headers, const tus_hook_t *hook,
                                const request_rec *r, apr_pool_t *p);

/**
 * A request is to wait for this server's own answer: at most a quarter of MaxRequestWorkers may.
 * @return APR_SUCCESS; APR_EBUSY; or what the system said
 */
apr_status_t tus_hook_local_enter(int *slot);
void tus_hook_local_leave(int slot);

/* ---- tus_hook_call.c: one call ---------------------------------------------------- */

/** child_init */
void tus_hook_call_init(apr_pool_t *pchild, server_rec *s);

/** What is sent. */
typedef struct tus_hook_event_t {
    tus_hook_e type;
    const char *event_id;
    const apr_table_t *headers; /**< forwarded, or NULL */
    const char *body;
    apr_size_t len;
} tus_hook_event_t;

/**
 * Calls a hook once, as TusAllowHook, TusHookTimeout, TusHookVerify and TusHookSecret say.
 * @param r the request that is the cause, or NULL
 * @return as the provider's call; TUS_EREFUSED where TusAllowHook forbids it; APR_EBUSY where too
 *         many wait for this server itself; called->why says it in words
 */
apr_status_t tus_hook_call(tus_called_t *called, const tus_hook_t *hook,
                           const tus_hook_event_t *event, const request_rec *r,
                           const tus_cancel_t *cancel, apr_pool_t *p);

/* ---- tus_hook_event.c: from a request and its upload to what a hook is sent -------- */

/**
 * Describes an event, from the upload's pool.
 * @param r the request that is the cause, or NULL
 * @param is_kept it will lie on disk: what is secret is left out unless `forward` names it
 */
const tus_error_t *tus_hook_event_make(tus_hook_event_t *event, tus_hook_e type,
                                       const tus_upload_t *upload, const request_rec *r,
                                       const apr_array_header_t *forward, int is_kept);

/* ---- tus_hook_ask.c: pre-*, for which the request waits ----------------------------- */

/**
 * Asks all hooks of the request's endpoint. Those of pre-create may change the record's id, pairs
 * and storage_path.
 * @return NULL; what they refuse with; TUS_ERR_HOOK_FAILED; or TUS_ERR_HOOK_BUSY
 */
const tus_error_t *tus_hook_ask(tus_hook_e type, tus_upload_t *upload, request_rec *r);

/** Sees to it that hooks of an .htaccess can be asked to finish when no request is there. */
const tus_error_t *tus_hook_ask_prepare(const tus_upload_t *upload, const request_rec *r);

/**
 * The id or place that a hook chose in pre-create cannot be had: says so in the log.
 * @return TUS_ERR_HOOK_FAILED; NULL where no hook chose anything
 */
const tus_error_t *tus_hook_misnamed(const request_rec *r);

/**
 * Asks, once, the hooks that the upload's record names. No request waits: what they say to a client
 * is heard by nobody. Those that fail rest (tus_rest.c). Of the thread that sweeps.
 * @return NULL, or TUS_ERR_HOOK_FAILED; also once the core's cancel token says so
 */
const tus_error_t *tus_hook_ask_late(tus_hook_e type, tus_upload_t *upload);

/** Nonzero if one of these hooks, of tus_hook_t, rests. */
int tus_hook_is_resting(const apr_array_header_t *hooks);

/** What a refusal says to the client, in the words of the verdict; the rest allocated from p. */
const tus_reply_t *tus_hook_reply(const tus_verdict_t *verdict, apr_pool_t *p);

/* ---- tus_hook_record.c: the hooks in a record, for a sweep ---------------------------- */

/** Notes the hooks of a request's endpoint in the record of an upload that is about to be written
 *  for the first time, and seals them. */
const tus_error_t *tus_hook_record_note(tus_upload_t *upload, const request_rec *r);

/**
 * Those that it names which such an event is for.
 * @param found set to an array of tus_hook_t, allocated from p; an empty one after an error
 * @return APR_SUCCESS, also where it names none; TUS_EREFUSED if another than this server wrote
 *         them there; or what tus_seal_check() says
 */
apr_status_t tus_hook_record_find(const apr_array_header_t **found, const tus_core_t *core,
                                  const tus_record_t *record, tus_hook_e type, apr_pool_t *p);

/** Logs why they could not be found. @return what keeps a sweep from finishing the upload now */
const tus_error_t *tus_hook_record_error(const tus_upload_t *upload, apr_status_t rv);

/* ---- tus_hook_tell.c: post-*, which wait in the spool -------------------------------- */

/** Spools an event as pending, before it happens: without an error, for each hook that wants it.
 *  @param r the request, or NULL for a sweep */
const tus_error_t *tus_hook_tell(tus_hook_e type, const tus_upload_t *upload, const request_rec *r);

/** What happened to an upload so far will be told without its record, as durably as TusSync says.
 */
const tus_error_t *tus_hook_keep(const tus_upload_t *upload);

/** It happened. */
void tus_hook_told(tus_hook_e type, const tus_upload_t *upload, const request_rec *r);

/* ---- tus_hook_progress.c: post-receive ------------------------------------------------ */

/** What a request and its calls share. */
typedef struct tus_progress_t tus_progress_t;

/** child_init */
void tus_hook_progress_init(apr_pool_t *pchild);

/** Begins to tell of a request's progress; NULL if no hook wants to know. */
tus_progress_t *tus_hook_progress_begin(request_rec *r, const tus_upload_t *upload);

/** Nonzero if not all hooks were told of the upload's offset. @param progress may be NULL */
int tus_hook_progress_is_news(const tus_progress_t *progress, const tus_upload_t *upload);

/**
 * Tells how far it is to each hook that was not told of that offset, unless its last call still
 * runs or there is no place for one more. Never waits.
 */
void tus_hook_progress_tell(tus_progress_t *progress, const tus_upload_t *upload, request_rec *r);

/** NULL, or the error that a hook stopped the upload with. @param progress may be NULL */
const tus_error_t *tus_hook_progress_stopped(const tus_progress_t *progress, apr_pool_t *p);

/* ---- tus_watch.c: what is done in the background --------------------------------------- */

/** Work that mod_watchdog calls for, done by one process of the server at a time. */
typedef struct tus_watch_t {
    const char *name; /**< of the watchdog */
    apr_interval_time_t interval;
    apr_status_t (*begin)(server_rec *s); /**< it is this process's turn; or NULL */
    void (*work)(server_rec *s, apr_pool_t *p);
    void (*hurry)(void); /**< the process ends: work() is to return soon; another thread's call,
                            also where this process has no turn; or NULL */
    void (*end)(void);   /**< after begin(), also where that failed; or NULL */
} tus_watch_t;

/** post_config and configtest: refuses a configuration whose hooks nobody would tell. */
int tus_watch_check(server_rec *s);

/** post_config: registers with mod_watchdog, if that is loaded. */
int tus_watch_register(const tus_watch_t *watch, server_rec *s, apr_pool_t *pconf);

/** child_init: from now on this process may be the one, until its pool goes; that waits for
 *  work that is under way. */
void tus_watch_init(apr_pool_t *pchild, server_rec *s);

/** Nonzero when this process is about to end. */
int tus_watch_is_leaving(void);

/* ---- tus_deliver.c: what becomes of an event that waits ---------------------------------- */

/** A pass through a shard. */
typedef struct tus_deliver_t {
    server_rec *server;
    const tus_state_store_t *store;
    apr_pool_t *pool;
    const tus_cancel_t *cancel;
    apr_interval_time_t min_age; /**< nothing younger is given up: tus_deliver_min_age() */
    tus_healths_t *healths;
    tus_health_waiter_t *waiter;
    apr_thread_mutex_t *mutex;   /**< guards the two above, and these: */
    int is_over;                 /**< others go on with the shard: nothing is begun any more */
    tus_health_t *calling;       /**< the endpoint of the last event that was begun, or NULL */
    apr_time_t called;           /**< when that was */
    apr_array_header_t *entered; /**< of tus_health_t *: where it has a place */
    /** Nonzero while another pass of the shard calls that endpoint. */
    int (*is_taken)(const struct tus_deliver_t *pass, const tus_health_t *health);

    int is_patient; /**< it may call what hangs; others leave that to one that comes after them */
    int has_left;   /**< that was so */
    apr_uint64_t seen; /**< names that were looked at */
    apr_hash_t *known; /**< its own */
    tus_core_t *core;
} tus_deliver_t;

/** All above `is_over` is set, and is_taken. */
void tus_deliver_begin(tus_deliver_t *pass);
void tus_deliver_end(tus_deliver_t *pass);

/** It takes long: it keeps no other place than that which it calls. The mutex is held. */
void tus_deliver_let_go(tus_deliver_t *pass);

/** Who tells, with a tus_deliver_t as the baton. */
extern const tus_spool_teller_t tus_deliver_teller;

/** The least TusHookMaxAge of the configuration. */
apr_interval_time_t tus_deliver_min_age(void);

/* ---- tus_courier.c: tells what waits ---------------------------------------------------- */

extern const tus_watch_t tus_courier;

/** How many events wait in all spools, and since when the oldest does; 0 for none. */
apr_status_t tus_courier_count(apr_uint64_t *waiting, apr_time_t *oldest, apr_pool_t *p);

/* ---- tus_rest.c: what failed is left in peace for a while ------------------- */

/** A round begins, of the one thread that sweeps; all that follows is of that thread. */
void tus_rest_round(apr_time_t now);

/** Nonzero for what rested when the round began, or failed since. */
int tus_rest_is_on(const char *name);

/** It failed: it rests, for `first`, and twice as long each time, up to ten minutes. */
void tus_rest_begin(const char *name, apr_interval_time_t first);

/** It did not. */
void tus_rest_end(const char *name);

/* ---- tus_sweep.c: settles stores, and removes what has expired -------------- */

extern const tus_watch_t tus_sweep;

#endif /* TUS_HTTPD_H */
