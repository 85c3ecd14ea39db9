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

/* Bytes asked of the filters at once. */
#define READ_SIZE (1024 * 1024)

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

static tus_body_e store_bucket(tus_body_t *body, apr_bucket *bucket)
{
    const char *data;
    apr_size_t len;
    apr_status_t rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);

    if (rv != APR_SUCCESS) {
        return read_failed(body, rv);
    }
    body->received += (apr_off_t)len;
    tus_metrics_received(len);
    body->error = tus_append(body->upload, data, len);
    return body->error ? TUS_BODY_REFUSED : TUS_BODY_AGAIN;
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

static tus_body_e stopped(tus_body_t *body, const tus_error_t *error)
{
    body->error = error;
    return TUS_BODY_STOPPED;
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
static tus_body_e tell(tus_body_t *body, tus_body_e state)
{
    const tus_error_t *error = NULL;

    if (state == TUS_BODY_AGAIN) {
        tell_progress(body);
    }

    if (state == TUS_BODY_AGAIN || state == TUS_BODY_DONE) {
        error = tus_events_receive(body->r, body->upload);
    }
    return error ? stopped(body, error) : state;
}

tus_body_e tus_body_step(tus_body_t *body)
{
    request_rec *r = body->r;
    tus_body_e state = TUS_BODY_AGAIN;

    while (state == TUS_BODY_AGAIN) {
        apr_status_t rv;

        state = heed(body);
        if (state != TUS_BODY_AGAIN) {
            return state;
        }
        rv = ap_get_brigade(r->input_filters, body->brigade, AP_MODE_READBYTES, APR_NONBLOCK_READ,
                            READ_SIZE);
        if (APR_STATUS_IS_EAGAIN(rv) || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(body->brigade))) {
            return TUS_BODY_AGAIN;
        }
        if (rv != APR_SUCCESS) {
            return read_failed(body, rv);
        }
        body->progress = apr_time_now();
        state = tell(body, store_brigade(body));
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
tus_body_e tus_body_receive(tus_body_t *body)
{
    tus_nudge_t nudge;
    tus_body_e state;

    tus_nudge_begin(&nudge, body->r, body->upload);
    state = drive(body);
    tus_nudge_end(&nudge);
    if (nudge.done && state != TUS_BODY_DONE && state != TUS_BODY_REFUSED) {
        state = heed(body);
    }
    return state;
}
