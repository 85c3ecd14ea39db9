/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Uploads as files, and HTTP around them. */
#include "floor.h"
#include "../message.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_SIZE 33

static _Thread_local char name[256];

int begin(const char *port, const char *directory)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((in_port_t)atoi(port)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (chdir(directory) < 0) {
        die(directory);
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1024) < 0) {
        die(port);
    }
    return fd;
}

void parse_request(request_t *request, const char *head, size_t len)
{
    const char *path = memchr(head, ' ', len);
    const char *end = path ? memchr(path + 1, ' ', len - (size_t)(path + 1 - head)) : NULL;

    request->method = head[1];
    request->id = end ? (const char *)memrchr(head, '/', (size_t)(end - head)) + 1 : head;
    request->id_len = end ? (size_t)(end - request->id) : 0;
    request->offset = field_number(head, len, "upload-offset:");
    request->body_length = field_number(head, len, "content-length:");
}

static void make_id(request_t *request)
{
    static atomic_uint made;

    snprintf(name, sizeof name, "%0*x", ID_SIZE - 1, ++made);
    request->id = name;
    request->id_len = ID_SIZE - 1;
}

static const char *name_of(const request_t *request)
{
    snprintf(name, sizeof name, "%.*s", (int)request->id_len, request->id);
    return name;
}

int open_upload(request_t *request)
{
    int fd;

    if (request->method == 'O') {
        make_id(request);
        fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
    }
    else {
        fd = open(name_of(request), O_WRONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        die(name);
    }
    return fd;
}

size_t make_answer(char *answer, size_t size, const request_t *request)
{
    off_t offset = request->offset + request->body_length;
    struct stat found;

    switch (request->method) {
    case 'O':
        return (size_t)snprintf(answer, size,
                                "HTTP/1.1 201 Created\r\nTus-Resumable: 1.0.0\r\n"
                                "Location: /files/%.*s\r\nUpload-Offset: %lld\r\n"
                                "Content-Length: 0\r\n\r\n",
                                (int)request->id_len, request->id, (long long)offset);
    case 'A':
        return (size_t)snprintf(answer, size,
                                "HTTP/1.1 204 No Content\r\nTus-Resumable: 1.0.0\r\n"
                                "Upload-Offset: %lld\r\n\r\n",
                                (long long)offset);
    default:
        if (stat(name_of(request), &found) < 0) {
            die(name);
        }
        return (size_t)snprintf(answer, size,
                                "HTTP/1.1 200 OK\r\nTus-Resumable: 1.0.0\r\n"
                                "Cache-Control: no-store\r\nUpload-Offset: %lld\r\n\r\n",
                                (long long)found.st_size);
    }
}
