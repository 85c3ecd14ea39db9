/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_encode.h>
#include <apr_escape.h>
#include <apr_strings.h>

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define FOX "The quick brown fox jumps over the lazy dog"

static const char *const names[] = { "sha1", "sha256", "sha512", "md5", "crc32", "crc32c" };

/* Upload-Checksum of that digest in hexadecimal. */
static const char *header_of(const char *name, const char *hex)
{
    unsigned char digest[64];
    apr_size_t len;

    ck_assert_int_eq(apr_unescape_hex(digest, hex, APR_ESCAPE_STRING, 0, &len), APR_SUCCESS);
    return apr_pstrcat(
        unit_pool, name, " ",
        apr_pencode_base64_binary(unit_pool, digest, (apr_ssize_t)len, APR_ENCODE_NONE, NULL),
        NULL);
}

static tus_checksum_t parse(const char *value)
{
    tus_checksum_t checksum = { 0 };
    const tus_error_t *error = tus_checksum_parse(value, TUS_CHECKSUMS_ALL, &checksum, unit_pool);

    ck_assert_msg(!error, "%s: %s", value, error ? error->message : "");
    return checksum;
}

static const tus_error_t *refusal(const char *value, unsigned allowed)
{
    tus_checksum_t checksum = { 0 };
    const tus_error_t *error = tus_checksum_parse(value, allowed, &checksum, unit_pool);

    ck_assert_msg(error != NULL, "accepted: %s", value);
    ck_assert_uint_eq(checksum.algorithm, 0);
    ck_assert_int_eq(error->status, 400);
    return error;
}

