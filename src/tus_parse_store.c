/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The arguments that depend on where they stand: the scope of an endpoint, and
 * paths, which in an .htaccess are not the administrator's.
 */
#include "tus_httpd.h"

#include <ap_provider.h>
#include <apr_fnmatch.h>
#include <apr_strings.h>

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

const char *tus_parse_scope(const cmd_parms *cmd)
{
    tus_engine_t here;

    if (tus_parse_is_htaccess(cmd)) {
        return htaccess_dir(cmd);
    }
    find_scope(cmd, &here);
    return here.scope;
}

const char *tus_parse_section(const cmd_parms *cmd)
{
    const ap_directive_t *section = enclosing(cmd->directive);
    const char *text = "";

    for (; section; section = enclosing(section)) {
        text = apr_pstrcat(cmd->pool, section->directive, " ", section->args, text, NULL);
    }
    return text;
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
