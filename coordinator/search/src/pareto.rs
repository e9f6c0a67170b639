//! Several objectives: who dominates whom, fronts, crowding, and the volume that a front dominates.
//!
//! Source: K. Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6
//! (2002): fast non-dominated sort (section III-A) and crowding distance (III-B). Larger is better in each objective.
//! `tests/data/pareto_reference.json` holds ranks, crowding and hypervolumes of optuna 5.0.0 and pymoo 0.6.2.

use common::fitness::Fitness;

/// Whether `a` is at least as good as `b` in every objective and better in one.
pub fn dominates(a: &[Fitness], b: &[Fitness]) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b) && a.iter().zip(b).any(|(a, b)| a > b)
}

/// Positions of the points that no other one dominates, in order. Equal points are all in it.
pub fn front(points: &[Vec<Fitness>]) -> Vec<usize> {
    // A point can only be dominated by one that comes before it when sorted from best to worst by all objectives, and
    // if by any, then by one of the front: most comparisons fall away.
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| points[*b].cmp(&points[*a]));
    let mut found: Vec<usize> = Vec::new();
    for i in order {
        if !found.iter().any(|j| dominates(&points[*j], &points[i])) {
            found.push(i);
        }
    }
    found.sort_unstable();
    found
}

/// The front's number of every point: 0 for the first front, 1 for what it alone dominates, and so on.
pub fn ranks(points: &[Vec<Fitness>]) -> Vec<usize> {
    let n = points.len();
    let mut dominated_by = vec![0usize; n];
    let mut dominating: Vec<Vec<usize>> = vec![Vec::new(); n];
    for i in 0..n {
        for j in i + 1..n {
            let (better, worse) = match () {
                () if dominates(&points[i], &points[j]) => (i, j),
                () if dominates(&points[j], &points[i]) => (j, i),
                () => continue,
            };
            dominating[better].push(worse);
            dominated_by[worse] += 1;
        }
    }
    let mut ranks = vec![0; n];
    let mut current: Vec<usize> = (0..n).filter(|i| dominated_by[*i] == 0).collect();
    let mut rank = 0;
    while !current.is_empty() {
        let mut next = Vec::new();
        for i in current {
            ranks[i] = rank;
            for j in &dominating[i] {
                dominated_by[*j] -= 1;
                if dominated_by[*j] == 0 {
                    next.push(*j);
                }
            }
        }
        current = next;
        rank += 1;
    }
    ranks
}

/// The crowding distance of every point of one front; infinite at the ends of each objective.
pub fn crowding(points: &[Vec<Fitness>]) -> Vec<f64> {
    let n = points.len();
    let objectives = points.first().map_or(0, Vec::len);
    let mut distances = vec![0.0; n];
    for m in 0..objectives {
        let values: Vec<Fitness> = points.iter().map(|p| p[m]).collect();
        // Halved, so that differences of extreme numbers are finite.
        let value = |i: usize| values[i].value() / 2.0;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|i| values[*i]);
        let (low, high) = (order[0], order[n - 1]);
        let range = value(high) - value(low);
        distances[low] = f64::INFINITY;
        distances[high] = f64::INFINITY;
        if range > 0.0 {
            for w in order.windows(3) {
                distances[w[1]] += (value(w[2]) - value(w[0])) / range;
            }
        }
    }
    distances
}

/// The volume between `reference` and the points that are better than it in every objective.
///
/// By cutting along the last objective into slabs; meant for a few hundred points of two to four objectives.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let Some((last, reference_before)) = reference.split_last() else { return 0.0 };
    let better = |p: &&Vec<f64>| p.iter().zip(reference).all(|(p, r)| p > r);
    let mut points: Vec<&Vec<f64>> = points.iter().filter(better).collect();
    let at = reference.len() - 1;
    if at == 0 {
        return points.iter().map(|p| p[0] - last).fold(0.0, f64::max);
    }
    points.sort_by(|a, b| b[at].total_cmp(&a[at]));
    let mut volume = 0.0;
    for i in 0..points.len() {
        let below = points.get(i + 1).map_or(*last, |p| p[at]);
        let height = points[i][at] - below;
        if height > 0.0 {
            let slab: Vec<Vec<f64>> = points[..=i].iter().map(|p| p[..at].to_vec()).collect();
            volume += height * hypervolume(&slab, reference_before);
        }
    }
    volume
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// Sums of a few dozen numbers in another order.
    const AGREES: f64 = 1e-12;

    #[derive(Deserialize)]
    struct Reference {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        points: Vec<Vec<f64>>,
        ranks: Vec<usize>,
        /// Of the points of the first front, in order; `None` is infinite.
        crowding: Vec<Option<f64>>,
        reference: Vec<f64>,
        hypervolume: f64,
    }

    #[test]
    fn ranks_crowding_and_volume_are_those_of_the_peers() {
        let text = include_str!("../tests/data/pareto_reference.json");
        let reference: Reference = serde_json::from_str(text).unwrap();
        assert!(reference.cases.len() > 4);
        for case in &reference.cases {
            let fitness = |p: &Vec<f64>| p.iter().map(|x| Fitness::new(*x).unwrap()).collect::<Vec<_>>();
            let points: Vec<Vec<Fitness>> = case.points.iter().map(fitness).collect();
            assert_eq!(ranks(&points), case.ranks);
            let first: Vec<usize> = (0..points.len()).filter(|i| case.ranks[*i] == 0).collect();
            assert_eq!(front(&points), first);
            let members: Vec<Vec<Fitness>> = first.iter().map(|i| points[*i].clone()).collect();
            for (ours, theirs) in crowding(&members).iter().zip(&case.crowding) {
                match theirs {
                    Some(d) => assert!((ours - d).abs() < AGREES, "{ours} {d}"),
                    None => assert!(ours.is_infinite()),
                }
            }
            let volume = hypervolume(&case.points, &case.reference);
            assert!((volume / case.hypervolume - 1.0).abs() < AGREES, "{volume} {}", case.hypervolume);
        }
    }

    #[test]
    fn equal_points_share_a_front_and_nothing_has_none() {
        let f = |x: f64| Fitness::new(x).unwrap();
        let points = vec![vec![f(1.0), f(2.0)], vec![f(1.0), f(2.0)], vec![f(1.0), f(1.0)]];
        assert_eq!((front(&points), ranks(&points)), (vec![0, 1], vec![0, 0, 1]));
        assert!(front(&[]).is_empty() && ranks(&[]).is_empty() && crowding(&[]).is_empty());
        assert_eq!(hypervolume(&[], &[0.0, 0.0]), 0.0);
        // One objective: the front is everything that ties with the best.
        assert_eq!(front(&[vec![f(1.0)], vec![f(3.0)], vec![f(3.0)]]), [1, 2]);
    }

    proptest::proptest! {
        /// The sorted pass finds the front that comparing every pair gives.
        #[test]
        fn the_front_is_the_definitions(
            points in proptest::collection::vec(proptest::collection::vec(0u8..5, 3), 0..40),
        ) {
            let fitness = |p: &Vec<u8>| p.iter().map(|x| Fitness::new(f64::from(*x)).unwrap()).collect();
            let points: Vec<Vec<Fitness>> = points.iter().map(fitness).collect();
            let beaten = |i: usize| points.iter().any(|other| dominates(other, &points[i]));
            let expected: Vec<usize> = (0..points.len()).filter(|i| !beaten(*i)).collect();
            proptest::prop_assert_eq!(front(&points), expected);
        }
    }
}
