//! Snapshots as an earlier version of this program wrote them, so that its runs go on.

use super::asked::Asked;
use super::distribution::Distribution;
use super::latent::Latent;
use super::restarts::Schedule;
use super::settings::Settings;
use super::shape::Shape;
use super::stop::History;
use super::{Cma, Start};
use crate::Domain;
use crate::linalg::Matrix;
use common::run::{CmaBounds, Restarts};
use common::seed::Stream;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Version 0.1: one run of the paper's settings, told whole generations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version1 {
    population: usize,
    initial_sigma: f64,
    generation: u64,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Matrix,
    path_sigma: Vec<f64>,
    path_c: Vec<f64>,
    history: VecDeque<(f64, f64)>,
    ended: Option<String>,
    stream: Stream,
}

impl From<Version1> for Cma {
    fn from(v: Version1) -> Cma {
        let n = v.mean.len();
        Cma {
            settings: Settings::paper(v.population, v.initial_sigma),
            start: Start::middle(n, v.initial_sigma).mean,
            latent: Latent::new(&Domain::real(n), CmaBounds::Resample),
            population: v.population,
            initial_sigma: v.initial_sigma,
            distribution: Distribution {
                mean: v.mean,
                sigma: v.sigma,
                shape: Shape::Full(v.covariance),
                path_sigma: v.path_sigma,
                path_c: v.path_c,
                generation: v.generation,
            },
            learning: None,
            margin: None,
            history: History::of_ranges(v.history),
            schedule: Schedule::new(Restarts::None, u64::MAX),
            asked: Asked::default(),
            waiting: Vec::new(),
            ended: v.ended,
            stream: v.stream,
            roots: None,
        }
    }
}
