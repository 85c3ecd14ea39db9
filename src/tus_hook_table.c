/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which hooks there are, and what holds for each. An event that is told later
 * names its hook by a reference; where that is, and how it is called, is looked up
 * when it is told: for the server's own files in the configuration as it is then,
 * for an .htaccess in TusStateDir, where its hooks are noted when an event is
 * spooled for them, and TusAllowHook has the last word on those.
 *
 * In a record references are sealed (tus_hook_record.c), in the spool they are the
 * word of whoever can write to TusStateDir. They are held against the configuration
 * all the same: the sections that one names must be such as can hold where the hook
 * is, and they change neither TusAllowHook nor the secret of an .htaccess.
 */
#include "tus_httpd.h"

#include <apr_fnmatch.h>
#include <apr_hash.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_main.h>

#include <string.h>

#define KEY_LEN (TUS_HOOK_KEY_SIZE - 1)
#define SECTION_LEN (TUS_HOOK_SECTION_SIZE - 1)

/* A hook of the server's own files. */
typedef struct known_t {
    tus_hook_t hook;
    void *config; /* that its settings are of */
} known_t;

static apr_hash_t *table;    /* key -> known_t */
static apr_hash_t *sections; /* key -> tus_section_t */

static const char *name_of(server_rec *s, apr_pool_t *p)
{
    return apr_psprintf(p, "%s:%u", s->server_hostname ? s->server_hostname : "", s->port);
}

/* ---- of the server's own configuration -------------------------------------- */

/* Of those that are written alike the order tells which is which. */
static void add_section(tus_section_t *section, apr_pool_t *pconf)
{
    const char *server = name_of(section->server, pconf);
    unsigned n = 0;

    do {
        tus_hook_section_key(section->key, server, section->text, n++);
    } while (apr_hash_get(sections, section->key, SECTION_LEN));
    apr_hash_set(sections, section->key, SECTION_LEN, section);
}

/* Said for the server or virtual host itself it is in both; merged twice does no harm. */
static void add_hook(const tus_said_hook_t *said, apr_pool_t *pconf)
{
    void *base = ap_get_module_config(said->server->lookup_defaults, &tus_module);
    known_t *known = apr_pcalloc(pconf, sizeof(*known));

    tus_hook_key(said->spec->key, name_of(said->server, pconf), said->spec->scope,
                 said->spec->text);
    known->config = tus_config_merge(pconf, base, said->section);
    known->hook = (tus_hook_t){ said->spec, said->server, tus_config_settings(known->config),
                                said->spec->key };
    apr_hash_set(table, said->spec->key, KEY_LEN, known);
}

void tus_hook_table_init(apr_pool_t *pconf)
{
    const apr_array_header_t *hooks = tus_config_hooks();
    const apr_array_header_t *said = tus_config_sections();

    sections = apr_hash_make(pconf);
    for (int i = 0; i < said->nelts; i++) {
        add_section(APR_ARRAY_IDX(said, i, tus_section_t *), pconf);
    }
    table = apr_hash_make(pconf);
    for (int i = 0; i < hooks->nelts; i++) {
        add_hook(&APR_ARRAY_IDX(hooks, i, tus_said_hook_t), pconf);
    }
}

static int takes(const known_t *known, tus_hook_e type)
{
    return (known->hook.spec->events & TUS_HOOK_BIT(type)) != 0;
}

/* The only one of that scope that takes such events: what became of one whose URL was changed. */
static const known_t *find_heir(const char *key, tus_hook_e type, apr_pool_t *p)
{
    const known_t *heir = NULL;
    apr_hash_index_t *i;

    for (i = apr_hash_first(p, table); i; i = apr_hash_next(i)) {
        const known_t *known = apr_hash_this_val(i);

        if (strncmp(known->hook.spec->key, key, TUS_HOOK_SCOPE_DIGITS) == 0 && takes(known, type)) {
            if (heir) {
                return NULL;
            }
            heir = known;
        }
    }
    return heir;
}

/* What the main server says all virtual hosts inherit, hooks and sections. */
static int can_hold_for(const tus_section_t *section, const server_rec *s)
{
    return section->server == s || !section->server->is_virtual || !s->is_virtual;
}

/* Onto what holds: what the sections that a reference names say now. */
static void *merge_sections(void *config, const char *reference, const server_rec *s, apr_pool_t *p)
{
    for (const char *at = reference + KEY_LEN; *at; at += 1 + SECTION_LEN) {
        const tus_section_t *section = apr_hash_get(sections, at + 1, SECTION_LEN);

        if (section && can_hold_for(section, s)) {
            config = tus_config_merge(p, config, section->config);
        }
    }
    return config;
}

