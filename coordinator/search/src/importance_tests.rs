use super::*;
use serde::Deserialize;

/// Sums over boxes in another order.
const AGREES: f64 = 1e-10;

#[derive(Deserialize)]
struct Reference {
    trees: Vec<SkTree>,
    studies: Vec<StudyCase>,
}

#[derive(Deserialize)]
struct SkTree {
    feature: Vec<i64>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    value: Vec<f64>,
    variance: f64,
    /// Coordinates and the variance of their marginal.
    marginals: Vec<(Vec<usize>, f64)>,
}

#[derive(Deserialize)]
struct StudyCase {
    /// 0 a float, k > 0 a category of k values.
    kinds: Vec<u32>,
    points: Vec<Vec<f64>>,
    values: Vec<f64>,
    /// optuna's mean over ten seeds, and the deviation among them.
    shares: Vec<f64>,
    deviations: Vec<f64>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../tests/data/importance_reference.json")).unwrap()
}

#[test]
fn variances_of_a_tree_are_optunas() {
    for t in &reference().trees {
        let node = |i: usize| match t.feature[i] {
            f if f < 0 => Node::Leaf(t.value[i]),
            f => Node::Split {
                coordinate: f as usize,
                rule: Rule::UpTo(t.threshold[i]),
                left: t.left[i] as usize,
                right: t.right[i] as usize,
            },
        };
        let tree = Tree { nodes: (0..t.feature.len()).map(node).collect() };
        let boxes = Boxes::of(&tree, &[Dimension::Real; 3]);
        assert!((boxes.variance() - t.variance).abs() < AGREES);
        assert_eq!(t.marginals.len(), 6);
        for (coordinates, variance) in &t.marginals {
            let ours = boxes.variance_of(coordinates);
            assert!((ours - variance).abs() < AGREES, "{coordinates:?}: {ours} {variance}");
        }
    }
}

/// Other bootstraps and other ties: as far from optuna's mean as its own seeds are from each other (four deviations of a
/// single one), and 0.02 for what differs on purpose (categories as sets, not columns).
#[test]
fn shares_and_ranks_are_optunas() {
    for case in &reference().studies {
        let kind = |k: &u32| if *k == 0 { Dimension::Real } else { Dimension::Category(*k) };
        let dimensions: Vec<Dimension> = case.kinds.iter().map(kind).collect();
        let results: Vec<(Vec<f64>, f64)> =
            case.points.iter().cloned().zip(case.values.iter().copied()).collect();
        let found = importance(&dimensions, &results, &mut Stream::new(1, "importance")).unwrap();
        for (i, share) in found.alone.iter().enumerate() {
            let tolerance = 0.02 + 4.0 * case.deviations[i];
            assert!(tolerance < 0.12, "a tolerance that says nothing: {tolerance}");
            let off = (share.mean - case.shares[i]).abs();
            assert!(off < tolerance, "{i}: {} here, {} there", share.mean, case.shares[i]);
        }
        let rank = |v: Vec<f64>| {
            let mut order: Vec<usize> = (0..v.len()).filter(|i| case.shares[*i] > 0.05).collect();
            order.sort_by(|a, b| v[*b].total_cmp(&v[*a]));
            order
        };
        assert_eq!(rank(found.alone.iter().map(|s| s.mean).collect()), rank(case.shares.clone()));
    }
}

fn even(n: usize, dimensions: usize, f: impl Fn(&[f64]) -> f64) -> Vec<(Vec<f64>, f64)> {
    let mut stream = Stream::new(8, "points");
    let point = |_| (0..dimensions).map(|_| stream.uniform()).collect::<Vec<f64>>();
    let points: Vec<Vec<f64>> = (0..n).map(point).collect();
    points.into_iter().map(|x| (x.clone(), f(&x))).collect()
}

#[test]
fn a_product_is_all_in_its_pair() {
    // Around its middle neither factor explains anything alone.
    let results = even(600, 3, |x| (x[0] - 0.5) * (x[2] - 0.5));
    let found = importance(&[Dimension::Real; 3], &results, &mut Stream::new(1, "importance")).unwrap();
    assert_eq!((found.pairs[0].0, found.pairs[0].1), (0, 2));
    assert!(found.pairs[0].2.mean > 0.6, "{found:?}");
    assert!(found.alone.iter().all(|s| s.mean < 0.12), "{found:?}");
    let sum: f64 = found.alone.iter().map(|s| s.mean).sum::<f64>();
    assert!(sum + found.pairs.iter().map(|p| p.2.mean).sum::<f64>() < 1.0 + 1e-9);
}

#[test]
fn categories_count_as_sets() {
    let dimensions = [Dimension::Category(5), Dimension::Real];
    // Two of five are good: no interval of the five holds just them.
    let good = |x: f64| f64::from([1, 4].contains(&dimensions[0].index(x).unwrap()));
    let results = even(200, 2, |x| good(x[0]));
    let found = importance(&dimensions, &results, &mut Stream::new(1, "importance")).unwrap();
    assert!(found.alone[0].mean > 0.99, "{found:?}");
}

#[test]
fn what_tells_nothing_is_said_so() {
    let mut stream = Stream::new(1, "importance");
    assert_eq!(importance(&[], &[], &mut stream), Err(Unknown::Fixed));
    let dimensions = [Dimension::Real];
    assert_eq!(importance(&dimensions, &even(3, 1, |x| x[0]), &mut stream), Err(Unknown::Few(3)));
    assert_eq!(importance(&dimensions, &even(9, 1, |_| 2.0), &mut stream), Err(Unknown::Equal));
    // One parameter explains everything, at any scale; more rows than are used are no matter.
    let found = importance(&dimensions, &even(2500, 1, |x| x[0] * 1e300), &mut stream).unwrap();
    assert_eq!(found.results, ROWS);
    assert!((found.alone[0].mean - 1.0).abs() < 1e-9 && found.pairs.is_empty(), "{found:?}");
    // All points at one place, scores apart: no tree can split.
    let same: Vec<(Vec<f64>, f64)> = (0..9).map(|i| (vec![0.5], f64::from(i))).collect();
    assert_eq!(importance(&dimensions, &same, &mut stream), Err(Unknown::Equal));
}
