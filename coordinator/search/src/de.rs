//! Differential evolution that adapts itself: L-SHADE, one trial at a time.
//!
//! Every member of a population is challenged in turn by a trial made of differences of others; the better of the two
//! stays. Step factor and crossover rate are drawn around values that lately worked, and the population shrinks as the
//! budget is used. Why this one: it was the best differential evolution of CEC 2014 and has next to nothing to set; and
//! a trial concerns one member only, so that it can be judged whenever it returns.
//!
//! Sources: R. Tanabe and A. Fukunaga, "Improving the search performance of SHADE using linear population size
//! reduction", CEC 2014 (equation numbers below), with the mutation and archive of JADE (J. Zhang and
//! A. C. Sanderson 2009). `tests/data/de_reference.json` holds mutants of scipy 1.17.1 and memories of the equations.
//!
//! On purpose, this differs in:
//! - **Order.** A trial is made whenever one is asked for, and judged when it is told, against its member as it is then
//!   (M. and E. Zhabitsky, "Asynchronous differential evolution", 2013). The memory learns after as many results as
//!   there are members: in generational mode that is after each generation, as in the paper.
//! - **Population.** 18 n members are meant for 10,000 n evaluations, and merges get some 100 n: a run file's
//!   default is twice that of CMA-ES.
//! - **Integers** take part as numbers and are rounded (J. Lampinen and I. Zelinka 1999). **Categories** have no
//!   differences: the mutant takes the good member's with probability F, else another member's.
//! - **No terminal value** of the crossover memory: its place is taken by what the mean yields, down to 0.
//! - **Genomes of others** join while the population is not full, and then take the worst member's place where they are
//!   better.

use super::outstanding::Outstanding;
use super::worth::Worth;
use super::{Dimension, Domain, Search, Snapshot, Told};
use common::genome::Genome;
use common::seed::Stream;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::f64::consts::PI;

/// Fewest members (the mutation needs four different ones).
const FEWEST: usize = 4;
/// Entries of the memory, H.
const MEMORY: usize = 6;
/// The share of members that count as good, p.
const GOOD: f64 = 0.11;
/// Members' worth of defeated points that are kept, r_arc.
const ARCHIVE: f64 = 2.6;

/// L-SHADE with its population and its random stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct De {
    domain: Domain,
    /// Members at the beginning.
    initial: usize,
    /// Evaluations over which the population shrinks to [`FEWEST`].
    budget: u64,
    told: u64,
    members: Vec<Member>,
    /// Number of the next member.
    born: u64,
    /// Defeated points, for more directions.
    archive: Vec<Vec<f64>>,
    memory: Vec<Setting>,
    /// Where the memory learns next.
    position: usize,
    /// Which member is challenged next.
    turn: usize,
    outstanding: Outstanding<Option<Trial>>,
    /// Trials judged since the memory learnt, and those that won.
    judged: usize,
    won: Vec<Win>,
    stream: Stream,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    /// Positions change when the population shrinks; numbers do not.
    number: u64,
    point: Vec<f64>,
    worth: Worth,
}

/// Step factor F and crossover rate CR.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setting {
    f: f64,
    cr: f64,
}

/// What a trial challenges, and how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trial {
    member: u64,
    setting: Setting,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Win {
    setting: Setting,
    /// By how much; `None` where the defeated had no score. Halved, so that it is finite.
    gain: Option<f64>,
}

impl De {
    /// A search of a domain with at least one coordinate, of `population` members at first.
    pub fn new(domain: &Domain, population: usize, budget: u64, stream: Stream) -> De {
        De {
            domain: domain.clone(),
            initial: population.max(FEWEST),
            budget: budget.max(1),
            told: 0,
            members: Vec::new(),
            born: 0,
            archive: Vec::new(),
            memory: vec![Setting { f: 0.5, cr: 0.5 }; MEMORY],
            position: 0,
            turn: 0,
            outstanding: Outstanding::default(),
            judged: 0,
            won: Vec::new(),
            stream,
        }
    }

