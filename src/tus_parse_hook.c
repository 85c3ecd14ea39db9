/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The arguments that say which hooks are called, when, and how. Each TusHook is
 * one more hook; what an .htaccess says is a stranger's word, and TusAllowHook is
 * asked at each call, not here.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <string.h>

#define MSEC APR_INT64_C(1000)
#define MINUTE (60 * APR_USEC_PER_SEC)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define RETRIES_MAX 100

/* What httpd reads a secret from, and the most that it may be, in bytes. */
#define FILE_PREFIX "file:"
#define EXEC_PREFIX "exec:"
#define SECRET_MAX 1024

/* ---- TusHook -------------------------------------------------------------- */

static const char *known_events(apr_pool_t *p)
{
    const char *list = tus_hook_name((tus_hook_e)0);

    for (int i = 1; i < TUS_HOOK_COUNT; i++) {
        list = apr_pstrcat(p, list, ", ", tus_hook_name((tus_hook_e)i), NULL);
    }
    return list;
}

static const char *parse_events(cmd_parms *cmd, int argc, char *const argv[], unsigned *events)
{
    *events = argc ? 0 : TUS_HOOK_DEFAULT;
    for (int i = 0; i < argc; i++) {
        tus_hook_e type = tus_hook_named(argv[i]);

        if (type == TUS_HOOK_COUNT) {
            return apr_psprintf(cmd->pool, "'%s' is no event; known are: %s", argv[i],
                                known_events(cmd->temp_pool));
        }
        *events |= TUS_HOOK_BIT(type);
    }
    return NULL;
}

static const char *parse_hook(cmd_parms *cmd, tus_hook_spec_t *spec, int argc, char *const argv[])
{
    const char *wrong = tus_target_parse(&spec->target, argv[0], cmd->pool);

    if (wrong) {
        return apr_psprintf(cmd->pool, "'%s' is no URL of a hook: %s", argv[0], wrong);
    }
    spec->text = apr_pstrdup(cmd->pool, argv[0]);
    spec->scope = tus_parse_scope(cmd);
    spec->htaccess = tus_parse_is_htaccess(cmd) ? spec->scope : NULL;
    spec->where =
        apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename, cmd->directive->line_num);
    return parse_events(cmd, argc - 1, argv + 1, &spec->events);
}

const char *tus_parse_hook(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    apr_array_header_t *list = apr_array_make(cmd->pool, 1, sizeof(tus_hook_spec_t *));
    tus_hook_spec_t *spec = apr_pcalloc(cmd->pool, sizeof(*spec));

    to->hooks = (tus_hooks_t){ .list = list };
    if (argc == 1 && !ap_cstr_casecmp(argv[0], "none")) {
        to->hooks.drops = !tus_parse_is_htaccess(cmd);
        to->hooks.drops_htaccess = 1;
        return NULL;
    }
    APR_ARRAY_PUSH(list, tus_hook_spec_t *) = spec;
    return parse_hook(cmd, spec, argc, argv);
}

/* `none` of an .htaccess cannot take away what the administrator's files say. */
static apr_array_header_t *keep(const tus_hooks_t *hooks, const tus_hooks_t *change, apr_pool_t *p)
{
    int n = hooks->list ? hooks->list->nelts : 0;
    apr_array_header_t *kept = apr_array_make(p, n + 1, sizeof(tus_hook_spec_t *));

    for (int i = 0; i < n; i++) {
        tus_hook_spec_t *spec = APR_ARRAY_IDX(hooks->list, i, tus_hook_spec_t *);

        if (!(spec->htaccess ? change->drops_htaccess : change->drops)) {
            APR_ARRAY_PUSH(kept, tus_hook_spec_t *) = spec;
        }
    }
    return kept;
}

/* What was merged already may be merged once more; a hook is said once for all that. */
static void add_once(apr_array_header_t *list, tus_hook_spec_t *spec)
{
    for (int i = 0; i < list->nelts; i++) {
        if (APR_ARRAY_IDX(list, i, tus_hook_spec_t *) == spec) {
            return;
        }
    }
    APR_ARRAY_PUSH(list, tus_hook_spec_t *) = spec;
}

