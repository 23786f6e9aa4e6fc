/* Welch's t-test, on all samples and on those that nothing has interrupted. */
#include "timing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double welch(const sample *samples, size_t count, uint64_t at_most) {
  double n[2] = {0, 0}, mean[2] = {0, 0}, squares[2] = {0, 0};
  for (size_t i = 0; i < count; i++) {
    if (samples[i].cycles > at_most) continue;
    const int c = samples[i].class;
    const double x = (double)samples[i].cycles, before = x - mean[c];
    n[c] += 1;
    mean[c] += before / n[c];
    squares[c] += before * (x - mean[c]);
  }
  if (n[0] < 2 || n[1] < 2) return 0;
  const double error = squares[0] / (n[0] - 1) / n[0] + squares[1] / (n[1] - 1) / n[1];
  if (error > 0) return (mean[0] - mean[1]) / sqrt(error);
  return mean[0] < mean[1] ? -HUGE_VAL : mean[0] > mean[1] ? HUGE_VAL : 0; /* a clock that never varies */
}

static int compare(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

verdict judge(const sample *samples, size_t count) {
  static const unsigned percentiles[] = {99, 95, 90, 75, 50, 25};
  uint64_t *const sorted = malloc(count * sizeof *sorted);
  if (sorted == NULL) abort();
  for (size_t i = 0; i < count; i++) sorted[i] = samples[i].cycles;
  qsort(sorted, count, sizeof *sorted, compare);
  verdict v = {.all = welch(samples, count, UINT64_MAX)};
  v.widest = v.all;
  for (size_t i = 0; i < sizeof percentiles / sizeof percentiles[0]; i++) {
    const double t = welch(samples, count, sorted[count * percentiles[i] / 100]);
    if (fabs(t) > fabs(v.widest)) v.widest = t;
  }
  free(sorted);
  return v;
}

int statistics_work(void) {
  /* means 2 and 5, variances 1 and 1: t = -3 / sqrt(1/3 + 1/3); the interrupted one counts only where it is let in */
  static const sample known[] = {{1, 0}, {4, 1}, {2, 0}, {5, 1}, {3, 0}, {6, 1}, {1000, 0}};
  static const sample alike[] = {{7, 0}, {7, 1}, {7, 1}, {7, 0}}, apart[] = {{7, 0}, {8, 1}, {8, 1}, {7, 0}};
  return fabs(welch(known, 7, 6) + 3 / sqrt(2.0 / 3)) < 1e-9 && welch(known, 7, UINT64_MAX) > 0 &&
         welch(known, 7, 3) == 0.0 && welch(alike, 4, UINT64_MAX) == 0.0 && welch(apart, 4, UINT64_MAX) == -HUGE_VAL;
}
