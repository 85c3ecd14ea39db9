/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The change journal of a store: ids whose entry in the index may be stale.
 *
 *   +ID   its data file is about to be made
 *   =ID   its record was written or removed
 *
 * A line ends with a newline. No id has a sign in it, so what a torn write left
 * in front of the last sign of a line is told apart, and dropped.
 *
 * Requests append to `journal`, and then look whether it is still the file that they
 * have open. A folder puts a new one in its place, reads the old one, now
 * `journal.fold`, and removes it last. So nobody waits for a lock: what was written
 * while the name led there is read, and who comes too late writes once more. A line
 * may be read twice, which changes nothing. It takes one system that all see alike,
 * as does the mutex of the index. Nothing is on stable storage: another boot means a
 * scan of the store.
 *
 * Only a folder makes a journal with a header, and the name is never missing. So
 * one that was removed or cut, and was then made or gone on with by a request,
 * shows: it has no header, or a line that is not whole. Lines may be missing
 * then, which only a scan of the store brings back. What cannot be told is a cut
 * just between two lines.
 */
#include "tus_words.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_rwlock.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is read at once; with the usual ids some thousand lines. */
#define BLOCK (32 * 1024)

/* A sign, the longest valid id, a newline. */
#define LINE_MAX_BYTES (TUS_ID_MAX + 2)

/* The first line. Without a sign, so that it says nothing to who reads ids. */
#define HEADER "mod_tus journal 1\n"
#define HEADER_LEN (sizeof(HEADER) - 1)

/* How often a line is written, should the journal be replaced each time. */
#define APPEND_TRIES 100

/* More than a write of some lines takes. */
#define LATE_WRITE apr_time_from_msec(10)

/* ---- writing ------------------------------------------------------------- */

/* A journal that is open for appending. */
typedef struct appender_t {
    int fd; /* -1: none */
    struct stat file;
} appender_t;

/* One that this process keeps open. Who writes shares the lock. */
typedef struct kept_t {
    apr_thread_rwlock_t *lock; /* NULL: none is kept */
    appender_t appender;
    char path[APR_PATH_MAX];
} kept_t;

/* By a hash of the path: of two in one place the latest is kept. */
static kept_t all_kept[16];

#define KEPT_MAX (sizeof(all_kept) / sizeof(all_kept[0]))

static kept_t *kept_of(const char *path)
{
    apr_ssize_t len = APR_HASH_KEY_STRING;

    return &all_kept[apr_hashfunc_default(path, &len) % KEPT_MAX];
}

static apr_status_t close_all(void *unused)
{
    (void)unused;
    for (apr_size_t i = 0; i < KEPT_MAX; i++) {
        if (all_kept[i].appender.fd >= 0) {
            close(all_kept[i].appender.fd);
        }
        all_kept[i].lock = NULL;
    }
    return APR_SUCCESS;
}

apr_status_t tus_journal_init(apr_pool_t *p)
{
    for (apr_size_t i = 0; i < KEPT_MAX; i++) {
        apr_status_t rv = apr_thread_rwlock_create(&all_kept[i].lock, p);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        all_kept[i].appender.fd = -1;
    }
    apr_pool_cleanup_register(p, NULL, close_all, apr_pool_cleanup_null);
    return APR_SUCCESS;
}

static int is_same(const struct stat *one, const struct stat *other)
{
    return one->st_ino == other->st_ino && one->st_dev == other->st_dev;
}

static apr_status_t open_appender(appender_t *appender, const char *path)
{
    apr_status_t rv = APR_SUCCESS;

    appender->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (appender->fd < 0) {
        return errno;
    }
    if (fstat(appender->fd, &appender->file) != 0) {
        rv = errno;
        close(appender->fd);
    }
    return rv;
}

/* @return APR_EAGAIN if the lines may be in a file that is read no more */
static apr_status_t write_lines(const appender_t *appender, const char *path, const char *lines,
                                apr_size_t len)
{
    struct stat named;
    ssize_t written = write(appender->fd, lines, len);

    if (written < 0) {
        return errno;
    }
    if ((apr_size_t)written < len) {
        return ENOSPC;
    }
    return stat(path, &named) == 0 && is_same(&named, &appender->file) ? APR_SUCCESS : APR_EAGAIN;
}

