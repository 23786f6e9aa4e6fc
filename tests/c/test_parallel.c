/* Threads on one object, and fork(). */
#include "harness.h"

#include <unistd.h>

static const char text[] = "{\"choices\":[]}";
enum { TEXT = sizeof text - 1, THREADS = 8, TRIES = 400 };

/* ---- eight at once ---- */

typedef struct worker {
  pthread_t thread;
  ac_v1_sealer *sealer;
  size_t sealed, busy, other;
  uint8_t nonces[2 * TRIES][AC_NONCE_BYTES];
} worker;

static pthread_mutex_t start = PTHREAD_MUTEX_INITIALIZER; /* held until all are there */

static void keep_nonce(worker *w, const bytes *event, size_t len) {
  const view n = member((view){event->at, len}, "nonce");
  if (aci_base64_decode_exact(w->nonces[w->sealed++], AC_NONCE_BYTES, n.at, n.len) != AC_OK) w->other++;
}

static void *work(void *p) {
  static const size_t lens[] = {TEXT - 3, 3};
  worker *const w = p;
  bytes out = bytes_new(ac_v1_events_bytes(w->sealer, TEXT, lens, 2, 0));
  (void)pthread_mutex_lock(&start);
  (void)pthread_mutex_unlock(&start);
  for (unsigned i = 0; i < TRIES; i++) {
    const int batch = i % 2;
    size_t len = 0;
    const int status =
        batch ? ac_v1_events_seal(w->sealer, out.at, out.len, &len, (const uint8_t *)text, TEXT, lens, 2, NULL, 0)
              : event_seal(w->sealer, out.at, out.len, &len, (const uint8_t *)text, TEXT, NULL, 0);
    if (status == AC_OK) {
      keep_nonce(w, &out, batch ? len / 2 : len);
      if (batch) {
        bytes second = {out.at + len / 2, len - len / 2};
        keep_nonce(w, &second, second.len);
      }
    } else if (status == AC_ERR_BUSY) {
      w->busy++;
    } else {
      w->other++;
    }
  }
  bytes_free(&out);
  return NULL;
}

static int compare_nonces(const void *a, const void *b) { return memcmp(a, b, AC_NONCE_BYTES); }

static void eight_threads(void) {
  static worker workers[THREADS];
  exchange x = exchange_make(NULL);
  bytes nonces = {0};
  size_t sealed = 0, tried = 0, twice = 0;
  memset(workers, 0, sizeof workers);
  CHECK(pthread_mutex_lock(&start) == 0);
  for (size_t i = 0; i < THREADS; i++) {
    workers[i].sealer = &x.sealer;
    CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
  }
  CHECK(pthread_mutex_unlock(&start) == 0);
  for (size_t i = 0; i < THREADS; i++) {
    CHECK(pthread_join(workers[i].thread, NULL) == 0);
    CHECK(workers[i].other == 0);
    bytes_append(&nonces, workers[i].nonces, workers[i].sealed * AC_NONCE_BYTES);
    sealed += workers[i].sealed;
    tried += workers[i].busy;
  }
  CHECK(sealed != 0 && sealed + tried >= THREADS * TRIES);
  CHECK(AC_V1_MAX_CHUNKS - x.sealer.chunks_left == sealed); /* each seal counted once */
  qsort(nonces.at, sealed, AC_NONCE_BYTES, compare_nonces);
  for (size_t i = 1; i < sealed; i++)
    twice += compare_nonces(nonces.at + (i - 1) * AC_NONCE_BYTES, nonces.at + i * AC_NONCE_BYTES) == 0;
  CHECK(twice == 0);
  bytes_free(&nonces);
}

/* ---- one inside, and held there ---- */

typedef struct visitor {
  exchange *x;
  const bytes *event; /* to open; NULL: to seal */
  int status;
} visitor;

static void visit(void *p) {
  visitor *const v = p;
  bytes out = {0};
  size_t len = 0;
  if (v->event != NULL) {
    v->status = open_event_alone(&v->x->opener, &out, viewed(v->event));
  } else {
    out = bytes_new(ac_v1_event_bytes(&v->x->sealer, TEXT, 0));
    v->status = event_seal(&v->x->sealer, out.at, out.len, &len, (const uint8_t *)text, TEXT, NULL, 0);
  }
  bytes_free(&out);
}

static int reply_status(ac_v1_sealer *sealer) {
  bytes out = bytes_new(ac_v1_reply_bytes(sealer, TEXT, 0));
  size_t len = 0;
  const int status = ac_v1_reply_seal(sealer, out.at, out.len, &len, (const uint8_t *)text, TEXT, NULL, 0);
  if (status != AC_OK && !bytes_untouched(&out)) abort();
  bytes_free(&out);
  return status;
}

static int event_status(ac_v1_sealer *sealer) {
  bytes out = bytes_new(ac_v1_event_bytes(sealer, TEXT, 0));
  size_t len = 0;
  const int status = event_seal(sealer, out.at, out.len, &len, (const uint8_t *)text, TEXT, NULL, 0);
  bytes_free(&out);
  return status;
}

