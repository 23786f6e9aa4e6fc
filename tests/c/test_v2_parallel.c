/* v2's objects under threads and fork(). */
#include "harness.h"

#include <unistd.h>

static const char text[] = "{\"choices\":[]}";
enum { TEXT = sizeof text - 1, THREADS = 8, TRIES = 300, SEALED = TEXT + AC_TAG_BYTES };

/* ---- eight at once ---- */

typedef struct worker {
  pthread_t thread;
  ac_v2_sealer *sealer;
  size_t sealed, busy, other;
  uint8_t records[TRIES][SEALED];
} worker;

static pthread_mutex_t start = PTHREAD_MUTEX_INITIALIZER; /* held until all are there */

static void *work(void *p) {
  worker *const w = p;
  (void)pthread_mutex_lock(&start);
  (void)pthread_mutex_unlock(&start);
  for (unsigned i = 0; i < TRIES; i++) {
    const int status = ac_v2_record_seal(w->sealer, w->records[w->sealed], SEALED, AC_FLAG_MORE, (const uint8_t *)text, TEXT, NULL);
    if (status == AC_OK)
      w->sealed++;
    else if (status == AC_ERR_BUSY)
      w->busy++;
    else
      w->other++;
  }
  return NULL;
}

static int compare_records(const void *a, const void *b) { return memcmp(a, b, SEALED); }

/* All seal the same text: two records under one nonce would be one record. */
static void eight_threads(void) {
  static worker workers[THREADS];
  v2_exchange x = v2_exchange_make(1);
  bytes records = {0};
  size_t sealed = 0, busy = 0, twice = 0;
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
    bytes_append(&records, workers[i].records, workers[i].sealed * SEALED);
    sealed += workers[i].sealed;
    busy += workers[i].busy;
  }
  CHECK(sealed != 0 && sealed + busy == THREADS * TRIES);
  CHECK(x.sealer.index == sealed); /* each counted once */
  CHECK(x.sealer.bytes_left == (uint64_t)AC_V2_MAX_STREAM_BYTES - sealed * TEXT);
  qsort(records.at, sealed, SEALED, compare_records);
  for (size_t i = 1; i < sealed; i++) twice += compare_records(records.at + (i - 1) * SEALED, records.at + i * SEALED) == 0;
  CHECK(twice == 0);
  bytes_free(&records);
}

/* ---- one inside, and held there: what ends wipes its key while it is inside ---- */

typedef struct visitor {
  v2_exchange *x;
  const bytes *event; /* to open; NULL: to seal the end */
  int status;
} visitor;

static int end_status(ac_v2_sealer *sealer) {
  uint8_t out[SEALED];
  return ac_v2_record_seal(sealer, out, sizeof out, AC_FLAG_END, (const uint8_t *)text, TEXT, NULL);
}

static void visit(void *p) {
  visitor *const v = p;
  uint64_t span[AC_V2_SPAN];
  bytes out = {0};
  v->status = v->event != NULL ? v2_open_alone(&v->x->opener, &out, span, viewed(v->event)) : end_status(&v->x->sealer);
  bytes_free(&out);
}

static int event_status(ac_v2_sealer *sealer) {
  uint8_t out[200];
  const int64_t status = ac_v2_event_seal(sealer, out, sizeof out, (const uint8_t *)text, TEXT);
  return status < 0 ? (int)status : AC_OK;
}

static int object_status(ac_v2_sealer *sealer) {
  uint8_t out[200];
  size_t len = 0;
  return ac_v2_object_seal(sealer, out, sizeof out, &len, AC_FLAG_ABORT, (const uint8_t *)text, TEXT, NULL);
}

