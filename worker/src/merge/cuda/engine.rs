//! What is launched on what: tensors cut into pieces, operands resident or streamed, counts turned into answers.

use super::job::{Job, JobTerm, LOWER_BINS, LOWER_BITS, MOST_TERMS, UPPER_BINS, type_number};
use super::{Kernel, Runner};
use crate::checkpoint::Dtype;
use crate::merge::block::Elements;
use crate::merge::error::{Error, Result};
use crate::merge::flat::{Flat, Tensor};
use crate::merge::paper::{Term, Whole};
use crate::merge::survey::{OnHost, Survey};
use crate::merge::trim::Query;
use common::recipe::Arithmetic;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Runs merges on a [`Runner`]. One at a time: others wait.
pub(super) struct Engine<R: Runner> {
    runner: R,
    /// Elements of a launch.
    piece: usize,
    held: Mutex<Held<R::Memory>>,
}

/// Memory where kernels run, kept between merges.
struct Held<M> {
    /// Whole tensors by where their stored bytes are mapped, which is unique while their files are open.
    resident: BTreeMap<(usize, usize), M>,
    /// Bytes that may still become resident.
    left: u64,
    /// For each operand of a tensor the piece that is being worked on.
    staged: Vec<Option<Sized<M>>>,
    /// For each source which rows of the tensor it lacks.
    absent: Vec<Option<Sized<M>>>,
}

struct Sized<M> {
    bytes: usize,
    memory: M,
}

impl<R: Runner> Engine<R> {
    /// Keeps up to `resident` bytes of base and sources; launches work on `piece` elements, a multiple of 4.
    pub(super) fn new(runner: R, resident: u64, piece: usize) -> Engine<R> {
        assert!(piece > 0 && piece.is_multiple_of(4), "the field draws four numbers at a time");
        let slots = |count| (0..count).map(|_| None).collect();
        let (staged, absent) = (slots(1 + 2 * MOST_TERMS), slots(MOST_TERMS));
        let held = Held { resident: BTreeMap::new(), left: resident, staged, absent };
        Engine { runner, piece, held: Mutex::new(held) }
    }

    /// Where it runs.
    pub(super) fn runner(&self) -> &R {
        &self.runner
    }

    /// Whether kernels can merge tensors of so many sources; a tensor without any is a copy, which the host does.
    pub(super) fn takes(terms: usize) -> bool {
        (1..=MOST_TERMS).contains(&terms)
    }

    /// Merges one tensor to `address`, rounded to `stored` and then to `out`.
    ///
    /// # Safety
    /// `address` is that of memory where kernels run, large enough for the tensor in type `out`, that nobody else uses
    /// meanwhile.
    pub(super) unsafe fn merge(
        &self,
        tensor: &Tensor,
        arithmetic: Arithmetic,
        whole: Whole,
        (stored, out): (Dtype, Dtype),
        address: u64,
    ) -> Result<()> {
        let job = Job::new(tensor.terms.len(), arithmetic).merging(whole, stored, out);
        let width = out.width() as u64;
        self.each_piece(tensor, job, &AtomicBool::new(false), |job| {
            let job = Job { out: address + job.first * width, ..*job };
            // SAFETY: `each_piece` has set the operands' addresses, and the caller vouches for the outcome's.
            unsafe { self.runner.launch(Kernel::Merge, &job) }
        })
    }

