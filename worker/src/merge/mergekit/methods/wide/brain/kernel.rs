//! The kernels: thirty-two elements of every source at a time.
//!
//! A vector of words is widened by its even and its odd words: a float32 number is a word shifted up, or a word with the one below it
//! cleared. Rounding gives a vector of the even and then of the odd ones, which one permutation brings back in order.

#![expect(unsafe_code, reason = "the instructions take addresses, and types of vectors are the same bits")]

use super::super::{BF16, Lanes, kernel as by_sixteen};
use super::{Brains, Bytes, DIFFERENCES, Quotient, Source, Words};
use crate::merge::avx512::{Brain, LANES, Vectors, store};
use crate::merge::block::{BLOCK, bf16_bits};
use std::arch::x86_64::*;

/// Elements of a vector of words.
const WIDE: usize = 2 * LANES;
/// All bits of a word but its sign.
const MAGNITUDE: i16 = 0x7fff;
/// The least normal magnitude.
const NORMAL: i16 = 0x80;
/// Infinity.
const INFINITE: i16 = 0x7f80;

/// The words of elements `WIDE · pair` and on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn words(brain: Brain, pair: usize) -> __m512i {
    // SAFETY: 64 bytes are read from a reference to as many; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(brain.pair(pair)).cast()) }
}

/// The even and the odd words as float32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn widen(words: __m512i) -> [__m512; 2] {
    let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
    [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd)]
}

/// The nearest bfloat16 numbers of two vectors, the words of the first and then of the second; tiny ones become zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn beside([first, second]: [__m512; 2]) -> __m512i {
    // SAFETY: both types are 512 bits, any of which are values of either.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// What lies beside each other, in turn.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn in_turn(words: __m512i) -> __m512i {
    const IN_TURN: [u16; WIDE] = {
        let mut places = [0; WIDE];
        let mut i = 0;
        while i < LANES {
            places[2 * i] = i as u16;
            places[2 * i + 1] = (LANES + i) as u16;
            i += 1;
        }
        places
    };
    _mm512_permutexvar_epi16(table(&IN_TURN), words)
}

/// The opposite of [`widen`], rounded.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn narrow(numbers: [__m512; 2]) -> __m512i {
    in_turn(beside(numbers))
}

/// The nearest bfloat16 numbers, as float32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn round(numbers: [__m512; 2]) -> [__m512; 2] {
    widen(narrow(numbers))
}