static const tus_hook_t *hook_of(const known_t *known, const char *reference, apr_pool_t *p)
{
    tus_hook_t *hook;

    if (!reference[KEY_LEN]) {
        return &known->hook;
    }
    hook = apr_pmemdup(p, &known->hook, sizeof(*hook));
    hook->settings = tus_config_settings(merge_sections(known->config, reference, hook->server, p));
    hook->reference = apr_pstrcat(p, hook->spec->key, reference + KEY_LEN, NULL);
    return hook;
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
static void *config_of_directory(server_rec *s, const char *dir, apr_pool_t *p)
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
    return merged;
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
                                   .events = hook->spec->events,
                                   .timeout = hook->settings->hook_timeout,
                                   .backoff = hook->settings->hook_retry.backoff,
                                   .secret = hook->settings->hook_secret.htaccess };

    return tus_hook_note_write(tus_config_state_dir(hook->server), hook->spec->key, &note, p);
}

static int is_of_key(const tus_hook_note_t *note, const char *key)
{
    char derived[TUS_HOOK_KEY_SIZE];

    return strcmp(tus_hook_key(derived, note->server, note->dir, note->url), key) == 0;
}

/* In the note is what held for the request, whoever said it: it stands before the sections. */
static const tus_settings_t *settings_of_note(const tus_hook_note_t *note, const char *reference,
                                              server_rec *s, apr_pool_t *p)
{
    void *config = config_of_directory(s, note->dir, p);
    tus_settings_t *settings = apr_pmemdup(
        p, tus_config_settings(merge_sections(config, reference, s, p)), sizeof(*settings));

    settings->allow_hook = tus_config_settings(config)->allow_hook;
    settings->hook_timeout = note->timeout;
    settings->hook_retry.backoff = note->backoff;
    settings->hook_secret.htaccess = note->secret;
    return settings;
}

static const tus_hook_t *find_noted(const char *reference, apr_pool_t *p)
{
    tus_hook_spec_t *spec = apr_pcalloc(p, sizeof(*spec));
    tus_hook_t *hook = apr_pcalloc(p, sizeof(*hook));
    tus_hook_note_t note;

    apr_cpystrn(spec->key, reference, sizeof(spec->key));
    if (tus_hook_note_read(&note, tus_config_state_dir(ap_server_conf), spec->key, p) != APR_SUCCESS
        || !is_of_key(&note, spec->key) || tus_target_parse(&spec->target, note.url, p)) {
        return NULL;
    }
    hook->server = server_named(note.server, p);
    if (!hook->server) {
        return NULL;
    }
    spec->text = note.url;
    spec->htaccess = note.dir;
    spec->events = note.events;
    hook->spec = spec;
    hook->settings = settings_of_note(&note, reference, hook->server, p);
    hook->reference = apr_pstrdup(p, reference);
    return hook;
}

/* One of an .htaccess was parsed for this request, and is nobody else's. */
static const char *reference_of(tus_hook_spec_t *spec, const request_rec *r, apr_pool_t *p)
{
    if (!*spec->key) {
        tus_hook_key(spec->key, name_of(r->server, p), spec->htaccess, spec->text);
    }
    return tus_hook_reference(spec->key, tus_config_of(r)->sections, p);
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
        found = found ? found : apr_array_make(p, list->nelts, sizeof(tus_hook_t));
        APR_ARRAY_PUSH(found, tus_hook_t) =
            (tus_hook_t){ spec, r->server, settings, reference_of(spec, r, p) };
    }
    return found;
}

const apr_array_header_t *tus_hook_table_references(const request_rec *r, apr_pool_t *p)
{
    const apr_array_header_t *list = tus_config_of(r)->hooks.list;
    apr_array_header_t *references = NULL;

    for (int i = 0; list && i < list->nelts; i++) {
        tus_hook_spec_t *spec = APR_ARRAY_IDX(list, i, tus_hook_spec_t *);

        references = references ? references : apr_array_make(p, list->nelts, sizeof(const char *));
        APR_ARRAY_PUSH(references, const char *) = reference_of(spec, r, p);
    }
    return references;
}

const tus_hook_t *tus_hook_table_find(const char *reference, tus_hook_e type, apr_pool_t *p)
{
    const known_t *known;
    const tus_hook_t *noted;

    if (!tus_hook_is_reference(reference)) {
        return NULL;
    }
    known = apr_hash_get(table, reference, KEY_LEN);
    if (known) {
        return takes(known, type) ? hook_of(known, reference, p) : NULL;
    }
    noted = find_noted(reference, p);
    if (noted) {
        return noted->spec->events & TUS_HOOK_BIT(type) ? noted : NULL;
    }
    known = find_heir(reference, type, p);
    return known ? hook_of(known, reference, p) : NULL;
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
