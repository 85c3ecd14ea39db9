/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The first line is Upload-Checksum; the rest is what was digested. */
#include "fuzz.h"

#include <apr_encode.h>
#include <apr_strings.h>

#include <string.h>

static apr_size_t length_of(const char *name)
{
    static const struct {
        const char *name;
        apr_size_t len;
    } lengths[] = { { "sha1", 20 }, { "sha256", 32 }, { "sha512", 64 },
                    { "md5", 16 },  { "crc32", 4 },   { "crc32c", 4 } };
    apr_size_t i = 0;

    while (strcmp(lengths[i].name, name) != 0) {
        i++;
        HOLDS(i < sizeof(lengths) / sizeof(lengths[0]));
    }
    return lengths[i].len;
}

/* In two pieces as in one. */
static void digest(const tus_checksum_t *checksum, const char *data, apr_size_t len, apr_pool_t *p)
{
    tus_digest_t *whole, *pieces;
    int equal = -1, equal_pieces = -1;

    HOLDS(tus_digest_begin(&whole, checksum->algorithm, p) == APR_SUCCESS);
    HOLDS(tus_digest_begin(&pieces, TUS_CHECKSUMS_ALL, p) == APR_SUCCESS);
    HOLDS(tus_digest_update(whole, data, len) == APR_SUCCESS);
    HOLDS(tus_digest_update(pieces, data, len / 3) == APR_SUCCESS);
    HOLDS(tus_digest_update(pieces, data + len / 3, len - len / 3) == APR_SUCCESS);
    HOLDS(tus_digest_compare(whole, checksum, &equal) == APR_SUCCESS);
    HOLDS(tus_digest_compare(pieces, checksum, &equal_pieces) == APR_SUCCESS);
    HOLDS(equal == equal_pieces && (equal == 0 || equal == 1));
}

static void refuse(const char *header, unsigned algorithm, apr_pool_t *p)
{
    tus_checksum_t checksum;
    const tus_error_t *error =
        tus_checksum_parse(header, TUS_CHECKSUMS_ALL & ~algorithm, &checksum, p);

    HOLDS(error && fuzz_is_error(error, TUS_ERR_UNSUPPORTED_CHECKSUM));
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *header = fuzz_line(&data, &len, p), *name, *text;
    tus_checksum_t checksum;
    const tus_error_t *error = tus_checksum_parse(header, TUS_CHECKSUMS_ALL, &checksum, p);

    if (error) {
        HOLDS(fuzz_is_error(error, TUS_ERR_INVALID_CHECKSUM)
              || fuzz_is_error(error, TUS_ERR_UNSUPPORTED_CHECKSUM));
        return;
    }
    name = tus_checksum_names(checksum.algorithm, p);
    HOLDS(checksum.len == length_of(name) && tus_checksum_named(name) == checksum.algorithm);
    text = apr_pencode_base64_binary(p, checksum.digest, (apr_ssize_t)checksum.len, 0, NULL);
    text = apr_pstrcat(p, name, " ", text, NULL);
    HOLDS(strcmp(text, header) == 0);
    refuse(header, checksum.algorithm, p);
    digest(&checksum, data, len, p);
}
