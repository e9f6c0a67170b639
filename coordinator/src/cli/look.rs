//! `status`, `candidates`, `reports`, `recipe`: on a coordinator that is running, or on a state folder at rest.

use super::history::History;
use super::{Failure, Format, Looked, OutType, Recipe, Reports, Target, exit, folder, json, reach, table};
use crate::report;
use crate::state::State;
use crate::store::sled::Sled;
use common::id::CandidateId;
use common::mergekit::{FloatType, from_recipe};
use proto::status::Class;
use proto::{Channel, InspectClient, wire};
use std::io::Write;

/// What is looked at.
pub(super) enum Source {
    Live(Box<InspectClient<Channel>>),
    Rest(Box<State>, Sled),
}

impl Source {
    /// Asks the coordinator that serves the folder; where there is none, opens the store.
    pub(super) async fn open(target: &Target) -> Result<Source, Failure> {
        match (reach::live(target).await?, &target.state) {
            (Some(channel), _) => Ok(Source::Live(Box::new(proto::inspect_client(channel)))),
            (None, Some(folder)) => {
                let (state, store) = reach::state_at_rest(folder)?;
                Ok(Source::Rest(state, store))
            }
            (None, None) => Err(Failure::Usage("give a state folder, or --coordinator URL".into())),
        }
    }
}

pub(super) fn refused(status: tonic::Status) -> Failure {
    from_class(Class::from(&status))
}

pub(super) fn from_class(class: Class) -> Failure {
    match class {
        Class::NotFound(text) | Class::Unavailable(text) => Failure::Absent(text),
        other => Failure::Failed(other.to_string()),
    }
}

/// Prints a line; an error means that nobody reads on, which is no failure.
pub(super) fn print(line: &str) -> bool {
    writeln!(std::io::stdout().lock(), "{line}").is_ok()
}

pub(super) async fn status(args: Looked) -> Result<u8, Failure> {
    let status = match Source::open(&args.target).await? {
        Source::Live(mut c) => c.status(wire::StatusRequest {}).await.map_err(refused)?.into_inner(),
        Source::Rest(state, _) => report::at_rest(report::status(&state, None)),
    };
    let last_round = args.target.state.as_deref().map(folder::finalists).transpose()?.flatten();
    let last_round = last_round.filter(|f| f.run == status.run_id);
    match args.json {
        true => print(&json::status(&status, last_round.as_ref())),
        false => print((table::status(&status) + &table::finalists(last_round.as_ref())).trim_end()),
    };
    Ok(exit::DONE)
}

pub(super) async fn candidates(args: Looked) -> Result<u8, Failure> {
    let mut history = History::open(&args.target).await?;
    let aims = history.plan.objectives.clone();
    if args.json && aims.is_empty() {
        // JSON lines go out as they come; a table, and a front, need them all.
        history.each_candidate(|c| print(&json::candidate(&c, None))).await?;
        return Ok(exit::DONE);
    }
    let all = history.candidates().await?;
    let on = super::front::members(&aims, &all);
    if args.json {
        all.iter().zip(&on).all(|(c, on)| print(&json::candidate(c, Some(*on))));
    } else {
        print(table::candidates(&all, (!aims.is_empty()).then_some(&on)).trim_end());
    }
    Ok(exit::DONE)
}

pub(super) async fn reports(args: Reports) -> Result<u8, Failure> {
    let candidate = args.candidate;
    let show = |r: &wire::SampleResult| match args.looked.json {
        true => print(&json::report(candidate, r)),
        false => {
            let scores: Vec<String> = r.scores.iter().map(|(m, v)| format!("{m} {v:.3}")).collect();
            // A model may write anything, escape sequences for the terminal included.
            let text = match &r.kept {
                Some(k) => format!("({} characters, kept on the worker's node)", k.characters),
                None => r.text.replace(|c: char| c.is_control() && c != '\n', " "),
            };
            print(&format!("── {}  {}\n{text}\n", r.sample, scores.join("  ")))
        }
    };
    match Source::open(&args.looked.target).await? {
        Source::Live(mut c) => {
            let request = wire::ReportsRequest { candidate };
            let mut stream = c.reports(request).await.map_err(refused)?.into_inner();
            while let Some(report) = stream.message().await.map_err(refused)? {
                if !show(&report) {
                    break;
                }
            }
        }
        Source::Rest(state, store) => {
            let evaluation =
                report::evaluation(&state, &store, CandidateId(candidate)).map_err(from_class)?;
            for sample in evaluation.samples {
                if !show(&sample.into()) {
                    break;
                }
            }
        }
    }
    Ok(exit::DONE)
}

/// The configuration with which mergekit makes the same language model.
fn mergekit(recipe: &str, out: Option<OutType>) -> Result<String, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(e.to_string());
    let recipe = common::provenance::RecipeFile::parse(recipe).map_err(|e| failed(&e))?.recipe;
    let out = out.map(|out| match out {
        OutType::Float32 => FloatType::Float32,
        OutType::Float16 => FloatType::Float16,
        OutType::Bfloat16 => FloatType::Bfloat16,
    });
    from_recipe(&recipe, out).map_err(|e| failed(&e))
}

pub(super) async fn recipe(args: Recipe) -> Result<u8, Failure> {
    if args.format == Format::Recipe && args.out_dtype.is_some() {
        return Err(Failure::Usage("--out-dtype is for --format mergekit".into()));
    }
    let candidate = super::finalists::chosen(&args)?;
    let reply = match Source::open(&args.target).await? {
        Source::Live(mut c) => {
            let request = wire::RecipeRequest { candidate };
            c.recipe(request).await.map_err(refused)?.into_inner()
        }
        Source::Rest(state, store) => {
            report::recipe(&state, &store, candidate.map(CandidateId)).map_err(from_class)?
        }
    };
    super::finalists::check(&args, &reply.recipe_json)?;
    match args.format {
        Format::Recipe => print(reply.recipe_json.trim_end()),
        Format::Mergekit => print(mergekit(&reply.recipe_json, args.out_dtype)?.trim_end()),
    };
    Ok(exit::DONE)
}
