//! Reports that were left on the workers' nodes, brought together again: for commands that need the texts.

use super::{Failure, tell};
use common::digest::Digest;
use common::evaluation::{Evaluation, SampleResult};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A line of `candidate-N.jsonl`; other keys are the worker's.
#[derive(Deserialize)]
struct Line {
    id: String,
    text: String,
}

/// Folders that hold `candidate-N.jsonl`, each from one node.
pub(super) struct Texts {
    folders: Vec<PathBuf>,
}

impl Texts {
    pub fn new(folders: &[PathBuf]) -> Texts {
        Texts { folders: folders.to_vec() }
    }

    /// The evaluation with every text. A text counts by its digest alone, so that it does not matter who wrote a file.
    pub fn complete(&self, candidate: u64, evaluation: Evaluation) -> Result<Evaluation, Failure> {
        if evaluation.samples.iter().all(|s| s.kept.is_none()) {
            return Ok(evaluation);
        }
        let mut texts: HashMap<(String, Digest), String> = HashMap::new();
        for folder in &self.folders {
            let file = folder.join(format!("candidate-{candidate}.jsonl"));
            let (lines, broken) = read(&file)?;
            if broken > 0 {
                tell(&format!("{}: {broken} broken lines were skipped", file.display()));
            }
            for line in lines {
                let digest = Digest::of(line.text.as_bytes());
                texts.insert((line.id, digest), line.text);
            }
        }
        let whole = |(position, s): (usize, SampleResult)| match s.kept {
            None => Ok(s),
            Some(kept) => match texts.remove(&(s.sample.clone(), kept.digest)) {
                Some(text) => Ok(SampleResult { text, kept: None, ..s }),
                None => Err(missing(candidate, position + 1)),
            },
        };
        let samples = evaluation.samples.into_iter().enumerate().map(whole).collect::<Result<_, _>>()?;
        Ok(Evaluation { samples, ..evaluation })
    }
}

fn missing(candidate: u64, sample: usize) -> Failure {
    Failure::Usage(format!(
        "candidate {candidate}, sample {sample}: its report was left on its worker's node (reports = \"local\"); bring the \
         run's folder under jradievo/reports of every node here and name each with --reports DIR"
    ))
}

/// The lines of a file, and how many could not be read: a worker that was killed, or whose disk was full, may have left one
/// cut short, in the middle of a character even. What is missed thereby is asked for by [`missing`].
fn read(file: &Path) -> Result<(Vec<Line>, usize), Failure> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        // Not every node had every candidate.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(e) => return Err(Failure::Usage(format!("cannot read {}: {e}", file.display()))),
    };
    let all = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let read: Vec<Option<Line>> = all.map(|line| serde_json::from_slice(line).ok()).collect();
    let broken = read.iter().filter(|line| line.is_none()).count();
    Ok((read.into_iter().flatten().collect(), broken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn texts_are_found_by_their_digest_wherever_they_are() {
        let plan = testing::plan(&[]);
        let whole = testing::evaluate(&plan, &plan.authors_middle());
        let left = Evaluation {
            samples: whole.samples.iter().cloned().map(SampleResult::without_text).collect(),
            ..whole.clone()
        };
        let dir = tempfile::tempdir().unwrap();
        let nodes = [dir.path().join("a"), dir.path().join("b")];
        for (node, samples) in nodes.iter().zip([&whole.samples[..1], &whole.samples[1..]]) {
            std::fs::create_dir(node).unwrap();
            let line = |s: &SampleResult| {
                serde_json::json!({ "id": s.sample, "text": s.text, "tokens": 7 }).to_string()
            };
            let lines: Vec<String> = samples.iter().map(line).collect();
            std::fs::write(node.join("candidate-3.jsonl"), lines.join("\n")).unwrap();
        }
        assert_eq!(Texts::new(&nodes).complete(3, left.clone()).unwrap(), whole);
        let e = Texts::new(&nodes[..1]).complete(3, left.clone()).unwrap_err().to_string();
        assert!(e.contains("candidate 3, sample 2") && e.contains("--reports DIR"), "{e}");
        assert!(!e.contains("s2"), "an id may say who a patient is: {e}");
        // What was changed is not taken.
        std::fs::write(nodes[0].join("candidate-3.jsonl"), r#"{"id":"s1","text":"another"}"#).unwrap();
        assert!(Texts::new(&nodes).complete(3, left).is_err());
        assert_eq!(Texts::new(&[]).complete(3, whole.clone()).unwrap(), whole);
    }

    #[test]
    fn a_line_that_was_cut_short_costs_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("candidate-3.jsonl");
        let whole = |id: &str| format!(r#"{{"id":"{id}","text":"胸水なし。","tokens":3}}"#);
        let text = whole("c");
        // The first tear was mended by the next line of the same worker; the second is within a character.
        let cut = text.find('胸').unwrap() + 1;
        let (first, second) = (whole("a") + "\n", whole("b") + "\n");
        let torn =
            [first.as_bytes(), &text.as_bytes()[..20], b"\n", second.as_bytes(), &text.as_bytes()[..cut]];
        std::fs::write(&file, torn.concat()).unwrap();
        let (lines, broken) = read(&file).unwrap();
        assert_eq!(lines.iter().map(|l| l.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(broken, 2);
    }
}
