//! Which elements come first where torch sorts, when nothing but their keys is moved.
//!
//! `sort.rs` states the algorithms over pairs of a key and an element. For a whole tensor that is 8 bytes an element, most of
//! which are moved to learn one bit of each: whether it comes before a rank. Here only the keys are arranged, two bytes each
//! where the numbers have sixteen bits, and what each step exchanged is written down, one bit a key that it looked at. Then
//! the places before the rank are marked, and the steps are taken back with the marks, the last one first, which brings
//! each mark to the element that it belongs to.
//!
//! A partition halves what is left or does a little worse, so all steps together look at some three keys an element, and keys and bits
//! come to 2.4 bytes an element; 2.75 are planned for.

mod keys;
mod partition;
mod room;
mod undo;
#[cfg(target_arch = "x86_64")]
mod wide;

use super::sort::{self, Item, SHORT};
use super::values::Compute;
pub(super) use keys::{Keys, magnitude_bits};
use partition::partition;
pub(super) use room::forget;
use room::{Number, Room, SPILLED_BYTES};
use std::ops::Range;

/// What elements are compared by.
pub(super) trait Key: Number + Ord + Into<u32> {
    /// [`partition::partition`] by hand for AVX-512, where the processor has it; else nothing is done.
    #[cfg(target_arch = "x86_64")]
    fn partition_wide(keys: &mut [Self], first: usize, moved: &mut [u64]) -> Option<usize>;

    /// The portable one compiled for AVX2, likewise.
    #[cfg(target_arch = "x86_64")]
    fn partition_compiled(keys: &mut [Self], first: usize, moved: &mut [u64]) -> Option<usize>;
}

/// Keys that all partitions look at, by element, a bit each: for a rank in the middle, where they look at most, 2.8 in the mean, and more than
/// these in one of ten thousand tensors; for two ranks 3.8, and in one of a thousand.
const LOOKED_AT: usize = 6;

/// Bytes that ranking takes beside its result: a key an element, and a bit for each that a partition looks at. For one tensor in some
/// thousands it is a bit or two an element more. Numbers in an order that is made to be hard on the median of three are left to a
/// heap, which takes 24 bytes an element; tensors have no such order. The keys of the largest tensors are in a file (`room.rs`).
pub(super) fn rank_bytes(elements: usize, compute: Compute) -> u64 {
    let keys = key_bytes(elements, compute);
    let in_memory = if keys > SPILLED_BYTES { 0 } else { keys };
    (in_memory + LOOKED_AT * elements / 8) as u64
}

/// Memory that task vectors may take while they are ranked side by side, in bytes; one is always ranked.
const RANKED_AT_ONCE: u64 = 1 << 30;

/// Task vectors of so many elements that are ranked side by side.
pub(super) fn at_once(elements: usize, compute: Compute, threads: usize) -> usize {
    let fit = RANKED_AT_ONCE / most_bytes(elements, compute).max(1);
    threads.min(fit as usize).max(1)
}

/// Whether every thread may rank a tensor with so many keys.
fn side_by_side<K: Number>(keys: usize) -> bool {
    let compute = if size_of::<K>() == size_of::<u32>() { Compute::F32 } else { Compute::Bf16 };
    most_bytes(keys, compute).saturating_mul(rayon::current_num_threads() as u64) <= RANKED_AT_ONCE
}

/// What ranking takes wherever keys are: a file that cannot be had is memory after all.
fn most_bytes(elements: usize, compute: Compute) -> u64 {
    rank_bytes(elements, compute).max(key_bytes(elements, compute) as u64)
}

/// Bytes of the keys of a tensor, wherever they are.
fn key_bytes(elements: usize, compute: Compute) -> usize {
    elements * if compute == Compute::F32 { size_of::<u32>() } else { size_of::<u16>() }
}

/// Words of bits that are planned for.
fn planned_words(keys: usize) -> usize {
    (LOOKED_AT * keys).div_ceil(64)
}

/// One bit a place, 64 a word.
pub(super) type Bits = Vec<u64>;

/// One step of an arrangement, by the places that it changed.
enum Step {
    Exchange(usize, usize),
    /// Of the words of places from `word` on, those that are set in a part of the bits: the outermost two were exchanged, then the
    /// next two, to the middle.
    Partition {
        word: usize,
        moved: Range<usize>,
    },
    /// At place `first + i` is now what was at `first + order[i]`.
    Order {
        first: usize,
        order: Vec<usize>,
    },
}

