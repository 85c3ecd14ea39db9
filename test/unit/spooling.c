/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "spooling.h"
#include "scratch.h"

#include <apr_file_info.h>
#include <apr_strings.h>

#include <string.h>

#define BODY "{}"

tus_spooled_t spooled(const char *id, tus_hook_e type, const char *hook)
{
    return (tus_spooled_t){ .id = id,
                            .created = CREATED,
                            .type = type,
                            .hook = hook,
                            .event_id = "0123456789abcdef0123456789abcdef",
                            .at = CREATED + 1,
                            .body = BODY,
                            .len = sizeof(BODY) - 1 };
}

static const char *hook_text(const char *hook)
{
    return strcmp(hook, HOOK_A) == 0 ? "a" : strcmp(hook, HOOK_B) == 0 ? "b" : hook;
}

const char *spooled_text(const tus_spooled_t *event, apr_pool_t *p)
{
    const char *again = "";

    if (event->created != CREATED) {
        again = apr_psprintf(p, "+%" APR_TIME_T_FMT, event->created - CREATED);
    }
    return apr_pstrcat(p, event->id, again, "/", strchr(tus_hook_name(event->type), '-') + 1, "/",
                       hook_text(event->hook), event->is_pending ? "?" : "", NULL);
}

const char *spooled_path(const tus_spooled_t *event, const char *suffix)
{
    char name[TUS_SPOOLED_NAME_SIZE];

    ck_assert_int_eq(tus_spooled_name(name, event), APR_SUCCESS);
    return apr_psprintf(unit_pool, "spool/%.2s/%s%s", name, name, suffix);
}

const char *failed_path(const char *id, tus_hook_e type, const char *hook)
{
    tus_spooled_t event = spooled(id, type, hook);

    return apr_pstrcat(unit_pool, "spool/failed", strrchr(spooled_path(&event, ""), '/'), NULL);
}

void put(const char *id, tus_hook_e type, const char *hook)
{
    tus_spooled_t event = spooled(id, type, hook);

    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
}

void confirm(const char *id, tus_hook_e type, const char *hook)
{
    tus_spooled_t event = spooled(id, type, hook);

    ck_assert_int_eq(tus_spool_confirm(scratch, &event, unit_pool), APR_SUCCESS);
}

void ready(const char *id, tus_hook_e type, const char *hook)
{
    put(id, type, hook);
    confirm(id, type, hook);
}

int count_failed(void)
{
    apr_dir_t *dir;
    apr_finfo_t finfo;
    int count = 0;

    ck_assert_int_eq(apr_dir_open(&dir, scratch_path("spool/failed"), unit_pool), APR_SUCCESS);
    while (apr_dir_read(&finfo, APR_FINFO_NAME, dir) == APR_SUCCESS) {
        count += finfo.name[0] != '.';
    }
    apr_dir_close(dir);
    return count;
}

apr_status_t work_shard(int shard, apr_time_t now, apr_time_t deadline,
                        const tus_spool_teller_t *teller, apr_time_t *next, apr_pool_t *p)
{
    tus_spool_shard_t files;
    apr_status_t rv = tus_spool_dir_lock(&files, scratch, shard);

    if (rv == APR_SUCCESS) {
        rv = tus_spool_work(&files, now, deadline, teller, next, p);
        tus_spool_dir_unlock(&files);
        return rv;
    }
    *next = APR_STATUS_IS_ENOENT(rv) ? 0 : now + apr_time_from_sec(1);
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}
