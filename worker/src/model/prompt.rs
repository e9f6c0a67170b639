//! Token ids and image features in one sequence.

use candle_core::Tensor;

use super::error::{Error, Result};
use super::llama::Llama;

/// A part of what stands in an image's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many of the image's feature rows, the next ones in order.
    Rows(usize),
    /// Marks between feature rows.
    Ids(Vec<u32>),
}

/// A prompt in token ids, cut where the image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Ids before the image, the begin-of-text id included. The same for all images.
    pub before: Vec<u32>,
    /// What stands in the image's place.
    pub image: Vec<Piece>,
    /// Ids after the image.
    pub after: Vec<u32>,
}

impl Prompt {
    /// A prompt around an image of `rows` feature rows without marks.
    pub fn around(before: Vec<u32>, rows: usize, after: Vec<u32>) -> Self {
        Self { before, image: vec![Piece::Rows(rows)], after }
    }

    /// Positions that the whole prompt takes.
    pub fn positions(&self) -> usize {
        let image = self.image.iter().map(|piece| match piece {
            Piece::Rows(rows) => *rows,
            Piece::Ids(ids) => ids.len(),
        });
        self.before.len() + image.sum::<usize>() + self.after.len()
    }

    /// Feature rows P that it takes.
    pub fn rows(&self) -> usize {
        let rows = self.image.iter().map(|piece| if let Piece::Rows(rows) = piece { *rows } else { 0 });
        rows.sum()
    }

    /// Embeddings of the part that all samples share: (1, L, D), L possibly zero.
    ///
    /// # Errors
    /// [`Error::Argument`] for an id outside the vocabulary.
    pub fn embed_shared(&self, language: &Llama) -> Result<Tensor> {
        Ok(language.embed(&self.before)?.unsqueeze(0)?)
    }

    /// Embeddings of the rest, for the images given: features (B, P, D) to (B, L, D).
    ///
    /// # Errors
    /// [`Error::Argument`] for an id outside the vocabulary or features of another shape.
    pub fn embed_rest(&self, language: &Llama, features: &Tensor) -> Result<Tensor> {
        let (b, p, d) = features.dims3()?;
        let hidden_size = language.config().hidden_size;
        if p != self.rows() || d != hidden_size {
            return Err(Error::Argument {
                what: "image features",
                expected: format!("(B, {}, {hidden_size})", self.rows()),
                got: format!("{:?}", features.dims()),
            });
        }
        let features = features.to_device(language.device())?.to_dtype(language.dtype())?;
        let text = |ids: &[u32]| -> Result<Tensor> {
            let embedded = language.embed(ids)?.unsqueeze(0)?;
            Ok(embedded.broadcast_as((b, ids.len(), d))?.contiguous()?)
        };
        let mut parts = Vec::with_capacity(self.image.len() + 1);
        let mut from = 0;
        for piece in &self.image {
            match piece {
                Piece::Rows(rows) => {
                    parts.push(features.narrow(1, from, *rows)?);
                    from += rows;
                }
                Piece::Ids(ids) => parts.push(text(ids)?),
            }
        }
        if !self.after.is_empty() {
            parts.push(text(&self.after)?);
        }
        Ok(match parts.as_slice() {
            [only] => only.contiguous()?,
            _ => Tensor::cat(&parts, 1)?,
        })
    }
}
