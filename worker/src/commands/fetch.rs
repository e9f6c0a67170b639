//! `jradievo-worker fetch`: every model of a run or recipe is brought here and verified, before anything needs it.

use super::{FAILED, OK, merge::read_recipe, table};
use crate::asking::read_run;
use crate::checkpoint::Checkpoint;
use crate::cli;
use crate::locate::Locator;
use anyhow::{Context, Result};
use common::files;
use common::location::Location;
use common::recipe::ModelRef;
use common::run::RunPlan;
use hub::{Hub, Meter, Snapshot, State};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One model, whatever its names.
#[derive(Serialize)]
struct Row {
    names: Vec<String>,
    /// Pinned, for a model of a hub; absent for a folder.
    reference: Option<String>,
    repo: Option<String>,
    commit: Option<String>,
    folder: Option<String>,
    files: usize,
    bytes: u64,
    /// Bytes that came over the network.
    fetched: u64,
    ok: bool,
    faults: Vec<String>,
    contents: Vec<Content>,
}

/// One file of a model.
#[derive(Serialize)]
struct Content {
    name: String,
    bytes: u64,
    /// As the hub states it: 64 digits of SHA-256, or 40 of a git object.
    digest: Option<String>,
    /// `verified`, `no-digest`, `present`, `missing`, `wrong`.
    state: &'static str,
}

/// Runs the command. Fails when any model does.
pub fn run(args: &cli::Fetch) -> Result<u8> {
    let models = read_models(&args.file, &args.set)?;
    let mut locator = Locator::new(args.models.clone(), None);
    let hub = match models.iter().any(|m| matches!(m.location(), Ok(Location::Hub(_)))) {
        true => Some(Hub::from_env()?),
        false => None,
    };
    let meter = Meter::stderr();
    let mut rows: Vec<Row> = Vec::new();
    let mut seen: Vec<(PathBuf, &ModelRef)> = Vec::new();
    for model in &models {
        // The VLM is often a source, too.
        if let Some(i) = seen.iter().position(|(_, m)| m.path == model.path && m.rename == model.rename)
            && seen[i].0 == locator.model(model)
        {
            rows[i].names.push(model.name.clone());
            continue;
        }
        let snapshot = locator.place(model, |reference| {
            let hub = hub.as_ref().expect("made where any model is on a hub");
            match args.check {
                true => hub.verify(reference, &meter),
                false => hub.obtain_verified(reference, &meter),
            }
        });
        rows.push(row(model, &locator, snapshot));
        seen.push((locator.model(model), model));
    }
    let ok = rows.iter().all(|r| r.ok);
    if args.json {
        out!("{}", serde_json::to_string_pretty(&serde_json::json!({ "ok": ok, "models": rows }))?);
    } else {
        print(&rows);
    }
    Ok(if ok { OK } else { FAILED })
}

/// The models that a run file, a recipe, or the plan of a run (`run.json`, `jradievo check --json`) names.
fn read_models(path: &Path, set: &[String]) -> Result<Vec<ModelRef>> {
    let owned = |models: Vec<&ModelRef>| models.into_iter().cloned().collect();
    if path.extension().is_none_or(|e| e != "json") {
        return Ok(owned(read_run(path, set)?.model_refs()));
    }
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot read it"))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{name}: not JSON"))?;
    // run.json has the plan beside the run's id; `check --json` prints it alone.
    let plan = value.get("plan").or_else(|| value.get("space").map(|_| &value));
    match plan {
        Some(plan) => {
            let plan = RunPlan::from_json(&plan.to_string()).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
            Ok(owned(plan.model_refs()))
        }
        None => Ok(owned(read_recipe(path)?.model_refs())),
    }
}

fn row(model: &ModelRef, locator: &Locator, placed: Result<Option<Snapshot>>) -> Row {
    let mut row = Row {
        names: vec![model.name.clone()],
        reference: None,
        repo: None,
        commit: None,
        folder: None,
        files: 0,
        bytes: 0,
        fetched: 0,
        ok: false,
        faults: Vec::new(),
        contents: Vec::new(),
    };
    let snapshot = match placed {
        Ok(snapshot) => snapshot,
        Err(e) => {
            row.faults.push(format!("{e:#}"));
            return row;
        }
    };
    let folder = locator.model(model);
    row.folder = Some(folder.display().to_string());
    match snapshot {
        Some(snapshot) => {
            row.reference = Some(snapshot.reference.to_string());
            row.repo = Some(snapshot.reference.repo());
            row.commit = snapshot.reference.commit().map(String::from);
            row.fetched = snapshot.fetched;
            for file in snapshot.files {
                if let State::Wrong { fault } = &file.state {
                    row.faults.push(format!("{}: {fault}", file.name));
                } else if file.state == State::Missing {
                    row.faults.push(format!("{}: missing", file.name));
                }
                row.contents.push(Content {
                    name: file.name,
                    bytes: file.bytes,
                    digest: file.id.map(|id| id.to_string()),
                    state: word(&file.state),
                });
            }
        }
        // A folder of this machine's own: nobody states what it should be, but it must be there.
        None => match files::model_files(&folder) {
            Ok(paths) => row.contents.extend(paths.iter().map(|path| Content {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                bytes: std::fs::metadata(path).map(|m| m.len()).unwrap_or(0),
                digest: None,
                state: word(&State::NoDigest),
            })),
            Err(e) => row.faults.push(e.to_string()),
        },
    }
    row.files = row.contents.len();
    row.bytes = row.contents.iter().map(|c| c.bytes).sum();
    if row.faults.is_empty()
        && let Err(e) = Checkpoint::open_renamed(&folder, &model.rename)
    {
        row.faults.push(e.to_string());
    }
    row.ok = row.faults.is_empty();
    row
}

fn word(state: &State) -> &'static str {
    match state {
        State::Present => "present",
        State::Verified => "verified",
        State::NoDigest => "no-digest",
        State::Missing => "missing",
        State::Wrong { .. } => "wrong",
    }
}

fn print(rows: &[Row]) {
    let cells = |row: &Row| {
        let verified = row.contents.iter().filter(|c| c.state == "verified").count();
        let state = match (row.ok, verified) {
            (false, _) => "FAIL".into(),
            (true, 0) => "opens".into(),
            (true, n) if n == row.files => "verified".into(),
            (true, n) => format!("{n} of {} verified", row.files),
        };
        vec![
            row.names.join(", "),
            row.repo.clone().unwrap_or_else(|| "(a folder)".into()),
            row.commit.as_deref().map_or_else(String::new, |c| c[..12].into()),
            row.files.to_string(),
            hub::size(row.bytes),
            hub::size(row.fetched),
            state,
        ]
    };
    let head = ["model", "repository", "commit", "files", "size", "fetched", "state"];
    table::print(&head, &rows.iter().map(cells).collect::<Vec<_>>());
    for row in rows {
        let name = row.names.join(", ");
        match (&row.folder, row.ok) {
            (Some(folder), true) => out!("{name}: {folder}"),
            _ => row.faults.iter().for_each(|f| out!("FAIL  {name}: {f}")),
        }
    }
}
