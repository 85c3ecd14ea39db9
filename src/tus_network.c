/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The network bucket of a connection: it stands for all that is still to come
 * from the socket, and on a read becomes a bucket of what is there, followed by
 * a new one of itself. It does what APR's own does, and where a request says so,
 * two things more: it reads in larger pieces, and moves bytes into a pipe.
 *
 * Filters see a bucket of known length in either case, and so keep counting.
 */
#include "tus_words.h"

#include <apr_portable.h>

/* Bytes of one read into memory: APR's own size for a request's head, and for a body. */
#define READ_SIZE APR_BUCKET_BUFF_SIZE
#define BULK_SIZE (64 * 1024)

/* httpd's filters look at the length of what they pass on; this is for who looks at the bytes of a
 * read, instead of reading the bucket that it left. */
static char unseen[TUS_NETWORK_MOVE_MAX];

static apr_status_t receive(apr_socket_t *socket, char *bytes, apr_size_t *len,
                            apr_read_type_e block)
{
    apr_interval_time_t timeout = 0;
    apr_status_t rv;

    if (block == APR_BLOCK_READ) {
        return apr_socket_recv(socket, bytes, len);
    }
    apr_socket_timeout_get(socket, &timeout);
    apr_socket_timeout_set(socket, 0);
    rv = apr_socket_recv(socket, bytes, len);
    apr_socket_timeout_set(socket, timeout);
    return rv;
}

static apr_status_t read_bytes(tus_network_t *network, apr_bucket *bucket, apr_size_t *len,
                               apr_read_type_e block)
{
    apr_size_t size = network->is_bulk ? BULK_SIZE : READ_SIZE;
    char *bytes = apr_bucket_alloc(size, bucket->list);
    apr_status_t rv;

    *len = size;
    rv = receive(network->socket, bytes, len, block);
    if (rv == APR_SUCCESS && *len > 0) {
        apr_bucket_heap_make(bucket, bytes, *len, apr_bucket_free);
        return APR_SUCCESS;
    }
    apr_bucket_free(bytes);
    *len = 0;
    return APR_STATUS_IS_EOF(rv) ? APR_SUCCESS : rv;
}

/* @return APR_EBUSY where there is no pipe for it */
static apr_status_t move_bytes(tus_network_t *network, apr_bucket *bucket, apr_size_t *len)
{
    apr_size_t max =
        network->left < TUS_NETWORK_MOVE_MAX ? (apr_size_t)network->left : TUS_NETWORK_MOVE_MAX;
    apr_os_sock_t socket;
    apr_status_t rv = apr_os_sock_get(&socket, network->socket);

    return rv == APR_SUCCESS ? tus_pipe_fill(bucket, socket, max, len) : rv;
}

static apr_status_t fetch(tus_network_t *network, apr_bucket *bucket, apr_size_t *len,
                          apr_read_type_e block)
{
    apr_status_t rv;

    *len = 0;
    if (network->is_shut && block == APR_NONBLOCK_READ) {
        return APR_EAGAIN;
    }
    if (network->left > 0 && block == APR_NONBLOCK_READ) {
        rv = move_bytes(network, bucket, len);
        if (!APR_STATUS_IS_EBUSY(rv)) {
            network->is_shut = rv == APR_SUCCESS;
            network->moved += (apr_off_t)*len;
            return rv;
        }
    }
    return read_bytes(network, bucket, len, block);
}

static apr_status_t bucket_read(apr_bucket *bucket, const char **str, apr_size_t *len,
                                apr_read_type_e block)
{
    tus_network_t *network = bucket->data;
    apr_status_t rv = fetch(network, bucket, len, block);

    if (rv != APR_SUCCESS) {
        *str = NULL;
        return rv;
    }
    if (*len == 0) { /* the end of it; APR's own says it like this */
        apr_bucket_immortal_make(bucket, "", 0);
        *str = bucket->data;
        return APR_SUCCESS;
    }
    network->left -= network->left < (apr_off_t)*len ? network->left : (apr_off_t)*len;
    APR_BUCKET_INSERT_AFTER(bucket, tus_network_bucket(network, bucket->list));
    *str = APR_BUCKET_IS_HEAP(bucket) ? ((apr_bucket_heap *)bucket->data)->base : unseen;
    return APR_SUCCESS;
}

static void bucket_destroy(void *data)
{
    (void)data; /* the connection's */
}

static const apr_bucket_type_t bucket_type = { "TUSNETWORK",
                                               5,
                                               APR_BUCKET_DATA,
                                               bucket_destroy,
                                               bucket_read,
                                               apr_bucket_setaside_notimpl,
                                               apr_bucket_split_notimpl,
                                               apr_bucket_copy_notimpl };

apr_bucket *tus_network_bucket(tus_network_t *network, apr_bucket_alloc_t *list)
{
    apr_bucket *bucket = apr_bucket_alloc(sizeof(*bucket), list);

    APR_BUCKET_INIT(bucket);
    bucket->type = &bucket_type;
    bucket->length = (apr_size_t)-1;
    bucket->start = -1;
    bucket->data = network;
    bucket->free = apr_bucket_free;
    bucket->list = list;
    return bucket;
}
