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

#include <ap_provider.h>
#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
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

/* Reads the arguments into the settings; NULL, or what is wrong with them. */
typedef const char *(*parse_fn)(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[]);

typedef struct row_t {
    apr_size_t offset; /* of the member in tus_settings_t */
    apr_size_t size;
    parse_fn parse;
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

static int in_htaccess(const cmd_parms *cmd)
{
    return cmd->pool == cmd->temp_pool;
}

/* ---- numbers ------------------------------------------------------------- */

typedef struct unit_t {
    const char *name;
    apr_int64_t factor;
} unit_t;

static const unit_t size_units[] = {
    { "", 1 },
    { "K", APR_INT64_C(1) << 10 },
    { "M", APR_INT64_C(1) << 20 },
    { "G", APR_INT64_C(1) << 30 },
    { "T", APR_INT64_C(1) << 40 },
    { NULL, 0 },
};

static const unit_t duration_units[] = {
    { "", APR_USEC_PER_SEC },
    { "ms", 1000 },
    { "s", APR_USEC_PER_SEC },
    { "mi", 60 * APR_USEC_PER_SEC },
    { "h", 3600 * APR_USEC_PER_SEC },
    { "d", 86400 * APR_USEC_PER_SEC },
    { "w", 7 * 86400 * APR_USEC_PER_SEC },
    { NULL, 0 },
};

/* Digits and one of the units; stricter than ap_timeout_parameter_parse(), and it knows days. */
static const char *parse_number(cmd_parms *cmd, const char *arg, const unit_t *unit,
                                apr_int64_t *number)
{
    char *end;
    apr_int64_t n;

    if (!apr_isdigit(*arg)) {
        return apr_psprintf(cmd->pool, "'%s' does not start with a digit", arg);
    }
    errno = 0;
    n = apr_strtoi64(arg, &end, 10);
    if (errno) {
        return apr_psprintf(cmd->pool, "'%s' is too large", arg);
    }
    while (unit->name && ap_cstr_casecmp(end, unit->name)) {
        unit++;
    }
    if (!unit->name) {
        return apr_psprintf(cmd->pool, "'%s' is no unit", end);
    }
    if (n > APR_INT64_MAX / unit->factor) {
        return apr_psprintf(cmd->pool, "'%s' is too large", arg);
    }
    *number = n * unit->factor;
    return NULL;
}

static const char *parse_max_size(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return parse_number(cmd, argv[0], size_units, &to->max_size);
}

static const char *parse_allow_max_size(cmd_parms *cmd, tus_settings_t *to, int argc,
                                        char *const argv[])
{
    (void)argc;
    return parse_number(cmd, argv[0], size_units, &to->allow_max_size);
}

static const char *parse_lock_timeout(cmd_parms *cmd, tus_settings_t *to, int argc,
                                      char *const argv[])
{
    const char *wrong = parse_number(cmd, argv[0], duration_units, &to->lock_timeout);

    (void)argc;
    if (wrong) {
        return wrong;
    }
    if (to->lock_timeout < 1000 || to->lock_timeout > 86400 * APR_USEC_PER_SEC) {
        return apr_psprintf(cmd->pool, "'%s' is not from 1ms to 1d", argv[0]);
    }
    return NULL;
}

static const char *parse_file_mode(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const char *arg = argv[0];
    apr_size_t len = strlen(arg);
    int mode;

    (void)argc;
    if (len < 3 || len > 4 || strspn(arg, "01234567") != len) {
        return apr_psprintf(cmd->pool, "'%s' is not three or four octal digits", arg);
    }
    mode = (int)strtol(arg, NULL, 8);
    if (mode & ~0666) {
        return apr_psprintf(cmd->pool, "'%s' has more than read and write bits; uploads are data",
                            arg);
    }
    if ((mode & 0600) != 0600) {
        return apr_psprintf(cmd->pool, "'%s' does not let the owner read and write, which is us",
                            arg);
    }
    /* APR has a hex digit where the system has an octal one. */
    to->file_mode = ((mode & 0700) << 2) | ((mode & 070) << 1) | (mode & 07);
    return NULL;
}

/* ---- words and URLs ------------------------------------------------------ */

static const char *parse_sync(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    static const char *const words[] = {
        [TUS_SYNC_NONE] = "none",
        [TUS_SYNC_FINISH] = "finish",
        [TUS_SYNC_ALWAYS] = "always",
    };
    unsigned i;

    (void)argc;
    for (i = 0; i < sizeof words / sizeof *words; i++) {
        if (!ap_cstr_casecmp(argv[0], words[i])) {
            to->sync = (tus_sync_e)i;
            return NULL;
        }
    }
    return apr_psprintf(cmd->pool, "there is no '%s'", argv[0]);
}

/* Nonzero for characters that RFC 3986 has in a path, with all % escapes whole. */
static int is_url_text(const char *s)
{
    for (; *s; s++) {
        if (*s == '%' && !(apr_isxdigit(s[1]) && apr_isxdigit(s[2]))) {
            return 0;
        }
        if (!apr_isalnum(*s) && !strchr("-._~%:/@!$&'()*+,;=[]", *s)) {
            return 0;
        }
    }
    return 1;
}

static const char *parse_base_url(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const char *url = argv[0];
    apr_uri_t uri;

    (void)argc;
    if (!is_url_text(url)) {
        return apr_psprintf(
            cmd->pool, "'%s' has a query, a fragment or characters that must be %%-escaped", url);
    }
    if (apr_uri_parse(cmd->pool, url, &uri) != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "'%s' is no URL", url);
    }
    /* A browser takes "//name/" for a host, not for a path. */
    if (url[0] != '/' || url[1] == '/') {
        if (!uri.scheme
            || (ap_cstr_casecmp(uri.scheme, "http") && ap_cstr_casecmp(uri.scheme, "https"))
            || !uri.hostname || !*uri.hostname) {
            return apr_psprintf(cmd->pool, "'%s' is neither a path nor an http(s) URL", url);
        }
        if (uri.user) {
            return apr_psprintf(cmd->pool, "'%s' has a user in it, which every client would see",
                                url);
        }
    }
    to->base_url = url[strlen(url) - 1] == '/' ? apr_pstrdup(cmd->pool, url)
                                               : apr_pstrcat(cmd->pool, url, "/", NULL);
    return NULL;
}

