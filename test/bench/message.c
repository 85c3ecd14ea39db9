/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

size_t head_length(const char *data, size_t len)
{
    const char *end = memmem(data, len, "\r\n\r\n", 4);

    return end ? (size_t)(end - data) + 4 : 0;
}

const char *field(const char *head, size_t len, const char *name)
{
    const char *end = head + len;
    size_t n = strlen(name);
    const char *line = head;

    while ((line = memchr(line, '\n', (size_t)(end - line))) && (size_t)(end - ++line) > n) {
        if (strncasecmp(line, name, n) == 0) {
            return line + n + strspn(line + n, " ");
        }
    }
    return NULL;
}

long long field_number(const char *head, size_t len, const char *name)
{
    const char *value = field(head, len, name);

    return value ? strtoll(value, NULL, 10) : 0;
}

void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0) {
            die("send");
        }
        data += n;
        len -= (size_t)n;
    }
}
