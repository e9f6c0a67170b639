//! Which parameters mattered: functional ANOVA over a random forest.
//!
//! A forest is fitted to the results of a search (`forest`). Each of its trees is a function that is constant on
//! boxes, so that its variance over the whole cube, and the part of it that one parameter explains alone, or two
//! together and neither alone, are sums over boxes. What is reported is the share of the variance, averaged over the trees.
//!
//! Source: F. Hutter, H. Hoos and K. Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML
//! 2014, sections 3 and 4; the main effects are those of `FanovaImportanceEvaluator` in optuna 5.0.0 (64 trees).
//! `tests/data/importance_reference.json` holds variances that optuna computes for trees of scikit-learn, and its shares.
//!
//! It speaks of the whole space, evenly: a search that soon left a bad region has few results there, and what the forest
//! says of it is a guess.

use super::Dimension;
use super::forest::{Node, Rows, Rule, Tree, grow};
use common::seed::Stream;

/// As many as optuna grows.
const TREES: usize = 64;
/// Rows that are used at most; a random part of more than that tells the same.
const ROWS: usize = 2000;
/// Parameters of which every pair is looked at: in a space of hundreds, the strongest.
const PAIRED: usize = 48;

/// Shares of the variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// Of each parameter alone, in order; together at most 1.
    pub alone: Vec<Share>,
    /// Of each two together beyond what either explains alone, strongest first; in a space of more than 48, of each two of
    /// the 48 that explain most alone.
    pub pairs: Vec<(usize, usize, Share)>,
    /// Results that were used.
    pub results: usize,
}

/// A share of the variance over the trees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The mean, from 0 to 1.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unknown {
    /// Too few.
    #[error("{0} results are not enough to tell what mattered: evaluate more, some dozens at least")]
    Few(usize),
    /// All alike.
    #[error("all results are equal: nothing mattered")]
    Equal,
    /// Nothing was searched.
    #[error("every parameter is fixed: there is nothing to compare")]
    Fixed,
}

/// What mattered, from points of the unit cube and their scores.
///
/// # Panics
/// When a point has another number of coordinates than there are dimensions.
pub fn importance(
    dimensions: &[Dimension],
    results: &[(Vec<f64>, f64)],
    stream: &mut Stream,
) -> Result<Importance, Unknown> {
    if dimensions.is_empty() {
        return Err(Unknown::Fixed);
    }
    assert!(results.iter().all(|(x, _)| x.len() == dimensions.len()), "points of this space");
    if results.len() < 4 {
        return Err(Unknown::Few(results.len()));
    }
    let rows = thinned(results, stream);
    if rows.values.iter().all(|v| *v == rows.values[0]) {
        return Err(Unknown::Equal);
    }
    let n = dimensions.len();
    let trees = grow(&rows, dimensions, TREES, stream);
    let boxes: Vec<Boxes> = trees.iter().map(|tree| Boxes::of(tree, dimensions)).collect();
    let boxes: Vec<(&Boxes, f64)> =
        boxes.iter().map(|b| (b, b.variance())).filter(|(_, whole)| *whole > 0.0).collect();
    if boxes.is_empty() {
        return Err(Unknown::Equal);
    }
    let over = |f: &dyn Fn(&Boxes) -> f64| -> Vec<f64> { boxes.iter().map(|(b, _)| f(b)).collect() };
    let share = |variances: Vec<f64>| -> Share {
        Share::of(&variances.iter().zip(&boxes).map(|(v, (_, whole))| v / whole).collect::<Vec<_>>())
    };
    let own: Vec<Vec<f64>> = (0..n).map(|i| over(&|b| b.variance_of(&[i]))).collect();
    let alone: Vec<Share> = own.iter().map(|v| share(v.clone())).collect();
    let strong = strongest(&alone);
    let mut pairs = Vec::new();
    for (at, &i) in strong.iter().enumerate() {
        for &j in &strong[at + 1..] {
            let both = over(&|b| b.variance_of(&[i, j]));
            let beyond = both.iter().zip(own[i].iter().zip(&own[j])).map(|(v, (a, b))| (v - a - b).max(0.0));
            pairs.push((i, j, share(beyond.collect())));
        }
    }
    pairs.sort_by(|a, b| b.2.mean.total_cmp(&a.2.mean));
    Ok(Importance { alone, pairs, results: rows.values.len() })
}

/// The parameters whose pairs are looked at, in order.
fn strongest(alone: &[Share]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..alone.len()).collect();
    order.sort_by(|a, b| alone[*b].mean.total_cmp(&alone[*a].mean));
    order.truncate(PAIRED);
    order.sort_unstable();
    order
}

/// All results or a random part, scores brought to a range that squares of them fit in.
fn thinned(results: &[(Vec<f64>, f64)], stream: &mut Stream) -> Rows {
    let mut chosen: Vec<usize> = (0..results.len()).collect();
    for i in 0..ROWS.min(chosen.len()) {
        if chosen.len() > ROWS {
            let left = chosen.len() - i;
            chosen.swap(i, i + ((stream.uniform() * left as f64) as usize).min(left - 1));
        }
    }
    chosen.truncate(ROWS);
    let largest = chosen.iter().map(|i| results[*i].1.abs()).fold(0.0, f64::max);
    let scale = if largest > 0.0 { largest } else { 1.0 };
    Rows {
        points: chosen.iter().map(|i| results[*i].0.clone()).collect(),
        values: chosen.iter().map(|i| results[*i].1 / scale).collect(),
    }
}

