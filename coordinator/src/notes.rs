//! What happened, as lines of the log: how grave each kind is, and in which words. No text of a report, and samples by position.

use crate::state::Note;
use crate::state::conduct::Bench;

/// Writes one note down.
pub fn log(note: &Note) {
    match note {
        Note::Joined { worker, name, device } => {
            tracing::info!(worker = worker.0, name, device, "worker joined");
        }
        Note::Left { name } => tracing::info!(name, "worker left"),
        Note::AttemptEnded { candidate, attempt, worker, how, reason } => {
            let how = how.word();
            tracing::warn!(candidate = candidate.0, attempt, worker, how, reason, "attempt ended");
        }
        Note::Drained { name, drained } => tracing::info!(name, drained, "draining"),
        Note::Benched { name, bench } => {
            let Bench { until, failures, reason } = bench;
            tracing::warn!(name, until = until.0, failures, reason, "worker benched");
        }
        Note::CandidateFailed { candidate } => {
            tracing::warn!(candidate = candidate.0, "candidate given up: the worst of its generation");
        }
        Note::Censored { candidate, bound, samples } => {
            let bound = bound.value();
            tracing::info!(candidate = candidate.0, bound, samples, "candidate cannot reach the parents");
        }
        Note::Disagreement { candidate, sample, first, second, worker } => tracing::error!(
            candidate = candidate.0,
            sample,
            first = first.value(),
            second = second.value(),
            worker,
            "two workers evaluated one sample differently; the first result stays"
        ),
        Note::AuditFailed { candidate, worker, reason } => {
            tracing::warn!(candidate = candidate.0, worker, reason, "audit failed");
        }
        Note::AuditDisagrees { candidate, first, first_by, second, second_by, samples } => tracing::error!(
            candidate = candidate.0,
            first = first.value(),
            first_by,
            second = second.value(),
            second_by,
            samples,
            "an audit disagrees; the first result stays"
        ),
        Note::GenerationClosed { generation, best } => {
            let fitness = best.map(|b| b.1.value());
            tracing::info!(generation, best = best.map(|b| b.0.0), fitness, "generation closed");
        }
        Note::Remark(text) => tracing::info!(text, "search"),
        Note::Paused(paused) => tracing::info!(paused, "lending"),
        Note::Extended(budget) => tracing::info!(?budget, "budget extended"),
        Note::Finished { reason } => tracing::info!(reason, "run finished"),
    }
}
