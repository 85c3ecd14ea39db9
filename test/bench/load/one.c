/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* One large body, over TCP or TLS. */
#include "load.h"
#include "../message.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK (256 * 1024)

/* Connection: `ssl` is NULL without TLS. */
static int fd;
static SSL *ssl;

static void put(const char *data, size_t len)
{
    if (!ssl) {
        send_all(fd, data, len);
        return;
    }
    if (SSL_write(ssl, data, (int)len) != (int)len) {
        die("SSL_write");
    }
}

static size_t get_some(char *data, size_t size)
{
    ssize_t n = ssl ? SSL_read(ssl, data, (int)size) : recv(fd, data, size, 0);

    if (n <= 0) {
        die("no answer");
    }
    return (size_t)n;
}

/* The head of the answer; how much of the body came with it. */
static size_t get_head(char *data, size_t size, size_t *head)
{
    size_t len = 0;

    do {
        len += get_some(data + len, size - 1 - len);
        *head = head_length(data, len);
    } while (*head == 0 && len < size - 1);
    data[len] = '\0';
    return len - *head;
}

static void start_tls(void)
{
    ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1) {
        die("SSL_connect");
    }
}

static void patch(const char *path, long long length, const char *more)
{
    static char block[BLOCK];
    char answer[8192];
    size_t head = (size_t)snprintf(block, sizeof block,
                                   "PATCH %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                   "Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
                                   "Content-Type: application/offset+octet-stream\r\n"
                                   "%s%sContent-Length: %lld\r\n\r\n",
                                   path, more, *more ? "\r\n" : "", length);

    put(block, head);
    memset(block, 0, head);
    for (; length > 0; length -= BLOCK) {
        put(block, length < BLOCK ? (size_t)length : BLOCK);
    }
    get_head(answer, sizeof answer, &head);
    check_status(answer, head, 204);
}

/* The body is thrown away unread. */
static void get(const char *path)
{
    char data[8192];
    size_t head;
    size_t there;
    int len = snprintf(data, sizeof data, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    long long left;

    put(data, (size_t)len);
    there = get_head(data, sizeof data, &head);
    check_status(data, head, 200);
    for (left = field_number(data, head, "content-length:") - (long long)there; left > 0;) {
        ssize_t n = recv(fd, NULL, left < BLOCK ? (size_t)left : BLOCK, MSG_TRUNC);

        if (n <= 0) {
            die("recv");
        }
        left -= n;
    }
}

int load_one(int argc, char **argv)
{
    double begun;

    fd = dial(argv[1]);
    if (strcmp(argv[0], "patch-tls") == 0) {
        start_tls();
    }
    begun = now();
    if (strcmp(argv[0], "get") == 0) {
        get(argv[2]);
    }
    else {
        patch(argv[2], atoll(argv[3]), argc > 4 ? argv[4] : "");
    }
    printf("%.6f\n", now() - begun);
    return 0;
}
