//! Vocabularies of different models, matched row by row.
//!
//! In: which token each model's `tokenizer.json` gives which number. Out: for every row of the output's embedding the
//! row of each model that stands for the same token ([`RowMap`], [`Alignment`]). Rows are looked up by number, so
//! nothing here holds a matrix; [`Alignment::tensor`] makes one model's aligned matrix where a method needs it whole.
//!
//! A token that a model lacks is filled in as mergekit does ([`Row`]): from the base if that has it, from the only
//! model that has it, else with the mean of those that do; rows beyond the tokens (padding) are the mean of all rows.
//! The paper's convention needs no filling in: where a row is missing there is no task vector.
//! Source: `mergekit/tokenizer/build.py` and `embed.py` of mergekit 0.1.5, with no token configured by hand.

use super::error::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// Tensors with one row per token, by their names in Llama.
const TENSORS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// Whether the rows of that tensor stand for tokens.
pub fn is_vocabulary(tensor: &str) -> bool {
    TENSORS.contains(&tensor)
}

/// Which number each token of a model has, added tokens included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    numbers: HashMap<String, u32>,
}

impl Tokens {
    /// Reads `tokenizer.json` of a model folder.
    ///
    /// # Errors
    /// [`Error::Tokens`] naming the file.
    pub fn read(folder: &Path) -> Result<Tokens> {
        let file = folder.join("tokenizer.json");
        let tokenizer = crate::generate::load_tokenizer(&file)
            .map_err(|reason| Error::Tokens { file: file.clone(), reason })?;
        Ok(Tokens { numbers: tokenizer.get_vocab(true).into_iter().collect() })
    }

    /// The number of a token.
    pub fn number(&self, token: &str) -> Option<u32> {
        self.numbers.get(token).copied()
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

impl FromIterator<(String, u32)> for Tokens {
    fn from_iter<I: IntoIterator<Item = (String, u32)>>(tokens: I) -> Tokens {
        Tokens { numbers: tokens.into_iter().collect() }
    }
}

/// For every row of an output matrix the row of one model's matrix, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowMap {
    rows: Vec<u32>,
}

/// Stands for "the model has no such row".
const ABSENT: u32 = u32::MAX;

impl RowMap {
    /// Rows by number: the leading rows that both have. `rows` of the output, `own` of the model.
    pub fn cut(rows: usize, own: usize) -> RowMap {
        RowMap { rows: (0..rows).map(|r| if r < own { number(r) } else { ABSENT }).collect() }
    }

    /// Rows by token. A row of the output that stands for no token, and a token whose number is not below the
    /// model's `own` rows, has none. Where one number stands for several tokens, the first in the order of their
    /// bytes that the model knows counts.
    pub fn align(output: &Tokens, rows: usize, model: &Tokens, own: usize) -> RowMap {
        let mut map = RowMap { rows: vec![ABSENT; rows] };
        let mut chosen: HashMap<u32, &str> = HashMap::new();
        for (token, &row) in &output.numbers {
            let found = model.number(token).filter(|&n| (n as usize) < own);
            let (Some(found), Some(place)) = (found, map.rows.get_mut(row as usize)) else { continue };
            let earlier = chosen.entry(row).or_insert(token);
            if token.as_str() <= *earlier {
                *earlier = token;
                *place = found;
            }
        }
        map
    }

    /// The model's row for a row of the output.
    pub fn get(&self, row: usize) -> Option<usize> {
        self.rows.get(row).filter(|&&r| r != ABSENT).map(|&r| r as usize)
    }

    /// Rows of the output.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the output has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows of the output that the model has none for.
    pub fn absent(&self) -> usize {
        self.rows.iter().filter(|&&r| r == ABSENT).count()
    }

    /// Whether every row is itself, so that nothing need be looked up in a matrix of `own` rows.
    pub fn is_identity(&self, own: usize) -> bool {
        self.rows.len() == own && self.rows.iter().zip(0u32..).all(|(&r, i)| r == i)
    }
}

/// A row's number as it is kept. Matrices of four thousand million rows do not occur: such a row is absent.
fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(ABSENT)
}

