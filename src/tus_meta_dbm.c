/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Metadata provider "dbm". ID.info is the record, written beside the data so
 * that other programs find it; the database is an index of all records, from
 * which nothing is ever answered that ID.info does not bear out.
 *
 * A store without a place for ID.info has its records in `info` in its state
 * directory, which is made when the first one is written.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN_RECORDS "info"

/* Of .ID.info.tmp, with its NUL. */
#define NAME_SIZE (TUS_ID_SEGMENT_MAX + sizeof("..info.tmp"))

/* A record as it was read, and the file that it was read from. */
typedef struct reading_t {
    const char *id; /* NULL: none */
    tus_record_t record;
    struct stat file;
} reading_t;

typedef struct dbm_t {
    tus_meta_t meta;
    const tus_meta_place_t *place;
    apr_pool_t *pool;
    const char *journal; /* path */
    reading_t latest;    /* allocated from the pool */
} dbm_t;

static dbm_t *dbm_of(tus_meta_t *meta)
{
    return (dbm_t *)meta;
}

/* ---- where a record lies ------------------------------------------------- */

/* The directory of one record, so that all that is done to it is done in the same one. */
typedef struct spot_t {
    int dir;
    int borrowed;         /* dir is the store's */
    char info[NAME_SIZE]; /* ID.info */
    char temp[NAME_SIZE]; /* .ID.info.tmp */
} spot_t;

/* Closes `at`, unless it is `keep`. */
static apr_status_t step_into(int *at, int keep, const char *segment, int make)
{
    int next;
    apr_status_t rv = APR_SUCCESS;

    if (make && mkdirat(*at, segment, S_IRWXU) == 0 && fsync(*at) != 0) {
        rv = errno;
    }
    if (rv == APR_SUCCESS) {
        rv = tus_beneath_dir(*at, segment, &next);
    }
    if (*at != keep) {
        close(*at);
    }
    if (rv == APR_SUCCESS) {
        *at = next;
    }
    return rv;
}

/* The store makes its own directories, and has them before there is a record. */
static apr_status_t open_records(const dbm_t *dbm, int make, int *dir)
{
    apr_status_t rv;

    if (dbm->place->info_dir != -1) {
        *dir = dbm->place->info_dir;
        return APR_SUCCESS;
    }
    rv = tus_beneath_dir(-1, dbm->place->state_dir, dir);
    return rv == APR_SUCCESS ? step_into(dir, -1, OWN_RECORDS, make) : rv;
}

