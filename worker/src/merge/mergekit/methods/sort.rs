//! Which of several equal elements come first where torch sorts: the partitioning of introsort.
//!
//! torch 2.6 sorts on a CPU with C++'s `std::sort` and finds the largest with `std::nth_element` and
//! `std::partial_sort`, none of which keeps equal elements in order. In 16 bits a tensor holds thousands of elements of one
//! magnitude, and where a rank falls among them decides what a trim keeps. So these algorithms are restated as
//! the GNU implementation runs them: median of three to the front, unguarded partition, heaps when that goes too
//! deep, insertion for what is short (Musser: "Introspective sorting and selection algorithms", 1997). Partitions
//! that no rank of interest falls into are left alone, which makes a trim linear in time.

/// An element: what it is compared by, and which it is.
pub(super) type Item<E = u32> = (u32, E);

/// Bytes of an element that is sorted.
pub(super) const ITEM_BYTES: u64 = size_of::<Item>() as u64;

/// Stretches up to this length are left to insertion.
pub(super) const SHORT: usize = 16;

/// Partitions that may follow each other before a heap takes over.
pub(super) fn depth(items: usize) -> usize {
    if items == 0 { 0 } else { 2 * items.ilog2() as usize }
}

/// Sorts by key, with equal keys in the order in which `std::sort` leaves them.
pub(super) fn sort(items: &mut [Item]) {
    let wanted = |_: usize, _: usize| true;
    introsort(items, 0, depth(items.len()), &wanted);
}

/// The statement that `select` must equal: arranges `items` so that for each of the `ranks` the elements before it are
/// those that `std::sort` would put there, in any order.
#[cfg(test)]
pub(super) fn split(items: &mut [Item], ranks: &[usize]) {
    let wanted = |from: usize, to: usize| ranks.iter().any(|&r| from < r && r < to);
    introsort(items, 0, depth(items.len()), &wanted);
}

/// The statement that `select` must equal: arranges `items` so that the first `count` are those that torch's selection of
/// the smallest finds.
#[cfg(test)]
pub(super) fn smallest(items: &mut [Item], count: usize) {
    if count == 0 || count >= items.len() {
        return;
    }
    if count.saturating_mul(64) <= items.len() {
        return heap_select(items, count);
    }
    let (nth, mut first, mut last, mut depth) = (count - 1, 0, items.len(), depth(items.len()));
    while last - first > 3 {
        if depth == 0 {
            heap_select(&mut items[first..last], nth + 1 - first);
            items.swap(first, nth);
            return;
        }
        depth -= 1;
        let cut = first + partition(&mut items[first..last]);
        if cut <= nth {
            first = cut;
        } else {
            last = cut;
        }
    }
    insertion(&mut items[first..last]);
}

/// `items` begin at `offset` of the whole; stretches of the whole that are not `wanted` stay unsorted.
fn introsort(items: &mut [Item], offset: usize, mut depth: usize, wanted: &dyn Fn(usize, usize) -> bool) {
    let mut end = items.len();
    while end > SHORT {
        if !wanted(offset, offset + end) {
            return;
        }
        if depth == 0 {
            return heap_sort(&mut items[..end]);
        }
        depth -= 1;
        let cut = partition(&mut items[..end]);
        introsort(&mut items[cut..end], offset + cut, depth, wanted);
        end = cut;
    }
    insertion(&mut items[..end]);
}

/// Which of `len` keys a partition splits at: the median of the second, the middle and the last.
pub(super) fn median<K: Ord>(len: usize, key: impl Fn(usize) -> K) -> usize {
    let (a, b, c) = (1, len / 2, len - 1);
    if key(a) < key(b) {
        if key(b) < key(c) {
            b
        } else if key(a) < key(c) {
            c
        } else {
            a
        }
    } else if key(a) < key(c) {
        a
    } else if key(b) < key(c) {
        c
    } else {
        b
    }
}

