/* What lies between the matrix products of a Llama's layers, each in one launch. Numbers are stored as TYPE and calculated
 * in f32; what is written is rounded once.
 *
 * As `numbers.cuh`, which comes before this, it is C as well as CUDA, and tests run it on the host. A block of threads
 * works on one row, or a part of one: `first()`, `first() + every()` and so on are a thread's share.
 */

#ifndef ALONE
DEVICE u32 first(void) { return threadIdx.x; }
DEVICE u32 every(void) { return blockDim.x; }

/* Over a block of whole warps. Every thread must come here, and gets the result. */
#define OVER_BLOCK(NAME, NUMBER, FOLD) \
    DEVICE NUMBER NAME(NUMBER x) { \
        __shared__ NUMBER parts[32]; \
        for (int lanes = 16; lanes > 0; lanes /= 2) { \
            NUMBER other = __shfl_xor_sync(0xffffffffu, x, lanes); \
            x = FOLD(x, other); \
        } \
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x; \
        __syncthreads(); \
        NUMBER all = parts[0]; \
        for (u32 warp = 1; warp < blockDim.x / 32; warp++) all = FOLD(all, parts[warp]); \
        /* Nobody writes the next parts before all have read these. */ \
        __syncthreads(); \
        return all; \
    }
#define SUM(a, b) ((a) + (b))
#define LARGEST(a, b) ((a) > (b) ? (a) : (b))
#define SMALLEST(a, b) ((a) < (b) ? (a) : (b))
OVER_BLOCK(block_sum, float, SUM)
OVER_BLOCK(block_max, float, LARGEST)
OVER_BLOCK(block_min, u32, SMALLEST)
#endif

