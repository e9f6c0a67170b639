//! Counting n-grams, the part that BLEU and ROUGE-N share.
//!
//! Tokens are numbers here: for characters their code points, for words their place in the reference's
//! vocabulary. A word that the reference lacks is [`UNSEEN`]; all such words may share one number because an
//! n-gram with one of them can never match. Four numbers fit in 128 bits, so counting is sorting.

use std::collections::HashMap;

/// Longest n-gram counted.
pub const MAX_ORDER: usize = 4;
/// Stands for every word that the reference does not have.
pub const UNSEEN: u32 = u32::MAX;

/// The words of a reference, numbered in order of first appearance.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    numbers: HashMap<Box<str>, u32>,
}

impl Vocabulary {
    /// Numbers the words of a reference and yields them as numbers.
    pub fn build<'a>(words: impl Iterator<Item = &'a str>) -> (Self, Vec<u32>) {
        let mut numbers: HashMap<Box<str>, u32> = HashMap::new();
        let tokens = words
            .map(|word| {
                let next = numbers.len() as u32;
                match numbers.get(word) {
                    Some(&number) => number,
                    None => *numbers.entry(word.into()).or_insert(next),
                }
            })
            .collect();
        (Self { numbers }, tokens)
    }

    /// The numbers of another text's words, [`UNSEEN`] where the reference lacks the word.
    pub fn encode<'a>(&self, words: impl Iterator<Item = &'a str>) -> Vec<u32> {
        words.map(|word| self.numbers.get(word).copied().unwrap_or(UNSEEN)).collect()
    }
}

/// All n-grams of one text up to [`MAX_ORDER`], sorted, repeated as often as they occur.
#[derive(Debug, Clone, Default)]
pub struct Ngrams {
    orders: [Vec<u128>; MAX_ORDER],
    /// Number of tokens in the text.
    pub len: usize,
}

impl Ngrams {
    /// Collects the n-grams of a text.
    pub fn new(tokens: &[u32]) -> Self {
        let mut orders: [Vec<u128>; MAX_ORDER] = Default::default();
        for (order, grams) in orders.iter_mut().enumerate() {
            grams.extend(
                tokens.windows(order + 1).map(|w| w.iter().fold(0, |key, &t| key << 32 | u128::from(t))),
            );
            grams.sort_unstable();
        }
        Self { orders, len: tokens.len() }
    }

    /// Number of n-grams of order `n`, from 1.
    pub fn total(&self, n: usize) -> usize {
        self.orders[n - 1].len()
    }

    /// Number of n-grams of order `n` that both texts have, each counted as often as in the text that has it
    /// less often.
    pub fn common(&self, other: &Self, n: usize) -> usize {
        let (a, b) = (&self.orders[n - 1], &other.orders[n - 1]);
        let (mut i, mut j, mut common) = (0, 0, 0);
        while i < a.len() && j < b.len() {
            match a[i].cmp(&b[j]) {
                std::cmp::Ordering::Less => i += 1,
                std::cmp::Ordering::Greater => j += 1,
                std::cmp::Ordering::Equal => {
                    common += 1;
                    i += 1;
                    j += 1;
                }
            }
        }
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_clipped() {
        let (vocabulary, reference) = Vocabulary::build("the cat is on the mat".split(' '));
        let prediction = vocabulary.encode("the the the the dog".split(' '));
        let (r, p) = (Ngrams::new(&reference), Ngrams::new(&prediction));
        assert_eq!(p.common(&r, 1), 2);
        assert_eq!(p.common(&r, 2), 0);
        assert_eq!((p.total(1), p.total(4), p.len), (5, 2, 5));
    }

    #[test]
    fn unseen_words_match_nothing() {
        let (vocabulary, reference) = Vocabulary::build(["a"].into_iter());
        assert_eq!(vocabulary.encode(["b", "a"].into_iter()), [UNSEEN, reference[0]]);
    }
}
