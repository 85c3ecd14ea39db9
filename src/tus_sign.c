/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The signature of a call, as Standard Webhooks has it. */
#include "tus_words.h"

#include <apr_encode.h>
#include <apr_strings.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string.h>

#define VERSION "v1,"
#define SECRET_PREFIX "whsec_"

static apr_status_t read_key(const char **key, apr_size_t *len, const char *secret, apr_pool_t *p)
{
    const apr_size_t prefix = strlen(SECRET_PREFIX);
    apr_status_t rv;

    if (strncmp(secret, SECRET_PREFIX, prefix) != 0) {
        *key = secret;
        *len = strlen(secret);
        return APR_SUCCESS;
    }
    secret += prefix;
    rv = tus_header_base64(secret, strlen(secret), key, len, p);
    return rv == APR_SUCCESS && *len > 0 ? APR_SUCCESS : APR_EINVAL;
}

/* "ID.SECONDS.BODY" */
static const char *signed_text(apr_size_t *size, const char *event_id, apr_time_t now,
                               const char *body, apr_size_t len, apr_pool_t *p)
{
    const char *head = apr_psprintf(p, "%s.%" APR_TIME_T_FMT ".", event_id, apr_time_sec(now));
    apr_size_t head_len = strlen(head);
    char *text = apr_palloc(p, head_len + len + 1);

    memcpy(text, head, head_len);
    memcpy(text + head_len, body, len);
    *size = head_len + len;
    return text;
}

apr_status_t tus_sign(const char **signature, const char *secret, const char *event_id,
                      apr_time_t now, const char *body, apr_size_t len, apr_pool_t *p)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len;
    const char *key, *text;
    apr_size_t key_len, size;
    apr_status_t rv = read_key(&key, &key_len, secret, p);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    text = signed_text(&size, event_id, now, body, len, p);
    if (!HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, size, digest,
              &digest_len)) {
        return APR_EGENERAL;
    }
    *signature = apr_pstrcat(
        p, VERSION, apr_pencode_base64_binary(p, digest, digest_len, APR_ENCODE_NONE, NULL), NULL);
    return APR_SUCCESS;
}
