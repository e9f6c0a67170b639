//! Sums and norms in the order in which torch 2.6 computes them on a CPU: float32 addition is not associative, so the
//! order is part of the result.
//!
//! The order was found by experiment and is checked against torch bit by bit. It is that of 256-bit registers, which
//! torch uses for these operations on processors with wider ones too.
//!
//! - A **row** is a contiguous stretch: eight lanes of four registers run side by side; within a lane, sums of
//!   2^p terms are added up on four levels ([`cascade`]). Sixteen-bit numbers are widened and added in pairs
//!   eight apart first. What does not fill the registers comes last.
//! - A **column** runs across rows: plainly on the same four levels where 32 columns fill registers, in four
//!   interleaved chains for the columns beyond.
//! - A **norm** of a row is one fused multiply-add after the other in eight lanes; of float16 numbers in one.

use super::values::Compute;
use crate::merge::block::BLOCK;
use crate::merge::simd::widest;
use rayon::prelude::*;

/// Numbers of a 256-bit register.
const LANES: usize = 8;
/// Registers, or plain numbers, that a sum keeps going at once.
const CHAINS: usize = 4;
/// Tensors of no more elements are not split among torch's threads.
const GRAIN: usize = 32_768;
const LEVELS: usize = 4;

/// Where numbers come from: writes those from an index on.
pub(super) type Fill<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// Where the numbers of several sums come from, which are read together.
pub(super) trait Rows<const N: usize>: Sync {
    /// Writes those from an index on.
    fn fill(&self, first: usize, rows: [&mut [f32]; N]);

    /// Adds the `count` numbers from an index on, at most a block of them, to the lanes: rounds of `round` numbers.
    fn add(&self, first: usize, count: usize, round: usize, lanes: &mut [Lanes; N]) {
        self.add_filled(first, count, round, lanes);
    }

    /// The same by way of [`Rows::fill`].
    fn add_filled(&self, first: usize, count: usize, round: usize, lanes: &mut [Lanes; N]) {
        let mut numbers = [[0.0; BLOCK]; N];
        self.fill(first, numbers.each_mut().map(|numbers| &mut numbers[..count]));
        for (lanes, numbers) in lanes.iter_mut().zip(&numbers) {
            add_rounds(lanes, &numbers[..count], round);
        }
    }
}

impl<F: Fn(usize, &mut [f32]) + Sync + ?Sized> Rows<1> for &F {
    fn fill(&self, first: usize, [row]: [&mut [f32]; 1]) {
        self(first, row);
    }
}

/// The sum of all `elements` numbers as one number of the type, by torch with `threads` threads.
pub(super) fn sum(compute: Compute, threads: usize, elements: usize, fill: Fill) -> f32 {
    let [sum] = sums(compute, threads, elements, &fill);
    sum
}

/// The sums of as many rows of `elements` numbers each.
pub(super) fn sums<const N: usize>(
    compute: Compute,
    threads: usize,
    elements: usize,
    numbers: &impl Rows<N>,
) -> [f32; N] {
    let parts = parts(threads, elements);
    if parts.len() == 1 {
        return rows(compute, 0, elements, numbers).map(|sum| compute.round(sum));
    }
    // torch adds up one number a thread, zeros of idle threads included.
    let mut sums = [(); N].map(|()| vec![0.0; threads]);
    for (t, (first, count)) in parts.into_iter().enumerate() {
        let parts = rows(compute, first, count, numbers);
        sums.iter_mut().zip(parts).for_each(|(sums, part)| sums[t] = compute.round(part));
    }
    sums.map(|sums| compute.round(short(compute, &sums)))
}

/// First element and length of what each of torch's threads reduces, if it splits the work at all.
fn parts(threads: usize, elements: usize) -> Vec<(usize, usize)> {
    if elements <= GRAIN || threads <= 1 {
        return vec![(0, elements)];
    }
    let size = elements.div_ceil(threads.min(elements.div_ceil(GRAIN)));
    (0..elements).step_by(size).map(|first| (first, size.min(elements - first))).collect()
}

