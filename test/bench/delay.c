/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* delay PORT TARGET MILLISECONDS: forwards one connection after the other to TARGET, and keeps
 * what it forwards, both ways, for so long: a distant client, as the protocol above TCP sees it. */
#include "message.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (64 * 1024)
#define MAX_BLOCKS 1024 /* 64 MiB on their way */

/* What was read at once, and when it is to be sent on. */
typedef struct {
    double due;
    size_t len;
    char data[BLOCK];
} block_t;

/* One direction of a connection: a ring of blocks. */
typedef struct {
    int from;
    int to;
    int ended;
    unsigned first;
    unsigned count;
    block_t *blocks;
} way_t;

static double delay; /* seconds */

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct sockaddr_in local(const char *port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((in_port_t)atoi(port)),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void take(way_t *way)
{
    block_t *block = &way->blocks[(way->first + way->count) % MAX_BLOCKS];
    ssize_t n = recv(way->from, block->data, BLOCK, 0);

    way->ended = n <= 0;
    block->len = n > 0 ? (size_t)n : 0;
    block->due = now() + delay;
    way->count++;
}

/* The end of a direction is a block without bytes. */
static void pass_on(way_t *way)
{
    block_t *block = &way->blocks[way->first];

    if (block->len == 0) {
        shutdown(way->to, SHUT_WR);
    }
    send_all(way->to, block->data, block->len);
    way->first = (way->first + 1) % MAX_BLOCKS;
    way->count--;
}

/* Passes on what is due; milliseconds until the next block is. */
static int pass_on_due(way_t *way)
{
    while (way->count > 0) {
        double wait = way->blocks[way->first].due - now();

        if (wait > 0) {
            return (int)(wait * 1000) + 1;
        }
        pass_on(way);
    }
    return 1000;
}

static void relay(way_t *ways)
{
    while (!(ways[0].ended && ways[1].ended) || ways[0].count + ways[1].count > 0) {
        struct pollfd polls[2];
        int wait = 1000;

        for (int i = 0; i < 2; i++) {
            int due = pass_on_due(&ways[i]);
            int open = !ways[i].ended && ways[i].count < MAX_BLOCKS;

            polls[i] = (struct pollfd){ .fd = open ? ways[i].from : -1, .events = POLLIN };
            wait = due < wait ? due : wait;
        }
        poll(polls, 2, wait);
        for (int i = 0; i < 2; i++) {
            if (polls[i].revents) {
                take(&ways[i]);
            }
        }
    }
}

static void serve(int client, struct sockaddr_in *target, block_t *blocks)
{
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    way_t ways[2] = { { .from = client, .to = server, .blocks = blocks },
                      { .from = server, .to = client, .blocks = blocks + MAX_BLOCKS } };
    int on = 1;

    if (client < 0 || connect(server, (struct sockaddr *)target, sizeof *target) < 0) {
        die("connect");
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    relay(ways);
    close(client);
    close(server);
}

int main(int argc, char **argv)
{
    struct sockaddr_in here, target;
    block_t *blocks = calloc((size_t)2 * MAX_BLOCKS, sizeof *blocks);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (argc != 4) {
        return 2;
    }
    here = local(argv[1]);
    target = local(argv[2]);
    delay = atof(argv[3]) / 1000;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 16) < 0) {
        die(argv[1]);
    }
    for (;;) {
        serve(accept4(listener, NULL, NULL, SOCK_CLOEXEC), &target, blocks);
    }
}
