/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Clients that fall silent in the middle of a PATCH. */
#include "load.h"
#include "../message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void stall(const char *port, const char *path, const char *length, size_t sent)
{
    char *data = calloc(1, 1024 + sent);
    int head = snprintf(data, 1024,
                        "PATCH %s HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
                        "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
                        "Content-Length: %s\r\n\r\n",
                        path, length);

    memset(data + head, 0, sent);
    send_all(dial(port), data, (size_t)head + sent);
    free(data);
}

int load_stall(int argc, char **argv)
{
    struct rlimit files;
    FILE *paths = fopen(argv[2], "r");
    char path[512];

    (void)argc;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    while (paths && fgets(path, sizeof path, paths)) {
        path[strcspn(path, "\n")] = '\0';
        stall(argv[1], path, argv[3], (size_t)atol(argv[4]));
    }
    puts("stalled");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