static apr_status_t append_kept(const kept_t *kept, const char *path, const char *lines,
                                apr_size_t len)
{
    apr_status_t rv = APR_EAGAIN;

    if (!kept->lock) {
        return APR_EAGAIN;
    }
    apr_thread_rwlock_rdlock(kept->lock);
    if (kept->appender.fd >= 0 && strcmp(kept->path, path) == 0) {
        rv = write_lines(&kept->appender, path, lines, len);
    }
    apr_thread_rwlock_unlock(kept->lock);
    return rv;
}

/* For the next one of this process; what was kept there is closed. */
static void keep(kept_t *kept, const appender_t *appender, const char *path)
{
    appender_t former = *appender;

    if (kept->lock) {
        apr_thread_rwlock_wrlock(kept->lock);
        former = kept->appender;
        kept->appender = *appender;
        apr_cpystrn(kept->path, path, sizeof(kept->path));
        apr_thread_rwlock_unlock(kept->lock);
    }
    if (former.fd >= 0) {
        close(former.fd);
    }
}

static apr_status_t append(const char *path, const char *lines, apr_size_t len)
{
    kept_t *kept = kept_of(path);
    appender_t appender;
    apr_status_t rv = append_kept(kept, path, lines, len);

    for (int tries = 0; APR_STATUS_IS_EAGAIN(rv) && tries < APPEND_TRIES; tries++) {
        rv = open_appender(&appender, path);
        if (rv == APR_SUCCESS) {
            rv = write_lines(&appender, path, lines, len);
            keep(kept, &appender, path);
        }
    }
    return rv;
}

static char sign_of(int created)
{
    return created ? '+' : '=';
}

apr_status_t tus_journal_note(const char *path, const char *id, int created)
{
    char line[LINE_MAX_BYTES];
    apr_size_t len;

    if (!tus_id_is_valid(id)) {
        return APR_EINVAL;
    }
    len = strlen(id);
    line[0] = sign_of(created);
    memcpy(line + 1, id, len);
    line[len + 1] = '\n';
    return append(path, line, len + 2);
}

/* All in one write: torn or not, no other line suffers. */
apr_status_t tus_journal_carry(const char *path, const apr_array_header_t *noted, apr_pool_t *p)
{
    apr_array_header_t *lines = apr_array_make(p, noted->nelts, sizeof(const char *));
    const char *text;
    int i;

    for (i = 0; i < noted->nelts; i++) {
        const tus_noted_t *one = &APR_ARRAY_IDX(noted, i, tus_noted_t);

        if (one->carry) {
            APR_ARRAY_PUSH(lines, const char *) =
                apr_psprintf(p, "%c%s\n", sign_of(one->created), one->id);
        }
    }
    if (lines->nelts == 0) {
        return APR_SUCCESS;
    }
    text = apr_array_pstrcat(p, lines, 0);
    return append(path, text, strlen(text));
}

/* ---- reading ------------------------------------------------------------- */

/* The line from its last sign on, if that is whole, or NULL. Its end is set to NUL. */
static const char *intact(const char *line, char *end)
{
    const char *text = end;

    *end = '\0';
    while (text > line) {
        text--;
        if (*text == '+' || *text == '=') {
            return text + strlen(text) == end && tus_id_is_valid(text + 1) ? text : NULL;
        }
    }
    return NULL;
}

static void add_line(apr_array_header_t *noted, apr_hash_t *seen, const char *line, apr_off_t end)
{
    const char *id = line + 1;
    tus_noted_t *one;
    intptr_t known = (intptr_t)apr_hash_get(seen, id, APR_HASH_KEY_STRING);

    if (known) {
        one = &APR_ARRAY_IDX(noted, known - 1, tus_noted_t);
        one->created |= *line == '+';
        return;
    }
    one = apr_array_push(noted);
    *one = (tus_noted_t){ .id = id, .created = *line == '+', .end = end };
    apr_hash_set(seen, id, APR_HASH_KEY_STRING, (void *)(intptr_t)noted->nelts);
}

static apr_status_t read_block(int fd, apr_off_t offset, char *block, apr_size_t size,
                               apr_size_t *len)
{
    ssize_t n;

    do {
        n = pread(fd, block, size, offset);
    } while (n < 0 && errno == EINTR);
    *len = n < 0 ? 0 : (apr_size_t)n;
    return n < 0 ? errno : APR_SUCCESS;
}