static tus_digest_t *begin(unsigned algorithms)
{
    tus_digest_t *digest = NULL;

    ck_assert_int_eq(tus_digest_begin(&digest, algorithms, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(digest);
    return digest;
}

static void update(tus_digest_t *digest, const void *data, apr_size_t len)
{
    ck_assert_int_eq(tus_digest_update(digest, data, len), APR_SUCCESS);
}

static int is_equal(tus_digest_t *digest, const tus_checksum_t *checksum)
{
    int equal = -1;

    ck_assert_int_eq(tus_digest_compare(digest, checksum, &equal), APR_SUCCESS);
    ck_assert(equal == 0 || equal == 1);
    return equal;
}

/* ---- names ------------------------------------------------------------------------------- */

START_TEST(each_name_has_its_bit)
{
    unsigned all = 0;
    int i;

    for (i = 0; i < COUNT(names); i++) {
        unsigned bit = tus_checksum_named(names[i]);

        ck_assert_uint_ne(bit, 0);
        ck_assert_uint_eq(bit & (bit - 1), 0);
        ck_assert_uint_eq(bit & all, 0);
        ck_assert_str_eq(tus_checksum_names(bit, unit_pool), names[i]);
        all |= bit;
    }
    ck_assert_uint_eq(all, TUS_CHECKSUMS_ALL);
}
END_TEST

static const char *const no_names[] = {
    "", "SHA1", "Sha1", "sha-1", "sha", "sha1 ", " sha1", "sha11", "sha384", "md4", "crc", "crc32C",
};

START_TEST(other_names_are_unknown)
{
    ck_assert_uint_eq(tus_checksum_named(no_names[_i]), 0);
}
END_TEST

START_TEST(names_stand_as_in_the_header)
{
    unsigned some = tus_checksum_named("crc32c") | tus_checksum_named("sha1");

    ck_assert_str_eq(tus_checksum_names(TUS_CHECKSUMS_ALL, unit_pool),
                     "sha1,sha256,sha512,md5,crc32,crc32c");
    ck_assert_str_eq(tus_checksum_names(some, unit_pool), "sha1,crc32c");
    ck_assert_str_eq(tus_checksum_names(0, unit_pool), "");
}
END_TEST

START_TEST(available_are_those_that_can_be_begun)
{
    unsigned available = tus_checksum_available(TUS_CHECKSUMS_ALL);
    unsigned crcs = tus_checksum_named("crc32") | tus_checksum_named("crc32c");
    int i;

    ck_assert_uint_eq(available & crcs, crcs);
    ck_assert_uint_eq(available & ~TUS_CHECKSUMS_ALL, 0);
    for (i = 0; i < COUNT(names); i++) {
        unsigned bit = tus_checksum_named(names[i]);
        tus_digest_t *digest;

        ck_assert_uint_eq(tus_checksum_available(bit), available & bit);
        ck_assert_int_eq(tus_digest_begin(&digest, bit, unit_pool),
                         available & bit ? APR_SUCCESS : APR_ENOTIMPL);
    }
    ck_assert_uint_eq(tus_checksum_available(0), 0);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}
END_TEST

/* As in FIPS mode, and nobody else finds an error of it. */
START_TEST(refused_by_openssl)
{
    unsigned md5 = tus_checksum_named("md5");
    tus_digest_t *digest = NULL;
    unsigned available;
    apr_status_t rv;

    ERR_clear_error();
    EVP_default_properties_enable_fips(NULL, 1);
    available = tus_checksum_available(TUS_CHECKSUMS_ALL);
    rv = tus_digest_begin(&digest, md5, unit_pool);
    EVP_default_properties_enable_fips(NULL, 0);
    ck_assert_uint_eq(available & md5, 0);
    ck_assert_uint_ne(available, 0);
    ck_assert_int_eq(rv, APR_ENOTIMPL);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}
END_TEST

/* ---- Upload-Checksum --------------------------------------------------------------------- */

START_TEST(spec_example)
{
    tus_checksum_t checksum = parse("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    tus_digest_t *digest = begin(checksum.algorithm);

    ck_assert_uint_eq(checksum.algorithm, tus_checksum_named("sha1"));
    ck_assert_uint_eq(checksum.len, 20);
    ck_assert_mem_eq(checksum.digest, "\x2a\xae\x6c\x35\xc9\x4f\xcf\xb4\x15\xdb", 10);
    update(digest, "hello world", 11);
    ck_assert_int_eq(is_equal(digest, &checksum), 1);
}
END_TEST

static const char *const malformed[] = {
    NULL,
    "",
    " ",
    "sha1",
    " Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    " sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 ",
    "sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1\tKq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 \tKq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0= ",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=\t",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0", /* no padding */
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0==",
    "sha1 Kq5sNclPz7QV2-lfQIuc6R7oRu0=", /* base64url */
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu1=", /* stray bits */
    "sha1 Kq5sNclPz7QV2+lfQI\nuc6R7oRu0=",
    "sha1 Kq5sNclPz7QV2+lf QIuc6R7oRu0=",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=, sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 2aae6c35c94fcfb415dbe95f408b9ce91ee846ed", /* hexadecimal */
    "sha1 ====",
    "sha1 Kg==",                         /* 1 byte */
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRg==", /* 19 */
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0A", /* 21 */
    "md5 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",  /* another algorithm's */
    "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "crc32 y/Q5",
    "crc32 y/Q5JgA=",
    "crc32c ",
};

START_TEST(malformed_is_refused)
{
    ck_assert_int_eq(refusal(malformed[_i], TUS_CHECKSUMS_ALL)->err, TUS_ERR_INVALID_CHECKSUM);
}
END_TEST

static const char *const unknown[] = {
    "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",   "Sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha-1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",  "sha384 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "\xff Kq5sNclPz7QV2+lfQIuc6R7oRu0=",   "sha1,md5 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1;x Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "x !",
};

START_TEST(unknown_algorithm_is_refused)
{
    ck_assert_int_eq(refusal(unknown[_i], TUS_CHECKSUMS_ALL)->err, TUS_ERR_UNSUPPORTED_CHECKSUM);
}
END_TEST

START_TEST(algorithm_that_is_not_offered_is_refused)
{
    const char *value = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
    unsigned sha1 = tus_checksum_named("sha1");
    tus_checksum_t checksum;

    ck_assert_int_eq(refusal(value, TUS_CHECKSUMS_ALL & ~sha1)->err, TUS_ERR_UNSUPPORTED_CHECKSUM);
    ck_assert_int_eq(refusal(value, 0)->err, TUS_ERR_UNSUPPORTED_CHECKSUM);
    ck_assert_ptr_null(tus_checksum_parse(value, sha1, &checksum, unit_pool));
}
END_TEST

START_TEST(sentences_say_what_is_wrong)
{
    ck_assert_ptr_nonnull(strstr(refusal("sha1 !", TUS_CHECKSUMS_ALL)->message, "Base64"));
    ck_assert_ptr_nonnull(
        strstr(refusal("sha256 Kg==", TUS_CHECKSUMS_ALL)->message, "has 32 bytes, not 1"));
}
END_TEST

/* ---- published digests ------------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *text;
    const char *hex;
} vectors[] = {
    /* FIPS 180-4's examples */
    { "sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d" },
    { "sha1", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "84983e441c3bd26ebaae4aa1f95129e5e54670f1" },
    { "sha1", "", "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
    { "sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "sha256", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    { "sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "sha512", "abc",
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
      "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f" },
    { "sha512", "",
      "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
      "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e" },
    /* RFC 1321, appendix A.5 */
    { "md5", "", "d41d8cd98f00b204e9800998ecf8427e" },
    { "md5", "abc", "900150983cd24fb0d6963f7d28e17f72" },
    { "md5", "message digest", "f96b697d7cb7938d525a2f31aaf161d0" },
    { "md5", LETTERS, "d174ab98d277d9f5a5611c2c9f419d9f" },
    /* the catalogue's check values, of CRC-32/ISO-HDLC and CRC-32/ISCSI */
    { "crc32", "123456789", "cbf43926" },
    { "crc32", "", "00000000" },
    { "crc32", FOX, "414fa339" },
    { "crc32c", "123456789", "e3069283" },
    { "crc32c", "", "00000000" },
    { "crc32c", FOX, "22620404" },
};

START_TEST(published_digest)
{
    const char *text = vectors[_i].text;
    const char *changed = apr_pstrcat(unit_pool, text, "x", NULL);
    tus_checksum_t checksum = parse(header_of(vectors[_i].name, vectors[_i].hex));
    tus_digest_t *digest = begin(checksum.algorithm);

    update(digest, text, strlen(text));
    ck_assert_int_eq(is_equal(digest, &checksum), 1);
    digest = begin(checksum.algorithm);
    update(digest, changed, strlen(changed));
    ck_assert_int_eq(is_equal(digest, &checksum), 0);
}
END_TEST

/* Cut into two updates at every place, and with an empty one. */
START_TEST(published_digest_in_pieces)
{
    const char *text = vectors[_i].text;
    tus_checksum_t checksum = parse(header_of(vectors[_i].name, vectors[_i].hex));
    apr_size_t len = strlen(text);
    apr_size_t cut;

    for (cut = 0; cut <= len; cut++) {
        tus_digest_t *digest = begin(checksum.algorithm);
        char *first = exact_copy(text, cut);
        char *rest = exact_copy(text + cut, len - cut);

        update(digest, first, cut);
        update(digest, NULL, 0);
        update(digest, rest, len - cut);
        free(first);
        free(rest);
        ck_assert_int_eq(is_equal(digest, &checksum), 1);
    }
}
END_TEST

/* RFC 3720, appendix B.4, which writes the lowest byte first. */
START_TEST(crc32c_of_iscsi)
{
    static const char *const hex[] = { "8a9136aa", "62a8ab43", "46dd794e", "113fdb5c" };
    unsigned char data[4][32];
    int i;

    memset(data[0], 0, 32);
    memset(data[1], 0xff, 32);
    for (i = 0; i < 32; i++) {
        data[2][i] = (unsigned char)i;
        data[3][i] = (unsigned char)(31 - i);
    }
    for (i = 0; i < COUNT(hex); i++) {
        tus_checksum_t checksum = parse(header_of("crc32c", hex[i]));
        tus_digest_t *digest = begin(checksum.algorithm);

        update(digest, data[i], 32);
        ck_assert_int_eq(is_equal(digest, &checksum), 1);
    }
}
END_TEST

/* FIPS 180-4 and RFC 3174 have it: a million times "a". */
START_TEST(sha1_of_a_million)
{
    tus_checksum_t checksum = parse(header_of("sha1", "34aa973cd4c4daa4f61eeb2bdbad27316534016f"));
    tus_digest_t *digest = begin(checksum.algorithm);
    char *data = apr_palloc(unit_pool, 1000);
    int i;

    memset(data, 'a', 1000);
    for (i = 0; i < 1000; i++) {
        update(digest, data, 1000);
    }
    ck_assert_int_eq(is_equal(digest, &checksum), 1);
}
END_TEST

/* ---- the CRCs beside a plain one --------------------------------------------------------- */

static apr_uint32_t plain_crc(apr_uint32_t polynomial, const unsigned char *data, apr_size_t len)
{
    apr_uint32_t crc = ~0U;
    int bit;

    while (len-- > 0) {
        crc ^= *data++;
        for (bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ polynomial : crc >> 1;
        }
    }
    return ~crc;
}

static const struct {
    const char *name;
    apr_uint32_t polynomial; /* reflected */
} crcs[] = { { "crc32", 0xedb88320U }, { "crc32c", 0x82f63b78U } };

static void assert_crc(int i, const unsigned char *data, apr_size_t len, apr_size_t cut)
{
    apr_uint32_t crc = plain_crc(crcs[i].polynomial, data, len);
    tus_checksum_t checksum = parse(header_of(crcs[i].name, apr_psprintf(unit_pool, "%08x", crc)));
    tus_digest_t *digest = begin(checksum.algorithm);

    update(digest, data, cut);
    update(digest, data + cut, len - cut);
    ck_assert_msg(is_equal(digest, &checksum), "%s of %" APR_SIZE_T_FMT " bytes", crcs[i].name,
                  len);
}

/* Every length and alignment, up to where an unreadable page begins. */
START_TEST(crc_reads_its_bytes_only)
{
    const apr_size_t page = (apr_size_t)sysconf(_SC_PAGESIZE);
    unsigned char *data =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    apr_size_t i, len;

    ck_assert_ptr_ne(data, MAP_FAILED);
    for (i = 0; i < page; i++) {
        data[i] = (unsigned char)(i * 7 + (i >> 3));
    }
    ck_assert_int_eq(mprotect(data + page, page, PROT_NONE), 0);
    for (len = 0; len <= 1100; len++) {
        assert_crc(_i, data + page - len, len, len / 3);
        assert_crc(_i, data + len % 64, len, len);
    }
    munmap(data, 2 * page);
}
END_TEST

/* More at once than an int counts: zeros, whose CRCs a plain table gave. */
START_TEST(more_than_two_gigabytes_at_once)
{
    static const char *const hex[] = { "b572424b", "6d477b57" };
    const apr_size_t len = (apr_size_t)INT_MAX + 12345;
    char *zeros = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    tus_checksum_t checksum = parse(header_of(crcs[_i].name, hex[_i]));
    tus_digest_t *digest = begin(checksum.algorithm);

    ck_assert_ptr_ne(zeros, MAP_FAILED);
    update(digest, zeros, len);
    munmap(zeros, len);
    ck_assert_int_eq(is_equal(digest, &checksum), 1);
}
END_TEST

/* ---- several at once, and what cannot be compared ---------------------------------------- */

/* A trailer names the algorithm only when the bytes are through. */
START_TEST(all_algorithms_at_once)
{
    tus_digest_t *digest = begin(TUS_CHECKSUMS_ALL);

    update(digest, "ab", 2);
    update(digest, "c", 1);
    for (int i = 0; i < COUNT(vectors); i++) {
        if (strcmp(vectors[i].text, "abc") == 0) {
            tus_checksum_t checksum = parse(header_of(vectors[i].name, vectors[i].hex));

            ck_assert_int_eq(is_equal(digest, &checksum), 1);
        }
    }
}
END_TEST

START_TEST(each_bit_of_a_digest_counts)
{
    tus_checksum_t checksum = parse(header_of("md5", "900150983cd24fb0d6963f7d28e17f72"));
    unsigned char *changed = apr_pmemdup(unit_pool, checksum.digest, checksum.len);
    apr_size_t i;

    checksum.digest = changed;
    for (i = 0; i < checksum.len * 8; i++) {
        tus_digest_t *digest = begin(checksum.algorithm);

        update(digest, "abc", 3);
        changed[i / 8] ^= (unsigned char)(1 << i % 8);
        ck_assert_int_eq(is_equal(digest, &checksum), 0);
        changed[i / 8] ^= (unsigned char)(1 << i % 8);
    }
}
END_TEST

START_TEST(what_was_not_begun_is_not_compared)
{
    tus_checksum_t checksum = parse(header_of("crc32", "cbf43926"));
    tus_digest_t *digest = begin(tus_checksum_named("crc32c") | tus_checksum_named("sha1"));
    unsigned others[] = { checksum.algorithm, 0, TUS_CHECKSUMS_ALL + 1, TUS_CHECKSUMS_ALL,
                          tus_checksum_named("crc32c") | tus_checksum_named("sha1") };
    int equal = -1;
    int i;

    for (i = 0; i < COUNT(others); i++) {
        checksum.algorithm = others[i];
        ck_assert_int_eq(tus_digest_compare(digest, &checksum, &equal), APR_EINVAL);
        ck_assert_int_eq(equal, -1);
    }
}
END_TEST

START_TEST(digest_of_another_length_differs)
{
    tus_checksum_t checksum = parse(header_of("crc32", "cbf43926"));
    tus_digest_t *digest = begin(checksum.algorithm);

    checksum.len = 0;
    update(digest, "123456789", 9);
    ck_assert_int_eq(is_equal(digest, &checksum), 0);
}
END_TEST

START_TEST(what_is_unknown_cannot_be_begun)
{
    tus_digest_t *digest = NULL;

    ck_assert_int_eq(tus_digest_begin(&digest, TUS_CHECKSUMS_ALL + 1, unit_pool), APR_ENOTIMPL);
    ck_assert_ptr_null(digest);
}
END_TEST

Suite *checksum_suite(void)
{
    Suite *suite = suite_create("checksum");
    TCase *tcase = add_case(suite, "names");

    tcase_add_test(tcase, each_name_has_its_bit);
    tcase_add_loop_test(tcase, other_names_are_unknown, 0, COUNT(no_names));
    tcase_add_test(tcase, names_stand_as_in_the_header);
    tcase_add_test(tcase, available_are_those_that_can_be_begun);
    tcase_add_test(tcase, refused_by_openssl);

    tcase = add_case(suite, "parse");
    tcase_add_test(tcase, spec_example);
    tcase_add_loop_test(tcase, malformed_is_refused, 0, COUNT(malformed));
    tcase_add_loop_test(tcase, unknown_algorithm_is_refused, 0, COUNT(unknown));
    tcase_add_test(tcase, algorithm_that_is_not_offered_is_refused);
    tcase_add_test(tcase, sentences_say_what_is_wrong);

    tcase = add_case(suite, "digest");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, published_digest, 0, COUNT(vectors));
    tcase_add_loop_test(tcase, published_digest_in_pieces, 0, COUNT(vectors));
    tcase_add_test(tcase, crc32c_of_iscsi);
    tcase_add_test(tcase, sha1_of_a_million);
    tcase_add_loop_test(tcase, crc_reads_its_bytes_only, 0, COUNT(crcs));
    tcase_add_loop_test(tcase, more_than_two_gigabytes_at_once, 0, COUNT(crcs));
    tcase_add_test(tcase, all_algorithms_at_once);
    tcase_add_test(tcase, each_bit_of_a_digest_counts);
    tcase_add_test(tcase, what_was_not_begun_is_not_compared);
    tcase_add_test(tcase, digest_of_another_length_differs);
    tcase_add_test(tcase, what_is_unknown_cannot_be_begun);
    return suite;
}
