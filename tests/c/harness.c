/* Runs the tests, those of the protocol once for each AES backend. The last line counts. With arguments, a part of them:
 * see main(). */
#include "harness.h"

#include <sodium.h>

static unsigned long passed, failed;
static int stops; /* 1: at the first check that fails */
static int quiet; /* 1: the last check that failed had failed before, too often to be told again */

int check(int good, const char *file, int line, const char *what) {
  enum { PLACES = 64, COMPLAINTS = 3 };
  static struct {
    const char *file;
    int line, times;
  } places[PLACES];
  if (good) {
    passed++;
    return 1;
  }
  size_t i = 0;
  while (i < PLACES - 1 && places[i].file != NULL && (places[i].line != line || strcmp(places[i].file, file) != 0)) i++;
  places[i].file = file;
  places[i].line = line;
  quiet = ++places[i].times > COMPLAINTS;
  if (!quiet) printf("%s:%d: %s\n", file, line, what);
  failed++;
  if (stops) exit(1);
  return 0;
}

int check_status(int got, int want, const char *file, int line, const char *what) {
  if (!check(got == want, file, line, what) && !quiet) printf("    got %d, not %d\n", got, want);
  return got == want;
}

int check_bytes(const void *got, size_t got_len, const void *want, size_t want_len, const char *file, int line,
                const char *what) {
  const int same = got_len == want_len && (want_len == 0 || memcmp(got, want, want_len) == 0);
  if (!check(same, file, line, what) && !quiet)
    printf("    got %zu bytes, want %zu\n    got  %.*s\n    want %.*s\n", got_len, want_len, (int)got_len,
           (const char *)got, (int)want_len, (const char *)want);
  return same;
}

