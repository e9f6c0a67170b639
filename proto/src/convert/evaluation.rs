//! Evaluations: texts and scores of every sample.
//!
//! Whether they are the run's samples, and whether the scores are finite, is `common::fitness`'s to judge:
//! that is a failed attempt with a reason, not a malformed message.

use super::{MAX_METRICS, Refused, at_most, digest, name};
use crate::wire;
use common::dataset::{MAX_REPORT_BYTES, MAX_SAMPLES};
use common::evaluation::{Evaluation, Kept, SampleResult, Stop, Timings};

impl From<SampleResult> for wire::SampleResult {
    fn from(s: SampleResult) -> wire::SampleResult {
        let stop = match s.stop {
            Stop::End => wire::Stop::End,
            Stop::Length => wire::Stop::Length,
            Stop::NonFinite => wire::Stop::NonFinite,
            Stop::Repetition => wire::Stop::Repetition,
            Stop::NoJapanese => wire::Stop::NoJapanese,
        };
        wire::SampleResult {
            sample: s.sample,
            text: s.text,
            tokens: s.tokens,
            stop: stop as i32,
            scores: s.scores,
            kept: s.kept.map(|k| wire::Kept { digest: k.digest.to_string(), characters: k.characters }),
        }
    }
}

impl TryFrom<wire::SampleResult> for SampleResult {
    type Error = Refused;

    fn try_from(s: wire::SampleResult) -> Result<SampleResult, Refused> {
        at_most("text", s.text.len(), MAX_REPORT_BYTES)?;
        at_most("scores", s.scores.len(), MAX_METRICS)?;
        for metric in s.scores.keys() {
            name("scores", metric.clone())?;
        }
        let stop = match s.stop() {
            wire::Stop::End => Stop::End,
            wire::Stop::Length => Stop::Length,
            wire::Stop::NonFinite => Stop::NonFinite,
            wire::Stop::Repetition => Stop::Repetition,
            wire::Stop::NoJapanese => Stop::NoJapanese,
            wire::Stop::Unspecified => return Err(Refused::new("stop", format!("{} is unknown", s.stop))),
        };
        let sample = name("sample", s.sample)?;
        let kept =
            |k: wire::Kept| Ok(Kept { digest: digest("kept.digest", &k.digest)?, characters: k.characters });
        let kept = s.kept.map(kept).transpose()?;
        if kept.is_some() && !s.text.is_empty() {
            return Err(Refused::new("text", "is given beside what stands for it"));
        }
        Ok(SampleResult { sample, text: s.text, tokens: s.tokens, stop, scores: s.scores, kept })
    }
}

impl From<Timings> for wire::Timings {
    fn from(t: Timings) -> wire::Timings {
        let Timings { merge_ms, features_ms, generate_ms, score_ms, prefill_ms } = t;
        wire::Timings { merge_ms, features_ms, generate_ms, score_ms, prefill_ms }
    }
}

impl From<wire::Timings> for Timings {
    fn from(t: wire::Timings) -> Timings {
        // No stage takes a century; the cap keeps sums from overflowing.
        let cap = |ms: u64| ms.min(100 * 366 * 24 * 3_600_000);
        Timings {
            merge_ms: cap(t.merge_ms),
            features_ms: cap(t.features_ms),
            generate_ms: cap(t.generate_ms),
            score_ms: cap(t.score_ms),
            prefill_ms: cap(t.prefill_ms.min(t.generate_ms)),
        }
    }
}

impl From<Evaluation> for wire::Evaluation {
    fn from(e: Evaluation) -> wire::Evaluation {
        let samples = e.samples.into_iter().map(Into::into).collect();
        wire::Evaluation { samples, timings: Some(e.timings.into()) }
    }
}

impl TryFrom<wire::Evaluation> for Evaluation {
    type Error = Refused;

    fn try_from(e: wire::Evaluation) -> Result<Evaluation, Refused> {
        Ok(Evaluation { samples: samples(e.samples)?, timings: e.timings.unwrap_or_default().into() })
    }
}

/// Results of samples, as any message lists them under `samples`.
pub(super) fn samples(all: Vec<wire::SampleResult>) -> Result<Vec<SampleResult>, Refused> {
    at_most("samples", all.len(), MAX_SAMPLES)?;
    let sample = |(i, s): (usize, wire::SampleResult)| {
        SampleResult::try_from(s).map_err(|e| e.within(format_args!("samples[{i}]")))
    };
    all.into_iter().enumerate().map(sample).collect()
}
