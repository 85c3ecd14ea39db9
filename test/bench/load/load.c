/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "load.h"
#include "../message.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static const char usage[] =
    "load create PORT BASE BYTES COUNT CONNECTIONS   creation-with-upload, COUNT times\n"
    "load cycle PORT BASE BYTES COUNT CONNECTIONS    POST, PATCH and HEAD of COUNT uploads\n"
    "load head PORT PATHS COUNT CONNECTIONS          HEAD of random lines of the file PATHS\n"
    "load patch PORT PATH BYTES [FIELD]              one PATCH, of zeros, with one more field\n"
    "load patch-tls PORT PATH BYTES [FIELD]          the same over TLS\n"
    "load get PORT PATH                              one GET\n"
    "load stall PORT PATHS BYTES SENT                a PATCH of BYTES for each line of PATHS that\n"
    "                                                stops after SENT, until stdin ends\n"
    "PORT is on 127.0.0.1. Prints how many seconds it took. Any unexpected answer ends it.\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    int min_arguments;
} commands[] = {
    { "create", load_many, 5 }, { "cycle", load_many, 5 }, { "head", load_many, 4 },
    { "patch", load_one, 3 },   { "get", load_one, 2 },    { "patch-tls", load_one, 3 },
    { "stall", load_stall, 4 },
};

int dial(const char *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((in_port_t)atoi(port)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        die("connect");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void check_status(const char *head, size_t len, int expected)
{
    if (len < 12 || atoi(head + 9) != expected) {
        fprintf(stderr, "wanted %d, not this:\n%.*s\n", expected, (int)len, head);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (argc >= 2 + commands[i].min_arguments && strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fputs(usage, stderr);
    return 2;
}
