//! A search that asks and tells over stdin and stdout, one JSON object a line, for `scripts/bench/bbob.py`.
//!
//! `{"begin": {"dimensions": n, "evaluations": e, "seed": s, …}}` answers `{"population": λ}`; further keys are those of
//! [`SearchPlan`]. `{"ask": count}` answers `{"genomes": […]}`. `{"tell": [{"genome": […], "fitness": f}, …]}` answers
//! `{"population": λ, "stop": reason or null, "remarks": [restarts and their reasons]}`.

#![forbid(unsafe_code)]

use common::fitness::Fitness;
use common::genome::Genome;
use common::run::{Algorithm, CmaPlan, SearchPlan};
use common::seed::Stream;
use search::{Domain, Outcome, Search, Told};
use serde::Deserialize;
use serde_json::json;
use std::error::Error;
use std::io::{BufRead, Write};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Begin(Begin),
    Ask(usize),
    Tell(Vec<Result>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    dimensions: usize,
    evaluations: u64,
    seed: u64,
    population: Option<usize>,
    sigma: Option<f64>,
    #[serde(default = "CmaPlan::usual")]
    cma: CmaPlan,
}

#[derive(Deserialize)]
struct Result {
    genome: Genome,
    fitness: Fitness,
}

/// The plan of a run file that says no more than this.
fn begin(b: Begin) -> Box<dyn Search> {
    let population = b.population.unwrap_or_else(|| b.cma.population(b.dimensions, b.evaluations));
    let plan = SearchPlan::new(Algorithm::CmaEs, population, b.sigma.unwrap_or(1.0 / 6.0), b.evaluations);
    let plan = SearchPlan { cma: b.cma, ..plan };
    search::begin(&plan, &Domain::real(b.dimensions), Stream::new(b.seed, "search"))
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut search: Option<Box<dyn Search>> = None;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Request::Begin(b) => json!({ "population": search.insert(begin(b)).population() }),
            Request::Ask(count) => {
                let search = search.as_mut().ok_or("ask before begin")?;
                json!({ "genomes": (0..count).map(|_| search.ask()).collect::<Vec<_>>() })
            }
            Request::Tell(results) => {
                let search = search.as_mut().ok_or("tell before begin")?;
                let told = results
                    .into_iter()
                    .map(|r| Told { genome: r.genome, outcome: Outcome::Scored(vec![r.fitness]) });
                search.tell(&told.collect::<Vec<_>>());
                json!({ "population": search.population(), "stop": search.stop(), "remarks": search.remarks() })
            }
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
