/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The receiver: a state machine that does not block, and a driver for it.
 *
 * tus_body_step() moves what has arrived from the connection to the store. The
 * driver waits for more on three things: the connection (for HTTP/2 a pipe of
 * mod_http2), the lock table's wakeup, and time. Bytes are stored as they
 * arrive; whatever ends the request early, they stay.
 */
#include "tus_httpd.h"

#include <apr_buckets.h>
#include <apr_poll.h>
#include <apr_strings.h>

#include <http_connection.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

/* Bytes that are gathered for one write. */
#define GATHER_SIZE (64 * 1024)

/* mod_reqtimeout looks at its clock only when it is called: not much later than this. */
#define POLL_SLICE apr_time_from_sec(1)

/* Less would be none: poll() counts in milliseconds. */
#define MIN_SLICE apr_time_from_msec(1)

/* Where there is nothing to poll for. */
#define BLIND_SLICE apr_time_from_msec(20)

void tus_body_init(tus_body_t *body, request_rec *r, tus_upload_t *upload)
{
    memset(body, 0, sizeof(*body));
    body->r = r;
    body->upload = upload;
    body->brigade = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    body->progress = apr_time_now();
    body->told = tus_hook_progress_begin(r, upload);
    body->told_at = body->progress;
    tus_amend_lift_limit(r);
}

/* ---- the step ------------------------------------------------------------ */

static tus_body_e read_failed(tus_body_t *body, apr_status_t rv)
{
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, rv, body->r,
                  "reading the body of upload %s ended after %" APR_OFF_T_FMT " bytes",
                  body->upload->record->id, body->received);
    if (APR_STATUS_IS_TIMEUP(rv)) {
        return TUS_BODY_TIMEOUT;
    }
    if (rv == AP_FILTER_ERROR || APR_STATUS_IS_ENOSPC(rv) || APR_STATUS_IS_EGENERAL(rv)
        || APR_STATUS_IS_EINVAL(rv)) {
        body->http_status = ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
        return TUS_BODY_ANSWERED;
    }
    return TUS_BODY_INCOMPLETE;
}

static tus_body_e stopped(tus_body_t *body, const tus_error_t *error)
{
    body->error = error;
    return TUS_BODY_STOPPED;
}

static apr_interval_time_t until_told(const tus_body_t *body)
{
    return body->told_at + tus_config_of(body->r)->hook_interval - apr_time_now();
}

static void tell_progress(tus_body_t *body)
{
    if (tus_hook_progress_is_news(body->told, body->upload) && until_told(body) <= 0) {
        body->told_at = apr_time_now();
        tus_hook_progress_tell(body->told, body->upload, body->r);
    }
}

/* Others hear of what was stored; one of them may have seen enough. */
static tus_body_e stored(tus_body_t *body, const tus_error_t *error)
{
    if (error) {
        body->error = error;
        return TUS_BODY_REFUSED;
    }
    tell_progress(body);
    error = tus_events_receive(body->r, body->upload);
    return error ? stopped(body, error) : TUS_BODY_AGAIN;
}

/* What was gathered is stored, however the step ends. */
static tus_body_e flush(tus_body_t *body, tus_body_e state)
{
    apr_size_t len = body->gathered;
    tus_body_e end;

    if (len == 0) {
        return state;
    }
    body->gathered = 0;
    end = stored(body, tus_append(body->upload, body->buffer, len));
    return end == TUS_BODY_AGAIN ? state : end;
}

static void gather(tus_body_t *body, const char *data, apr_size_t len)
{
    if (!body->buffer) {
        body->buffer = apr_bucket_alloc(GATHER_SIZE, body->brigade->bucket_alloc);
    }
    memcpy(body->buffer + body->gathered, data, len);
    body->gathered += len;
}

/* Filters may hand us a few KiB at a time, and many small writes cost twice as much. */
static tus_body_e store_bytes(tus_body_t *body, const char *data, apr_size_t len)
{
    int is_last = APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(body->brigade));
    int is_large = len > GATHER_SIZE / 2;
    tus_body_e state = TUS_BODY_AGAIN;

    if (is_last || is_large || body->gathered + len > GATHER_SIZE) {
        state = flush(body, state);
    }
    if (state != TUS_BODY_AGAIN) {
        return state;
    }
    if (is_last || is_large) {
        return stored(body, tus_append(body->upload, data, len));
    }
    gather(body, data, len);
    return state;
}

static tus_body_e splice_bytes(tus_body_t *body, apr_bucket *bucket, apr_os_file_t pipe)
{
    tus_body_e state = flush(body, TUS_BODY_AGAIN);
    const tus_error_t *error;

    if (state != TUS_BODY_AGAIN) {
        return state;
    }
    error = tus_append_pipe(body->upload, pipe, bucket->length);
    if (!error) {
        tus_pipe_taken(bucket);
    }
    return stored(body, error);
}

static void count(tus_body_t *body, apr_size_t len)
{
    body->received += (apr_off_t)len;
    tus_metrics_received(len);
}

static tus_body_e store_bucket(tus_body_t *body, apr_bucket *bucket)
{
    apr_os_file_t pipe = tus_pipe_of(bucket);
    const char *data;
    apr_size_t len;
    apr_status_t rv;

    if (pipe >= 0) {
        count(body, bucket->length);
        return splice_bytes(body, bucket, pipe);
    }
    rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);
    if (rv != APR_SUCCESS) {
        return read_failed(body, rv);
    }
    count(body, len);
    return store_bytes(body, data, len);
}

