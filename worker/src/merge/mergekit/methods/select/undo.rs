//! Steps of an arrangement taken back, with a mark for each place instead of its key.

/// `elements` bits, of which those from `from` up to `to` are set.
pub(super) fn marks(elements: usize, from: usize, to: usize) -> Vec<u64> {
    let word = |at: usize| {
        let upto = |end: usize| match end.saturating_sub(64 * at) {
            bits @ 0..64 => (1u64 << bits) - 1,
            _ => u64::MAX,
        };
        upto(to.max(from)) & !upto(from)
    };
    (0..elements.div_ceil(64)).map(word).collect()
}

fn get(marks: &[u64], at: usize) -> bool {
    marks[at / 64] >> (at % 64) & 1 != 0
}

fn set(marks: &mut [u64], at: usize, mark: bool) {
    let word = &mut marks[at / 64];
    *word = *word & !(1 << (at % 64)) | u64::from(mark) << (at % 64);
}

pub(super) fn exchange(marks: &mut [u64], a: usize, b: usize) {
    let (at_a, at_b) = (get(marks, a), get(marks, b));
    set(marks, a, at_b);
    set(marks, b, at_a);
}

/// What is at `first + i` came from `first + order[i]`.
pub(super) fn order(marks: &mut [u64], first: usize, order: &[usize]) {
    let now: Vec<bool> = (first..first + order.len()).map(|at| get(marks, at)).collect();
    for (from, mark) in order.iter().zip(now) {
        set(marks, first + from, mark);
    }
}

/// Exchanges the marks from `first` on whose bits are set in `moved`: the outermost two, the next two, to the middle.
pub(super) fn partition(marks: &mut [u64], first: usize, moved: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    if super::wide::here() {
        return super::wide::undo(marks, first, moved);
    }
    plain(marks, first, moved);
}

/// The same as any processor does it.
pub(super) fn plain(marks: &mut [u64], first: usize, moved: &[u64]) {
    by_words::<Plain>(marks, first, moved);
}

/// Bits of a word picked by a mask, and put back where one says.
pub(super) trait Scatter {
    /// The bits where `mask` is set, side by side from the lowest up.
    fn extract(bits: u64, mask: u64) -> u64;
    /// The lowest bits, each where `mask` is set.
    fn deposit(bits: u64, mask: u64) -> u64;
}

struct Plain;

impl Scatter for Plain {
    #[inline(always)]
    fn extract(bits: u64, mut mask: u64) -> u64 {
        let (mut out, mut at) = (0, 0);
        while mask != 0 {
            out |= (bits >> mask.trailing_zeros() & 1) << at;
            at += 1;
            mask &= mask - 1;
        }
        out
    }

    #[inline(always)]
    fn deposit(mut bits: u64, mut mask: u64) -> u64 {
        let mut out = 0;
        while mask != 0 {
            out |= (bits & 1) << mask.trailing_zeros();
            bits >>= 1;
            mask &= mask - 1;
        }
        out
    }
}

/// The 64 marks from a place on; beyond the end there are none.
#[inline(always)]
fn window(marks: &[u64], at: usize) -> u64 {
    let (word, shift) = (at / 64, at % 64);
    let above = if shift == 0 { 0 } else { marks.get(word + 1).map_or(0, |w| w << (64 - shift)) };
    marks[word] >> shift | above
}

/// Sets those of the 64 marks from a place on that `mask` names.
#[inline(always)]
fn set_window(marks: &mut [u64], at: usize, bits: u64, mask: u64) {
    let (word, shift) = (at / 64, at % 64);
    marks[word] = marks[word] & !(mask << shift) | (bits & mask) << shift;
    if shift > 0
        && let Some(above) = marks.get_mut(word + 1)
    {
        *above = *above & !(mask >> (64 - shift)) | (bits & mask) >> (64 - shift);
    }
}

#[inline(always)]
pub(super) fn by_words<S: Scatter>(marks: &mut [u64], first: usize, moved: &[u64]) {
    let mut pairs = moved.iter().map(|w| u64::from(w.count_ones())).sum::<u64>() / 2;
    let (mut low, mut high) = (0, moved.len().saturating_sub(1));
    let (mut low_bits, mut high_bits) = match moved {
        [] => return,
        [first, .., last] => (*first, *last),
        [only] => (*only, *only),
    };
    while pairs > 0 {
        while low_bits == 0 {
            low += 1;
            low_bits = moved[low];
        }
        while high_bits == 0 {
            high -= 1;
            high_bits = moved[high];
        }
        let (in_low, in_high) = (low_bits.count_ones(), high_bits.count_ones());
        let count = in_low.min(in_high).min(pairs as u32 | if pairs > 64 { 64 } else { 0 });
        let from = S::deposit(ones(count), low_bits);
        let to = high_bits & !S::deposit(ones(in_high - count), high_bits);
        let (at_low, at_high) = (first + 64 * low, first + 64 * high);
        let turned = |bits: u64| bits.reverse_bits() >> (64 - count);
        let lower = S::extract(window(marks, at_low), from);
        let upper = S::extract(window(marks, at_high), to);
        set_window(marks, at_low, S::deposit(turned(upper), from), from);
        set_window(marks, at_high, S::deposit(turned(lower), to), to);
        low_bits &= !from;
        high_bits &= !to;
        pairs -= u64::from(count);
    }
}

/// The `count` lowest bits.
#[inline(always)]
fn ones(count: u32) -> u64 {
    if count == 64 { u64::MAX } else { (1 << count) - 1 }
}
