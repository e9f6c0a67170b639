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

/// Sets the 64 marks from a place on, as far as there are any.
#[inline(always)]
fn set_window(marks: &mut [u64], at: usize, bits: u64) {
    let (word, shift) = (at / 64, at % 64);
    marks[word] = marks[word] & !(u64::MAX << shift) | bits << shift;
    if shift > 0
        && let Some(above) = marks.get_mut(word + 1)
    {
        *above = *above & u64::MAX << shift | bits >> (64 - shift);
    }
}

/// A word of moved places that is under way, and its marks.
struct Side {
    word: usize,
    /// Those that are still to be exchanged.
    moved: u64,
    marks: u64,
}

#[inline(always)]
pub(super) fn by_words<S: Scatter>(marks: &mut [u64], first: usize, moved: &[u64]) {
    let mut pairs = moved.iter().map(|w| u64::from(w.count_ones())).sum::<u64>() / 2;
    if pairs == 0 {
        return;
    }
    let side = |marks: &[u64], word: usize| Side {
        word,
        moved: moved[word],
        marks: window(marks, first + 64 * word),
    };
    let (mut low, mut high) = (side(marks, 0), side(marks, moved.len() - 1));
    // A word's marks stay in registers until all of it is done.
    let mut last = loop {
        if low.word == high.word {
            break low;
        }
        let (in_low, in_high) = (low.moved.count_ones(), high.moved.count_ones());
        let count = in_low.min(in_high);
        if count > 0 {
            let from = S::deposit(ones(count), low.moved);
            let left = S::deposit(ones(in_high - count), high.moved);
            let to = high.moved & !left;
            let lower = S::extract(low.marks, from);
            let upper = S::extract(high.marks, to);
            low.marks = low.marks & !from | S::deposit(turned(upper, count), from);
            high.marks = high.marks & !to | S::deposit(turned(lower, count), to);
            low.moved &= !from;
            high.moved = left;
            pairs -= u64::from(count);
        }
        if pairs == 0 {
            set_window(marks, first + 64 * low.word, low.marks);
            set_window(marks, first + 64 * high.word, high.marks);
            return;
        }
        if low.moved == 0 {
            set_window(marks, first + 64 * low.word, low.marks);
            if low.word + 1 == high.word {
                break high;
            }
            low = side(marks, low.word + 1);
        } else {
            set_window(marks, first + 64 * high.word, high.marks);
            if low.word + 1 == high.word {
                break low;
            }
            high = side(marks, high.word - 1);
        }
    };
    let count = last.moved.count_ones() / 2;
    let from = S::deposit(ones(count), last.moved);
    let to = last.moved & !from;
    let (lower, upper) = (S::extract(last.marks, from), S::extract(last.marks, to));
    last.marks &= !last.moved;
    last.marks |= S::deposit(turned(upper, count), from) | S::deposit(turned(lower, count), to);
    set_window(marks, first + 64 * last.word, last.marks);
}

/// The `count` lowest bits in the other order.
#[inline(always)]
fn turned(bits: u64, count: u32) -> u64 {
    bits.reverse_bits() >> (64 - count)
}

/// The `count` lowest bits.
#[inline(always)]
fn ones(count: u32) -> u64 {
    if count == 64 { u64::MAX } else { (1 << count) - 1 }
}
