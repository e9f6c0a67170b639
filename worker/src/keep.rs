//! Reports that stay on this node: written here, while scores, lengths and digests alone go to the coordinator.
//!
//! `REPORTS/RUN/candidate-N.jsonl` has a line for every report that this node wrote, `id` and `text` as `jradievo-worker score`
//! and `jradievo rescore --reports` read them. Folders and files are their owner's alone.

use anyhow::{Context, Result};
use common::evaluation::SampleResult;
use common::id::{CandidateId, RunId};
use common::run::{Reports, RunPlan};
use serde::Serialize;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where this node keeps a run's reports, if it does.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    folder: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    text: &'a str,
    tokens: u32,
    scores: &'a std::collections::BTreeMap<String, f64>,
}

impl Keeper {
    /// A keeper for a run whose plan says where its reports are. `root` is the folder of this node's runs; by default
    /// `jradievo/reports` in the user's state folder.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn for_run(plan: &RunPlan, run: &RunId, root: Option<&Path>) -> Result<Keeper> {
        if plan.reports == Reports::Coordinator {
            return Ok(Keeper::default());
        }
        let root = match root {
            Some(root) => root.to_path_buf(),
            None => state_folder()
                .context("neither XDG_STATE_HOME nor HOME is set: say --reports DIR")?
                .join("reports"),
        };
        // The coordinator named the run: what would leave the folder is not taken as a name.
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let folder = root.join(run.0.chars().map(plain).collect::<String>());
        secure::files::private_folder(&folder)
            .with_context(|| format!("cannot make {} for reports", folder.display()))?;
        Ok(Keeper { folder: Some(folder) })
    }

    /// Where reports are kept; `None` where they go to the coordinator.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What may leave this node of some reports, after they were kept. A disk that fails is told of: scores are worth
    /// more than a stop.
    pub fn keep(&self, candidate: CandidateId, rows: Vec<SampleResult>) -> Vec<SampleResult> {
        let Some(folder) = self.folder.as_deref().filter(|_| !rows.is_empty()) else { return rows };
        let file = folder.join(format!("candidate-{candidate}.jsonl"));
        if let Err(e) = append(&file, &rows) {
            tracing::error!(file = %file.display(), error = %e, "reports could not be kept; their scores go on");
        }
        rows.into_iter().map(SampleResult::without_text).collect()
    }
}

fn append(file: &Path, rows: &[SampleResult]) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for row in rows {
        let line = Line { id: &row.sample, text: &row.text, tokens: row.tokens, scores: &row.scores };
        serde_json::to_writer(&mut lines, &line)?;
        lines.push(b'\n');
    }
    let mut options = std::fs::OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    let before = file.metadata()?.len();
    // A worker that was killed, or a disk that was full, may have left half a line: it is to spoil itself alone.
    if before > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            lines.insert(0, b'\n');
        }
    }
    // One write, so that a process that is killed seldom leaves less than whole lines.
    file.write_all(&lines)
}

/// The user's folder for what this program keeps between runs.
pub fn state_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    Some(state?.join("jradievo"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::evaluation::Stop;
    use std::collections::BTreeMap;

    fn row(sample: &str, text: &str) -> SampleResult {
        let scores = BTreeMap::from([("rouge_l".to_string(), 0.5)]);
        SampleResult {
            sample: sample.into(),
            text: text.into(),
            tokens: 3,
            stop: Stop::End,
            scores,
            kept: None,
        }
    }

    #[test]
    fn texts_stay_and_what_stands_for_them_goes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        secure::files::private_folder(&folder).unwrap();
        let keeper = Keeper { folder: Some(folder.clone()) };
        let gone = keeper.keep(CandidateId(7), vec![row("a", "両肺野は清明。"), row("b", "")]);
        assert!(gone.iter().all(|r| r.text.is_empty() && r.scores["rouge_l"] == 0.5));
        assert_eq!(gone[0].kept.unwrap().characters, 7);
        assert_eq!(gone[0].value("length"), Some(7.0));
        keeper.keep(CandidateId(7), vec![row("c", "胸水あり。\n")]);
        let file = folder.join("candidate-7.jsonl");
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("両肺野は清明。"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));
        }
        // Half a line, as a full disk leaves it, spoils no other.
        let torn: String = text.chars().take(text.chars().count() - 9).collect();
        std::fs::write(&file, &torn).unwrap();
        keeper.keep(CandidateId(7), vec![row("z", "心拡大なし。")]);
        let text = std::fs::read_to_string(&file).unwrap();
        let last = text.strip_prefix(&torn).and_then(|t| t.strip_prefix('\n')).unwrap();
        assert!(
            last.starts_with("{\"id\":\"z\"") && last.ends_with("}\n") && last.lines().count() == 1,
            "{last}"
        );
        // With the coordinator, everything goes as it is.
        let row = row("a", "x");
        assert_eq!(Keeper::default().keep(CandidateId(1), vec![row.clone()]), [row]);
    }
}