void tus_parse_join_hooks(void *to, const void *add, apr_pool_t *p)
{
    tus_hooks_t *hooks = to;
    const tus_hooks_t *change = add;
    apr_array_header_t *list = keep(hooks, change, p);

    for (int i = 0; change->list && i < change->list->nelts; i++) {
        add_once(list, APR_ARRAY_IDX(change->list, i, tus_hook_spec_t *));
    }
    hooks->list = list;
    hooks->drops |= change->drops;
    hooks->drops_htaccess |= change->drops_htaccess;
}

/* ---- how a hook is called --------------------------------------------------- */

const char *tus_parse_hook_timeout(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    if (tus_parse_is_htaccess(cmd)) { /* its calls take places that others need too */
        return tus_parse_duration(cmd, argv[0], MSEC, MINUTE, "from 1ms to 1mi in an .htaccess",
                                  &to->hook_timeout);
    }
    return tus_parse_duration(cmd, argv[0], MSEC, HOUR, "from 1ms to 1h", &to->hook_timeout);
}

const char *tus_parse_hook_interval(cmd_parms *cmd, tus_settings_t *to, int argc,
                                    char *const argv[])
{
    (void)argc;
    return tus_parse_duration(cmd, argv[0], 10 * MSEC, HOUR, "from 10ms to 1h", &to->hook_interval);
}

const char *tus_parse_hook_max_age(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return tus_parse_duration(cmd, argv[0], APR_USEC_PER_SEC, 3650 * DAY, "from 1s to 3650d",
                              &to->hook_max_age);
}

const char *tus_parse_hook_retry(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    apr_off_t retries;

    if (argc > 2) {
        return "there are more than two arguments";
    }
    if (tus_header_integer(argv[0], &retries) != APR_SUCCESS || retries > RETRIES_MAX) {
        return apr_psprintf(cmd->pool, "'%s' is not a number from 0 to %d", argv[0], RETRIES_MAX);
    }
    to->hook_retry.times = (int)retries;
    return argc == 1 ? NULL
                     : tus_parse_duration(cmd, argv[1], MSEC, HOUR, "from 1ms to 1h",
                                          &to->hook_retry.backoff);
}

/* Of the client's connection they say nothing about ours. */
static int is_of_the_call(const char *name)
{
    static const char *const names[] = {
        "Connection", "Content-Length", "Content-Type",      "Expect",  "Host", "Keep-Alive",
        "TE",         "Trailer",        "Transfer-Encoding", "Upgrade", NULL,
    };
    int i = 0;

    while (names[i] && ap_cstr_casecmp(name, names[i])) {
        i++;
    }
    return names[i] || !ap_cstr_casecmpn(name, "webhook-", strlen("webhook-"));
}

const char *tus_parse_hook_forward(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    apr_array_header_t *names = apr_array_make(cmd->pool, argc, sizeof(const char *));

    to->hook_forward = names;
    if (argc == 1 && !ap_cstr_casecmp(argv[0], "none")) {
        return NULL;
    }
    for (int i = 0; i < argc; i++) {
        if (!*argv[i] || *ap_scan_http_token(argv[i])) {
            return apr_psprintf(cmd->pool, "'%s' is no name of a header field", argv[i]);
        }
        if (is_of_the_call(argv[i])) {
            return apr_psprintf(cmd->pool, "'%s' belongs to the call of the hook itself", argv[i]);
        }
        APR_ARRAY_PUSH(names, const char *) = apr_pstrdup(cmd->pool, argv[i]);
    }
    return NULL;
}

const char *tus_parse_hook_verify(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return tus_parse_flag(cmd, argv[0], &to->hook_verify);
}

/* ---- TusHookSecret ---------------------------------------------------------- */

/* The first line; read at start, before httpd gives up its rights. */
static const char *read_secret(cmd_parms *cmd, const char *arg, const char **secret)
{
    const char *path = ap_server_root_relative(cmd->temp_pool, arg);
    char line[SECRET_MAX + 2];
    ap_configfile_t *file;
    apr_status_t rv;

    if (!path) {
        return apr_psprintf(cmd->pool, "'%s' is no path", arg);
    }
    rv = ap_pcfg_openfile(&file, cmd->temp_pool, path);

    if (rv == APR_SUCCESS) {
        rv = ap_cfg_getline(line, sizeof(line), file);
        ap_cfg_closefile(file);
    }
    if (rv != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "%s cannot be read: %pm", path, &rv);
    }
    *secret = apr_pstrdup(cmd->pool, line);
    return NULL;
}

