//! What earlier merges found of the whole model, for those that ask the same: searches that vary weights alone, under fixed drop and
//! trim rates, then make no pass over the models before a merge.
//!
//! A threshold depends on a source's task vector, its mask and the rank; the sign for ties on all sources' masks and
//! thresholds. Neither depends on weights or on λ. Models are known by name: a [`super::Merger`] opens each once.

use super::masks::Masks;
use common::digest::Digest;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Answers that are kept of each kind. Where rates are searched for, none is asked for twice, and all go.
const MOST: usize = 4096;

/// Answers by the digest of their question.
#[derive(Debug, Default)]
pub(crate) struct Known {
    thresholds: Mutex<HashMap<Digest, u32>>,
    signs: Mutex<HashMap<Digest, i64>>,
    masks: Mutex<Masks>,
}

impl Known {
    pub(super) fn threshold(&self, question: &Digest) -> Option<u32> {
        get(&self.thresholds, question)
    }

    pub(super) fn keep_threshold(&self, question: Digest, bits: u32) {
        keep(&self.thresholds, question, bits);
    }

    pub(super) fn signs(&self, question: &Digest) -> Option<i64> {
        get(&self.signs, question)
    }

    pub(super) fn keep_signs(&self, question: Digest, total: i64) {
        keep(&self.signs, question, total);
    }

    /// The masks of the merge before.
    pub(super) fn masks(&self) -> Masks {
        self.masks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn keep_masks(&self, masks: Masks) {
        *self.masks.lock().unwrap_or_else(PoisonError::into_inner) = masks;
    }
}

fn get<V: Copy>(map: &Mutex<HashMap<Digest, V>>, question: &Digest) -> Option<V> {
    map.lock().unwrap_or_else(PoisonError::into_inner).get(question).copied()
}

fn keep<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>, question: K, answer: V) {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MOST {
        map.clear();
    }
    map.insert(question, answer);
}

/// A question, written down part by part. Each part says its length, so that no two questions read alike.
#[derive(Clone)]
pub(super) struct Question(blake3::Hasher);

impl Question {
    pub(super) fn of(kind: &str) -> Question {
        Question(blake3::Hasher::new()).text(kind)
    }

    pub(super) fn text(mut self, text: &str) -> Question {
        self.0.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        self
    }

    pub(super) fn number(mut self, number: u64) -> Question {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(super) fn digest(&self) -> Digest {
        self.0.finalize().into()
    }
}
