/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* From what the configuration says to what the deeds work on. */
#include "tus_httpd.h"

#include <ap_provider.h>
#include <apr_strings.h>

/* In the order in which Tus-Extension has them. */
static const struct {
    const char *name;
    unsigned bit;
} extensions[] = {
    { "creation", TUS_EXT_CREATION },
    { "creation-with-upload", TUS_EXT_CREATION_WITH_UPLOAD },
    { "creation-defer-length", TUS_EXT_CREATION_DEFER_LENGTH },
    { "termination", TUS_EXT_TERMINATION },
    { "concatenation", TUS_EXT_CONCATENATION },
    { "concatenation-unfinished", TUS_EXT_CONCATENATION_UNFINISHED },
    { "checksum", TUS_EXT_CHECKSUM },
    { "checksum-trailer", TUS_EXT_CHECKSUM_TRAILER },
    { "expiration", TUS_EXT_EXPIRATION },
};

#define EXTENSION_COUNT (sizeof(extensions) / sizeof(extensions[0]))

unsigned tus_endpoint_extension(const char *name)
{
    for (apr_size_t i = 0; i < EXTENSION_COUNT; i++) {
        if (!ap_cstr_casecmp(name, extensions[i].name)) {
            return extensions[i].bit;
        }
    }
    return 0;
}

const char *tus_endpoint_extensions(unsigned offered, apr_pool_t *p)
{
    const char *names = "";

    for (apr_size_t i = 0; i < EXTENSION_COUNT; i++) {
        if (offered & extensions[i].bit) {
            names = apr_pstrcat(p, names, *names ? "," : "", extensions[i].name, NULL);
        }
    }
    return names;
}

/* What the store cannot do. */
static unsigned lacking(const tus_store_provider_t *store)
{
    unsigned bits = 0;

    if (!store->remove) {
        bits |= TUS_EXT_TERMINATION | TUS_EXT_EXPIRATION;
    }
    if (!store->truncate) {
        bits |= TUS_EXT_CHECKSUM | TUS_EXT_CHECKSUM_TRAILER;
    }
    if (!store->concat || !store->truncate) {
        bits |= TUS_EXT_CONCATENATION | TUS_EXT_CONCATENATION_UNFINISHED;
    }
    return bits;
}

unsigned tus_endpoint_offers(const tus_settings_t *settings)
{
    unsigned offers = tus_config_extensions(settings);

    if (settings->store.provider) {
        offers &= ~lacking(settings->store.provider);
    }
    if (!tus_config_expire(settings)) {
        offers &= ~TUS_EXT_EXPIRATION;
    }
    if (!settings->checksums) {
        offers &= ~(TUS_EXT_CHECKSUM | TUS_EXT_CHECKSUM_TRAILER);
    }
    return offers;
}

void tus_endpoint_announce(server_rec *s, apr_pool_t *p)
{
    const apr_array_header_t *stores = tus_config_stores();

    for (int i = 0; i < stores->nelts; i++) {
        const tus_store_spec_t *store = &APR_ARRAY_IDX(stores, i, tus_store_spec_t);

        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s, "TusStore %s %s (%s) can do %s",
                     store->provider->name, store->path, store->where,
                     tus_endpoint_extensions(TUS_EXT_ALL & ~lacking(store->provider), p));
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
    rv = spec->provider->open(store, &place, p);
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
    *dir = tus_state_recall(state, &known, p);
    if (*dir) {
        return NULL;
    }
    rv = store->provider->path(store, &known.path, p);
    if (rv == APR_SUCCESS) {
        rv = tus_state_store(state, &known, dir, p);
    }
    if (rv != APR_SUCCESS) {
        return tus_error_system(p, rv, "cannot find or make a store's directory in TusStateDir");
    }
    return NULL;
}

static const tus_error_t *open_meta(tus_core_t *core, const tus_settings_t *settings, apr_pool_t *p)
{
    tus_store_t *store = core->store;
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
        rv = settings->meta.provider->open(&core->meta, place, p);
    }
    core->state_dir = place->state_dir;
    if (rv != APR_SUCCESS) {
        return tus_error_system(p, rv, "cannot open the metadata in %s", place->state_dir);
    }
    return NULL;
}

/* @param r whose doing it is, or NULL */
static tus_core_t *make_core(request_rec *r, const tus_settings_t *settings, tus_store_t *store,
                             apr_pool_t *p)
{
    tus_core_t *core = apr_pcalloc(p, sizeof(*core));

    core->store = store;
    core->locks = tus_shared_locks();
    core->sync = settings->sync;
    core->max_size = tus_config_max_size(settings);
    if (tus_endpoint_offers(settings) & TUS_EXT_EXPIRATION) {
        core->expire = tus_config_expire(settings);
    }
    core->lock_timeout = settings->lock_timeout;
    core->boot = tus_halt_boot();
    core->settled = tus_halt_settled();
    core->now = apr_time_now;
    core->events = &tus_events;
    core->baton = r;
    return core;
}

const tus_error_t *tus_endpoint_open(tus_core_t **result, request_rec *r,
                                     const tus_settings_t *settings)
{
    apr_pool_t *p = r->pool;
    tus_store_t *store;
    tus_core_t *core;
    const tus_error_t *error = open_store(&store, settings, p);

    if (error) {
        return error;
    }
    core = make_core(r, settings, store, p);
    if (!core->locks) {
        return tus_error_system(p, APR_SUCCESS,
                                "the lock table is missing; the log tells why at the server's"
                                " start");
    }
    *result = core;
    return open_meta(core, settings, p);
}

int tus_endpoint_has(request_rec *r, const tus_settings_t *settings, const char *id)
{
    tus_upload_t *upload;
    tus_core_t *core;

    return !tus_endpoint_open(&core, r, settings) && !tus_upload_find(&upload, core, id, r->pool);
}

/* What the registry says is what a request found; the store may be another since. */
apr_status_t tus_endpoint_reopen(tus_core_t **core, const tus_state_store_t *known, apr_pool_t *p)
{
    tus_settings_t settings = *tus_config_defaults();
    tus_place_t place = { .root = "/",
                          .path = known->path + 1,
                          .file_mode = settings.file_mode,
                          .dir_mode = settings.dir_mode };
    tus_store_t *store;
    const tus_error_t *error;
    apr_status_t rv;

    settings.store.provider =
        ap_lookup_provider(TUS_STORE_GROUP, known->provider, TUS_PROVIDER_VERSION);
    settings.meta.driver = known->driver;
    if (!settings.store.provider || known->path[0] != '/') {
        return APR_ENOTIMPL;
    }
    rv = settings.store.provider->open(&store, &place, p);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (store->identity.device != known->identity.device
        || store->identity.inode != known->identity.inode
        || store->identity.owner != known->identity.owner) {
        return TUS_EREFUSED;
    }
    *core = make_core(NULL, &settings, store, p);
    (*core)->limits_unknown = 1;
    if (!(*core)->locks) {
        return APR_EGENERAL;
    }
    error = open_meta(*core, &settings, p);
    return error ? APR_EGENERAL : APR_SUCCESS;
}