/* damaged: set if there is more than whole lines */
static apr_status_t read_lines(int fd, apr_off_t *offset, apr_array_header_t **noted, int *damaged,
                               apr_pool_t *p)
{
    char *block = apr_palloc(p, BLOCK);
    char *line = block, *newline, *end;
    apr_hash_t *seen = apr_hash_make(p);
    apr_size_t len;
    apr_status_t rv = read_block(fd, *offset, block, BLOCK, &len);

    *noted = apr_array_make(p, 64, sizeof(tus_noted_t));
    end = block + len;
    while ((newline = memchr(line, '\n', (apr_size_t)(end - line))) != NULL) {
        const char *text = intact(line, newline);

        *damaged |= text != line;
        line = newline + 1;
        if (text) {
            add_line(*noted, seen, text, *offset + (line - block));
        }
    }
    if (line > block) {
        *offset += line - block;
    }
    else if (len > 0) { /* no newline in so much, or none before the end: it is no line */
        *damaged = 1;
        *offset += (apr_off_t)len;
    }
    return rv;
}

apr_status_t tus_journal_read(int fd, apr_off_t *offset, apr_array_header_t **noted, apr_pool_t *p)
{
    int damaged;

    return read_lines(fd, offset, noted, &damaged, p);
}

/* ---- a new journal ------------------------------------------------------- */

static const char *beside(const char *path, const char *suffix, apr_pool_t *p)
{
    return apr_pstrcat(p, path, suffix, NULL);
}

static const char *fold_path(const char *path, apr_pool_t *p)
{
    return beside(path, ".fold", p);
}

/*
 * Puts a new journal in the place of the one that is there, which becomes
 * journal.fold. TUS_EDAMAGED if there was none; then there is one now.
 */
static apr_status_t replace_journal(const char *path, apr_pool_t *p)
{
    const char *fold = fold_path(path, p), *fresh = beside(path, ".new", p);
    apr_status_t rv = tus_small_replace(fresh, HEADER, 0, p);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    while (link(path, fold) != 0) {
        if (errno != ENOENT) {
            return errno;
        }
        if (link(fresh, path) == 0) {
            return unlink(fresh) == 0 ? TUS_EDAMAGED : errno;
        }
        if (errno != EEXIST) { /* a request was first */
            return errno;
        }
    }
    return rename(fresh, path) == 0 ? APR_SUCCESS : errno;
}

/* A folder that died between its link and its rename: all of that is in the journal. */
static apr_status_t drop_second_name(const char *path, apr_pool_t *p)
{
    const char *fold = fold_path(path, p);
    struct stat one, other;

    if (stat(path, &one) != 0 || stat(fold, &other) != 0 || !is_same(&one, &other)) {
        return APR_SUCCESS;
    }
    return tus_small_remove(fold);
}

/* The bytes of a journal, up to one more than its header; 0 of one without that. */
static apr_size_t measure(int fd)
{
    char text[HEADER_LEN + 1];
    apr_size_t len;

    if (read_block(fd, 0, text, sizeof(text), &len) != APR_SUCCESS || len < HEADER_LEN
        || memcmp(text, HEADER, HEADER_LEN) != 0) {
        return 0;
    }
    return len;
}

/* ---- folding ------------------------------------------------------------- */

/* APR_ENOENT if there is nothing to be folded. */
static apr_status_t open_fold(const char *path, int *fd)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    return *fd < 0 ? errno : APR_SUCCESS;
}

/* Who comes too late is perhaps in the middle of a line. */
static apr_status_t read_settled(int fd, apr_off_t *offset, apr_array_header_t **noted,
                                 int *damaged, apr_pool_t *p)
{
    apr_off_t start = *offset;
    apr_status_t rv = read_lines(fd, offset, noted, damaged, p);

    if (rv == APR_SUCCESS && *damaged) {
        apr_sleep(LATE_WRITE);
        *offset = start;
        *damaged = 0;
        rv = read_lines(fd, offset, noted, damaged, p);
    }
    return rv;
}

static void keep_carried(apr_array_header_t *carried, const apr_array_header_t *noted)
{
    int i;

    for (i = 0; i < noted->nelts; i++) {
        const tus_noted_t *one = &APR_ARRAY_IDX(noted, i, tus_noted_t);

        if (one->carry) {
            tus_noted_t *kept = apr_array_push(carried);

            *kept = *one;
            kept->id = apr_pstrdup(carried->pool, one->id);
        }
    }
}

