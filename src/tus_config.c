/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The directives, their merge, and what follows from them.
 *
 * tus_config_commands is the one table of all: a new directive is a row there,
 * a member of tus_settings_t and a parser. A scope keeps two sets of values:
 * what holds, and what would hold without any .htaccess; `default` in an
 * .htaccess goes back to the latter. httpd merges merged scopes with each
 * other before it merges them onto the server, so `default` is remembered
 * rather than carried out; carried out twice it does no harm. The same goes for
 * values that are added to what is inherited.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <limits.h>
#include <stddef.h>
#include <string.h>

/* Makefile.apxs says where the distribution keeps its httpd's state. */
#ifndef TUS_STATE_DIR_DEFAULT
#define TUS_STATE_DIR_DEFAULT "/var/lib/apache2/tus"
#endif

/* Bit n is row n of tus_config_commands. */
typedef apr_uint64_t mask_t;

/* A scope. */
typedef struct config_t {
    tus_settings_t now;
    tus_settings_t server; /* without any .htaccess */
    mask_t said;           /* by the server's own files */
    mask_t htaccess;       /* an .htaccess said `now`, after all others */
    mask_t reset;          /* an .htaccess's `default`: `now` starts from what `server` is */
} config_t;

typedef struct row_t {
    apr_size_t offset; /* of the member in tus_settings_t */
    apr_size_t size;
    tus_parse_fn parse;
    int argc;         /* how many arguments, 0 for one or more */
    tus_join_fn join; /* NULL: a value replaces what is inherited */
} row_t;

static tus_settings_t built_in = {
    .meta = { .provider = &tus_meta_dbm },
    .extensions = { .on = TUS_EXT_ALL, .absolute = 1 },
    .protocols = TUS_PROTOCOL_TUS,
    .download = 1,
    .sync = TUS_SYNC_FINISH,
    .file_mode = APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD | APR_FPROT_GWRITE,
    .dir_mode = APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE | APR_FPROT_GREAD
                | APR_FPROT_GWRITE | APR_FPROT_GEXECUTE,
    .lock_timeout = 20 * APR_USEC_PER_SEC,
    .cors = 1,
    .cors_methods = { .names = "POST, HEAD, PATCH, OPTIONS, GET, DELETE" },
    .cors_headers = { .names = "Authorization, Origin, X-Requested-With, X-Request-ID, "
                               "X-HTTP-Method-Override, Content-Type, Upload-Length, "
                               "Upload-Offset, Tus-Resumable, Upload-Metadata, "
                               "Upload-Defer-Length, Upload-Concat, Upload-Checksum" },
    .cors_expose = { .names = "Upload-Offset, Location, Upload-Length, Tus-Version, "
                              "Tus-Resumable, Tus-Max-Size, Tus-Extension, Upload-Metadata, "
                              "Upload-Defer-Length, Upload-Concat, Upload-Expires, "
                              "Tus-Checksum-Algorithm" },
    .cors_max_age = 86400 * APR_USEC_PER_SEC,
    .hooks = { .drops = 1, .drops_htaccess = 1 },
    .hook_timeout = 15 * APR_USEC_PER_SEC,
    .hook_retry = { .times = 3, .backoff = APR_USEC_PER_SEC },
    .hook_interval = APR_USEC_PER_SEC,
    .hook_max_age = 7 * 86400 * APR_USEC_PER_SEC,
    .hook_verify = 1,
    .hook_secret = { .server = "" },
    .allow_hook = { .local = 1 },
};

/* Of the server as a whole, since tus_config_reset(). */
static apr_array_header_t *stores;
static apr_array_header_t *hooks;
static apr_array_header_t *sections;
static const char *state_dir = TUS_STATE_DIR_DEFAULT;

/* ---- the table ----------------------------------------------------------- */

static mask_t bit_of(const command_rec *command)
{
    return (mask_t)1 << (command - tus_config_commands);
}

static void copy(const row_t *row, tus_settings_t *to, const tus_settings_t *from)
{
    memcpy((char *)to + row->offset, (const char *)from + row->offset, row->size);
}

/* What is said later, onto what was `known` to hold, if anything was. */
static void put(const row_t *row, tus_settings_t *to, mask_t known, const tus_settings_t *from,
                apr_pool_t *p)
{
    if (row->join && known) {
        row->join((char *)to + row->offset, (const char *)from + row->offset, p);
    }
    else {
        copy(row, to, from);
    }
}

