/* Runs the acts alone, and writes which lines of the core they reach: check_reached.py compares. What planting and ac_init's
 * self-tests reach does not count. */
#include "acts.h"

void __gcov_reset(void);
void __gcov_dump(void);

static int run_all(size_t *calls) {
  const unsigned backend = ac_aes_backend_default();
  const act *const all[] = {acts_of_primitives, acts_of_v1, acts_of_v2};
  int bad = 0;
  plant();
  __gcov_reset();
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    for (const act *a = all[i]; a->name != NULL; a++) {
      if (!act_is_for(a, backend)) continue;
      act_begin(a);
      memset(&object, 0, sizeof object);
      on_own_stack(a->run);
      bad |= status != a->want;
      ++*calls;
    }
  }
  fault_plant(NOWHERE, REFUSES, 0);
  __gcov_dump();
  return bad;
}

int main(void) {
  size_t calls = 0;
  int bad = 0;
  return on_each_backend(run_all, &calls, &bad) < 2 || bad;
}