static apr_status_t fold_lines(int fd, apr_array_header_t *carried, tus_noted_fn fn, void *baton,
                               apr_pool_t *p)
{
    apr_pool_t *pblock;
    apr_off_t offset = HEADER_LEN, before;
    apr_array_header_t *noted;
    int damaged = 0;
    apr_status_t rv;

    apr_pool_create(&pblock, p);
    do {
        apr_pool_clear(pblock);
        before = offset;
        rv = read_settled(fd, &offset, &noted, &damaged, pblock);
        if (rv == APR_SUCCESS && damaged) {
            rv = TUS_EDAMAGED;
        }
        if (rv == APR_SUCCESS && noted->nelts > 0) {
            rv = fn(baton, noted, pblock);
            keep_carried(carried, noted);
        }
    } while (rv == APR_SUCCESS && offset > before);
    apr_pool_destroy(pblock);
    return rv;
}

/*
 * The carried lines stand in the journal before the file that has them now goes.
 * @param missing returned if there is no journal.fold
 */
static apr_status_t fold_file(const char *path, apr_status_t missing, tus_noted_fn fn, void *baton,
                              apr_pool_t *p)
{
    const char *fold = fold_path(path, p);
    apr_array_header_t *carried = apr_array_make(p, 16, sizeof(tus_noted_t));
    int fd;
    apr_status_t rv = open_fold(fold, &fd);

    if (rv != APR_SUCCESS) {
        return APR_STATUS_IS_ENOENT(rv) ? missing : rv;
    }
    rv = measure(fd) ? fold_lines(fd, carried, fn, baton, p) : TUS_EDAMAGED;
    close(fd);
    if (rv == APR_SUCCESS) {
        rv = tus_journal_carry(path, carried, p);
    }
    return rv == APR_SUCCESS ? tus_small_remove(fold) : rv;
}

/* Is there a journal with a header and nothing else? Without a lock: what comes now can wait. */
static int is_blank(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    apr_size_t len;

    if (fd < 0) {
        return 0;
    }
    len = measure(fd);
    close(fd);
    return len == HEADER_LEN;
}

apr_status_t tus_journal_fold(const char *path, tus_noted_fn fn, void *baton, apr_pool_t *p)
{
    apr_status_t rv = drop_second_name(path, p);

    if (rv == APR_SUCCESS) {
        rv = fold_file(path, APR_SUCCESS, fn, baton, p); /* left by a crash */
    }
    if (rv != APR_SUCCESS || is_blank(path)) {
        return rv;
    }
    rv = replace_journal(path, p);
    return rv == APR_SUCCESS ? fold_file(path, TUS_EDAMAGED, fn, baton, p) : rv;
}

/* ---- mending ------------------------------------------------------------- */

/* All of the lines, a block at a time: who never folds may have very many. */
static apr_status_t carry_lines(int fd, const char *path, apr_pool_t *p)
{
    apr_off_t offset = 0, before;
    apr_array_header_t *noted;
    apr_pool_t *pblock;
    apr_status_t rv;

    apr_pool_create(&pblock, p);
    do {
        apr_pool_clear(pblock);
        before = offset;
        rv = tus_journal_read(fd, &offset, &noted, pblock);
        for (int i = 0; i < noted->nelts; i++) {
            APR_ARRAY_IDX(noted, i, tus_noted_t).carry = 1;
        }
        if (rv == APR_SUCCESS) {
            rv = tus_journal_carry(path, noted, pblock);
        }
    } while (rv == APR_SUCCESS && offset > before);
    apr_pool_destroy(pblock);
    return rv;
}

static apr_status_t carry_file(const char *path, apr_pool_t *p)
{
    const char *fold = fold_path(path, p);
    int fd;
    apr_status_t rv = open_fold(fold, &fd);

    if (rv != APR_SUCCESS) {
        return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
    }
    rv = carry_lines(fd, path, p);
    close(fd);
    return rv == APR_SUCCESS ? tus_small_remove(fold) : rv;
}

apr_status_t tus_journal_mend(const char *path, apr_pool_t *p)
{
    apr_status_t rv = drop_second_name(path, p);

    if (rv == APR_SUCCESS) {
        rv = carry_file(path, p); /* left by a crash */
    }
    if (rv == APR_SUCCESS) {
        rv = replace_journal(path, p);
    }
    if (rv == APR_SUCCESS) {
        rv = carry_file(path, p);
    }
    return rv == TUS_EDAMAGED ? APR_SUCCESS : rv; /* there was none */
}
