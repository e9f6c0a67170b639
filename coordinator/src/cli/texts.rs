//! Reports that were left on the workers' nodes, brought together again: for commands that need the texts.

use super::Failure;
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
            for line in read(&file)? {
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

fn read(file: &Path) -> Result<Vec<Line>, Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        // Not every node had every candidate.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Failure::Usage(format!("cannot read {}: {e}", file.display()))),
    };
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|e| Failure::Usage(format!("{}:{}: {e}", file.display(), number + 1)))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
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
}
