//! What one launch is told: the structure of `model.cu`, field by field.

/// What can be launched, by the names of `model.cu` and in the order of `host.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Query,
    StoreKeys,
    StoreValues,
    Soften,
    SiluMul,
    AddNorm,
    Choose,
}

#[cfg(feature = "cuda")]
impl Kernel {
    pub(super) const ALL: [Kernel; 7] = [
        Kernel::Query,
        Kernel::StoreKeys,
        Kernel::StoreValues,
        Kernel::Soften,
        Kernel::SiluMul,
        Kernel::AddNorm,
        Kernel::Choose,
    ];
}

impl Kernel {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kernel::Query => "query",
            Kernel::StoreKeys => "store_keys",
            Kernel::StoreValues => "store_values",
            Kernel::Soften => "soften",
            Kernel::SiluMul => "silu_mul",
            Kernel::AddNorm => "add_norm",
            Kernel::Choose => "choose",
        }
    }

    /// Threads of a block: whole warps, as many as have something to do.
    #[cfg(feature = "cuda")]
    pub(super) fn threads(self) -> u32 {
        match self {
            Kernel::Soften => 128,
            Kernel::Query | Kernel::StoreKeys | Kernel::StoreValues | Kernel::SiluMul => 256,
            Kernel::AddNorm => 512,
            Kernel::Choose => 1024,
        }
    }
}

/// The argument of every kernel; what one does not read is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Job {
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) c: u64,
    pub(super) out: u64,
    pub(super) rows: u64,
    pub(super) length: u32,
    pub(super) start: u32,
    pub(super) positions: u32,
    pub(super) capacity: u32,
    pub(super) queries: u32,
    pub(super) keys: u32,
    pub(super) size: u32,
    pub(super) width: u32,
    pub(super) parts: u32,
    pub(super) number: f32,
}
