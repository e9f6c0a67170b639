//! What the records of a run say together.

use super::records::Records;
use super::{Report, problem};
use crate::state::State;
use crate::state::candidate::{Candidate, Phase};
use crate::store::key;
use crate::store::sled::Sled;
use crate::store::{Error, Store};
use common::evaluation::Evaluation;
use common::id::CandidateId;
use common::run::RunPlan;
use std::collections::BTreeSet;
use std::ops::Range;

/// So many numbers of one gap are listed.
const LISTED: usize = 1000;

pub(super) fn check(store: &Sled, records: &Records, report: &mut Report) {
    let found = [
        (key::IDENTITY, records.identity.is_some()),
        (key::COUNTERS, records.counters.is_some()),
        (key::SEARCHED, records.searched.is_some()),
    ];
    for (name, there) in found {
        // One that cannot be read is named already.
        if !there && !report.findings.iter().any(|f| f.record == name) {
            report.add(name, "it is missing", &[]);
        }
    }
    let plan = records.identity.as_ref().and_then(|identity| {
        (report.run, report.program_version) =
            (Some(identity.run.0.clone()), Some(identity.program_version.clone()));
        let plan = RunPlan::from_json(&identity.plan_json);
        plan.map_err(|e| report.add(key::IDENTITY, format!("its plan cannot be read: {e}"), &[])).ok()
    });
    numbers(records, report);
    let Some(plan) = plan else { return };
    let run = Run { plan, store, records };
    for (id, candidate) in &records.candidates {
        run.candidate(*id, candidate, report);
    }
    run.belongings(report);
    run.audits(report);
    run.bar(report);
    if report.is_whole() {
        replay(store, report);
    }
}

/// Whether candidates and journal are without a gap, and as many as were counted.
fn numbers(records: &Records, report: &mut Report) {
    // Of several that are missing in a row one finding is enough; those that cannot be read are named already.
    let named = report.findings.iter().filter_map(|f| f.record.strip_prefix("candidate/")?.parse().ok());
    let last = records.candidates.keys().next_back().copied().unwrap_or(0);
    let there: BTreeSet<u64> =
        named.filter(|id| *id <= last).chain(records.candidates.keys().copied()).collect();
    for gap in gaps(1, there) {
        let listed: Vec<u64> = gap.clone().take(LISTED).collect();
        report.add(key::candidate(gap.start), missing(&gap), &listed);
    }
    let entries = records.journal.iter().next_back().map_or(0, |last| last.saturating_add(1));
    for gap in gaps(0, records.journal.iter().copied()) {
        report.add(key::journal(gap.start), missing(&gap), &[]);
    }
    let (Some(counters), Some(searched)) = (&records.counters, &records.searched) else { return };
    // Stores from before there was a journal have none, and get one when they are resumed.
    if searched.place.is_some() && counters.entries != entries {
        report.add("journal", format!("it ends at {entries}, and {} were counted", counters.entries), &[]);
    }
    if searched.entries > counters.entries {
        let (saved, all) = (searched.entries, counters.entries);
        report.add(key::SEARCHED, format!("it comes after {saved} entries, and there are {all}"), &[]);
    }
    for (id, candidate) in &records.candidates {
        let later = |a: &&crate::state::candidate::Attempt| {
            a.lease.0 > counters.last_lease || a.worker.0 > counters.last_worker
        };
        if let Some(attempt) = candidate.attempts().iter().find(later) {
            let number = attempt.number;
            let problem = format!("attempt {number} has a lease or worker that was not counted yet");
            report.add(key::candidate(*id), problem, &[*id]);
        }
    }
}

/// The numbers from `first` on that are missing among these, which ascend. A damaged key may hold any number, so that gaps
/// are never counted through.
fn gaps(first: u64, there: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Range<u64>> {
    let mut next = first;
    let before = move |at: u64| std::mem::replace(&mut next, at.saturating_add(1))..at;
    there.into_iter().map(before).filter(|gap| !gap.is_empty())
}

fn missing(gap: &Range<u64>) -> String {
    format!("it is missing ({} in a row), and later ones are there", gap.end - gap.start)
}

struct Run<'a> {
    plan: RunPlan,
    store: &'a Sled,
    records: &'a Records,
}

