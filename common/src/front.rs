//! The Pareto front: what nothing else beats in every objective.
//!
//! Dominance as usual (Deb et al. 2002, NSGA-II, section III): at least as large everywhere and larger somewhere.

use crate::fitness::Fitness;

/// Whether `a` is at least as good as `b` in every objective and better in one. Both have the same number.
pub fn dominates(a: &[Fitness], b: &[Fitness]) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b) && a.iter().zip(b).any(|(a, b)| a > b)
}

/// Positions of the vectors that none dominates, in order. Of equal ones each is in it.
///
/// One pass over a front that is kept: quick where the front is small against the number of vectors.
pub fn front(vectors: &[Vec<Fitness>]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for (i, vector) in vectors.iter().enumerate() {
        if kept.iter().any(|k| dominates(&vectors[*k], vector)) {
            continue;
        }
        kept.retain(|k| !dominates(vector, &vectors[*k]));
        kept.push(i);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(values: &[f64]) -> Vec<Fitness> {
        values.iter().map(|v| Fitness::new(*v).unwrap()).collect()
    }

    #[test]
    fn equal_vectors_do_not_dominate_each_other() {
        let (a, b) = (vector(&[1.0, 2.0]), vector(&[1.0, 1.0]));
        assert!(dominates(&a, &b) && !dominates(&b, &a) && !dominates(&a, &a));
        assert_eq!(front(&[a.clone(), b, a, vector(&[0.0, 3.0])]), [0, 2, 3]);
        assert!(front(&[]).is_empty());
    }

    proptest! {
        /// The one-pass front is the one that comparing every pair gives.
        #[test]
        fn agrees_with_the_definition(points in prop::collection::vec(prop::collection::vec(0u8..5, 3), 0..40)) {
            let vectors: Vec<_> = points.iter().map(|p| vector(&p.iter().map(|x| f64::from(*x)).collect::<Vec<_>>())).collect();
            let beaten = |i: usize| vectors.iter().any(|other| dominates(other, &vectors[i]));
            let expected: Vec<usize> = (0..vectors.len()).filter(|i| !beaten(*i)).collect();
            prop_assert_eq!(front(&vectors), expected);
        }
    }
}