/* ---- scopes -------------------------------------------------------------- */

typedef struct section_t {
    const char *name;
    int is_location;
    int is_pattern;
} section_t;

static const section_t sections[] = {
    { "<Location", 1, 0 },
    { "<LocationMatch", 1, 1 },
    { "<Directory", 0, 0 },
    { "<DirectoryMatch", 0, 1 },
    /* Inside these cmd->path is no place at all. */
    { "<Files", 0, 1 },
    { "<FilesMatch", 0, 1 },
    { "<If", 0, 1 },
    { "<ElseIf", 0, 1 },
    { "<Else", 0, 1 },
    { NULL, 0, 0 },
};

static const section_t *section_of(const ap_directive_t *directive)
{
    const section_t *section;

    for (section = sections; section->name; section++) {
        if (!ap_cstr_casecmp(directive->directive, section->name)) {
            return section;
        }
    }
    return NULL;
}

/* The scope that a directive stands in. A section within a section counts as a pattern. */
static void find_scope(const cmd_parms *cmd, tus_engine_t *engine)
{
    const ap_directive_t *parent = cmd->directive->parent;
    const section_t *section = NULL;

    engine->scope = cmd->path ? apr_pstrdup(cmd->pool, cmd->path) : NULL;
    engine->is_location = 0;
    engine->is_pattern = 0;
    while (parent && !(section = section_of(parent))) {
        parent = parent->parent;
    }
    if (!section) {
        return;
    }
    engine->is_location = section->is_location;
    engine->is_pattern = section->is_pattern || apr_fnmatch_test(cmd->path);
    if (!section->is_pattern) {
        const char *args = parent->args;

        engine->is_pattern |= !strcmp(ap_getword_conf(cmd->temp_pool, &args), "~");
    }
}

