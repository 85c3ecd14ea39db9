/* Preloaded into httpd: writes to $SYNCSPY what is made durable and what is renamed, in order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void note(const char *call, int fd, const char *name)
{
    char path[4096] = "", link[64], line[8300];
    const char *log = getenv("SYNCSPY");
    int out, n;

    if (fd >= 0) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = (int)readlink(link, path, sizeof(path) - 1);
        path[n > 0 ? n : 0] = '\0';
    }
    n = snprintf(line, sizeof(line), "%s %s%s%s\n", call, path, fd >= 0 && name ? "/" : "",
                 name ? name : "");
    out = log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (out >= 0) {
        if (write(out, line, (size_t)n) != n)
            abort();
        close(out);
    }
}

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

int fsync(int fd)
{
    int rv = REAL(int (*)(int), "fsync")(fd);
    note("sync", fd, NULL);
    return rv;
}

int fdatasync(int fd)
{
    int rv = REAL(int (*)(int), "fdatasync")(fd);
    note("sync", fd, NULL);
    return rv;
}

int syncfs(int fd)
{
    int rv = REAL(int (*)(int), "syncfs")(fd);
    note("sync", fd, NULL);
    return rv;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    int (*real)(int, const char *, int, const char *) =
        REAL(int (*)(int, const char *, int, const char *), "renameat");
    int rv = real(from_dir, from, to_dir, to);
    note("rename", to_dir == AT_FDCWD ? -1 : to_dir, to);
    return rv;
}

int rename(const char *from, const char *to)
{
    int rv = REAL(int (*)(const char *, const char *), "rename")(from, to);
    note("rename", -1, to);
    return rv;
}
