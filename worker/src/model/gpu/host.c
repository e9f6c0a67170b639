/* For tests alone: the kernels as the host's C compiler sees them, one block after another, each of one thread.
 * `kernels.cu` is what NVRTC would be given. */
#include <math.h>

typedef struct { unsigned x; } Index;
static Index blockIdx;

#define DEVICE static inline
#define KERNEL static
#define PARAMETER const
#define UNROLL

DEVICE unsigned bits_of(float x) { union { float number; unsigned bits; } u; u.number = x; return u.bits; }
DEVICE float of_bits(unsigned bits) { union { float number; unsigned bits; } u; u.bits = bits; return u.number; }
DEVICE unsigned first(void) { return 0; }
DEVICE unsigned every(void) { return 1; }
DEVICE float block_sum(float x) { return x; }
DEVICE float block_max(float x) { return x; }
DEVICE unsigned block_min(unsigned x) { return x; }

#include "kernels.cu"

unsigned long long size_of_job(void) { return sizeof(Job); }

void launch(unsigned kernel, const Job *job, unsigned blocks) {
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
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
