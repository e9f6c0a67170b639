//! NSGA-II: several objectives at once, with a front of compromises as the result ([`super::pareto`]).
//!
//! Source: K. Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6
//! (2002); bounded crossover (SBX) and polynomial mutation as in pymoo 0.6.2 (`operators/crossover/sbx.py`,
//! `operators/mutation/pm.py`), with the paper's distribution indices of 20, crossover with probability 0.9 and
//! mutation of 1 / n of the coordinates. `tests/data/nsga2_reference.json` holds pymoo's offspring.
//!
//! Parents and results compete for the places of the population whenever results are told: a whole generation of them
//! in generational mode, which is the paper's algorithm, and each alone in asynchronous mode, which is its steady state
//! (J. J. Durillo et al., "On the effect of the steady-state selection scheme in multi-objective genetic algorithms",
//! EMO 2009). Of one objective it is a plain genetic algorithm.
//!
//! Bounds and failures have no place among several objectives: they rank behind every scored result, in the order of
//! `worth`. Integers take part as numbers and are rounded; categories are exchanged whole and mutate to any
//! other. A child that is there already is mutated again, a few times.

use super::outstanding::Outstanding;
use super::pareto::{crowding, ranks};
use super::worth::Worth;
use super::{Dimension, Domain, Outcome, Search, Snapshot, Told};
use common::fitness::Fitness;
use common::genome::Genome;
use common::seed::Stream;
use serde::{Deserialize, Serialize};

/// Distribution index of crossover and mutation.
const ETA: f64 = 20.0;
const CROSSOVER: f64 = 0.9;
/// How often a child that is there already is mutated again.
const TRIES: usize = 10;

/// NSGA-II with its population and its random stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nsga2 {
    domain: Domain,
    population: usize,
    /// From best to worst.
    members: Vec<Member>,
    /// `true` for those of the first, random population.
    outstanding: Outstanding<bool>,
    /// The second child of the last crossing, which is asked for next.
    sibling: Option<Vec<f64>>,
    stream: Stream,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    genome: Genome,
    /// One per objective; empty without them.
    objectives: Vec<Fitness>,
    worth: Worth,
    /// Its front, from 0.
    rank: usize,
    /// Crowding distance, at most the largest number, so that a snapshot can hold it.
    crowding: f64,
}

impl Nsga2 {
    /// A search of a domain with at least one coordinate.
    pub fn new(domain: &Domain, population: usize, stream: Stream) -> Nsga2 {
        Nsga2 {
            domain: domain.clone(),
            population: population.max(2),
            members: Vec::new(),
            outstanding: Outstanding::default(),
            sibling: None,
            stream,
        }
    }

    /// The better of two members at random: by rank, then by crowding (section III-B).
    fn tournament(&mut self) -> usize {
        let n = self.members.len() as f64;
        let mut pick = || (self.stream.uniform() * n) as usize;
        let (a, b) = (pick(), pick());
        let key = |i: usize| (self.members[i].rank, -self.members[i].crowding);
        if key(b) < key(a) { b } else { a }
    }

    fn child(&mut self) -> Genome {
        let mut child = match self.sibling.take() {
            Some(sibling) => sibling,
            None => {
                let (a, b) = (self.tournament(), self.tournament());
                let (a, b) = (self.members[a].genome.clone(), self.members[b].genome.clone());
                let (one, other) =
                    cross(&self.domain, a.coordinates(), b.coordinates(), &mut || self.stream.uniform());
                self.sibling = Some(other);
                one
            }
        };
        for _ in 0..TRIES {
            mutate(&self.domain, &mut child, &mut || self.stream.uniform());
            let genome = self.domain.genome(&child);
            let known = self.members.iter().any(|m| m.genome == genome) || self.outstanding.has(&genome);
            if !known {
                return genome;
            }
        }
        self.domain.genome(&child)
    }

    fn member(&self, told: &Told) -> Member {
        let worth = Worth::of(told);
        let (worth, objectives) = match &told.outcome {
            Outcome::Scored(o) if o.len() >= self.domain.objectives => {
                (worth, o[..self.domain.objectives].to_vec())
            }
            // Less than was asked for is no result.
            Outcome::Scored(_) => (Worth::Failed, Vec::new()),
            _ => (worth, Vec::new()),
        };
        Member { genome: told.genome.clone(), objectives, worth, rank: 0, crowding: 0.0 }
    }