/// Splits at the median of three; returns where the upper part begins.
fn partition(items: &mut [Item]) -> usize {
    let median = median(items.len(), |i| items[i].0);
    items.swap(0, median);
    let pivot = items[0].0;
    let (mut low, mut high) = match items.len() >= 4 * RUN {
        true => pairs(items, pivot),
        false => (1, items.len()),
    };
    // The median of three bounds both scans.
    loop {
        while items[low].0 < pivot {
            low += 1;
        }
        high -= 1;
        while pivot < items[high].0 {
            high -= 1;
        }
        if low >= high {
            return low;
        }
        items.swap(low, high);
        low += 1;
    }
}

/// Items that are looked at before any is moved.
const RUN: usize = 128;

/// Of [`partition`] as far as a run is left on either side: what its two scans stop at does not depend on what was swapped before, so
/// the places of a run's items that are to move are listed first, without a branch on the outcome of a comparison (which
/// would be guessed wrongly every other time), and swapped in the same pairs. Yields where the scans go on.
fn pairs(items: &mut [Item], pivot: u32) -> (usize, usize) {
    /// Places from a run's beginning, or back from its end, in the order of the scan.
    struct Listed {
        places: [u8; RUN],
        from: usize,
        to: usize,
    }
    let mut left = Listed { places: [0; RUN], from: 0, to: 0 };
    let mut right = Listed { places: [0; RUN], from: 0, to: 0 };
    // Items before `low` and from `high` on are where they belong, but for those that are listed.
    let (mut low, mut high) = (1, items.len());
    let (mut low_run, mut high_run) = (low, high);
    loop {
        if left.from == left.to {
            if high - low < 2 * RUN {
                break;
            }
            (left.from, left.to, low_run) = (0, 0, low);
            for (i, item) in items[low..low + RUN].iter().enumerate() {
                left.places[left.to % RUN] = i as u8;
                left.to += usize::from(item.0 >= pivot);
            }
            low += RUN;
        }
        if right.from == right.to {
            if high - low < 2 * RUN {
                break;
            }
            (right.from, right.to, high_run) = (0, 0, high);
            for (i, item) in items[high - RUN..high].iter().rev().enumerate() {
                right.places[right.to % RUN] = i as u8;
                right.to += usize::from(item.0 <= pivot);
            }
            high -= RUN;
        }
        let count = (left.to - left.from).min(right.to - right.from);
        for k in 0..count {
            let (l, r) = (left.places[left.from + k], right.places[right.from + k]);
            items.swap(low_run + usize::from(l), high_run - 1 - usize::from(r));
        }
        left.from += count;
        right.from += count;
    }
    // What is listed and has no partner is where the scans are.
    if left.from < left.to {
        low = low_run + usize::from(left.places[left.from]);
    }
    if right.from < right.to {
        high = high_run - usize::from(right.places[right.from]);
    }
    (low, high)
}

/// A stable sort of few items.
pub(super) fn insertion<E: Copy>(items: &mut [Item<E>]) {
    for i in 1..items.len() {
        let item = items[i];
        let mut at = i;
        while at > 0 && item.0 < items[at - 1].0 {
            items[at] = items[at - 1];
            at -= 1;
        }
        items[at] = item;
    }
}

/// Moves the hole down to a leaf, then `item` from there up to its place.
fn adjust<E: Copy>(heap: &mut [Item<E>], top: usize, item: Item<E>) {
    let (mut hole, mut child) = (top, top);
    while child < (heap.len() - 1) / 2 {
        child = 2 * (child + 1);
        if heap[child].0 < heap[child - 1].0 {
            child -= 1;
        }
        heap[hole] = heap[child];
        hole = child;
    }
    if heap.len().is_multiple_of(2) && child == (heap.len() - 2) / 2 {
        child = 2 * (child + 1);
        heap[hole] = heap[child - 1];
        hole = child - 1;
    }
    while hole > top {
        let parent = (hole - 1) / 2;
        if heap[parent].0 >= item.0 {
            break;
        }
        heap[hole] = heap[parent];
        hole = parent;
    }
    heap[hole] = item;
}

fn make_heap<E: Copy>(heap: &mut [Item<E>]) {
    if heap.len() < 2 {
        return;
    }
    for parent in (0..=(heap.len() - 2) / 2).rev() {
        adjust(heap, parent, heap[parent]);
    }
}