#ifdef __CUDACC__
DEVICE float widened_half(u16 bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
DEVICE u16 narrowed_half(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#else
DEVICE float widened_half(u16 bits) { return from_half(bits); }
DEVICE u16 narrowed_half(float x) { return (u16)half_bits(nearest_half(x)); }
#endif

/* What a kernel works on, as `job.rs` declares it: addresses, and what its numbers mean. */
typedef struct {
    u64 a, b, c, out;
    u64 rows;
    /* Positions of a sequence, the position of the first, and those that there are angles for. */
    u32 length, start, positions;
    /* Positions that a row of the cache holds. */
    u32 capacity;
    /* Heads of queries, heads of keys, and numbers of one. */
    u32 queries, keys, size;
    /* Numbers of a row, and the parts that it is worked on in. */
    u32 width, parts;
    float number;
} Job;

#if TYPE == 0
typedef float Stored;
DEVICE float widened(Stored x) { return x; }
DEVICE Stored narrowed(float x) { return x; }
#elif TYPE == 1
typedef u16 Stored;
DEVICE float widened(Stored x) { return widened_half(x); }
DEVICE Stored narrowed(float x) { return narrowed_half(x); }
#else
typedef u16 Stored;
DEVICE float widened(Stored x) { return of_bits((u32)x << 16); }
DEVICE Stored narrowed(float x) { return (Stored)brain_bits(x); }
#endif

/* Rotates by the angles of a position, half-split convention, scales, and writes: pair `i` of a head. */
DEVICE void rotate(const Job *job, const Stored *head, u32 position, u32 i, Stored *to) {
    u32 half = job->size / 2;
    const Stored *cosines = (const Stored *)job->b + (u64)position * half;
    const Stored *sines = cosines + (u64)job->positions * half;
    float a = widened(head[i]), b = widened(head[half + i]);
    float cosine = widened(cosines[i]), sine = widened(sines[i]);
    to[i] = narrowed((a * cosine - b * sine) * job->number);
    to[half + i] = narrowed((b * cosine + a * sine) * job->number);
}

/* Where a position's queries, keys and values are: `a` is (B, L, (Q + 2 H) E). */
DEVICE const Stored *heads(const Job *job, u32 from) {
    u64 width = (u64)(job->queries + 2 * job->keys) * job->size;
    return (const Stored *)job->a + blockIdx.x * width + (u64)from * job->size;
}

/* Rotated and scaled queries, (B, Q, L, E). A block is one position of one row. */
KERNEL void query(PARAMETER Job job) {
    u32 half = job.size / 2, row = blockIdx.x / job.length, l = blockIdx.x % job.length;
    const Stored *from = heads(&job, 0);
    for (u32 i = first(); i < job.queries * half; i += every()) {
        u32 head = i / half;
        u64 to = (((u64)row * job.queries + head) * job.length + l) * job.size;
        rotate(&job, from + head * job.size, job.start + l, i % half, (Stored *)job.out + to);
    }
}

/* Where a position's keys or values go: `out` is (B, H, capacity, E). */
DEVICE Stored *cached(const Job *job, u32 head) {
    u32 row = blockIdx.x / job->length, position = job->start + blockIdx.x % job->length;
    return (Stored *)job->out + (((u64)row * job->keys + head) * job->capacity + position) * job->size;
}

/* Rotated keys into the cache. */
KERNEL void store_keys(PARAMETER Job job) {
    u32 half = job.size / 2, position = job.start + blockIdx.x % job.length;
    const Stored *from = heads(&job, job.queries);
    for (u32 i = first(); i < job.keys * half; i += every()) {
        u32 head = i / half;
        rotate(&job, from + head * job.size, position, i % half, cached(&job, head));
    }
}

/* Values into the cache. */
KERNEL void store_values(PARAMETER Job job) {
    const Stored *from = heads(&job, job.queries + job.keys);
    for (u32 i = first(); i < job.keys * job.size; i += every())
        cached(&job, i / job.size)[i % job.size] = from[i];
}

/* Softmax of a row of scores in place, over what its position may look at: rows are (B, Q, L), `width` positions each. */
KERNEL void soften(PARAMETER Job job) {
    Stored *scores = (Stored *)job.out + (u64)blockIdx.x * job.width;
    u32 seen = job.start + blockIdx.x % job.length + 1;
    float largest = of_bits(0xff800000u), sum = 0.0f;
    for (u32 t = first(); t < seen; t += every()) {
        float x = widened(scores[t]);
        largest = x > largest ? x : largest;
    }
    largest = block_max(largest);
    for (u32 t = first(); t < seen; t += every()) sum += expf(widened(scores[t]) - largest);
    sum = block_sum(sum);
    for (u32 t = first(); t < job.width; t += every())
        scores[t] = narrowed(t < seen ? expf(widened(scores[t]) - largest) / sum : 0.0f);
}

/* silu(gate) · up: `a` is (R, 2 F), `out` (R, F). */
KERNEL void silu_mul(PARAMETER Job job) {
    u32 row = blockIdx.x / job.parts, part = blockIdx.x % job.parts;
    u32 share = (job.width + job.parts - 1) / job.parts, from = part * share;
    u32 end = from + share < job.width ? from + share : job.width;
    const Stored *gate = (const Stored *)job.a + (u64)row * 2 * job.width, *up = gate + job.width;
    Stored *out = (Stored *)job.out + (u64)row * job.width;
    for (u32 i = from + first(); i < end; i += every()) {
        float x = widened(gate[i]);
        out[i] = narrowed(x / (1.0f + expf(-x)) * widened(up[i]));
    }
}

/* a + b, and its root-mean-square norm times c: `out` is (2, R, D). */
KERNEL void add_norm(PARAMETER Job job) {
    u64 at = (u64)blockIdx.x * job.width;
    const Stored *a = (const Stored *)job.a + at, *b = (const Stored *)job.b + at, *weight = (const Stored *)job.c;
    Stored *sums = (Stored *)job.out + at, *norms = sums + job.rows * job.width;
    float squares = 0.0f;
    for (u32 i = first(); i < job.width; i += every()) {
        Stored sum = narrowed(widened(a[i]) + widened(b[i]));
        sums[i] = sum;
        squares += widened(sum) * widened(sum);
    }
    float scale = 1.0f / sqrtf(block_sum(squares) / (float)job.width + job.number);
    for (u32 i = first(); i < job.width; i += every())
        norms[i] = narrowed(widened(sums[i]) * scale * widened(weight[i]));
}

/* The place of the first of the largest of a row of f32, or the largest u32 where a number is not finite. */
KERNEL void choose(PARAMETER Job job) {
    const float *row = (const float *)job.a + (u64)blockIdx.x * job.width;
    float largest = of_bits(0xff800000u);
    u32 place = 0xffffffffu, finite = 1;
    for (u32 i = first(); i < job.width; i += every()) {
        if ((bits_of(row[i]) & MAGNITUDE) >= INFINITE) finite = 0;
        if (row[i] > largest) {
            largest = row[i];
            place = i;
        }
    }
    float of_all = block_max(largest);
    place = block_min(largest == of_all ? place : 0xffffffffu);
    finite = block_min(finite);
    if (first() == 0) ((u32 *)job.out)[blockIdx.x] = finite ? place : 0xffffffffu;
}
