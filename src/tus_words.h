/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * tus_words.h: rings 1 and 2.
 *
 * Ring 1 is pure: it reads and writes headers, ids and records in memory.
 * Ring 2 is the places: one provider a file, and what they share.
 */
#ifndef TUS_WORDS_H
#define TUS_WORDS_H

#include "mod_tus.h"

#include <apr_buckets.h>
#include <apr_network_io.h>

#include <signal.h>

struct stat;   /* sys/stat.h */
struct json_t; /* jansson.h */

/* ---- ring 1: errors (tus_error.c) ---------------------------------------- */

/** Every error that an endpoint answers with; tus_error.c has the table. */
typedef enum {
    TUS_ERR_UNSUPPORTED_VERSION,
    TUS_ERR_MAX_SIZE_EXCEEDED,
    TUS_ERR_INVALID_CONTENT_TYPE,
    TUS_ERR_INVALID_UPLOAD_LENGTH,
    TUS_ERR_INVALID_OFFSET,
    TUS_ERR_UPLOAD_NOT_FOUND,
    TUS_ERR_UPLOAD_GONE,
    TUS_ERR_UPLOAD_LOCKED,
    TUS_ERR_MISMATCHED_OFFSET,
    TUS_ERR_UPLOAD_SIZE_EXCEEDED,
    TUS_ERR_NOT_IMPLEMENTED,
    TUS_ERR_UPLOAD_NOT_FINISHED,
    TUS_ERR_INVALID_CONCAT,
    TUS_ERR_CONCATENATION_UNSUPPORTED,
    TUS_ERR_MODIFY_FINAL,
    TUS_ERR_AMBIGUOUS_UPLOAD_LENGTH,
    TUS_ERR_INVALID_UPLOAD_LENGTH_DEFER,
    TUS_ERR_INVALID_METADATA,
    TUS_ERR_INVALID_CHECKSUM,
    TUS_ERR_UNSUPPORTED_CHECKSUM,
    TUS_ERR_CHECKSUM_MISMATCH,
    TUS_ERR_UPLOAD_STOPPED,
    TUS_ERR_UPLOAD_REJECTED,
    TUS_ERR_TERMINATION_REJECTED,
    TUS_ERR_UPLOAD_INTERRUPTED,
    TUS_ERR_READ_TIMEOUT,
    TUS_ERR_TOO_BUSY,
    TUS_ERR_ORIGIN_NOT_ALLOWED,
    TUS_ERR_METHOD_NOT_ALLOWED,
    TUS_ERR_HOOK_FAILED,
    TUS_ERR_HOOK_BUSY,
    TUS_ERR_INSUFFICIENT_STORAGE,
    TUS_ERR_INTERNAL_SERVER_ERROR,
    TUS_ERR_COUNT
} tus_err_e;

/** Why something was not done. Functions return NULL where all went well. */
typedef struct tus_error_t {
    tus_err_e err;
    const char *code;         /**< "ERR_..." */
    int status;               /**< the HTTP status */
    const char *message;      /**< one sentence for the client */
    apr_status_t rv;          /**< what the system said, or APR_SUCCESS */
    const char *detail;       /**< one sentence for the log only, or NULL */
    const tus_reply_t *reply; /**< what another module says to the client, or NULL */
} tus_error_t;

/**
 * An error of the client's making.
 * @param format the sentence for the client, or NULL for the table's own
 * @return allocated from p
 */