static char *put_text(char *at, const char *text, apr_size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

/* Several times in each request: apr_snprintf() takes as long as all the rest of open_spot(). */
static void name_files(spot_t *spot, const char *segment, apr_size_t len)
{
    put_text(put_text(spot->info, segment, len), ".info", sizeof(".info"));
    put_text(put_text(put_text(spot->temp, ".", 1), segment, len), ".info.tmp",
             sizeof(".info.tmp"));
}

static apr_status_t open_spot(const dbm_t *dbm, const char *id, int make, spot_t *spot)
{
    int keep = dbm->place->info_dir, own = keep == -1;
    char segments[TUS_ID_MAX + 1];
    char *segment = segments, *slash;
    apr_size_t len;
    apr_status_t rv;

    if (!tus_id_is_valid(id)) {
        return APR_EINVAL;
    }
    len = strlen(id);
    memcpy(segments, id, len + 1);
    rv = open_records(dbm, make, &spot->dir);
    while (rv == APR_SUCCESS && (slash = strchr(segment, '/')) != NULL) {
        *slash = '\0';
        rv = step_into(&spot->dir, keep, segment, make && own);
        segment = slash + 1;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    spot->borrowed = spot->dir == keep;
    name_files(spot, segment, (apr_size_t)(segments + len - segment));
    return APR_SUCCESS;
}

static void close_spot(const spot_t *spot)
{
    if (!spot->borrowed) {
        close(spot->dir);
    }
}

/* ---- get ----------------------------------------------------------------- */

/* Not more than the size, should the file grow while it is read. */
static apr_status_t read_all(int fd, char *text, apr_size_t size, apr_size_t *len)
{
    *len = 0;
    while (*len < size) {
        ssize_t n = pread(fd, text + *len, size - *len, (off_t)*len);

        if (n == 0) {
            return APR_SUCCESS;
        }
        if (n > 0) {
            *len += (apr_size_t)n;
        }
        else if (errno != EINTR) {
            return errno;
        }
    }
    return APR_SUCCESS;
}

static apr_status_t read_text(int fd, apr_off_t size, tus_record_t **record, apr_pool_t *p)
{
    apr_size_t len;
    char *text;
    apr_status_t rv;

    if (size > TUS_RECORD_MAX) {
        return TUS_EREFUSED;
    }
    text = apr_palloc(p, (apr_size_t)size + 1);
    rv = read_all(fd, text, (apr_size_t)size, &len);
    return rv == APR_SUCCESS ? tus_record_parse(record, text, len, p) : rv;
}

static apr_status_t read_record(const spot_t *spot, const char *id, tus_record_t **record,
                                struct stat *st, apr_pool_t *p)
{
    tus_record_t *found;
    int fd;
    apr_status_t rv = tus_beneath_open_stat(spot->dir, spot->info, O_RDONLY, &fd, st);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = read_text(fd, st->st_size, &found, p);
    close(fd);
    if (rv == APR_SUCCESS && strcmp(found->id, id) != 0) {
        rv = TUS_EDAMAGED;
    }
    if (rv == APR_SUCCESS) {
        *record = found;
    }
    return rv;
}

static int is_same_file(const struct stat *one, const struct stat *other)
{
    return one->st_ino == other->st_ino && one->st_dev == other->st_dev
           && one->st_size == other->st_size && one->st_ctim.tv_sec == other->st_ctim.tv_sec
           && one->st_ctim.tv_nsec == other->st_ctim.tv_nsec;
}

static int is_latest_id(const reading_t *latest, const char *id)
{
    return latest->id && strcmp(latest->id, id) == 0;
}

/* A request gets a record again where it could have changed, which it hardly ever has. */
static int is_latest(const reading_t *latest, const spot_t *spot, const char *id)
{
    struct stat st;

    return is_latest_id(latest, id) && tus_beneath_stat(spot->dir, spot->info, &st) == APR_SUCCESS
           && is_same_file(&latest->file, &st);
}

static apr_status_t get_at(dbm_t *dbm, const spot_t *spot, const char *id, tus_record_t **record,
                           apr_pool_t *p)
{
    reading_t *latest = &dbm->latest;
    apr_status_t rv;

    if (p != dbm->pool) { /* which may end before the next one */
        struct stat st;

        return read_record(spot, id, record, &st, p);
    }
    if (is_latest(latest, spot, id)) {
        *record = apr_pmemdup(p, &latest->record, sizeof(latest->record));
        return APR_SUCCESS;
    }
    rv = read_record(spot, id, record, &latest->file, p);
    latest->id = NULL;
    if (rv == APR_SUCCESS) {
        latest->record = **record;
        latest->id = latest->record.id;
    }
    return rv;
}

static apr_status_t dbm_get(tus_meta_t *meta, const char *id, tus_record_t **record, apr_pool_t *p)
{
    spot_t spot;
    apr_status_t rv = open_spot(dbm_of(meta), id, 0, &spot);

    if (rv == APR_SUCCESS) {
        rv = get_at(dbm_of(meta), &spot, id, record, p);
        close_spot(&spot);
    }
    return rv;
}

/* ---- put and remove ------------------------------------------------------ */

/* What a request left that died is in the way once; nobody else has the upload. */
static apr_status_t open_temp(const spot_t *spot, apr_fileperms_t mode, int *fd)
{
    apr_status_t rv = tus_beneath_open(spot->dir, spot->temp, O_WRONLY | O_CREAT, mode, fd);

    if (!APR_STATUS_IS_EEXIST(rv)) {
        return rv;
    }
    rv = tus_beneath_remove(spot->dir, spot->temp);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    return tus_beneath_open(spot->dir, spot->temp, O_WRONLY | O_CREAT, mode, fd);
}

static apr_status_t write_temp(const spot_t *spot, apr_fileperms_t mode, const char *json,
                               apr_size_t len, int durable)
{
    apr_size_t done;
    int fd;
    apr_status_t rv = open_temp(spot, mode, &fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = tus_beneath_write(fd, 0, json, len, &done);
    if (rv == APR_SUCCESS && durable && fsync(fd) != 0) {
        rv = errno;
    }
    close(fd);
    return rv;
}

/*
 * Is there a record, or nothing? All else was planted, and stays.
 * @param mode set to the permissions of the record, if there is one; may be NULL
 */
static apr_status_t check_info(const spot_t *spot, apr_fileperms_t *mode)
{
    struct stat st;
    apr_status_t rv = tus_beneath_stat(spot->dir, spot->info, &st);

    if (rv == APR_SUCCESS && mode) {
        *mode = tus_beneath_permissions(st.st_mode & ACCESSPERMS);
    }
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}

static apr_status_t move_temp(const spot_t *spot, unsigned flags)
{
    return renameat2(spot->dir, spot->temp, spot->dir, spot->info, flags) == 0 ? APR_SUCCESS
                                                                               : errno;
}

/* Not onto anything. Where the file system cannot tell, we look. */
static apr_status_t move_new_temp(const spot_t *spot)
{
    struct stat st;
    apr_status_t rv = move_temp(spot, RENAME_NOREPLACE);

    if (!APR_STATUS_IS_EINVAL(rv)) {
        return rv;
    }
    rv = tus_beneath_stat(spot->dir, spot->info, &st);
    if (rv == APR_SUCCESS) {
        return APR_EEXIST;
    }
    return APR_STATUS_IS_ENOENT(rv) ? move_temp(spot, 0) : rv;
}

static apr_status_t write_info(const spot_t *spot, apr_fileperms_t mode, const char *json,
                               apr_size_t len, int durable, int is_new)
{
    apr_status_t rv = write_temp(spot, mode, json, len, durable);

    if (rv == APR_SUCCESS && durable && fsync(spot->dir) != 0) { /* the names that it speaks of */
        rv = errno;
    }
    if (rv == APR_SUCCESS) {
        rv = is_new ? move_new_temp(spot) : move_temp(spot, 0);
    }
    if (rv != APR_SUCCESS) {
        tus_beneath_remove(spot->dir, spot->temp);
        return rv;
    }
    return durable && fsync(spot->dir) != 0 ? errno : APR_SUCCESS;
}

/* Who has read no record most likely makes it: so there is one look less at the directory. */
static apr_status_t put_at(const spot_t *spot, apr_fileperms_t mode, const char *json,
                           apr_size_t len, int durable, int is_new)
{
    apr_status_t rv = is_new ? write_info(spot, mode, json, len, durable, 1) : APR_EEXIST;

    if (!APR_STATUS_IS_EEXIST(rv)) {
        return rv;
    }
    rv = check_info(spot, &mode);
    return rv == APR_SUCCESS ? write_info(spot, mode, json, len, durable, 0) : rv;
}

static apr_status_t dbm_put(tus_meta_t *meta, const tus_record_t *record, int durable,
                            apr_pool_t *p)
{
    const dbm_t *dbm = dbm_of(meta);
    const char *json;
    apr_size_t len;
    spot_t spot;
    apr_status_t rv = tus_record_format(record, &json, &len, p);

    if (rv == APR_SUCCESS) {
        rv = open_spot(dbm, record->id, 1, &spot);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = put_at(&spot, dbm->place->mode, json, len, durable,
                !is_latest_id(&dbm->latest, record->id));
    close_spot(&spot);
    return rv;
}

static apr_status_t dbm_remove(tus_meta_t *meta, const char *id)
{
    spot_t spot;
    apr_status_t rv = open_spot(dbm_of(meta), id, 0, &spot);

    if (rv != APR_SUCCESS) {
        return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
    }
    rv = check_info(&spot, NULL);
    if (rv == APR_SUCCESS) {
        rv = tus_beneath_remove(spot.dir, spot.info);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_beneath_remove(spot.dir, spot.temp);
    }
    close_spot(&spot);
    return rv;
}

/* ---- the index ----------------------------------------------------------- */

static apr_status_t dbm_note(tus_meta_t *meta, const char *id, tus_note_e why)
{
    return tus_journal_note(dbm_of(meta)->journal, id, why == TUS_NOTE_CREATE);
}

typedef struct fold_t {
    const dbm_t *dbm;
    tus_settle_fn settle;
    void *baton;
    const tus_cancel_t *cancel;
    apr_time_t deadline; /* 0 for none */
} fold_t;

static void push_change(apr_array_header_t *changes, const char *id, const tus_record_t *record)
{
    tus_index_change_t *change = apr_array_push(changes);
    tus_entry_t *entry = NULL;

    if (record) {
        entry = apr_pcalloc(changes->pool, sizeof(*entry));
        tus_entry_of_record(entry, record, changes->pool);
        entry->id = id;
        entry->owner = apr_pstrdup(changes->pool, entry->owner);
    }
    *change = (tus_index_change_t){ .id = id, .entry = entry };
}

/* A record of any size is let go at once; what the index has of it is small. */
static void settle_one(const fold_t *fold, tus_noted_t *one, apr_array_header_t *changes,
                       apr_pool_t *p)
{
    tus_record_t *record = NULL;

    switch (fold->settle(fold->baton, one->id, one->created, &record, p)) {
    case TUS_SETTLED_KEEP:
        push_change(changes, one->id, record);
        break;
    case TUS_SETTLED_GONE:
        push_change(changes, one->id, NULL);
        break;
    case TUS_SETTLED_CARRY:
        one->carry = 1;
        break;
    }
}

/* Settles the ids first, for that takes locks; only then the index is opened. */
static apr_status_t settle_noted(void *baton, apr_array_header_t *noted, apr_pool_t *p)
{
    const fold_t *fold = baton;
    apr_array_header_t *changes = apr_array_make(p, noted->nelts, sizeof(tus_index_change_t));
    apr_pool_t *pone;
    int i;

    apr_pool_create(&pone, p);
    for (i = 0; i < noted->nelts; i++) {
        if (fold->cancel && fold->cancel->cancelled(fold->cancel->baton)) {
            return APR_EINTR;
        }
        if (i > 0 && fold->deadline && apr_time_now() >= fold->deadline) {
            noted->nelts = i;
            break;
        }
        apr_pool_clear(pone);
        settle_one(fold, &APR_ARRAY_IDX(noted, i, tus_noted_t), changes, pone);
    }
    apr_pool_destroy(pone);
    return tus_index_write(fold->dbm->place, changes, p);
}

static apr_status_t list_records(const dbm_t *dbm, const tus_cancel_t *cancel, apr_pool_t *p)
{
    int dir = -1;
    apr_status_t rv = open_records(dbm, 0, &dir);

    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) {
        return rv;
    }
    rv = tus_rebuild_start(dbm->place->state_dir, rv == APR_SUCCESS ? dir : -1, cancel, p);
    if (dir != -1 && dir != dbm->place->info_dir) {
        close(dir);
    }
    return rv;
}

/*
 * The index gets its mark last: until then this is begun again. What is noted
 * after the journal was mended is not lost; what was before, the list has.
 */
static apr_status_t start_rebuild(const dbm_t *dbm, const tus_cancel_t *cancel, apr_pool_t *p)
{
    apr_status_t rv = tus_index_discard(dbm->place, p);

    if (rv == APR_SUCCESS) {
        rv = tus_journal_mend(dbm->journal, p);
    }
    if (rv == APR_SUCCESS) {
        rv = list_records(dbm, cancel, p);
    }
    return rv == APR_SUCCESS ? tus_index_reset(dbm->place, p) : rv;
}

static apr_status_t go_on_rebuilding(fold_t *fold, apr_interval_time_t budget, apr_pool_t *p)
{
    apr_pool_t *pslice;
    apr_status_t rv;

    fold->deadline = apr_time_now() + budget;
    apr_pool_create(&pslice, p);
    do {
        apr_pool_clear(pslice);
        rv = tus_rebuild_slice(fold->dbm->place->state_dir, fold->dbm->journal, settle_noted, fold,
                               pslice);
    } while (APR_STATUS_IS_INCOMPLETE(rv) && apr_time_now() < fold->deadline);
    apr_pool_destroy(pslice);
    return APR_STATUS_IS_EOF(rv) ? tus_index_complete(fold->dbm->place, p) : rv;
}

static apr_status_t fold_all(fold_t *fold, apr_interval_time_t budget, apr_pool_t *p)
{
    const dbm_t *dbm = fold->dbm;
    apr_status_t begun, rv = tus_index_judge(dbm->place, p);

    if (rv == APR_SUCCESS) {
        rv = tus_journal_fold(dbm->journal, settle_noted, fold, p);
    }
    if (rv == APR_SUCCESS) {
        rv = go_on_rebuilding(fold, budget, p);
    }
    if (rv != TUS_EDAMAGED && !APR_STATUS_IS_NOTFOUND(rv)) {
        return rv;
    }
    begun = start_rebuild(dbm, fold->cancel, p);
    if (begun != APR_SUCCESS) {
        return begun;
    }
    return rv == TUS_EDAMAGED ? rv : APR_INCOMPLETE;
}

/* A second server on the same state directory must not fold beside us: lines would get lost. */
static apr_status_t dbm_fold(tus_meta_t *meta, tus_settle_fn settle, void *baton,
                             apr_interval_time_t budget, const tus_cancel_t *cancel, apr_pool_t *p)
{
    fold_t fold = { .dbm = dbm_of(meta), .settle = settle, .baton = baton, .cancel = cancel };
    const char *path = apr_pstrcat(p, fold.dbm->place->state_dir, "/fold.lock", NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    apr_status_t rv;

    if (fd < 0) {
        return errno;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        rv = fold_all(&fold, budget, p);
    }
    else {
        rv = errno == EWOULDBLOCK ? APR_EBUSY : errno;
    }
    close(fd);
    return rv;
}

static apr_status_t dbm_walk(tus_meta_t *meta, tus_entry_fn fn, void *baton, apr_pool_t *p)
{
    return tus_index_walk(dbm_of(meta)->place, fn, baton, p);
}

/* ---- marks and links ----------------------------------------------------- */

static apr_status_t dbm_mark(tus_meta_t *meta, const char *id, apr_off_t offset, int durable)
{
    return tus_offset_note(dbm_of(meta)->place->state_dir, TUS_OFFSET_UNVERIFIED, id, offset,
                           durable);
}

static apr_status_t dbm_unmark(tus_meta_t *meta, const char *id)
{
    return tus_offset_drop(dbm_of(meta)->place->state_dir, TUS_OFFSET_UNVERIFIED, id);
}

static apr_status_t dbm_marked(tus_meta_t *meta, const char *id, apr_off_t *offset)
{
    return tus_offset_read(dbm_of(meta)->place->state_dir, TUS_OFFSET_UNVERIFIED, id, offset);
}

static apr_status_t dbm_note_synced(tus_meta_t *meta, const char *id, apr_off_t offset)
{
    const char *state_dir = dbm_of(meta)->place->state_dir;

    if (offset == 0) {
        return tus_offset_drop(state_dir, TUS_OFFSET_SYNCED, id);
    }
    return tus_offset_note(state_dir, TUS_OFFSET_SYNCED, id, offset, 1);
}

static apr_status_t dbm_synced(tus_meta_t *meta, const char *id, apr_off_t *offset)
{
    return tus_offset_read(dbm_of(meta)->place->state_dir, TUS_OFFSET_SYNCED, id, offset);
}

static apr_status_t dbm_link(tus_meta_t *meta, const char *part, const char *final)
{
    return tus_link_add(dbm_of(meta)->place->state_dir, part, final);
}

static apr_status_t dbm_links(tus_meta_t *meta, const char *part, apr_array_header_t **finals,
                              apr_pool_t *p)
{
    return tus_link_list(dbm_of(meta)->place->state_dir, part, finals, p);
}

static apr_status_t dbm_unlink(tus_meta_t *meta, const char *part)
{
    return tus_link_remove(dbm_of(meta)->place->state_dir, part);
}

/* ---- the provider -------------------------------------------------------- */

static apr_status_t dbm_open(tus_meta_t **meta, const tus_meta_place_t *place, apr_pool_t *p)
{
    dbm_t *dbm = apr_pcalloc(p, sizeof(*dbm));

    dbm->meta.provider = &tus_meta_dbm;
    dbm->place = place;
    dbm->pool = p;
    dbm->journal = apr_pstrcat(p, place->state_dir, "/journal", NULL);
    *meta = &dbm->meta;
    return APR_SUCCESS;
}

const tus_meta_provider_t tus_meta_dbm = {
    .name = "dbm",
    .check = tus_index_check_driver,
    .open = dbm_open,
    .get = dbm_get,
    .put = dbm_put,
    .remove = dbm_remove,
    .note = dbm_note,
    .fold = dbm_fold,
    .walk = dbm_walk,
    .mark = dbm_mark,
    .unmark = dbm_unmark,
    .marked = dbm_marked,
    .note_synced = dbm_note_synced,
    .synced = dbm_synced,
    .link = dbm_link,
    .links = dbm_links,
    .unlink = dbm_unlink,
};
