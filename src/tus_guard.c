/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A store is never served or executed as plain files, whatever the handler and
 * AllowOverride say: 404 for all that lies in one, symbolic links resolved. That
 * is so for stores that are directories; the path of another is only a name.
 *
 * The stores of the server's own configuration are resolved once, at start. One
 * whose path has a symbolic link in it, or that was missing then, may be
 * elsewhere by now and is resolved again for each request; one that had none
 * and is replaced by a link later is found again at the next restart. Of stores
 * said by .htaccess files, the one that holds for the request is known.
 *
 * No Options can tell that there is no link in a path: each <Directory> speaks
 * for what is directly in it. So a path that is in no store as it stands is
 * resolved, which costs a readlink(2) a segment, once a request.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct guarded_t {
    const char *path; /* as written */
    const char *real; /* with all links resolved at start, or NULL */
    int may_move;     /* `real` is not the last word */
} guarded_t;

/* What was looked at already and lies in no store; kept with the request's pool. */
typedef struct passed_t {
    const tus_settings_t *settings;
    const char *filename;
    const char *handler;
} passed_t;

#define PASSED_KEY "mod_tus guard: passed"

static apr_array_header_t *guarded;

/* Nonzero if its path is one of the file system's: it has a place for records there. */
static int is_directory(const tus_store_spec_t *store)
{
    return store->provider && store->provider->info_dir;
}

void tus_guard_init(apr_pool_t *pconf, server_rec *s)
{
    const apr_array_header_t *stores = tus_config_stores();
    int i;

    (void)s;
    guarded = apr_array_make(pconf, stores->nelts, sizeof(guarded_t));
    for (i = 0; i < stores->nelts; i++) {
        const tus_store_spec_t *said = &APR_ARRAY_IDX(stores, i, tus_store_spec_t);
        guarded_t *store;
        char real[PATH_MAX];

        if (!is_directory(said)) {
            continue;
        }
        store = &APR_ARRAY_PUSH(guarded, guarded_t);
        store->path = said->path;
        store->real = realpath(store->path, real) ? apr_pstrdup(pconf, real) : NULL;
        store->may_move = !store->real || strcmp(store->path, store->real) != 0;
    }
}

/* ---- paths --------------------------------------------------------------- */

static int lies_in_store_now(const char *real, const char *store)
{
    char now[PATH_MAX];

    return realpath(store, now) && tus_path_beneath(now, real);
}

/* The path as far as it exists, all links resolved; NULL if nothing of it does. */
static const char *resolve(const char *path, char *real, apr_pool_t *p)
{
    char *rest = apr_pstrdup(p, path);
    char *slash;

    while (!realpath(rest, real)) {
        slash = strrchr(rest, '/');
        if (!slash || slash == rest) {
            return NULL;
        }
        *slash = '\0';
    }
    return real;
}

/*
 * The file that a backend is asked for by "proxy:fcgi://host/path", with or
 * without "unix:socket|" before it, or NULL. A balancer may have such backends.
 */
static const char *proxied_path(const char *filename)
{
    const char *url = filename + strlen("proxy:");

    if (!ap_cstr_casecmpn(url, "unix:", 5)) {
        url = strchr(url, '|');
        if (!url++) {
            return NULL;
        }
    }
    if (ap_cstr_casecmpn(url, "fcgi://", 7) && ap_cstr_casecmpn(url, "balancer://", 11)) {
        return NULL;
    }
    return strchr(strstr(url, "://") + 3, '/');
}

/* ---- judging ------------------------------------------------------------- */