static void busy(void) {
  v2_exchange x = v2_exchange_make(1);
  bytes event = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL), none = {0};
  visitor sealing = {&x, NULL, 1};
  pthread_t thread = gate_enter(&on_memzero, visit, &sealing);
  CHECK_STATUS(event_status(&x.sealer), AC_ERR_BUSY);
  CHECK_STATUS(object_status(&x.sealer), AC_ERR_BUSY);
  CHECK_STATUS(end_status(&x.sealer), AC_ERR_BUSY);
  CHECK_STATUS(ac_v2_sealer_close(&x.sealer), AC_ERR_BUSY);
  gate_leave(thread);
  CHECK_STATUS(sealing.status, AC_OK);
  CHECK_STATUS(event_status(&x.sealer), AC_ERR_STATE);

  visitor opening = {&x, &event, 1};
  uint64_t span[AC_V2_SPAN];
  const view json = {event.at + 6, event.len - 8}, c = member(json, "ciphertext"), s = member(json, "salt");
  bytes out = bytes_new(event.len);
  size_t len = 0;
  thread = gate_enter(&on_memzero, visit, &opening);
  CHECK_STATUS(v2_open_alone(&x.opener, &none, span, viewed(&event)), AC_ERR_BUSY);
  CHECK_STATUS(ac_v2_sealed_open(&x.opener, out.at, out.len, &len, 1, 0, c.at, c.len, s.at, s.len, NULL), AC_ERR_BUSY);
  CHECK_STATUS(ac_v2_object_open(&x.opener, out.at, out.len, &len, span, json.at, json.len), AC_ERR_BUSY);
  CHECK_STATUS(ac_v2_record_open(&x.opener, out.at, out.len, 0, event.at, 40, NULL), AC_ERR_BUSY);
  CHECK_STATUS(ac_v2_opener_set(&x.opener, 1, 1), AC_ERR_BUSY);
  CHECK_STATUS(ac_v2_opener_close(&x.opener), AC_ERR_BUSY);
  gate_leave(thread);
  CHECK_STATUS(opening.status, AC_OK);
  CHECK(x.opener.index == 1 && bytes_untouched(&out));
  bytes_free(&out);
  bytes_free(&event);
}

/* ---- fork ---- */

static int all_forked(ac_v2_sealer *sealer) {
  return event_status(sealer) == AC_ERR_FORKED && object_status(sealer) == AC_ERR_FORKED && end_status(sealer) == AC_ERR_FORKED;
}

/* In a child: 0, or the number of the step that went wrong. */
static int inherited_is_dead(ac_v2_sealer *inherited) {
  const ac_v2_sealer before = *inherited;
  if (!all_forked(inherited) || memcmp(inherited, &before, sizeof before) != 0) return 1;
  v2_exchange own = v2_exchange_make(1); /* its own work */
  if (event_status(&own.sealer) != AC_OK) return 2;
  const pid_t grandchild = fork();
  if (grandchild == 0) _exit(all_forked(&own.sealer) && all_forked(inherited) ? 0 : 1);
  if (exit_status(grandchild) != 0) return 3;
  if (event_status(&own.sealer) != AC_OK) return 4;
  if (ac_v2_sealer_close(inherited) != AC_OK) return 5;
  if (event_status(inherited) == AC_OK || !all_zero(&inherited->aes, sizeof inherited->aes)) return 6;
  return 0;
}

static void forked(void) {
  v2_exchange x = v2_exchange_make(1);
  CHECK_STATUS(event_status(&x.sealer), AC_OK);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) _exit(inherited_is_dead(&x.sealer));
  CHECK_STATUS(exit_status(pid), 0);
  CHECK(x.sealer.index == 1);
  CHECK_STATUS(event_status(&x.sealer), AC_OK);

  /* while another thread is inside, which the child does not have */
  visitor v = {&x, NULL, 1};
  const pthread_t thread = gate_enter(&on_memzero, visit, &v);
  pid = fork();
  if (pid == 0) {
    on_memzero = NULL;
    _exit(x.sealer.busy == 1 ? inherited_is_dead(&x.sealer) : 99);
  }
  CHECK_STATUS(exit_status(pid), 0);
  CHECK_STATUS(event_status(&x.sealer), AC_ERR_BUSY);
  gate_leave(thread);
  CHECK_STATUS(v.status, AC_OK);
}

void test_v2_parallel(void) {
  eight_threads();
  busy();
  forked();
}