/// The float32 sum of a few numbers of the type.
pub(super) fn short(compute: Compute, values: &[f32]) -> f32 {
    row(compute, 0, values.len(), &|first, out| out.copy_from_slice(&values[first..first + out.len()]))
}

/// The float32 sum of the `count` contiguous numbers of the type from `first` on.
pub(super) fn row(compute: Compute, first: usize, count: usize, fill: Fill) -> f32 {
    let [sum] = rows(compute, first, count, &fill);
    sum
}

/// The same of several rows.
fn rows<const N: usize>(compute: Compute, first: usize, count: usize, numbers: &impl Rows<N>) -> [f32; N] {
    // Numbers that one register takes up: two 16-bit ones a lane.
    let width = if compute == Compute::F32 { LANES } else { 2 * LANES };
    if count < width {
        let mut few = [[0.0; 2 * LANES]; N];
        numbers.fill(first, few.each_mut().map(|few| &mut few[..count]));
        return few.map(|few| chains(count, |i| few[i]));
    }
    let registers = count / width;
    let lanes = long(first, registers / CHAINS, width, numbers);
    let mut rests = [(); N].map(|()| vec![0.0; count - registers / CHAINS * CHAINS * width]);
    numbers.fill(first + count - rests[0].len(), rests.each_mut().map(Vec::as_mut_slice));
    let mut rests = rests.iter();
    lanes.map(|mut lanes| {
        let rest = rests.next().map_or(&[][..], Vec::as_slice);
        let (whole, tail) = rest.split_at(rest.len() / width * width);
        whole.chunks_exact(width).for_each(|register| add_register(&mut lanes[..LANES], register));
        let mut total = tail.iter().fold(0.0, |sum, x| sum + x);
        let (low, high) = lanes.split_at_mut(LANES);
        for chain in high.chunks_exact(LANES) {
            low.iter_mut().zip(chain).for_each(|(a, b)| *a += b);
        }
        low.iter().for_each(|lane| total += lane);
        total
    })
}

/// Sums of every lane of [`CHAINS`] registers.
pub(super) type Lanes = [f32; CHAINS * LANES];

/// The lanes of `CHAINS` registers after `rounds` rounds, each of which takes `CHAINS · width` numbers up. Stretches of
/// the second level do not depend on each other, so they are computed by all threads.
fn long<const N: usize>(first: usize, rounds: usize, width: usize, numbers: &impl Rows<N>) -> [Lanes; N] {
    let step = step(rounds);
    let stretch = step * step;
    let round = CHAINS * width;
    let groups = |from: usize, count: usize| {
        let mut sums = [[0.0f32; CHAINS * LANES]; N];
        let mut group = [[0.0f32; CHAINS * LANES]; N];
        let a_block = (BLOCK / round).min(step);
        for at in (from..from + count).step_by(a_block) {
            numbers.add(first + at * round, a_block * round, round, &mut group);
            if (at + a_block - from).is_multiple_of(step) {
                sums.iter_mut().zip(&mut group).for_each(|(sums, group)| add(sums, &std::mem::take(group)));
            }
        }
        sums
    };
    let whole: Vec<[Lanes; N]> =
        (0..rounds / stretch).into_par_iter().map(|s| groups(s * stretch, stretch)).collect();
    let from = rounds / stretch * stretch;
    let left = (rounds - from) / step * step;
    let second = groups(from, left);
    let mut lowest = [[0.0f32; CHAINS * LANES]; N];
    let a_block = BLOCK / round;
    for at in (from + left..rounds).step_by(a_block) {
        numbers.add(first + at * round, a_block.min(rounds - at) * round, round, &mut lowest);
    }
    let mut n = 0;
    lowest.map(|lowest| {
        let mut levels = [lowest, second[n], [0.0; CHAINS * LANES], [0.0; CHAINS * LANES]];
        for (s, sums) in whole.iter().enumerate() {
            add(&mut levels[2], &sums[n]);
            if (s + 1).is_multiple_of(step) {
                let third = std::mem::replace(&mut levels[2], [0.0; CHAINS * LANES]);
                add(&mut levels[3], &third);
            }
        }
        n += 1;
        let [mut total, higher @ ..] = levels;
        higher.iter().for_each(|level| add(&mut total, level));
        total
    })
}