impl Run<'_> {
    /// One candidate with its texts.
    fn candidate(&self, id: u64, candidate: &Candidate, report: &mut Report) {
        let mut wrong = |problem: String| report.add(key::candidate(id), problem, &[id]);
        if candidate.id().0 != id {
            wrong(format!("it calls itself candidate {}", candidate.id()));
        }
        let (has, wants) = (candidate.genome().coordinates().len(), self.plan.space.dimensions());
        if has != wants {
            wrong(format!("its genome has {has} coordinates, the plan {wants} parameters"));
        } else if self.plan.recipe(candidate.genome()).digest() != candidate.recipe() {
            wrong("its recipe is not the one that the plan makes of its genome".into());
        }
        let evaluation = match self.records.evaluations.contains(&id) {
            true => match self.store.evaluation(CandidateId(id)) {
                Ok(evaluation) => evaluation,
                // Named already.
                Err(_) => return,
            },
            false => None,
        };
        let many = self.plan.samples.len();
        match (candidate.phase(), &evaluation) {
            (Phase::Scored(_), None) => wrong("it is scored, and its evaluation is missing".into()),
            (Phase::Scored(score), Some(evaluation)) => {
                match self.plan.fitness(evaluation) {
                    Ok(fitness) if fitness == score.fitness => report.reports += 1,
                    Ok(fitness) => wrong(format!(
                        "its fitness is {}, and its evaluation makes it {}",
                        score.fitness.value(),
                        fitness.value()
                    )),
                    Err(e) => wrong(format!("its evaluation is not whole: {e}")),
                }
                let means = evaluation.means();
                // Later versions know more means than were written.
                let other = |(name, was): &(&String, &f64)| means.get(*name).is_some_and(|now| now != *was);
                if let Some((name, was)) = score.means.iter().find(other) {
                    report.add(
                        key::candidate(id),
                        format!("its mean of {name} is {was}, and its evaluation makes it {}", means[name]),
                        &[id],
                    );
                }
            }
            (Phase::Censored(c), evaluation) => {
                let rows = evaluation.as_ref().map_or(0, |e| e.samples.len());
                // What a run took over from an earlier one has no texts that ended early.
                if rows != c.samples as usize {
                    wrong(format!("it ended early after {} samples, and {rows} are stored", c.samples));
                }
            }
            (Phase::Open, Some(_)) => wrong("it is not final, and has an evaluation".into()),
            (Phase::Failed, Some(e)) if e.samples.len() > many => {
                wrong(format!("{} samples are stored, the run has {many}", e.samples.len()));
            }
            (Phase::Open | Phase::Failed, _) => {}
        }
    }

    /// Whether what belongs to candidates belongs to one that can have it.
    fn belongings(&self, report: &mut Report) {
        let records = self.records;
        for id in records.evaluations.iter().filter(|id| !self.is_known(**id)) {
            report.add(key::evaluation(*id), "there is no such candidate", &[*id]);
        }
        for ((id, position), name) in &records.samples {
            let record = key::sample(*id, *position);
            match records.candidates.get(id) {
                None if self.is_known(*id) => {}
                None => report.add(record, "there is no such candidate", &[*id]),
                Some(c) if c.is_final() => report.add(record, "its candidate is final", &[*id]),
                Some(_) => {
                    let wanted = self.plan.samples.get(*position as usize);
                    if let Some(name) = name.as_ref().filter(|name| Some(*name) != wanted) {
                        report.add(record, format!("it is of {name:?}, which does not stand there"), &[*id]);
                    }
                }
            }
        }
        for (id, parts) in &records.parts {
            let Some(parts) = parts else { continue };
            let evaluation = self.store.evaluation(CandidateId(*id)).ok().flatten();
            let scored = records.candidates.get(id).is_some_and(|c| c.fitness().is_some());
            if !scored || evaluation.is_none_or(|e| self.parts(&e).as_ref() != Some(parts)) {
                let problem = "it is not what the samples of a scored candidate contribute";
                report.add(key::parts(*id), problem, &[*id]);
            }
        }
    }

    /// Whether audits are of what was scored, and as many as were counted.
    fn audits(&self, report: &mut Report) {
        for (id, audited) in &self.records.audits {
            let Some(audited) = audited else { continue };
            let mut wrong = |problem: String| report.add(key::audit(*id), problem, &[*id]);
            match self.records.candidates.get(id).map(|c| c.fitness()) {
                Some(Some(first)) if first == audited.first => {}
                // Named already.
                None if self.is_known(*id) => {}
                _ => wrong(format!("its candidate does not have the fitness {}", audited.first.value())),
            }
            if !self.plan.fitness(&audited.evaluation).is_ok_and(|second| second == audited.second) {
                wrong(format!("its samples do not make the fitness {}", audited.second.value()));
            }
        }
        let counted = self.records.counters.as_ref().map(|c| c.audits.done);
        let stored = self.records.audits.len() as u64;
        if let Some(counted) = counted.filter(|counted| *counted != stored) {
            report.add("audits", format!("{counted} were counted, and {stored} are stored"), &[]);
        }
    }

    fn parts(&self, evaluation: &Evaluation) -> Option<Vec<f64>> {
        evaluation.samples.iter().map(|s| self.plan.objective.sample(s).ok()).collect()
    }

    /// Whether there is such a candidate, be it one that cannot be read.
    fn is_known(&self, id: u64) -> bool {
        let last = self.records.candidates.keys().next_back().copied().unwrap_or(0);
        (1..=last).contains(&id)
    }

    fn bar(&self, report: &mut Report) {
        let Some(bar) = &self.records.bar else { return };
        let id = bar.candidate.0;
        let fitness = self.records.candidates.get(&id).and_then(|c| c.fitness());
        if fitness != Some(bar.fitness) {
            report.add(key::BAR, format!("candidate {id} does not have this fitness"), &[id]);
        } else if bar.parts.len() != self.plan.samples.len() {
            report.add(key::BAR, format!("it has {} parts, the run other samples", bar.parts.len()), &[id]);
        }
    }
}

