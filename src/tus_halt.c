/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is known of the time before. When the server is stopped in good order,
 * the stores' file systems are synced, and TusStateDir/settled says when: what
 * was written before that moment is on stable storage, however the system ends.
 * What was written since, and before the system was booted, is in doubt
 * (tus_proof.c).
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_core.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME "settled"
#define TEXT_SIZE 32

static apr_time_t settled;
static apr_time_t boot;

apr_time_t tus_halt_settled(void)
{
    return settled;
}

apr_time_t tus_halt_boot(void)
{
    return boot;
}

/* ---- reading ------------------------------------------------------------- */

static apr_time_t parse(const char *text)
{
    char *end;
    apr_int64_t time;

    errno = 0;
    time = apr_strtoi64(text, &end, 10);
    return errno == 0 && *end == '\n' && time > 0 ? time : 0;
}

static const char *path_in(const char *dir, apr_pool_t *p)
{
    return apr_pstrcat(p, dir, "/" NAME, NULL);
}

static void read_settled(const char *dir, apr_pool_t *p)
{
    char text[TEXT_SIZE];
    apr_size_t len;
    apr_status_t rv = tus_small_get(text, sizeof(text), &len, path_in(dir, p));

    settled = rv == APR_SUCCESS ? parse(text) : 0;
}

/* By the clock of today, as the files' times are. */
static void read_boot(void)
{
    struct timespec up;

    if (clock_gettime(CLOCK_BOOTTIME, &up) == 0) {
        boot = apr_time_now() - apr_time_from_sec((apr_time_t)up.tv_sec) - up.tv_nsec / 1000;
    }
}

/* ---- writing ------------------------------------------------------------- */

/* One that is not where it was has no data that anybody could have written to lately. */
static int sync_store(const tus_state_store_t *store)
{
    struct stat st;
    int fd = open(store->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int synced = 1;

    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
    }
    if (fstat(fd, &st) == 0 && st.st_dev == store->identity.device) {
        synced = syncfs(fd) == 0;
    }
    close(fd);
    return synced;
}

static int sync_stores(const char *dir, apr_pool_t *p)
{
    apr_array_header_t *stores;
    apr_uint64_t device = 0;
    int synced = tus_registry_read(dir, &stores, p) == APR_SUCCESS;

    for (int i = 0; synced && i < stores->nelts; i++) {
        const tus_state_store_t *store = &APR_ARRAY_IDX(stores, i, tus_state_store_t);

        if (i == 0 || store->identity.device != device) {
            device = store->identity.device;
            synced = sync_store(store);
        }
    }
    return synced;
}

/* Of the parent, when its children are gone. Not for a restart: nothing is in doubt after that. */
static apr_status_t halt(void *baton)
{
    const char *dir = baton;
    apr_time_t now = apr_time_now();
    apr_pool_t *p;

    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_EXITING) {
        return APR_SUCCESS;
    }
    apr_pool_create(&p, NULL);
    if (sync_stores(dir, p)) {
        tus_small_replace(path_in(dir, p), apr_psprintf(p, "%" APR_TIME_T_FMT "\n", now), 1, p);
    }
    apr_pool_destroy(p);
    return APR_SUCCESS;
}

void tus_halt_init(apr_pool_t *pconf, server_rec *s)
{
    const char *dir = apr_pstrdup(pconf, tus_config_state_dir(s));

    read_boot();
    read_settled(dir, pconf);
    apr_pool_cleanup_register(pconf, dir, halt, apr_pool_cleanup_null);
}