    /// Completes `job` for every piece of the tensor and hands it to `launch`.
    fn each_piece(
        &self,
        tensor: &Tensor,
        mut job: Job,
        stop: &AtomicBool,
        mut launch: impl FnMut(&Job) -> Result<()>,
    ) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = &mut *held;
        for (t, term) in tensor.terms.iter().enumerate() {
            let JobTerm { counts, from, shift, bins, .. } = job.term[t];
            job.term[t] = JobTerm { counts, from, shift, bins, ..JobTerm::new(term.rule, term.key.0) };
            if let Some((columns, absent)) = absent_rows(term) {
                job.columns = columns as u64;
                job.term[t].absent = self.fill(&mut held.absent[t], &absent)?;
            }
        }
        for first in (0..tensor.elements).step_by(self.piece) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let count = self.piece.min(tensor.elements - first);
            (job.first, job.count) = (first as u64, count as u64);
            job.base_type = type_number(tensor.base.dtype());
            job.base = self.operand(held, 0, tensor.base, first, count)?;
            for (t, term) in tensor.terms.iter().enumerate() {
                job.term[t].model_type = type_number(term.model.dtype());
                job.term[t].model = self.operand(held, 1 + 2 * t, term.model, first, count)?;
                if let Some(own) = term.base {
                    job.term[t].own_type = type_number(own.dtype());
                    job.term[t].own = self.operand(held, 2 + 2 * t, own, first, count)?;
                }
            }
            launch(&job)?;
        }
        Ok(())
    }

    /// Where kernels find `count` elements from `first` on: in the resident tensor, or in the operand's piece.
    fn operand(
        &self,
        held: &mut Held<R::Memory>,
        slot: usize,
        elements: Elements,
        first: usize,
        count: usize,
    ) -> Result<u64> {
        let width = elements.dtype().width();
        let Some(bytes) = elements.plain_bytes() else {
            let mut gathered = Vec::new();
            elements.gather(first, count, &mut gathered);
            return self.fill(&mut held.staged[slot], &gathered);
        };
        let key = (bytes.as_ptr() as usize, bytes.len());
        if !held.resident.contains_key(&key) && bytes.len() as u64 <= held.left {
            let mut memory = self.runner.take(bytes.len())?;
            self.runner.write(&mut memory, bytes)?;
            held.left -= bytes.len() as u64;
            held.resident.insert(key, memory);
        }
        match held.resident.get(&key) {
            Some(memory) => Ok(self.runner.address(memory) + (first * width) as u64),
            None => self.fill(&mut held.staged[slot], &bytes[first * width..][..count * width]),
        }
    }

    /// Copies bytes to a slot, which grows as needed.
    fn fill(&self, slot: &mut Option<Sized<R::Memory>>, bytes: &[u8]) -> Result<u64> {
        if slot.as_ref().is_none_or(|s| s.bytes < bytes.len()) {
            // Given back before more is taken.
            *slot = None;
        }
        let held = match slot {
            Some(held) => held,
            None => slot.insert(Sized { bytes: bytes.len(), memory: self.runner.take(bytes.len())? }),
        };
        self.runner.write(&mut held.memory, bytes)?;
        Ok(self.runner.address(&held.memory))
    }

    /// Histograms of the queries' sources over the whole model: bins of `1 << shift` magnitudes from each `from` on.
    fn histograms(
        &self,
        flat: &Flat,
        wanted: &[(Query, u32)],
        (shift, bins): (u32, usize),
        stop: &AtomicBool,
    ) -> Result<Vec<Vec<u64>>> {
        let memory = wanted.iter().map(|_| self.runner.take(bins * size_of::<u64>()));
        let memory = memory.collect::<Result<Vec<_>>>()?;
        let mut counts = vec![vec![0u64; bins]; wanted.len()];
        for tensor in &flat.tensors {
            let mut job = Job::new(tensor.terms.len(), flat.arithmetic);
            for ((query, from), (memory, counts)) in wanted.iter().zip(memory.iter().zip(&mut counts)) {
                match tensor.terms.iter().position(|t| t.source == query.source) {
                    Some(t) => {
                        let counts = self.runner.address(memory);
                        job.term[t] =
                            JobTerm { counts, from: *from, shift, bins: bins as u32, ..JobTerm::default() };
                    }
                    // What a source lacks is as good as zeros.
                    None if *from == 0 => counts[0] += tensor.elements as u64,
                    None => {}
                }
            }
            if job.term.iter().any(|t| t.bins > 0) {
                // SAFETY: `each_piece` has set the operands' addresses; the bins were taken above for as many.
                let launch = |job: &Job| unsafe { self.runner.launch(Kernel::Histogram, job) };
                self.each_piece(tensor, job, stop, launch)?;
            }
        }
        let mut bytes = vec![0; bins * size_of::<u64>()];
        for (memory, counts) in memory.iter().zip(&mut counts) {
            self.runner.read(memory, &mut bytes)?;
            for (count, bytes) in counts.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *count += u64::from_le_bytes(*bytes);
            }
        }
        Ok(counts)
    }

    fn can_survey(flat: &Flat) -> bool {
        flat.tensors.iter().all(|t| t.terms.is_empty() || Self::takes(t.terms.len()))
    }
}

