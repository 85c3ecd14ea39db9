/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Seals: a store's files may be anybody's, so what is taken from them on trust
 * bears one. The key lies in the store's directory of TusStateDir, where nobody
 * else can read, from the first seal on.
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define KEY_NAME "seal"
#define KEY_BYTES 32
#define KEY_DIGITS (2 * KEY_BYTES)
#define KEY_SIZE (KEY_DIGITS + 2) /* so that one more digit shows */

static apr_status_t read_key(char key[KEY_SIZE], const char *path)
{
    apr_size_t len;
    apr_status_t rv = tus_small_get(key, KEY_SIZE, &len, path);

    return rv == APR_SUCCESS && len != KEY_DIGITS ? TUS_EDAMAGED : rv;
}

/* Under a name of its own at first: of several that make one, all use the first. */
static apr_status_t make_key(const char *path, apr_pool_t *p)
{
    unsigned char random[KEY_BYTES];
    apr_status_t rv = apr_generate_random_bytes(random, sizeof(random));
    const char *fresh;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    fresh = apr_psprintf(p, "%s.%s", path, apr_pescape_hex(p, random, 8, 0));
    rv = apr_generate_random_bytes(random, sizeof(random));
    if (rv == APR_SUCCESS) {
        rv = tus_small_replace(fresh, apr_pescape_hex(p, random, sizeof(random), 0), 1, p);
    }
    if (rv == APR_SUCCESS && link(fresh, path) != 0 && errno != EEXIST) {
        rv = errno;
    }
    tus_small_remove(fresh);
    return rv == APR_SUCCESS ? tus_small_sync(path) : rv;
}

static apr_status_t seal(char mac[TUS_SEAL_SIZE], const char *key, const char *text)
{
    unsigned char digest[EVP_MAX_MD_SIZE];

    if (!HMAC(EVP_sha256(), key, KEY_DIGITS, (const unsigned char *)text, strlen(text), digest,
              NULL)) {
        return APR_EGENERAL;
    }
    return apr_escape_hex(mac, digest, (TUS_SEAL_SIZE - 1) / 2, 0, NULL);
}

apr_status_t tus_seal_make(char mac[TUS_SEAL_SIZE], const char *state_dir, const char *text,
                           apr_pool_t *p)
{
    const char *path = apr_pstrcat(p, state_dir, "/" KEY_NAME, NULL);
    char key[KEY_SIZE];
    apr_status_t rv = read_key(key, path);

    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = make_key(path, p);
        if (rv == APR_SUCCESS) {
            rv = read_key(key, path);
        }
    }
    return rv == APR_SUCCESS ? seal(mac, key, text) : rv;
}

apr_status_t tus_seal_check(const char *mac, const char *state_dir, const char *text, apr_pool_t *p)
{
    char key[KEY_SIZE], expected[TUS_SEAL_SIZE];
    apr_status_t rv = read_key(key, apr_pstrcat(p, state_dir, "/" KEY_NAME, NULL));

    if (rv == APR_SUCCESS) {
        rv = seal(expected, key, text);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    return strlen(mac) == TUS_SEAL_SIZE - 1 && CRYPTO_memcmp(mac, expected, TUS_SEAL_SIZE - 1) == 0
               ? APR_SUCCESS
               : TUS_EREFUSED;
}
