/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* From what the configuration says to what the deeds work on. */
#include "tus_httpd.h"

#include <ap_provider.h>
#include <apr_strings.h>

const char *tus_endpoint_extensions(const tus_store_provider_t *provider, apr_pool_t *p)
{
    return apr_pstrcat(p, "creation,creation-with-upload,creation-defer-length",
                       provider && provider->remove ? ",termination" : NULL, NULL);
}

void tus_endpoint_announce(server_rec *s, apr_pool_t *p)
{
    const apr_array_header_t *stores = tus_config_stores();

    for (int i = 0; i < stores->nelts; i++) {
        const tus_store_spec_t *store = &APR_ARRAY_IDX(stores, i, tus_store_spec_t);

        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s, "TusStore %s %s (%s) offers %s",
                     store->provider->name, store->path, store->where,
                     tus_endpoint_extensions(store->provider, p));
    }
}

static const tus_error_t *open_store(tus_store_t **store, const tus_settings_t *settings,
                                     apr_pool_t *p)
{
    const tus_store_spec_t *spec = &settings->store;
    tus_place_t place;
    const char *why;
    apr_status_t rv;

    if (!tus_place_of_store(settings, &place, &why, p)) {
        return tus_error_system(p, APR_SUCCESS, "%s", why);
    }
    rv = spec->provider->open(store, &place, settings->file_mode, p);
    if (rv == TUS_EREFUSED) {
        return tus_error_system(p, APR_SUCCESS,
                                "TusStore %s (%s) is not opened: a part of its path is a symbolic"
                                " link, or was replaced",
                                spec->path, spec->where);
    }
    if (rv != APR_SUCCESS) {
        return tus_error_system(p, rv, "cannot open the store");
    }
    return NULL;
}

/* The store's own directory in TusStateDir. */
static const tus_error_t *find_state(const char **dir, tus_store_t *store, const char *driver,
                                     apr_pool_t *p)
{
    tus_state_store_t known = { 0 };
    apr_status_t rv;
    const char *why;
    tus_state_t *state = tus_shared_state(&why);

    if (!state) {
        return tus_error_system(p, APR_SUCCESS, "%s", why);
    }
    known.provider = store->provider->name;
    known.driver = driver;
    known.identity = store->identity;
    rv = store->provider->path(store, &known.path, p);
    if (rv == APR_SUCCESS) {
        rv = tus_state_store(state, &known, dir, p);
    }
    if (rv != APR_SUCCESS) {
        return tus_error_system(p, rv, "cannot find or make a store's directory in TusStateDir");
    }
    return NULL;
}

static const tus_error_t *open_meta(tus_meta_t **meta, tus_store_t *store,
                                    const tus_settings_t *settings, apr_pool_t *p)
{
    tus_meta_place_t *place = apr_pcalloc(p, sizeof(*place));
    const tus_error_t *error;
    apr_status_t rv = APR_SUCCESS;

    place->driver = settings->meta.driver;
    error = find_state(&place->state_dir, store, place->driver, p);
    if (error) {
        return error;
    }
    place->mutex = tus_shared_meta_mutex();
    place->mode = settings->file_mode;
    place->info_dir = -1;
    if (store->provider->info_dir) {
        rv = store->provider->info_dir(store, &place->info_dir);
    }
    if (rv == APR_SUCCESS) {
        rv = settings->meta.provider->open(meta, place, p);
    }
    if (rv != APR_SUCCESS) {
        return tus_error_system(p, rv, "cannot open the metadata in %s", place->state_dir);
    }
    return NULL;
}

static tus_core_t *make_core(const tus_settings_t *settings, tus_store_t *store, apr_pool_t *p)
{
    tus_core_t *core = apr_pcalloc(p, sizeof(*core));

    core->store = store;
    core->locks = tus_shared_locks();
    core->sync = settings->sync;
    core->max_size = tus_config_max_size(settings);
    core->lock_timeout = settings->lock_timeout;
    core->now = apr_time_now;
    return core;
}

const tus_error_t *tus_endpoint_open(tus_core_t **result, const tus_settings_t *settings,
                                     apr_pool_t *p)
{
    tus_store_t *store;
    tus_core_t *core;
    const tus_error_t *error = open_store(&store, settings, p);

    if (error) {
        return error;
    }
    core = make_core(settings, store, p);
    if (!core->locks) {
        return tus_error_system(p, APR_SUCCESS,
                                "the lock table is missing; the log tells why at the server's"
                                " start");
    }
    *result = core;
    return open_meta(&core->meta, store, settings, p);
}

/* What the registry says is what a request found; the store may be another since. */
apr_status_t tus_endpoint_reopen(tus_core_t **core, const tus_state_store_t *known, apr_pool_t *p)
{
    tus_settings_t settings = *tus_config_defaults();
    tus_place_t place = { .root = "/", .path = known->path + 1 };
    tus_store_t *store;
    const tus_error_t *error;
    apr_status_t rv;

    settings.store.provider =
        ap_lookup_provider(TUS_STORE_GROUP, known->provider, TUS_PROVIDER_VERSION);
    settings.meta.driver = known->driver;
    if (!settings.store.provider || known->path[0] != '/') {
        return APR_ENOTIMPL;
    }
    rv = settings.store.provider->open(&store, &place, settings.file_mode, p);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (store->identity.device != known->identity.device
        || store->identity.inode != known->identity.inode
        || store->identity.owner != known->identity.owner) {
        return TUS_EREFUSED;
    }
    *core = make_core(&settings, store, p);
    if (!(*core)->locks) {
        return APR_EGENERAL;
    }
    error = open_meta(&(*core)->meta, store, &settings, p);
    return error ? APR_EGENERAL : APR_SUCCESS;
}
