/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Telling the events of a shard. Whoever does has it locked, and what he read is
 * open as long as he asks about it: a file that takes its name
 * meanwhile is another.
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAILED "failed"

/* Nobody writes a file for so long. */
#define LEFTOVER_AGE apr_time_from_sec(60 * 60)

/* What could not be read or moved is tried again after so long. */
#define AGAIN apr_time_from_sec(60)

/* Hooks of one upload that wait; if more do, all of them do. */
#define HOOKS_MAX 64

#define NAME_LEN (TUS_SPOOLED_NAME_SIZE - 1)
#define HOOK_LEN (TUS_HOOK_KEY_SIZE - 1)

/* That we look into a file says nothing of since when it waits. */
#ifndef O_NOATIME
#define O_NOATIME 0
#endif

typedef struct pass_t {
    int spool, dir;
    char shard[TUS_SPOOL_SHARD_SIZE];
    apr_time_t now, deadline, next;
    const tus_spool_teller_t *teller;
    apr_status_t rv; /* the first thing that went wrong */
    unsigned asked;
    int is_late;
    tus_spool_batch_t *batch;
    int reading; /* of its two */

    char key[TUS_SPOOLED_KEY_LEN + 1]; /* of the upload at hand */
    char hooks[HOOKS_MAX][TUS_HOOK_KEY_SIZE];
    int waiting; /* how many of its hooks do */
} pass_t;

static void note(pass_t *pass, apr_status_t rv)
{
    if (pass->rv == APR_SUCCESS || pass->rv == TUS_EDAMAGED) {
        pass->rv = rv;
    }
}

static void come_back(pass_t *pass, apr_time_t due)
{
    if (!pass->next || due < pass->next) {
        pass->next = due;
    }
}

/* ---- names --------------------------------------------------------------- */

static apr_status_t move_aside(const pass_t *pass, const char *name)
{
    int failed;
    apr_status_t rv = tus_beneath_mkdir(
        pass->spool, FAILED, APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE, &failed);

    if (rv == APR_SUCCESS) {
        rv = renameat(pass->dir, name, failed, name) == 0 || errno == ENOENT ? APR_SUCCESS : errno;
        close(failed);
    }
    return rv;
}

static void drop_foreign(pass_t *pass, const char *name)
{
    apr_status_t rv = move_aside(pass, name);

    note(pass, rv == APR_SUCCESS ? TUS_EDAMAGED : rv);
    if (rv != APR_SUCCESS) {
        come_back(pass, pass->now + AGAIN);
    }
}

static void drop_leftover(pass_t *pass, const char *name)
{
    tus_spool_times_t times;

    if (tus_spool_dir_times(pass->dir, name, &times) != APR_SUCCESS) {
        return; /* whoever writes is done */
    }
    if (times.due + LEFTOVER_AGE > pass->now) {
        come_back(pass, times.due + LEFTOVER_AGE);
    }
    else if (unlinkat(pass->dir, name, 0) != 0 && errno != ENOENT) {
        drop_foreign(pass, name); /* a directory */
    }
}

/* By its name alone. */
static apr_time_t held_until(const pass_t *pass, const char *name)
{
    tus_spooled_name_t read;

    if (!pass->teller->hold) {
        return 0;
    }
    tus_spooled_read_name(&read, name);
    return pass->teller->hold(pass->teller->baton, &read);
}

static void take_event(pass_t *pass, const char *name)
{
    apr_time_t held = held_until(pass, name);

    if (held) {
        come_back(pass, held);
    }
    else {
        tus_spool_batch_add(pass->batch, name, pass->reading);
    }
}

static void take_name(void *baton, int dir, const char *name)
{
    pass_t *pass = baton;
    tus_spooled_e kind = tus_spooled_kind(name);

    (void)dir;
    if (strncmp(name, pass->shard, strlen(pass->shard)) != 0) {
        kind = TUS_SPOOLED_FOREIGN;
    }
    switch (kind) {
    case TUS_SPOOLED_READY:
    case TUS_SPOOLED_PENDS:
        take_event(pass, name);
        break;
    case TUS_SPOOLED_LEFTOVER:
        drop_leftover(pass, name);
        break;
    case TUS_SPOOLED_FOREIGN:
        drop_foreign(pass, name);
    }
}