widest! {
    /// Adds rounds of so many numbers.
    fn add_rounds(lanes: &mut Lanes, numbers: &[f32], round: usize) {
        numbers.chunks_exact(round).for_each(|numbers| add_round(lanes, numbers));
    }
}

#[inline(always)]
fn add(sums: &mut [f32], others: &[f32]) {
    sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
}

/// Adds one number a lane, or two 16-bit ones.
#[inline(always)]
fn add_register(lanes: &mut [f32], register: &[f32]) {
    match register.split_at(LANES) {
        (low, []) => add(lanes, low),
        (low, high) => {
            lanes.iter_mut().zip(low.iter().zip(high)).for_each(|(lane, (low, high))| *lane += low + high);
        }
    }
}

#[inline(always)]
fn add_round(lanes: &mut Lanes, numbers: &[f32]) {
    let width = numbers.len() / CHAINS;
    for (lanes, register) in lanes.chunks_exact_mut(LANES).zip(numbers.chunks_exact(width)) {
        add_register(lanes, register);
    }
}

/// How many terms each level of a sum of `terms` takes up.
fn step(terms: usize) -> usize {
    let log = if terms > 1 { (terms - 1).ilog2() as usize + 1 } else { 0 };
    1 << (log / LEVELS).max(4)
}

/// Sums of `terms` terms, `lanes` of them side by side, on four levels. `load` adds a term to each lane.
pub(super) fn cascade(terms: usize, lanes: usize, mut load: impl FnMut(usize, &mut [f32])) -> Vec<f32> {
    let step = step(terms);
    let mut levels = vec![vec![0.0f32; lanes]; LEVELS];
    let mut done = 0;
    while done + step <= terms {
        for _ in 0..step {
            load(done, &mut levels[0]);
            done += 1;
        }
        let mut higher = step;
        for level in 1..LEVELS {
            let (below, above) = levels.split_at_mut(level);
            add(&mut above[0], &below[level - 1]);
            below[level - 1].fill(0.0);
            higher *= step;
            if !done.is_multiple_of(higher) {
                break;
            }
        }
    }
    for term in done..terms {
        load(term, &mut levels[0]);
    }
    let (total, higher) = levels.split_at_mut(1);
    higher.iter().for_each(|level| add(&mut total[0], level));
    levels.swap_remove(0)
}

/// A sum in four interleaved chains; what is left over joins the first.
fn chains(terms: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut chains = cascade(terms / CHAINS, CHAINS, |i, sums| {
        sums.iter_mut().enumerate().for_each(|(k, sum)| *sum += term(i * CHAINS + k));
    });
    for i in terms / CHAINS * CHAINS..terms {
        chains[0] += term(i);
    }
    let [first, rest @ ..] = chains.as_slice() else { return 0.0 };
    rest.iter().fold(*first, |sum, chain| sum + chain)
}

/// How the sums of columns, each over `terms` rows, run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    terms: usize,
    /// Columns from here on run in chains.
    chained_from: usize,
    single: Option<Compute>,
}

impl Columns {
    /// For `columns` columns of `terms` numbers of the type.
    pub(super) fn new(compute: Compute, terms: usize, columns: usize) -> Columns {
        let register = if compute == Compute::F32 { LANES } else { 2 * LANES };
        let together = CHAINS * if columns >= register { LANES } else { 1 };
        let chained_from = columns / together * together;
        Columns { terms, chained_from, single: (columns == 1).then_some(compute) }
    }

    /// Whether the terms of each of the columns up to `end` are simply added one after the other.
    #[inline(always)]
    pub(super) fn plain(&self, end: usize) -> bool {
        // Up to four terms, chains give the same; up to 32, levels do.
        self.terms <= CHAINS || (self.terms <= 32 && end <= self.chained_from)
    }