/* httpd itself judges the context, save that AllowOverrideList lets all into an .htaccess. */
static const char *wrong_place(cmd_parms *cmd)
{
    if (tus_parse_is_htaccess(cmd) && !(cmd->cmd->req_override & OR_FILEINFO)) {
        return apr_psprintf(cmd->pool,
                            "%s belongs into the server's own configuration, not into an .htaccess",
                            cmd->cmd->name);
    }
    return ap_check_cmd_context(cmd, NOT_IN_LIMIT | NOT_IN_PROXY);
}

static const char *explain(const cmd_parms *cmd, const char *wrong)
{
    return apr_psprintf(cmd->pool, "%s: %s. Syntax: %s %s", cmd->cmd->name, wrong, cmd->cmd->name,
                        cmd->cmd->errmsg);
}

static int is_reset(int argc, char *const argv[])
{
    return argc == 1 && !ap_cstr_casecmp(argv[0], "default");
}

/* What the guard and the checks at start go by. */
static void remember_store(const row_t *row, const tus_settings_t *value)
{
    if (row->offset == offsetof(tus_settings_t, store) && value->store.path) {
        APR_ARRAY_PUSH(stores, tus_store_spec_t) = value->store;
    }
}

/* For the events that are told when no request is there any more. */
static void remember_hook(const cmd_parms *cmd, const row_t *row, const tus_settings_t *value,
                          config_t *config)
{
    if (row->offset == offsetof(tus_settings_t, hooks) && value->hooks.list
        && value->hooks.list->nelts) {
        APR_ARRAY_PUSH(hooks, tus_said_hook_t) =
            (tus_said_hook_t){ APR_ARRAY_IDX(value->hooks.list, 0, tus_hook_spec_t *), cmd->server,
                               config };
    }
}

/* Does it say how a hook is called when no request is there any more? */
static int is_of_later_calls(const row_t *row)
{
    static const apr_size_t offsets[] = {
        offsetof(tus_settings_t, hook_timeout), offsetof(tus_settings_t, hook_retry),
        offsetof(tus_settings_t, hook_max_age), offsetof(tus_settings_t, hook_verify),
        offsetof(tus_settings_t, hook_secret),
    };

    for (apr_size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        if (row->offset == offsets[i]) {
            return 1;
        }
    }
    return 0;
}

/* For those calls: events name it by its key, which it has when all is read. */
static void remember_section(const cmd_parms *cmd, const row_t *row, config_t *config)
{
    const char *text = tus_parse_section(cmd);
    apr_array_header_t *keys;
    tus_section_t *section;

    if (!is_of_later_calls(row) || config->now.sections || (!*text && !cmd->server->is_virtual)) {
        return;
    }
    section = apr_pcalloc(cmd->pool, sizeof *section);
    section->text = text;
    section->server = cmd->server;
    section->config = config;
    APR_ARRAY_PUSH(sections, tus_section_t *) = section;
    config->now.sections = keys = apr_array_make(cmd->pool, 1, sizeof(const char *));
    APR_ARRAY_PUSH(keys, const char *) = section->key;
}

/* The function of every row but TusStateDir. */
static const char *set(cmd_parms *cmd, void *dir_config, int argc, char *const argv[])
{
    config_t *config = dir_config;
    const row_t *row = cmd->info;
    mask_t bit = bit_of(cmd->cmd);
    int reset = is_reset(argc, argv);
    tus_settings_t value = *tus_config_defaults();
    const char *wrong = wrong_place(cmd);

    if (wrong) {
        return wrong;
    }
    if (!reset) {
        if (argc == 0 || (row->argc && argc != row->argc)) {
            return explain(cmd, "that is not the right number of arguments");
        }
        wrong = row->parse(cmd, &value, argc, argv);
        if (wrong) {
            return explain(cmd, wrong);
        }
    }

    if (!tus_parse_is_htaccess(cmd)) {
        put(row, &config->server, config->said & bit, &value, cmd->pool);
        put(row, &config->now, config->said & bit, &value, cmd->pool);
        config->said |= bit;
        remember_store(row, &value);
        remember_hook(cmd, row, &value, config);
        remember_section(cmd, row, config);
    }
    else if (reset) {
        config->reset |= bit;
        config->htaccess &= ~bit;
    }
    else {
        put(row, &config->now, config->htaccess & bit, &value, cmd->pool);
        config->htaccess |= bit;
    }
    return NULL;
}