    /// Members at this point of the budget (eq. 10).
    fn size(&self) -> usize {
        let used = (self.told as f64 / self.budget as f64).min(1.0);
        let size = self.initial as f64 + (FEWEST as f64 - self.initial as f64) * used;
        (size.round() as usize).max(FEWEST)
    }

    /// Positions of the members from best to worst.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|i| Reverse(self.members[*i].worth));
        order
    }

    /// One of `n`.
    fn pick(&mut self, n: usize) -> usize {
        ((self.stream.uniform() * n as f64) as usize).min(n - 1)
    }

    /// F and CR around an entry of the memory (eq. 1, 2).
    fn setting(&mut self) -> Setting {
        let at = self.pick(MEMORY);
        let Setting { f: centre, cr } = self.memory[at];
        let cr = (cr + 0.1 * self.stream.normal()).clamp(0.0, 1.0);
        let f = loop {
            let f = centre + 0.1 * (PI * (self.stream.uniform() - 0.5)).tan();
            if f > 0.0 {
                break f.min(1.0);
            }
        };
        Setting { f, cr }
    }

    fn trial(&mut self) -> (Genome, Trial) {
        let target = self.turn % self.members.len();
        self.turn = (target + 1) % self.members.len();
        let setting = self.setting();
        let good = ((GOOD * self.members.len() as f64).round() as usize).max(2);
        let order = self.order();
        let best = order[self.pick(good)];
        let first = loop {
            let r = self.pick(self.members.len());
            if r != target {
                break r;
            }
        };
        let second = loop {
            let r = self.pick(self.members.len() + self.archive.len());
            if r != target && r != first {
                break r;
            }
        };
        let point = |i: usize| match self.members.get(i) {
            Some(m) => m.point.clone(),
            None => self.archive[i - self.members.len()].clone(),
        };
        let (x, best, first, second) = (point(target), point(best), point(first), point(second));
        let mut trial = x.clone();
        let always = self.pick(x.len());
        for j in 0..x.len() {
            if j != always && self.stream.uniform() >= setting.cr {
                continue;
            }
            trial[j] = match self.domain.dimensions[j] {
                Dimension::Category(_) if self.stream.uniform() < setting.f => best[j],
                Dimension::Category(_) => first[j],
                _ => inside(mutant(x[j], best[j], first[j], second[j], setting.f), x[j]),
            };
        }
        let mut genome = self.domain.genome(&trial);
        if genome.coordinates() == x || self.outstanding.has(&genome) {
            // Counted values often agree: an evaluation that can tell nothing is spent on a new value instead.
            trial[always] = self.stream.uniform();
            genome = self.domain.genome(&trial);
        }
        (genome, Trial { member: self.members[target].number, setting })
    }

    fn join(&mut self, point: &[f64], worth: Worth) {
        self.members.push(Member { number: self.born, point: point.to_vec(), worth });
        self.born += 1;
    }

    fn judge(&mut self, genome: &Genome, worth: Worth, trial: Trial) {
        self.judged += 1;
        let Some(at) = self.members.iter().position(|m| m.number == trial.member) else {
            return self.meet(genome, worth);
        };
        let old = &self.members[at];
        if worth < old.worth {
            return;
        }
        if worth > old.worth {
            let gain = worth.score().zip(old.worth.score()).map(|(new, old)| new / 2.0 - old / 2.0);
            self.won.push(Win { setting: trial.setting, gain });
            let defeated = old.point.clone();
            self.archive.push(defeated);
        }
        // Equals replace, so that a plateau is crossed.
        self.members[at].point = genome.coordinates().to_vec();
        self.members[at].worth = worth;
    }

    /// Takes in a genome that challenges nobody.
    fn meet(&mut self, genome: &Genome, worth: Worth) {
        if self.members.len() < self.size() {
            return self.join(genome.coordinates(), worth);
        }
        let worst = *self.order().last().expect("the population is full");
        if worth > self.members[worst].worth {
            self.members.remove(worst);
            self.join(genome.coordinates(), worth);
        }
    }

    /// Learns from the trials that won (eq. 3 to 9), once as many were judged as there are members.
    fn learn(&mut self) {
        if self.judged < self.members.len().max(FEWEST) {
            return;
        }
        self.judged = 0;
        let won = std::mem::take(&mut self.won);
        if !won.is_empty() {
            self.memory[self.position] = mean(&won);
            self.position = (self.position + 1) % MEMORY;
        }
    }

    /// Brings population and archive to their sizes.
    fn shrink(&mut self) {
        while self.members.len() > self.size() {
            let worst = *self.order().last().expect("there are members");
            self.members.remove(worst);
        }
        let most = (ARCHIVE * self.size() as f64).round() as usize;
        while self.archive.len() > most {
            let at = self.pick(self.archive.len());
            self.archive.swap_remove(at);
        }
    }
}

