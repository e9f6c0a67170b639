//! CMA-ES: a normal distribution that moves to where genomes score well and takes the shape of the landscape there.
//!
//! Comes in: results in any number, as they were recorded. A step is made as soon as a population of them is there, whatever
//! distribution drew them; asking never waits. So whole generations (the paper's way) and one result at a time
//! (asynchronously) are the same algorithm: where all results are of the present distribution, a step is that of `cmaes`
//! 0.13.1 (CyberAgentAILab), number by number. What results of earlier distributions count for is in `late`.
//!
//! The files: `constants` and `shape` below `distribution` (one step of learning); `latent` and `margin` between
//! the normal distribution and genomes; `learning` for noise; `stop` and `restarts`; `start` for warm starts;
//! `asked` for what is outstanding.
//!
//! On purpose, this differs from `cmaes` in:
//! - **Direction.** It maximises.
//! - **The square root.** A point is `m + σ C^½ z` with the symmetric root `B D Bᵀ`, where `cmaes` has `B D z`.
//!   The distribution is the same, but the point no longer depends on the signs and order of eigenvectors,
//!   which libraries choose as they like.
//! - **Failure.** A candidate without fitness ranks last. An update that would not be finite is not made, and
//!   the run ends, saying so.
//! - **Ends.** `cmaes` takes the square root of the condition number for the condition number, and variances
//!   for standard deviations in `tolx`; here they are what their names say.

mod asked;
mod constants;
mod distribution;
mod earlier;
mod late;
mod latent;
mod learning;
mod margin;
mod normal;
mod restarts;
mod settings;
mod shape;
mod start;
mod stop;

pub use settings::Settings;
pub use start::Start;

use super::told::ranked;
use super::{Domain, Outcome, Search, Snapshot, Told};
use asked::Asked;
use common::genome::Genome;
use common::run::CmaBounds;
use common::seed::Stream;
use distribution::Distribution;
use late::Waiting;
use latent::{Latent, middle, value};
use learning::Learning;
use margin::Margin;
use restarts::Schedule;
use serde::{Deserialize, Serialize};
use shape::Roots;
use stop::{History, Size};

/// Widest standard deviation where bounds are bent, as pycma's `maxstd_boundrange`: beyond it the fold makes every point
/// alike.
const WIDEST: f64 = 1.0 / 3.0;

/// Points drawn again before one is clipped, however many the dimensions: in hundreds of them hardly any point lies inside
/// by chance, and drawing would take longer than it is worth.
const MOST_TRIES: usize = 1000;

/// A CMA-ES with its random stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cma {
    settings: Settings,
    /// First mean, in coordinates of genomes.
    start: Vec<f64>,
    latent: Latent,
    /// Of the present run.
    population: usize,
    /// Of the present run.
    initial_sigma: f64,
    distribution: Distribution,
    learning: Option<Learning>,
    margin: Option<Margin>,
    history: History,
    schedule: Schedule,
    asked: Asked,
    /// Results that no step has been made of, fewer than a population.
    waiting: Vec<Waiting>,
    /// Why the search is over.
    ended: Option<String>,
    stream: Stream,
    /// Follows from the distribution; computed when first needed.
    #[serde(skip)]
    roots: Option<Roots>,
}

/// A saved CMA-ES, of this or an earlier version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Saved {
    /// As it is now.
    Now(Box<Cma>),
    /// As version 0.1 saved it.
    Version1(Box<earlier::Version1>),
}

impl Saved {
    /// The search that goes on.
    pub fn restore(self) -> Box<Cma> {
        match self {
            Saved::Now(cma) => cma,
            Saved::Version1(earlier) => Box::new(Cma::from(*earlier)),
        }
    }
}

impl Cma {
    /// A search of a domain from the middle of the cube.
    pub fn new(settings: Settings, domain: &Domain, stream: Stream) -> Cma {
        let start = Start::middle(domain.dimensions.len(), settings.sigma);
        Cma::from_start(settings, domain, &start, stream)
    }