/// The `count` smallest of many, of which no more are held.
pub(super) fn least<E: Copy>(mut items: impl Iterator<Item = Item<E>>, count: usize) -> Vec<Item<E>> {
    let mut heap: Vec<Item<E>> = items.by_ref().take(count).collect();
    make_heap(&mut heap);
    for item in items {
        if item.0 < heap[0].0 {
            adjust(&mut heap, 0, item);
        }
    }
    heap
}

/// Brings the `count` smallest to the front, as a heap.
pub(super) fn heap_select<E: Copy>(items: &mut [Item<E>], count: usize) {
    let (heap, rest) = items.split_at_mut(count);
    make_heap(heap);
    for item in rest {
        if item.0 < heap[0].0 {
            let smaller = std::mem::replace(item, heap[0]);
            adjust(heap, 0, smaller);
        }
    }
}

pub(super) fn heap_sort<E: Copy>(items: &mut [Item<E>]) {
    make_heap(items);
    for last in (1..items.len()).rev() {
        let item = items[last];
        items[last] = items[0];
        adjust(&mut items[..last], 0, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::field::{Key, words};

    fn items(n: usize, distinct: u32) -> Vec<Item> {
        let mut keys = vec![0; n];
        words(Key([n as u32, distinct]), 0, &mut keys);
        keys.iter().zip(0..).map(|(k, i)| (k % distinct, i)).collect()
    }

    #[test]
    fn sorts_and_splits_alike() {
        for (n, distinct) in [(0, 1), (1, 1), (16, 3), (17, 3), (1000, 1), (1000, 7), (5000, 4000), (4096, 2)]
        {
            let mut sorted = items(n, distinct);
            sort(&mut sorted);
            assert!(sorted.is_sorted_by_key(|i| i.0));
            for rank in [0, 1, n / 3, n / 2, n] {
                let rank = rank.min(n);
                let mut halves = items(n, distinct);
                split(&mut halves, &[rank]);
                let set =
                    |items: &[Item]| items.iter().map(|i| i.1).collect::<std::collections::BTreeSet<_>>();
                assert_eq!(set(&sorted[..rank]), set(&halves[..rank]), "{n} {distinct} {rank}");
                let mut least = items(n, distinct);
                smallest(&mut least, rank);
                let mut keys: Vec<u32> = least[..rank].iter().map(|i| i.0).collect();
                keys.sort_unstable();
                assert!(keys.iter().eq(sorted[..rank].iter().map(|i| &i.0)), "{n} {distinct} {rank}");
            }
        }
    }

    /// Orders that GNU's C++ library (GCC 12) gives few distinct keys: Σ place × element after `std::sort`, the same after
    /// `std::partial_sort` of everything (what `std::sort` falls back to), and Σ element among the first third after
    /// `std::nth_element` and among the first 64th, or the first, after `std::partial_sort`.
    #[test]
    fn equal_keys_end_up_as_in_the_library() {
        for (n, sorted, heaped, third, first) in [
            (17, 1298, 1289, 30, 0),
            (300, 6786984, 6780296, 14864, 135),
            (5000, 31228845466, 31219445216, 4205488, 40725),
        ] {
            let key = |i: u32| i.wrapping_mul(2_654_435_761) >> 28 ^ (i.wrapping_mul(40_503) >> 7 & 3);
            let fresh: Vec<Item> = (0..n).map(|i| (key(i), i)).collect();
            let places =
                |items: &[Item]| (1..).zip(items).map(|(place, item)| place * u64::from(item.1)).sum::<u64>();
            let elements = |items: &[Item]| items.iter().map(|item| u64::from(item.1)).sum::<u64>();
            let mut items = fresh.clone();
            sort(&mut items);
            assert_eq!(places(&items), sorted, "sort of {n}");
            let mut items = fresh.clone();
            heap_sort(&mut items);
            assert_eq!(places(&items), heaped, "heap sort of {n}");
            for (count, expected) in [(n as usize / 3, third), ((n as usize / 64).max(1), first)] {
                let mut items = fresh.clone();
                smallest(&mut items, count);
                assert_eq!(elements(&items[..count]), expected, "smallest {count} of {n}");
            }
        }
    }
}
