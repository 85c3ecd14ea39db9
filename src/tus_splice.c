/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which bodies are spliced: moved from the socket into the store by the kernel.
 * The network bucket does that, below httpd's filters, so all there is to say is
 * where it may begin and has to end.
 *
 * httpd read the start of the body together with the request's head. That has to
 * leave its buffers first: then the rest of the body, and no byte of what follows
 * it, is still in the socket.
 */
#include "tus_httpd.h"

#include <ap_mpm.h>

#include <http_connection.h>
#include <http_ssl.h>
#include <util_filter.h>

#include <string.h>

/* Bytes that are asked for where they are read; so many lie in memory at once. */
#define READ_SIZE (256 * 1024)

/* Of less there is nothing to gain. */
#define LENGTH_MIN (128 * 1024)

void tus_splice_init(apr_pool_t *pchild)
{
    int processes = 1, threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &processes);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    tus_pipe_init(processes, threads > 0 ? threads : 1, pchild);
}

apr_status_t tus_splice_connection(conn_rec *c, apr_bucket_brigade *brigade, apr_socket_t *socket)
{
    tus_network_t *network;

    if (c->outgoing) {
        return AP_DECLINED;
    }
    network = apr_pcalloc(c->pool, sizeof(*network));
    network->socket = socket;
    ap_set_module_config(c->conn_config, &tus_module, network);
    APR_BRIGADE_INSERT_TAIL(brigade, tus_network_bucket(network, c->bucket_alloc));
    return APR_SUCCESS;
}

/* These look at the length of what passes, not at the bytes; remoteip_input, once the PROXY header
 * is read, at nothing. */
static int is_blind(const ap_filter_t *filter)
{
    static const char *const names[] = { "http_in", "reqtimeout", "log_input_output",
                                         "remoteip_input", "core_in" };

    for (apr_size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(filter->frec->name, names[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

static int is_eligible(const request_rec *r, const tus_upload_t *upload, apr_off_t length)
{
    if (length < LENGTH_MIN || !tus_append_can_splice(upload)
        || ap_ssl_conn_is_ssl(r->connection)) {
        return 0;
    }
    for (const ap_filter_t *filter = r->input_filters; filter; filter = filter->next) {
        if (!is_blind(filter)) {
            return 0;
        }
    }
    return 1;
}

/* An HTTP/2 stream has a connection of its own, which reads no socket. */
void tus_splice_begin(tus_splice_t *splice, const request_rec *r, const tus_upload_t *upload,
                      apr_off_t length)
{
    *splice = (tus_splice_t){ .length = length };
    if (r->connection->master) {
        return;
    }
    splice->network = ap_get_module_config(r->connection->conn_config, &tus_module);
    if (splice->network) {
        splice->network->is_bulk = 1;
        splice->is_draining = splice->network->is_shut = is_eligible(r, upload, length);
    }
}

apr_off_t tus_splice_next(const tus_splice_t *splice)
{
    tus_network_t *network = splice->network;

    if (!network || splice->is_draining || network->left == 0) {
        return READ_SIZE;
    }
    network->is_shut = 0;
    return TUS_NETWORK_MOVE_MAX;
}

int tus_splice_drained(tus_splice_t *splice, apr_off_t received)
{
    if (!splice->is_draining) {
        return 0;
    }
    splice->is_draining = 0;
    splice->network->left = splice->length - received;
    return 1;
}

void tus_splice_end(const tus_splice_t *splice, const request_rec *r)
{
    tus_network_t *network = splice->network;

    if (!network) {
        return;
    }
    if (network->moved) {
        ap_log_rerror(APLOG_MARK, APLOG_TRACE1, 0, r, "%" APR_OFF_T_FMT " bytes were spliced",
                      network->moved);
    }
    network->is_bulk = network->is_shut = 0;
    network->left = network->moved = 0;
}
