/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Counters in shared memory, and what they look like to Prometheus. All
 * children of all generations add to the same ones, so they grow for as long as
 * the parent lives.
 */
#include "tus_httpd.h"

#include <apr_atomic.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include <stddef.h>
#include <string.h>

typedef volatile apr_uint64_t counter_t;

/* An error with another status than its own; how many different ones are told apart. */
#define PAIRS 64

typedef struct pair_t {
    counter_t key; /* pair_key(), or 0: free. Never changes once it is set. */
    counter_t count;
} pair_t;

/* The last of them is any other method. */
static const char *const methods[] = {
    "GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "other"
};
#define METHOD_COUNT (sizeof methods / sizeof *methods)

/* How long calls of hooks take: upper bounds in microseconds; the last bucket has all. */
static const apr_interval_time_t bounds[] = { 5000,   10000,   25000,   50000,   100000,  250000,
                                              500000, 1000000, 2500000, 5000000, 10000000 };
#define BOUND_COUNT (sizeof bounds / sizeof *bounds)

/* Of one of the events. */
typedef struct hook_t {
    counter_t invocations;
    counter_t errors;
    counter_t retries;
    counter_t given_up;
    counter_t buckets[BOUND_COUNT + 1];
    counter_t microseconds;
} hook_t;

/* What TUS_METRICS_LAYOUT stands for. */
typedef struct counters_t {
    counter_t requests[METHOD_COUNT];
    counter_t errors[TUS_ERR_COUNT]; /* with their own status */
    pair_t pairs[PAIRS];
    counter_t other[TUS_ERR_COUNT]; /* with another, when there was no pair left */
    counter_t received;
    counter_t uploads[TUS_METRIC_COUNT];
    hook_t hooks[TUS_HOOK_COUNT];
    counter_t parked; /* a gauge; nothing raises it yet, as no upload is parked in this version */
} counters_t;

static counters_t *counters;

apr_size_t tus_metrics_size(void)
{
    return sizeof *counters;
}

void tus_metrics_open(void *base)
{
    counters = base;
}

/* ---- counting ------------------------------------------------------------ */

static void add(counter_t *counter, apr_uint64_t n)
{
    apr_atomic_add64(counter, n);
}

/* Errors of one code are one for those who count them. */
static tus_err_e counted_as(tus_err_e err)
{
    return err == TUS_ERR_HOOK_BUSY ? TUS_ERR_TOO_BUSY : err;
}

static apr_uint64_t pair_key(tus_err_e err, int status)
{
    return ((apr_uint64_t)err + 1) << 32 | (apr_uint32_t)status;
}

/* Its counter; a free one is taken for it. NULL if there is none left. */
static counter_t *find_pair(apr_uint64_t key)
{
    for (int i = 0; i < PAIRS; i++) {
        pair_t *pair = &counters->pairs[i];
        apr_uint64_t found = apr_atomic_read64(&pair->key);

        if (!found) {
            found = apr_atomic_cas64(&pair->key, key, 0);
        }
        if (!found || found == key) {
            return &pair->count;
        }
    }
    return NULL;
}

/* Its value, 0 where it was never counted. */
static apr_uint64_t read_pair(apr_uint64_t key)
{
    for (int i = 0; i < PAIRS; i++) {
        pair_t *pair = &counters->pairs[i];

        if (apr_atomic_read64(&pair->key) == key) {
            return apr_atomic_read64(&pair->count);
        }
    }
    return 0;
}

void tus_metrics_upload(tus_metric_e what)
{
    if (counters) {
        add(&counters->uploads[what], 1);
    }
}

void tus_metrics_request(const request_rec *r)
{
    apr_size_t i = 0;

    if (!counters) {
        return;
    }
    while (i < METHOD_COUNT - 1 && strcmp(r->method, methods[i]) != 0) {
        i++;
    }
    add(&counters->requests[i], 1);
}

/* Another module may have given it a status; else it is the error's own. */
void tus_metrics_error(const tus_error_t *error, int status)
{
    int is_own = status == error->status && !(error->reply && error->reply->status);
    tus_err_e err = counted_as(error->err);
    counter_t *counter;

    if (!counters) {
        return;
    }
    counter = is_own ? &counters->errors[err] : find_pair(pair_key(err, status));
    add(counter ? counter : &counters->other[err], 1);
}

