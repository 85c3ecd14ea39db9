/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Bytes in a pipe, as a bucket: they go from a socket into a file without being
 * seen by us. Whoever does want to see them reads the bucket, and has them.
 *
 * The kernel allows each user so many pages of pipes, and whoever has more gets
 * pipes that are of no use. But one is needed only from when bytes came until
 * they are stored, never while a client is waited for. So a process has a few,
 * and lends one for as long as there is a bucket with bytes in it.
 */
#include "tus_words.h"

#include <apr_atomic.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PIPES 4

/* Bytes of a pipe, a power of two: each halving costs a sixth of the speed. */
#define PIPE_MAX (1024 * 1024)
#define PIPE_MIN (64 * 1024)

/* Bytes of the pipes of all processes: half of what Linux allows a user, who may have others. */
#define BUDGET APR_INT64_C(33554432)

typedef struct pipe_t {
    apr_bucket_refcount refcount; /* comes first: how many buckets have bytes in it */
    volatile apr_uint32_t is_lent;
    int is_open;
    int ends[2];      /* to read from, to write to */
    apr_off_t filled; /* bytes that were put in since it was lent */
    apr_off_t taken;  /* and taken out */
} pipe_t;

static pipe_t pipes[PIPES];
static int pipe_count;
static int pipe_size;

/* ---- the pipes of this process ------------------------------------------- */

static void close_pipe(pipe_t *pipe)
{
    if (pipe->is_open) {
        close(pipe->ends[0]);
        close(pipe->ends[1]);
        pipe->is_open = 0;
    }
}

static apr_status_t close_all(void *unused)
{
    (void)unused;
    for (int i = 0; i < pipe_count; i++) {
        close_pipe(&pipes[i]);
    }
    pipe_count = 0;
    return APR_SUCCESS;
}

void tus_pipe_init(int processes, int threads, apr_pool_t *pchild)
{
    memset(pipes, 0, sizeof(pipes));
    pipe_count = threads < PIPES ? threads : PIPES;
    pipe_size = PIPE_MAX;
    while (pipe_size > PIPE_MIN && (apr_int64_t)processes * pipe_count * pipe_size > BUDGET) {
        pipe_size /= 2;
    }
    apr_pool_cleanup_register(pchild, NULL, close_all, apr_pool_cleanup_null);
}

/* Nonzero if it is open and of some size: who has too many pipes gets tiny ones. */
static int open_pipe(pipe_t *pipe)
{
    if (!pipe->is_open && pipe2(pipe->ends, O_CLOEXEC | O_NONBLOCK) == 0) {
        pipe->is_open = 1;
        if (fcntl(pipe->ends[1], F_SETPIPE_SZ, pipe_size) < 0
            && fcntl(pipe->ends[1], F_GETPIPE_SZ) < PIPE_MIN) {
            close_pipe(pipe);
        }
    }
    return pipe->is_open;
}

/* What is left in it belongs to nobody any more. */
static void give_back(pipe_t *pipe)
{
    if (pipe->taken != pipe->filled) {
        close_pipe(pipe);
    }
    apr_atomic_set32(&pipe->is_lent, 0);
}

static pipe_t *lend(void)
{
    for (int i = 0; i < pipe_count; i++) {
        pipe_t *pipe = &pipes[i];

        if (apr_atomic_cas32(&pipe->is_lent, 1, 0) == 0) {
            pipe->filled = pipe->taken = 0;
            if (open_pipe(pipe)) {
                return pipe;
            }
            give_back(pipe);
            return NULL;
        }
    }
    return NULL;
}

/* ---- the bucket ---------------------------------------------------------- */

static void bucket_destroy(void *data)
{
    if (apr_bucket_shared_destroy(data)) {
        give_back(data);
    }
}

/* Out of turn they would be another bucket's bytes. */
static int is_next(const apr_bucket *bucket)
{
    const pipe_t *pipe = bucket->data;

    return bucket->start == pipe->taken;
}

static apr_status_t read_all(int fd, char *to, apr_size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, to, len);

        if (n > 0) {
            to += n;
            len -= (apr_size_t)n;
        }
        else if (n == 0 || errno != EINTR) {
            return APR_EGENERAL;
        }
    }
    return APR_SUCCESS;
}

/* It becomes a bucket of bytes in memory. */
static apr_status_t bucket_read(apr_bucket *bucket, const char **str, apr_size_t *len,
                                apr_read_type_e block)
{
    pipe_t *pipe = bucket->data;
    apr_size_t length = bucket->length;
    char *bytes;
    apr_status_t rv;

    (void)block; /* they are all there */
    if (!is_next(bucket)) {
        return APR_EGENERAL;
    }
    bytes = apr_bucket_alloc(length, bucket->list);
    rv = read_all(pipe->ends[0], bytes, length);
    if (rv != APR_SUCCESS) {
        apr_bucket_free(bytes);
        return rv;
    }
    tus_pipe_taken(bucket);
    bucket_destroy(pipe);
    apr_bucket_heap_make(bucket, bytes, length, apr_bucket_free);
    *str = bytes;
    *len = length;
    return APR_SUCCESS;
}

static apr_status_t bucket_setaside(apr_bucket *bucket, apr_pool_t *p)
{
    const char *str;
    apr_size_t len;

    (void)p;
    return bucket_read(bucket, &str, &len, APR_BLOCK_READ);
}

static apr_status_t bucket_copy(apr_bucket *bucket, apr_bucket **copy)
{
    const char *str;
    apr_size_t len;
    apr_status_t rv = bucket_read(bucket, &str, &len, APR_BLOCK_READ);

    return rv == APR_SUCCESS ? apr_bucket_copy(bucket, copy) : rv;
}

static const apr_bucket_type_t bucket_type = { "TUSPIPE",
                                               5,
                                               APR_BUCKET_DATA,
                                               bucket_destroy,
                                               bucket_read,
                                               bucket_setaside,
                                               apr_bucket_shared_split,
                                               bucket_copy };

apr_status_t tus_pipe_fill(apr_bucket *bucket, apr_os_sock_t socket, apr_size_t max,
                           apr_size_t *len)
{
    pipe_t *pipe = lend();
    apr_status_t rv;
    ssize_t n;

    *len = 0;
    if (!pipe) {
        return APR_EBUSY;
    }
    do {
        n = splice(socket, NULL, pipe->ends[1], NULL, max, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        rv = n < 0 ? errno : APR_SUCCESS;
        give_back(pipe);
        return rv;
    }
    pipe->filled = n;
    *len = (apr_size_t)n;
    apr_bucket_shared_make(bucket, pipe, 0, *len);
    bucket->type = &bucket_type;
    return APR_SUCCESS;
}

apr_os_file_t tus_pipe_of(const apr_bucket *bucket)
{
    const pipe_t *pipe = bucket->data;

    return bucket->type == &bucket_type && is_next(bucket) ? pipe->ends[0] : -1;
}

void tus_pipe_taken(apr_bucket *bucket)
{
    pipe_t *pipe = bucket->data;

    pipe->taken += (apr_off_t)bucket->length;
}