static tus_body_e store_brigade(tus_body_t *body)
{
    tus_body_e state = TUS_BODY_AGAIN;

    while (state == TUS_BODY_AGAIN && !APR_BRIGADE_EMPTY(body->brigade)) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(body->brigade);

        if (APR_BUCKET_IS_EOS(bucket)) {
            state = TUS_BODY_DONE;
        }
        else if (!APR_BUCKET_IS_METADATA(bucket)) {
            state = store_bucket(body, bucket);
        }
        apr_bucket_delete(bucket);
    }
    apr_brigade_cleanup(body->brigade);
    return state;
}

static tus_body_e heed(tus_body_t *body)
{
    tus_lock_t *lock = body->upload->lock;
    const tus_error_t *error;

    switch (body->upload->core->locks->provider->asked(lock)) {
    case TUS_ASKED_RELEASE:
        return TUS_BODY_ASKED;
    case TUS_ASKED_STOP:
        error = tus_hook_progress_stopped(body->told, body->r->pool);
        return stopped(body,
                       error ? error : tus_error(body->r->pool, TUS_ERR_UPLOAD_STOPPED, NULL));
    case TUS_ASKED_NOTHING:
        break;
    }
    return TUS_BODY_AGAIN;
}

/* HTTP_IN waits for what follows the last chunk: what came before does not wait with it. */
static int may_block(const tus_body_t *body)
{
    return body->splice.length < 0 && !body->r->connection->master;
}

/* @param is_dry set where nothing is there */
static tus_body_e take_brigade(tus_body_t *body, int *is_dry)
{
    request_rec *r = body->r;
    tus_body_e state = heed(body);
    apr_status_t rv;

    if (state == TUS_BODY_AGAIN && may_block(body)) {
        state = flush(body, state);
    }
    if (state != TUS_BODY_AGAIN) {
        return state;
    }
    rv = ap_get_brigade(r->input_filters, body->brigade, AP_MODE_READBYTES, APR_NONBLOCK_READ,
                        tus_splice_next(&body->splice));
    if (APR_STATUS_IS_EAGAIN(rv) || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(body->brigade))) {
        *is_dry = !tus_splice_drained(&body->splice, body->received);
        return TUS_BODY_AGAIN;
    }
    if (rv != APR_SUCCESS) {
        return read_failed(body, rv);
    }
    body->progress = apr_time_now();
    return store_brigade(body);
}

tus_body_e tus_body_step(tus_body_t *body)
{
    tus_body_e state = TUS_BODY_AGAIN;
    int is_dry = 0;

    while (state == TUS_BODY_AGAIN && !is_dry) {
        state = take_brigade(body, &is_dry);
    }
    state = flush(body, state);
    if (body->buffer) {
        apr_bucket_free(body->buffer);
        body->buffer = NULL;
    }
    return state;
}

/* ---- the poll driver ----------------------------------------------------- */

/* HTTP_IN says 100 Continue by itself only where it reads blocking. */
static void send_continue(tus_body_t *body)
{
    request_rec *r = body->r;
    int status = r->status;

    if (!r->expecting_100 || body->received) {
        return;
    }
    r->status = HTTP_CONTINUE;
    ap_send_interim_response(r, 0);
    r->status = status;
}

/* A client that stalls is told of as well. */
static apr_interval_time_t slice_of(const tus_body_t *body)
{
    apr_interval_time_t slice = POLL_SLICE;

    if (tus_hook_progress_is_news(body->told, body->upload)) {
        slice = until_told(body);
    }
    return slice < MIN_SLICE ? MIN_SLICE : slice > POLL_SLICE ? POLL_SLICE : slice;
}

static void wait_for_more(tus_body_t *body)
{
    tus_locks_t *locks = body->upload->core->locks;
    apr_interval_time_t slice = slice_of(body);
    apr_pollfd_t pollfds[2];
    apr_int32_t n = 0;
    apr_int32_t ready;
    int connected;

    memset(pollfds, 0, sizeof(pollfds));
    connected = ap_get_pollfd_from_conn(body->r->connection, &pollfds[n], NULL) == APR_SUCCESS;
    if (connected) {
        pollfds[n].reqevents = APR_POLLIN;
        n++;
    }
    else {
        slice = slice < BLIND_SLICE ? slice : BLIND_SLICE;
    }
    if (locks->provider->wakeup(locks, &pollfds[n]) == APR_SUCCESS) {
        pollfds[n].reqevents = APR_POLLIN;
        n++;
    }
    else {
        slice = slice < BLIND_SLICE ? slice : BLIND_SLICE;
    }
    if (n == 0) {
        apr_sleep(slice);
        return;
    }
    apr_poll(pollfds, n, &ready, slice);
}

static tus_body_e drive(tus_body_t *body)
{
    apr_interval_time_t timeout = body->r->server->timeout;

    for (;;) {
        tus_body_e state = tus_body_step(body);

        if (state != TUS_BODY_AGAIN) {
            return state;
        }
        if (apr_time_now() - body->progress > timeout) {
            return TUS_BODY_TIMEOUT;
        }
        send_continue(body);
        tell_progress(body);
        wait_for_more(body);
    }
}

/* A read that was ended for a newer request is no client that went away. */
tus_body_e tus_body_receive(tus_body_t *body, apr_off_t length)
{
    tus_nudge_t nudge;
    tus_body_e state;

    tus_nudge_begin(&nudge, body->r, body->upload);
    tus_splice_begin(&body->splice, body->r, body->upload, length);
    state = drive(body);
    tus_nudge_end(&nudge);
    tus_splice_end(&body->splice, body->r);
    if (nudge.done && state != TUS_BODY_DONE && state != TUS_BODY_REFUSED) {
        state = heed(body);
    }
    return state;
}
