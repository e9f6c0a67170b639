/* For tests alone: the kernels as the host's C compiler sees them, one block after another, each of THREADS threads. One is enough
 * for most; more take a system's threads and barriers, and run what threads of a block tell each other too. `kernels.cu` is
 * what NVRTC would be given. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>

#define DEVICE static inline
#define KERNEL static
#define PARAMETER const
#define UNROLL

typedef struct { unsigned x; } Index;
static __thread Index blockIdx, threadIdx;

static inline unsigned bits_of(float x) { union { float number; unsigned bits; } u; u.number = x; return u.bits; }
static inline float of_bits(unsigned bits) { union { float number; unsigned bits; } u; u.bits = bits; return u.number; }

#if THREADS == 1
#define ONE_THREAD
static inline unsigned first(void) { return 0; }
static inline unsigned every(void) { return 1; }
static inline float block_sum(float x) { return x; }
static inline float block_max(float x) { return x; }
static inline unsigned block_min(unsigned x) { return x; }
#else
static const Index blockDim = { THREADS };
static pthread_barrier_t barrier;
static inline void __syncthreads(void) { pthread_barrier_wait(&barrier); }
static unsigned told[THREADS];
#define __shared__ static
/* Every thread tells its number, and hears that of another of its warp. Both types that are told have four bytes. */
#define __shfl_xor_sync(mask, x, lanes) ({ \
    __typeof__(x) heard; \
    _Static_assert(sizeof(x) == sizeof(unsigned) && mask == 0xffffffffu, "a whole warp"); \
    __builtin_memcpy(&told[threadIdx.x], &(x), sizeof(unsigned)); \
    __syncthreads(); \
    __builtin_memcpy(&heard, &told[threadIdx.x ^ (unsigned)(lanes)], sizeof(unsigned)); \
    __syncthreads(); \
    heard; \
})
#endif

#include "kernels.cu"

unsigned long long size_of_job(void) { return sizeof(Job); }

typedef struct { unsigned kernel, blocks, thread; const Job *job; } Share;

static void *run(void *of) {
    const Share *share = of;
    threadIdx.x = share->thread;
    for (blockIdx.x = 0; blockIdx.x < share->blocks; blockIdx.x++)
        switch (share->kernel) {
        case 0: query(*share->job); break;
        case 1: store_keys(*share->job); break;
        case 2: store_values(*share->job); break;
        case 3: soften(*share->job); break;
        case 4: silu_mul(*share->job); break;
        case 5: add_norm(*share->job); break;
        default: choose(*share->job);
        }
    return 0;
}

/* Returns whether every thread could be had. */
int launch(unsigned kernel, const Job *job, unsigned blocks) {
    Share shares[THREADS];
    for (unsigned thread = 0; thread < THREADS; thread++) shares[thread] = (Share){ kernel, blocks, thread, job };
#if THREADS == 1
    run(shares);
#else
    pthread_t threads[THREADS];
    if (pthread_barrier_init(&barrier, 0, THREADS)) return 0;
    for (unsigned thread = 0; thread < THREADS; thread++)
        if (pthread_create(&threads[thread], 0, run, &shares[thread])) return 0;
    for (unsigned thread = 0; thread < THREADS; thread++) pthread_join(threads[thread], 0);
    pthread_barrier_destroy(&barrier);
#endif
    return 1;
}
