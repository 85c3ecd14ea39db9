/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* floor_tls PORT DIRECTORY CERTIFICATE KEY: the floor of a server with TLS: SSL_read() and
 * write(), a thread for each connection. */
#include "floor.h"
#include "../message.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_AHEAD (64 * 1024)
#define WRITE_SIZE (256 * 1024)

static SSL_CTX *context;

/* Fills the buffer with the rest of a body, or until it is full; what it then holds. */
static size_t gather(SSL *ssl, char *data, size_t len, off_t wanted)
{
    while (len < WRITE_SIZE && (off_t)len < wanted) {
        off_t left = wanted - (off_t)len;
        size_t room = WRITE_SIZE - len;
        int n = SSL_read(ssl, data + len, left < (off_t)room ? (int)left : (int)room);

        if (n <= 0) {
            die("SSL_read");
        }
        len += (size_t)n;
    }
    return len;
}

/* `data` holds `len` bytes of the body already. */
static void store_body(SSL *ssl, request_t *request, char *data, size_t len)
{
    int fd = open_upload(request);
    off_t offset = request->offset;
    off_t left = request->body_length;

    while (left > 0) {
        len = gather(ssl, data, len, left);
        if (pwrite(fd, data, len, offset) != (ssize_t)len) {
            die("write");
        }
        offset += (off_t)len;
        left -= (off_t)len;
        len = 0;
    }
    close(fd);
}

/* One request after the other, none before the answer to the one before. */
static void serve(SSL *ssl, char *data)
{
    size_t len = 0;
    int n;

    while ((n = SSL_read(ssl, data + len, (int)(WRITE_SIZE - len))) > 0) {
        char answer[512];
        request_t request;
        size_t head = head_length(data, len += (size_t)n);

        if (head == 0) {
            continue;
        }
        parse_request(&request, data, head);
        if (request.method != 'E') {
            char id[256];

            request.id = memcpy(id, request.id, request.id_len);
            memmove(data, data + head, len - head);
            store_body(ssl, &request, data, len - head);
        }
        SSL_write(ssl, answer, (int)make_answer(answer, sizeof answer, &request));
        len = 0;
    }
}

static void *converse(void *data)
{
    int fd = (int)(intptr_t)data;
    char *buffer = malloc(WRITE_SIZE);
    SSL *ssl = SSL_new(context);
    int on = 1;

    if (!buffer || !ssl) {
        die("connection");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        serve(ssl, buffer);
    }
    SSL_free(ssl);
    close(fd);
    free(buffer);
    return NULL;
}

int main(int argc, char **argv)
{
    int listener = argc == 5 ? begin(argv[1], argv[2]) : -1;
    pthread_t thread;

    context = SSL_CTX_new(TLS_server_method());
    if (listener < 0 || SSL_CTX_use_certificate_chain_file(context, argv[3]) != 1
        || SSL_CTX_use_PrivateKey_file(context, argv[4], SSL_FILETYPE_PEM) != 1) {
        return 2;
    }
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0 || pthread_create(&thread, NULL, converse, (void *)(intptr_t)fd)) {
            die("accept");
        }
        pthread_detach(thread);
    }
}
