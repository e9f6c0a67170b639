//! The partition of introsort over keys alone, 64 at a time.
//!
//! What its two scans stop at does not depend on what was exchanged before: the left one stops at keys that are at least the
//! pivot, the right one at keys that are at most the pivot, and the first of the one is exchanged with the first of the other.
//! So the places of 64 keys that are to move are found at once, as bits, and exchanged in the same pairs.

use super::Key;

/// Splits `keys` at the pivot in front of them, which must be the median of three others; returns where the upper part
/// begins. Sets the bits of the keys that changed their places: the outermost two with each other, and so on inwards.
pub(super) fn partition<K: Key>(keys: &mut [K], moved: &mut [u64]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if super::wide::here() {
        return K::partition_wide(keys, moved);
    }
    by_words::<K, Plain>(keys, moved)
}

/// What is done with 64 keys.
pub(super) trait Words<K> {
    /// Bit `i` says whether key `i` is at least `pivot`.
    fn at_least(keys: &[K; 64], pivot: K) -> u64;
    /// Bit `i` says whether key `i` is at most `pivot`.
    fn at_most(keys: &[K; 64], pivot: K) -> u64;
    /// The `count` lowest set bits.
    fn lowest(bits: u64, count: u32) -> u64;
    /// Exchanges the keys of `low` whose bits are set, from the lowest up, with those of `high`, from the highest down. As many are set in
    /// either.
    fn exchange(words: &mut [[K; 64]], low: Word, high: Word);
}

/// Keys of one word, by their bits.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) at: usize,
    pub(super) bits: u64,
}

/// As any processor does it.
struct Plain;

impl<K: Key> Words<K> for Plain {
    #[inline(always)]
    fn at_least(keys: &[K; 64], pivot: K) -> u64 {
        keys.iter().rev().fold(0, |bits, key| bits << 1 | u64::from(*key >= pivot))
    }

    #[inline(always)]
    fn at_most(keys: &[K; 64], pivot: K) -> u64 {
        keys.iter().rev().fold(0, |bits, key| bits << 1 | u64::from(*key <= pivot))
    }

    #[inline(always)]
    fn lowest(bits: u64, count: u32) -> u64 {
        let above = (0..count).fold(bits, |bits, _| bits & bits.wrapping_sub(1));
        bits & !above
    }

    #[inline(always)]
    fn exchange(words: &mut [[K; 64]], low: Word, high: Word) {
        exchange(words, low, high);
    }
}

/// [`Words::exchange`], one pair after the other.
#[inline(always)]
pub(super) fn exchange<K: Copy>(words: &mut [[K; 64]], low: Word, high: Word) {
    let (mut from, mut to) = (low.bits, high.bits);
    while from != 0 {
        let (l, r) = (from.trailing_zeros(), 63 - to.leading_zeros());
        let key = words[low.at][l as usize];
        words[low.at][l as usize] = std::mem::replace(&mut words[high.at][r as usize], key);
        from &= from - 1;
        to ^= 1 << r;
    }
}

/// The partition, with one word of either side under way.
#[inline(always)]
pub(super) fn by_words<K: Key, W: Words<K>>(keys: &mut [K], moved: &mut [u64]) -> usize {
    let pivot = keys[0];
    let (words, rest) = keys.as_chunks_mut::<64>();
    let (mut low, mut high) = (1, 64 * words.len() + rest.len());
    if words.len() > 2 {
        // The right scan begins with the keys that fill no word, as pairs are found one by one at the end.
        let mut low_word = Word { at: 0, bits: W::at_least(&words[0], pivot) & !1 };
        moved[0] = low_word.bits;
        let last = words.len();
        let mut high_word = Word { at: last, bits: 0 };
        let short = rest.len();
        if short > 0 {
            let mut tail = [rest[0]; 64];
            tail[..short].copy_from_slice(rest);
            high_word.bits = W::at_most(&tail, pivot) & ((1 << short) - 1);
            moved[last] = high_word.bits;
        }
        loop {
            if high_word.at == last && high_word.bits != 0 {
                // Few: one by one.
                while high_word.bits != 0 && low_word.bits != 0 {
                    let (l, r) = (low_word.bits.trailing_zeros(), 63 - high_word.bits.leading_zeros());
                    std::mem::swap(&mut words[low_word.at][l as usize], &mut rest[r as usize]);
                    low_word.bits &= low_word.bits - 1;
                    high_word.bits ^= 1 << r;
                }
            } else if low_word.bits != 0 && high_word.bits != 0 {
                let count = low_word.bits.count_ones().min(high_word.bits.count_ones());
                let from = W::lowest(low_word.bits, count);
                let beyond = high_word.bits.count_ones() - count;
                let to = high_word.bits & !W::lowest(high_word.bits, beyond);
                W::exchange(words, Word { bits: from, ..low_word }, Word { bits: to, ..high_word });
                low_word.bits &= !from;
                high_word.bits &= !to;
            }
            // A word on either side that is not both: else the scans meet within it.
            if low_word.bits == 0 {
                if low_word.at + 1 >= high_word.at {
                    break;
                }
                low_word.at += 1;
                low_word.bits = W::at_least(&words[low_word.at], pivot);
                moved[low_word.at] = low_word.bits;
            }
            if high_word.bits == 0 {
                if high_word.at <= low_word.at + 1 {
                    break;
                }
                high_word.at -= 1;
                high_word.bits = W::at_most(&words[high_word.at], pivot);
                moved[high_word.at] = high_word.bits;
            }
        }
        // What has no partner yet does not move, unless the scans below find one.
        moved[low_word.at] &= !low_word.bits;
        low = match low_word.bits {
            0 => 64 * (low_word.at + 1),
            bits => 64 * low_word.at + bits.trailing_zeros() as usize,
        };
        if high_word.at < moved.len() {
            moved[high_word.at] &= !high_word.bits;
        }
        high = match high_word.bits {
            0 => (64 * high_word.at).min(high),
            bits => 64 * high_word.at + 64 - bits.leading_zeros() as usize,
        };
    }
    one_by_one(keys, moved, pivot, low, high)
}

/// The rest of a partition: keys before `low` and from `high` on are where they belong. The median of three bounds both scans.
fn one_by_one<K: Key>(keys: &mut [K], moved: &mut [u64], pivot: K, mut low: usize, mut high: usize) -> usize {
    loop {
        while keys[low] < pivot {
            low += 1;
        }
        high -= 1;
        while pivot < keys[high] {
            high -= 1;
        }
        if low >= high {
            return low;
        }
        keys.swap(low, high);
        moved[low / 64] |= 1 << (low % 64);
        moved[high / 64] |= 1 << (high % 64);
        low += 1;
    }
}