static int under_valgrind(void) {
  const char *preloaded = getenv("LD_PRELOAD"); /* how valgrind gets into a process */
  return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

#if defined(__OPTIMIZE__)
enum { OPTIMISED = 1 };
#else
enum { OPTIMISED = 0 };
#endif

unsigned stride(void) {
  const char *asked = getenv("HARNESS_STRIDE");
  if (asked != NULL) return (unsigned)strtoul(asked, NULL, 10) | 1u; /* odd, and so never 0 */
  return under_valgrind() ? 37 : 1;
}

/* ---- buffers ---- */

enum { PATTERN = 0xa5 };

static void *allocate(size_t len) {
  void *p = malloc(len);
  if (p == NULL) abort();
  return p;
}

bytes bytes_new(size_t len) {
  if (len == 0) return (bytes){NULL, 0};
  return (bytes){memset(allocate(len), PATTERN, len), len};
}

bytes bytes_copy(const void *from, size_t len) {
  if (len == 0) return (bytes){NULL, 0};
  return (bytes){memcpy(allocate(len), from, len), len};
}

void bytes_append(bytes *b, const void *from, size_t len) {
  if (len == 0) return;
  uint8_t *at = allocate(b->len + len);
  if (b->len != 0) memcpy(at, b->at, b->len);
  memcpy(at + b->len, from, len);
  free(b->at);
  b->at = at;
  b->len += len;
}

void bytes_free(bytes *b) {
  free(b->at);
  *b = (bytes){NULL, 0};
}

int bytes_untouched(const bytes *b) {
  for (size_t i = 0; i < b->len; i++) {
    if (b->at[i] != PATTERN) return 0;
  }
  return 1;
}

int all_zero(const void *p, size_t len) {
  const uint8_t *at = p;
  for (size_t i = 0; i < len; i++) {
    if (at[i] != 0) return 0;
  }
  return 1;
}

int holds_run_of(const void *p, size_t len, const void *secret, size_t secret_len) {
  enum { RUN = 8 };
  const uint8_t *at = p, *s = secret;
  for (size_t i = 0; i + RUN <= len; i++) {
    for (size_t j = 0; j + RUN <= secret_len; j++) {
      if (memcmp(at + i, s + j, RUN) == 0) return 1;
    }
  }
  return 0;
}

view view_of(const char *text) { return (view){(const uint8_t *)text, strlen(text)}; }

view viewed(const bytes *b) { return (view){b->at, b->len}; }

size_t unhex(uint8_t *out, const char *hex) {
  size_t len = 0;
  for (unsigned byte; sscanf(hex + 2 * len, "%2x", &byte) == 1; len++) out[len] = (uint8_t)byte;
  return len;
}

view member(view json, const char *name) {
  char key[64];
  const size_t key_len = (size_t)snprintf(key, sizeof key, "\"%s\":", name);
  for (size_t i = 0; i + key_len < json.len; i++) {
    if (memcmp(json.at + i, key, key_len) != 0) continue;
    const uint8_t *value = json.at + i + key_len;
    const int object = *value == '{';
    const uint8_t *begin = object ? value : value + 1;
    const uint8_t *end = memchr(begin, object ? '}' : '"', json.len - (size_t)(begin - json.at));
    if (end == NULL) break;
    return (view){begin, (size_t)(end - begin) + (size_t)object};
  }
  return (view){NULL, 0};
}

/* ---- AES backends ---- */

unsigned model_backend(void) {
  unsigned i = 0;
  while (strcmp(ac_aes_backend_name(i), "portable") != 0) i++;
  return i;
}

/* ---- protocol ---- */

const char *const points_of_small_order[SMALL_ORDER] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

ac_signing_key some_signing_key(void) {
  ac_signing_key key;
  CHECK_STATUS(ac_signing_key_generate(&key), AC_OK);
  return key;
}

ac_v1_envelope envelope_of(view json) {
  const view c = member(json, "ciphertext"), n = member(json, "nonce"), s = member(json, "salt");
  const view client = member(json, "client_dh_public_key"), node = member(json, "node_dh_public_key");
  const view hash = member(json, "plaintext_body_hash");
  return (ac_v1_envelope){.ciphertext = c.at,       .ciphertext_len = c.len,       .nonce = n.at,
                          .nonce_len = n.len,       .salt = s.at,                  .salt_len = s.len,
                          .client_public = client.at, .client_public_len = client.len, .node_public = node.at,
                          .node_public_len = node.len, .body_hash = hash.at,       .body_hash_len = hash.len};
}

exchange exchange_make(const ac_signing_key *signing) {
  static const char body[] = "{\"stream\":true}";
  exchange x = {0};
  ac_secret_key node;
  size_t len = 0;
  bytes request = bytes_new(ac_v1_request_max_bytes(sizeof body - 1, 3));
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  CHECK_STATUS(ac_v1_request_seal(&x.opener, request.at, request.len, &len, node.public_key, (const uint8_t *)body,
                                  sizeof body - 1, (const uint8_t *)"\"m\"", 3, 42, 0, 0, 1),
               AC_OK);
  const ac_v1_envelope envelope = envelope_of((view){request.at, len});
  bytes opened = bytes_new(ac_base64_decoded_max(envelope.ciphertext_len));
  CHECK_STATUS(ac_v1_request_open(&x.sealer, opened.at, opened.len, &len, &node, signing, &envelope), AC_OK);
  CHECK_SAME(((view){opened.at, len}), ((view){(const uint8_t *)body, sizeof body - 1}));
  bytes_free(&opened);
  bytes_free(&request);
  return x;
}

int event_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *plaintext,
               size_t plaintext_len, const uint8_t *usage, size_t usage_len) {
  if (usage_len != 0)
    return ac_v1_events_seal(sealer, out, out_cap, out_len, plaintext, plaintext_len, &plaintext_len, 1, usage, usage_len);
  const int64_t status = ac_v1_event_seal(sealer, out, out_cap, plaintext, plaintext_len);
  if (status < 0) return (int)status;
  *out_len = (size_t)status;
  return AC_OK;
}

bytes seal_event(ac_v1_sealer *sealer, const char *plaintext, const char *usage) {
  const view p = view_of(plaintext), u = view_of(usage);
  bytes event = bytes_new(ac_v1_event_bytes(sealer, p.len, u.len));
  bytes exact = bytes_copy(p.at, p.len), exact_usage = bytes_copy(u.at, u.len);
  size_t len = 0;
  CHECK_STATUS(event_seal(sealer, event.at, event.len, &len, exact.at, exact.len, exact_usage.at, u.len), AC_OK);
  CHECK(len == event.len);
  bytes_free(&exact);
  bytes_free(&exact_usage);
  return event;
}