/* The directory of the .htaccess being read, without a slash at its end. */
static const char *htaccess_dir(const cmd_parms *cmd)
{
    const char *file = cmd->directive->filename;
    const char *slash = strrchr(file, '/');

    return slash && slash > file ? apr_pstrmemdup(cmd->pool, file, slash - file) : "/";
}

static const char *parse_engine(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    to->engine.on = !ap_cstr_casecmp(argv[0], "On");
    if (!to->engine.on && ap_cstr_casecmp(argv[0], "Off")) {
        return apr_psprintf(cmd->pool, "there is no '%s'", argv[0]);
    }
    find_scope(cmd, &to->engine);
    return NULL;
}

/* ---- paths --------------------------------------------------------------- */

/*
 * What of `path` follows `dir`, both without a slash at their end: "" if they are
 * the same, else the path relative to it; NULL if it lies elsewhere.
 */
static const char *beneath(const char *dir, const char *path)
{
    apr_size_t len = strlen(dir);

    if (len == 1) {
        len = 0; /* "/" */
    }
    if (strncmp(dir, path, len) || (path[len] && path[len] != '/')) {
        return NULL;
    }
    return path[len] ? path + len + 1 : path + len;
}

/* The same, with all symbolic links resolved as far as both exist. */
static const char *beneath_resolved(const char *dir, const char *path)
{
    char real_dir[PATH_MAX];
    char real_path[PATH_MAX];

    return realpath(dir, real_dir) && realpath(path, real_path) ? beneath(real_dir, real_path)
                                                                : NULL;
}

static apr_size_t length_without_slash(const char *path)
{
    apr_size_t len = strlen(path);

    return len > 1 && path[len - 1] == '/' ? len - 1 : len;
}

/* An absolute path of the administrator's, made canonical without following links. */
static const char *parse_absolute(cmd_parms *cmd, const char *arg, const char **path)
{
    char *merged;

    if (*arg != '/') {
        return apr_psprintf(cmd->pool, "'%s' is not absolute; with ServerRoot it would be '%s'",
                            arg, ap_server_root_relative(cmd->temp_pool, arg));
    }
    if (apr_filepath_merge(&merged, "/", arg, 0, cmd->pool) != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "'%s' is no path", arg);
    }
    merged[length_without_slash(merged)] = '\0';
    if (!merged[1]) {
        return apr_psprintf(cmd->pool, "'%s' is the whole file system", arg);
    }
    *path = merged;
    return NULL;
}

/* Nonzero if a segment is `..`. */
static int goes_up(const char *path)
{
    const char *segment = path;

    for (;;) {
        apr_size_t len = strcspn(segment, "/");

        if (len == 2 && !strncmp(segment, "..", 2)) {
            return 1;
        }
        if (!segment[len]) {
            return 0;
        }
        segment += len + 1;
    }
}

/* An .htaccess's path, absolute or from its own directory; which is noted, as it could be swapped.
 */
static const char *parse_htaccess_path(cmd_parms *cmd, const char *arg, tus_store_spec_t *spec)
{
    char *path;
    apr_finfo_t finfo;
    apr_status_t rv;

    if (goes_up(arg)) {
        return apr_psprintf(cmd->pool, "'%s' has '..' in it; write the path without", arg);
    }
    spec->htaccess = htaccess_dir(cmd);
    rv = apr_stat(&finfo, spec->htaccess, APR_FINFO_IDENT, cmd->temp_pool);
    if (rv != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "%s cannot be examined: %pm", spec->htaccess, &rv);
    }
    if (apr_filepath_merge(&path, spec->htaccess, arg, 0, cmd->pool) != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "'%s' is no path", arg);
    }
    path[length_without_slash(path)] = '\0';
    spec->path = path;
    spec->htaccess_device = finfo.device;
    spec->htaccess_inode = finfo.inode;
    return NULL;
}