void tus_metrics_received(apr_size_t bytes)
{
    if (counters) {
        add(&counters->received, bytes);
    }
}

void tus_metrics_hook(tus_hook_e type, apr_interval_time_t time, int is_told)
{
    apr_size_t i = 0;
    hook_t *hook;

    if (!counters) {
        return;
    }
    while (i < BOUND_COUNT && time > bounds[i]) {
        i++;
    }
    hook = &counters->hooks[type];
    add(&hook->invocations, 1);
    add(&hook->errors, !is_told);
    add(&hook->buckets[i], 1);
    add(&hook->microseconds, (apr_uint64_t)time);
}

void tus_metrics_hook_retry(tus_hook_e type)
{
    if (counters) {
        add(&counters->hooks[type].retries, 1);
    }
}

void tus_metrics_hook_given_up(tus_hook_e type)
{
    if (counters) {
        add(&counters->hooks[type].given_up, 1);
    }
}

/* ---- Prometheus's text format 0.0.4 -------------------------------------- */

#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

static const struct {
    const char *name;
    const char *help;
} uploads[] = {
    [TUS_METRIC_CREATED] = { "tus_uploads_created_total", "Uploads that were created." },
    [TUS_METRIC_FINISHED] = { "tus_uploads_finished_total", "Uploads that were finished." },
    [TUS_METRIC_TERMINATED] = { "tus_uploads_terminated_total",
                                "Uploads that were terminated by a client." },
    [TUS_METRIC_EXPIRED] = { "tus_uploads_expired_total",
                             "Unfinished uploads that expired and were removed." },
    [TUS_METRIC_INTERRUPTED] = { "tus_uploads_interrupted_total",
                                 "Requests that ended before their body was stored." },
};

_Static_assert(sizeof uploads / sizeof *uploads == TUS_METRIC_COUNT,
               "everything that happens to uploads needs its name here");