static const char *set_state_dir(cmd_parms *cmd, void *dir_config, int argc, char *const argv[])
{
    const char *wrong = ap_check_cmd_context(cmd, GLOBAL_ONLY);

    (void)dir_config;
    if (wrong) {
        return wrong;
    }
    if (argc != 1) {
        return explain(cmd, "that is not the right number of arguments");
    }
    if (is_reset(argc, argv)) {
        state_dir = TUS_STATE_DIR_DEFAULT;
        return NULL;
    }
    wrong = tus_parse_absolute(cmd, argv[0], &state_dir);
    return wrong ? explain(cmd, wrong) : NULL;
}

/* Contexts, as in docs/directives.md. */
#define IN_SERVER RSRC_CONF
#define IN_DIRECTORY (RSRC_CONF | ACCESS_CONF)
#define IN_HTACCESS (RSRC_CONF | ACCESS_CONF | OR_FILEINFO)

#define ROW(name, member, parse, argc, join, context, syntax)                                      \
    AP_INIT_TAKE_ARGV(                                                                             \
        name, set,                                                                                 \
        (void *)&((row_t){ offsetof(tus_settings_t, member),                                       \
                           sizeof(((tus_settings_t *)0)->member), parse, argc, join }),            \
        context, syntax)
#define SETTING(name, member, parse, argc, context, syntax)                                        \
    ROW(name, member, parse, argc, NULL, context, syntax)
#define ADDING(name, member, parse, join, context, syntax)                                         \
    ROW(name, member, parse, 0, join, context, syntax)

const command_rec tus_config_commands[] = {
    SETTING("TusEngine", engine, tus_parse_engine, 1, IN_HTACCESS, "On|Off|default"),
    SETTING("TusStore", store, tus_parse_store, 2, IN_HTACCESS, "file PATH, or default"),
    SETTING("TusMetadata", meta, tus_parse_meta, 1, IN_DIRECTORY,
            "dbm, dbm:DRIVER or default; DRIVER is sdbm, gdbm or db"),
    SETTING("TusMaxSize", max_size, tus_parse_max_size, 1, IN_HTACCESS,
            "N[K|M|G|T] in bytes, 0 for no limit, or default"),
    SETTING("TusAllowMaxSize", allow_max_size, tus_parse_allow_max_size, 1, IN_DIRECTORY,
            "N[K|M|G|T] in bytes, 0 for no limit, or default"),
    SETTING("TusExpire", expire, tus_parse_expire, 1, IN_HTACCESS,
            "N[ms|s|mi|h|d|w], off or default"),
    SETTING("TusAllowExpire", allow_expire, tus_parse_allow_expire, 1, IN_DIRECTORY,
            "N[ms|s|mi|h|d|w], none or default"),
    ADDING("TusExtensions", extensions, tus_parse_extensions, tus_parse_join_choice, IN_HTACCESS,
           "NAME ..., +NAME|-NAME ..., all, none or default"),
    SETTING("TusProtocols", protocols, tus_parse_protocols, 0, IN_HTACCESS, "tus, or default"),
    SETTING("TusChecksums", checksums, tus_parse_checksums, 0, IN_HTACCESS,
            "NAME ... of sha1, sha256, sha512, md5, crc32 and crc32c, or default"),
    SETTING("TusDownload", download, tus_parse_download, 1, IN_HTACCESS, "On|Off|default"),
    SETTING("TusBaseURL", base_url, tus_parse_base_url, 1, IN_HTACCESS,
            "/PATH/, http://HOST/PATH/, https://HOST/PATH/ or default"),
    SETTING("TusForwarded", forwarded, tus_parse_forwarded, 1, IN_DIRECTORY, "On|Off|default"),
    SETTING("TusSync", sync, tus_parse_sync, 1, IN_HTACCESS, "none|finish|always|default"),
    SETTING("TusFileMode", file_mode, tus_parse_file_mode, 1, IN_HTACCESS,
            "OCTAL, three or four octal digits such as 0660, or default"),
    SETTING("TusDirMode", dir_mode, tus_parse_dir_mode, 1, IN_HTACCESS,
            "OCTAL, three or four octal digits such as 0770, or default"),
    SETTING("TusLockTimeout", lock_timeout, tus_parse_lock_timeout, 1, IN_DIRECTORY,
            "N[ms|s|mi|h|d], from 1ms to 1d, or default"),
    SETTING("TusCORS", cors, tus_parse_cors, 1, IN_HTACCESS, "On|Off|default"),
    SETTING("TusCORSAllowOrigin", cors_origin, tus_parse_cors_origin, 1, IN_HTACCESS,
            "REGEX such as ^https://app\\.example\\.org$, or default"),
    SETTING("TusCORSAllowCredentials", cors_credentials, tus_parse_cors_credentials, 1, IN_HTACCESS,
            "On|Off|default"),
    ADDING("TusCORSAllowMethods", cors_methods, tus_parse_cors_methods, tus_parse_join_list,
           IN_HTACCESS, "METHOD ..., +METHOD ..., none or default"),
    ADDING("TusCORSAllowHeaders", cors_headers, tus_parse_cors_headers, tus_parse_join_list,
           IN_HTACCESS, "NAME ..., +NAME ..., none or default"),
    ADDING("TusCORSExposeHeaders", cors_expose, tus_parse_cors_expose, tus_parse_join_list,
           IN_HTACCESS, "NAME ..., +NAME ..., none or default"),
    SETTING("TusCORSMaxAge", cors_max_age, tus_parse_cors_max_age, 1, IN_HTACCESS,
            "N[s|mi|h|d|w], from 0 to 365d, or default"),
    SETTING("TusAllowStore", allow_store, tus_parse_allow_store, 0, IN_DIRECTORY,
            "DIR ... (absolute), none or default"),
    ADDING("TusHook", hooks, tus_parse_hook, tus_parse_join_hooks, IN_HTACCESS,
           "URL [EVENT ...], none or default; URL is http://..., https://..., "
           "unix:SOCKET|http://... or a path of this virtual host"),
    SETTING("TusHookTimeout", hook_timeout, tus_parse_hook_timeout, 1, IN_HTACCESS,
            "N[ms|s|mi|h], from 1ms to 1h (1mi in an .htaccess), or default"),
    SETTING("TusHookRetry", hook_retry, tus_parse_hook_retry, 0, IN_HTACCESS,
            "N [DURATION], N from 0 to 100, or default"),
    SETTING("TusHookProgressInterval", hook_interval, tus_parse_hook_interval, 1, IN_HTACCESS,
            "N[ms|s|mi|h], from 10ms to 1h, or default"),
    SETTING("TusHookMaxAge", hook_max_age, tus_parse_hook_max_age, 1, IN_DIRECTORY,
            "N[s|mi|h|d|w], from 1s to 3650d, or default"),
    SETTING("TusHookForwardHeader", hook_forward, tus_parse_hook_forward, 0, IN_DIRECTORY,
            "NAME ..., none or default"),
    SETTING("TusHookVerify", hook_verify, tus_parse_hook_verify, 1, IN_DIRECTORY, "On|Off|default"),
    ADDING("TusHookSecret", hook_secret, tus_parse_hook_secret, tus_parse_join_secret, IN_HTACCESS,
           "VALUE, file:PATH, exec:COMMAND, none or default; in an .htaccess a VALUE only"),
    SETTING("TusAllowHook", allow_hook, tus_parse_allow_hook, 0, IN_DIRECTORY,
            "Off, Local, PREFIX ... or default"),
    SETTING("TusStatus", status, tus_parse_status, 1, IN_DIRECTORY, "On|Off|default"),
    AP_INIT_TAKE_ARGV("TusStateDir", set_state_dir, NULL, IN_SERVER, "DIR (absolute), or default"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL },
};