/// The elements at the places `from..to` after `std::sort`, given the keys of all.
pub(super) fn sorted<K: Key>(keys: Room<K>, (from, to): (usize, usize)) -> Bits {
    let elements = keys.len();
    let mut run = Run::new(keys, [from, to]);
    run.introsort(0, elements, sort::depth(elements));
    run.marked(from, to)
}

/// The elements that torch's selection of the `count` smallest finds.
pub(super) fn selected<K: Key>(keys: Room<K>, count: usize) -> Bits {
    let elements = keys.len();
    if count == 0 || count >= elements {
        return undo::marks(elements, 0, count.min(elements));
    }
    if count.saturating_mul(64) <= elements {
        let items = keys.iter().zip(0..).map(|(key, i)| ((*key).into(), i));
        let mut bits = vec![0; elements.div_ceil(64)];
        for (_, i) in sort::least(items, count) {
            bits[i / 64] |= 1 << (i % 64);
        }
        return bits;
    }
    let mut run = Run::new(keys, [count; 2]);
    run.introselect(count - 1, sort::depth(elements));
    run.marked(0, count)
}

struct Run<K: Key> {
    keys: Room<K>,
    /// Whether the memory is for the next tensors too.
    keep: bool,
    /// Which keys each partition moved, one after the other.
    moved: Bits,
    /// Whether they are more than was planned for.
    outgrown: bool,
    steps: Vec<Step>,
    /// Which elements are at other places than just before or after these does not matter.
    ranks: [usize; 2],
}

impl<K: Key> Run<K> {
    fn new(keys: Room<K>, ranks: [usize; 2]) -> Run<K> {
        let keep = side_by_side::<K>(keys.len());
        let mut moved = u64::kept().take(planned_words(keys.len()));
        moved.clear();
        Run { keys, keep, moved, outgrown: false, steps: Vec::new(), ranks }
    }

    /// [`sort::sort`] of the places `first..end`, as far as a rank falls between two of them.
    fn introsort(&mut self, first: usize, mut end: usize, mut depth: usize) {
        while end - first > SHORT {
            if !self.ranks.iter().any(|&rank| first < rank && rank < end) {
                return;
            }
            if depth == 0 {
                return self.order(first, end, sort::heap_sort);
            }
            depth -= 1;
            let cut = self.partition(first, end);
            self.introsort(cut, end, depth);
            end = cut;
        }
        self.order(first, end, sort::insertion);
    }

    /// What `sort::smallest` states, without its heap for few.
    fn introselect(&mut self, nth: usize, mut depth: usize) {
        let (mut first, mut end) = (0, self.keys.len());
        while end - first > 3 {
            if depth == 0 {
                return self.order(first, end, |items| {
                    sort::heap_select(items, nth + 1 - first);
                    items.swap(0, nth - first);
                });
            }
            depth -= 1;
            let cut = self.partition(first, end);
            if cut <= nth {
                first = cut;
            } else {
                end = cut;
            }
        }
        self.order(first, end, sort::insertion);
    }

    fn partition(&mut self, first: usize, end: usize) -> usize {
        let more = self.keys.len() / 4 / 64;
        let median = first + sort::median(end - first, |i| self.keys[first + i]);
        self.keys.swap(first, median);
        // Words of bits are those of the whole, so that what is taken back lies as what was written down.
        let word = first / 64;
        let keys = &mut self.keys[64 * word..end];
        let (from, words) = (self.moved.len(), keys.len().div_ceil(64));
        if from + words > self.moved.capacity() {
            // Beyond what was planned for, little more than is needed.
            self.outgrown = true;
            self.moved.reserve_exact(words.max(more));
        }
        self.moved.resize(from + words, 0);
        let cut = 64 * word + partition(keys, first % 64, &mut self.moved[from..]);
        self.steps.push(Step::Exchange(first, median));
        self.steps.push(Step::Partition { word, moved: from..self.moved.len() });
        cut
    }

    /// What `arrange` makes of the places `first..end`.
    fn order(&mut self, first: usize, end: usize, arrange: impl FnOnce(&mut [Item<usize>])) {
        let keys = &mut self.keys[first..end];
        let mut items: Vec<Item<usize>> = keys.iter().zip(0..).map(|(key, i)| ((*key).into(), i)).collect();
        arrange(&mut items);
        let before = keys.to_vec();
        keys.iter_mut().zip(&items).for_each(|(key, (_, i))| *key = before[*i]);
        self.steps.push(Step::Order { first, order: items.into_iter().map(|(_, i)| i).collect() });
    }

