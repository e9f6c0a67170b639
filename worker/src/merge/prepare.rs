//! A recipe made ready: models checked against each other, global quantities found, tensors on demand.

use super::block::{BLOCK, CHUNK, Element, narrow_bytes};
use super::error::{Error, Result};
use super::field::Key;
use super::fit::{Fit, Fitted};
use super::flat::{Flat, Tensor};
use super::numbers::{self, Rules};
use super::paper::{self, Rule, Term, Whole};
use super::placement::Placement;
use super::{Opened, elements, linear, trim};
use crate::checkpoint::{Checkpoint, Dtype, TensorInfo};
use common::group::Stack;
use common::recipe::{Arithmetic, Convention, Mask, Recipe, Vocabulary};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

/// A merge of which every tensor can be computed on its own, in any order. Holds no weights itself.
pub struct Prepared {
    base: Opened,
    sources: Vec<Source>,
    /// Factor λ, by the base's tensors.
    scales: Vec<f32>,
    /// The base's tensors by position.
    positions: HashMap<String, usize>,
    method: Method,
    mask: Mask,
    seed: u64,
    arithmetic: Arithmetic,
}

/// One source of the recipe.
struct Source {
    model: Fitted,
    /// The source's own base, where it is not the recipe's.
    own: Option<Fitted>,
    rules: Rules,
}

enum Method {
    /// The sign of elements whose sum is zero, see [`Whole::tie`].
    Paper(f32),
    Linear,
}

impl Prepared {
    pub(super) fn new(
        recipe: &Recipe,
        open: impl Fn(&str) -> Result<Opened>,
        stop: &AtomicBool,
    ) -> Result<Prepared> {
        let mut prepared = Prepared::fitted(recipe, open)?;
        if let Method::Paper(_) = prepared.method {
            prepared.trim(stop)?;
            prepared.method = Method::Paper(prepared.tie(stop)?);
        }
        Ok(prepared)
    }

    /// The models checked against each other, global quantities still unknown.
    pub(super) fn fitted(recipe: &Recipe, open: impl Fn(&str) -> Result<Opened>) -> Result<Prepared> {
        recipe.check()?;
        let base = open(&recipe.base.name)?;
        let elements = |name| base.model.info(name).map_or(0, |i: &TensorInfo| i.elements as u64);
        let tensors: Vec<(&str, u64)> = base.model.names().map(|n| (n, elements(n))).collect();
        let stack = Stack::of(base.model.names());
        let mut sources = Vec::with_capacity(recipe.sources.len());
        for term in &recipe.sources {
            let own = term.base.as_ref().filter(|b| b.name != recipe.base.name);
            let choice = term.vocabulary.unwrap_or(recipe.vocabulary);
            let fit = |name: &str| Fitted::new(&base, open(name)?, choice);
            let model = fit(&term.model.name)?;
            let own = own.map(|b| fit(&b.name)).transpose()?;
            sources.push(Source { model, own, rules: Rules::new(term, &tensors, &stack)? });
        }
        let scale =
            |(name, _): &(&str, u64)| Ok(numbers::at(&recipe.scale, "scale", name, &stack)?.value as f32);
        let scales = tensors.iter().map(scale).collect::<Result<Vec<f32>>>()?;
        let positions = tensors.iter().enumerate().map(|(i, (name, _))| (name.to_string(), i)).collect();
        let method = match recipe.convention {
            Convention::Paper => Method::Paper(0.0),
            Convention::Linear => Method::Linear,
        };
        let (mask, seed, arithmetic) = (recipe.mask, recipe.mask_seed, recipe.arithmetic);
        let prepared = Prepared { base, sources, scales, positions, method, mask, seed, arithmetic };
        prepared.check_models()?;
        Ok(prepared)
    }

    /// How each source, and each own base, fits the base.
    pub fn fits(&self) -> Vec<Fit> {
        let models = self.sources.iter().flat_map(|s| std::iter::once(&s.model).chain(&s.own));
        models.map(|m| m.describe(&self.base)).collect()
    }

    /// Where the merge goes in the model `vlm`, which recipes call `name`.
    ///
    /// # Errors
    /// As [`super::Merger::placement`].
    pub fn placement(&self, name: &str, vlm: &Checkpoint, choice: Vocabulary) -> Result<Placement> {
        Placement::new(&self.base, name, vlm, choice)
    }