impl Share {
    fn of(shares: &[f64]) -> Share {
        let n = shares.len() as f64;
        let mean = shares.iter().sum::<f64>() / n;
        let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
        Share { mean, deviation: variance.sqrt() }
    }
}

/// A tree as boxes: along each coordinate the cube is cut into cells, at every place where the tree cuts.
struct Boxes {
    /// Sizes of the cells, by coordinate.
    sizes: Vec<Vec<f64>>,
    leaves: Vec<Leaf>,
    mean: f64,
}

struct Leaf {
    value: f64,
    /// The cells that it covers, by coordinate: runs from one cell to before another.
    runs: Vec<Vec<(usize, usize)>>,
    /// What they measure, by coordinate.
    lengths: Vec<f64>,
    /// What they measure together.
    size: f64,
}

impl Boxes {
    fn of(tree: &Tree, dimensions: &[Dimension]) -> Boxes {
        let mut cuts: Vec<Vec<f64>> = vec![Vec::new(); dimensions.len()];
        for node in &tree.nodes {
            if let Node::Split { coordinate, rule: Rule::UpTo(threshold), .. } = node {
                cuts[*coordinate].push(*threshold);
            }
        }
        for cuts in &mut cuts {
            cuts.extend([0.0, 1.0]);
            cuts.sort_by(f64::total_cmp);
            cuts.dedup();
        }
        let sizes: Vec<Vec<f64>> = dimensions
            .iter()
            .zip(&cuts)
            .map(|(d, cuts)| match d {
                Dimension::Category(count) => vec![1.0 / f64::from(*count); *count as usize],
                _ => cuts.windows(2).map(|w| w[1] - w[0]).collect(),
            })
            .collect();
        let mut leaves = Vec::new();
        let everything: Vec<Vec<usize>> = sizes.iter().map(|s| (0..s.len()).collect()).collect();
        let mut open = vec![(0, everything)];
        while let Some((at, cells)) = open.pop() {
            match &tree.nodes[at] {
                Node::Leaf(value) => {
                    let length = |(c, s): (&Vec<usize>, &Vec<f64>)| c.iter().map(|i| s[*i]).sum();
                    let lengths: Vec<f64> = cells.iter().zip(&sizes).map(length).collect();
                    let size = lengths.iter().product();
                    let runs = cells.iter().map(|c| runs(c)).collect();
                    leaves.push(Leaf { value: *value, runs, lengths, size });
                }
                Node::Split { coordinate, rule, left, right } => {
                    let goes_left = |cell: &usize| match rule {
                        Rule::UpTo(threshold) => cuts[*coordinate][cell + 1] <= *threshold,
                        Rule::Marked(marked) => marked[*cell],
                    };
                    let mut others = cells.clone();
                    let (lefts, rights) = cells[*coordinate].iter().partition(|c| goes_left(c));
                    let mut cells = cells;
                    cells[*coordinate] = lefts;
                    others[*coordinate] = rights;
                    open.extend([(*left, cells), (*right, others)]);
                }
            }
        }
        let mean = leaves.iter().map(|l| l.value * l.size).sum();
        Boxes { sizes, leaves, mean }
    }

    /// Variance over the cube.
    fn variance(&self) -> f64 {
        self.leaves.iter().map(|l| (l.value - self.mean).powi(2) * l.size).sum()
    }

    /// Variance of the mean over all other coordinates, as a function of these one or two (eq. 4 and algorithm 2 there).
    ///
    /// Leaves note what they add at the corners of their runs alone; summing up along both axes gives the cells.
    fn variance_of(&self, coordinates: &[usize]) -> f64 {
        let (first, second) = (coordinates[0], coordinates.get(1).copied());
        let (rows, columns) = (self.sizes[first].len(), second.map_or(1, |s| self.sizes[s].len()));
        let wide = columns + 1;
        let mut marginal = vec![0.0; (rows + 1) * wide];
        for leaf in &self.leaves {
            let own: f64 = coordinates.iter().map(|c| leaf.lengths[*c]).product();
            let part = leaf.value * (leaf.size / own);
            for (from, to) in &leaf.runs[first] {
                for (left, right) in second.map_or(&[(0, 1)][..], |s| &leaf.runs[s]) {
                    marginal[from * wide + left] += part;
                    marginal[from * wide + right] -= part;
                    marginal[to * wide + left] -= part;
                    marginal[to * wide + right] += part;
                }
            }
        }
        for at in 1..marginal.len() {
            if at % wide > 0 {
                marginal[at] += marginal[at - 1];
            }
        }
        for at in wide..marginal.len() {
            marginal[at] += marginal[at - wide];
        }
        let mut sum = 0.0;
        for row in 0..rows {
            for column in 0..columns {
                let size = self.sizes[first][row] * second.map_or(1.0, |s| self.sizes[s][column]);
                sum += (marginal[row * wide + column] - self.mean).powi(2) * size;
            }
        }
        sum
    }
}

/// Rising cells as runs without gaps.
fn runs(cells: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cell in cells {
        match runs.last_mut().filter(|(_, to)| *to == cell) {
            Some((_, to)) => *to += 1,
            None => runs.push((cell, cell + 1)),
        }
    }
    runs
}

#[cfg(test)]
#[path = "importance_tests.rs"]
mod tests;
