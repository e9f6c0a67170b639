//! Compiles a kernel for the widest vectors of each kind of processor and picks one when it runs.
//!
//! The kernels are plain Rust over arrays that the compiler vectorises. Wider registers do not change any
//! result: Rust never fuses or reorders floating-point operations, and where code asks for a fused one
//! (`mul_add`) it gets the same result from a slow function on processors without the instruction.

/// What the processor at hand offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// 16 floats at a time.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 floats at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the build target guarantees.
    Plain,
}

impl Level {
    /// The best level here. The answers are cached, so this costs a few loads.
    #[inline]
    pub(crate) fn here() -> Level {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if wide { Level::Avx512 } else { Level::Avx2 };
        }
        Level::Plain
    }
}

/// Asks for bytes that are read soon. Hardware follows a stream only to the end of its page, and a merge reads half a page of
/// each of its models in turn.
#[inline(always)]
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction takes an address"))]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Defines a function whose body is compiled once per [`Level`]. Only what is inlined into the body profits, so
/// functions called by it should be `#[inline(always)]`.
macro_rules! widest {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn plain($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $type),*) {
                plain($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                plain($($arg),*)
            }

            match $crate::merge::simd::Level::here() {
                // SAFETY: the one requirement of a target_feature function is that the processor has the
                // features it names, and `Level::here` has just tested for each of them.
                #[cfg(target_arch = "x86_64")]
                $crate::merge::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::merge::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                $crate::merge::simd::Level::Plain => plain($($arg),*),
            }
        }
    };
}

pub(crate) use widest;
