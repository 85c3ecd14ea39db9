/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* floor PORT DIRECTORY [sha256]: the floor of a server without TLS. A small body is written as it
 * came with its head; what of a body is still to come is spliced from the socket into the file.
 * With sha256 it is received, hashed and written, as the bytes must be seen. */
#include "floor.h"
#include "../message.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPE_SIZE (1 << 20)
#define HASH_SIZE (128 * 1024)
#define MAX_EVENTS 64

static int hashes;

/* A connection and what was read of it. */
typedef struct {
    int fd;
    size_t len;
    char data[16384];
} conn_t;

/* A thread, with its connections and its pipe. */
typedef struct {
    pthread_t thread;
    int epoll;
    int pipe[2];
} worker_t;

static void splice_body(worker_t *worker, int from, int to, off_t offset, off_t left)
{
    while (left > 0) {
        ssize_t in = splice(from, NULL, worker->pipe[1], NULL,
                            left < PIPE_SIZE ? (size_t)left : PIPE_SIZE, SPLICE_F_MOVE);

        if (in <= 0) {
            die("splice from the socket");
        }
        for (left -= in; in > 0;) {
            ssize_t out = splice(worker->pipe[0], NULL, to, &offset, (size_t)in, SPLICE_F_MOVE);

            if (out <= 0) {
                die("splice to the file");
            }
            in -= out;
        }
    }
}

static void hash_body(int from, int to, off_t offset, off_t left)
{
    static _Thread_local char data[HASH_SIZE];
    EVP_MD_CTX *digest = EVP_MD_CTX_new();

    EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
    while (left > 0) {
        ssize_t n = recv(from, data, left < HASH_SIZE ? (size_t)left : HASH_SIZE, MSG_WAITALL);

        if (n <= 0 || EVP_DigestUpdate(digest, data, (size_t)n) != 1
            || pwrite(to, data, (size_t)n, offset) != n) {
            die("receive, hash and write");
        }
        offset += n;
        left -= n;
    }
    EVP_MD_CTX_free(digest);
}

/* `body` is what came with the head; how much of it is the body's. */
static size_t store_body(worker_t *worker, conn_t *conn, request_t *request, const char *body,
                         size_t there)
{
    size_t now = there < (size_t)request->body_length ? there : (size_t)request->body_length;
    off_t later = request->body_length - (off_t)now;
    int fd = open_upload(request);

    if (now && pwrite(fd, body, now, request->offset) != (ssize_t)now) {
        die("write");
    }
    if (hashes) {
        hash_body(conn->fd, fd, request->offset + (off_t)now, later);
    }
    else {
        splice_body(worker, conn->fd, fd, request->offset + (off_t)now, later);
    }
    close(fd);
    return now;
}

/* Serves the request that the buffer begins with; 0 if it is not all there. */
static size_t serve(worker_t *worker, conn_t *conn)
{
    size_t used = head_length(conn->data, conn->len);
    char answer[512];
    request_t request;

    if (used == 0) {
        return 0;
    }
    parse_request(&request, conn->data, used);
    if (request.method != 'E') {
        used += store_body(worker, conn, &request, conn->data + used, conn->len - used);
    }
    send_all(conn->fd, answer, make_answer(answer, sizeof answer, &request));
    return used;
}

static void receive(worker_t *worker, conn_t *conn)
{
    ssize_t n = recv(conn->fd, conn->data + conn->len, sizeof conn->data - conn->len, 0);
    size_t used;

    if (n <= 0) {
        close(conn->fd);
        free(conn);
        return;
    }
    conn->len += (size_t)n;
    while ((used = serve(worker, conn)) > 0) {
        conn->len -= used;
        memmove(conn->data, conn->data + used, conn->len);
    }
}

static void *work(void *data)
{
    worker_t *worker = data;
    struct epoll_event events[MAX_EVENTS];

    for (;;) {
        int n = epoll_wait(worker->epoll, events, MAX_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            receive(worker, events[i].data.ptr);
        }
    }
    return NULL;
}

static void start(worker_t *worker)
{
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (pipe2(worker->pipe, O_CLOEXEC) < 0 || fcntl(worker->pipe[1], F_SETPIPE_SZ, PIPE_SIZE) < 0
        || pthread_create(&worker->thread, NULL, work, worker)) {
        die("worker");
    }
}

static void take(worker_t *worker, int fd)
{
    conn_t *conn = malloc(sizeof *conn);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };
    int on = 1;

    if (fd < 0 || !conn) {
        die("accept");
    }
    conn->fd = fd;
    conn->len = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv)
{
    worker_t workers[64];
    unsigned number = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    int listener = argc >= 3 ? begin(argv[1], argv[2]) : -1;

    if (listener < 0) {
        return 2;
    }
    hashes = argc == 4 && strcmp(argv[3], "sha256") == 0;
    number = number < 64 ? number : 64;
    for (unsigned i = 0; i < number; i++) {
        start(&workers[i]);
    }
    for (unsigned i = 0;; i++) {
        take(&workers[i % number], accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    }
}
