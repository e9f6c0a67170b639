//! A recipe made ready: models checked against each other, global quantities found, tensors on demand.

use super::block::{BLOCK, CHUNK, Element, narrow_bytes};
use super::error::{Error, Result};
use super::field::Key;
use super::fit::{Fit, Fitted};
use super::flat::{Flat, Tensor};
use super::known::{Known, Question};
use super::language::{Language, Place, is_merged};
use super::masks::Masks;
use super::numbers::{self, Rules};
use super::paper::{self, Rule, Term, Whole};
use super::placement::Placement;
use super::survey::Survey;
use super::{Opened, elements, linear, trim};
use crate::checkpoint::{Checkpoint, Dtype, TensorInfo};
use common::digest::Digest;
use common::group::Stack;
use common::recipe::{Arithmetic, Convention, Mask, Recipe, Vocabulary};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// A merge of which every tensor can be computed on its own, in any order. Holds no weights itself.
pub struct Prepared {
    base: Opened,
    /// The base's tensors that are merged, sorted.
    names: Vec<String>,
    sources: Vec<Source>,
    /// Factor λ of each of `names`.
    scales: Vec<f32>,
    method: Method,
    mask: Mask,
    seed: u64,
    arithmetic: Arithmetic,
    /// Base and VLM, by which the merged tensors are known.
    begun: Question,
    masks: Masks,
}

/// One source of the recipe.
struct Source {
    model: Fitted,
    /// The source's own base, where it is not the recipe's.
    own: Option<Fitted>,
    rules: Rules,
    /// How rows are put in their places where vocabularies differ.
    vocabulary: Vocabulary,
}

