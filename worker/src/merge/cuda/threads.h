/* For tests alone: the threads of a block as threads of the system, which tell each other what those of a GPU do. THREADS of them, whole
 * warps. `work` is run by each thread for each block. */
#include <pthread.h>
#include <stdlib.h>

typedef struct { unsigned x; } Index;
static __thread Index blockIdx, threadIdx;
static Index gridDim;
static const Index blockDim = { THREADS };
static pthread_barrier_t barrier;
static unsigned told[THREADS];

#define __shared__ static
static inline void __syncthreads(void) { pthread_barrier_wait(&barrier); }

/* Every thread tells its number, and hears that of another. All types that are told have four bytes. */
#define HEARD(mask, x, from) ({ \
    __typeof__(x) heard; \
    _Static_assert(sizeof(x) == sizeof(unsigned) && mask == 0xffffffffu, "a whole warp"); \
    __builtin_memcpy(&told[threadIdx.x], &(x), sizeof(unsigned)); \
    __syncthreads(); \
    __builtin_memcpy(&heard, &told[from], sizeof(unsigned)); \
    __syncthreads(); \
    heard; \
})
#define __shfl_xor_sync(mask, x, lanes) HEARD(mask, x, threadIdx.x ^ (unsigned)(lanes))
/* Who would hear somebody of another warp hears itself. */
#define __shfl_down_sync(mask, x, lanes) \
    HEARD(mask, x, threadIdx.x + (threadIdx.x % 32 + (unsigned)(lanes) < 32 ? (unsigned)(lanes) : 0))

typedef struct {
    void (*work)(unsigned kernel, const void *job);
    const void *job;
    unsigned kernel, thread;
} Share;

static void *share_of(void *of) {
    const Share *share = of;
    threadIdx.x = share->thread;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) share->work(share->kernel, share->job);
    return 0;
}

/* Returns whether it could be done. */
static inline int run_together(void (*work)(unsigned, const void *), unsigned kernel, const void *job, unsigned blocks) {
    pthread_t threads[THREADS];
    Share shares[THREADS];
    gridDim.x = blocks;
    if (pthread_barrier_init(&barrier, 0, THREADS)) return 0;
    for (unsigned thread = 0; thread < THREADS; thread++) {
        shares[thread] = (Share){ work, job, kernel, thread };
        /* Those that are there already wait at a barrier for this one. */
        if (pthread_create(&threads[thread], 0, share_of, &shares[thread])) abort();
    }
    for (unsigned thread = 0; thread < THREADS; thread++) pthread_join(threads[thread], 0);
    pthread_barrier_destroy(&barrier);
    return 1;
}