static apr_status_t read_names(pass_t *pass)
{
    apr_status_t rv = APR_SUCCESS;

    tus_spool_batch_begin(pass->batch);
    for (pass->reading = 0; pass->reading < 2 && rv == APR_SUCCESS; pass->reading++) {
        rv = tus_spool_dir_each(pass->dir, take_name, pass);
    }
    return rv;
}

/* ---- order --------------------------------------------------------------- */

static const char *hook_of(const char *name)
{
    return name + NAME_LEN - HOOK_LEN;
}

static void come_to(pass_t *pass, const char *name)
{
    if (strncmp(pass->key, name, TUS_SPOOLED_KEY_LEN) != 0) {
        apr_cpystrn(pass->key, name, sizeof(pass->key));
        pass->waiting = 0;
    }
}

static int is_waiting(const pass_t *pass, const char *name)
{
    int i;

    for (i = 0; i < pass->waiting; i++) {
        if (strncmp(pass->hooks[i], hook_of(name), HOOK_LEN) == 0) {
            return 1;
        }
    }
    return pass->waiting == HOOKS_MAX;
}

/* With all that follows for the same upload and hook. */
static void wait_until(pass_t *pass, const char *name, apr_time_t due)
{
    apr_cpystrn(pass->hooks[pass->waiting++], hook_of(name), TUS_HOOK_KEY_SIZE);
    come_back(pass, due);
}

static void wait_for_better(pass_t *pass, const char *name, apr_status_t rv)
{
    note(pass, rv);
    wait_until(pass, name, pass->now + AGAIN);
}

static int is_pending(const char *name)
{
    return tus_spooled_kind(name) == TUS_SPOOLED_PENDS;
}

/* A pending one may be there by its other name, and the next pass finds it. */
static void is_gone(pass_t *pass, const char *name)
{
    if (is_pending(name)) {
        wait_until(pass, name, pass->now);
    }
}

/* ---- an event ------------------------------------------------------------ */

/* An event that was read, and its file, open. */
typedef struct loaded_t {
    char name[TUS_SPOOLED_NAME_SIZE + sizeof(TUS_SPOOLED_PENDING)];
    int fd;
    struct stat st;
    tus_spooled_t event;
} loaded_t;

