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

/// Exchanges the marks whose bits are set in `moved`: the outermost two, the next two, to the middle.
pub(super) fn partition(marks: &mut [u64], moved: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    if super::wide::here() {
        return super::wide::undo(marks, moved);
    }
    plain(marks, moved);
}

/// The `count` lowest set bits.
#[inline(always)]
fn lowest(bits: u64, count: u32) -> u64 {
    bits & !(0..count).fold(bits, |bits, _| bits & bits.wrapping_sub(1))
}

/// Exchanges the bits of `low` that `from` names, in rising order, with those of `high` that `to` names, in falling order; `count` in
/// either.
#[inline(always)]
fn cross(low: &mut u64, mut from: u64, high: &mut u64, mut to: u64, count: u32) {
    for _ in 0..count {
        let (l, r) = (from.trailing_zeros(), 63 - to.leading_zeros());
        let differ = (*low >> l ^ *high >> r) & 1;
        *low ^= differ << l;
        *high ^= differ << r;
        from &= from - 1;
        to ^= 1 << r;
    }
}

/// A word of moved places that is under way, and its marks.
struct Side {
    word: usize,
    /// Those that are still to be exchanged.
    moved: u64,
    marks: u64,
}

/// The same as any processor does it.
pub(super) fn plain(marks: &mut [u64], moved: &[u64]) {
    let mut pairs = moved.iter().map(|w| u64::from(w.count_ones())).sum::<u64>() / 2;
    if pairs == 0 {
        return;
    }
    let side = |marks: &[u64], word: usize| Side { word, moved: moved[word], marks: marks[word] };
    let (mut low, mut high) = (side(marks, 0), side(marks, moved.len() - 1));
    // A word's marks stay in registers until all of it is done.
    let mut last = loop {
        if low.word == high.word {
            break low;
        }
        let (in_low, in_high) = (low.moved.count_ones(), high.moved.count_ones());
        let count = in_low.min(in_high);
        if count > 0 {
            let from = lowest(low.moved, count);
            let left = lowest(high.moved, in_high - count);
            cross(&mut low.marks, from, &mut high.marks, high.moved & !left, count);
            low.moved &= !from;
            high.moved = left;
            pairs -= u64::from(count);
        }
        if pairs == 0 {
            marks[low.word] = low.marks;
            marks[high.word] = high.marks;
            return;
        }
        if low.moved == 0 {
            marks[low.word] = low.marks;
            if low.word + 1 == high.word {
                break high;
            }
            low = side(marks, low.word + 1);
        } else {
            marks[high.word] = high.marks;
            if low.word + 1 == high.word {
                break low;
            }
            high = side(marks, high.word - 1);
        }
    };
    let count = last.moved.count_ones() / 2;
    let from = lowest(last.moved, count);
    let (mut lower, mut upper) = (last.marks & from, last.marks & last.moved & !from);
    cross(&mut lower, from, &mut upper, last.moved & !from, count);
    last.marks = last.marks & !last.moved | lower | upper;
    marks[last.word] = last.marks;
}