const tus_error_t *tus_error(apr_pool_t *p, tus_err_e err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/**
 * An error of the server's making. ENOSPC and EDQUOT become
 * TUS_ERR_INSUFFICIENT_STORAGE, all else TUS_ERR_INTERNAL_SERVER_ERROR; the
 * client gets the table's sentence, the log this one.
 * @param format what could not be done, with the path
 */
const tus_error_t *tus_error_system(apr_pool_t *p, apr_status_t rv, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/**
 * An error that another module asked for: its status, body and headers, where it said any.
 * @param reply kept
 */
const tus_error_t *tus_error_reply(apr_pool_t *p, tus_err_e err, const tus_reply_t *reply);

/** The same reply with all its texts, allocated from p. */
const tus_reply_t *tus_reply_copy(const tus_reply_t *reply, apr_pool_t *p);

/** The same error, its reply too, allocated from p. */
const tus_error_t *tus_error_copy(const tus_error_t *error, apr_pool_t *p);

/**
 * What the log says of an error, allocated from p.
 * @param rv set to what the system said, for the log to spell out; APR_SUCCESS for a status of ours
 */
const char *tus_error_story(const tus_error_t *error, apr_status_t *rv, apr_pool_t *p);

/** What our own statuses mean, in words; NULL for the system's. */
const char *tus_error_reason(apr_status_t rv);

/* ---- ring 1: header grammar (tus_header.c) ------------------------------- */

/** The protocol version spoken. */
#define TUS_VERSION "1.0.0"

/** Characters of a token (RFC 9110, section 5.6.2), and those that are "unreserved" in a URL
 *  (RFC 3986, section 2.3). */
#define TUS_ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define TUS_TCHAR TUS_ALNUM "!#$%&'*+-.^_`|~"
#define TUS_UNRESERVED TUS_ALNUM "-._~"

/** The media type of PATCH bodies, and of creation-with-upload. */
#define TUS_MEDIA_TYPE "application/offset+octet-stream"

/**
 * A non-negative integer as Upload-Length and Upload-Offset have it: digits
 * only, at most 2^63-1. A repeated field arrives merged with a comma and fails.
 * @return APR_SUCCESS, or APR_EINVAL (also for NULL)
 */
apr_status_t tus_header_integer(const char *value, apr_off_t *number);

/** Nonzero if the value is this media type, parameters aside, in any case. */
int tus_header_is_media_type(const char *value, const char *type);

/** Nonzero if these can be a field (RFC 9110, section 5): the name is a token, and the value has no
 *  control character but tabs. */
int tus_header_is_field(const char *name, const char *value);

/**
 * Nonzero for a field, in any case, that is not another module's or a hook's to set in a response:
 * one of the protocol, of the connection, one that httpd sets itself, or one that has a server
 * send a file in the response's place.
 */
int tus_header_is_reserved(const char *name);

/**
 * Decodes Base64 (RFC 4648, section 4) to the letter: padded, without stray characters or bits.
 * @param bytes allocated from p, with a NUL behind them
 * @return APR_SUCCESS or APR_EINVAL
 */
apr_status_t tus_header_base64(const char *text, apr_size_t len, const char **bytes,
                               apr_size_t *size, apr_pool_t *p);

/* ---- ring 1: Upload-Metadata (tus_metadata.c) ---------------------------- */

/**
 * Parses Upload-Metadata (tus 1.0, Creation). Strict: an empty or repeated key,
 * one with control characters or that is not UTF-8, bad base64 and empty
 * elements are refused, and a header of more than 64 KiB.
 * @param pairs set to an array of tus_pair_t, allocated from p
 * @return NULL, or TUS_ERR_INVALID_METADATA with a sentence that names the key
 */
const tus_error_t *tus_metadata_parse(const char *header, apr_array_header_t **pairs,
                                      apr_pool_t *p);

/** Upload-Metadata of these pairs, in their order; NULL where there are none. */
const char *tus_metadata_format(const apr_array_header_t *pairs, apr_pool_t *p);

/** The pair of that key, or NULL. */
const tus_pair_t *tus_metadata_get(const apr_array_header_t *pairs, const char *key);

/* ---- ring 1: Upload-Checksum and digests (tus_checksum.c) ----------------- */

/** Algorithms, a bit each; tus_checksum.c has the table. */
#define TUS_CHECKSUMS_ALL 0x3fU

/** The bit of an algorithm, 0 for one that is unknown. Names are in lower case. */
unsigned tus_checksum_named(const char *name);

/** Those of the algorithms that this build of OpenSSL computes (FIPS mode has no md5). */
unsigned tus_checksum_available(unsigned algorithms);

/** Their names as Tus-Checksum-Algorithm has them, allocated from p. */
const char *tus_checksum_names(unsigned algorithms, apr_pool_t *p);

/** Upload-Checksum: an algorithm and what its digest should be. */
typedef struct tus_checksum_t {
    unsigned algorithm; /**< one bit */
    const unsigned char *digest;
    apr_size_t len;
} tus_checksum_t;

/**
 * Parses Upload-Checksum: an algorithm, one space, the digest in Base64 (tus 1.0, Checksum).
 * @param allowed the algorithms that are offered
 * @param checksum filled from p
 * @return NULL; TUS_ERR_UNSUPPORTED_CHECKSUM; or TUS_ERR_INVALID_CHECKSUM, also for a digest of
 *         the wrong length
 */
const tus_error_t *tus_checksum_parse(const char *value, unsigned allowed, tus_checksum_t *checksum,
                                      apr_pool_t *p);

/** Digests of one stream of bytes, with one or more algorithms. */
typedef struct tus_digest_t tus_digest_t;

/**
 * Begins to digest.
 * @param algorithms one or more bits; each costs its own pass over the bytes
 * @param p owns it
 * @return APR_SUCCESS; APR_ENOTIMPL if one is not available
 */
apr_status_t tus_digest_begin(tus_digest_t **digest, unsigned algorithms, apr_pool_t *p);

/** Digests more bytes. */
apr_status_t tus_digest_update(tus_digest_t *digest, const char *data, apr_size_t len);

/**
 * Ends digesting; an algorithm is compared once.
 * @param equal nonzero if the bytes are what the checksum says; compared in constant time
 * @return APR_SUCCESS; APR_EINVAL for an algorithm that was not begun
 */
apr_status_t tus_digest_compare(tus_digest_t *digest, const tus_checksum_t *checksum, int *equal);

/* ---- ring 1: Upload-Concat (tus_concat.c) --------------------------------- */

/** More parts than this are refused. */
#define TUS_CONCAT_MAX 10000

/** Upload-Concat. */
typedef struct tus_concat_t {
    int is_partial;
    int is_final;
    apr_array_header_t *parts; /**< of const char *: ids, in their order; NULL for a partial */
} tus_concat_t;

/**
 * Parses Upload-Concat (tus 1.0, Concatenation): "partial", or "final;" and URLs with a space
 * between them. Of each URL only the path counts: it must lie below one of the bases. A relative
 * one is resolved against the first base.
 * @param bases of const char *: percent-encoded URL paths or URLs of the endpoint that end in "/"
 * @param concat filled from p
 * @return NULL, or TUS_ERR_INVALID_CONCAT with a sentence that names what is wrong
 */
const tus_error_t *tus_concat_parse(const char *value, const apr_array_header_t *bases,
                                    tus_concat_t *concat, apr_pool_t *p);

/* ---- ring 1: Forwarded and X-Forwarded-* (tus_forwarded.c) ---------------- */

/** What a proxy says of the client's request; NULL where it says nothing that can be used. */
typedef struct tus_forwarded_t {
    const char *scheme; /**< "http" or "https" */
    const char *host;   /**< with its port, if that is not the scheme's default */
} tus_forwarded_t;

/**
 * Reads Forwarded (RFC 7239), and for what it does not say X-Forwarded-Proto and
 * X-Forwarded-Host. The first element counts, the one nearest to the client. What is no http(s)
 * scheme and no host (RFC 3986) is left out.
 * @param scheme of this request, which decides on the default port where the proxy names none
 */
void tus_forwarded_parse(tus_forwarded_t *to, const char *forwarded, const char *proto,
                         const char *host, const char *scheme, apr_pool_t *p);

/* ---- ring 1: ids (tus_id.c) ---------------------------------------------- */

/** A new id: 128 random bits as 32 hex digits, allocated from p. */
apr_status_t tus_id_make(const char **id, apr_pool_t *p);

/** Bytes of an id, and of a segment of it, at most. */
#define TUS_ID_MAX 1000
#define TUS_ID_SEGMENT_MAX 200

/**
 * Nonzero if the id may name an upload: URL-safe characters (RFC 3986
 * unreserved, and "/"), segments of 1 to TUS_ID_SEGMENT_MAX bytes, none `.`, `..`, hidden or
 * ending in `.info`; at most TUS_ID_MAX bytes in all.
 */
int tus_id_is_valid(const char *id);

/** Room for a key, with its NUL. */
#define TUS_ID_KEY_SIZE 65

/**
 * A short name for a valid id, the same for the same id, that can be a file's: the id itself, or
 * "~" and a hash for one that is long, has a "/" or starts with "~".
 * @param key filled
 * @return key
 */
const char *tus_id_key(const char *id, char key[TUS_ID_KEY_SIZE]);

/* ---- ring 1: JSON as jansson has it (tus_json.c) --------------------------- */

/** A string of any bytes: like tusd, with U+FFFD for each byte that is not UTF-8. */
struct json_t *tus_json_text(const char *text, apr_size_t len, apr_pool_t *p);

/** The same as text: the one that is given, or allocated from p. */
const char *tus_json_clean(const char *text, apr_size_t len, apr_size_t *clean_len, apr_pool_t *p);

/** The length of the text, or as much of it as max bytes hold: whole UTF-8 characters. */
apr_size_t tus_json_clip(const char *text, apr_size_t max);

/**
 * Writes into p, and drops the JSON.
 * @param root may be NULL
 * @return APR_SUCCESS; APR_EINVAL if there is none, or more than max bytes
 */
apr_status_t tus_json_dump(struct json_t *root, apr_size_t max, const char **json, apr_size_t *len,
                           apr_pool_t *p);

/** Nonzero if no more than 64 arrays and objects lie in one another. jansson recurses: what
 *  strangers wrote is asked about before it is loaded. */
int tus_json_is_shallow(const char *text, apr_size_t len);

/** A member that is a string without NUL, absent or null; nonzero if so. *text is NULL unless it is
 *  a string. */
int tus_json_string(const char **text, const struct json_t *json, apr_pool_t *p);

/* ---- ring 1: JSON as it is read (tus_value.c) ------------------------------ */

typedef enum {
    TUS_VALUE_NULL,
    TUS_VALUE_FALSE,
    TUS_VALUE_TRUE,
    TUS_VALUE_INTEGER,
    TUS_VALUE_REAL,
    TUS_VALUE_STRING,
    TUS_VALUE_ARRAY,
    TUS_VALUE_OBJECT
} tus_value_e;

typedef struct tus_value_t {
    tus_value_e type;
    const char *name; /**< in its object */
    const char *text; /**< NUL-terminated; may have others in it */
    apr_size_t len;   /**< of the text */
    apr_int64_t integer;
    double real;
    struct tus_value_t *first; /**< in it */
    struct tus_value_t *next;  /**< beside it */
    int count;                 /**< of those in it */
} tus_value_t;

/**
 * Reads an object, all of it allocated from p.
 * @return NULL if it is none: no JSON, nested deeper than tus_json_is_shallow(), or with a name
 *         twice in one object
 */
tus_value_t *tus_value_load(const char *text, apr_size_t len, apr_pool_t *p);

/** The same, by jansson alone. */
tus_value_t *tus_value_of_jansson(const char *text, apr_size_t len, apr_pool_t *p);

/** A member, or NULL. @param object NULL and other values have none */
const tus_value_t *tus_value_get(const tus_value_t *object, const char *name);

/** Nonzero for a value of that type. @param value may be NULL, and is of none then */
int tus_value_is(const tus_value_t *value, tus_value_e type);

/** Nonzero for NULL, and for null. */
int tus_value_is_absent(const tus_value_t *value);

/*
 * Members as they are read. Each takes the member, NULL if it is absent, and returns nonzero if
 * it is as it should be.
 */

/** A string without NUL, as it stands in the value; *text is NULL if it is absent, or null, which
 *  is no string in Go. */
int tus_value_string(const char **text, const tus_value_t *value);

/** An id, which must be there. */
int tus_value_id(const char **id, const tus_value_t *value);

/** *flag is 0 if it is absent. */
int tus_value_boolean(int *flag, const tus_value_t *value);

/** An integer from 0 to 2^63-1, which must be there. */
int tus_value_number(apr_int64_t *number, const tus_value_t *value);

/* ---- ring 1: plain JSON, read fast (tus_value_plain.c) --------------------- */

/** The same as tus_value_load(), or NULL where jansson is to be asked. */
tus_value_t *tus_value_plain(const char *text, apr_size_t len, apr_pool_t *p);

/** Nonzero for what stands in a JSON string as it is: printable ASCII but for quote and backslash.
 */
static inline int tus_value_is_plain(char c)
{
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

/* ---- ring 1: JSON as it is written (tus_json_out.c) ------------------------ */

/** Private to its functions, which can go on after one has failed: the end tells. */
typedef struct tus_json_out_t {
    apr_pool_t *pool;
    char *text;
    apr_size_t len, size, max;
    int failed;
} tus_json_out_t;

/** @param max bytes; more are an error. @param p of the text */
void tus_json_out_begin(tus_json_out_t *out, apr_size_t max, apr_pool_t *p);

/** @return APR_SUCCESS with the text; APR_EINVAL if it is too long, or has what is no UTF-8 */
apr_status_t tus_json_out_end(tus_json_out_t *out, const char **json, apr_size_t *len);

/* What follows writes one value each. The name is NULL unless it is a member of an object. */

/** @param bracket [ or {; what is written until tus_json_out_close() with its like is in it */
void tus_json_out_open(tus_json_out_t *out, const char *name, char bracket);
void tus_json_out_close(tus_json_out_t *out, char bracket);

void tus_json_out_bytes(tus_json_out_t *out, const char *name, const char *bytes, apr_size_t len);

/** Nothing if the text is NULL. */
void tus_json_out_text(tus_json_out_t *out, const char *name, const char *text);

void tus_json_out_integer(tus_json_out_t *out, const char *name, apr_int64_t number);
void tus_json_out_real(tus_json_out_t *out, const char *name, double number);
void tus_json_out_boolean(tus_json_out_t *out, const char *name, int flag);
void tus_json_out_null(tus_json_out_t *out, const char *name);

/* ---- ring 1: where a hook is called (tus_target.c) ------------------------ */

/** A URL of TusHook, in the one way to write it that is left: no other reading of it leads to
 *  another place. */
typedef struct tus_target_t {
    const char *url; /**< http: or https:, with a host and a path; or a path on this virtual host */
    const char *socket; /**< path of the unix socket of unix:SOCKET|http://..., or NULL */
    const char *origin; /**< "http://host:port" in lower case, its port spelled out; NULL: a path */
} tus_target_t;

/**
 * Parses http://host[:port]/path[?query], the same with https, unix:/socket|http://host/path, or
 * /path. No user information, no fragment, only characters that a URL may have (and "[" and "]" in
 * the query), and in the path neither dot segments nor an encoded slash, backslash or control
 * character. A host is of letters, digits, "-", "." and "_", an IPv4 address in four decimal
 * numbers and no other way, or an IPv6 address in brackets.
 * @param target filled from p
 * @return NULL, or what is wrong with it, as the middle of a sentence
 */
const char *tus_target_parse(tus_target_t *target, const char *text, apr_pool_t *p);

/**
 * May a target be called where only what begins with `prefix` may? A prefix with a whole host, as
 * "https://hooks.example/in/", is compared by origin and then by path, segment by segment;
 * "https://" and "http://" alone stand for any host; "unix:/run/app.sock|" for what is behind that
 * socket. A target that is a path is allowed by none.
 * @param is_public set unless the prefix named a host or a socket: then only public addresses may
 *        be connected to
 */
int tus_target_is_allowed(const tus_target_t *target, const char *prefix, int *is_public);

/** NULL, or what is wrong with such a prefix, as the middle of a sentence. */
const char *tus_target_check_prefix(const char *prefix);

/**
 * Nonzero for an address of this host, of a link, of a private or reserved network or of no single
 * host, also where it is wrapped in an IPv6 address: mapped, compatible, NAT64, 6to4, ISATAP.
 * Teredo addresses are private, whatever they wrap.
 * @param address in text, as inet_ntop() writes it; other text, and a scoped address, is private
 */
int tus_target_is_private(const char *address);

/* ---- ring 1: events by name (tus_hook.c) ----------------------------------- */

/** The events, in the order of an upload's life. */
typedef enum {
    TUS_HOOK_PRE_CREATE,
    TUS_HOOK_POST_CREATE,
    TUS_HOOK_POST_RECEIVE,
    TUS_HOOK_PRE_FINISH,
    TUS_HOOK_POST_FINISH,
    TUS_HOOK_PRE_TERMINATE,
    TUS_HOOK_POST_TERMINATE,
    TUS_HOOK_COUNT
} tus_hook_e;

/** A set of them. */
#define TUS_HOOK_BIT(type) (1U << (type))

/** Those that tusd sends unless it is told otherwise. */
#define TUS_HOOK_DEFAULT                                                                           \
    (TUS_HOOK_BIT(TUS_HOOK_PRE_CREATE) | TUS_HOOK_BIT(TUS_HOOK_POST_CREATE)                        \
     | TUS_HOOK_BIT(TUS_HOOK_POST_RECEIVE) | TUS_HOOK_BIT(TUS_HOOK_POST_FINISH)                    \
     | TUS_HOOK_BIT(TUS_HOOK_POST_TERMINATE))

/** "pre-create" and so on. */
const char *tus_hook_name(tus_hook_e type);

/** The event of that name, TUS_HOOK_COUNT for none. */
tus_hook_e tus_hook_named(const char *name);

/** Bytes of the key of a hook: 16 hex digits and NUL. */
#define TUS_HOOK_KEY_SIZE 17

/** Of a key, the digits that say where its hook was said. */
#define TUS_HOOK_SCOPE_DIGITS ((TUS_HOOK_KEY_SIZE - 1) / 2)

/**
 * What a hook is known by in the spool: eight digits of where it was said, eight of its URL.
 * @param server name and port of the virtual host
 * @param scope or NULL
 */
const char *tus_hook_key(char key[TUS_HOOK_KEY_SIZE], const char *server, const char *scope,
                         const char *url);

/** Bytes of the key of a section of the configuration: 8 hex digits and NUL. */
#define TUS_HOOK_SECTION_SIZE 9

/** No reference names more of them. */
#define TUS_HOOK_SECTIONS_MAX 32

/**
 * What a section of the configuration is known by.
 * @param server name and port of the virtual host
 * @param section where it stands and what for; "" is the virtual host itself
 * @param n tells sections apart that are else the same
 */
const char *tus_hook_section_key(char key[TUS_HOOK_SECTION_SIZE], const char *server,
                                 const char *section, unsigned n);

/**
 * What events and records name a hook by: KEY, and ",SECTION" for each section that may have a say
 * in how it is called, the last one the last word. It starts with the key of the hook.
 * @param sections of const char *: their keys, or NULL; of more than TUS_HOOK_SECTIONS_MAX the last
 * @return allocated from p
 */
const char *tus_hook_reference(const char *key, const apr_array_header_t *sections, apr_pool_t *p);

/** Nonzero for a text that tus_hook_reference() can have made; any text, or NULL. */
int tus_hook_is_reference(const char *text);

/** Bytes of an event's id: 32 hex digits and NUL. */
#define TUS_EVENT_ID_SIZE 33

/**
 * The id of an event: the same whenever the same thing is told of the same upload; an upload that
 * was created anew under its id is another. For post-receive the offset makes a difference. Each
 * pre-* has a new one: what is asked again may be answered otherwise.
 * @param event_id filled
 * @return event_id, or NULL where there are no random bytes
 */
const char *tus_hook_event_id(char event_id[TUS_EVENT_ID_SIZE], tus_hook_e type,
                              const tus_record_t *record, apr_off_t offset);

/* ---- ring 1: what a hook is told (tus_hook_json.c) --------------------------- */

/** The JSON of no event is larger. */
#define TUS_HOOK_JSON_MAX (2 * TUS_RECORD_MAX)

/** The request that is the cause of an event, as a hook is told of it. */
typedef struct tus_cause_t {
    const char *method;
    const char *uri;            /**< path and query as the client has them */
    const char *remote;         /**< "address:port" */
    const apr_table_t *headers; /**< as they came, Host among them */
    const char *user;           /**< the authenticated one, or NULL */
    const char *scheme;         /**< "http" or "https" */
    const char *host;           /**< name and port of this server, as a URL has them */
} tus_cause_t;

/**
 * The JSON of an event, byte by byte tusd's but for Event.ModTus, which comes last and has EventID,
 * User, Scheme and Host. Names in HTTPRequest.Header are canonical as Go writes them, sorted, the
 * values of a repeated field one after the other; Transfer-Encoding and Trailer are not among them.
 * A byte that is not UTF-8 is \ufffd; so is a real U+FFFD, which Go would not escape.
 * @param event_id its id
 * @param record in pre-create it may have no id yet, which is "", and no storage_type: then Storage
 *        is null
 * @param cause or NULL, where none is. What it does not say is ""
 * @param without_secrets Authorization, Proxy-Authorization and Cookie are left out unless
 * `forward` names them
 * @param forward of const char *, or NULL
 * @return APR_SUCCESS; APR_EINVAL if it would be larger than TUS_HOOK_JSON_MAX, if a part has no
 *         valid id, or if event_id is NULL
 */
apr_status_t tus_hook_json_format(const char **json, apr_size_t *len, tus_hook_e type,
                                  const char *event_id, const tus_record_t *record,
                                  apr_off_t offset, const tus_cause_t *cause, int without_secrets,
                                  const apr_array_header_t *forward, apr_pool_t *p);

/**
 * By which scheme and host an event says that its client reached this server; "" where it says
 * nothing, or a host that no URL can have.
 * @param json an event, as it was spooled
 */
void tus_hook_json_origin(const char **scheme, const char **host, const char *json, apr_size_t len,
                          apr_pool_t *p);

/* ---- ring 1: what a hook says (tus_hook_json_parse.c) ------------------------ */

/** What an endpoint answered, checked. */
typedef struct tus_verdict_t {
    int reject_upload;
    int reject_termination;
    int stop_upload;
    int status;                /**< of HTTPResponse; 0 for none */
    const char *body;          /**< or NULL; never "" */
    apr_table_t *headers;      /**< fields that may go out; the others are left out */
    const char *id;            /**< ChangeFileInfo.ID, a valid one, or NULL */
    apr_array_header_t *pairs; /**< of tus_pair_t: ChangeFileInfo.MetaData, or NULL */
    const char *storage_path;  /**< ChangeFileInfo.Storage.Path, or NULL */
    apr_array_header_t *left;  /**< of const char *: what was left out, for the log */
} tus_verdict_t;

/**
 * Reads an answer: JSON, or nothing at all, which is a consent. Unknown members are skipped, and
 * names are matched in any case. Null is absent, and a member of another type than tusd's is an
 * error of the whole answer; of two of the same name the last counts. So is what Go would bear
 * with: bytes that are not UTF-8, numbers beyond 64 bits, nesting beyond tus_json_is_shallow(), a
 * text with NUL where the verdict cannot hold it; and an ID that no upload can have. A path is
 * judged by the caller.
 *
 * A status other than 200 to 599, or one that forbids a body (204, 205, 304), is left out. So are
 * fields that tus_header_is_reserved(), that are none, that are longer than 8190 bytes, and those
 * beyond a hundred. `left` has the first twenty of what was left out, in words.
 * @param verdict allocated from p
 * @return NULL, or what is wrong with it, as the middle of a sentence; it may have bytes of the
 *         answer, unescaped
 */
const char *tus_hook_json_parse(tus_verdict_t **verdict, const char *text, apr_size_t len,
                                apr_pool_t *p);

/* ---- ring 1: a hook that can be told from a forgery (tus_sign.c) ---------- */

/** The fields of a signed call, as Standard Webhooks has them. */
#define TUS_SIGN_ID "webhook-id"
#define TUS_SIGN_TIMESTAMP "webhook-timestamp"
#define TUS_SIGN_SIGNATURE "webhook-signature"

/**
 * Signs a body: "v1," and the base64 of HMAC-SHA256(secret, "ID.SECONDS.BODY").
 * @param secret "whsec_" and base64, or any other text, which is the key itself
 * @param signature allocated from p
 * @return APR_SUCCESS; APR_EINVAL for "whsec_" without base64 behind it
 */
apr_status_t tus_sign(const char **signature, const char *secret, const char *event_id,
                      apr_time_t now, const char *body, apr_size_t len, apr_pool_t *p);

/* ---- ring 1: an event in the spool, and its file (tus_spooled.c) ----------- */

/** An event in the spool. */
typedef struct tus_spooled_t {
    const char *id;     /**< of the upload */
    apr_time_t created; /**< when that was */
    tus_hook_e type;    /**< a post-*, but for post-receive */
    const char *hook;   /**< that is to be told, as tus_hook_reference() has it */
    const char *event_id;
    apr_time_t at;              /**< when it happened */
    const apr_table_t *headers; /**< to be sent with it, or NULL for none */
    const char *body;           /**< JSON */
    apr_size_t len;
    int is_pending; /**< nobody has said yet that it happened */
} tus_spooled_t;

/** Digits of the key of an upload: a hash of its id. The first two are its shard. */
#define TUS_SPOOLED_KEY_LEN 32

/** Bytes of the name of an event: KEY.CREATED.TYPE.HOOK and NUL. */
#define TUS_SPOOLED_NAME_SIZE 69

/** A file larger than this is refused unread. */
#define TUS_SPOOLED_MAX (4 * 1024 * 1024)

/** The key of an upload, filled in. */
const char *tus_spooled_key(const char *id, char key[TUS_SPOOLED_KEY_LEN + 1]);

/**
 * The name of an event, of its upload, creation, type and hook. Of the names of one upload each
 * sorts behind those of what happened before; one that was created anew under its id is the same
 * upload here.
 * @param name filled
 * @return APR_SUCCESS; APR_EINVAL if one of the four is not as it should be
 */
apr_status_t tus_spooled_name(char name[TUS_SPOOLED_NAME_SIZE], const tus_spooled_t *event);

/** Behind the name of an event that is pending. */
#define TUS_SPOOLED_PENDING ".new"

/** What a name in a shard says of its file. */
typedef enum {
    TUS_SPOOLED_READY,    /**< an event that happened */
    TUS_SPOOLED_PENDS,    /**< one that is about to */
    TUS_SPOOLED_LEFTOVER, /**< it is being written, or whoever did that died */
    TUS_SPOOLED_FOREIGN   /**< it is none of ours */
} tus_spooled_e;

/** What that name says; any name of a directory. */
tus_spooled_e tus_spooled_kind(const char *name);

/** What the name of an event that is ready or pending says of it. */
typedef struct tus_spooled_name_t {
    char hook[TUS_HOOK_KEY_SIZE]; /**< its key */
    tus_hook_e type;
    apr_time_t created; /**< its upload was */
} tus_spooled_name_t;

/** Takes such a name apart. */
void tus_spooled_read_name(tus_spooled_name_t *read, const char *name);

/**
 * The text of an event's file, and back. `is_pending` is no part of it. Whatever can be read is
 * written again byte by byte the same. No member has a control character, but for the body and
 * for tabs in headers; none has a NUL, the body neither.
 * @return APR_SUCCESS, with what is allocated from p; APR_EINVAL for an event that could not be
 *         read back, TUS_EDAMAGED for a text that is none
 */
apr_status_t tus_spooled_format(const tus_spooled_t *event, const char **text, apr_size_t *len,
                                apr_pool_t *p);
apr_status_t tus_spooled_parse(tus_spooled_t *event, const char *text, apr_size_t len,
                               apr_pool_t *p);

/* ---- ring 1: the endpoints of hooks, and how they do (tus_health.c) -------- */

/** The longest wait between two tries. */
#define TUS_HEALTH_BACKOFF_MAX apr_time_from_sec(600)

/** What is known of one endpoint, so that one that is down is not tried for each event. */
typedef struct tus_health_t tus_health_t;
/** All of a process. It is the caller's to see that one thread at a time uses them. */
typedef struct tus_healths_t tus_healths_t;

/** Whoever waits for a place at an endpoint, at one at a time; zeroed. */
typedef struct tus_health_waiter_t {
    struct tus_health_waiter_t *before, *next;
    tus_health_t *health; /**< that it waits for, or NULL */
    tus_health_t *given;  /**< where it was given a place, or NULL */
} tus_health_waiter_t;

/** Called for one that waits no longer. @param due when it should go on: now, with a place; or when
 *  the endpoint is tried again */
typedef void (*tus_health_wake_fn)(tus_health_waiter_t *waiter, apr_time_t due);

/** @param max how many passes may call endpoints at a time, all together */
tus_healths_t *tus_health_open(int max, tus_health_wake_fn wake, apr_pool_t *p);

/** That of an endpoint, made if it is not there; it stays. */
tus_health_t *tus_health_find(tus_healths_t *all, const char *key);

/** When an endpoint that is down is tried again; 0 for now. */
apr_time_t tus_health_down(const tus_health_t *health, apr_time_t now);

/**
 * Takes a place, for a pass that is to call the endpoint. One that answered last has up to eight,
 * and but for the first never more than a third of what all others leave; any other one has one.
 * @return nonzero if there was one
 */
int tus_health_enter(tus_health_t *health, apr_time_t now);

/** Gives it back: who waited the longest has it. */
void tus_health_leave(tus_health_t *health, apr_time_t now);

/** The call of a pass takes long, or did. */
void tus_health_hang(tus_health_t *health, int is_hanging);

/** Nonzero while the call of any pass takes long. */
int tus_health_hangs(const tus_health_t *health);

/**
 * Waits for a place, unless it waits already, here or elsewhere, but not for one that hangs; or was
 * given one that it has not begun with.
 */
void tus_health_wait(tus_health_t *health, tus_health_waiter_t *waiter);

/** It waits no longer. @return where it has a place, or NULL; that is the caller's now */
tus_health_t *tus_health_begin(tus_health_waiter_t *waiter);

/**
 * A call came to its end.
 * @param is_down it was not reached; then it is tried again after `backoff` or twice as long as
 *        last time
 * @return nonzero if that is news
 */
int tus_health_note(tus_health_t *health, int is_down, apr_interval_time_t backoff, apr_time_t now);

/** It answers but refuses; or has been down for so long that its backoff is `max`, or as long as
 *  can be. */
int tus_health_is_hopeless(const tus_health_t *health, apr_interval_time_t max);

/** That time, up to a quarter more or less. */
apr_interval_time_t tus_health_jitter(apr_interval_time_t time);

/** That time, or the nearest from min to TUS_HEALTH_BACKOFF_MAX. */
apr_interval_time_t tus_health_clamp(apr_interval_time_t time, apr_interval_time_t min);

/* ---- ring 1: names of the spool in order, a batch at a time (tus_spool_batch.c) ---- */

/** More names than this are not in a batch. */
#define TUS_SPOOL_BATCH 4096

/** The names of a shard, those of some uploads at a time. */
typedef struct tus_spool_batch_t tus_spool_batch_t;

/**
 * @param start what the key of the uploads begins with that come first; then come all behind it,
 *        then those before
 * @param p owns it
 */
tus_spool_batch_t *tus_spool_batch_make(const char *start, apr_pool_t *p);

/** Makes place for the next batch, behind the last one. */
void tus_spool_batch_begin(tus_spool_batch_t *batch);

/** Adds a name of an event; those that belong to other batches are dropped.
 *  @param reading 0 or 1 */
void tus_spool_batch_add(tus_spool_batch_t *batch, const char *name, int reading);

/**
 * All were added, by two readings of the directory.
 * @param count how many names there are: of whole uploads, unless one alone has more than a batch
 * @return nonzero if there are more behind
 */
int tus_spool_batch_end(tus_spool_batch_t *batch, int *count);

/**
 * One of them, in order.
 * @param is_new set if the first reading did not have it: then names may be missing that were
 *        there before it. Those of any other name are all here, or were when the second began.
 */
const char *tus_spool_batch_name(const tus_spool_batch_t *batch, int index, int *is_new);

/* ---- ring 1: the record and its JSON (tus_record.c) ---------------------- */

/** An ID.info larger than this is refused unread. */
#define TUS_RECORD_MAX (1024 * 1024)

/** The longest `expire`, some 31 years. Up to here its microseconds can be written as seconds. */
#define TUS_EXPIRE_MAX (APR_INT64_C(999999999) * APR_USEC_PER_SEC)

/**
 * Reads ID.info: tusd's JSON, ours under "ModTus".
 * @return APR_SUCCESS with a record allocated from p; TUS_EUNWRITTEN; or TUS_EDAMAGED
 */
apr_status_t tus_record_parse(tus_record_t **record, const char *json, apr_size_t len,
                              apr_pool_t *p);

/**
 * The JSON of a record. A metadata value that is not UTF-8 has U+FFFD in its place.
 * @return APR_SUCCESS; APR_EINVAL for what could not be read back: a bad id, a
 *         record of ours without `created`, an `expire` of more than TUS_EXPIRE_MAX, or more
 *         than TUS_RECORD_MAX bytes
 */
apr_status_t tus_record_format(const tus_record_t *record, const char **json, apr_size_t *len,
                               apr_pool_t *p);

/* ---- ring 1: an entry of the index and its JSON (tus_entry.c) ------------- */

/**
 * An entry of the index as JSON, under 900 bytes, and back. Of an id of up to 64 bytes it has
 * 234 bytes at most without owner and filename, which are left out or cut where they do not fit.
 * @return APR_SUCCESS or TUS_EDAMAGED
 */
apr_status_t tus_entry_parse(tus_entry_t *entry, const char *json, apr_size_t len, apr_pool_t *p);
apr_status_t tus_entry_format(const tus_entry_t *entry, const char **json, apr_size_t *len,
                              apr_pool_t *p);

/** What the index keeps of a record; strings are shared with it. */
void tus_entry_of_record(tus_entry_t *entry, const tus_record_t *record, apr_pool_t *p);

/* ---- ring 1: where a record says that its data lies (tus_storage.c) ------- */

/**
 * The name of the data beneath its store. The store may have been moved since
 * Storage was written, so Path is read relative to where InfoPath says that the
 * store was: InfoPath without "/ID.info", or beneath the store if InfoPath is
 * "ID.info". Without InfoPath a Path that ends in "/" and the id is the id, as old
 * versions of tusd wrote it, and another relative one lies beneath the store.
 * @param name the id where the record says nothing else; part of the record
 * @return APR_SUCCESS; TUS_EREFUSED if it leads out of the store, has a segment that is empty,
 *         `.`, `..`, hidden, or longer than a file system takes, or that ends in `.info`
 */
apr_status_t tus_storage_name(const tus_record_t *record, const char **name);

/** A short mark of such a name, the same for the same name, for sets of them; allocated from p. */
const char *tus_storage_mark(const char *name, apr_pool_t *p);

/* ---- ring 1: what a download is called (tus_disposition.c) --------------- */

/**
 * Content-Type and Content-Disposition (RFC 6266) from the metadata "filetype"
 * and "filename". A type that a browser shows harmlessly is inline; everything
 * else is an attachment, and a malformed type application/octet-stream.
 * @param pairs of tus_pair_t, may be NULL; the results are allocated from p
 */
void tus_disposition(const apr_array_header_t *pairs, const char **content_type,
                     const char **disposition, apr_pool_t *p);

/* ---- ring 1: paths as text (tus_path.c) ---------------------------------- */

/**
 * What of `path` follows `dir`, both without a slash at their end: "" if they
 * are the same, NULL if it lies elsewhere.
 */
const char *tus_path_beneath(const char *dir, const char *path);

/** The path without a slash at its end, but for "/" itself. */
const char *tus_path_trim(const char *path, apr_pool_t *p);

/* ---- ring 2: names beneath a directory (tus_beneath.c) ------------------- */

/**
 * Opens a directory for use as a handle. Close it with close().
 * @param dir where a relative path starts, or -1
 * @param path for a `dir` other than -1: no segment may be a symbolic link,
 *        `.`, `..` or empty
 * @return APR_SUCCESS; TUS_EREFUSED; ENOTDIR for a plain file; or what the system said
 */
apr_status_t tus_beneath_dir(int dir, const char *path, int *fd);

/**
 * Opens a regular file with one link beneath a directory; no symbolic link on
 * the way. Always close-on-exec.
 * @param flags open(2)'s; with O_CREAT the file is new (O_EXCL is added)
 * @param mode for a new file, exactly, whatever the umask
 * @return APR_SUCCESS; TUS_EREFUSED for a FIFO, device, directory, symbolic or
 *         hard link; or what the system said
 */
apr_status_t tus_beneath_open(int dir, const char *path, int flags, apr_fileperms_t mode, int *fd);

/** The same of a file that exists, with what it is. */
apr_status_t tus_beneath_open_stat(int dir, const char *path, int flags, int *fd, struct stat *st);

/**
 * Opens a directory, made where it is missing: then it is in its parent on stable storage.
 * @param name one segment
 * @param mode for a new one, exactly, whatever the umask; a setgid bit that it has from its
 *        parent stays
 * @return as tus_beneath_dir()
 */
apr_status_t tus_beneath_mkdir(int dir, const char *name, apr_fileperms_t mode, int *fd);

/** Permissions exactly as these; APR_FPROT_WSTICKY among them. */
apr_status_t tus_beneath_chmod(int fd, apr_fileperms_t mode);

/** A system's mode bits as APR has them, the setuid, setgid and sticky bits among them. */
apr_fileperms_t tus_beneath_permissions(unsigned mode);

/** What such a file is, without opening it; the same refusals. */
apr_status_t tus_beneath_stat(int dir, const char *path, struct stat *st);

/** The text of a symbolic link, which is not followed. @return APR_EINVAL if it is none */
apr_status_t tus_beneath_readlink(int dir, const char *path, char text[APR_PATH_MAX]);

/** Removes a file; APR_SUCCESS, also when there was none. */
apr_status_t tus_beneath_remove(int dir, const char *path);

/** Writes all bytes at the offset, through interruptions; `done` counts also on failure. */
apr_status_t tus_beneath_write(int fd, apr_off_t offset, const char *data, apr_size_t len,
                               apr_size_t *done);

/* ---- ring 2: where a store lies (tus_locate.c) ----------------------------- */

/**
 * Opens the directory of a store as a handle. Close it with close().
 * @return APR_SUCCESS; TUS_EREFUSED where `place` does not hold; or what the system said
 */
apr_status_t tus_locate_dir(const tus_place_t *place, int *dir);

/** Its path as `place` has it, without a slash at the end or doubled ones. */
const char *tus_locate_path(const tus_place_t *place, apr_pool_t *p);

/* ---- ring 2: the place of a new upload (tus_claim.c) ---------------------- */

/**
 * Makes the file of a new upload's data, and the directories above it and above
 * its ID.info that are missing. Where it gets another name than the id, that is
 * on stable storage on return, and written at the id until tus_claim_end().
 * @param dir of the store, where ID.info lies too
 * @param name beneath the store: the id, or another
 * @return APR_SUCCESS with the file opened for reading and writing; APR_EEXIST if the id or the
 *         name is in use, is a directory, or lies beneath another upload's; TUS_EREFUSED; or
 *         what the system said
 */
apr_status_t tus_claim(int dir, const char *id, const char *name, apr_fileperms_t file_mode,
                       apr_fileperms_t dir_mode, int *fd);

/** The name that an id was claimed for and that is written there, or the id. */
apr_status_t tus_claim_name(int dir, const char *id, char name[APR_PATH_MAX]);

/** Ends a claim; from then on only the record says where the data lies. Idempotent. */
apr_status_t tus_claim_end(int dir, const char *id, const char *name);

/* ---- ring 2: copying between files (tus_copy.c) --------------------------- */

/**
 * Copies bytes from the start of one file into another, sharing blocks where the file system can:
 * where the offset is a multiple of its block size, and `len` too or all that there is.
 * @param cancel asked every few MiB that are copied; may be NULL
 * @return APR_SUCCESS; TUS_EDAMAGED if there are less; APR_EINTR if cancelled; or what the
 *         system said
 */
apr_status_t tus_copy(int from, int to, apr_off_t offset, apr_off_t len,
                      const tus_cancel_t *cancel);

/* ---- ring 2: bytes in a pipe (tus_pipe.c) ---------------------------------- */

/**
 * Readies this process, which has a few pipes for all that it receives; none before.
 * @param processes how many others like it there may be, itself among them
 * @param threads of each
 */
void tus_pipe_init(int processes, int threads, apr_pool_t *pchild);

/**
 * Moves bytes from a socket into a pipe, and makes a bucket one that has them: read() takes them
 * out, and tus_pipe_of() leads to them. Never blocks.
 * @param bucket initialized; its type and data are replaced, on success and unless *len is 0
 * @param max as many at most
 * @param len set to how many were moved; 0 at the end of the socket
 * @return APR_SUCCESS; APR_EAGAIN if the socket has none; APR_EBUSY if there is no pipe to be had;
 *         or what the system said
 */
apr_status_t tus_pipe_fill(apr_bucket *bucket, apr_os_sock_t socket, apr_size_t max,
                           apr_size_t *len);

/** Where to take a bucket's bytes from, if the next `length` in a pipe are its own; else -1. */
apr_os_file_t tus_pipe_of(const apr_bucket *bucket);

/** All of them were taken. */
void tus_pipe_taken(apr_bucket *bucket);

/* ---- ring 2: the network bucket (tus_network.c) ----------------------------- */

/** Bytes of one move at most; who asks for fewer, where some are left, makes it slow. */
#define TUS_NETWORK_MOVE_MAX (1024 * 1024)

/** What the buckets of one connection share, and what its requests say to them. */
typedef struct tus_network_t {
    apr_socket_t *socket;
    int is_bulk;     /**< much comes: it is read in large pieces */
    apr_off_t left;  /**< bytes to come that may go through pipes */
    apr_off_t moved; /**< and that did */
    int is_shut;     /**< a nonblocking read finds nothing; so it is after each move */
} tus_network_t;

/** The bucket of a connection that reads its socket; as apr_bucket_socket_create(). */
apr_bucket *tus_network_bucket(tus_network_t *network, apr_bucket_alloc_t *list);

/* ---- ring 2: the state directory (tus_state.c) --------------------------- */

/** TusStateDir: ours alone, a directory for each store, and which is whose. */
typedef struct tus_state_t tus_state_t;

/** A line of the registry: a store that was ever used. */
typedef struct tus_state_store_t {
    const char *name;     /**< of its directory in TusStateDir */
    const char *provider; /**< "file" */
    const char *driver;   /**< of its metadata: "sdbm" */
    const char *path;     /**< resolved */
    tus_identity_t identity;
} tus_state_store_t;

/**
 * Opens the state directory, which must exist and be nobody else's.
 * @param mutex the metadata mutex, held while the registry is written
 * @param p owns it; thread-safe afterwards
 * @return APR_SUCCESS; TUS_EREFUSED if others may write it; or what the system said
 */
apr_status_t tus_state_open(tus_state_t **state, const char *path, apr_global_mutex_t *mutex,
                            apr_pool_t *p);

/**
 * Finds or makes a store's own directory. A store is the same as one in the
 * registry if inode and owner are, with the same path or the same device; or if
 * path and owner are (then its index is removed, to be rebuilt).
 * @param store path, identity, provider and driver given; name is filled in
 * @param dir the absolute path of its directory, allocated from p
 */
apr_status_t tus_state_store(tus_state_t *state, tus_state_store_t *store, const char **dir,
                             apr_pool_t *p);

/**
 * The same directory by less: the store's path, which takes long to find out, need not be given. It
 * has to be from time to time, for it may have changed.
 * @return NULL if tus_state_store() did not find that store within the last second
 */
const char *tus_state_recall(tus_state_t *state, const tus_state_store_t *store, apr_pool_t *p);

/** All stores of the registry: an array of tus_state_store_t, allocated from p. */
apr_status_t tus_state_stores(tus_state_t *state, apr_array_header_t **stores, apr_pool_t *p);

/* ---- ring 2: the change journal (tus_journal.c) -------------------------- */

/** An id that was noted. */
typedef struct tus_noted_t {
    const char *id;
    int created;   /**< noted with TUS_NOTE_CREATE at least once */
    int carry;     /**< to be asked again */
    apr_off_t end; /**< where its first line ends */
} tus_noted_t;

/**
 * Called with the ids of some lines, each once.
 * @param noted of tus_noted_t, whose `carry` it sets; allocated from p
 */
typedef apr_status_t (*tus_noted_fn)(void *baton, apr_array_header_t *noted, apr_pool_t *p);

/**
 * From now on a process keeps the journals open that it appends to last: a line costs two system
 * calls then. Without it each is opened anew.
 * @param p with which they are closed; of one child, as no other may use them
 */
apr_status_t tus_journal_init(apr_pool_t *p);

/**
 * Appends a line to the journal. Takes part in no mutex and allocates nothing.
 * @param path of the journal
 */
apr_status_t tus_journal_note(const char *path, const char *id, int created);

/** Appends the lines of those that are to be carried. */
apr_status_t tus_journal_carry(const char *path, const apr_array_header_t *noted, apr_pool_t *p);

/**
 * Reads some lines of a file of such lines.
 * @param offset where to start; set to where to go on, the same at the end
 * @param noted the ids, each once; allocated from p; may be empty before the end
 */
apr_status_t tus_journal_read(int fd, apr_off_t *offset, apr_array_header_t **noted, apr_pool_t *p);

/**
 * Hands all that was noted to fn, and forgets it but for what is to be carried.
 * On failure everything is kept, to be handed out again. One caller at a time;
 * lines that are noted meanwhile wait for the next call.
 * @return APR_SUCCESS; TUS_EDAMAGED if lines may be missing, until tus_journal_mend() was called;
 *         what fn returned; or what the system said
 */
apr_status_t tus_journal_fold(const char *path, tus_noted_fn fn, void *baton, apr_pool_t *p);

/**
 * Makes a whole journal, also where there was none, of the lines that are left.
 * What was noted and changed before is to be found by a scan afterwards.
 */
apr_status_t tus_journal_mend(const char *path, apr_pool_t *p);

/* ---- ring 2: small files in the state directory (tus_small.c) -------------- */

/**
 * Replaces a file by one with this text, as a whole; one caller at a time.
 * @param durable it is on stable storage on return, and so is its name
 */
apr_status_t tus_small_replace(const char *path, const char *text, int durable, apr_pool_t *p);

/** As tus_small_replace(), durable, where several may do so at a time: each has a name of its own.
 */
apr_status_t tus_small_publish(const char *path, const char *text, apr_pool_t *p);

/**
 * Reads a file, as far as it fits, and puts a NUL behind it; there may be others before. Never
 * waits, and follows no symbolic link.
 * @param size of text, with that NUL
 * @param len set to the bytes of the file that were read; if no more would fit, it may be longer
 * @return APR_SUCCESS, or what the system said
 */
apr_status_t tus_small_get(char *text, apr_size_t size, apr_size_t *len, const char *path);

/** Removes a file or link; APR_SUCCESS, also when there was none. */
apr_status_t tus_small_remove(const char *path);

/** Returns when the names in the directory of this path are on stable storage. */
apr_status_t tus_small_sync(const char *path);

/* ---- ring 2: what only this server can have written (tus_seal.c) ------------ */

/** Bytes of a seal: hex digits and NUL. */
#define TUS_SEAL_SIZE 65

/**
 * Seals a text by the key of a store, which is made where there is none.
 * @param mac filled
 * @param state_dir of the store
 * @return APR_SUCCESS; TUS_EDAMAGED for a key that is none; or what the system said
 */
apr_status_t tus_seal_make(char mac[TUS_SEAL_SIZE], const char *state_dir, const char *text,
                           apr_pool_t *p);

/** Was that text sealed so for this store? @return APR_SUCCESS; TUS_EREFUSED; or as above */
apr_status_t tus_seal_check(const char *mac, const char *state_dir, const char *text,
                            apr_pool_t *p);

/* ---- ring 2: events that wait to be told (tus_spool.c) --------------------- */

/** Uploads fall into so many shards by their id; who tells the events of one holds its lock. */
#define TUS_SPOOL_SHARDS 256

/** What nobody has confirmed after so long is judged: whoever put it may have died. */
#define TUS_SPOOL_PENDING apr_time_from_sec(2)

/** No event waits longer for its next turn. */
#define TUS_SPOOL_DELAY_MAX apr_time_from_sec(24 * 60 * 60)

/**
 * Writes an event, pending. A pending one of the same upload, creation, type and hook is replaced;
 * one that may be told already stays until tus_spool_confirm(). One caller at a time for an
 * upload: it holds it.
 * @param state_dir of the store
 * @param durable it is on stable storage on return, its names too
 * @return APR_SUCCESS; APR_EINVAL; or what the system said: then nothing is there that was not
 *         before, or the whole event is, pending
 */
apr_status_t tus_spool_put(const char *state_dir, const tus_spooled_t *event, int durable,
                           apr_pool_t *p);

/**
 * The event happened: it may be told. Only the members that name it are looked at. An upload's
 * events are confirmed in the order in which they happened.
 * @return APR_SUCCESS; APR_ENOENT if none is pending: it was judged meanwhile; or what the system
 *         said, and then it will be judged
 */
apr_status_t tus_spool_confirm(const char *state_dir, const tus_spooled_t *event, apr_pool_t *p);

/** It did not. APR_SUCCESS, also when there was none. One that may be told already stays. */
apr_status_t tus_spool_retract(const char *state_dir, const tus_spooled_t *event, apr_pool_t *p);

/**
 * Confirming does not wait for the disk, as the record bears an event out; once this has returned
 * there need be none. APR_SUCCESS, also where there is no spool.
 */
apr_status_t tus_spool_sync(const char *state_dir, const char *id);

/** The shard of an upload. */
int tus_spool_shard(const char *id);

/**
 * When somebody last began to put something into any shard; 0 for never. One call of the system:
 * what did not change for longer than a request takes to put an event need not be looked into.
 */
apr_time_t tus_spool_touched(const char *state_dir);

/**
 * When something was last put into each shard, confirmed or removed: the time of its directory; 0
 * for never. It is asked before tus_spool_work(). The kernel's clock goes in steps of some ms: a
 * change may not show that follows another so soon.
 */
void tus_spool_changed(const char *state_dir, apr_time_t changed[TUS_SPOOL_SHARDS]);

/**
 * How many events wait, pending ones too, and since when the oldest does (0 for none): a scan of
 * the names and their times.
 */
apr_status_t tus_spool_count(const char *state_dir, apr_uint64_t *waiting, apr_time_t *oldest,
                             apr_pool_t *p);

/* ---- ring 2: telling them (tus_spool_work.c) ------------------------------- */

/** A shard that nobody else works off meanwhile, by its handles. */
typedef struct tus_spool_shard_t {
    int number;
    int spool, dir;
} tus_spool_shard_t;

/** What becomes of it. */
typedef enum {
    TUS_SPOOL_DONE,  /**< told, or it never happened: remove it */
    TUS_SPOOL_LATER, /**< and with it all that follows for the same upload and hook */
    TUS_SPOOL_WAIT,  /**< the same, but for this pass alone: nothing is noted in its file */
    TUS_SPOOL_READY, /**< a pending one did happen: keep it, and ask about it again at once */
    TUS_SPOOL_FAILED /**< move it aside, to spool/failed; what follows has its turn */
} tus_spool_e;

/**
 * Asked for each event that is due, in the order of an upload's life. May take its time, and use
 * the spool. A pending one is judged: DONE says that it never happened and that nobody will
 * confirm it, so the caller must hold the upload to say so; and it calls tus_spool_retract() as
 * long as it does, for a request that comes then may put the same event again.
 * @param due for TUS_SPOOL_LATER and TUS_SPOOL_WAIT: when it is to be asked again, an absolute
 *        time; one further than TUS_SPOOL_DELAY_MAX is brought forward
 * @param p cleared after each event
 */
typedef tus_spool_e (*tus_spool_fn)(void *baton, const tus_spooled_t *event, apr_time_t *due,
                                    apr_pool_t *p);

/** Whoever tells: tell(), and what is asked before a file is opened; that may be NULL. */
typedef struct tus_spool_teller_t {
    tus_spool_fn tell;

    /**
     * Are events held back that have such a name? Asked often, so it should be quick. What it once
     * said of a hook it says to the end of the pass, also of uploads that were created later: an
     * event that is held back is not looked at, and what follows it could overtake it.
     * @return until when, or 0
     */
    apr_time_t (*hold)(void *baton, const tus_spooled_name_t *name);

    /** An event is about to be opened. @return 0, or until when it is not */
    apr_time_t (*take)(void *baton, const tus_spooled_name_t *name);

    void *baton;
} tus_spool_teller_t;

/**
 * Goes through the events of a shard that are due, each once. The shard is the caller's; more than
 * one pass may go through it at a time if their take() keeps them from the same hook. An upload's
 * are asked about in their order, for each hook by itself: none before an earlier one is done or
 * failed, be that due or not. Different uploads come in any order, another each time, so that none
 * starves. A file that is no event, or not of its name, is moved aside; hidden ones are left alone.
 *
 * Takes less than 2 MiB of memory beside one event, however many there are. Beyond some thousand
 * the names are read over and over, a batch at a time; those that are held back are read once.
 * @param next set, whatever is returned, to when there is something due again, or 0; pending
 *        events, and what is left at the deadline, are something. What is put or confirmed
 *        meanwhile may be missing from it: tus_spool_changed() tells.
 * @param deadline when to stop, or 0; looked at after each event, so at least one is asked about
 * @return APR_SUCCESS; APR_INCOMPLETE at the deadline; TUS_EDAMAGED if a file was moved aside that
 *         is no event; or what the system said, when all else was gone through
 */
apr_status_t tus_spool_work(const tus_spool_shard_t *shard, apr_time_t now, apr_time_t deadline,
                            const tus_spool_teller_t *teller, apr_time_t *next, apr_pool_t *p);

/* ---- ring 2: the bell of who tells them (tus_bell.c) ------------------------ */

/** Stores are rung for together that fall into one of so many places. */
#define TUS_BELL_PLACES 256

/** Bytes of shared memory that it takes, zeroed. */
apr_size_t tus_bell_size(void);

/** Of the directory of a store in TusStateDir. */
int tus_bell_place(const char *state_dir);

/** Something was put into a shard. Never blocks; safe in any thread and process. */
void tus_bell_ring(void *bell, const char *state_dir, int shard);

/** Was it rung since? @param heard what this said last; updated */
int tus_bell_heard(void *bell, apr_uint64_t *heard);

/** Calls fn for each place and shard that was rung for, once. */
typedef void (*tus_bell_fn)(void *baton, int place, int shard);
void tus_bell_take(void *bell, tus_bell_fn fn, void *baton);

/* ---- ring 2: the directories of the spool (tus_spool_dir.c) ---------------- */

/** The directory of the spool, as a handle. Close it with close(). */
apr_status_t tus_spool_dir_open(const char *state_dir, int *spool);

/** The directory of a shard, as a handle. Close it with close(). */
apr_status_t tus_spool_dir_shard(int spool, int shard, int *dir);

/**
 * Takes a shard, until tus_spool_dir_unlock() or the end of the process.
 * @return APR_SUCCESS; APR_ENOENT if nobody ever put anything; APR_EBUSY while another has it; or
 *         what the system said
 */
apr_status_t tus_spool_dir_lock(tus_spool_shard_t *shard, const char *state_dir, int number);
void tus_spool_dir_unlock(tus_spool_shard_t *shard);

/** Room for the name of a shard: two hex digits and NUL. */
#define TUS_SPOOL_SHARD_SIZE 3

/** The name of a shard, filled in. */
const char *tus_spool_dir_name(int shard, char name[TUS_SPOOL_SHARD_SIZE]);

/** Called with a name; may rename or remove its file. */
typedef void (*tus_spool_dir_fn)(void *baton, int dir, const char *name);

/** Calls fn for each name of a directory that is not hidden. */
apr_status_t tus_spool_dir_each(int dir, tus_spool_dir_fn fn, void *baton);

/** The times of an event's file. */
typedef struct tus_spool_times_t {
    apr_time_t since; /**< since when it waits */
    apr_time_t due;   /**< when it is to be asked about, or judged */
} tus_spool_times_t;

struct timespec;

/** A time of a file; one beyond all reason is 0, long ago. */
apr_time_t tus_spool_dir_time(const struct timespec *time);

/** Reads the times of the event of that name; such as cannot be are 0, long ago. */
apr_status_t tus_spool_dir_times(int dir, const char *name, tus_spool_times_t *times);

/** Sets them. */
apr_status_t tus_spool_dir_set_times(int fd, const char *name, const tus_spool_times_t *times);

/* ---- ring 2: threads (tus_thread.c) ------------------------------------------ */

/**
 * Locks a mutex in a cleanup that ends this process. It may run in a signal's handler, above the
 * very code that holds the mutex: then nobody would ever release it.
 * @return 0 if it could not be had within a tenth of a second
 */
int tus_thread_lock_at_end(apr_thread_mutex_t *mutex);

/** apr_thread_create(), of a thread that takes no signals. */
apr_status_t tus_thread_create(apr_thread_t **thread, apr_thread_start_t run, void *baton,
                               apr_pool_t *p);

/** No signal comes to this thread until they are released, and none ever to those it makes. */
void tus_thread_hold_signals(sigset_t *before);

/** They come as they did before. */
void tus_thread_release_signals(const sigset_t *before);

/* ---- ring 2: kept connections (tus_line.c) ---------------------------------- */

/** A handle of libcurl with a connection of its own; one thread uses it at a time. */
typedef struct tus_line_t tus_line_t;
/** Those of a process that nobody uses at the moment, some 16 at most. */
typedef struct tus_lines_t tus_lines_t;

/**
 * Readies libcurl in this process, once, whoever calls it how often. tus_line_open() does it too; a
 * parent does it before any fork and while it has one thread, because libcurl before 7.84 minds
 * others. It stays readied: other modules of the process may use it as well.
 * @return APR_SUCCESS or APR_EGENERAL
 */
apr_status_t tus_line_init(void);

/**
 * For all threads of this process, but for no process that is forked later. Wants SIGPIPE to be
 * ignored, as httpd does.
 * @param p owns them; when it goes, no line may be in use
 * @return APR_SUCCESS; APR_EGENERAL without libcurl; or what the mutex said
 */
apr_status_t tus_line_open(tus_lines_t **lines, apr_pool_t *p);

/**
 * Takes a line: one that was kept for the same way, whose connection has not ended, or a new one.
 * Its handle has no options set.
 * @param way what all calls on a line have in common, as text: where it leads, and under which
 *        policy
 * @return APR_SUCCESS; APR_EINVAL in another process than the one that opened them; APR_ENOMEM
 */
apr_status_t tus_line_take(tus_line_t **line, tus_lines_t *lines, const char *way);

/** Its CURL *, for options and answers. */
void *tus_line_handle(tus_line_t *line);

/**
 * Does what the handle's options say.
 * @param cancel asked every 100 ms at least, or NULL
 * @return a CURLcode; CURLE_ABORTED_BY_CALLBACK if cancelled
 */
int tus_line_perform(tus_line_t *line, const tus_cancel_t *cancel);

/** Keeps a line for another call, if its connection is; what its options point to may go. */
void tus_line_keep(tus_lines_t *lines, tus_line_t *line);

/** Closes one instead, as after anything that failed. */
void tus_line_close(tus_line_t *line);

/* ---- ring 2: the hook provider (tus_hook_http.c) ---------------------------- */

/** Over libcurl. It needs what tus_line_open() needs. */
extern const tus_hook_provider_t tus_hook_http;

/* ---- ring 2: a file for an id in the state directory (tus_keyed.c) --------- */

/**
 * The path of an id's file in a directory below a store's directory of TusStateDir.
 * @param path filled; nothing is looked at
 * @return APR_SUCCESS; APR_EINVAL for an invalid id; APR_ENAMETOOLONG
 */
apr_status_t tus_keyed_path(char path[APR_PATH_MAX], const char *state_dir, const char *dir,
                            const char *id);

/** Makes the directory that such a path lies in; its name is on stable storage on return. */
apr_status_t tus_keyed_make_dir(const char *path);

/* ---- ring 2: an offset noted of an upload (tus_offset.c) -------------------- */

/** Where the bytes of an upload start that are not verified yet. */
#define TUS_OFFSET_UNVERIFIED "unverified"
/** Up to where its bytes are on stable storage. */
#define TUS_OFFSET_SYNCED "synced"

/**
 * Notes an offset, in the place of an older one, in a store's directory of TusStateDir.
 * @param dir one of TUS_OFFSET_*
 * @param durable the note is on stable storage on return
 */
apr_status_t tus_offset_note(const char *state_dir, const char *dir, const char *id,
                             apr_off_t offset, int durable);

/** Drops the note, as durably as it was made. APR_SUCCESS, also when there was none. */
apr_status_t tus_offset_drop(const char *state_dir, const char *dir, const char *id);

/** Reads the note. @return APR_SUCCESS; APR_ENOENT; TUS_EDAMAGED; or what the system said */
apr_status_t tus_offset_read(const char *state_dir, const char *dir, const char *id,
                             apr_off_t *offset);

/* ---- ring 2: which finals are made of a part (tus_link.c) ------------------ */

/** link, links and unlink of tus_meta_provider_t, in a store's directory of TusStateDir. */
apr_status_t tus_link_add(const char *state_dir, const char *part, const char *final);
apr_status_t tus_link_list(const char *state_dir, const char *part, apr_array_header_t **finals,
                           apr_pool_t *p);
apr_status_t tus_link_remove(const char *state_dir, const char *part);

/* ---- ring 2: the registry of stores (tus_registry.c) --------------------- */

/** Hex digits of a store's name. */
#define TUS_STATE_NAME_LEN 16

/** The registry: an array of tus_state_store_t, allocated from p; empty where there is none. */
apr_status_t tus_registry_read(const char *state_dir, apr_array_header_t **stores, apr_pool_t *p);

/**
 * Replaces the registry; it is on stable storage on return, for what a store's
 * directory holds is lost with its line. The caller holds its mutex.
 */
apr_status_t tus_registry_write(const char *state_dir, const apr_array_header_t *stores,
                                apr_pool_t *p);

/* ---- ring 2: the mark of a whole index (tus_mark.c) ---------------------- */

/** The list of ids beside the database. */
#define TUS_INDEX_LIST "index.ids"

/** The list of what a rebuild is to go through. */
#define TUS_REBUILD_LIST "rebuild"

/** What the mark counts. */
typedef struct tus_mark_t {
    apr_int64_t live;  /**< entries of uploads that are not gone */
    apr_int64_t lines; /**< of the list of ids */
} tus_mark_t;

/** The full name of a driver: the default for NULL, NULL for one that is unknown. */
const char *tus_mark_driver(const char *name);

/**
 * Reads the mark, and holds it against the index's files.
 * @return APR_SUCCESS; TUS_EDAMAGED if the index must not be opened
 */
apr_status_t tus_mark_read(const tus_meta_place_t *place, tus_mark_t *mark, apr_pool_t *p);

/** Marks the index as whole, once its files are closed. The caller holds its mutex. */
apr_status_t tus_mark_write(const tus_meta_place_t *place, const tus_mark_t *mark, apr_pool_t *p);

/**
 * Was the mark written of an index of this format, boot and driver? Then an index
 * that tus_mark_read() refuses is damaged, and not merely none or an old one.
 */
int tus_mark_is_of_now(const tus_meta_place_t *place, apr_pool_t *p);

/** Removes the mark: the next fold makes the index anew. The caller holds its mutex. */
apr_status_t tus_mark_drop(const char *state_dir, apr_pool_t *p);

/** Removes mark and index, of whatever driver. The caller holds its mutex. */
apr_status_t tus_mark_clear(const tus_meta_place_t *place, apr_pool_t *p);

/* ---- ring 2: the index (tus_index.c) ------------------------------------- */

/** What is to be done to the index. */
typedef struct tus_index_change_t {
    const char *id;
    const tus_entry_t *entry; /**< NULL drops it */
} tus_index_change_t;

/** NULL, or a sentence that says what is wrong with the driver; see tus_meta_provider_t. */
const char *tus_index_check_driver(const char *driver, apr_pool_t *p);

/**
 * Judges the index without opening it.
 * @return APR_SUCCESS; or, if it is to be made anew, TUS_EDAMAGED where somebody changed its files,
 *         APR_NOTFOUND where there is none, or one that was not closed, of another boot, format
 *         or driver, or for the most part of uploads that are gone
 */
apr_status_t tus_index_judge(const tus_meta_place_t *place, apr_pool_t *p);

/** No index is whole from here on until tus_index_reset(), whoever dies. */
apr_status_t tus_index_discard(const tus_meta_place_t *place, apr_pool_t *p);

/** Ends a rebuild. @return APR_SUCCESS; TUS_EDAMAGED if somebody changed index or list meanwhile */
apr_status_t tus_index_complete(const tus_meta_place_t *place, apr_pool_t *p);

/** Makes the index anew, empty. */
apr_status_t tus_index_reset(const tus_meta_place_t *place, apr_pool_t *p);

/**
 * Makes changes, holding the mutex for about 50 ms at a time.
 * @param changes of tus_index_change_t
 * @return APR_SUCCESS; TUS_EDAMAGED; or what the system said, and then the
 *         index is to be made anew
 */
apr_status_t tus_index_write(const tus_meta_place_t *place, const apr_array_header_t *changes,
                             apr_pool_t *p);

/**
 * Calls fn for each entry, without the mutex; it is held for a block of them.
 * @return APR_SUCCESS; TUS_EDAMAGED if there is no usable index; or what fn returned
 */
apr_status_t tus_index_walk(const tus_meta_place_t *place, tus_entry_fn fn, void *baton,
                            apr_pool_t *p);

/* ---- ring 2: rebuilding the index (tus_rebuild.c) ------------------------ */

/**
 * Lists the ids of all records, to be gone through by tus_rebuild_slice().
 * @param records directory handle, or -1 for none at all
 * @param cancel may be NULL
 */
apr_status_t tus_rebuild_start(const char *state_dir, int records, const tus_cancel_t *cancel,
                               apr_pool_t *p);

/**
 * Hands the next ids of the list to fn, which may shorten the array to those
 * that it did.
 * @param journal path, for those that are to be carried
 * @return APR_SUCCESS when there is no list; APR_EOF at its end; APR_INCOMPLETE; or what went wrong
 */
apr_status_t tus_rebuild_slice(const char *state_dir, const char *journal, tus_noted_fn fn,
                               void *baton, apr_pool_t *p);

/** Removes the list. */
apr_status_t tus_rebuild_end(const char *state_dir, apr_pool_t *p);

/* ---- ring 2: the providers ----------------------------------------------- */

extern const tus_store_provider_t tus_store_file;
extern const tus_meta_provider_t tus_meta_dbm;
extern const tus_lock_provider_t tus_lock_shm;

/** Bytes of shared memory for a table of that many entries and processes. */
apr_size_t tus_lock_shm_size(unsigned entries, unsigned processes);

/** To be changed with the layout of the table, or with what it means. */
#define TUS_LOCK_SHM_LAYOUT 2

/**
 * Puts an empty table into zeroed shared memory. Once, before any fork: it
 * makes an event descriptor for each process slot, as far as descriptors are
 * plenty, which the children inherit, and which stay open as long as this
 * process lives. No pool owns them: the process
 * pool is cleaned up after the module that would do it has been unloaded.
 * @return APR_SUCCESS; APR_EINVAL for no entries or processes, or too little memory; or what
 *         the system said
 */
apr_status_t tus_lock_shm_init(void *base, apr_size_t size, unsigned entries, unsigned processes);

/**
 * Attaches this process to the table.
 * @param mutex guards it, held for memory operations only
 * @param p owns the result and this process's slot, and outlives every lock. The result
 *        serves all threads of this process, and no process that is forked from it; a lock
 *        belongs to one thread at a time.
 * @return APR_SUCCESS; TUS_EDAMAGED if the memory holds another layout; APR_ENOSPC if there
 *         are as many processes already; or what the mutex said
 */
apr_status_t tus_lock_shm_attach(tus_locks_t **locks, void *base, apr_size_t size,
                                 apr_global_mutex_t *mutex, apr_pool_t *p);

#endif /* TUS_WORDS_H */