    /// Where the elements began that are at the places `from..to` now.
    fn marked(self, from: usize, to: usize) -> Bits {
        let Run { keys, keep, moved: words, outgrown, steps, .. } = self;
        let mut marks = undo::marks(keys.len(), from, to);
        keys.give(keep);
        for step in steps.into_iter().rev() {
            match step {
                Step::Exchange(a, b) => undo::exchange(&mut marks, a, b),
                Step::Partition { word, moved } => {
                    undo::partition(&mut marks[word..][..moved.len()], &words[moved]);
                }
                Step::Order { first, order } => undo::order(&mut marks, first, &order),
            }
        }
        if keep && !outgrown {
            u64::kept().give(words);
        }
        marks
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Key for u16 {}
#[cfg(not(target_arch = "x86_64"))]
impl Key for u32 {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::field;

    fn keys(n: usize, distinct: u32, stream: u32) -> Vec<u32> {
        let mut keys = vec![0; n];
        field::words(field::Key([stream, distinct]), 0, &mut keys);
        keys.iter().map(|k| k % distinct).collect()
    }

    fn set(items: &[Item], elements: usize) -> Bits {
        let mut bits = vec![0u64; elements.div_ceil(64)];
        items.iter().for_each(|(_, i)| bits[*i as usize / 64] |= 1 << (i % 64));
        bits
    }

    /// Both widths of keys against the plain statement over pairs.
    fn check(keys: &[u32], rank: usize, what: &str) {
        let narrow = || keys.iter().map(|k| *k as u16).collect::<Vec<u16>>();
        let items: Vec<Item> = keys.iter().copied().zip(0..).collect();
        let elements = items.len();
        let other = rank / 3;
        let mut plain = items.clone();
        sort::split(&mut plain, &[other, rank]);
        let expected = set(&plain[other..rank], elements);
        assert_eq!(sorted(keys.to_vec().into(), (other, rank)), expected, "sorted {what}");
        assert_eq!(sorted(narrow().into(), (other, rank)), expected, "sorted, two bytes, {what}");
        let mut plain = items;
        sort::smallest(&mut plain, rank);
        let expected = set(&plain[..rank], elements);
        assert_eq!(selected(keys.to_vec().into(), rank), expected, "selected {what}");
        assert_eq!(selected(narrow().into(), rank), expected, "selected, two bytes, {what}");
    }

    #[test]
    fn keys_alone_lead_to_the_same_elements() {
        for n in [
            0, 1, 2, 3, 16, 17, 63, 64, 65, 127, 128, 129, 130, 191, 192, 255, 256, 257, 1000, 1152, 1153,
            1215, 1300, 4096, 20_001,
        ] {
            for distinct in [1, 2, 7, 300, 60_000] {
                let keys = keys(n, distinct, n as u32);
                for rank in [0, 1, n / 100, n / 3, n / 2, n - n / 7, n] {
                    let rank = rank.min(n);
                    check(&keys, rank, &format!("{n} {distinct} {rank}"));
                }
            }
        }
    }

    #[test]
    fn keys_in_a_file_lead_to_the_same_elements() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<u16> = keys(20_001, 300, 5).into_iter().map(|k| k as u16).collect();
        let in_file = || {
            let mut room = Room::take_above(keys.len(), Some(folder.path()), 0);
            assert!(matches!(room, Room::File(_)));
            room.copy_from_slice(&keys);
            room
        };
        for rank in [400, 7000, 19_000] {
            assert_eq!(sorted(in_file(), (rank / 3, rank)), sorted(keys.clone().into(), (rank / 3, rank)));
            assert_eq!(selected(in_file(), rank), selected(keys.clone().into(), rank));
        }
    }

    /// The partition as it is stated: the scans stop, what they stop at is exchanged, until they meet.
    fn stated(keys: &mut [u32], first: usize, moved: &mut [u64]) -> usize {
        let (pivot, mut low, mut high) = (keys[first], first + 1, keys.len());
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
            [low, high].into_iter().for_each(|at| moved[at / 64] |= 1 << (at % 64));
            low += 1;
        }
    }

    /// Marks exchanged as it is stated: the outermost two, and so on.
    fn exchanged(marks: &mut [u64], moved: &[u64]) {
        let places: Vec<usize> =
            (0..64 * moved.len()).filter(|at| moved[at / 64] >> (at % 64) & 1 != 0).collect();
        let (low, high) = places.split_at(places.len() / 2);
        low.iter().zip(high.iter().rev()).for_each(|(a, b)| undo::exchange(marks, *a, *b));
    }

    /// As processors without AVX-512 partition.
    fn compiled<K: Key>(keys: &mut [K], first: usize, moved: &mut [u64]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(cut) = K::partition_compiled(keys, first, moved) {
            return cut;
        }
        partition::plain(keys, first, moved)
    }

