/* For tests alone: the kernels as the host's C compiler sees them, one block after another, each of THREADS threads. One is enough
 * for most; more run what threads of a block tell each other too. `kernels.cu` is what NVRTC would be given. */
#define _GNU_SOURCE
#include <math.h>

#define DEVICE static inline
#define KERNEL static
#define PARAMETER const
#define UNROLL

static inline unsigned bits_of(float x) { union { float number; unsigned bits; } u; u.number = x; return u.bits; }
static inline float of_bits(unsigned bits) { union { float number; unsigned bits; } u; u.bits = bits; return u.number; }

#if THREADS > 1
#include "threads.h"
#else
#define ALONE
typedef struct { unsigned x; } Index;
static Index blockIdx;
static inline unsigned first(void) { return 0; }
static inline unsigned every(void) { return 1; }
static inline float block_sum(float x) { return x; }
static inline float block_max(float x) { return x; }
static inline unsigned block_min(unsigned x) { return x; }
#endif

#include "kernels.cu"

unsigned long long size_of_job(void) { return sizeof(Job); }

static void work(unsigned kernel, const void *of) {
    const Job *job = of;
    switch (kernel) {
    case 0: query(*job); break;
    case 1: store_keys(*job); break;
    case 2: store_values(*job); break;
    case 3: soften(*job); break;
    case 4: silu_mul(*job); break;
    case 5: add_norm(*job); break;
    default: choose(*job);
    }
}

/* Returns whether every thread could be had. */
int launch(unsigned kernel, const Job *job, unsigned blocks) {
#if THREADS > 1
    return run_together(work, kernel, job, blocks);
#else
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) work(kernel, job);
    return 1;
#endif
}