static apr_status_t read_all(int fd, char *text, apr_size_t size, apr_size_t *len)
{
    ssize_t n;

    *len = 0;
    do {
        n = pread(fd, text + *len, size - *len, (off_t)*len);
        *len += n > 0 ? (apr_size_t)n : 0;
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? errno : APR_SUCCESS;
}

static apr_status_t read_event(loaded_t *file, apr_pool_t *p)
{
    char name[TUS_SPOOLED_NAME_SIZE];
    apr_size_t len;
    char *text;
    apr_status_t rv;

    if (fstat(file->fd, &file->st) != 0) {
        return errno;
    }
    if (file->st.st_size > TUS_SPOOLED_MAX) {
        return TUS_EDAMAGED;
    }
    text = apr_palloc(p, (apr_size_t)file->st.st_size + 1);
    rv = read_all(file->fd, text, (apr_size_t)file->st.st_size, &len);
    if (rv == APR_SUCCESS) {
        rv = tus_spooled_parse(&file->event, text, len, p);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    file->event.is_pending = is_pending(file->name);
    rv = tus_spooled_name(name, &file->event);
    return rv == APR_SUCCESS && strncmp(name, file->name, NAME_LEN) == 0 ? rv : TUS_EDAMAGED;
}

/* Does the name still lead to what was read? ESTALE if to another. */
static apr_status_t look_again(const pass_t *pass, const loaded_t *file)
{
    struct stat st;

    if (fstatat(pass->dir, file->name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    return st.st_ino == file->st.st_ino && st.st_dev == file->st.st_dev ? APR_SUCCESS : ESTALE;
}

static void leave(pass_t *pass, const loaded_t *file, tus_spool_e what)
{
    apr_status_t rv = look_again(pass, file);

    if (APR_STATUS_IS_ENOENT(rv)) {
        is_gone(pass, file->name);
        return;
    }
    if (rv == ESTALE) {
        wait_until(pass, file->name, pass->now);
        return;
    }
    if (rv == APR_SUCCESS && what == TUS_SPOOL_FAILED) {
        rv = move_aside(pass, file->name);
    }
    else if (rv == APR_SUCCESS && unlinkat(pass->dir, file->name, 0) != 0 && errno != ENOENT) {
        rv = errno;
    }
    if (rv != APR_SUCCESS) {
        wait_for_better(pass, file->name, rv);
    }
}

static apr_time_t within_reason(const pass_t *pass, apr_time_t due)
{
    apr_time_t max = pass->now + TUS_SPOOL_DELAY_MAX;

    return due < pass->now ? pass->now : due > max ? max : due;
}

static void delay(pass_t *pass, const loaded_t *file, apr_time_t due)
{
    tus_spool_times_t times = { file->event.at, within_reason(pass, due) };
    apr_status_t rv;

    rv = tus_spool_dir_set_times(file->fd, file->name, &times);
    if (rv == APR_SUCCESS) {
        wait_until(pass, file->name, times.due);
    }
    else {
        wait_for_better(pass, file->name, rv);
    }
}

static apr_status_t make_ready(const pass_t *pass, loaded_t *file)
{
    char name[TUS_SPOOLED_NAME_SIZE];

    apr_cpystrn(name, file->name, sizeof(name));
    if (renameat(pass->dir, file->name, pass->dir, name) != 0) {
        return errno;
    }
    apr_cpystrn(file->name, name, sizeof(file->name));
    file->event.is_pending = 0;
    return APR_SUCCESS;
}

static void ask(pass_t *pass, loaded_t *file, apr_pool_t *p)
{
    apr_time_t due = 0;
    tus_spool_e what = pass->teller->tell(pass->teller->baton, &file->event, &due, p);
    apr_status_t rv = APR_SUCCESS;

    if (what == TUS_SPOOL_READY && file->event.is_pending) {
        rv = make_ready(pass, file);
        if (rv == APR_SUCCESS) {
            what = pass->teller->tell(pass->teller->baton, &file->event, &due, p);
        }
    }
    pass->asked++;
    if (APR_STATUS_IS_ENOENT(rv)) {
        is_gone(pass, file->name);
    }
    else if (rv != APR_SUCCESS) {
        wait_for_better(pass, file->name, rv);
    }
    else if (what == TUS_SPOOL_DONE || what == TUS_SPOOL_FAILED) {
        leave(pass, file, what);
    }
    else if (what == TUS_SPOOL_WAIT) {
        wait_until(pass, file->name, within_reason(pass, due));
    }
    else {
        delay(pass, file, due);
    }
}

/* @return what went wrong before it was asked about */
static apr_status_t tell(pass_t *pass, const char *name, apr_pool_t *p)
{
    loaded_t file;
    apr_status_t rv = tus_beneath_open(pass->dir, name, O_RDONLY | O_NOATIME, 0, &file.fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_cpystrn(file.name, name, sizeof(file.name));
    rv = read_event(&file, p);
    if (rv == APR_SUCCESS) {
        ask(pass, &file, p);
    }
    close(file.fd);
    return rv;
}

/* Further ahead than any delay the clock was set back, or it was planted. */
static int is_due(const pass_t *pass, apr_time_t due)
{
    return due <= pass->now || due > pass->now + TUS_SPOOL_DELAY_MAX + TUS_SPOOL_PENDING;
}

/* Also of those that were not held back when the names were read. */
static apr_time_t taken_until(const pass_t *pass, const char *name)
{
    apr_time_t held = held_until(pass, name);
    tus_spooled_name_t read;

    if (held || !pass->teller->take) {
        return held;
    }
    tus_spooled_read_name(&read, name);
    return pass->teller->take(pass->teller->baton, &read);
}

static void visit(pass_t *pass, const char *name, int is_new, apr_pool_t *p)
{
    tus_spool_times_t times;
    apr_time_t until;
    apr_status_t rv;

    come_to(pass, name);
    if (is_waiting(pass, name)) {
        return;
    }
    if (is_new) {
        wait_until(pass, name, pass->now);
        return;
    }
    rv = tus_spool_dir_times(pass->dir, name, &times);
    if (rv == APR_SUCCESS && !is_due(pass, times.due)) {
        wait_until(pass, name, times.due);
        return;
    }
    until = taken_until(pass, name);
    if (until) {
        wait_until(pass, name, until);
        return;
    }
    if (rv == APR_SUCCESS) {
        rv = tell(pass, name, p);
    }
    if (APR_STATUS_IS_ENOENT(rv)) {
        is_gone(pass, name);
    }
    else if (rv == TUS_EDAMAGED || rv == TUS_EREFUSED) {
        drop_foreign(pass, name);
    }
    else if (rv != APR_SUCCESS) {
        wait_for_better(pass, name, rv);
    }
}

/* ---- a pass -------------------------------------------------------------- */

static void look_at_clock(pass_t *pass)
{
    pass->is_late = pass->deadline && apr_time_now() >= pass->deadline;
}

/* @return nonzero if there is another batch */
static int visit_batch(pass_t *pass, apr_pool_t *p)
{
    int i, is_new, count;
    int is_cut = tus_spool_batch_end(pass->batch, &count);

    for (i = 0; i < count && !pass->is_late; i++) {
        const char *name = tus_spool_batch_name(pass->batch, i, &is_new);
        unsigned asked = pass->asked;

        visit(pass, name, is_new, p);
        if (pass->asked > asked) {
            look_at_clock(pass);
        }
        apr_pool_clear(p);
    }
    if (is_cut) {
        look_at_clock(pass);
    }
    return is_cut;
}

static apr_status_t visit_all(pass_t *pass, apr_pool_t *p)
{
    apr_pool_t *pevent;
    apr_status_t rv;

    apr_pool_create(&pevent, p);
    do {
        rv = read_names(pass);
    } while (rv == APR_SUCCESS && visit_batch(pass, pevent) && !pass->is_late);
    apr_pool_destroy(pevent);
    if (rv != APR_SUCCESS) {
        come_back(pass, pass->now + AGAIN);
    }
    else if (pass->is_late) {
        come_back(pass, pass->now);
        rv = APR_INCOMPLETE;
    }
    return pass->rv == APR_SUCCESS ? rv : pass->rv;
}

/* Begins with any upload. */
static apr_status_t run(pass_t *pass, apr_pool_t *p)
{
    unsigned char random[TUS_SPOOLED_KEY_LEN / 2];
    char start[TUS_SPOOLED_KEY_LEN + 1];
    apr_status_t rv = apr_generate_random_bytes(random, sizeof(random));

    if (rv != APR_SUCCESS) {
        come_back(pass, pass->now + AGAIN);
        return rv;
    }
    apr_escape_hex(start, random, sizeof(random), 0, NULL);
    memcpy(start, pass->shard, strlen(pass->shard));
    pass->batch = tus_spool_batch_make(start, p);
    return visit_all(pass, p);
}

apr_status_t tus_spool_work(const tus_spool_shard_t *shard, apr_time_t now, apr_time_t deadline,
                            const tus_spool_teller_t *teller, apr_time_t *next, apr_pool_t *p)
{
    pass_t *pass;
    apr_pool_t *pwork;
    apr_status_t rv;

    apr_pool_create(&pwork, p);
    pass = apr_pcalloc(pwork, sizeof(*pass));
    pass->spool = shard->spool;
    pass->dir = shard->dir;
    pass->now = now;
    pass->deadline = deadline;
    pass->teller = teller;
    tus_spool_dir_name(shard->number, pass->shard);
    rv = run(pass, pwork);
    *next = pass->next;
    apr_pool_destroy(pwork);
    return rv;
}
