/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which hooks there are, and what holds for each. An event that is told later
 * names its hook by a key; where that is, and how it is called, is looked up
 * when it is told: for the server's own files in the configuration as it is then,
 * for an .htaccess in TusStateDir, where its hooks are noted when an event is
 * spooled for them, and TusAllowHook has the last word on those.
 */
#include "tus_httpd.h"

#include <apr_fnmatch.h>
#include <apr_hash.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_main.h>

#include <string.h>

/* Of a key, the digits that say where its hook was said. */
#define SCOPE_DIGITS ((TUS_HOOK_KEY_SIZE - 1) / 2)

static apr_hash_t *table; /* key -> tus_hook_t */

static const char *name_of(server_rec *s, apr_pool_t *p)
{
    return apr_psprintf(p, "%s:%u", s->server_hostname ? s->server_hostname : "", s->port);
}

/* ---- of the server's own configuration -------------------------------------- */

/* Said for the server or virtual host itself it is in both; merged twice does no harm. */
static const tus_settings_t *settings_of(const tus_said_hook_t *said, apr_pool_t *p)
{
    void *base = ap_get_module_config(said->server->lookup_defaults, &tus_module);

    return tus_config_settings(tus_config_merge(p, base, said->section));
}

void tus_hook_table_init(apr_pool_t *pconf)
{
    const apr_array_header_t *hooks = tus_config_hooks();

    table = apr_hash_make(pconf);
    for (int i = 0; i < hooks->nelts; i++) {
        const tus_said_hook_t *said = &APR_ARRAY_IDX(hooks, i, tus_said_hook_t);
        tus_hook_t *hook = apr_pcalloc(pconf, sizeof(*hook));

        tus_hook_key(said->spec->key, name_of(said->server, pconf), said->spec->scope,
                     said->spec->text);
        hook->spec = said->spec;
        hook->server = said->server;
        hook->settings = settings_of(said, pconf);
        apr_hash_set(table, said->spec->key, APR_HASH_KEY_STRING, hook);
    }
}

/* The only one of that scope that takes such events: what became of one whose URL was changed. */
static const tus_hook_t *find_heir(const char *key, tus_hook_e type, apr_pool_t *p)
{
    const tus_hook_t *heir = NULL;
    apr_hash_index_t *i;

    for (i = apr_hash_first(p, table); i; i = apr_hash_next(i)) {
        const tus_hook_t *hook = apr_hash_this_val(i);

        if (strncmp(hook->spec->key, key, SCOPE_DIGITS) == 0
            && hook->spec->events & TUS_HOOK_BIT(type)) {
            if (heir) {
                return NULL;
            }
            heir = hook;
        }
    }
    return heir;
}

/* ---- of an .htaccess --------------------------------------------------------- */

/* Is the section that of the path, which ends with a slash as that of a section does? */
static int is_section_of(const core_dir_config *section, const char *path)
{
    return section->d_is_fnmatch ? apr_fnmatch(section->d, path, APR_FNM_PATHNAME) == APR_SUCCESS
                                 : strcmp(section->d, path) == 0;
}

/* Or of one that it lies in. httpd asks expressions with and without a slash at the end. */
static int holds_for(const core_dir_config *section, const char *dir, apr_pool_t *p)
{
    char *path = apr_pstrcat(p, dir, "/", NULL);
    char *slash = path;

    if (section->r) {
        return ap_regexec(section->r, dir, 0, NULL, 0) == 0
               || ap_regexec(section->r, path, 0, NULL, 0) == 0;
    }
    while ((slash = strchr(slash, '/')) != NULL) {
        char next = *++slash;

        *slash = '\0';
        if (is_section_of(section, path)) {
            return 1;
        }
        *slash = next;
    }
    return 0;
}

/* What the server's own <Directory> sections say for an .htaccess there. */
static const tus_settings_t *settings_of_directory(server_rec *s, const char *dir, apr_pool_t *p)
{
    const core_server_config *core = ap_get_core_module_config(s->module_config);
    void *merged = ap_get_module_config(s->lookup_defaults, &tus_module);

    for (int i = 0; i < core->sec_dir->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(core->sec_dir, i, ap_conf_vector_t *);

        void *said = ap_get_module_config(section, &tus_module);

        if (said && holds_for(ap_get_core_module_config(section), dir, p)) {
            merged = tus_config_merge(p, merged, said);
        }
    }
    return tus_config_settings(merged);
}

static server_rec *server_named(const char *name, apr_pool_t *p)
{
    server_rec *s = ap_server_conf;

    while (s && strcmp(name_of(s, p), name) != 0) {
        s = s->next;
    }
    return s;
}