    /// The float32 sum of one column.
    pub(super) fn sum(&self, column: usize, term: impl Fn(usize) -> f32) -> f32 {
        match self.single {
            // One column is a row.
            Some(compute) => {
                let terms: Vec<f32> = (0..self.terms).map(term).collect();
                short(compute, &terms)
            }
            None if column < self.chained_from => cascade(self.terms, 1, |i, sum| sum[0] += term(i))[0],
            None => chains(self.terms, term),
        }
    }
}

impl Columns {
    /// The float32 sums of the columns in `range`. `load` adds a row's numbers of these columns.
    pub(super) fn sums(
        &self,
        range: std::ops::Range<usize>,
        mut load: impl FnMut(usize, &mut [f32]),
    ) -> Vec<f32> {
        let width = range.len();
        let plain = self.chained_from.clamp(range.start, range.end) - range.start;
        if plain == width {
            return cascade(self.terms, width, load);
        }
        // Where both kinds meet, rows are read twice: each way of adding up gives its own columns of the result.
        let mut chained = cascade(self.terms / CHAINS, CHAINS * width, |i, sums| {
            for (k, sums) in sums.chunks_exact_mut(width).enumerate() {
                load(i * CHAINS + k, sums);
            }
        });
        for row in self.terms / CHAINS * CHAINS..self.terms {
            load(row, &mut chained[..width]);
        }
        let (total, rest) = chained.split_at_mut(width);
        rest.chunks_exact(width).for_each(|chain| add(total, chain));
        let mut sums = total.to_vec();
        if plain > 0 {
            sums[..plain].copy_from_slice(&cascade(self.terms, width, load)[..plain]);
        }
        sums
    }
}

/// The float32 Euclidean norm of a row of `count` numbers of the type, from `first` on, by torch with `threads` threads.
pub(super) fn norm(compute: Compute, threads: usize, first: usize, count: usize, fill: Fill) -> f32 {
    let width = if compute == Compute::F32 { LANES } else { 2 * LANES };
    let mut numbers = [0.0; BLOCK];
    if count == 1 {
        fill(first, &mut numbers[..1]);
        return numbers[0].abs();
    }
    if compute == Compute::F16 {
        let squares = |(from, count): (usize, usize)| {
            let mut sum = 0.0f32;
            for at in (0..count).step_by(BLOCK) {
                let numbers = &mut numbers[..(count - at).min(BLOCK)];
                fill(first + from + at, numbers);
                // The square of a float16 is a float32, so nothing needs fusing.
                sum = numbers.iter().fold(sum, |sum, x| sum + x * x);
            }
            sum
        };
        return parts(threads, count).into_iter().map(squares).fold(0.0, |sum, part| sum + part).sqrt();
    }
    let mut lanes = [0.0f32; LANES];
    let whole = count / width * width;
    for at in (0..whole).step_by(BLOCK) {
        let numbers = &mut numbers[..(whole - at).min(BLOCK)];
        fill(first + at, numbers);
        square_lanes(&mut lanes, numbers);
    }
    let mut total = lanes[1..].iter().fold(lanes[0], |sum, lane| sum + lane);
    let tail = &mut numbers[..count - whole];
    fill(first + whole, tail);
    tail.iter().for_each(|x| total = x.mul_add(*x, total));
    total.sqrt()
}

widest! {
    fn square_lanes(lanes: &mut [f32; LANES], numbers: &[f32]) {
        for eight in numbers.as_chunks::<LANES>().0 {
            for (lane, x) in lanes.iter_mut().zip(eight) {
                *lane = x.mul_add(*x, *lane);
            }
        }
    }
}

widest! {
    /// Adds the square of each number to the sum of its place: one row of a norm over columns.
    pub(super) fn square_columns(sums: &mut [f32], numbers: &[f32]) {
        for (sum, x) in sums.iter_mut().zip(numbers) {
            *sum = x.mul_add(*x, *sum);
        }
    }
}
