/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Upload-Checksum, and the digests that it is compared with (tus 1.0, Checksum). */
#include "tus_words.h"

#include <apr_strings.h>

#include <isa-l/crc.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <string.h>

#define COUNT (sizeof(algorithms) / sizeof(algorithms[0]))
#define BIT(i) (1U << (i))

/* What crc32_iscsi() is given at once: its length is an int. */
#define PIECE_MAX (1 << 30)

static apr_uint32_t update_crc32(apr_uint32_t crc, const unsigned char *data, apr_size_t len)
{
    return crc32_gzip_refl(crc, data, len);
}

static apr_uint32_t update_crc32c(apr_uint32_t crc, const unsigned char *data, apr_size_t len)
{
    /* Unlike the other one, this does not invert by itself. */
    crc = ~crc;
    while (len > 0) {
        int piece = len < PIECE_MAX ? (int)len : PIECE_MAX;

        crc = crc32_iscsi((unsigned char *)data, piece, crc);
        data += piece;
        len -= (apr_size_t)piece;
    }
    return ~crc;
}

/* clang-format off */
/* The position is the algorithm's bit. Those without a function are OpenSSL's, by that name. */
static const struct {
    const char *name;
    apr_size_t len;
    apr_uint32_t (*update)(apr_uint32_t crc, const unsigned char *data, apr_size_t len);
} algorithms[] = {
    { "sha1", 20, NULL },
    { "sha256", 32, NULL },
    { "sha512", 64, NULL },
    { "md5", 16, NULL },
    { "crc32", 4, update_crc32 },
    { "crc32c", 4, update_crc32c },
};
/* clang-format on */

_Static_assert(TUS_CHECKSUMS_ALL == BIT(COUNT) - 1, "a bit for each algorithm");

struct tus_digest_t {
    unsigned algorithms;
    EVP_MD_CTX *context[COUNT]; /* NULL for a CRC */
    apr_uint32_t crc[COUNT];
};

unsigned tus_checksum_named(const char *name)
{
    apr_size_t i;

    for (i = 0; i < COUNT; i++) {
        if (strcmp(name, algorithms[i].name) == 0) {
            return BIT(i);
        }
    }
    return 0;
}

/* A new context, or NULL where OpenSSL does not compute this digest. */
static EVP_MD_CTX *make_context(const char *name)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const EVP_MD *md;

    /* A refusal is no error that this thread's next user of OpenSSL should find. */
    ERR_set_mark();
    md = EVP_get_digestbyname(name);
    if (!md || !context || EVP_DigestInit_ex(context, md, NULL) != 1) {
        EVP_MD_CTX_free(context);
        context = NULL;
    }
    ERR_pop_to_mark();
    return context;
}

unsigned tus_checksum_available(unsigned wanted)
{
    unsigned available = 0;
    apr_size_t i;

    for (i = 0; i < COUNT; i++) {
        EVP_MD_CTX *context = NULL;

        if (!(wanted & BIT(i))) {
            continue;
        }
        if (algorithms[i].update || (context = make_context(algorithms[i].name))) {
            available |= BIT(i);
        }
        EVP_MD_CTX_free(context);
    }
    return available;
}

const char *tus_checksum_names(unsigned wanted, apr_pool_t *p)
{
    apr_array_header_t *names = apr_array_make(p, COUNT, sizeof(const char *));
    apr_size_t i;

    for (i = 0; i < COUNT; i++) {
        if (wanted & BIT(i)) {
            APR_ARRAY_PUSH(names, const char *) = algorithms[i].name;
        }
    }
    return apr_array_pstrcat(p, names, ',');
}

/* The place in the table of an algorithm that is known. */
static apr_size_t index_of(unsigned algorithm)
{
    apr_size_t i = 0;

    while (BIT(i) != algorithm) {
        i++;
    }
    return i;
}

