/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * faults.h: a library preloaded into httpd (or a tool) that sees each call by
 * which it changes files below chosen directories, and can record it, let it
 * fail, or let the process die there.
 *
 *   LD_PRELOAD=faults.so FAULTS=CONTROL
 *
 * CONTROL is a file with a control_t, shared with whoever arms it, at any time.
 * What is recorded is appended to CONTROL.log, a record_t and its bytes for each
 * call that succeeded, in order. test/integration/testenv/faults.py speaks both.
 *
 *   control.c   which calls are meant, and what becomes of them
 *   record.c    the log
 *   names.c     calls that change directories
 *   data.c      calls that change the bytes of a file
 *   sync.c      calls that make them durable, modes and locks
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_ROOTS 4
#define MAX_PATH 4096

typedef enum kind_e {
    KIND_CREATE,   /* open() with O_CREAT; recorded only if it made the file */
    KIND_WRITE,    /* write, pwrite, writev, splice */
    KIND_TRUNCATE, /* ftruncate, or open() with O_TRUNC */
    KIND_RENAME,
    KIND_UNLINK,
    KIND_MKDIR,
    KIND_LINK,
    KIND_SYMLINK,
    KIND_SYNC,     /* fsync */
    KIND_DATASYNC, /* fdatasync */
    KIND_SYNCALL,  /* syncfs */
    KIND_MODE,     /* fchmod */
    KIND_LOCK,     /* flock */
    KIND_SHARE,    /* FICLONERANGE; recorded as a write */
    KIND_COPY      /* copy_file_range; likewise */
} kind_e;

typedef enum action_e {
    ACTION_NONE, /* they are only counted */
    ACTION_FAIL,
    ACTION_SHORT, /* a write stores half; further ones fail */
    ACTION_DIE_BEFORE,
    ACTION_DIE_AFTER,
    ACTION_WAIT /* it is made once nothing is armed any more */
} action_e;

/** Who makes a call: a thread that ever took fold.lock is the sweep's. */
#define WHO_REQUEST 1u
#define WHO_SWEEP 2u

typedef struct control_t {
    uint32_t armed;     /**< calls are counted */
    uint32_t recording; /**< calls are recorded, whoever makes them */
    uint32_t kinds;     /**< that are counted, in bits */
    uint32_t who;       /**< whose calls are counted */
    uint32_t action;
    uint32_t first;    /**< call to which it applies, from 1 */
    uint32_t last;     /**< and up to which: a fault that stays is UINT32_MAX */
    int32_t error;     /**< errno of those that fail */
    uint32_t count;    /**< calls since it was armed; whoever arms it sets it to 0 */
    uint32_t hits;     /**< calls to which it applied; likewise */
    uint32_t hit_kind; /**< of the first of those */
    char hit_path[512];
    char suffix[512];           /**< of the paths of calls that are counted */
    char roots[MAX_ROOTS][512]; /**< directories, absolute; "" for none */
} control_t;

/** What stands in the log before path, other path, and data. */
typedef struct record_t {
    uint32_t kind;
    uint32_t path_len, to_len, data_len;
    uint32_t mode; /**< permissions of what was made or changed */
    uint32_t pid;
    uint64_t inode; /**< of the file */
    int64_t offset; /**< of the data; the size, of KIND_TRUNCATE */
} record_t;

/** A call that is meant. */
typedef struct call_t {
    kind_e kind;
    int fd;              /**< of the file, or -1 */
    char path[MAX_PATH]; /**< of the file or directory, or the new name of one */
    char to[MAX_PATH];   /**< where a symbolic link leads, from where a rename or link came */
    mode_t mode;
    off_t offset;
    size_t len;
    const void *data; /**< or NULL: it is read back from the file */
    int dies;         /**< after it was made */
} call_t;

/** The real one. */
#define REAL(name) ((__typeof__(&(name)))find_real(#name))
void *find_real(const char *name);

/** The control, or NULL without one. */
control_t *control(void);

/** Nonzero if a call on this open file or name is meant; fills kind, fd and path. */
int meant_fd(call_t *call, kind_e kind, int fd);
int meant_name(call_t *call, kind_e kind, int dir, const char *name);

/**
 * Before a call that is meant.
 * @param len shortened for ACTION_SHORT; or NULL
 * @return nonzero if it is to be made; else errno is set
 */
int begin(call_t *call, size_t *len);

/** After it. errno stays. @param changed it succeeded, and is recorded */
void end(const call_t *call, int changed);

/** The absolute path of a name, not resolved. */
void full_path(char path[MAX_PATH], int dir, const char *name);

/** Appends a call to the log. */
void write_record(const call_t *call);

#endif /* FAULTS_H */
