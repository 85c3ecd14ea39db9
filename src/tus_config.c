/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The directives, their merge, and what follows from them.
 *
 * tus_config_commands is the one table of all: a new directive is a row there,
 * a member of tus_settings_t and a parser. A scope keeps two sets of values:
 * what holds, and what would hold without any .htaccess; `default` in an
 * .htaccess goes back to the latter. httpd merges merged scopes with each
 * other before it merges them onto the server, so `default` is remembered
 * rather than carried out.
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

/* A scope. Bit n of a mask is row n of tus_config_commands. */
typedef struct config_t {
    tus_settings_t now;
    tus_settings_t server; /* without any .htaccess */
    unsigned said;         /* by the server's own files */
    unsigned htaccess;     /* `now` is what an .htaccess said */
    unsigned reset;        /* `now` is to be what `server` is, by an .htaccess's `default` */
} config_t;

typedef struct row_t {
    apr_size_t offset; /* of the member in tus_settings_t */
    apr_size_t size;
    tus_parse_fn parse;
    int argc; /* how many arguments, 0 for one or more */
} row_t;

static const tus_settings_t built_in = {
    .meta = { .provider = &tus_meta_dbm },
    .sync = TUS_SYNC_FINISH,
    .file_mode = APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD | APR_FPROT_GWRITE,
    .lock_timeout = 20 * APR_USEC_PER_SEC,
};

/* Of the server as a whole, since tus_config_reset(). */
static apr_array_header_t *stores;
static const char *state_dir = TUS_STATE_DIR_DEFAULT;

/* ---- the table ----------------------------------------------------------- */

static unsigned bit_of(const command_rec *command)
{
    return 1U << (command - tus_config_commands);
}

static void copy(const row_t *row, tus_settings_t *to, const tus_settings_t *from)
{
    memcpy((char *)to + row->offset, (const char *)from + row->offset, row->size);
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

/* The function of every row but TusStateDir. */
static const char *set(cmd_parms *cmd, void *dir_config, int argc, char *const argv[])
{
    config_t *config = dir_config;
    const row_t *row = cmd->info;
    unsigned bit = bit_of(cmd->cmd);
    int reset = is_reset(argc, argv);
    tus_settings_t value = built_in;
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

    copy(row, &config->now, &value);
    config->htaccess &= ~bit;
    config->reset &= ~bit;
    if (!tus_parse_is_htaccess(cmd)) {
        copy(row, &config->server, &value);
        config->said |= bit;
        remember_store(row, &value);
    }
    else if (reset) {
        config->reset |= bit;
    }
    else {
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

#define SETTING(name, member, parse, argc, context, syntax)                                        \
    AP_INIT_TAKE_ARGV(name, set,                                                                   \
                      (void *)&((row_t){ offsetof(tus_settings_t, member),                         \
                                         sizeof(((tus_settings_t *)0)->member), parse, argc }),    \
                      context, syntax)

const command_rec tus_config_commands[] = {
    SETTING("TusEngine", engine, tus_parse_engine, 1, IN_HTACCESS, "On|Off|default"),
    SETTING("TusStore", store, tus_parse_store, 2, IN_HTACCESS, "file PATH, or default"),
    SETTING("TusMetadata", meta, tus_parse_metadata, 1, IN_DIRECTORY,
            "dbm, dbm:DRIVER or default; DRIVER is sdbm, gdbm or db"),
    SETTING("TusMaxSize", max_size, tus_parse_max_size, 1, IN_HTACCESS,
            "N[K|M|G|T] in bytes, 0 for no limit, or default"),
    SETTING("TusAllowMaxSize", allow_max_size, tus_parse_allow_max_size, 1, IN_DIRECTORY,
            "N[K|M|G|T] in bytes, 0 for no limit, or default"),
    SETTING("TusBaseURL", base_url, tus_parse_base_url, 1, IN_HTACCESS,
            "/PATH/, http://HOST/PATH/, https://HOST/PATH/ or default"),
    SETTING("TusSync", sync, tus_parse_sync, 1, IN_HTACCESS, "none|finish|always|default"),
    SETTING("TusFileMode", file_mode, tus_parse_file_mode, 1, IN_HTACCESS,
            "OCTAL, three or four octal digits such as 0660, or default"),
    SETTING("TusLockTimeout", lock_timeout, tus_parse_lock_timeout, 1, IN_DIRECTORY,
            "N[ms|s|mi|h|d], from 1ms to 1d, or default"),
    SETTING("TusAllowStore", allow_store, tus_parse_allow_store, 0, IN_DIRECTORY,
            "DIR ... (absolute), none or default"),
    AP_INIT_TAKE_ARGV("TusStateDir", set_state_dir, NULL, IN_SERVER, "DIR (absolute), or default"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL },
};

_Static_assert(sizeof tus_config_commands / sizeof *tus_config_commands
                   <= sizeof(unsigned) * CHAR_BIT,
               "every row needs its bit in the masks of config_t");

/* ---- create, merge, read ------------------------------------------------- */

void *tus_config_create(apr_pool_t *p, char *dir)
{
    config_t *config = apr_pcalloc(p, sizeof *config);

    (void)dir;
    config->now = built_in;
    config->server = built_in;
    return config;
}

static void merge_row(config_t *merged, const config_t *add, const row_t *row, unsigned bit)
{
    if (add->said & bit) {
        copy(row, &merged->server, &add->server);
    }
    if (add->reset & bit) {
        copy(row, &merged->now, &merged->server);
    }
    else if ((add->said | add->htaccess) & bit) {
        copy(row, &merged->now, &add->now);
    }
    else {
        return;
    }
    merged->said |= add->said & bit;
    merged->htaccess = (merged->htaccess & ~bit) | (add->htaccess & bit);
    merged->reset = (merged->reset & ~bit) | (add->reset & bit);
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

void *tus_config_merge(apr_pool_t *p, void *base, void *add)
{
    config_t *merged = apr_pmemdup(p, base, sizeof *merged);
    const command_rec *command;

    for (command = tus_config_commands; command->name; command++) {
        if (command->cmd_data) {
            merge_row(merged, add, command->cmd_data, bit_of(command));
        }
    }
    /* Who switches the engine on and is silent about the size wants it unlimited. */
    merged->now.max_size_htaccess =
        by_htaccess(merged, offsetof(tus_settings_t, max_size))
        || (!merged->now.max_size && by_htaccess(merged, offsetof(tus_settings_t, engine)));
    return merged;
}

const tus_settings_t *tus_config_defaults(void)
{
    return &built_in;
}

const tus_settings_t *tus_config_of(const request_rec *r)
{
    const config_t *config = ap_get_module_config(r->per_dir_config, &tus_module);

    return &config->now;
}

apr_off_t tus_config_max_size(const tus_settings_t *settings)
{
    apr_off_t ceiling = settings->max_size_htaccess ? settings->allow_max_size : 0;

    if (ceiling && (!settings->max_size || settings->max_size > ceiling)) {
        return ceiling;
    }
    return settings->max_size;
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

void tus_config_reset(apr_pool_t *pconf)
{
    stores = apr_array_make(pconf, 4, sizeof(tus_store_spec_t));
    state_dir = TUS_STATE_DIR_DEFAULT;
}
