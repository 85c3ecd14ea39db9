/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The arguments of the directives: text in, a member of tus_settings_t out, or
 * what is wrong with it. What can be judged without a request is judged here.
 */
#include "tus_httpd.h"

#include <ap_provider.h>
#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int tus_parse_is_htaccess(const cmd_parms *cmd)
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

const char *tus_parse_max_size(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return parse_number(cmd, argv[0], size_units, &to->max_size);
}

const char *tus_parse_allow_max_size(cmd_parms *cmd, tus_settings_t *to, int argc,
                                     char *const argv[])
{
    (void)argc;
    return parse_number(cmd, argv[0], size_units, &to->allow_max_size);
}

const char *tus_parse_lock_timeout(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
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

const char *tus_parse_file_mode(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
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

const char *tus_parse_sync(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
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

const char *tus_parse_base_url(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
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

/* The innermost section that a directive stands in, or NULL. */
static const ap_directive_t *enclosing(const ap_directive_t *directive)
{
    const ap_directive_t *parent = directive->parent;

    while (parent && !section_of(parent)) {
        parent = parent->parent;
    }
    return parent;
}

/* The scope that a directive stands in. A section within a section counts as a pattern. */
static void find_scope(const cmd_parms *cmd, tus_engine_t *engine)
{
    const ap_directive_t *parent = enclosing(cmd->directive);
    const section_t *section;

    engine->scope = cmd->path ? tus_path_trim(apr_pstrdup(cmd->pool, cmd->path), cmd->pool) : NULL;
    engine->is_location = 0;
    engine->is_pattern = 0;
    if (!parent) {
        return;
    }
    section = section_of(parent);
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

/* Nonzero if the .htaccess that is being read is the one in this directory. */
static int is_read_from(const cmd_parms *cmd, int dir)
{
    const char *name = cmd->directive->filename;
    apr_file_t *file = cmd->config_file ? cmd->config_file->param : NULL;
    struct stat found;
    apr_finfo_t read;

    /* A macro has another name, and no file. */
    if (!file || strcmp(cmd->config_file->name, name) != 0 || !strchr(name, '/')) {
        return 0;
    }
    return apr_file_info_get(&read, APR_FINFO_IDENT, file) == APR_SUCCESS
           && fstatat(dir, strrchr(name, '/') + 1, &found, 0) == 0 && found.st_dev == read.device
           && found.st_ino == read.inode;
}

/*
 * What the directory of the .htaccess is, so that TusStore holds for that one
 * only. It is asked by its handle and for the very file that is being read: while
 * a long .htaccess is parsed, its owner may put another's directory in its place.
 */
static const char *identify_htaccess(const cmd_parms *cmd, tus_store_spec_t *spec)
{
    const char *wrong = NULL;
    struct stat st;
    int dir = open(spec->htaccess, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0) {
        apr_status_t rv = errno;

        return apr_psprintf(cmd->pool, "%s cannot be examined: %pm", spec->htaccess, &rv);
    }
    if (fstat(dir, &st) != 0 || !is_read_from(cmd, dir)) {
        wrong = apr_psprintf(cmd->pool, "%s was replaced while this was read", spec->htaccess);
    }
    close(dir);
    spec->htaccess_device = st.st_dev;
    spec->htaccess_inode = st.st_ino;
    return wrong;
}

const char *tus_parse_engine(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
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

/* tus_path_beneath() with all symbolic links resolved, where both exist. */
static const char *beneath_resolved(const char *dir, const char *path)
{
    char real_dir[PATH_MAX];
    char real_path[PATH_MAX];

    return realpath(dir, real_dir) && realpath(path, real_path)
               ? tus_path_beneath(real_dir, real_path)
               : NULL;
}

/* An absolute path of the administrator's, made canonical without following links. */
const char *tus_parse_absolute(cmd_parms *cmd, const char *arg, const char **path)
{
    char *merged;

    if (*arg != '/') {
        return apr_psprintf(cmd->pool, "'%s' is not absolute; with ServerRoot it would be '%s'",
                            arg, ap_server_root_relative(cmd->temp_pool, arg));
    }
    if (apr_filepath_merge(&merged, "/", arg, 0, cmd->pool) != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "'%s' is no path", arg);
    }
    *path = tus_path_trim(merged, cmd->pool);
    if (!(*path)[1]) {
        return apr_psprintf(cmd->pool, "'%s' is the whole file system", arg);
    }
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
    const char *wrong;
    char *path;

    if (enclosing(cmd->directive)) { /* of other requests it would be no store, and be served */
        return "in an .htaccess it holds for the whole directory, so say it outside of any section";
    }
    if (goes_up(arg)) {
        return apr_psprintf(cmd->pool, "'%s' has '..' in it; write the path without", arg);
    }
    spec->htaccess = htaccess_dir(cmd);
    wrong = identify_htaccess(cmd, spec);
    if (wrong) {
        return wrong;
    }
    if (apr_filepath_merge(&path, spec->htaccess, arg, 0, cmd->pool) != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "'%s' is no path", arg);
    }
    spec->path = tus_path_trim(path, cmd->pool);
    return NULL;
}

/* The directory that an endpoint said here would be in, or NULL: none, or not known yet. */
static const char *directory_of(const cmd_parms *cmd)
{
    tus_engine_t here;

    if (tus_parse_is_htaccess(cmd)) {
        return htaccess_dir(cmd);
    }
    find_scope(cmd, &here);
    if (!here.scope || here.is_location || here.is_pattern) {
        return NULL;
    }
    return here.scope;
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

const char *tus_parse_store(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
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
    wrong = tus_parse_is_htaccess(cmd) ? parse_htaccess_path(cmd, argv[1], &spec)
                                       : tus_parse_absolute(cmd, argv[1], &spec.path);
    if (wrong) {
        return wrong;
    }
    if (directory
        && (tus_path_beneath(spec.path, directory) || beneath_resolved(spec.path, directory))) {
        return apr_psprintf(cmd->pool,
                            "%s is or contains the directory %s that it is said for; take one "
                            "below it or elsewhere",
                            spec.path, directory);
    }
    spec.where =
        apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename, cmd->directive->line_num);
    to->store = spec;
    return NULL;
}

const char *tus_parse_allow_store(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    apr_array_header_t *dirs = apr_array_make(cmd->pool, argc, sizeof(const char *));
    int i;

    to->allow_store = dirs;
    if (argc == 1 && !ap_cstr_casecmp(argv[0], "none")) {
        return NULL;
    }
    for (i = 0; i < argc; i++) {
        const char *wrong = tus_parse_absolute(cmd, argv[i], &APR_ARRAY_PUSH(dirs, const char *));

        if (wrong) {
            return wrong;
        }
    }
    return NULL;
}

/* ---- metadata ------------------------------------------------------------ */

const char *tus_parse_metadata(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
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