/// current-to-pbest/1 (JADE, eq. 7) of one coordinate.
fn mutant(x: f64, best: f64, first: f64, second: f64, f: f64) -> f64 {
    x + f * (best - x) + f * (first - second)
}

/// A coordinate that left the cube goes half the way from its member to the bound (JADE, as in L-SHADE's code).
fn inside(v: f64, x: f64) -> f64 {
    match v {
        v if v < 0.0 => x / 2.0,
        v if v > 1.0 => (1.0 + x) / 2.0,
        v => v,
    }
}

/// The weighted Lehmer mean of what won (eq. 7, 8).
fn mean(won: &[Win]) -> Setting {
    let known: Vec<f64> = won.iter().filter_map(|w| w.gain).collect();
    let largest = known.iter().copied().fold(0.0, f64::max);
    // Scaled, so that sums of extreme gains stay finite. A win over something without score counts as a usual one.
    let scaled = |gain: f64| if largest > 0.0 { gain / largest } else { 1.0 };
    let usual = known.iter().map(|g| scaled(*g)).sum::<f64>() / known.len().max(1) as f64;
    let usual = if usual > 0.0 { usual } else { 1.0 };
    let lehmer = |of: fn(&Setting) -> f64| {
        let (mut above, mut below) = (0.0, 0.0);
        for win in won {
            let (w, s) = (win.gain.map_or(usual, scaled), of(&win.setting));
            above += w * s * s;
            below += w * s;
        }
        if below > 0.0 { above / below } else { 0.0 }
    };
    Setting { f: lehmer(|s| s.f), cr: lehmer(|s| s.cr) }
}

impl Search for De {
    fn population(&self) -> usize {
        self.size()
    }

    fn ask(&mut self) -> Genome {
        let coming = self.outstanding.iter().filter(|(_, trial)| trial.is_none()).count();
        let (genome, trial) = match self.members.len() {
            n if n >= FEWEST && n + coming >= self.size() => {
                let (genome, trial) = self.trial();
                (genome, Some(trial))
            }
            _ => (self.domain.uniform(&mut self.stream), None),
        };
        self.outstanding.add(&genome, trial);
        genome
    }

    fn tell(&mut self, results: &[Told]) {
        for told in results {
            let worth = Worth::of(told);
            match self.outstanding.take(&told.genome).flatten() {
                Some(trial) => self.judge(&told.genome, worth, trial),
                None => self.meet(&told.genome, worth),
            }
            self.told += 1;
            self.learn();
        }
        self.shrink();
    }

    fn stop(&self) -> Option<String> {
        let first = self.members.first()?;
        let full = self.members.len() >= self.size() && self.outstanding.iter().all(|(_, t)| t.is_some());
        let same = self.members.iter().all(|m| m.point == first.point);
        (full && same).then(|| "all members are one point: no difference is left to go by".into())
    }

    fn step_size(&self) -> Option<f64> {
        None
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::De(Box::new(self.clone()))
    }
}

#[cfg(test)]
#[path = "de_tests.rs"]
mod tests;
