/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Deeds of ring 3 without httpd, on stores that no server uses:
 *
 *   tus_deed this|another
 *
 * All data was written in this boot of the system, or in another. Each line of
 * standard input is a deed:
 *
 *   inspect STORE STATE_STORE_DIR ID    as HEAD does
 *   settle  STORE STATE_STORE_DIR -     as the sweep does: the journal
 *   expire  STORE STATE_STORE_DIR -     as the sweep does: what is due
 *
 * and is answered by a JSON object in a line: "status" as of an HTTP response,
 * "offset", "length" (null while it is unknown) and "finished" of an upload that
 * there is, "why" of one that cannot be used.
 */
#include "../src/tus_core.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES 16
#define PROCESSES 2
#define LINE_SIZE 16384

/* ---- nobody listens ------------------------------------------------------ */

static const tus_error_t *agree(void *baton, tus_upload_t *upload)
{
    (void)baton;
    (void)upload;
    return NULL;
}

static void ignore(void *baton, tus_upload_t *upload)
{
    (void)baton;
    (void)upload;
}

static void ignore_cut(void *baton, tus_upload_t *upload, apr_off_t stored)
{
    (void)baton;
    (void)upload;
    (void)stored;
}

static void ignore_lost(void *baton, const char *id)
{
    (void)baton;
    (void)id;
}

static const tus_events_t events = {
    .pre_create = agree,
    .not_made = agree,
    .will_create = agree,
    .post_create = ignore,
    .pre_finish = agree,
    .will_finish = agree,
    .post_finish = ignore,
    .pre_terminate = agree,
    .will_terminate = agree,
    .post_terminate = ignore,
    .expired = ignore,
    .cut = ignore_cut,
    .lost = ignore_lost,
};

/* ---- what deeds work on -------------------------------------------------- */

static apr_global_mutex_t *mutex;
static tus_locks_t *locks;
static int another_boot;

static apr_status_t open_locks(apr_pool_t *p)
{
    apr_size_t size = tus_lock_shm_size(ENTRIES, PROCESSES);
    void *base = apr_pcalloc(p, size);
    apr_status_t rv = apr_global_mutex_create(&mutex, NULL, APR_LOCK_DEFAULT, p);

    if (rv == APR_SUCCESS) {
        rv = tus_lock_shm_init(base, size, ENTRIES, PROCESSES);
    }
    return rv == APR_SUCCESS ? tus_lock_shm_attach(&locks, base, size, mutex, p) : rv;
}

static apr_status_t open_core(tus_core_t *core, const char *path, const char *state_dir,
                              apr_pool_t *p)
{
    const apr_fileperms_t mode = APR_FPROT_UREAD | APR_FPROT_UWRITE;
    tus_place_t place = { .path = path, .file_mode = mode, .dir_mode = mode | APR_FPROT_UEXECUTE };
    tus_meta_place_t *meta = apr_pcalloc(p, sizeof(*meta));
    apr_status_t rv = tus_store_file.open(&core->store, &place, p);

    meta->state_dir = state_dir;
    meta->mutex = mutex;
    meta->mode = mode;
    if (rv == APR_SUCCESS) {
        rv = tus_store_file.info_dir(core->store, &meta->info_dir);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_meta_dbm.open(&core->meta, meta, p);
    }
    core->locks = locks;
    core->sync = TUS_SYNC_FINISH;
    core->lock_timeout = apr_time_from_sec(1);
    core->now = apr_time_now;
    core->boot = another_boot ? apr_time_now() : 0;
    core->events = &events;
    return rv;
}

/* ---- the deeds ----------------------------------------------------------- */

static json_t *failed(apr_status_t rv)
{
    char why[200];

    return json_pack("{s:i, s:s}", "status", 500, "why", apr_strerror(rv, why, sizeof(why)));
}

static json_t *inspect(const tus_core_t *core, const char *id, apr_pool_t *p)
{
    tus_upload_t *upload;
    const tus_error_t *error = tus_upload_inspect(&upload, core, id, p);
    apr_off_t size;

    if (error) {
        return json_pack("{s:i, s:s}", "status", error->status, "why",
                         error->detail ? error->detail : error->message);
    }
    size = upload->record->size;
    return json_pack("{s:i, s:I, s:o, s:b}", "status", 200, "offset", (json_int_t)upload->offset,
                     "length", size == TUS_SIZE_UNKNOWN ? json_null() : json_integer(size),
                     "finished", tus_commit_is_finished(upload));
}

static json_t *settle(const tus_core_t *core, apr_pool_t *p)
{
    apr_time_t expires = 0;
    apr_status_t rv;

    do {
        rv = tus_settle(core, apr_time_from_sec(1), &expires, p);
    } while (APR_STATUS_IS_INCOMPLETE(rv));
    return rv == APR_SUCCESS ? json_pack("{s:i}", "status", 200) : failed(rv);
}

static json_t *expire(const tus_core_t *core, apr_pool_t *p)
{
    apr_time_t next;
    apr_status_t rv = tus_expire(core, &next, p);

    return rv == APR_SUCCESS ? json_pack("{s:i}", "status", 200) : failed(rv);
}

static json_t *do_deed(char **words, apr_pool_t *p)
{
    tus_core_t core = { 0 };
    apr_status_t rv = open_core(&core, words[1], words[2], p);

    if (rv != APR_SUCCESS) {
        return failed(rv);
    }
    if (strcmp(words[0], "inspect") == 0) {
        return inspect(&core, words[3], p);
    }
    if (strcmp(words[0], "settle") == 0) {
        return settle(&core, p);
    }
    return strcmp(words[0], "expire") == 0 ? expire(&core, p) : failed(APR_EINVAL);
}

static void answer_line(const char *line, apr_pool_t *p)
{
    char **words;
    json_t *answer;

    apr_tokenize_to_argv(line, &words, p);
    answer = words[0] && words[1] && words[2] && words[3] ? do_deed(words, p) : failed(APR_EINVAL);
    json_dumpf(answer, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(answer);
}

int main(int argc, char **argv)
{
    char line[LINE_SIZE];
    apr_pool_t *p, *pline;

    if (argc != 2) {
        fprintf(stderr, "usage: %s this|another\n", argv[0]);
        return 2;
    }
    another_boot = strcmp(argv[1], "another") == 0;
    apr_initialize();
    atexit(apr_terminate);
    apr_pool_create(&p, NULL);
    apr_pool_create(&pline, p);
    if (open_locks(p) != APR_SUCCESS) {
        fputs("cannot make a lock table\n", stderr);
        return 1;
    }
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        answer_line(line, pline);
        apr_pool_clear(pline);
    }
    return 0;
}