static void busy(void) {
  exchange x = exchange_make(NULL);
  visitor sealing = {&x, NULL, 1};
  pthread_t thread = gate_enter(&on_blake2b, visit, &sealing);
  CHECK_STATUS(event_status(&x.sealer), AC_ERR_BUSY);
  CHECK_STATUS(reply_status(&x.sealer), AC_ERR_BUSY);
  CHECK_STATUS(ac_v1_sealer_close(&x.sealer), AC_ERR_BUSY);
  gate_leave(thread);
  CHECK_STATUS(sealing.status, AC_OK);
  CHECK_STATUS(event_status(&x.sealer), AC_OK);

  bytes event = seal_event(&x.sealer, text, ""), none = {0};
  visitor opening = {&x, &event, 1};
  const view json = event_data(&event), c = member(json, "ciphertext"), n = member(json, "nonce");
  bytes out = bytes_new(c.len);
  size_t len = 0, pos = 0, usage_len = 0;
  thread = gate_enter(&on_blake2b, visit, &opening);
  CHECK_STATUS(open_event_alone(&x.opener, &none, viewed(&event)), AC_ERR_BUSY);
  CHECK_STATUS(ac_v1_sealed_open(&x.opener, out.at, out.len, &len, c.at, c.len, n.at, n.len, NULL, 0), AC_ERR_BUSY);
  CHECK_STATUS(ac_v1_reply_open(&x.opener, out.at, out.len, &len, &pos, &usage_len, json.at, json.len), AC_ERR_BUSY);
  CHECK_STATUS(ac_v1_opener_set(&x.opener, 1, 1, 1), AC_ERR_BUSY);
  CHECK_STATUS(ac_v1_opener_close(&x.opener), AC_ERR_BUSY);
  gate_leave(thread);
  CHECK_STATUS(opening.status, AC_OK);
  CHECK(x.opener.chunks == 1 && bytes_untouched(&out));
  CHECK_STATUS(open_event_alone(&x.opener, &none, viewed(&event)), AC_OK);
  bytes_free(&none);
  bytes_free(&out);
  bytes_free(&event);
}

/* ---- fork ---- */

/* In a child: 0, or the number of the step that went wrong. */
static int inherited_is_dead(ac_v1_sealer *inherited) {
  const ac_v1_sealer before = *inherited;
  if (event_status(inherited) != AC_ERR_FORKED || reply_status(inherited) != AC_ERR_FORKED) return 1;
  if (memcmp(inherited, &before, sizeof before) != 0) return 2;
  exchange own = exchange_make(NULL); /* its own work */
  if (event_status(&own.sealer) != AC_OK) return 3;
  const pid_t grandchild = fork();
  if (grandchild == 0)
    _exit(event_status(&own.sealer) == AC_ERR_FORKED && event_status(inherited) == AC_ERR_FORKED ? 0 : 1);
  if (exit_status(grandchild) != 0) return 4;
  if (event_status(&own.sealer) != AC_OK) return 5;
  if (ac_v1_sealer_close(inherited) != AC_OK) return 6;
  if (event_status(inherited) == AC_OK || !all_zero(&inherited->aes, sizeof inherited->aes)) return 7;
  return 0;
}

static void forked(void) {
  exchange x = exchange_make(NULL);
  CHECK_STATUS(event_status(&x.sealer), AC_OK);
  uint8_t next[AC_NONCE_BYTES];
  memcpy(next, x.sealer.next_nonce, sizeof next);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) _exit(inherited_is_dead(&x.sealer));
  CHECK_STATUS(exit_status(pid), 0);
  CHECK(memcmp(next, x.sealer.next_nonce, sizeof next) == 0);
  CHECK_STATUS(event_status(&x.sealer), AC_OK);

  /* while another thread is inside, which the child does not have */
  visitor v = {&x, NULL, 1};
  const pthread_t thread = gate_enter(&on_blake2b, visit, &v);
  pid = fork();
  if (pid == 0) {
    on_blake2b = NULL;
    _exit(x.sealer.busy == 1 ? inherited_is_dead(&x.sealer) : 99);
  }
  CHECK_STATUS(exit_status(pid), 0);
  CHECK_STATUS(event_status(&x.sealer), AC_ERR_BUSY);
  gate_leave(thread);
  CHECK_STATUS(v.status, AC_OK);
  CHECK_STATUS(event_status(&x.sealer), AC_OK);
}

/* In a child: a thread of its own is inside the opener that it has inherited. Its key is not taken from under it. */
static int inherited_is_closed(exchange *x, const bytes *event) {
  visitor opening = {x, event, 1};
  const pthread_t thread = gate_enter(&on_blake2b, visit, &opening);
  const int status = ac_v1_opener_close(&x->opener);
  gate_leave(thread);
  if (status != AC_ERR_BUSY || opening.status != AC_OK) return 1;
  x->opener.busy = 1; /* as a thread of the parent leaves it, and nobody opens there again */
  if (ac_v1_opener_set(&x->opener, 1, 1, 1) != AC_ERR_BUSY || ac_v1_opener_close(&x->opener) != AC_OK) return 2;
  return all_zero(&x->opener.aes, sizeof x->opener.aes) && x->opener.busy == 0 ? 0 : 3;
}

static void forked_opener(void) {
  exchange x = exchange_make(NULL);
  bytes event = seal_event(&x.sealer, text, ""), plaintext = {0};
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) _exit(inherited_is_closed(&x, &event));
  CHECK_STATUS(exit_status(pid), 0);
  CHECK_STATUS(open_event_alone(&x.opener, &plaintext, viewed(&event)), AC_OK);
  bytes_free(&plaintext);
  bytes_free(&event);
}

void test_parallel(void) {
  eight_threads();
  busy();
  forked();
  forked_opener();
}