apr_status_t tus_hook_table_note(const tus_hook_t *hook, apr_pool_t *p)
{
    const tus_hook_note_t note = { .server = name_of(hook->server, p),
                                   .dir = hook->spec->htaccess,
                                   .url = hook->spec->text,
                                   .timeout = hook->settings->hook_timeout,
                                   .backoff = hook->settings->hook_retry.backoff,
                                   .secret = hook->settings->hook_secret };

    return tus_hook_note_write(tus_config_state_dir(hook->server), hook->spec->key, &note, p);
}

static int is_of_key(const tus_hook_note_t *note, const char *key)
{
    char derived[TUS_HOOK_KEY_SIZE];

    return strcmp(tus_hook_key(derived, note->server, note->dir, note->url), key) == 0;
}

static const tus_hook_t *find_noted(const char *key, apr_pool_t *p)
{
    tus_hook_spec_t *spec = apr_pcalloc(p, sizeof(*spec));
    tus_hook_t *hook = apr_pcalloc(p, sizeof(*hook));
    tus_settings_t *settings;
    tus_hook_note_t note;

    if (tus_hook_note_read(&note, tus_config_state_dir(ap_server_conf), key, p) != APR_SUCCESS
        || !is_of_key(&note, key) || tus_target_parse(&spec->target, note.url, p)) {
        return NULL;
    }
    hook->server = server_named(note.server, p);
    if (!hook->server) {
        return NULL;
    }
    settings = apr_pmemdup(p, settings_of_directory(hook->server, note.dir, p), sizeof(*settings));
    settings->hook_timeout = note.timeout;
    settings->hook_retry.backoff = note.backoff;
    settings->hook_secret = note.secret;
    spec->text = note.url;
    spec->htaccess = note.dir;
    apr_cpystrn(spec->key, key, sizeof(spec->key));
    hook->spec = spec;
    hook->settings = settings;
    return hook;
}

/* One of an .htaccess was parsed for this request, and is nobody else's. */
static const char *key_of(tus_hook_spec_t *spec, server_rec *s, apr_pool_t *p)
{
    if (!*spec->key) {
        tus_hook_key(spec->key, name_of(s, p), spec->htaccess, spec->text);
    }
    return spec->key;
}

/* ---- looking up ----------------------------------------------------------------- */

apr_array_header_t *tus_hook_table_of(const request_rec *r, tus_hook_e type, apr_pool_t *p)
{
    const tus_settings_t *settings = tus_config_of(r);
    const apr_array_header_t *list = settings->hooks.list;
    apr_array_header_t *found = NULL;

    for (int i = 0; list && i < list->nelts; i++) {
        tus_hook_spec_t *spec = APR_ARRAY_IDX(list, i, tus_hook_spec_t *);

        if (!(spec->events & TUS_HOOK_BIT(type))) {
            continue;
        }
        key_of(spec, r->server, p);
        found = found ? found : apr_array_make(p, list->nelts, sizeof(tus_hook_t));
        APR_ARRAY_PUSH(found, tus_hook_t) = (tus_hook_t){ spec, r->server, settings };
    }
    return found;
}

const apr_array_header_t *tus_hook_table_keys(const request_rec *r, apr_pool_t *p)
{
    const tus_settings_t *settings = tus_config_of(r);
    const apr_array_header_t *list = settings->hooks.list;
    apr_array_header_t *keys = NULL;

    for (int i = 0; list && i < list->nelts; i++) {
        tus_hook_spec_t *spec = APR_ARRAY_IDX(list, i, tus_hook_spec_t *);

        keys = keys ? keys : apr_array_make(p, list->nelts, sizeof(const char *));
        APR_ARRAY_PUSH(keys, const char *) = key_of(spec, r->server, p);
    }
    return keys;
}

const tus_hook_t *tus_hook_table_find(const char *key, tus_hook_e type, apr_pool_t *p)
{
    const tus_hook_t *hook = apr_hash_get(table, key, APR_HASH_KEY_STRING);

    if (hook) {
        return hook->spec->events & TUS_HOOK_BIT(type) ? hook : NULL;
    }
    hook = find_noted(key, p);
    return hook ? hook : find_heir(key, type, p);
}

int tus_hook_table_allows(const tus_hook_t *hook, int *is_public)
{
    const tus_target_t *target = &hook->spec->target;
    const apr_array_header_t *prefixes = hook->settings->allow_hook.prefixes;

    int allowed = 0;

    *is_public = 0;
    if (!hook->spec->htaccess) {
        return 1;
    }
    if (!target->origin) {
        return hook->settings->allow_hook.local;
    }
    for (int i = 0; prefixes && i < prefixes->nelts; i++) {
        int any;

        if (tus_target_is_allowed(target, APR_ARRAY_IDX(prefixes, i, const char *), &any)) {
            *is_public = allowed ? *is_public && any : any; /* who is named may be anywhere */
            allowed = 1;
        }
    }
    return allowed;
}