/// Whether the journal leads from the plan to what is stored.
fn replay(store: &Sled, report: &mut Report) {
    let loaded = match store.load() {
        Ok(Some(durable)) => durable,
        Ok(None) => return,
        Err(e) => return report.add(name(&e), problem(&e), &[]),
    };
    let state = match State::restore(loaded) {
        Ok(state) => state,
        Err(e) => return report.add("run", e.to_string(), &[]),
    };
    match state.replay(|from, most| store.journal(from, most)) {
        Ok(replayed) => {
            report.replayed = replayed.entries;
            if let Some(parts) = replayed.parts {
                report.add(key::journal(replayed.entries), parts, &[]);
            }
        }
        Err(e) => report.add(name(&e), problem(&e), &[]),
    }
}

fn name(e: &Error) -> String {
    match e {
        Error::Damaged { key, .. } | Error::Format { key, .. } => key.clone(),
        _ => "store".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::gaps;

    /// Found by fuzzing: a key with a large number made a list of all numbers before it.
    #[test]
    fn gaps_cost_what_is_there_and_not_what_is_missing() {
        let found: Vec<_> = gaps(1, [0, 1, 2, 5, u64::MAX - 1, u64::MAX]).collect();
        assert_eq!(found, [3..5, 6..u64::MAX - 1]);
        assert_eq!(gaps(0, [0, 1]).count(), 0);
        assert_eq!(gaps(0, []).count(), 0);
    }
}
