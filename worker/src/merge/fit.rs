//! How one model's tensors stand to the base's: which rows of its vocabulary are whose, what it lacks, what it has more.

use super::block::Elements;
use super::error::{Error, Result};
use super::vocabulary::{RowMap, is_vocabulary};
use super::{Opened, elements};
use common::recipe::Vocabulary;
use std::collections::BTreeMap;

/// A model beside the base that its tensors are to fit.
pub(super) struct Fitted {
    pub(super) opened: Opened,
    /// For tensors whose rows are not the base's row by row.
    rows: BTreeMap<String, RowMap>,
}

/// How a model fits the base, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The model's name.
    pub model: String,
    /// Tensors of the base that it lacks.
    pub missing: Vec<String>,
    /// Tensors that it has beyond the base's, which a merge ignores.
    pub further: usize,
    /// Tensors whose rows are matched otherwise than one by one: name, matched rows, the base's rows.
    pub rows: Vec<(String, usize, usize)>,
}

impl Fit {
    /// Whether the model has all that the base has, row by row.
    pub fn is_plain(&self) -> bool {
        self.missing.is_empty() && self.rows.is_empty()
    }
}

impl std::fmt::Display for Fit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMED: usize = 3;
        let mut parts = Vec::new();
        match &self.missing[..] {
            [] => parts.push("has every tensor of the base".to_string()),
            missing => {
                let named = missing.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
                let more = if missing.len() > NAMED { ", …" } else { "" };
                parts.push(format!("lacks {} tensors of the base ({named}{more})", missing.len()));
            }
        }
        if self.further > 0 {
            parts.push(format!("{} further tensors are ignored", self.further));
        }
        for (tensor, matched, rows) in &self.rows {
            parts.push(format!("{tensor}: {matched} of {rows} rows matched"));
        }
        f.write_str(&parts.join("; "))
    }
}

impl Fitted {
    /// Matches the rows of `opened`'s vocabulary to those of `base`.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when they differ in number and nothing was chosen for that; [`Error::Tokens`] when a
    /// tokenizer that is needed cannot be read.
    pub(super) fn new(base: &Opened, opened: Opened, choice: Vocabulary) -> Result<Fitted> {
        let mut rows = BTreeMap::new();
        for tensor in base.model.names().filter(|n| is_vocabulary(n)) {
            let (Some(found), Some(expected)) = (opened.model.info(tensor), base.model.info(tensor)) else {
                continue;
            };
            let ([own, columns @ ..], [count, expected @ ..]) = (&found.shape[..], &expected.shape[..])
            else {
                continue;
            };
            // A difference beyond the rows is refused later, as for any tensor.
            if columns != expected || columns.contains(&0) {
                continue;
            }
            let map = match choice {
                Vocabulary::Refuse if own == count => continue,
                Vocabulary::Refuse => {
                    return Err(Error::Vocabulary {
                        file: opened.model.file_of(tensor).unwrap_or_default(),
                        tensor: tensor.into(),
                        model: opened.name.clone(),
                        found: *own,
                        base: base.name.clone(),
                        expected: *count,
                    });
                }
                Vocabulary::Cut => RowMap::cut(*count, *own),
                Vocabulary::Align => RowMap::align(&*base.tokens()?, *count, &*opened.tokens()?, *own),
            };
            if map.absent() == *count && *count > 0 {
                let reason = format!("no token of it is one of {}'s", base.name);
                return Err(Error::Tokens { file: opened.model.folder().join("tokenizer.json"), reason });
            }
            if !map.is_identity(*own) {
                rows.insert(tensor.to_string(), map);
            }
        }
        Ok(Fitted { opened, rows })
    }

    /// Whether the model has the tensor, in the base's shape and a type that merging reads.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Dtype`].
    pub(super) fn check(&self, base: &Opened, tensor: &str) -> Result<bool> {
        let (Some(found), Some(expected)) = (self.opened.model.info(tensor), base.model.info(tensor)) else {
            return Ok(false);
        };
        if found.shape != expected.shape && !self.rows.contains_key(tensor) {
            return Err(Error::Shape {
                tensor: tensor.into(),
                model: self.opened.name.clone(),
                found: found.shape.clone(),
                base: base.name.clone(),
                expected: expected.shape.clone(),
            });
        }
        elements(&self.opened, tensor).map(|_| true)
    }

    /// The tensor's elements with the base's rows.
    pub(super) fn elements(&self, tensor: &str) -> Result<Elements<'_>> {
        let stored = elements(&self.opened, tensor)?;
        let Some(map) = self.rows.get(tensor) else { return Ok(stored) };
        let columns = self.opened.model.info(tensor).map_or(1, |i| i.shape[1..].iter().product());
        Ok(stored.with_rows(map, columns))
    }

    /// What there is to say of it, where the merge makes `names`.
    pub(super) fn describe(&self, base: &Opened, names: &[String]) -> Fit {
        let missing: Vec<String> =
            names.iter().filter(|n| self.opened.model.info(n).is_none()).cloned().collect();
        let shared = base.model.names().filter(|n| self.opened.model.info(n).is_some()).count();
        let rows =
            self.rows.iter().map(|(n, map)| (n.clone(), map.len() - map.absent(), map.len())).collect();
        let further = self.opened.model.names().len() - shared;
        Fit { model: self.opened.name.clone(), missing, further, rows }
    }
}
