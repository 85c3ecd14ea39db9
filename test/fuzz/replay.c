/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * replay NAME FILE...: gives these inputs to a fuzz target, each in a process of
 * its own, and says "fuzz NAME: N passed, N failed".
 */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Far more than any input takes. */
#define SECONDS_MAX 60

/* In memory that ends with the input. */
static int run(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    uint8_t *data;

    if (fd < 0 || fstat(fd, &st) != 0 || !(data = malloc((size_t)st.st_size))
        || read(fd, data, (size_t)st.st_size) != st.st_size) {
        perror(path);
        return EXIT_FAILURE;
    }
    close(fd);
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    free(data);
    return EXIT_SUCCESS;
}

static int passes(const char *path)
{
    int status = -1;
    pid_t pid;

    fuzz_clear();
    pid = fork();
    if (pid == 0) {
        alarm(SECONDS_MAX);
        exit(run(path));
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0, i;

    for (i = 2; i < argc; i++) {
        if (passes(argv[i])) {
            passed++;
        }
        else {
            fprintf(stderr, "%s: FAILED\n", argv[i]);
            failed++;
        }
    }
    printf("fuzz %s: %d passed, %d failed\n", argc > 1 ? argv[1] : "", passed, failed);
    return passed > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
