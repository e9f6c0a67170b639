//! Arc cosine and sine of one number in float32.

/// The angle whose cosine is `x`, in [0, π].
pub(super) fn acos(x: f32) -> f32 {
    f64::from(x).acos() as f32
}

/// The sine.
pub(super) fn sin(x: f32) -> f32 {
    f64::from(x).sin() as f32
}
