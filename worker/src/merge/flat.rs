//! The whole model as one sequence of blocks, for the passes that need all of it before any result exists.

use super::block::{BLOCK, CHUNK, Elements};
use super::error::{Error, Result};
use super::paper::{Scratch, Term};
use common::recipe::Arithmetic;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One base tensor with what its sources contribute. Sources that contribute nothing have no term.
pub(crate) struct Tensor<'a> {
    pub(crate) base: Elements<'a>,
    pub(crate) elements: usize,
    pub(crate) terms: Vec<Term<'a>>,
}

/// All tensors, cut into pieces of one task each.
pub(crate) struct Flat<'a> {
    pub(crate) tensors: Vec<Tensor<'a>>,
    pieces: Vec<Piece>,
    /// Elements of all tensors together: the N of the trim.
    pub(crate) elements: u64,
    pub(crate) arithmetic: Arithmetic,
}

struct Piece {
    tensor: usize,
    first: usize,
    count: usize,
}

/// A block within a piece.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Number of the block within the model, from which samples are drawn.
    pub(crate) number: usize,
}

impl<'a> Flat<'a> {
    pub(crate) fn new(tensors: Vec<Tensor<'a>>, arithmetic: Arithmetic) -> Flat<'a> {
        let mut pieces = Vec::new();
        for (tensor, t) in tensors.iter().enumerate() {
            let starts = (0..t.elements).step_by(CHUNK);
            pieces.extend(starts.map(|first| Piece { tensor, first, count: CHUNK.min(t.elements - first) }));
        }
        let elements = tensors.iter().map(|t| t.elements as u64).sum();
        Flat { tensors, pieces, elements, arithmetic }
    }

    /// Working memory for any of the tensors with all its terms.
    pub(crate) fn scratch(&self) -> Scratch {
        let terms = self.tensors.iter().map(|t| t.terms.len()).max().unwrap_or(0);
        Scratch::new(terms, self.arithmetic)
    }

    /// Working memory for one term at a time.
    pub(crate) fn scratch_for_one(&self) -> Scratch {
        Scratch::new(1, self.arithmetic)
    }

    /// Runs `step` over every block, on all threads of the current pool, and returns the states, one per thread.
    /// Which thread sees which block is left open: states must be such that their sum does not depend on it.
    ///
    /// # Errors
    /// [`Error::Stopped`] when `stop` was set.
    pub(crate) fn walk<S: Send>(
        &self,
        stop: &AtomicBool,
        state: impl Fn() -> S + Sync,
        step: impl Fn(&mut S, &Tensor, &mut dyn Iterator<Item = Span>) + Sync,
    ) -> Result<Vec<S>> {
        let next = AtomicUsize::new(0);
        let states = (0..rayon::current_num_threads()).into_par_iter().map(|_| {
            let mut state = state();
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(piece) = self.pieces.get(number) else { break };
                let mut spans = (0..piece.count).step_by(BLOCK).map(|at| Span {
                    first: piece.first + at,
                    count: BLOCK.min(piece.count - at),
                    number: number * (CHUNK / BLOCK) + at / BLOCK,
                });
                step(&mut state, &self.tensors[piece.tensor], &mut spans);
            }
            state
        });
        let states = states.collect();
        if stop.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(states) }
    }
}