static void print_type(request_rec *r, const char *name, const char *type, const char *help)
{
    ap_rprintf(r, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_value(request_rec *r, const char *name, const char *type, const char *help,
                        apr_uint64_t value)
{
    print_type(r, name, type, help);
    ap_rprintf(r, "%s %" APR_UINT64_T_FMT "\n", name, value);
}

static void print_requests(request_rec *r)
{
    print_type(r, "tus_requests_total", "counter", "Requests to endpoints, by method.");
    for (apr_size_t i = 0; i < METHOD_COUNT; i++) {
        ap_rprintf(r, "tus_requests_total{method=\"%s\"} %" APR_UINT64_T_FMT "\n", methods[i],
                   apr_atomic_read64(&counters->requests[i]));
    }
}

static void print_error(request_rec *r, const char *code, const char *status, apr_uint64_t value)
{
    ap_rprintf(r, "tus_errors_total{code=\"%s\",status=\"%s\"} %" APR_UINT64_T_FMT "\n", code,
               status, value);
}

/* Those with a status that another module gave. */
static void print_pairs(request_rec *r, const tus_error_t *error)
{
    for (int i = 0; i < PAIRS; i++) {
        pair_t *pair = &counters->pairs[i];
        apr_uint64_t key = apr_atomic_read64(&pair->key);
        int status = (int)(apr_uint32_t)key;

        if (key == pair_key(error->err, status) && status != error->status) {
            print_error(r, error->code, apr_itoa(r->pool, status), apr_atomic_read64(&pair->count));
        }
    }
}

static void print_errors(request_rec *r)
{
    print_type(r, "tus_errors_total", "counter", "Errors answered, by code and HTTP status.");
    for (int err = 0; err < TUS_ERR_COUNT; err++) {
        const tus_error_t *error = tus_error(r->pool, (tus_err_e)err, NULL);
        apr_uint64_t other = apr_atomic_read64(&counters->other[err]);

        if (counted_as(error->err) != error->err) {
            continue;
        }
        print_error(r, error->code, apr_itoa(r->pool, error->status),
                    apr_atomic_read64(&counters->errors[err])
                        + read_pair(pair_key(error->err, error->status)));
        print_pairs(r, error);
        if (other) {
            print_error(r, error->code, "other", other);
        }
    }
}

/* Nothing at all where the table cannot be asked: 0 would be a lie. */
static void print_active(request_rec *r)
{
    tus_locks_t *locks = tus_shared_locks();
    unsigned held;

    if (locks && locks->provider->count(locks, &held) == APR_SUCCESS) {
        print_value(r, "tus_uploads_active", "gauge",
                    "Uploads that a request works on at this moment.", held);
    }
}

static void print_hook_counter(request_rec *r, const char *name, const char *help,
                               apr_size_t offset)
{
    print_type(r, name, "counter", help);
    for (int i = 0; i < TUS_HOOK_COUNT; i++) {
        const char *hook = (const char *)&counters->hooks[i];

        ap_rprintf(r, "%s{hook=\"%s\"} %" APR_UINT64_T_FMT "\n", name, tus_hook_name((tus_hook_e)i),
                   apr_atomic_read64((counter_t *)(hook + offset)));
    }
}

static void print_histogram(request_rec *r, const char *name, tus_hook_e type)
{
    hook_t *hook = &counters->hooks[type];
    apr_uint64_t sum = 0;

    for (apr_size_t i = 0; i <= BOUND_COUNT; i++) {
        const char *bound =
            i < BOUND_COUNT ? apr_psprintf(r->pool, "%.3f", (double)bounds[i] / 1e6) : "+Inf";

        sum += apr_atomic_read64(&hook->buckets[i]);
        ap_rprintf(r, "%s_bucket{hook=\"%s\",le=\"%s\"} %" APR_UINT64_T_FMT "\n", name,
                   tus_hook_name(type), bound, sum);
    }
    ap_rprintf(r, "%s_sum{hook=\"%s\"} %.6f\n%s_count{hook=\"%s\"} %" APR_UINT64_T_FMT "\n", name,
               tus_hook_name(type), (double)apr_atomic_read64(&hook->microseconds) / 1e6, name,
               tus_hook_name(type), sum);
}

static void print_spool(request_rec *r)
{
    apr_uint64_t waiting;
    apr_time_t oldest;

    if (tus_courier_count(&waiting, &oldest, r->pool) != APR_SUCCESS) {
        return;
    }
    print_value(r, "tus_hook_spool_events", "gauge", "Events that wait to be told.", waiting);
    print_value(r, "tus_hook_spool_age_seconds", "gauge",
                "Since when the oldest of them waits; 0 if there is none.",
                oldest ? (apr_uint64_t)apr_time_sec(apr_time_now() - oldest) : 0);
}

static void print_hooks(request_rec *r)
{
    const char *duration = "tus_hook_duration_seconds";

    print_hook_counter(r, "tus_hook_invocations_total", "Calls of hooks, by event.",
                       offsetof(hook_t, invocations));
    print_hook_counter(r, "tus_hook_errors_total", "Calls of hooks that failed.",
                       offsetof(hook_t, errors));
    print_hook_counter(r, "tus_hook_retries_total", "Calls that were, or will be, made once more.",
                       offsetof(hook_t, retries));
    print_hook_counter(r, "tus_hook_given_up_total",
                       "Events that were moved aside after TusHookMaxAge.",
                       offsetof(hook_t, given_up));
    print_type(r, duration, "histogram", "How long calls of hooks took.");
    for (int i = 0; i < TUS_HOOK_COUNT; i++) {
        print_histogram(r, duration, (tus_hook_e)i);
    }
    print_spool(r);
}

static void print_all(request_rec *r)
{
    print_requests(r);
    print_errors(r);
    print_value(r, "tus_bytes_received_total", "counter",
                "Bytes of upload data that were received.", apr_atomic_read64(&counters->received));
    for (int i = 0; i < TUS_METRIC_COUNT; i++) {
        print_value(r, uploads[i].name, "counter", uploads[i].help,
                    apr_atomic_read64(&counters->uploads[i]));
    }
    print_hooks(r);
    print_active(r);
    print_value(r, "tus_uploads_parked", "gauge",
                "Uploads whose silent client holds no thread; always 0 in this version.",
                apr_atomic_read64(&counters->parked));
}

int tus_metrics_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "tus-metrics") != 0) {
        return DECLINED;
    }
    if (!tus_config_of(r)->status || !counters) {
        return HTTP_NOT_FOUND;
    }
    ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, -1);
    if (r->method_number != M_GET) { /* HEAD is one */
        return HTTP_METHOD_NOT_ALLOWED;
    }
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    ap_set_content_type(r, CONTENT_TYPE);
    print_all(r);
    return OK;
}
