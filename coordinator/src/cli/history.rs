//! A run's plan, candidates and reports as a whole, live or at rest: for commands that look at all of them.

use super::look::{Source, from_class, refused};
use super::{Failure, Target, reach};
use crate::report;
use crate::state::Durable;
use common::digest::Manifest;
use common::evaluation::{Evaluation, SampleResult};
use common::id::CandidateId;
use common::run::RunPlan;
use proto::convert::Description;
use proto::wire;

/// A run that was opened.
pub(super) struct History {
    /// Its id.
    pub run: String,
    /// Its plan.
    pub plan: RunPlan,
    /// The files that it is pinned to, where they are known here.
    pub pinned: Option<Manifest>,
    source: Source,
}

impl History {
    /// Asks the coordinator that serves the run; where there is none, opens its store.
    pub async fn open(target: &Target) -> Result<History, Failure> {
        let source = Source::open(target).await?;
        let (run, plan, pinned) = match &source {
            Source::Rest(state, _) => {
                (state.identity().run.0.clone(), state.plan().clone(), Some(state.pinned().manifest.clone()))
            }
            Source::Live(_) => {
                let gone = || Failure::Absent("the coordinator has just gone; try again".into());
                let channel = reach::live(target).await?.ok_or_else(gone)?;
                let reply = proto::cluster_client(channel).describe(wire::DescribeRequest {}).await;
                let described = Description::try_from(reply.map_err(refused)?.into_inner());
                let described = described.map_err(|e| Failure::Failed(e.to_string()))?;
                (described.run.0, described.plan, None)
            }
        };
        Ok(History { run, plan, pinned, source })
    }

    /// Everything durable but the texts; none while a coordinator serves the run.
    pub fn durable(&self) -> Option<Durable> {
        match &self.source {
            Source::Rest(state, _) => Some(state.durable()),
            Source::Live(_) => None,
        }
    }

    /// Shows every candidate, in order of number, as long as `show` wants more.
    pub async fn each_candidate(
        &mut self,
        mut show: impl FnMut(wire::CandidateView) -> bool,
    ) -> Result<(), Failure> {
        match &mut self.source {
            Source::Rest(state, _) => {
                let mut views = state.candidates().iter().map(|c| report::candidate_at_rest(state, c));
                views.all(show);
            }
            Source::Live(client) => {
                let stream = client.candidates(wire::CandidatesRequest {}).await;
                let mut stream = stream.map_err(refused)?.into_inner();
                while let Some(candidate) = stream.message().await.map_err(refused)? {
                    if !show(candidate) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Every candidate, in order of number.
    pub async fn candidates(&mut self) -> Result<Vec<wire::CandidateView>, Failure> {
        let mut all = Vec::new();
        self.each_candidate(|c| {
            all.push(c);
            true
        })
        .await?;
        Ok(all)
    }

    /// Texts and scores of a candidate that is scored. Timings of a live one are left out.
    pub async fn evaluation(&mut self, candidate: u64) -> Result<Evaluation, Failure> {
        match &mut self.source {
            Source::Rest(state, store) => {
                report::evaluation(state, store, CandidateId(candidate)).map_err(from_class)
            }
            Source::Live(client) => {
                let stream = client.reports(wire::ReportsRequest { candidate }).await;
                let mut stream = stream.map_err(refused)?.into_inner();
                let mut samples = Vec::new();
                while let Some(sample) = stream.message().await.map_err(refused)? {
                    let unusable = |e: proto::convert::Refused| Failure::Failed(e.to_string());
                    samples.push(SampleResult::try_from(sample).map_err(unusable)?);
                }
                Ok(Evaluation { samples, timings: Default::default() })
            }
        }
    }

    /// The recipe file of a candidate.
    pub async fn recipe(&mut self, candidate: u64) -> Result<String, Failure> {
        match &mut self.source {
            Source::Rest(state, store) => {
                let reply = report::recipe(state, store, Some(CandidateId(candidate))).map_err(from_class)?;
                Ok(reply.recipe_json)
            }
            Source::Live(client) => {
                let request = wire::RecipeRequest { candidate: Some(candidate) };
                Ok(client.recipe(request).await.map_err(refused)?.into_inner().recipe_json)
            }
        }
    }
}
