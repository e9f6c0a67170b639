//! Samples put into groups that run as one batch.
//!
//! A picture that is cut into more slices makes a longer prompt. Rows of one batch share their positions, so rows of one
//! form run together and each form by itself: every row is computed as it would be alone.

use candle_core::Tensor;

use super::Result;
use crate::model::{Features, Prompt};

/// Samples whose prompts are equal but for the features in the image's place.
#[derive(Clone, Debug)]
pub struct Group {
    /// Their numbers, ascending.
    pub samples: Vec<usize>,
    /// The prompt of all of them.
    pub prompt: Prompt,
    /// Their features, in the order of `samples`.
    pub features: Features,
}

/// A set of samples, each a prompt with an image's features.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    groups: Vec<Group>,
    samples: usize,
}

impl Questions {
    /// Groups samples, given in order: each its prompt and its image's features (P, D).
    ///
    /// # Errors
    /// What the tensor library reports, also when features of equal prompts differ in shape.
    pub fn new(samples: Vec<(Prompt, Tensor)>) -> Result<Self> {
        let count = samples.len();
        let mut forms: Vec<(Prompt, Vec<usize>, Vec<Tensor>)> = Vec::new();
        for (sample, (prompt, features)) in samples.into_iter().enumerate() {
            match forms.iter_mut().find(|(form, ..)| *form == prompt) {
                Some((_, numbers, rows)) => {
                    numbers.push(sample);
                    rows.push(features);
                }
                None => forms.push((prompt, vec![sample], vec![features])),
            }
        }
        let group = |(prompt, samples, rows): (Prompt, Vec<usize>, Vec<Tensor>)| {
            Ok(Group { samples, prompt, features: Features::stack(&rows)? })
        };
        Ok(Self { groups: forms.into_iter().map(group).collect::<Result<_>>()?, samples: count })
    }

    /// The groups, in the order of their first samples.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Samples in all groups together.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }
}
