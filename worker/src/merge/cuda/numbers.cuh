/* Stored numbers and f32, by their bits: no header is included, so that NVRTC needs none.
 *
 * What follows is C as well as CUDA: a test compiles it with the host's C compiler (`host.c`) and holds it against the
 * Rust statement. Compile without contraction (--fmad=false, -ffp-contract=off), without flushing of subnormals and with
 * divisions that are rounded correctly: every operation is to be rounded once, as `paper.rs` rounds it.
 */

#ifdef __CUDACC__
#define DEVICE static __device__ __forceinline__ __attribute__((unused))
#define KERNEL extern "C" __global__
#define PARAMETER const __grid_constant__
#define UNROLL _Pragma("unroll")

DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
DEVICE float of_bits(unsigned bits) { return __uint_as_float(bits); }
#endif

/* ALONE: on the host threads of a block run one after another, and tell each other nothing. */
#ifndef ALONE
/* The sum over a warp, of use in the lane that leads it. All 32 lanes must come here. */
DEVICE int warp_sum(int x) {
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_down_sync(0xffffffffu, x, lanes);
    return x;
}
DEVICE int leads_warp(void) { return threadIdx.x % 32 == 0; }
#endif

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define MAGNITUDE 0x7fffffffu
#define INFINITE 0x7f800000u

/* Types as `job.rs` numbers them. */
#define TYPE_F32 0u
#define TYPE_F16 1u
#define TYPE_BF16 2u

/* The float16 nearest to x, ties to even, as an f32: `f16_nearest` of `paper.rs`. */
DEVICE float nearest_half(float x) {
    u32 sign = bits_of(x) & ~MAGNITUDE, magnitude = bits_of(x) & MAGNITUDE;
    if (magnitude > INFINITE) return x;
    u32 normal = (magnitude + 0xfff + (magnitude >> 13 & 1)) & ~0x1fffu;
    /* Between a half and one f32 has float16's smallest step, 2^-24. */
    u32 small = bits_of((of_bits(magnitude) + 0.5f) - 0.5f);
    u32 rounded = magnitude < 0x38800000u ? small : normal;
    return of_bits((rounded >= 0x47800000u ? INFINITE : rounded) | sign);
}

DEVICE float from_half(u32 half) {
    u32 sign = (half & 0x8000u) << 16, shifted = (half & 0x7fffu) << 13;
    if (shifted >= 0x0f800000u) return of_bits(shifted | INFINITE | sign);
    /* Times 2^112: the difference of the exponents' biases, exact for subnormals too. */
    return of_bits(bits_of(of_bits(shifted) * 5.192296858534828e33f) | sign);
}

/* The bits of a float16 to which x has been rounded already. */
DEVICE u32 half_bits(float x) {
    u32 sign = bits_of(x) >> 16 & 0x8000u, magnitude = bits_of(x) & MAGNITUDE;
    if (magnitude > INFINITE) return sign | 0x7e00u;
    if (magnitude == INFINITE) return sign | 0x7c00u;
    if (magnitude >= 0x38800000u) return sign | (magnitude - 0x38000000u) >> 13;
    return sign | (u32)(of_bits(magnitude) * 16777216.0f);
}

/* The upper half of an f32, rounded to nearest even; a NaN stays one. */
DEVICE u32 brain_bits(float x) {
    u32 bits = bits_of(x);
    if ((bits & MAGNITUDE) > INFINITE) return (bits | 0x00400000u) >> 16;
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

DEVICE float rounded_to(float x, u32 type) {
    if (type == TYPE_F16) return nearest_half(x);
    if (type == TYPE_BF16) return of_bits(brain_bits(x) << 16);
    return x;
}

DEVICE float from_16_bits(u32 bits, u32 type) {
    return type == TYPE_F16 ? from_half(bits) : of_bits(bits << 16);
}

/* `count` (1 to 4) numbers from element `at` on, a multiple of 4; zeros follow them. */
DEVICE void load_four(u64 from, u32 type, u64 at, int count, float out[4]) {
    if (type == TYPE_F32) {
        const float *wide = (const float *)from + at;
        UNROLL for (int i = 0; i < 4; i++) out[i] = i < count ? wide[i] : 0.0f;
        return;
    }
    const u16 *narrow = (const u16 *)from + at;
    /* Four at once: memory of the device is aligned, and so is every fourth element of it. */
    u64 four = count == 4 ? *(const u64 *)narrow : 0;
    UNROLL for (int i = 0; i < 4; i++) {
        u32 bits = count == 4 ? (u32)(four >> 16 * i) & 0xffffu : i < count ? narrow[i] : 0;
        out[i] = from_16_bits(bits, type);
    }
}

/* Rounds to `type` and writes. A view of a weight may begin anywhere, so nothing is taken for aligned. */
DEVICE void store(u64 to, u32 type, u64 at, float x) {
    if (type == TYPE_F32) ((float *)to)[at] = x;
    else ((u16 *)to)[at] = (u16)(type == TYPE_F16 ? half_bits(nearest_half(x)) : brain_bits(x));
}
