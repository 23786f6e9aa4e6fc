/* Threads: one that is inside of a call and is held there, at a function of libsodium's that the call comes by. */
#include "harness.h"

#include <sys/wait.h>

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  pthread_t visitor;
  void (**at)(void);
  void (*visit)(void *);
  void *what;
  int is_known, inside, may_go;
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void wait_at_gate(void) {
  (void)pthread_mutex_lock(&gate.mutex);
  if (!gate.inside && gate.is_known && pthread_equal(gate.visitor, pthread_self())) {
    gate.inside = 1;
    (void)pthread_cond_broadcast(&gate.changed);
    while (!gate.may_go) (void)pthread_cond_wait(&gate.changed, &gate.mutex);
  }
  (void)pthread_mutex_unlock(&gate.mutex);
}

static void *pass(void *ignored) {
  (void)pthread_mutex_lock(&gate.mutex);
  gate.visitor = pthread_self();
  gate.is_known = 1;
  (void)pthread_mutex_unlock(&gate.mutex);
  gate.visit(gate.what);
  (void)pthread_mutex_lock(&gate.mutex);
  gate.inside = 1; /* if it never came to the gate, nobody needs to wait for it */
  (void)pthread_cond_broadcast(&gate.changed);
  (void)pthread_mutex_unlock(&gate.mutex);
  return ignored;
}

pthread_t gate_enter(void (**at)(void), void (*visit)(void *), void *what) {
  pthread_t thread;
  gate.at = at;
  gate.visit = visit;
  gate.what = what;
  gate.is_known = gate.inside = gate.may_go = 0;
  *at = wait_at_gate;
  CHECK(pthread_create(&thread, NULL, pass, NULL) == 0);
  (void)pthread_mutex_lock(&gate.mutex);
  while (!gate.inside) (void)pthread_cond_wait(&gate.changed, &gate.mutex);
  (void)pthread_mutex_unlock(&gate.mutex);
  return thread;
}

void gate_leave(pthread_t thread) {
  (void)pthread_mutex_lock(&gate.mutex);
  gate.may_go = 1;
  (void)pthread_cond_broadcast(&gate.changed);
  (void)pthread_mutex_unlock(&gate.mutex);
  CHECK(pthread_join(thread, NULL) == 0);
  *gate.at = NULL;
}

int exit_status(pid_t pid) {
  int status = 0;
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
