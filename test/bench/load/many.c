/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Small requests over keep-alive connections, each of which has one request on its way. */
#include "load.h"
#include "../message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_EVENTS 64
#define HEAD_ROOM 1024

/* One request of a sequence. */
typedef enum { CREATE_WHOLE, CREATE, APPEND, ASK, ASK_ANY } kind_t;

/* What each connection does over and over. */
typedef struct {
    const char *name;
    kind_t kinds[3];
    int length;
} sequence_t;

static const sequence_t sequences[] = {
    { "create", { CREATE_WHOLE }, 1 },
    { "cycle", { CREATE, APPEND, ASK }, 3 },
    { "head", { ASK_ANY }, 1 },
};

static const int expected[] = {
    [CREATE_WHOLE] = 201, [CREATE] = 201, [APPEND] = 204, [ASK] = 200, [ASK_ANY] = 200
};

typedef struct {
    int fd;
    int step;       /* in the sequence */
    char path[512]; /* of the upload that the last CREATE made */
    size_t len;
    char data[8192];
} client_t;

static const sequence_t *sequence;
static const char *base;
static char **paths;
static size_t path_count;
static size_t body_length;
static char *request; /* HEAD_ROOM for the head, and the body right behind it */
static long left;     /* sequences to begin */
static long running;

static const char *any_path(void)
{
    static unsigned long long state = 88172645463325252ULL;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return paths[state % path_count];
}

static int make_head(char *head, const client_t *client, kind_t kind)
{
    static const char common[] = "Host: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n";
    static const char octets[] = "Content-Type: application/offset+octet-stream\r\n";

    switch (kind) {
    case CREATE_WHOLE:
        return snprintf(head, HEAD_ROOM,
                        "POST %s HTTP/1.1\r\n%sUpload-Length: %zu\r\n%sContent-Length: %zu\r\n\r\n",
                        base, common, body_length, octets, body_length);
    case CREATE:
        return snprintf(head, HEAD_ROOM,
                        "POST %s HTTP/1.1\r\n%sUpload-Length: %zu\r\nContent-Length: 0\r\n\r\n",
                        base, common, body_length);
    case APPEND:
        return snprintf(head, HEAD_ROOM,
                        "PATCH %s HTTP/1.1\r\n%sUpload-Offset: 0\r\n%sContent-Length: %zu\r\n\r\n",
                        client->path, common, octets, body_length);
    case ASK:
        return snprintf(head, HEAD_ROOM, "HEAD %s HTTP/1.1\r\n%s\r\n", client->path, common);
    default:
        return snprintf(head, HEAD_ROOM, "HEAD %s HTTP/1.1\r\n%s\r\n", any_path(), common);
    }
}

static void send_next(client_t *client)
{
    kind_t kind = sequence->kinds[client->step];
    char head[HEAD_ROOM];
    size_t len = (size_t)make_head(head, client, kind);
    char *start = request + HEAD_ROOM - len;

    memcpy(start, head, len);
    send_all(client->fd, start, len + (kind == CREATE_WHOLE || kind == APPEND ? body_length : 0));
}

/* All of the body has to be there. */
static void check_offset(const client_t *client, size_t head)
{
    const char *offset = field(client->data, head, "upload-offset:");

    if (!offset || (size_t)atoll(offset) != body_length) {
        fprintf(stderr, "not all %zu bytes are stored:\n%s\n", body_length, client->data);
        exit(1);
    }
}

/* Where the upload is: with or without scheme and host. */
static void note_location(client_t *client, size_t head)
{
    const char *location = field(client->data, head, "location:");
    const char *host = location ? strstr(location, "://") : NULL;
    const char *end = location ? strchr(location, '\r') : NULL;

    if (host && host < end) {
        location = strchr(host + 3, '/');
    }
    if (!location || (size_t)(end - location) >= sizeof client->path) {
        errno = EPROTO;
        die("Location");
    }
    snprintf(client->path, sizeof client->path, "%.*s", (int)(end - location), location);
}

/* How long the answer is; 0 while it is not all there. */
static size_t answer_length(const client_t *client, kind_t kind)
{
    size_t head = head_length(client->data, client->len);
    size_t body;

    if (head == 0 || kind == ASK || kind == ASK_ANY) {
        return head;
    }
    body = (size_t)field_number(client->data, head, "content-length:");
    return client->len >= head + body ? head + body : 0;
}

/* Whether this client goes on. */
static int advance(client_t *client)
{
    if (++client->step < sequence->length) {
        return 1;
    }
    client->step = 0;
    return left-- > 0;
}

static void receive(client_t *client)
{
    kind_t kind = sequence->kinds[client->step];
    ssize_t n =
        recv(client->fd, client->data + client->len, sizeof client->data - 1 - client->len, 0);
    size_t answer;

    if (n <= 0) {
        errno = n ? errno : ECONNRESET;
        die("recv");
    }
    client->len += (size_t)n;
    client->data[client->len] = '\0';
    answer = answer_length(client, kind);
    if (answer == 0) {
        return;
    }
    check_status(client->data, client->len, expected[kind]);
    if (kind == CREATE) {
        note_location(client, answer);
    }
    else if (kind != ASK_ANY) {
        check_offset(client, answer);
    }
    client->len = 0;
    if (advance(client)) {
        send_next(client);
        return;
    }
    close(client->fd);
    running--;
}

static void read_paths(const char *name)
{
    FILE *file = fopen(name, "r");
    char line[512];

    while (file && fgets(line, sizeof line, file)) {
        if ((path_count & (path_count + 1)) == 0) {
            paths = realloc(paths, 2 * (path_count + 1) * sizeof *paths);
        }
        line[strcspn(line, "\n")] = '\0';
        paths[path_count++] = strdup(line);
    }
    if (path_count == 0) {
        die(name);
    }
    fclose(file);
}

static void run(const char *port, long connections)
{
    client_t *clients = calloc((size_t)connections, sizeof *clients);
    struct epoll_event events[MAX_EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    for (long i = 0; i < connections; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &clients[i] };

        clients[i].fd = dial(port);
        epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
    }
    for (running = 0; running < connections && left-- > 0; running++) {
        send_next(&clients[running]);
    }
    while (running > 0) {
        int n = epoll_wait(epoll, events, MAX_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            receive(events[i].data.ptr);
        }
    }
    free(clients);
}

int load_many(int argc, char **argv)
{
    double begun;

    for (sequence = sequences; strcmp(sequence->name, argv[0]) != 0; sequence++) {
    }
    if (sequence->kinds[0] == ASK_ANY) {
        read_paths(argv[2]);
    }
    else {
        base = argv[2];
        body_length = (size_t)atol(argv[3]);
    }
    request = calloc(1, HEAD_ROOM + body_length);
    left = atol(argv[argc - 2]);
    begun = now();
    run(argv[1], atol(argv[argc - 1]));
    printf("%.6f\n", now() - begun);
    return 0;
}