_Static_assert(sizeof tus_config_commands / sizeof *tus_config_commands
                   <= sizeof(mask_t) * CHAR_BIT,
               "every row needs its bit in the masks of config_t");

/* ---- create, merge, read ------------------------------------------------- */

/* The first call is at start, before there are threads. */
const tus_settings_t *tus_config_defaults(void)
{
    if (!built_in.checksums) {
        built_in.checksums = tus_checksum_available(TUS_CHECKSUMS_ALL);
    }
    return &built_in;
}

void *tus_config_create(apr_pool_t *p, char *dir)
{
    config_t *config = apr_pcalloc(p, sizeof *config);

    (void)dir;
    config->now = *tus_config_defaults();
    config->server = config->now;
    return config;
}

static void merge_row(config_t *merged, const config_t *add, const row_t *row, mask_t bit,
                      apr_pool_t *p)
{
    mask_t known = (merged->said | merged->htaccess) & bit;

    if (!((add->said | add->htaccess | add->reset) & bit)) {
        return;
    }
    if (add->said & bit) {
        put(row, &merged->server, merged->said & bit, &add->server, p);
        merged->said |= bit;
    }
    if (add->reset & bit) {
        copy(row, &merged->now, &merged->server);
        known = merged->said & bit;
        merged->reset |= bit;
    }
    if ((add->said | add->htaccess) & bit) {
        put(row, &merged->now, known, &add->now, p);
    }
    merged->htaccess = (merged->htaccess & ~bit) | (add->htaccess & bit);
}