view event_data(const bytes *event) { return (view){event->at + 6, event->len - 8}; }

int events_open(ac_v1_opener *opener, ac_v1_events *events, view in) {
  events->opener = opener;
  const int64_t status = ac_v1_events_open(events, in.at, in.len);
  if (status < AC_ONE) return (int)status;
  CHECK(events->count == 1 && events->consumed == in.len && events->out_len == events->spans[0] &&
        (int64_t)events->out_len == status - AC_ONE && events->spans[2] == 0 && !opener->nonce_reused);
  return AC_OK;
}

int open_event_alone(ac_v1_opener *opener, bytes *plaintext, view event) {
  bytes in = bytes_copy(event.at, event.len), out = bytes_new(event.len);
  ac_v1_events events = {.out = out.at, .out_cap = out.len, .event_cap = 1};
  int status = events_open(opener, &events, (view){in.at, in.len});
  if (status == AC_OK && events.count == 0) status = AC_PUNT; /* not even an event */
  *plaintext = status == AC_OK ? bytes_copy(out.at, events.out_len) : (bytes){NULL, 0};
  bytes_free(&in);
  bytes_free(&out);
  return status;
}

/* ---- which tests ---- */

typedef struct test {
  const char *name;
  void (*run)(void);
} test;

#define TEST(name) {#name, test_##name}

static const test once[] = {TEST(primitives), TEST(sha256), TEST(gcm),     TEST(differential), TEST(gcm_guards),
                            TEST(base64),     TEST(text),   TEST(v2_text), TEST(masks)};
/* Once for each AES backend. */
static const test each[] = {
    TEST(vectors),    TEST(hpke),      TEST(request),   TEST(sealer),    TEST(opener),    TEST(stream),  TEST(event_guards),
    TEST(faults),     TEST(parallel),  TEST(v2_vectors), TEST(v2_sealer), TEST(v2_opener), TEST(v2_states), TEST(v2_stream),
    TEST(v2_request), TEST(v2_bound),  TEST(v2_parallel), TEST(v2_guards)};
/* valgrind forbids to look at what lies beyond the stack's end; x86's backends wipe it where the compiler optimises. */
static const test of_stack[] = {TEST(stack), TEST(v2_stack)};

#define LEN(tests) (sizeof(tests) / sizeof(tests)[0])

/* Those that are asked for; all if none is. Their number. */
static size_t run(const test *tests, size_t count, char *const *names) {
  size_t ran = 0;
  for (size_t i = 0; i < count; i++) {
    char *const *name = names;
    while (*name != NULL && strcmp(*name, tests[i].name) != 0) name++;
    if (*names != NULL && *name == NULL) continue;
    tests[i].run();
    ran++;
  }
  return ran;
}

/* Arguments: the names of the tests to run, behind --stop, which ends at the first check that fails. */
int main(int argc, char **argv) {
  char *const *names = argv + (argc > 0);
  if (*names != NULL && strcmp(*names, "--stop") == 0) {
    stops = 1;
    names++;
  }
  if (sodium_init() < 0) return 2;
  CHECK_STATUS(ac_init(&sodium_table, NULL), AC_OK);
  size_t ran = run(once, LEN(once), names);
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    if (!ac_aes_backend_usable(i)) {
      printf("this CPU has no backend %s\n", ac_aes_backend_name(i));
      continue;
    }
    CHECK_STATUS(ac_init(&sodium_table, ac_aes_backend_name(i)), AC_OK);
    CHECK(ac_aes_backend_default() == i);
    ran += run(each, LEN(each), names);
    if (OPTIMISED && !under_valgrind()) ran += run(of_stack, LEN(of_stack), names);
    CHECK(random_left() == 0);
  }
  printf("AES backends:");
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    if (ac_aes_backend_usable(i)) printf(" %s", ac_aes_backend_name(i));
  }
  printf("\n%lu passed, %lu failed\n", passed, failed);
  return failed != 0 || ran == 0;
}