    /// A search that begins with a distribution known to be good. Categories begin level, each as likely, and with the
    /// start's sigma, since they have no order that a mean or a covariance could speak of.
    ///
    /// Panics where the domain has no dimension, or the start another number of them.
    pub fn from_start(settings: Settings, domain: &Domain, start: &Start, stream: Stream) -> Cma {
        let latent = Latent::new(domain, settings.cma.bounds);
        assert!(
            latent.dimensions() > 0 && start.mean.len() == domain.dimensions.len(),
            "the plan was checked"
        );
        assert!(settings.population > 1 && start.sigma > 0.0, "the plan was checked");
        let shape = start.shape(&latent, settings.diagonal());
        let mean = latent.mean(&start.mean);
        let mut cma = Cma {
            start: start.mean.clone(),
            population: settings.population,
            initial_sigma: start.sigma,
            distribution: Distribution::new(mean, start.sigma, shape),
            learning: None,
            margin: None,
            history: History::default(),
            schedule: Schedule::new(settings.cma.restarts, settings.evaluations),
            asked: Asked::default(),
            waiting: Vec::new(),
            ended: None,
            stream,
            roots: None,
            settings,
            latent,
        };
        cma.begin_run();
        cma
    }

    /// The coordinates that the distribution is centred on: often better than the best genome told, where scores are
    /// noisy.
    pub fn favourite(&self) -> Vec<f64> {
        self.genome(&self.distribution.mean)
    }

    /// What starts anew with every run.
    fn begin_run(&mut self) {
        let n = self.latent.dimensions();
        self.history = History::default();
        self.learning = self.settings.adapts_rates().then(|| Learning::new(n));
        self.margin =
            (!self.latent.is_real()).then(|| Margin::new(self.latent.integers(), n, self.population));
        self.waiting.clear();
        self.roots = None;
    }

    fn size(&self) -> Size {
        Size { dimensions: self.latent.dimensions(), population: self.population }
    }

    fn ensure_roots(&mut self) -> &Roots {
        let shape = &self.distribution.shape;
        self.roots.get_or_insert_with(|| shape.roots().expect("only covariances that have them are kept"))
    }

    /// The next latent point, made of the standard normal numbers that `normal` yields.
    fn draw(&mut self, normal: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let n = self.latent.dimensions();
        self.ensure_roots();
        let (roots, d) = (self.roots.as_ref().expect("just made"), &self.distribution);
        let mut sample = || -> Vec<f64> {
            let z: Vec<f64> = (0..n).map(|_| normal()).collect();
            d.mean.iter().zip(roots.colour(&z)).map(|(m, y)| m + d.sigma * y).collect()
        };
        for _ in 0..(10 * n).min(MOST_TRIES) {
            let x = sample();
            if self.latent.inside(&x) {
                return x;
            }
        }
        let mut x = sample();
        self.latent.clip(&mut x);
        x
    }

    fn genome(&self, v: &[f64]) -> Vec<f64> {
        self.latent.genome(v, |at, v, k| match &self.margin {
            Some(margin) => margin.round(at, v, self.distribution.mean[at], k),
            None => middle(value(v, k), k),
        })
    }

    /// The genome of a drawn point, which is remembered until its result is told.
    fn hand_out(&mut self, x: Vec<f64>) -> Genome {
        let genome = Genome::new(self.genome(&x)).expect("what was drawn lies in the cube");
        let own = self.distribution.scaled(&x);
        self.asked.note(&genome, x, own, self.distribution.generation, self.schedule.restarts);
        genome
    }