static const char *run_secret(cmd_parms *cmd, const char *command, const char **secret)
{
    char **argv;
    char *line = NULL;

    if (apr_tokenize_to_argv(command, &argv, cmd->temp_pool) == APR_SUCCESS && argv[0]) {
        line = ap_get_exec_line(cmd->pool, argv[0], (const char *const *)argv);
    }
    if (!line || !*line) {
        return apr_psprintf(cmd->pool, "'%s' cannot be run, or says nothing", command);
    }
    *secret = line;
    return NULL;
}

static const char *find_secret(cmd_parms *cmd, const char *arg, const char **secret)
{
    int is_file = !strncmp(arg, FILE_PREFIX, strlen(FILE_PREFIX));
    int is_exec = !strncmp(arg, EXEC_PREFIX, strlen(EXEC_PREFIX));

    if ((is_file || is_exec) && tus_parse_is_htaccess(cmd)) {
        return "in an .htaccess it can be given as a value only";
    }
    if (is_file) {
        return read_secret(cmd, arg + strlen(FILE_PREFIX), secret);
    }
    if (is_exec) {
        return run_secret(cmd, arg + strlen(EXEC_PREFIX), secret);
    }
    *secret = apr_pstrdup(cmd->pool, arg);
    return NULL;
}

static const char *parse_secret(cmd_parms *cmd, const char *arg, const char **secret)
{
    const char *wrong, *signature;

    if (!ap_cstr_casecmp(arg, "none")) {
        *secret = "";
        return NULL;
    }
    wrong = find_secret(cmd, arg, secret);
    if (wrong) {
        return wrong;
    }
    if (!**secret || strlen(*secret) > SECRET_MAX) {
        return "the secret is empty, or longer than 1024 bytes";
    }
    if (tus_sign(&signature, *secret, "", 0, "", 0, cmd->temp_pool) != APR_SUCCESS) {
        return "behind 'whsec_' a secret goes on in base64";
    }
    return NULL;
}

const char *tus_parse_hook_secret(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const char *secret, *wrong;

    if (argc != 1) {
        return "that is not the right number of arguments";
    }
    wrong = parse_secret(cmd, argv[0], &secret);
    if (wrong) {
        return wrong;
    }
    to->hook_secret = tus_parse_is_htaccess(cmd) ? (tus_secret_t){ .htaccess = secret }
                                                 : (tus_secret_t){ .server = secret };
    return NULL;
}

void tus_parse_join_secret(void *to, const void *add, apr_pool_t *p)
{
    tus_secret_t *secret = to;
    const tus_secret_t *more = add;

    (void)p;
    secret->server = more->server ? more->server : secret->server;
    secret->htaccess = more->htaccess ? more->htaccess : secret->htaccess;
}

/* ---- TusAllowHook ------------------------------------------------------------ */

const char *tus_parse_allow_hook(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    apr_array_header_t *prefixes = apr_array_make(cmd->pool, argc, sizeof(const char *));

    to->allow_hook = (tus_allow_hook_t){ .prefixes = prefixes };
    if (argc == 1 && !ap_cstr_casecmp(argv[0], "Off")) {
        return NULL;
    }
    for (int i = 0; i < argc; i++) {
        const char *wrong;

        if (!ap_cstr_casecmp(argv[i], "Local")) {
            to->allow_hook.local = 1;
            continue;
        }
        wrong = tus_target_check_prefix(argv[i]);
        if (wrong) {
            return apr_psprintf(cmd->pool,
                                "'%s' is neither Off nor Local, nor how a URL can begin: %s",
                                argv[i], wrong);
        }
        APR_ARRAY_PUSH(prefixes, const char *) = apr_pstrdup(cmd->pool, argv[i]);
    }
    return NULL;
}