    /// Names of the tensors that the merge makes: the base's, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.base.model.names()
    }

    /// Type and shape of the base's tensor of that name. The merge can be rounded to any type.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.base.model.info(name)
    }

    /// Computes one tensor into `out`, row-major, rounded to nearest even, on all threads of the current pool.
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Buffer`] when `out` has another length than the tensor; [`Error::Checkpoint`] for a name that the
    /// base lacks.
    pub fn tensor_into<T: Element>(&self, name: &str, out: &mut [T]) -> Result<()> {
        self.compute(name, out, 1, |from, to| T::narrow(from, to))
    }

    /// As [`Prepared::tensor_into`], as little-endian bytes of `dtype`, which must be F32, F16 or BF16.
    ///
    /// # Errors
    /// As there, and [`Error::Dtype`].
    pub fn tensor_bytes(&self, name: &str, dtype: Dtype, out: &mut [u8]) -> Result<()> {
        if !dtype.mergeable() {
            let model = "the merge's output".into();
            return Err(Error::Dtype { tensor: name.into(), model, dtype: dtype.name() });
        }
        self.compute(name, out, dtype.width(), |from, to| narrow_bytes(from, dtype, to))
    }

    /// `per` entries of `out` hold one element.
    fn compute<O: Send>(
        &self,
        name: &str,
        out: &mut [O],
        per: usize,
        narrow: impl Fn(&[f32], &mut [O]) + Sync,
    ) -> Result<()> {
        let base = elements(&self.base, name)?;
        let expected = self.info(name).map_or(0, |i| i.elements);
        if out.len() != expected * per {
            return Err(Error::Buffer { tensor: name.into(), expected, found: out.len() / per });
        }
        let chunks = out.par_chunks_mut(CHUNK * per).enumerate();
        match self.method {
            Method::Paper(tie) => {
                let terms = self.terms(name)?;
                let whole = Whole { scale: self.scales[self.position(name)], tie };
                chunks.for_each_init(
                    || paper::Scratch::new(terms.len(), self.arithmetic),
                    |scratch, (i, out)| {
                        each_block(i, out, per, |first, count, out| {
                            paper::merge(scratch, base, &terms, whole, first, count);
                            narrow(scratch.merged(count), out)
                        })
                    },
                );
            }
            Method::Linear => {
                let (position, total) = (self.position(name), self.total(self.position(name)));
                let shares = self.sources.iter().map(|s| {
                    Ok(linear::Share {
                        weight: s.rules.weight(position),
                        model: s.model.elements(name)?,
                        base,
                    })
                });
                let shares = shares.collect::<Result<Vec<_>>>()?;
                chunks.for_each_init(linear::Scratch::new, |scratch, (i, out)| {
                    each_block(i, out, per, |first, count, out| {
                        linear::merge(scratch, &shares, total, first, count);
                        narrow(scratch.merged(count), out)
                    })
                });
            }
        }
        Ok(())
    }

    /// Checks once that all tensors fit together, so that computing cannot fail half-way.
    fn check_models(&self) -> Result<()> {
        for (position, name) in self.base.model.names().enumerate() {
            elements(&self.base, name)?;
            if matches!(self.method, Method::Linear) && self.total(position) == 0.0 {
                return Err(Error::NoWeight { tensor: name.into() });
            }
            for source in &self.sources {
                let present = source.model.check(&self.base, name)?;
                let Some(own) = &source.own else {
                    if !present && matches!(self.method, Method::Linear) {
                        let why = "and an average needs every model's";
                        return Err(Error::Missing {
                            tensor: name.into(),
                            model: source.model.opened.name.clone(),
                            why,
                        });
                    }
                    continue;
                };
                if present && matches!(self.method, Method::Paper(_)) && !own.check(&self.base, name)? {
                    let why = "the base that a source's task vector is taken against";
                    return Err(Error::Missing { tensor: name.into(), model: own.opened.name.clone(), why });
                }
            }
        }
        Ok(())
    }

    /// What the live sources contribute to one tensor. A source that lacks it contributes nothing.
    fn terms(&self, name: &str) -> Result<Vec<Term<'_>>> {
        let position = self.position(name);
        let present = |s: &Source| s.model.opened.model.info(name).is_some();
        let ruled = self.sources.iter().enumerate().filter(|(_, s)| present(s));
        let live = ruled.filter_map(|(source, s)| Some((source, s, s.rules.of(position)?)));
        live.map(|(source, s, rule)| {
            Ok(Term {
                source,
                rule,
                key: Key::new(self.mask, self.seed, &s.model.opened.name, name),
                model: s.model.elements(name)?,
                base: s.own.as_ref().map(|own| own.elements(name)).transpose()?,
            })
        })
        .collect()
    }

    /// The position of one of the base's tensors, whose name the caller has checked.
    fn position(&self, name: &str) -> usize {
        self.positions[name]
    }

    /// The divisor of an average, by the base's tensors.
    fn total(&self, position: usize) -> f32 {
        self.sources.iter().map(|s| s.rules.weight(position)).sum()
    }

    /// The tensors of the positions wanted, as blocks.
    fn flat(&self, wanted: impl Fn(usize) -> bool) -> Result<Flat<'_>> {
        let tensor = |(position, name): (usize, &str)| {
            let elements_count = self.info(name).map_or(0, |i| i.elements);
            Ok(Tensor {
                position,
                base: elements(&self.base, name)?,
                elements: elements_count,
                terms: self.terms(name)?,
            })
        };
        let names = self.names().enumerate().filter(|(position, _)| wanted(*position));
        Ok(Flat::new(names.map(tensor).collect::<Result<_>>()?, self.arithmetic))
    }

    /// Finds the threshold of each source's trim groups: the first group of every source in one pass, then the second,
    /// so that a pass holds as many histograms as there are sources, and all passes together read as much as one over
    /// the whole model.
    fn trim(&mut self, stop: &AtomicBool) -> Result<()> {
        let most = self.sources.iter().map(|s| s.rules.groups.len()).max().unwrap_or(0);
        for group in 0..most {
            let asked: Vec<(usize, u64, u64)> = self
                .sources
                .iter()
                .enumerate()
                .filter_map(|(source, s)| {
                    let g = s.rules.groups.get(group).filter(|g| g.live)?;
                    Some((source, trim::rank(g.rate, g.elements), g.elements))
                })
                .collect();
            let queries: Vec<trim::Query> = asked
                .iter()
                .filter(|(_, rank, elements)| (1..*elements).contains(rank))
                .map(|&(source, rank, elements)| trim::Query { source, rank, elements })
                .collect();
            let found = match queries.is_empty() {
                true => Vec::new(),
                false => {
                    let among =
                        |source: usize, position: usize| self.sources[source].rules.group(position) == group;
                    let flat = self.flat(|p| queries.iter().any(|q| among(q.source, p)))?;
                    trim::thresholds(&flat, &queries, &among, stop)?
                }
            };
            for (query, bits) in queries.iter().zip(found) {
                self.sources[query.source].rules.set_threshold(group, bits);
            }
            for (source, rank, elements) in asked {
                self.sources[source].rules.groups[group].live &= rank < elements;
            }
        }
        Ok(())
    }

    /// The sign of the sum of all elected signs, 0 when they cancel: then ties elect no sign and keep the base.
    ///
    /// Costs a pass over the model, so it is left out where the answer cannot matter: a zero sum of fewer than
    /// two sources has no non-zero part, and a mean that is multiplied by zero needs no sign.
    fn tie(&self, stop: &AtomicBool) -> Result<f32> {
        let matters = |position: usize| {
            let rules: Vec<Rule> = self.sources.iter().filter_map(|s| s.rules.of(position)).collect();
            rules.len() >= 2 && rules.iter().any(|r| r.weight != 0.0) && self.scales[position] != 0.0
        };
        if !(0..self.scales.len()).any(matters) {
            return Ok(0.0);
        }
        let flat = self.flat(|_| true)?;
        let state = || (flat.scratch(), 0i64);
        let states = flat.walk(stop, state, |(scratch, total), tensor, spans| {
            for span in spans {
                paper::signs(scratch, tensor.base, &tensor.terms, span.first, span.count, total);
            }
        })?;
        let total: i64 = states.iter().map(|(_, total)| total).sum();
        Ok(total.signum() as f32)
    }
}

/// Runs `f(first element, count, place)` over the blocks of the chunk of that number.
fn each_block<O>(chunk: usize, out: &mut [O], per: usize, mut f: impl FnMut(usize, usize, &mut [O])) {
    for (b, out) in out.chunks_mut(BLOCK * per).enumerate() {
        f(chunk * CHUNK + b * BLOCK, out.len() / per, out);
    }
}