/// Where one row of a model's aligned matrix comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Its own row of that number.
    Own(usize),
    /// Another model's row: that of the base, or of the only model that has the token.
    Of {
        /// Position of the model.
        model: usize,
        /// Its row.
        row: usize,
    },
    /// The mean of these models' rows, in this order.
    Mean(Vec<(usize, usize)>),
    /// No model has the token: zeros.
    Zero,
    /// No token: the mean of all rows that stand for one.
    Padding,
}

/// N models' vocabularies matched to one output vocabulary.
#[derive(Clone, Debug)]
pub struct Alignment {
    maps: Vec<RowMap>,
    base: Option<usize>,
    /// Whether the row stands for a token.
    named: Vec<bool>,
    /// Rows whose source was chosen by hand, and whether that holds for models that have the token too.
    chosen: HashMap<usize, (Row, bool)>,
}

impl Alignment {
    /// Matches `models`, each with the number of rows that its matrix has, to an output of `rows` rows. `base` is the
    /// position of the model that others take missing rows from.
    ///
    /// # Panics
    /// When `base` is not a position in `models`.
    pub fn new(output: &Tokens, rows: usize, models: &[(&Tokens, usize)], base: Option<usize>) -> Alignment {
        assert!(base.is_none_or(|b| b < models.len()), "the base is one of the models");
        let maps = models.iter().map(|(tokens, own)| RowMap::align(output, rows, tokens, *own)).collect();
        let mut named = vec![false; rows];
        for &row in output.numbers.values() {
            if let Some(named) = named.get_mut(row as usize) {
                *named = true;
            }
        }
        Alignment { maps, base, named, chosen: HashMap::new() }
    }

    /// Chooses where a row comes from: in models that have none for its token or, with `force`, in all.
    pub fn set(&mut self, row: usize, from: Row, force: bool) {
        self.chosen.insert(row, (from, force));
    }

    /// Rows of the output.
    pub fn rows(&self) -> usize {
        self.named.len()
    }

    /// The rows that a model has itself.
    pub fn map(&self, model: usize) -> &RowMap {
        &self.maps[model]
    }

    /// Where a row of `model`'s aligned matrix comes from.
    pub fn row(&self, model: usize, row: usize) -> Row {
        let own = self.maps[model].get(row);
        if let Some((from, force)) = self.chosen.get(&row)
            && (*force || own.is_none())
        {
            return from.clone();
        }
        if let Some(own) = own {
            return Row::Own(own);
        }
        if !self.named[row] {
            return Row::Padding;
        }
        let having: Vec<(usize, usize)> =
            self.maps.iter().enumerate().filter_map(|(m, map)| Some((m, map.get(row)?))).collect();
        match (&having[..], self.base.and_then(|b| Some((b, self.maps[b].get(row)?)))) {
            ([], _) => Row::Zero,
            (&[(model, row)], _) | (_, Some((model, row))) => Row::Of { model, row },
            _ => Row::Mean(having),
        }
    }