/// Products with numbers of the same place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn times([even, odd]: [__m512; 2], by: [__m512; 2]) -> [__m512; 2] {
    [_mm512_mul_ps(even, by[0]), _mm512_mul_ps(odd, by[1])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn table<T: Copy, const N: usize>(values: &[T; N]) -> __m512i {
    const { assert!(size_of::<T>() * N == 64) };
    // SAFETY: 64 bytes of plain numbers are read from a reference to as many; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// The bits of a mask for the vector of that number.
#[inline(always)]
fn part(words: Option<&Words>, pair: usize) -> u32 {
    words.map_or(u32::MAX, |words| (words[pair / 2] >> (WIDE * (pair % 2))) as u32)
}

/// The tables of a source.
#[derive(Clone, Copy)]
struct Table {
    steps: [__m512i; 2],
    shift: __m512i,
}

/// One block: base plus the mixed terms of the first `N` sources. How many vectors asked for more care.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
pub(super) fn merge<const N: usize>(
    plan: &Brains,
    base: Brain,
    sources: &[Source<Brain>],
    out: &mut Bytes,
) -> Option<usize> {
    let (sources, terms) = (sources.first_chunk::<N>()?, plan.terms.first_chunk::<N>()?);
    let mut tables = [Table { steps: [_mm512_setzero_si512(); 2], shift: _mm512_setzero_si512() }; N];
    for (table, term) in tables.iter_mut().zip(terms) {
        let ([low, high], []) = term.steps.as_chunks::<64>() else { return None };
        table.steps = [self::table(low), self::table(high)];
        table.shift = _mm512_set1_epi16(term.shift as i16);
    }
    let mut with_care = 0;
    for (pair, out) in out.as_chunks_mut::<{ 2 * WIDE }>().0.iter_mut().enumerate() {
        base.prefetch_next(2 * pair);
        sources.iter().for_each(|source| source.model.prefetch_next(2 * pair));
        let (merged, plain) = match plan.rest.divisor {
            Some(_) => vector::<N, false>(plan, base, sources, &tables, pair),
            None => vector::<N, true>(plan, base, sources, &tables, pair),
        };
        // SAFETY: 64 bytes are written to a reference to as many; the store asks for no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), merged) };
        if !plain {
            careful::<N>(plan, base, sources, pair, out);
            with_care += 1;
        }
    }
    Some(with_care)
}

/// One vector of the result, and whether all numbers were such that it holds.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn vector<const N: usize, const ELECTED: bool>(
    plan: &Brains,
    base: Brain,
    sources: &[Source<Brain>; N],
    tables: &[Table; N],
    pair: usize,
) -> (__m512i, bool) {
    let (zero, magnitude) = (_mm512_setzero_si512(), _mm512_set1_epi16(MAGNITUDE));
    let least = _mm512_set1_epi16(*DIFFERENCES.start() as i16);
    let stored = words(base, pair);
    let base = widen(stored);
    // Rounding would lose a tiny number of the base.
    let above = _mm512_sub_epi16(_mm512_and_si512(stored, magnitude), _mm512_set1_epi16(NORMAL));
    let some = _mm512_test_epi16_mask(stored, magnitude);
    let mut odd = _mm512_mask_cmpge_epu16_mask(some, above, _mm512_set1_epi16(INFINITE.wrapping_sub(NORMAL)));
    let mut range = zero;
    let mut terms = [[_mm512_setzero_ps(); 2]; N];
    for ((source, table), term) in sources.iter().zip(tables).zip(&mut terms) {
        let model = words(source.model, pair);
        let [even, other] = widen(model);
        let x = narrow([_mm512_sub_ps(even, base[0]), _mm512_sub_ps(other, base[1])]);
        // Of what is equal the difference is zero, and nothing else is one that is not tiny.
        let differs = _mm512_cmpneq_epi16_mask(model, stored);
        let above = _mm512_sub_epi16(_mm512_and_si512(x, magnitude), least);
        range = _mm512_mask_max_epu16(range, differs, range, above);
        // Mantissas are the lower bytes' lower seven bits, and no more of an index is looked at.
        const LOWER_BYTES: u64 = 0x5555_5555_5555_5555;
        let [low, high] = table.steps;
        let step = _mm512_maskz_permutex2var_epi8(LOWER_BYTES, low, x, high);
        let kept = differs & part(source.kept, pair);
        let product = _mm512_maskz_add_epi16(kept, _mm512_add_epi16(x, table.shift), step);
        *term = widen(product);
    }
    let span = _mm512_set1_epi16((DIFFERENCES.end() - DIFFERENCES.start()) as i16);
    odd |= _mm512_cmpgt_epu16_mask(range, span);

    let mut sums = terms[0];
    for term in &terms[1..] {
        sums = [_mm512_add_ps(sums[0], term[0]), _mm512_add_ps(sums[1], term[1])];
    }
    let mut divisors = [zero; 2];
    if ELECTED {
        let mut totals = [_mm512_setzero_ps(); 2];
        for half in 0..2 {
            let sign = _mm512_and_ps(sums[half], _mm512_set1_ps(-0.0));
            for (s, (term, source)) in terms.iter().zip(sources).enumerate() {
                let agrees =
                    _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_xor_ps(term[half], sign), _mm512_setzero_ps());
                totals[half] = _mm512_mask_add_ps(totals[half], agrees, totals[half], term[half]);
                let divisor = &mut divisors[half];
                *divisor = if matches!(plan.quotient, Quotient::Weights) {
                    let sum = _mm512_castsi512_ps(*divisor);
                    let weight = _mm512_set1_ps(source.weight);
                    _mm512_castps_si512(_mm512_mask_add_ps(sum, agrees, sum, weight))
                } else {
                    _mm512_mask_or_epi32(*divisor, agrees, *divisor, _mm512_set1_epi32(1 << s))
                };
            }
        }
        sums = totals;
    }
    sums = round(sums);
    match &plan.quotient {
        Quotient::One => {}
        Quotient::Constant(reciprocal) => sums = round(times(sums, [_mm512_set1_ps(*reciprocal); 2])),
        Quotient::Table(reciprocals) => {
            let of = _mm512_castsi512_ps(table(reciprocals));
            let [even, odd] = divisors;
            sums = round(times(sums, [_mm512_permutexvar_ps(even, of), _mm512_permutexvar_ps(odd, of)]));
        }
        Quotient::Weights => {
            let [even, odd] = round([_mm512_castsi512_ps(divisors[0]), _mm512_castsi512_ps(divisors[1])]);
            sums = round([_mm512_div_ps(sums[0], not_zero(even)), _mm512_div_ps(sums[1], not_zero(odd))]);
        }
    }
    if let Some(lambda) = plan.rest.lambda {
        sums = round(times(sums, [_mm512_set1_ps(lambda); 2]));
    }
    (narrow([_mm512_add_ps(base[0], sums[0]), _mm512_add_ps(base[1], sums[1])]), odd == 0)
}

/// 1 in place of 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn not_zero(numbers: __m512) -> __m512 {
    let none = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(numbers, _mm512_setzero_ps());
    _mm512_mask_mov_ps(numbers, none, _mm512_set1_ps(1.0))
}

/// The same with the care that odd numbers take.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn careful<const N: usize>(
    plan: &Brains,
    base: Brain,
    sources: &[Source<Brain>; N],
    pair: usize,
    out: &mut [u8; 2 * WIDE],
) {
    for (v, out) in out.as_chunks_mut::<{ 2 * LANES }>().0.iter_mut().enumerate() {
        let mut merged = [0.0; LANES];
        store(&mut merged, by_sixteen::careful::<BF16, N, Brain>(base, sources, &plan.rest, 2 * pair + v));
        for (out, merged) in out.as_chunks_mut::<2>().0.iter_mut().zip(merged) {
            *out = bf16_bits(merged).to_le_bytes();
        }
    }
}

