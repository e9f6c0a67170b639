//! Runs a piece of code compiled for the widest vectors of the processor at hand.
//!
//! The code itself is plain Rust over arrays that the compiler vectorises. Wider registers do not change any
//! result: Rust never fuses or reorders floating-point operations, and where code asks for a fused one
//! (`mul_add`) it gets the same result from a slow function on processors without the instruction.

/// Calls `f` in a context where the compiler may use AVX-512 or AVX2 when this processor has them.
///
/// Only what is inlined into `f` profits, so functions called by it should be `#[inline(always)]`.
#[inline]
pub(crate) fn widest<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
        {
            // SAFETY: the one requirement of a target_feature function is that the processor has the
            // features it names, which was tested just above.
            return unsafe { avx512(f) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(f) };
        }
    }
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}
