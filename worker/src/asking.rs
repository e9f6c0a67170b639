//! How a model is asked: task, image size and limits, from the command line, a run file, the model's own folder,
//! or the paper's task with the model's own preprocessing, in that order.

use crate::cli::Asking;
use anyhow::{Context, Result, bail};
use common::bounded;
use common::run::{GenerationPlan, RunFile, RunPlan};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A file in a model's folder that says how the model wants to be asked. All keys are optional.
pub const FILE: &str = "jradievo.json";

/// The paper's task: act as a radiologist, read the X-ray, write the findings in Japanese.
pub const PAPER_TASK: &str = "あなたは優秀な放射線科医です。このレントゲン写真を見て、所見文を書いてください。\
    肺・心臓・骨に異常があるかに注目して読影してください。日本語で書いてください。";

/// What is asked, and the limits of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The task text.
    pub task: String,
    /// Image size and limits.
    pub generation: GenerationPlan,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    task: Option<String>,
    image_resize: Option<[u32; 2]>,
    max_new_tokens: Option<u32>,
}

/// Reads a run file for its plan. Its models and data need not be there.
pub fn read_run(path: &Path, overrides: &[String]) -> Result<RunPlan> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot read the run file"))?;
    let absolute = std::path::absolute(path).with_context(|| name.clone())?;
    let folder = absolute.parent().map(PathBuf::from).unwrap_or_default();
    let metrics: Vec<&str> = score::METRICS.iter().map(|m| m.name).collect();
    let file = RunFile { name: &name, text: &text, folder: &folder, overrides, metrics: &metrics };
    Ok(common::run::parse(&file)?)
}

/// Puts together how the model in `model` is asked.
pub fn resolve(asking: &Asking, model: &Path) -> Result<(Question, Option<RunPlan>)> {
    let run = asking.run.as_deref().map(|p| read_run(p, &[])).transpose()?;
    let mut question = match &run {
        Some(plan) => Question { task: plan.task.clone(), generation: plan.generation.clone() },
        None => of_folder(model)?,
    };
    if let Some(task) = &asking.task {
        question.task = task.clone();
    }
    if let Some(n) = asking.max_new_tokens {
        question.generation.max_new_tokens = n;
    }
    if let Some(n) = asking.batch_size {
        question.generation.batch_size = n;
    }
    if let Some(size) = &asking.image_resize {
        question.generation.image_resize = Some(read_size(size)?);
    }
    Ok((question, run))
}

fn of_folder(model: &Path) -> Result<Question> {
    let path = model.join(FILE);
    let folder = match bounded::text(&path, bounded::SETTINGS_BYTES) {
        Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string())?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Folder::default(),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    Ok(Question {
        task: folder.task.unwrap_or_else(|| PAPER_TASK.into()),
        generation: GenerationPlan {
            image_resize: folder.image_resize,
            max_new_tokens: folder.max_new_tokens.unwrap_or(256).clamp(1, 8192),
            batch_size: 50,
        },
    })
}

fn read_size(text: &str) -> Result<[u32; 2]> {
    let sides = text.split_once(['x', 'X', '×']);
    let sides = sides.and_then(|(w, h)| Some([w.trim().parse().ok()?, h.trim().parse().ok()?]));
    match sides {
        Some(size) if size.iter().all(|s| (1..=8192).contains(s)) => Ok(size),
        _ => bail!("--image-resize {text}: expected WxH with sides from 1 to 8192, such as 512x512"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_folder_which_wins_over_the_paper() {
        let dir = tempfile::tempdir().unwrap();
        let (paper, _) = resolve(&Asking::default(), dir.path()).unwrap();
        assert_eq!((paper.task.as_str(), paper.generation.max_new_tokens), (PAPER_TASK, 256));
        std::fs::write(dir.path().join(FILE), r#"{"task":"所見は？","max_new_tokens":9}"#).unwrap();
        let (own, _) = resolve(&Asking::default(), dir.path()).unwrap();
        assert_eq!((own.task.as_str(), own.generation.max_new_tokens), ("所見は？", 9));
        assert_eq!(own.generation.image_resize, None);
        let line =
            Asking { image_resize: Some("64x32".into()), max_new_tokens: Some(5), ..Asking::default() };
        let (own, _) = resolve(&line, dir.path()).unwrap();
        assert_eq!((own.generation.image_resize, own.generation.max_new_tokens), (Some([64, 32]), 5));
        let bad = Asking { image_resize: Some("64".into()), ..Asking::default() };
        assert!(resolve(&bad, dir.path()).is_err());
    }
}
