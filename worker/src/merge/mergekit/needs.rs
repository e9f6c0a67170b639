//! What a merge of a configuration holds in memory, worked out from shapes before a number is read.
//!
//! Follows `build.rs`: one tensor at a time, and of that what is there at once: inputs that are copied (rows in the result's
//! order, elements that a torch file holds in another order), the method's own ([`methods::scratch`]), and a few pieces of the
//! result in the type that is written. Everything else is read where it is mapped.

use super::build::Merge;
use super::error::Result;
use super::methods::{self, PIECE_BYTES};
use super::plan::{Rows, Tensor};
use crate::checkpoint::write::{PIECES, STAGE_BYTES};
use std::collections::BTreeMap;

/// Bytes of an element of rows that are gathered.
const GATHERED: u64 = 4;

/// What is held at once when a merge holds most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The tensor that takes most.
    pub tensor: String,
    /// Inputs that are copied, and tables of tokens.
    pub inputs: u64,
    /// What the method keeps beside them.
    pub method: u64,
    /// Pieces of the result, and what is on its way to the disk.
    pub result: u64,
    /// The tokenizer's files, where they are written anew; not at the same time as the rest.
    pub tokenizer: u64,
}

impl Needs {
    /// What all tensors stay below.
    pub fn bytes(&self) -> u64 {
        self.inputs + self.method + self.result
    }
}

impl Merge {
    /// What the merge takes with `threads` threads at work here.
    ///
    /// # Errors
    /// None for a merge that was planned: its tensors are there.
    pub fn needs(&self, threads: usize) -> Result<Needs> {
        let size = |t: &Tensor| t.shape.iter().product::<usize>() * t.dtype.width();
        let largest = self.plan.tensors.iter().map(size).max().unwrap_or(0);
        let all: usize = self.plan.tensors.iter().map(size).sum();
        let result = (PIECES * PIECE_BYTES.min(largest) + STAGE_BYTES.min(all)) as u64;
        let mut most = Needs { result, ..Needs::default() };
        for tensor in &self.plan.tensors {
            for moment in self.moments(tensor, threads)? {
                if moment.bytes() + result > most.bytes() {
                    most = Needs { tensor: tensor.name.clone(), result, ..moment };
                }
            }
        }
        most.tokenizer = self.tokens.as_ref().map_or(0, |tokens| tokens.files_bytes());
        Ok(most)
    }

    /// Bytes that the merge reads of each model, by the order of [`Merge::models`].
    ///
    /// # Errors
    /// As [`Merge::needs`].
    pub fn reads(&self) -> Result<Vec<u64>> {
        let mut seen = BTreeMap::new();
        for input in self.plan.tensors.iter().flat_map(|t| &t.inputs) {
            let info = self.models[input.model].info(&input.stored)?;
            seen.insert((input.model, &input.stored), (info.elements * info.dtype.width()) as u64);
        }
        let of = |model: usize| seen.iter().filter(|((m, _), _)| *m == model).map(|(_, bytes)| bytes).sum();
        Ok((0..self.models.len()).map(of).collect())
    }

    /// What is held beside the result while inputs are put in order, while what the method has to find out is looked for, and while the
    /// tensor is computed.
    fn moments(&self, tensor: &Tensor, threads: usize) -> Result<Vec<Needs>> {
        let elements = tensor.shape.iter().product::<usize>() as u64;
        let compute = tensor.compute.stored().width() as u64 * elements;
        let mut ordered = 0;
        for input in &tensor.inputs {
            let model = &self.models[input.model];
            let info = model.info(&input.stored)?;
            if model.checkpoint.stored(&input.stored)?.1.is_some() {
                ordered += (info.elements * info.dtype.width()) as u64;
            }
        }
        let others = tensor.inputs.iter().enumerate().filter(|(i, _)| Some(*i) != tensor.base);
        let others: Vec<_> = others.map(|(_, input)| &input.parameters).collect();
        let own =
            methods::scratch(tensor.method, &tensor.shape, &others, &tensor.shared, tensor.compute, threads);
        let aligned = self.tokens.as_ref().filter(|_| tensor.rows == Rows::Aligned);
        let mut moments = Vec::new();
        if let Some(tokens) = aligned {
            let models: Vec<usize> = tensor.inputs.iter().map(|i| i.model).collect();
            let copies = models.len() as u64 * compute;
            // The last model's rows are gathered in float32 first.
            let inputs = ordered + copies + tokens.tables_bytes(&models) + GATHERED * elements;
            moments.push(Needs { inputs, ..Needs::default() });
            ordered = copies;
        }
        let method = own.search.max(own.kept);
        moments.push(Needs { inputs: ordered, method, ..Needs::default() });
        Ok(moments)
    }
}