impl<R: Runner> Survey for Engine<R> {
    fn on_host(&self) -> bool {
        false
    }

    fn thresholds(&self, flat: &Flat, queries: &[Query], stop: &AtomicBool) -> Result<Vec<u32>> {
        if !Self::can_survey(flat) {
            return OnHost.thresholds(flat, queries, stop);
        }
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<(Query, u32)> = queries.iter().map(|q| (*q, 0)).collect();
        let upper = self.histograms(flat, &all, (LOWER_BITS, UPPER_BINS), stop)?;
        let held = |bins: &[u64], rank: u64| bin_of(bins, rank).ok_or_else(miscounted);
        let found = queries.iter().zip(&upper).map(|(query, bins)| held(bins, query.rank));
        let found = found.collect::<Result<Vec<(usize, u64)>>>()?;
        let narrowed: Vec<(Query, u32)> =
            queries.iter().zip(&found).map(|(q, (bin, _))| (*q, (*bin as u32) << LOWER_BITS)).collect();
        let lower = self.histograms(flat, &narrowed, (0, LOWER_BINS), stop)?;
        let ranges = narrowed.into_iter().zip(found).zip(&lower);
        ranges
            .map(|(((query, from), (_, below)), bins)| Ok(from + held(bins, query.rank - below)?.0 as u32))
            .collect()
    }

    fn signs(&self, flat: &Flat, stop: &AtomicBool) -> Result<i64> {
        if !Self::can_survey(flat) {
            return OnHost.signs(flat, stop);
        }
        let total = self.runner.take(size_of::<u64>())?;
        for tensor in flat.tensors.iter().filter(|t| !t.terms.is_empty()) {
            let job =
                Job { out: self.runner.address(&total), ..Job::new(tensor.terms.len(), flat.arithmetic) };
            // SAFETY: `each_piece` has set the operands' addresses; the sum was taken above.
            let launch = |job: &Job| unsafe { self.runner.launch(Kernel::Signs, job) };
            self.each_piece(tensor, job, stop, launch)?;
        }
        let mut bytes = [0; size_of::<u64>()];
        self.runner.read(&total, &mut bytes)?;
        Ok(i64::from_le_bytes(bytes))
    }
}

/// The bin that holds the element of that rank, and how many elements lie in bins below.
fn bin_of(bins: &[u64], rank: u64) -> Option<(usize, u64)> {
    let mut below = 0;
    for (bin, count) in bins.iter().enumerate() {
        if rank < below + count {
            return Some((bin, below));
        }
        below += count;
    }
    None
}

fn miscounted() -> Error {
    Error::Device { reason: "its histogram does not hold every element".into() }
}

/// Which rows of the tensor a source, or its own base, has none for: columns, and a byte a row.
fn absent_rows(term: &Term) -> Option<(usize, Vec<u8>)> {
    let maps = [Some(term.model), term.base].into_iter().flatten().filter_map(|e| e.missing_rows());
    maps.reduce(|(columns, mut all), (_, more)| {
        all.iter_mut().zip(more).for_each(|(all, more)| *all |= more);
        (columns, all)
    })
    .map(|(columns, absent)| (columns, absent.into_iter().map(u8::from).collect()))
}