/* The directory that an endpoint said here would be in, or NULL: none, or not known yet. */
static const char *directory_of(const cmd_parms *cmd)
{
    tus_engine_t here;

    if (in_htaccess(cmd)) {
        return htaccess_dir(cmd);
    }
    find_scope(cmd, &here);
    if (!here.scope || here.is_location || here.is_pattern) {
        return NULL;
    }
    return apr_pstrmemdup(cmd->temp_pool, here.scope, length_without_slash(here.scope));
}

static const char *known_stores(apr_pool_t *p)
{
    const apr_array_header_t *names =
        ap_list_provider_names(p, TUS_STORE_GROUP, TUS_PROVIDER_VERSION);
    const char *list = "";
    int i;

    for (i = 0; i < names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(names, i, ap_list_provider_names_t).provider_name;

        list = apr_pstrcat(p, list, i ? ", " : "", name, NULL);
    }
    return list;
}

static const char *parse_store(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    tus_store_spec_t spec = { 0 };
    const char *directory = directory_of(cmd);
    const char *wrong;

    (void)argc;
    spec.provider = ap_lookup_provider(TUS_STORE_GROUP, argv[0], TUS_PROVIDER_VERSION);
    if (!spec.provider) {
        return apr_psprintf(cmd->pool, "there is no store '%s'; known are: %s", argv[0],
                            known_stores(cmd->temp_pool));
    }
    wrong = in_htaccess(cmd) ? parse_htaccess_path(cmd, argv[1], &spec)
                             : parse_absolute(cmd, argv[1], &spec.path);
    if (wrong) {
        return wrong;
    }
    if (directory && (beneath(spec.path, directory) || beneath_resolved(spec.path, directory))) {
        return apr_psprintf(cmd->pool,
                            "%s is or contains the directory %s that it is said for; take one "
                            "below it or elsewhere",
                            spec.path, directory);
    }
    spec.where =
        apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename, cmd->directive->line_num);
    to->store = spec;
    if (!spec.htaccess) {
        APR_ARRAY_PUSH(stores, tus_store_spec_t) = spec;
    }
    return NULL;
}

static const char *parse_allow_store(cmd_parms *cmd, tus_settings_t *to, int argc,
                                     char *const argv[])
{
    apr_array_header_t *dirs = apr_array_make(cmd->pool, argc, sizeof(const char *));
    int i;

    to->allow_store = dirs;
    if (argc == 1 && !ap_cstr_casecmp(argv[0], "none")) {
        return NULL;
    }
    for (i = 0; i < argc; i++) {
        const char *wrong = parse_absolute(cmd, argv[i], &APR_ARRAY_PUSH(dirs, const char *));

        if (wrong) {
            return wrong;
        }
    }
    return NULL;
}

/* ---- metadata ------------------------------------------------------------ */

