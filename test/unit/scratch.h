/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * scratch.h: a directory for each test, and what can lie in it.
 *
 * Names are relative to the directory. Whatever fails, fails the test.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "suites.h"

#include <sys/stat.h>

/** The absolute path of the running test's directory. */
extern const char *scratch;

/** Like add_case(), with a scratch directory; umask and rlimits are put back afterwards. */
TCase *add_scratch_case(Suite *suite, const char *name);

/** The absolute path of that name, allocated from unit_pool. */
const char *scratch_path(const char *name);

void scratch_mkdir(const char *name);

/** Makes or replaces a file. */
void scratch_put(const char *name, const char *text);

/** The text of a file, allocated from unit_pool. */
const char *scratch_get(const char *name);

void scratch_symlink(const char *target, const char *name);

/** What lstat() says. */
struct stat scratch_stat(const char *name);

/** Permissions and sticky bit. */
unsigned scratch_mode(const char *name);

int scratch_exists(const char *name);

/** Everything that a data or record file may not be. */
typedef enum {
    PLANT_SYMLINK,
    PLANT_DANGLING_SYMLINK,
    PLANT_HARD_LINK,
    PLANT_FIFO,
    PLANT_SOCKET,
    PLANT_DIRECTORY,
    PLANT_DEVICE, /**< where root may make one, else another FIFO */
    PLANT_COUNT
} plant_e;

/** Puts such a thing there; links lead to the file "elsewhere", which says "secret". */
void scratch_plant(plant_e plant, const char *name);

/** How many descriptors this process has open. */
int open_descriptors(void);

/** Nonzero if this process may mount a file system for itself alone. */
int scratch_can_mount(void);

/** Mounts an empty file system of that many bytes on a new directory. */
void scratch_mount(const char *name, unsigned bytes);

/** Puts a file of the directory in the place of that one, for this process alone. */
void scratch_mount_over(const char *name, const char *path);

/** No file of this process may grow beyond that many bytes; writing beyond is EFBIG. */
void scratch_limit_files(unsigned bytes);
void scratch_unlimit_files(void);

#endif /* SCRATCH_H */
