//! Makes mapped weights resident before the first merge needs them, where memory suffices.

use crate::checkpoint::Checkpoint;
use rayon::prelude::*;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes asked of the disk at a time.
const STEP: usize = 256 << 20;
/// Every page is at least this large.
const PAGE: usize = 4096;

/// Reads the tensors called like `base`'s in every model into the page cache, and their pages into this process.
///
/// `progress` is told the bytes done, of how many. Ends early when `stop` is set. Gives the bytes touched.
pub fn prefault(
    base: &Checkpoint,
    models: &[&Checkpoint],
    stop: &AtomicBool,
    mut progress: impl FnMut(u64, u64),
) -> u64 {
    let tensors =
        || models.iter().flat_map(|m| base.names().filter_map(|name| Some((*m, m.bytes(name).ok()?))));
    let total: u64 = tensors().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut done = 0;
    for (model, bytes) in tensors() {
        for part in bytes.chunks(STEP) {
            if stop.load(Ordering::Relaxed) {
                return done;
            }
            model.will_need(part);
            part.par_chunks(STEP / 64).for_each(|part| {
                let sum = part.iter().step_by(PAGE).fold(0u8, |sum, b| sum.wrapping_add(*b));
                black_box(sum);
            });
            done += part.len() as u64;
            progress(done, total);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_byte_of_the_merged_names_is_touched_once_a_model() {
        let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/family");
        let open = |name: &str| Checkpoint::open(&family.join(name)).expect("the family is committed");
        let (base, vlm) = (open("base"), open("vlm"));
        let bytes =
            |m: &Checkpoint| base.names().map(|n| m.bytes(n).expect("same names").len() as u64).sum::<u64>();
        let mut told = Vec::new();
        let stop = AtomicBool::new(false);
        let done = prefault(&base, &[&base, &vlm], &stop, |done, total| told.push((done, total)));
        assert_eq!(done, bytes(&base) + bytes(&vlm));
        assert_eq!(told.last(), Some(&(done, done)));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(prefault(&base, &[&base], &stop, |_, _| ()), 0);
    }
}
