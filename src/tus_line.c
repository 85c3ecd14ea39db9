/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Kept connections of libcurl.
 *
 * A line is an easy handle in a multi handle of its own, and so with one connection of its own. A
 * line that nobody uses is kept, up to IDLE_MAX, and the one that was unused for longest is closed
 * for a newer one. Lines are malloc'ed: they come and go as long as the process lives, and in all
 * of its threads.
 */
#include "tus_words.h"

#include <apr_thread_mutex.h>

#include <curl/curl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDLE_MAX 16
/* How often it is looked whether to give up, in milliseconds. */
#define LOOK_AGAIN 100

struct tus_line_t {
    tus_line_t *next; /**< among the idle ones, the last used first */
    CURLM *multi;
    CURL *easy;
    curl_socket_t socket; /**< of the connection, once there was a call */
    char way[];
};

struct tus_lines_t {
    apr_thread_mutex_t *mutex; /**< guards `idle` */
    tus_line_t *idle;
    pid_t pid; /**< who opened them */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode readied;

static void ready_libcurl(void)
{
    readied = curl_global_init(CURL_GLOBAL_DEFAULT);
}

apr_status_t tus_line_init(void)
{
    return pthread_once(&once, ready_libcurl) == 0 && readied == CURLE_OK ? APR_SUCCESS
                                                                          : APR_EGENERAL;
}

/* ---- one line ------------------------------------------------------------ */

void tus_line_close(tus_line_t *line)
{
    curl_easy_cleanup(line->easy);
    curl_multi_cleanup(line->multi);
    free(line);
}

static tus_line_t *new_line(const char *way)
{
    apr_size_t size = strlen(way) + 1;
    tus_line_t *line = malloc(sizeof(*line) + size);

    if (!line) {
        return NULL;
    }
    line->next = NULL;
    line->multi = curl_multi_init();
    line->easy = curl_easy_init();
    line->socket = CURL_SOCKET_BAD;
    memcpy(line->way, way, size);
    if (!line->multi || !line->easy
        || curl_multi_setopt(line->multi, CURLMOPT_MAXCONNECTS, 1L) != CURLM_OK) {
        tus_line_close(line);
        return NULL;
    }
    return line;
}

void *tus_line_handle(tus_line_t *line)
{
    return line->easy;
}

static int is_cancelled(const tus_cancel_t *cancel)
{
    return cancel && cancel->cancelled(cancel->baton);
}

/* It makes a thread to look up a name. */
static CURLMcode perform(tus_line_t *line, int *running)
{
    sigset_t before;
    CURLMcode code;

    tus_thread_hold_signals(&before);
    code = curl_multi_perform(line->multi, running);
    tus_thread_release_signals(&before);
    return code;
}

/* Whatever moves on the connection ends the poll, so that LOOK_AGAIN delays nothing else. */
static CURLcode drive(tus_line_t *line, const tus_cancel_t *cancel)
{
    CURLMcode code;
    CURLMsg *message;
    int running, left;

    do {
        if (is_cancelled(cancel)) {
            return CURLE_ABORTED_BY_CALLBACK;
        }
        code = perform(line, &running);
        if (code == CURLM_OK && running) {
            code = curl_multi_poll(line->multi, NULL, 0, LOOK_AGAIN, NULL);
        }
    } while (code == CURLM_OK && running);
    message = curl_multi_info_read(line->multi, &left);
    return code == CURLM_OK && message ? message->data.result : CURLE_FAILED_INIT;
}

int tus_line_perform(tus_line_t *line, const tus_cancel_t *cancel)
{
    CURLcode code;

    if (curl_multi_add_handle(line->multi, line->easy) != CURLM_OK) {
        return CURLE_FAILED_INIT;
    }
    code = drive(line, cancel);
    if (curl_easy_getinfo(line->easy, CURLINFO_ACTIVESOCKET, &line->socket) != CURLE_OK) {
        line->socket = CURL_SOCKET_BAD;
    }
    curl_multi_remove_handle(line->multi, line->easy);
    return code;
}

/* Nothing is to be heard on a connection while nobody asks: it has ended, or what lies there would
 * be taken for the next answer. */
static int is_quiet(const tus_line_t *line)
{
    struct pollfd pollfd = { line->socket, POLLIN, 0 };

    return poll(&pollfd, 1, 0) == 0;
}

/* ---- those that are kept -------------------------------------------------- */

/* One that leads there, out of the idle ones; or NULL. */
static tus_line_t *find(tus_lines_t *lines, const char *way)
{
    tus_line_t **link, *line;

    apr_thread_mutex_lock(lines->mutex);
    for (link = &lines->idle; *link && strcmp((*link)->way, way) != 0; link = &(*link)->next) {
    }
    line = *link;
    if (line) {
        *link = line->next;
    }
    apr_thread_mutex_unlock(lines->mutex);
    return line;
}

apr_status_t tus_line_take(tus_line_t **line, tus_lines_t *lines, const char *way)
{
    *line = NULL;
    if (lines->pid != getpid()) {
        return APR_EINVAL;
    }
    while ((*line = find(lines, way)) && !is_quiet(*line)) {
        tus_line_close(*line);
    }
    if (!*line) {
        *line = new_line(way);
    }
    return *line ? APR_SUCCESS : APR_ENOMEM;
}

/* Puts it before the others. @return what is one too many, or NULL */
static tus_line_t *put(tus_lines_t *lines, tus_line_t *line)
{
    tus_line_t **link, *oldest;
    int count = 0;

    apr_thread_mutex_lock(lines->mutex);
    line->next = lines->idle;
    lines->idle = line;
    for (link = &lines->idle; *link && count < IDLE_MAX; link = &(*link)->next) {
        count++;
    }
    oldest = *link;
    *link = NULL;
    apr_thread_mutex_unlock(lines->mutex);
    return oldest;
}

void tus_line_keep(tus_lines_t *lines, tus_line_t *line)
{
    if (line->socket != CURL_SOCKET_BAD) {
        curl_easy_reset(line->easy);
        line = put(lines, line);
    }
    if (line) {
        tus_line_close(line);
    }
}

/*
 * A child that was forked later has copies, and to close those would speak on connections that the
 * parent uses. And a process may be told to end by a signal, whose handler cleans up in the midst
 * of anything: then the system closes them.
 */
static apr_status_t close_idle(void *baton)
{
    tus_lines_t *lines = baton;
    tus_line_t *line;

    if (lines->pid != getpid() || apr_thread_mutex_trylock(lines->mutex) != APR_SUCCESS) {
        return APR_SUCCESS;
    }
    while ((line = lines->idle)) {
        lines->idle = line->next;
        tus_line_close(line);
    }
    apr_thread_mutex_unlock(lines->mutex);
    return APR_SUCCESS;
}

apr_status_t tus_line_open(tus_lines_t **lines, apr_pool_t *p)
{
    apr_status_t rv = tus_line_init();

    if (rv != APR_SUCCESS) {
        return rv;
    }
    *lines = apr_pcalloc(p, sizeof(**lines));
    (*lines)->pid = getpid();
    rv = apr_thread_mutex_create(&(*lines)->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(p, *lines, close_idle);
    }
    return rv;
}