    /// A result that was recorded.
    fn take(&mut self, told: &Told) {
        self.schedule.count();
        let drawn = self.asked.take(&told.genome);
        if drawn.as_ref().is_some_and(|d| d.restart != self.schedule.restarts) {
            // Of a run that is over: counted, and no part of this one, which began elsewhere to look elsewhere.
            return;
        }
        let waiting = match drawn {
            Some(drawn) => Waiting::asked(drawn, told.outcome.clone()),
            None => {
                let mean = &self.distribution.mean;
                let integer = |at: usize, g: f64| match &self.margin {
                    Some(margin) => margin.unround(at, g, mean[at]),
                    None => g,
                };
                let latent = self.latent.latent(told.genome.coordinates(), mean, integer);
                Waiting::injected(told.genome.clone(), latent, told.outcome.clone())
            }
        };
        self.waiting.push(waiting);
        if self.waiting.len() >= self.population {
            self.step();
        }
    }

    /// One step of learning from the results that wait.
    fn step(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let told: Vec<Told> = waiting.iter().map(Waiting::told).collect();
        let order = ranked(&told);
        let scores: Vec<f64> = order.iter().filter_map(|i| told[*i].fitness()).map(f64::from).collect();
        if scores.is_empty() {
            // Nothing was scored, so the order says nothing; the next results are drawn elsewhere.
            return;
        }
        let k = self.settings.constants(self.latent.dimensions(), self.population);
        self.ensure_roots();
        let roots = self.roots.take().expect("just made");
        let before = self.distribution.clone();
        let points: Vec<_> = order.iter().map(|i| waiting[*i].point(&before, &roots)).collect();
        let censored: Vec<bool> =
            order.iter().map(|i| matches!(told[*i].outcome, Outcome::Censored(_))).collect();
        self.distribution.update(&points, &censored, &k, &roots);
        if let Some(learning) = &mut self.learning
            && self.distribution.is_finite()
        {
            learning.shorten(&before, &mut self.distribution, &roots);
        }
        if let Some(margin) = &mut self.margin
            && self.distribution.is_finite()
        {
            margin.correct(&mut self.distribution);
        }
        if self.latent.bounds() == CmaBounds::Transform {
            self.distribution.limit(WIDEST.max(self.initial_sigma));
        }
        self.roots = self.distribution.is_finite().then(|| self.distribution.shape.mend()).flatten();
        let size = self.size();
        self.history.note(&scores, before.generation + 1, size);
        let reason = match &self.roots {
            Some(roots) => self.history.end(&self.distribution, roots, self.initial_sigma, size),
            None => {
                self.distribution = before;
                Some("the distribution left the range of numbers".into())
            }
        };
        if let Some(reason) = reason {
            self.end_run(reason);
        }
    }

    /// Ends the run: begins the next one, or ends the search.
    fn end_run(&mut self, reason: String) {
        let Some(next) = self.schedule.next(&reason, self.settings.population, &mut self.stream) else {
            self.ended = Some(reason);
            return;
        };
        self.population = next.population;
        self.initial_sigma = self.settings.sigma * next.narrower;
        let anywhere: Vec<f64> = (0..self.start.len()).map(|_| self.stream.uniform()).collect();
        let mean = self.latent.mean(&anywhere);
        let shape = shape::Shape::identity(mean.len(), self.settings.diagonal());
        self.distribution = Distribution::new(mean, self.initial_sigma, shape);
        self.begin_run();
    }
}

impl Search for Cma {
    fn population(&self) -> usize {
        self.population
    }

    fn ask(&mut self) -> Genome {
        // The stream leaves `self` for the time of the call, since drawing borrows both.
        let mut stream = self.stream.clone();
        let mut x = self.draw(&mut || stream.normal());
        if let Some(margin) = &self.margin {
            self.latent.stir(&mut x, margin.probability(), &mut stream);
        }
        self.stream = stream;
        self.hand_out(x)
    }

    fn tell(&mut self, results: &[Told]) {
        for told in results {
            if self.ended.is_none() {
                self.take(told);
            }
        }
    }

    fn stop(&self) -> Option<String> {
        self.ended.clone()
    }

    fn step_size(&self) -> Option<f64> {
        Some(self.distribution.sigma)
    }

    fn remarks(&self) -> Vec<String> {
        self.schedule.remarks.clone()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::CmaEs(Saved::Now(Box::new(Cma { roots: None, ..self.clone() })))
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod variant_tests;
