/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * fuzz.h: what the fuzz targets share.
 *
 * fuzz_NAME.c has fuzz(), which is given one input after the other. It is linked
 * with libFuzzer, or with replay.c. Everything that is allocated from a pool is
 * malloc's (guarded_pool.c), so that AddressSanitizer sees where it ends.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "tus_words.h"

#include <stdint.h>

/** libFuzzer's entry; fuzz.c has it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** One input. It may not leave a file open, nor anything in memory outside of p. */
void fuzz(const char *data, apr_size_t len, apr_pool_t *p);

/** Ends the process with a core of what does not hold. */
#define HOLDS(property) ((property) ? (void)0 : fuzz_fail(#property, __FILE__, __LINE__))

void fuzz_fail(const char *property, const char *file, int line) __attribute__((noreturn));

/* ---- inputs -------------------------------------------------------------- */

/** The input up to its first NUL, as a header or path arrives; its memory ends with it. */
char *fuzz_text(const char *data, apr_size_t len, apr_pool_t *p);

/** Takes the next line off the input, without its newline; as fuzz_text(). "" at the end. */
char *fuzz_line(const char **data, apr_size_t *len, apr_pool_t *p);

/**
 * Takes two bytes off the input, which say how many empty lines: so that a small
 * input can lie across two blocks of a file that are read.
 */
char *fuzz_padding(const char **data, apr_size_t *len, apr_size_t *lines, apr_pool_t *p);

/* ---- properties ---------------------------------------------------------- */

/** Nonzero if two texts are the same, or both NULL. */
int fuzz_same(const char *one, const char *other);

/** Nonzero if it can stand in a header: no control characters but tabs. */
int fuzz_is_header(const char *text);

/** Nonzero if it is an error of that kind, with a sentence that can be shown. */
int fuzz_is_error(const tus_error_t *error, tus_err_e err);

/** Nonzero if each segment is one to max bytes, none is hidden, `.`, `..`, or ends in `.info`. */
int fuzz_is_name(const char *name, apr_size_t max);

/** Nonzero if that open file or directory is the one at that path, by no link. */
int fuzz_leads_to(int fd, const char *path);

/* ---- files --------------------------------------------------------------- */

/**
 * A directory of this process and those that it forks, made at the first call, in TMPDIR if that
 * is set, and removed when the process ends.
 */
const char *fuzz_dir(void);

/** Removes all that is in it. */
void fuzz_clear(void);

/** The absolute path of a name in it, allocated from p. */
const char *fuzz_path(const char *name, apr_pool_t *p);

/** Makes a directory there, unless there is one. */
void fuzz_mkdir(const char *name);

/** Makes or replaces a file there. */
void fuzz_put(const char *name, const char *data, apr_size_t len);

/** The bytes of a file there, with a NUL behind them, allocated from p. */
const char *fuzz_get(const char *name, apr_size_t *len, apr_pool_t *p);

/** Removes what is there, and all beneath it. */
void fuzz_remove(const char *name);

#endif /* FUZZ_H */
