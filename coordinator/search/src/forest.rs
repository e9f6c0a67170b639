//! A random forest for regression: what a finished search looks like, as boxes of the cube.
//!
//! Source: L. Breiman, "Random Forests", Machine Learning 45 (2001), with the settings of scikit-learn's
//! `RandomForestRegressor` as optuna 5.0.0 uses it: every tree on a bootstrap of all rows, every coordinate tried at every
//! split, the split of the least squared error half-way between two values, down to leaves of one value.
//!
//! Categories are split into two sets, by the order of their means, which holds the best pair of sets (W. D. Fisher 1958);
//! optuna codes them as one column a value.

use super::Dimension;
use common::seed::Stream;

/// Rows of coordinates, and a number for each.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub points: Vec<Vec<f64>>,
    pub values: Vec<f64>,
}

/// A tree: its first node is the root.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Leaf(f64),
    Split { coordinate: usize, rule: Rule, left: usize, right: usize },
}

/// What goes left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Coordinates up to this.
    UpTo(f64),
    /// Categories that are marked.
    Marked(Vec<bool>),
}

/// A split under consideration: larger gains are better.
struct Found {
    gain: f64,
    coordinate: usize,
    rule: Rule,
}

/// So many trees on bootstraps of the rows. Every tree has a root, if only a leaf.
pub(crate) fn grow(rows: &Rows, dimensions: &[Dimension], trees: usize, stream: &mut Stream) -> Vec<Tree> {
    let n = rows.values.len();
    let tree = |_| {
        let pick = |_| ((stream.uniform() * n as f64) as usize).min(n - 1);
        let sample: Vec<usize> = (0..n).map(pick).collect();
        let mut tree = Tree { nodes: Vec::new() };
        tree.grow(rows, dimensions, sample, stream);
        tree
    };
    (0..trees).map(tree).collect()
}

impl Tree {
    /// Adds the nodes of a sample; not by recursion, since a tree may be as deep as it has rows.
    fn grow(&mut self, rows: &Rows, dimensions: &[Dimension], sample: Vec<usize>, stream: &mut Stream) {
        self.nodes.push(Node::Leaf(0.0));
        let mut open = vec![(0, sample)];
        while let Some((at, sample)) = open.pop() {
            let mean = sample.iter().map(|i| rows.values[*i]).sum::<f64>() / sample.len() as f64;
            let Some(found) = best_split(rows, dimensions, &sample, stream) else {
                self.nodes[at] = Node::Leaf(mean);
                continue;
            };
            let Found { coordinate, rule, .. } = found;
            let goes_left = |i: &usize| rule.takes(dimensions[coordinate], rows.points[*i][coordinate]);
            let (lefts, rights): (Vec<usize>, Vec<usize>) = sample.into_iter().partition(goes_left);
            let (left, right) = (self.nodes.len(), self.nodes.len() + 1);
            self.nodes.extend([Node::Leaf(mean), Node::Leaf(mean)]);
            self.nodes[at] = Node::Split { coordinate, rule, left, right };
            open.extend([(left, lefts), (right, rights)]);
        }
    }
}

impl Rule {
    fn takes(&self, dimension: Dimension, x: f64) -> bool {
        match self {
            Rule::UpTo(threshold) => x <= *threshold,
            Rule::Marked(marked) => dimension.index(x).is_some_and(|i| marked[i as usize]),
        }
    }
}

/// The split of the least squared error over all coordinates; `None` where nothing differs.
fn best_split(rows: &Rows, dimensions: &[Dimension], sample: &[usize], stream: &mut Stream) -> Option<Found> {
    let first = rows.values[*sample.first()?];
    if sample.iter().all(|i| rows.values[*i] == first) {
        return None;
    }
    // Coordinates of equal gain take turns, or the first of two that say the same would get it all.
    let turn = (stream.uniform() * dimensions.len() as f64) as usize;
    let mut best: Option<Found> = None;
    for k in 0..dimensions.len() {
        let coordinate = (turn + k) % dimensions.len();
        let found = match dimensions[coordinate] {
            Dimension::Category(count) => split_sets(rows, sample, coordinate, count),
            _ => split_line(rows, sample, coordinate),
        };
        if let Some(found) = found
            && best.as_ref().is_none_or(|b| found.gain > b.gain)
        {
            best = Some(found);
        }
    }
    best
}

/// Σ² / n of both parts: what the squared error falls by, but for a constant.
fn gain(left: (f64, f64), right: (f64, f64)) -> f64 {
    left.0 * left.0 / left.1 + right.0 * right.0 / right.1
}

fn split_line(rows: &Rows, sample: &[usize], coordinate: usize) -> Option<Found> {
    let mut pairs: Vec<(f64, f64)> =
        sample.iter().map(|i| (rows.points[*i][coordinate], rows.values[*i])).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let whole = (pairs.iter().map(|p| p.1).sum::<f64>(), pairs.len() as f64);
    let mut left = (0.0, 0.0);
    let mut best: Option<(f64, f64)> = None;
    for pair in pairs.windows(2) {
        left = (left.0 + pair[0].1, left.1 + 1.0);
        let threshold = 0.5 * (pair[0].0 + pair[1].0);
        // Two neighbours without a number between them cannot be told apart.
        if pair[0].0 == pair[1].0 || threshold >= pair[1].0 {
            continue;
        }
        let gain = gain(left, (whole.0 - left.0, whole.1 - left.1));
        if best.is_none_or(|(g, _)| gain > g) {
            best = Some((gain, threshold));
        }
    }
    best.map(|(gain, threshold)| Found { gain, coordinate, rule: Rule::UpTo(threshold) })
}

fn split_sets(rows: &Rows, sample: &[usize], coordinate: usize, count: u32) -> Option<Found> {
    let dimension = Dimension::Category(count);
    let mut sums = vec![(0.0, 0.0); dimension.count()? as usize];
    for i in sample {
        let sum = &mut sums[dimension.index(rows.points[*i][coordinate])? as usize];
        *sum = (sum.0 + rows.values[*i], sum.1 + 1.0);
    }
    let mut order: Vec<usize> = (0..sums.len()).filter(|c| sums[*c].1 > 0.0).collect();
    order.sort_by(|a, b| (sums[*a].0 / sums[*a].1).total_cmp(&(sums[*b].0 / sums[*b].1)));
    let whole = order.iter().fold((0.0, 0.0), |w, c| (w.0 + sums[*c].0, w.1 + sums[*c].1));
    let (mut left, mut best) = ((0.0, 0.0), None::<(f64, usize)>);
    for (taken, c) in order.iter().enumerate().take(order.len().saturating_sub(1)) {
        left = (left.0 + sums[*c].0, left.1 + sums[*c].1);
        let gain = gain(left, (whole.0 - left.0, whole.1 - left.1));
        if best.is_none_or(|(g, _)| gain > g) {
            best = Some((gain, taken + 1));
        }
    }
    let (gain, taken) = best?;
    let mut marked = vec![false; sums.len()];
    order[..taken].iter().for_each(|c| marked[*c] = true);
    Some(Found { gain, coordinate, rule: Rule::Marked(marked) })
}
