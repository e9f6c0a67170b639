//! A recipe's numbers, tensor by tensor: what each source's rule is where, and which tensors share a trim's threshold.
//!
//! A trim ranks the magnitudes of a *trim group*: of all tensors that share a case of the trim rate **and** of the drop
//! rate. The paper's recipe has one group, the whole model. Tensors of different drop rates are never ranked together:
//! their survivors are divided by different numbers, so that the drop rate would decide what the trim keeps. What two
//! groups' rates are does not matter: groups whose rates happen to be equal stay apart, so that the merge changes
//! smoothly as they pass each other.

use super::error::{Error, Result};
use super::field::{DROP_ALL, drop_limit};
use super::paper::Rule;
use common::amount::{Amount, Held};
use common::group::{Group, Stack};
use common::recipe::SourceTerm;
use std::collections::BTreeMap;

/// What makes a trim group: the group of the trim rate, and that of the drop rate.
type Key = (Option<Group>, Option<Group>);

/// One source's rules.
#[derive(Debug)]
pub(super) struct Rules {
    /// By tensor, in the order of the merge's names.
    each: Vec<TensorRule>,
    /// The trim groups.
    pub(super) groups: Vec<TrimGroup>,
}

/// What holds for one tensor.
#[derive(Clone, Copy, Debug)]
struct TensorRule {
    rule: Rule,
    group: usize,
}

/// Tensors that are ranked together.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrimGroup {
    /// Share of their elements that is zeroed.
    pub(super) rate: f64,
    /// False when nothing of them is left: everything dropped or trimmed.
    pub(super) live: bool,
}

/// The number that holds for a tensor.
pub(super) fn at(amount: &Amount, what: &str, tensor: &str, stack: &Stack) -> Result<Held> {
    amount.at(tensor, stack).ok_or_else(|| Error::NoCase { tensor: tensor.into(), number: what.into() })
}

impl Rules {
    /// The rules of a source for the tensors that are merged; thresholds are still unknown.
    pub(super) fn new(term: &SourceTerm, tensors: &[String], stack: &Stack) -> Result<Rules> {
        let name = &term.model.name;
        let mut keys: BTreeMap<Key, usize> = BTreeMap::new();
        let (mut each, mut groups) = (Vec::with_capacity(tensors.len()), Vec::new());
        for tensor in tensors {
            let held = |what: &str, amount| at(amount, &format!("{what} of {name}"), tensor, stack);
            let weight = held("weight", &term.weight)?;
            let (drop, trim) = (held("drop_rate", &term.drop_rate)?, held("trim_rate", &term.trim_rate)?);
            let limit = drop_limit(drop.value);
            let group = *keys.entry((trim.group, drop.group)).or_insert_with(|| {
                groups.push(TrimGroup { rate: trim.value, live: limit < DROP_ALL });
                groups.len() - 1
            });
            let keep = (1.0 - drop.value) as f32;
            let rule = Rule { weight: weight.value as f32, drop: limit, keep, threshold: 0 };
            each.push(TensorRule { rule, group });
        }
        Ok(Rules { each, groups })
    }

    /// The rule of the merged tensor of that position; `None` where nothing of the source is left in it.
    pub(super) fn of(&self, position: usize) -> Option<Rule> {
        let TensorRule { rule, group } = self.each[position];
        self.groups[group].live.then_some(rule)
    }

    /// The bound of the drop rate there, see [`drop_limit`], and the bits of what survivors are divided by.
    pub(super) fn drop(&self, position: usize) -> (u32, u32) {
        let rule = self.each[position].rule;
        (rule.drop, rule.keep.to_bits())
    }

    /// The weight there.
    pub(super) fn weight(&self, position: usize) -> f32 {
        self.each[position].rule.weight
    }

    /// The positions of a trim group's tensors, rising.
    pub(super) fn members(&self, group: usize) -> Vec<usize> {
        (0..self.each.len()).filter(|&position| self.each[position].group == group).collect()
    }

    /// Sets the threshold of a group.
    pub(super) fn set_threshold(&mut self, group: usize, bits: u32) {
        for tensor in self.each.iter_mut().filter(|t| t.group == group) {
            tensor.rule.threshold = bits;
        }
    }
}