const tus_error_t *tus_checksum_parse(const char *value, unsigned allowed, tus_checksum_t *checksum,
                                      apr_pool_t *p)
{
    const char *space = value ? strchr(value, ' ') : NULL;
    const char *digest;
    unsigned algorithm;
    apr_size_t len, expected;

    if (!space || space == value) {
        return tus_error(p, TUS_ERR_INVALID_CHECKSUM, NULL);
    }
    algorithm = tus_checksum_named(apr_pstrmemdup(p, value, (apr_size_t)(space - value)));
    if (!(algorithm & allowed)) {
        return tus_error(p, TUS_ERR_UNSUPPORTED_CHECKSUM, NULL);
    }
    if (tus_header_base64(space + 1, strlen(space + 1), &digest, &len, p) != APR_SUCCESS) {
        return tus_error(p, TUS_ERR_INVALID_CHECKSUM,
                         "Upload-Checksum: what follows the algorithm and one space is not padded"
                         " Base64");
    }
    expected = algorithms[index_of(algorithm)].len;
    if (len != expected) {
        return tus_error(p, TUS_ERR_INVALID_CHECKSUM,
                         "Upload-Checksum: a digest of this algorithm has %" APR_SIZE_T_FMT
                         " bytes, not %" APR_SIZE_T_FMT,
                         expected, len);
    }
    checksum->algorithm = algorithm;
    checksum->digest = (const unsigned char *)digest;
    checksum->len = len;
    return NULL;
}

static apr_status_t free_context(void *context)
{
    EVP_MD_CTX_free(context);
    return APR_SUCCESS;
}

apr_status_t tus_digest_begin(tus_digest_t **digest, unsigned wanted, apr_pool_t *p)
{
    tus_digest_t *begun = apr_pcalloc(p, sizeof(*begun));
    apr_size_t i;

    if (wanted & ~TUS_CHECKSUMS_ALL) {
        return APR_ENOTIMPL;
    }
    for (i = 0; i < COUNT; i++) {
        if (!(wanted & BIT(i)) || algorithms[i].update) {
            continue;
        }
        begun->context[i] = make_context(algorithms[i].name);
        if (!begun->context[i]) {
            return APR_ENOTIMPL;
        }
        apr_pool_cleanup_register(p, begun->context[i], free_context, apr_pool_cleanup_null);
    }
    begun->algorithms = wanted;
    *digest = begun;
    return APR_SUCCESS;
}

apr_status_t tus_digest_update(tus_digest_t *digest, const char *data, apr_size_t len)
{
    const unsigned char *bytes = (const unsigned char *)data;
    apr_size_t i;

    for (i = 0; i < COUNT; i++) {
        if (!(digest->algorithms & BIT(i))) {
            continue;
        }
        if (algorithms[i].update) {
            digest->crc[i] = algorithms[i].update(digest->crc[i], bytes, len);
        }
        else if (EVP_DigestUpdate(digest->context[i], bytes, len) != 1) {
            return APR_EGENERAL;
        }
    }
    return APR_SUCCESS;
}

/* The digest of one algorithm; a CRC with its highest byte first. */
static apr_status_t end_digest(tus_digest_t *digest, apr_size_t i, unsigned char *bytes)
{
    apr_uint32_t crc = digest->crc[i];

    if (!algorithms[i].update) {
        return EVP_DigestFinal_ex(digest->context[i], bytes, NULL) == 1 ? APR_SUCCESS
                                                                        : APR_EGENERAL;
    }
    bytes[0] = (unsigned char)(crc >> 24);
    bytes[1] = (unsigned char)(crc >> 16);
    bytes[2] = (unsigned char)(crc >> 8);
    bytes[3] = (unsigned char)crc;
    return APR_SUCCESS;
}

apr_status_t tus_digest_compare(tus_digest_t *digest, const tus_checksum_t *checksum, int *equal)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned algorithm = checksum->algorithm;
    apr_size_t i;
    apr_status_t rv;

    /* One bit, and one of those that were begun. */
    if (!algorithm || (algorithm & (algorithm - 1)) || !(algorithm & digest->algorithms)) {
        return APR_EINVAL;
    }
    i = index_of(algorithm);
    rv = end_digest(digest, i, bytes);
    if (rv == APR_SUCCESS) {
        *equal = checksum->len == algorithms[i].len
                 && CRYPTO_memcmp(bytes, checksum->digest, checksum->len) == 0;
    }
    return rv;
}