    type Partition<K> = fn(&mut [K], usize, &mut [u64]) -> usize;

    /// Every way in which this processor can partition `keys` behind `first`, both widths, and take it back.
    fn check_partition(keys: &[u32], first: usize, what: &str) {
        let n = keys.len();
        let mut keys = keys.to_vec();
        let median = first + sort::median(n - first, |i| keys[first + i]);
        keys.swap(first, median);
        let (mut arranged, mut moved) = (keys.clone(), vec![0; n.div_ceil(64)]);
        let cut = stated(&mut arranged, first, &mut moved);
        fn run<K: Key>(
            keys: &[u32],
            first: usize,
            narrow: fn(u32) -> K,
            of: Partition<K>,
        ) -> (usize, Vec<u32>, Bits) {
            let mut keys: Vec<K> = keys.iter().map(|k| narrow(*k)).collect();
            let mut moved = vec![0; keys.len().div_ceil(64)];
            let cut = of(&mut keys, first, &mut moved);
            (cut, keys.into_iter().map(Into::into).collect(), moved)
        }
        let expected = (cut, arranged, moved);
        let two: [Partition<u16>; 3] = [partition::partition, partition::plain, compiled];
        for of in two {
            assert!(run(&keys, first, |k| k as u16, of) == expected, "two bytes, {what}");
        }
        let four: [Partition<u32>; 3] = [partition::partition, partition::plain, compiled];
        for of in four {
            assert!(run(&keys, first, |k| k, of) == expected, "four bytes, {what}");
        }
        let mut marks = undo::marks(n, n / 5, n / 2);
        let (mut ours, mut plain) = (marks.clone(), marks.clone());
        exchanged(&mut marks, &expected.2);
        undo::partition(&mut ours, &expected.2);
        undo::plain(&mut plain, &expected.2);
        assert!(ours == marks && plain == marks, "taken back, {what}");
    }

    #[test]
    fn every_processor_partitions_and_undoes_as_stated() {
        for (n, distinct) in [(1000, 5), (1300, 3), (5000, 40_000), (20_000, 7), (20_011, 900), (66_000, 1)] {
            for first in [0, 5, 62, 63] {
                check_partition(&keys(n, distinct, 1), first, &format!("{n} {distinct} {first}"));
            }
        }
    }

    /// Where one scan finds nothing, or hardly anything, on its way.
    #[test]
    fn pivots_near_either_end() {
        for case in 0..1500u32 {
            let n = 300 + keys(1, 4000, 2 * case)[0] as usize;
            let n = if case % 3 == 0 { n.next_multiple_of(64) } else { n };
            let few = 1 << (case % 6);
            let at = keys(2 * few, n as u32, 2 * case + 1);
            for (rest, some) in [(0, 2), (2, 0), (1, 2), (1, 0)] {
                // The pivot is 1: nearly all is on one side of it, or equal to it.
                let mut all = vec![rest; n];
                at[..few].iter().for_each(|at| all[*at as usize] = some);
                at[few..].iter().for_each(|at| all[*at as usize] = 1);
                let first = (case as usize * 7) % 64;
                // Two of the median's three at the pivot.
                (all[first + 1], all[n - 1]) = (1, 1);
                check_partition(&all, first, &format!("case {case}, {rest} and {some}"));
            }
        }
        // Ten keys that stop the right scan, and none that stops the left one but the pivot.
        let mut few = vec![0u32; 714];
        few[0] = 20;
        few[357] = 5;
        few[704..].fill(9);
        check(&few, 705, "the last ten are larger");
    }

    #[test]
    fn orders_that_are_hard_on_a_partition() {
        let n = 3000u32;
        let orders: [(&str, Vec<u32>); 4] = [
            ("rising", (0..n).collect()),
            ("falling", (0..n).rev().collect()),
            ("organ pipe", (0..n).map(|i| i.min(n - i)).collect()),
            // Musser's sequence, on which a median of three takes quadratic time: what the heap is for.
            ("killer", killer(n)),
        ];
        for (what, keys) in orders {
            for rank in [1, n as usize / 3, n as usize / 2, n as usize - 5] {
                check(&keys, rank, &format!("{what} {rank}"));
            }
        }
    }

    /// 1, k+1, 3, k+3, …, then the even ones.
    fn killer(n: u32) -> Vec<u32> {
        let k = n / 2;
        let front = (1..=k).map(|i| if i % 2 == 1 { i } else { k + i - 1 });
        front.chain((1..=k).map(|i| 2 * i)).collect()
    }
}