    /// One model's aligned matrix, row by row of `columns` numbers. `fetch` writes a model's stored row; `round` rounds
    /// to the type that the peer computes in, after every addition and division. The mean for padding is summed in
    /// double precision and rounded once (the peer leaves the order of that sum to its library).
    ///
    /// # Panics
    /// When `out` has another length than rows × columns.
    pub fn tensor(
        &self,
        model: usize,
        columns: usize,
        mut fetch: impl FnMut(usize, usize, &mut [f32]),
        round: impl Fn(f32) -> f32,
        out: &mut [f32],
    ) {
        assert_eq!(out.len(), self.rows() * columns, "one place for every element");
        let (mut sums, mut named) = (vec![0f64; columns], 0u32);
        let mut term = vec![0f32; columns];
        let mut padding = Vec::new();
        for (row, out) in out.chunks_exact_mut(columns.max(1)).enumerate() {
            match self.row(model, row) {
                Row::Own(own) => fetch(model, own, out),
                Row::Of { model, row } => fetch(model, row, out),
                Row::Mean(having) => {
                    out.fill(0.0);
                    for &(model, row) in &having {
                        fetch(model, row, &mut term);
                        out.iter_mut().zip(&term).for_each(|(o, t)| *o = round(*o + t));
                    }
                    let count = having.len() as f32;
                    out.iter_mut().for_each(|o| *o = round(*o / count));
                }
                Row::Zero => out.fill(0.0),
                Row::Padding => {
                    padding.push(row);
                    continue;
                }
            }
            named += 1;
            sums.iter_mut().zip(&*out).for_each(|(s, o)| *s += f64::from(*o));
        }
        for row in padding {
            for (out, sum) in out[row * columns..][..columns].iter_mut().zip(&sums) {
                *out = round((sum / f64::from(named)) as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(list: &[(&str, u32)]) -> Tokens {
        list.iter().map(|(t, n)| (t.to_string(), *n)).collect()
    }

    #[test]
    fn rows_are_found_by_number_or_by_token() {
        let cut = RowMap::cut(4, 3);
        assert_eq!((0..4).map(|r| cut.get(r)).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), None]);
        assert!(RowMap::cut(3, 3).is_identity(3) && !RowMap::cut(3, 4).is_identity(4));
        let output = tokens(&[("a", 0), ("b", 1), ("c", 2), ("far", 9)]);
        let model = tokens(&[("b", 0), ("a", 2), ("c", 7)]);
        let map = RowMap::align(&output, 4, &model, 5);
        // "c" lies beyond the model's rows, row 3 stands for nothing.
        assert_eq!((0..5).map(|r| map.get(r)).collect::<Vec<_>>(), [Some(2), Some(0), None, None, None]);
        assert_eq!((map.len(), map.absent()), (4, 2));
    }

    #[test]
    fn one_number_for_two_tokens_does_not_depend_on_hashing() {
        let output = tokens(&[("x", 0), ("y", 0), ("z", 0)]);
        let model = tokens(&[("y", 4), ("z", 5)]);
        for _ in 0..20 {
            assert_eq!(RowMap::align(&output.clone(), 1, &model, 9).get(0), Some(4));
        }
    }

    #[test]
    fn missing_tokens_are_filled_in() {
        let base = tokens(&[("a", 0), ("b", 1)]);
        let first = tokens(&[("b", 0), ("c", 1), ("d", 2)]);
        let second = tokens(&[("d", 0), ("a", 1)]);
        let output = tokens(&[("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)]);
        let models = [(&base, 2), (&first, 3), (&second, 2)];
        let based = Alignment::new(&output, 6, &models, Some(0));
        let rows = |model| (0..6).map(|row| based.row(model, row)).collect::<Vec<_>>();
        let (of, mean) = (|model, row| Row::Of { model, row }, Row::Mean(vec![(1, 2), (2, 0)]));
        let zero = || Row::Zero;
        assert_eq!(rows(0), [Row::Own(0), Row::Own(1), of(1, 1), mean.clone(), zero(), Row::Padding]);
        assert_eq!(rows(2), [Row::Own(1), of(0, 1), of(1, 1), Row::Own(0), zero(), Row::Padding]);
        // What was chosen by hand goes before all of that.
        let mut chosen = based.clone();
        chosen.set(0, of(1, 0), true);
        chosen.set(3, zero(), false);
        assert_eq!((chosen.row(0, 0), chosen.row(1, 0)), (of(1, 0), of(1, 0)));
        assert_eq!((chosen.row(0, 3), chosen.row(1, 3)), (zero(), Row::Own(2)));
        // Without a base the models that have a token share it.
        let free = Alignment::new(&output, 6, &models, None);
        assert_eq!(free.row(2, 1), Row::Mean(vec![(0, 1), (1, 0)]));

        let mut out = [f32::NAN; 12];
        let fetch = |model: usize, row: usize, out: &mut [f32]| {
            out.copy_from_slice(&[(10 * model + row) as f32, 1.0]);
        };
        based.tensor(2, 2, fetch, |x| x, &mut out);
        let column: Vec<f32> = out.iter().step_by(2).copied().collect();
        // a: own 21; b: the base's 1; c: the first's 11; d: own 20; e: 0; padding: (21 + 1 + 11 + 20 + 0) / 5.
        assert_eq!(column, [21.0, 1.0, 11.0, 20.0, 0.0, 10.6]);
        assert_eq!(out[11], 0.8);
    }

    #[test]
    fn a_tokenizer_that_is_not_there_is_named() {
        let e = Tokens::read(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(e.starts_with("/nowhere/tokenizer.json") && e.contains("align"), "{e}");
    }
}