impl Source {
    fn has(&self, name: &str) -> bool {
        self.model.opened.model.info(name).is_some()
    }
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
        survey: &dyn Survey,
        known: &Known,
        stop: &AtomicBool,
    ) -> Result<Prepared> {
        let mut prepared = Prepared::fitted(recipe, open)?;
        if let Method::Paper(_) = prepared.method {
            if survey.on_host() {
                prepared.masks = Masks::of(prepared.fields(), &known.masks());
                known.keep_masks(prepared.masks.clone());
            }
            prepared.trim(survey, known, stop)?;
            prepared.method = Method::Paper(prepared.tie(survey, known, stop)?);
        }
        Ok(prepared)
    }

    /// The models checked against each other, global quantities still unknown.
    pub(super) fn fitted(recipe: &Recipe, open: impl Fn(&str) -> Result<Opened>) -> Result<Prepared> {
        recipe.check()?;
        let base = open(&recipe.base.name)?;
        // A merge without its VLM, as in tests, makes all that can be merged.
        let vlm = open(&recipe.vlm.name).ok();
        let language = vlm.as_ref().map(|v| Language::of(&v.model));
        let has_place = |name: &str| language.as_ref().is_none_or(|l| l.place(name) != Place::Skipped);
        let names = base.model.names().filter(|name| has_place(name) && is_merged(&base.model, name));
        let names: Vec<String> = names.map(String::from).collect();
        let stack = Stack::of(names.iter().map(String::as_str));
        let mut sources = Vec::with_capacity(recipe.sources.len());
        for term in &recipe.sources {
            let own = term.base.as_ref().filter(|b| b.name != recipe.base.name);
            let choice = term.vocabulary.unwrap_or(recipe.vocabulary);
            let fit = |name: &str| Fitted::new(&base, open(name)?, choice);
            let model = fit(&term.model.name)?;
            let own = own.map(|b| fit(&b.name)).transpose()?;
            let rules = Rules::new(term, &names, &stack)?;
            sources.push(Source { model, own, rules, vocabulary: choice });
        }
        let scale = |name: &String| Ok(numbers::at(&recipe.scale, "scale", name, &stack)?.value as f32);
        let scales = names.iter().map(scale).collect::<Result<Vec<f32>>>()?;
        let method = match recipe.convention {
            Convention::Paper => Method::Paper(0.0),
            Convention::Linear => Method::Linear,
        };
        let (mask, seed, arithmetic) = (recipe.mask, recipe.mask_seed, recipe.arithmetic);
        let begun = Question::of("merge").text(&recipe.base.name).text(&recipe.vlm.name);
        let begun = begun.text(&format!("{mask:?} {arithmetic:?}")).number(seed);
        let masks = Masks::default();
        let prepared =
            Prepared { base, names, sources, scales, method, mask, seed, arithmetic, begun, masks };
        prepared.check_models()?;
        Ok(prepared)
    }

    /// How each source, and each own base, fits the base.
    pub fn fits(&self) -> Vec<Fit> {
        let models = self.sources.iter().flat_map(|s| std::iter::once(&s.model).chain(&s.own));
        models.map(|m| m.describe(&self.base, &self.names)).collect()
    }

    /// Where the merge goes in the model `vlm`, which recipes call `name`.
    ///
    /// # Errors
    /// As [`super::Merger::placement`].
    pub fn placement(&self, name: &str, vlm: &Checkpoint, choice: Vocabulary) -> Result<Placement> {
        Placement::new(&self.base, name, vlm, choice)
    }

    /// Names of the tensors that the merge makes, sorted: the base's that have a place in the VLM and are of floating point.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Type and shape of the base's tensor of that name, if it is merged. The merge can be rounded to any type.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.names.binary_search_by(|n| n.as_str().cmp(name)).ok()?;
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

    /// The tensor with its sources and what is applied to their sum, where it is merged by the paper's convention.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a name that the base lacks.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn paper(&self, name: &str) -> Result<Option<(Tensor<'_>, Whole, Arithmetic)>> {
        let Method::Paper(tie) = self.method else { return Ok(None) };
        let whole = Whole { scale: self.scales[self.position(name)?], tie };
        Ok(Some((self.flat_tensor(name)?, whole, self.arithmetic)))
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
                let whole = Whole { scale: self.scales[self.position(name)?], tie };
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
                let position = self.position(name)?;
                let total = self.total(position);
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
        for (position, name) in self.names().enumerate() {
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
        let position = self.position(name)?;
        let ruled = self.sources.iter().enumerate().filter(|(_, s)| s.has(name));
        let live = ruled.filter_map(|(source, s)| Some((source, s, s.rules.of(position)?)));
        live.map(|(source, s, rule)| {
            let key = self.key(s, name);
            Ok(Term {
                source,
                rule,
                key,
                drawn: self.masks.get(key, rule.drop),
                model: s.model.elements(name)?,
                base: s.own.as_ref().map(|own| own.elements(name)).transpose()?,
            })
        })
        .collect()
    }

    /// What decides which elements of a tensor a source drops.
    fn key(&self, source: &Source, name: &str) -> Key {
        Key::new(self.mask, self.seed, &source.model.opened.name, name)
    }

    /// What masks may be drawn of: keys, drop rates and numbers of elements.
    fn fields(&self) -> impl Iterator<Item = (Key, u32, usize)> {
        self.names.iter().enumerate().flat_map(move |(position, name)| {
            self.sources.iter().filter(|source| source.has(name)).filter_map(move |source| {
                let rule = source.rules.of(position)?;
                Some((self.key(source, name), rule.drop, self.info(name)?.elements))
            })
        })
    }

    /// The position of a merged tensor.
    fn position(&self, name: &str) -> Result<usize> {
        let found = self.names.binary_search_by(|n| n.as_str().cmp(name));
        let (tensor, model) = (name.into(), self.base.name.clone());
        found.map_err(|_| Error::Missing { tensor, model, why: "as one that the merge makes" })
    }

    /// The divisor of an average, for the merged tensor of that position.
    fn total(&self, position: usize) -> f32 {
        self.sources.iter().map(|s| s.rules.weight(position)).sum()
    }

    fn flat_tensor(&self, name: &str) -> Result<Tensor<'_>> {
        let count = self.info(name).map_or(0, |i| i.elements);
        Ok(Tensor { base: elements(&self.base, name)?, elements: count, terms: self.terms(name)? })
    }

    /// The tensors of these positions.
    fn flat(&self, positions: impl IntoIterator<Item = usize>) -> Result<Flat<'_>> {
        let tensors = positions.into_iter().map(|position| self.flat_tensor(&self.names[position]));
        Ok(Flat::new(tensors.collect::<Result<_>>()?, self.arithmetic))
    }

    /// Finds the threshold of each source's trim groups. Groups of the same tensors, as sources have that are divided
    /// alike, share a pass; all passes of a source together read as much as one over the whole model.
    fn trim(&mut self, survey: &dyn Survey, known: &Known, stop: &AtomicBool) -> Result<()> {
        let mut passes: BTreeMap<Vec<usize>, Vec<(usize, usize)>> = BTreeMap::new();
        for (source, s) in self.sources.iter().enumerate() {
            for group in (0..s.rules.groups.len()).filter(|&g| s.rules.groups[g].live) {
                passes.entry(s.rules.members(group)).or_default().push((source, group));
            }
        }
        for (positions, asked) in passes {
            let questions = asked.iter().map(|&(source, _)| self.question(source, &positions));
            let questions: Vec<Question> = questions.collect();
            let flat = self.flat(positions)?;
            let all = flat.elements;
            let rank = |&(source, group): &(usize, usize)| {
                trim::rank(self.sources[source].rules.groups[group].rate, all)
            };
            let ranks: Vec<u64> = asked.iter().map(rank).collect();
            let questions: Vec<Digest> =
                questions.into_iter().zip(&ranks).map(|(q, rank)| q.number(*rank).digest()).collect();
            let some = (0..asked.len()).filter(|&i| (1..all).contains(&ranks[i]));
            let some = some.map(|i| (i, known.threshold(&questions[i])));
            let (answered, open): (Vec<_>, Vec<_>) = some.partition(|(_, bits)| bits.is_some());
            let query = |&(i, _): &(usize, _)| trim::Query { source: asked[i].0, rank: ranks[i] };
            let queries: Vec<trim::Query> = open.iter().map(query).collect();
            let found = match queries.is_empty() {
                true => Vec::new(),
                false => survey.thresholds(&flat, &queries, stop)?,
            };
            let found: Vec<_> = open.into_iter().map(|(i, _)| i).zip(found).collect();
            found.iter().for_each(|&(i, bits)| known.keep_threshold(questions[i], bits));
            let answered = answered.into_iter().filter_map(|(i, bits)| Some((i, bits?)));
            for (i, bits) in answered.chain(found) {
                let (source, group) = asked[i];
                self.sources[source].rules.set_threshold(group, bits);
            }
            for ((source, group), rank) in asked.into_iter().zip(ranks) {
                self.sources[source].rules.groups[group].live &= rank < all;
            }
        }
        Ok(())
    }

    /// The sign of the sum of all elected signs, 0 when they cancel: then ties elect no sign and keep the base.
    ///
    /// Costs a pass over the model, so it is left out where the answer cannot matter: a zero sum of fewer than
    /// two sources has no non-zero part, and a mean that is multiplied by zero needs no sign.
    fn tie(&self, survey: &dyn Survey, known: &Known, stop: &AtomicBool) -> Result<f32> {
        let matters = |position: usize| {
            let rules: Vec<Rule> = self.sources.iter().filter_map(|s| s.rules.of(position)).collect();
            rules.len() >= 2 && rules.iter().any(|r| r.weight != 0.0) && self.scales[position] != 0.0
        };
        if !(0..self.scales.len()).any(matters) {
            return Ok(0.0);
        }
        let all: Vec<usize> = (0..self.names.len()).collect();
        let mut question = self.begun.clone().text("signs");
        for (source, s) in self.sources.iter().enumerate() {
            question = question.text(&self.question(source, &all).digest().to_string());
            for rule in all.iter().map(|&position| s.rules.of(position)) {
                question = question.number(rule.map_or(u64::MAX, |r| u64::from(r.threshold)));
            }
        }
        let question = question.digest();
        let total = match known.signs(&question) {
            Some(total) => total,
            None => {
                let total = survey.signs(&self.flat(all)?, stop)?;
                known.keep_signs(question, total);
                total
            }
        };
        Ok(total.signum() as f32)
    }

    /// What a source's elements in these tensors are before a trim, as the beginning of a question.
    fn question(&self, source: usize, positions: &[usize]) -> Question {
        let s = &self.sources[source];
        let own = s.own.as_ref().map_or("", |own| &own.opened.name);
        let mut question = self.begun.clone().text(&s.model.opened.name).text(own);
        question = question.text(&format!("{:?}", s.vocabulary));
        for &position in positions {
            let (drop, keep) = s.rules.drop(position);
            question = question.number(position as u64).number(u64::from(drop) << 32 | u64::from(keep));
        }
        question
    }
}

/// Runs `f(first element, count, place)` over the blocks of the chunk of that number.
fn each_block<O>(chunk: usize, out: &mut [O], per: usize, mut f: impl FnMut(usize, usize, &mut [O])) {
    for (b, out) in out.chunks_mut(BLOCK * per).enumerate() {
        f(chunk * CHUNK + b * BLOCK, out.len() / per, out);
    }
}
