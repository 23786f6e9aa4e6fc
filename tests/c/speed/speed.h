#ifndef SPEED_H
#define SPEED_H

#include "ac_internal.h"

double now(void); /* ns */

/* GB/s; only where the CPU has the instructions */
double limit128(void);
double limit256(void);
double limit512(void);

#endif
