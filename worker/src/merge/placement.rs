//! Where a merge goes in the VLM: tensors by name, rows of a vocabulary of another size by number or by token.
//!
//! The merge has the base's rows. In a VLM with more of them, or other ones, the rows that both have are replaced and
//! all others stay the VLM's own, in the VLM's order and number.
//! What a base has beyond the VLM's language model is left out, see `language.rs`.

use super::Opened;
use super::error::{Error, Result};
use super::language::{Language, Place, is_merged};
use super::prepare::Prepared;
use super::vocabulary::{RowMap, Tokens, is_vocabulary};
use crate::checkpoint::{Checkpoint, Dtype};
use common::recipe::Vocabulary;
use std::collections::{BTreeMap, BTreeSet};

/// The checked place of a merge in a VLM.
#[derive(Debug, Default)]
pub struct Placement {
    /// For tensors whose rows are not the base's row by row: the merge's row for every row of the VLM.
    rows: BTreeMap<String, RowMap>,
    /// The base's tensors that are not merged into the VLM.
    skipped: BTreeSet<String>,
}

impl Placement {
    /// Checks that every merged tensor of `base` that a Llama has, has its place in `vlm`, which recipes call `model`.
    pub(super) fn new(base: &Opened, model: &str, vlm: &Checkpoint, choice: Vocabulary) -> Result<Placement> {
        let mut rows = BTreeMap::new();
        let mut skipped = BTreeSet::new();
        let mut known = None;
        let language = Language::of(vlm);
        for name in base.model.names() {
            if language.place(name) == Place::Skipped || !is_merged(&base.model, name) {
                skipped.insert(name.to_string());
                continue;
            }
            let Some(found) = vlm.info(name).filter(|_| language.place(name) == Place::Taken) else {
                let why = "whose language model the merge replaces";
                return Err(Error::Missing { tensor: name.into(), model: model.into(), why });
            };
            let shape = base.model.info(name).map(|i| i.shape.clone()).unwrap_or_default();
            let token_rows = match (&found.shape[..], &shape[..]) {
                ([own, columns @ ..], [rows, others @ ..]) if is_vocabulary(name) && columns == others => {
                    Some((*own, *rows))
                }
                _ => None,
            };
            let map = match (token_rows, choice) {
                (Some((own, rows)), Vocabulary::Cut) => Some(RowMap::cut(own, rows)),
                (Some((own, rows)), Vocabulary::Align) => {
                    let tokens = match known.take() {
                        Some(tokens) => tokens,
                        None => Tokens::read(vlm.folder())?,
                    };
                    let map = RowMap::align(&tokens, own, &*base.tokens()?, rows);
                    known = Some(tokens);
                    Some(map)
                }
                (Some((own, rows)), Vocabulary::Refuse) if own != rows => {
                    return Err(Error::Vocabulary {
                        file: vlm.file_of(name).unwrap_or_default(),
                        tensor: name.into(),
                        model: model.into(),
                        found: own,
                        base: base.name.clone(),
                        expected: rows,
                    });
                }
                _ => None,
            };
            match map {
                Some(map) if !map.is_identity(shape[0]) => drop(rows.insert(name.to_string(), map)),
                Some(_) => {}
                None if found.shape != shape => {
                    return Err(Error::Shape {
                        tensor: name.into(),
                        model: model.into(),
                        found: found.shape.clone(),
                        base: base.name.clone(),
                        expected: shape,
                    });
                }
                None => {}
            }
            if !found.dtype.mergeable() {
                return Err(Error::Dtype {
                    tensor: name.into(),
                    model: model.into(),
                    dtype: found.dtype.name(),
                });
            }
        }
        Ok(Placement { rows, skipped })
    }

    /// Tensors of which the VLM keeps rows of its own, or has them in another order: name, replaced rows, all rows.
    pub fn resized(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.rows.iter().map(|(name, map)| (name.as_str(), map.len() - map.absent(), map.len()))
    }

    /// Tensors of the base that are not merged into the VLM, sorted: it has no place for them, or they are not of
    /// floating point.
    pub fn skipped(&self) -> impl ExactSizeIterator<Item = &str> {
        self.skipped.iter().map(String::as_str)
    }

    /// What there is to say of them, for people.
    pub fn note(&self) -> Option<String> {
        const NAMED: usize = 3;
        let named: Vec<&str> = self.skipped().take(NAMED).collect();
        let more = if self.skipped.len() > NAMED { ", …" } else { "" };
        (!named.is_empty()).then(|| {
            format!(
                "{} tensors of the base are left out: they are no weights of the VLM's language model ({}{more})",
                self.skipped.len(),
                named.join(", ")
            )
        })
    }

    /// Whether the VLM's tensor of that name is the merge's as a whole.
    pub fn is_whole(&self, name: &str) -> bool {
        !self.rows.contains_key(name)
    }

    /// The VLM's tensor of that name with the merge in its place: little-endian bytes in the VLM's type and shape.
    /// `out` is overwritten. `vlm` is the model that the placement was made for.
    ///
    /// # Errors
    /// As [`Prepared::tensor_bytes`].
    pub fn tensor_bytes(
        &self,
        prepared: &Prepared,
        vlm: &Checkpoint,
        name: &str,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let stored = vlm.elements(name)?;
        let dtype = vlm.info(name).map_or(Dtype::U8, |i| i.dtype);
        out.clear();
        let elements = prepared.info(name).map_or(0, |i| i.elements);
        let Some(map) = self.rows.get(name) else {
            out.resize(elements * dtype.width(), 0);
            return prepared.tensor_bytes(name, dtype, out);
        };
        let mut merged = vec![0; elements * dtype.width()];
        prepared.tensor_bytes(name, dtype, &mut merged)?;
        let row_bytes = stored.len() / map.len().max(1);
        out.extend_from_slice(&stored);
        for (row, place) in out.chunks_exact_mut(row_bytes.max(1)).enumerate() {
            if let Some(from) = map.get(row) {
                place.copy_from_slice(&merged[from * row_bytes..][..row_bytes]);
            }
        }
        Ok(())
    }
}