/// The words of a vector of a task vector beside each other, see [`beside`], and those of its elements that are not as in the base; of
/// the next block, it is asked for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
fn task_vector(base: Brain, model: Brain, pair: usize) -> (__m512i, __mmask32) {
    base.prefetch_next(2 * pair);
    model.prefetch_next(2 * pair);
    let (base, model) = (words(base, pair), words(model, pair));
    let ([a, b], [c, d]) = (widen(model), widen(base));
    (beside([_mm512_sub_ps(a, c), _mm512_sub_ps(b, d)]), _mm512_cmpneq_epi16_mask(model, base))
}

/// Adds the magnitudes of so many vectors of a task vector, and of what the mask keeps of them, to the lanes of four registers of
/// eight, of sixteen numbers the two that are eight apart; false, with nothing done, where a number is not normal, nor zero because
/// its two are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2,popcnt")]
pub(super) fn add_magnitudes(
    base: Brain,
    source: &Source<Brain>,
    pairs: usize,
    all: &mut Lanes,
    kept: &mut Lanes,
) -> bool {
    // What is eight apart comes beside each other, of a vector that has its even elements in front.
    const EIGHT_APART: [u16; WIDE] = {
        let mut places = [0; WIDE];
        let mut i = 0;
        while i < WIDE {
            let element = i / 2 % 8 + 8 * (i % 2) + 16 * (i / 16);
            places[i] = (element / 2 + LANES * (element % 2)) as u16;
            i += 1;
        }
        places
    };
    // The same of the bits of a mask: those of the first eight of sixteen, and of the others.
    const FIRST: u32 = 0x00ff_00ff;
    const EVEN: u32 = 0x5555_5555;
    let places = table(&EIGHT_APART);
    let magnitude = _mm512_set1_epi16(MAGNITUDE);
    // Differences that rounding took for zero. What is no number though its two are equal counts the other way, and is noticed by itself.
    let (mut largest, mut lost) = (_mm512_setzero_si512(), 0);
    let mut sums = [load(all), load(kept)];
    for two in 0..pairs / 2 {
        for half in 0..2 {
            let pair = 2 * two + half;
            let (x, differs) = task_vector(base, source.model, pair);
            let x = _mm512_and_si512(_mm512_permutexvar_epi16(places, x), magnitude);
            largest = _mm512_max_epu16(largest, x);
            let some = _mm512_test_epi16_mask(x, x);
            lost += i64::from(differs.count_ones()) - i64::from(some.count_ones());
            let bits = part(source.kept, pair);
            let stays = _pdep_u32(_pext_u32(bits, FIRST), EVEN) | _pdep_u32(_pext_u32(bits, !FIRST), !EVEN);
            for (sums, x) in sums.iter_mut().zip([x, _mm512_maskz_mov_epi16(stays, x)]) {
                let [first, second] = widen(x);
                sums[half] = _mm512_add_ps(sums[half], _mm512_add_ps(first, second));
            }
        }
    }
    if lost != 0 || _mm512_cmpge_epu16_mask(largest, _mm512_set1_epi16(INFINITE)) != 0 {
        return false;
    }
    for (lanes, sums) in [all, kept].into_iter().zip(sums) {
        for (lanes, sum) in lanes.as_chunks_mut().0.iter_mut().zip(sums) {
            store(lanes, sum);
        }
    }
    true
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn load(lanes: &Lanes) -> [__m512; 2] {
    let [low, high] = lanes.as_chunks().0 else { unreachable!("two registers") };
    [crate::merge::avx512::load(low), crate::merge::avx512::load(high)]
}

/// The magnitudes of a block of a task vector as bits of bfloat16, with `turn` exchanged; false where one is not normal, nor zero
/// because its two are equal.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma,bmi2")]
pub(super) fn keys(base: Brain, model: Brain, turn: u16, out: &mut [u16; BLOCK]) -> bool {
    let magnitude = _mm512_set1_epi16(MAGNITUDE);
    let turn = _mm512_set1_epi16(turn as i16);
    let (mut largest, mut tiny) = (_mm512_setzero_si512(), 0);
    for (pair, out) in out.as_chunks_mut::<WIDE>().0.iter_mut().enumerate() {
        let (x, differs) = task_vector(base, model, pair);
        let x = _mm512_and_si512(in_turn(x), magnitude);
        largest = _mm512_max_epu16(largest, x);
        tiny |= _mm512_mask_cmplt_epu16_mask(differs, x, _mm512_set1_epi16(NORMAL));
        // SAFETY: 64 bytes are written to a reference to as many; the store asks for no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_xor_si512(x, turn)) };
    }
    tiny == 0 && _mm512_cmpge_epu16_mask(largest, _mm512_set1_epi16(INFINITE)) == 0
}