/* Nonzero if an .htaccess is why this directive's value holds. */
static int by_htaccess(const config_t *config, apr_size_t offset)
{
    const command_rec *command;

    for (command = tus_config_commands; command->name; command++) {
        const row_t *row = command->cmd_data;

        if (row && row->offset == offset) {
            return (config->htaccess & bit_of(command)) != 0;
        }
    }
    return 0;
}

/* What has a ceiling; who switches the engine on and is silent about it wants no limit. */
static void judge_htaccess(config_t *merged)
{
    tus_settings_t *now = &merged->now;
    int engine = by_htaccess(merged, offsetof(tus_settings_t, engine));

    now->max_size_htaccess =
        by_htaccess(merged, offsetof(tus_settings_t, max_size)) || (engine && !now->max_size);
    now->expire_htaccess =
        by_htaccess(merged, offsetof(tus_settings_t, expire)) || (engine && !now->expire);
    now->keeps_expiration =
        now->allow_expire && tus_config_extensions(&merged->server) & TUS_EXT_EXPIRATION;
}

/* One that is merged once more is in it twice, and says the same again. */
static const apr_array_header_t *join_sections(const apr_array_header_t *base,
                                               const apr_array_header_t *add, apr_pool_t *p)
{
    if (!base || !add) {
        return base ? base : add;
    }
    return apr_array_append(p, base, add);
}

void *tus_config_merge(apr_pool_t *p, void *base, void *add)
{
    config_t *merged = apr_pmemdup(p, base, sizeof *merged);
    const command_rec *command;

    for (command = tus_config_commands; command->name; command++) {
        if (command->cmd_data) {
            merge_row(merged, add, command->cmd_data, bit_of(command), p);
        }
    }
    merged->now.sections =
        join_sections(merged->now.sections, ((const config_t *)add)->now.sections, p);
    judge_htaccess(merged);
    return merged;
}

const tus_settings_t *tus_config_of(const request_rec *r)
{
    return tus_config_settings(ap_get_module_config(r->per_dir_config, &tus_module));
}

const tus_settings_t *tus_config_settings(const void *section)
{
    return &((const config_t *)section)->now;
}

apr_off_t tus_config_max_size(const tus_settings_t *settings)
{
    apr_off_t ceiling = settings->max_size_htaccess ? settings->allow_max_size : 0;

    if (ceiling && (!settings->max_size || settings->max_size > ceiling)) {
        return ceiling;
    }
    return settings->max_size;
}

apr_interval_time_t tus_config_expire(const tus_settings_t *settings)
{
    apr_interval_time_t ceiling = settings->expire_htaccess ? settings->allow_expire : 0;

    if (ceiling && (!settings->expire || settings->expire > ceiling)) {
        return ceiling;
    }
    return settings->expire;
}

unsigned tus_config_extensions(const tus_settings_t *settings)
{
    static const struct {
        unsigned extension;
        unsigned extends;
    } needs[] = {
        { TUS_EXT_CREATION_WITH_UPLOAD, TUS_EXT_CREATION },
        { TUS_EXT_CREATION_DEFER_LENGTH, TUS_EXT_CREATION },
        { TUS_EXT_CONCATENATION, TUS_EXT_CREATION },
        { TUS_EXT_CONCATENATION_UNFINISHED, TUS_EXT_CONCATENATION },
        { TUS_EXT_CHECKSUM_TRAILER, TUS_EXT_CHECKSUM },
    };
    const tus_choice_t *choice = &settings->extensions;
    unsigned offered = choice->absolute ? choice->on : TUS_EXT_ALL & ~choice->off;
    unsigned i;

    if (settings->keeps_expiration) {
        offered |= TUS_EXT_EXPIRATION;
    }
    for (i = 0; i < sizeof needs / sizeof *needs; i++) {
        if (!(offered & needs[i].extends)) {
            offered &= ~needs[i].extension;
        }
    }
    return offered;
}

/* ---- the server as a whole ----------------------------------------------- */

const char *tus_config_state_dir(server_rec *s)
{
    (void)s;
    return state_dir;
}

const apr_array_header_t *tus_config_stores(void)
{
    return stores;
}

const apr_array_header_t *tus_config_hooks(void)
{
    return hooks;
}

const apr_array_header_t *tus_config_sections(void)
{
    return sections;
}

void tus_config_reset(apr_pool_t *pconf)
{
    sections = apr_array_make(pconf, 4, sizeof(tus_section_t *));
    hooks = apr_array_make(pconf, 4, sizeof(tus_said_hook_t));
    stores = apr_array_make(pconf, 4, sizeof(tus_store_spec_t));
    state_dir = TUS_STATE_DIR_DEFAULT;
}