/* The store that a local path lies in, or NULL. */
static const char *store_of(const char *path, const tus_store_spec_t *own, apr_pool_t *p)
{
    char buffer[PATH_MAX];
    const char *real;
    int i;

    for (i = 0; i < guarded->nelts; i++) {
        const guarded_t *store = &APR_ARRAY_IDX(guarded, i, guarded_t);

        if (tus_path_beneath(store->path, path)
            || (store->real && tus_path_beneath(store->real, path))) {
            return store->path;
        }
    }
    if (own && tus_path_beneath(own->path, path)) {
        return own->path;
    }

    real = resolve(path, buffer, p);
    if (!real) {
        return NULL;
    }
    for (i = 0; i < guarded->nelts; i++) {
        const guarded_t *store = &APR_ARRAY_IDX(guarded, i, guarded_t);

        if ((store->real && tus_path_beneath(store->real, real))
            || (store->may_move && lies_in_store_now(real, store->path))) {
            return store->path;
        }
    }
    return own && lies_in_store_now(real, own->path) ? own->path : NULL;
}

/* The same for what a backend is sent: as it stands, and as the backend may decode it. */
static const char *store_of_proxied(const char *filename, const tus_store_spec_t *own,
                                    apr_pool_t *p)
{
    const char *path = proxied_path(filename);
    const char *store;
    char *plain;

    if (!path) {
        return NULL;
    }
    plain = apr_pstrdup(p, path);
    ap_no2slash(plain);
    store = store_of(plain, own, p);
    if (store || !strpbrk(plain, "%?")) {
        return store;
    }
    plain[strcspn(plain, "?")] = '\0';
    (void)ap_unescape_url(plain); /* what cannot be decoded is judged as far as it could */
    ap_no2slash(plain);
    return store_of(plain, own, p);
}

static int is_proxied(const char *name)
{
    return name && !ap_cstr_casecmpn(name, "proxy:", 6);
}

/* Of a handler it matters only whether it leads to a backend. */
static int has_passed(const request_rec *r, const tus_settings_t *settings)
{
    void *passed = NULL;

    apr_pool_userdata_get(&passed, PASSED_KEY, r->pool);
    return passed && ((passed_t *)passed)->settings == settings
           && !strcmp(((passed_t *)passed)->filename, r->filename)
           && (((passed_t *)passed)->handler == r->handler || !is_proxied(r->handler));
}

static void remember(const request_rec *r, const tus_settings_t *settings)
{
    passed_t *passed = apr_palloc(r->pool, sizeof *passed);

    passed->settings = settings;
    passed->filename = apr_pstrdup(r->pool, r->filename);
    passed->handler = r->handler;
    apr_pool_userdata_setn(passed, PASSED_KEY, NULL, r->pool);
}

/* Nonzero for the request that the tus handler answers; what comes of it is none such. */
static int is_own(const request_rec *r)
{
    return !r->main && tus_mount_of(r);
}

/* The store that is named by the file, or by what mod_proxy makes of it and SetHandler's URL. */
static const char *store_of_request(request_rec *r, const tus_store_spec_t *own)
{
    const char *store = NULL;

    if (r->filename[0] == '/') {
        store = store_of(r->filename, own, r->pool);
    }
    else if (is_proxied(r->filename)) {
        store = store_of_proxied(r->filename, own, r->pool);
    }
    if (!store && is_proxied(r->handler)) {
        store = store_of_proxied(apr_pstrcat(r->pool, r->handler, r->filename, NULL), own, r->pool);
    }
    return store;
}

/* A CGI's PATH_TRANSLATED is the name of a subrequest, whatever that was answered. */
static int refuse(request_rec *r, const char *store)
{
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                  "%s lies in TusStore %s, of which nothing is served as a file", r->filename,
                  store);
    if (r->main) {
        r->filename = apr_pstrdup(r->pool, "/dev/null");
        r->path_info = apr_pstrdup(r->pool, "");
    }
    return HTTP_NOT_FOUND;
}

int tus_guard_request(request_rec *r)
{
    const tus_settings_t *settings = tus_config_of(r);
    const tus_store_spec_t *own =
        settings->store.htaccess && is_directory(&settings->store) ? &settings->store : NULL;
    const char *store;

    if (!r->filename || is_own(r) || (!own && !guarded->nelts) || has_passed(r, settings)) {
        return DECLINED;
    }
    store = store_of_request(r, own);
    if (store) {
        return refuse(r, store);
    }
    remember(r, settings);
    return DECLINED;
}