    /// Ranks everybody anew and lets the worst go.
    fn select(&mut self) {
        let (mut scored, mut rest): (Vec<Member>, Vec<Member>) =
            std::mem::take(&mut self.members).into_iter().partition(|m| !m.objectives.is_empty());
        let points: Vec<Vec<Fitness>> = scored.iter().map(|m| m.objectives.clone()).collect();
        let ranks = ranks(&points);
        let fronts = ranks.iter().copied().max().map_or(0, |r| r + 1);
        for front in 0..fronts {
            let inside: Vec<usize> = (0..points.len()).filter(|i| ranks[*i] == front).collect();
            let members: Vec<Vec<Fitness>> = inside.iter().map(|i| points[*i].clone()).collect();
            for (i, distance) in inside.into_iter().zip(crowding(&members)) {
                scored[i].rank = front;
                scored[i].crowding = distance.min(f64::MAX);
            }
        }
        scored.sort_by(|a, b| a.rank.cmp(&b.rank).then(b.crowding.total_cmp(&a.crowding)));
        rest.sort_by_key(|m| std::cmp::Reverse(m.worth));
        for (i, member) in rest.iter_mut().enumerate() {
            (member.rank, member.crowding) = (fronts + i, 0.0);
        }
        self.members = scored;
        self.members.append(&mut rest);
        self.members.truncate(self.population);
    }
}

/// Simulated binary crossover within the cube. Yields two children.
fn cross(domain: &Domain, a: &[f64], b: &[f64], random: &mut dyn FnMut() -> f64) -> (Vec<f64>, Vec<f64>) {
    let (mut one, mut other) = (a.to_vec(), b.to_vec());
    if random() >= CROSSOVER {
        return (one, other);
    }
    for j in 0..a.len() {
        if random() >= 0.5 || (a[j] - b[j]).abs() <= 1e-14 {
            continue;
        }
        if let Dimension::Category(_) = domain.dimensions[j] {
            (one[j], other[j]) = (b[j], a[j]);
            continue;
        }
        let (low, high) = blend(a[j], b[j], random());
        // Which child gets which is chance, or the first would be the lower in every coordinate.
        (one[j], other[j]) = if random() < 0.5 { (high, low) } else { (low, high) };
    }
    (one, other)
}

/// The lower and the higher child of two different coordinates.
fn blend(a: f64, b: f64, u: f64) -> (f64, f64) {
    let (low, high) = (a.min(b), a.max(b));
    let spread = |room: f64| {
        let beta = 1.0 + 2.0 * room / (high - low);
        let alpha = 2.0 - beta.powf(-(ETA + 1.0));
        match u <= 1.0 / alpha {
            true => (u * alpha).powf(1.0 / (ETA + 1.0)),
            false => (1.0 / (2.0 - u * alpha)).powf(1.0 / (ETA + 1.0)),
        }
    };
    let (down, up) = (spread(low), spread(1.0 - high));
    let child = |towards: f64| (0.5 * (low + high + towards * (high - low))).clamp(0.0, 1.0);
    (child(-down), child(up))
}

/// Polynomial mutation of about one coordinate.
fn mutate(domain: &Domain, x: &mut [f64], random: &mut dyn FnMut() -> f64) {
    let share = 1.0 / x.len() as f64;
    for (x, d) in x.iter_mut().zip(&domain.dimensions) {
        if random() >= share {
            continue;
        }
        *x = match d {
            Dimension::Category(_) => random(),
            Dimension::Integer(_) => neighbour(*d, *x, polynomial(*x, random())),
            Dimension::Real => polynomial(*x, random()),
        };
    }
}

/// `to`, or where it is the same value as `from`, the next value in its direction: small steps must not be lost.
fn neighbour(d: Dimension, from: f64, to: f64) -> f64 {
    match (d.index(from), d.index(to)) {
        (Some(old), Some(new)) if old == new && to > from => d.middle(old + 1),
        (Some(old), Some(new)) if old == new => d.middle(old.saturating_sub(1)),
        _ => to,
    }
}

fn polynomial(x: f64, u: f64) -> f64 {
    let power = 1.0 / (ETA + 1.0);
    let delta = match u < 0.5 {
        true => (2.0 * u + (1.0 - 2.0 * u) * (1.0 - x).powf(ETA + 1.0)).powf(power) - 1.0,
        false => 1.0 - (2.0 * (1.0 - u) + 2.0 * (u - 0.5) * x.powf(ETA + 1.0)).powf(power),
    };
    (x + delta).clamp(0.0, 1.0)
}

impl Search for Nsga2 {
    fn population(&self) -> usize {
        self.population
    }

    fn ask(&mut self) -> Genome {
        let coming = self.outstanding.iter().filter(|(_, first)| *first).count();
        let first = self.members.len() + coming < self.population || self.members.len() < 2;
        let genome = if first { self.domain.uniform(&mut self.stream) } else { self.child() };
        self.outstanding.add(&genome, first);
        genome
    }

    fn tell(&mut self, results: &[Told]) {
        for told in results {
            self.outstanding.take(&told.genome);
            let member = self.member(told);
            self.members.push(member);
        }
        self.select();
    }

    fn stop(&self) -> Option<String> {
        None
    }

    fn step_size(&self) -> Option<f64> {
        None
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::Nsga2(Box::new(self.clone()))
    }
}

#[cfg(test)]
#[path = "nsga2_tests.rs"]
mod tests;
