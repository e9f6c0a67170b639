/* For tests alone: the kernels as the host's C compiler sees them. With THREADS = 1 blocks and threads run one after another, and a
 * warp has one lane; with more the threads of a block run together and add up as on a GPU. `kernels.cu` is what NVRTC would be
 * given. */
#define _GNU_SOURCE

#define DEVICE static inline
#define KERNEL static
#define PARAMETER const
#define UNROLL

DEVICE unsigned bits_of(float x) { union { float number; unsigned bits; } u; u.number = x; return u.bits; }
DEVICE float of_bits(unsigned bits) { union { float number; unsigned bits; } u; u.bits = bits; return u.number; }
DEVICE void atomicAdd(unsigned long long *at, unsigned long long x) { __atomic_fetch_add(at, x, __ATOMIC_RELAXED); }

#if THREADS > 1
#include "threads.h"
#else
#define ALONE
typedef struct { unsigned x; } Index;
static Index blockIdx, threadIdx, blockDim, gridDim;
DEVICE int warp_sum(int x) { return x; }
DEVICE int leads_warp(void) { return 1; }
#endif

#include "kernels.cu"

unsigned long long size_of_job(void) { return sizeof(Job); }

void random_words(const unsigned counter[4], const unsigned key[2], unsigned out[4]) {
    Four from = {{counter[0], counter[1], counter[2], counter[3]}}, words = philox(from, key[0], key[1]);
    for (int i = 0; i < 4; i++) out[i] = words.word[i];
}

/* Every 16-bit number to f32 and back. Returns how many come back as they were or stay NaN. */
unsigned round_trips(unsigned type) {
    unsigned same = 0;
    for (unsigned bits = 0; bits < 65536; bits++) {
        float wide = from_16_bits(bits, type);
        unsigned back = type == TYPE_F16 ? half_bits(nearest_half(wide)) : brain_bits(wide);
        float again = from_16_bits(back, type);
        same += back == bits || (wide != wide && again != again);
    }
    return same;
}

static void work(unsigned kernel, const void *of) {
    const Job *job = of;
    switch (kernel) {
    case 0: histogram(*job); break;
    case 1: signs(*job); break;
    default: merge(*job);
    }
}

/* Returns whether every thread could be had. */
int launch(unsigned kernel, const Job *job, unsigned blocks, unsigned threads) {
#if THREADS > 1
    return threads == THREADS && run_together(work, kernel, job, blocks);
#else
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) work(kernel, job);
    return 1;
#endif
}
