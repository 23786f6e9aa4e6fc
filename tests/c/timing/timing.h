#ifndef TIMING_H
#define TIMING_H

#include <stddef.h>
#include <stdint.h>

typedef struct sample {
  uint64_t cycles;
  int class;
} sample;

/* Welch's t of all samples that took at most so long: how many standard errors the classes' means are apart. 0 where
 * there is nothing to compare. */
double welch(const sample *samples, size_t count, uint64_t at_most);

typedef struct verdict {
  double all;    /* t of all samples */
  double widest; /* the t that is farthest from 0, of all samples and of those below some percentiles of both classes */
} verdict;

verdict judge(const sample *samples, size_t count);
int statistics_work(void); /* 1: they find what is known of small sets */

#endif
