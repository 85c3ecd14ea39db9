/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Where a store may lie: the administrator anywhere, an .htaccess where TusAllowStore says. */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <string.h>

/* The innermost directory of TusAllowStore that the path lies in, or NULL. */
static const char *allowed_root(const apr_array_header_t *dirs, const char *path)
{
    const char *best = NULL;
    int i;

    for (i = 0; i < dirs->nelts; i++) {
        const char *dir = APR_ARRAY_IDX(dirs, i, const char *);

        if (tus_path_beneath(dir, path) && (!best || tus_path_beneath(best, dir))) {
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
    else if (tus_path_beneath(store->htaccess, store->path)) {
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
    place->path = tus_path_beneath(place->root, store->path);
    if (!*place->path) {
        place->path = "."; /* the root itself */
    }
    return 1;
}

/* A <Directory> whose store was said elsewhere, so that tus_parse_store() could not compare them.
 */
static int contains_endpoint(const tus_settings_t *settings)
{
    const tus_engine_t *engine = &settings->engine;

    return engine->scope && !engine->is_location && !engine->is_pattern
           && tus_path_beneath(settings->store.path, engine->scope);
}

int tus_place_of_store(const tus_settings_t *settings, tus_place_t *place, const char **why,
                       apr_pool_t *p)
{
    const tus_store_spec_t *store = &settings->store;

    memset(place, 0, sizeof *place);
    place->file_mode = settings->file_mode;
    place->dir_mode = settings->dir_mode;
    if (!store->provider) {
        *why = "TusEngine is On, but there is no TusStore; add one, such as: TusStore file "
               "/srv/uploads";
        return 0;
    }
    if (contains_endpoint(settings)) {
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
