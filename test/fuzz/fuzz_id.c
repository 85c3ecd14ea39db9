/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Two lines are ids. */
#include "fuzz.h"

#include <string.h>

static void look(const char *id)
{
    tus_record_t record = { .id = id };
    char key[TUS_ID_KEY_SIZE];
    const char *name;

    HOLDS(strlen(id) <= 1000 && fuzz_is_name(id, 200));
    HOLDS(id[strspn(id, TUS_UNRESERVED "/")] == '\0');
    HOLDS(tus_storage_name(&record, &name) == APR_SUCCESS && name == id);
    HOLDS(tus_id_key(id, key) == key);
    HOLDS(strcmp(key, id) == 0 || *key == '~');
    HOLDS(tus_id_is_valid(key) && !strchr(key, '/'));
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *one = fuzz_line(&data, &len, p), *other = fuzz_line(&data, &len, p);
    char key[TUS_ID_KEY_SIZE], other_key[TUS_ID_KEY_SIZE];
    int is_valid = tus_id_is_valid(one);

    HOLDS(is_valid
          == (strlen(one) <= 1000 && fuzz_is_name(one, 200)
              && one[strspn(one, TUS_UNRESERVED "/")] == '\0'));
    if (!is_valid) {
        return;
    }
    look(one);
    if (tus_id_is_valid(other)) {
        look(other);
        /* Different ids have different keys. */
        HOLDS((strcmp(tus_id_key(one, key), tus_id_key(other, other_key)) == 0)
              == (strcmp(one, other) == 0));
    }
}