static const char *parse_metadata(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    char *driver;
    char *name = apr_strtok(apr_pstrdup(cmd->pool, argv[0]), ":", &driver);

    (void)argc;
    to->meta.provider =
        name ? ap_lookup_provider(TUS_META_GROUP, name, TUS_PROVIDER_VERSION) : NULL;
    if (!to->meta.provider) {
        return apr_psprintf(cmd->pool, "there is no metadata '%s'", argv[0]);
    }
    to->meta.driver = strchr(argv[0], ':') ? driver : NULL;
    return to->meta.provider->check(to->meta.driver, cmd->pool);
}

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
    if (in_htaccess(cmd) && !(cmd->cmd->req_override & OR_FILEINFO)) {
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
    if (!in_htaccess(cmd)) {
        copy(row, &config->server, &value);
        config->said |= bit;
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
    wrong = parse_absolute(cmd, argv[0], &state_dir);
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
    SETTING("TusEngine", engine, parse_engine, 1, IN_HTACCESS, "On|Off|default"),
    SETTING("TusStore", store, parse_store, 2, IN_HTACCESS, "file PATH, or default"),
    SETTING("TusMetadata", meta, parse_metadata, 1, IN_DIRECTORY,
            "dbm, dbm:DRIVER or default; DRIVER is sdbm, gdbm or db"),
    SETTING("TusMaxSize", max_size, parse_max_size, 1, IN_HTACCESS,
            "N[K|M|G|T] in bytes, 0 for no limit, or default"),
    SETTING("TusAllowMaxSize", allow_max_size, parse_allow_max_size, 1, IN_DIRECTORY,
            "N[K|M|G|T] in bytes, 0 for no limit, or default"),
    SETTING("TusBaseURL", base_url, parse_base_url, 1, IN_HTACCESS,
            "/PATH/, http://HOST/PATH/, https://HOST/PATH/ or default"),
    SETTING("TusSync", sync, parse_sync, 1, IN_HTACCESS, "none|finish|always|default"),
    SETTING("TusFileMode", file_mode, parse_file_mode, 1, IN_HTACCESS,
            "OCTAL, such as 0660 or 0600, or default"),
    SETTING("TusLockTimeout", lock_timeout, parse_lock_timeout, 1, IN_DIRECTORY,
            "N[ms|s|mi|h|d], from 1ms to 1d, or default"),
    SETTING("TusAllowStore", allow_store, parse_allow_store, 0, IN_DIRECTORY,
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

/* ---- where a store may lie ----------------------------------------------- */

/* The innermost directory of TusAllowStore that the path lies in, or NULL. */
static const char *allowed_root(const apr_array_header_t *dirs, const char *path)
{
    const char *best = NULL;
    int i;

    for (i = 0; i < dirs->nelts; i++) {
        const char *dir = APR_ARRAY_IDX(dirs, i, const char *);

        if (beneath(dir, path) && (!best || beneath(best, dir))) {
            best = dir;
        }
    }
    return best;
}

static int place_htaccess(const tus_settings_t *settings, tus_place_t *place, const char **why,
                          apr_pool_t *p)
{
    const tus_store_spec_t *store = &settings->store;

    if (settings->allow_store) {
        place->root = allowed_root(settings->allow_store, store->path);
    }
    else if (beneath(store->htaccess, store->path)) {
        place->root = store->htaccess;
        place->root_device = store->htaccess_device;
        place->root_inode = store->htaccess_inode;
    }
    if (!place->root) {
        *why = apr_psprintf(p,
                            "TusStore %s (%s) is not allowed: it must lie beneath %s; see "
                            "TusAllowStore",
                            store->path, store->where,
                            !settings->allow_store ? store->htaccess
                            : settings->allow_store->nelts
                                ? apr_array_pstrcat(p, settings->allow_store, ' ')
                                : "none at all, as .htaccess files may have no store here");
        return 0;
    }
    place->path = beneath(place->root, store->path);
    if (!*place->path) {
        place->path = "."; /* the root itself */
    }
    return 1;
}

/* A <Directory> whose store was said elsewhere, so that parse_store() could not compare them. */
static int contains_endpoint(const tus_settings_t *settings, apr_pool_t *p)
{
    const tus_engine_t *engine = &settings->engine;

    return engine->scope && !engine->is_location && !engine->is_pattern
           && beneath(settings->store.path,
                      apr_pstrmemdup(p, engine->scope, length_without_slash(engine->scope)));
}

int tus_config_place(const tus_settings_t *settings, tus_place_t *place, const char **why,
                     apr_pool_t *p)
{
    const tus_store_spec_t *store = &settings->store;

    memset(place, 0, sizeof *place);
    if (!store->provider) {
        *why = "TusEngine is On, but there is no TusStore; add one, such as: TusStore file "
               "/srv/uploads";
        return 0;
    }
    if (contains_endpoint(settings, p)) {
        *why = apr_psprintf(p, "TusStore %s (%s) is or contains the endpoint's directory %s",
                            store->path, store->where, settings->engine.scope);
        return 0;
    }
    if (store->htaccess) {
        return place_htaccess(settings, place, why, p);
    }
    place->path = store->path;
    return 1;
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
