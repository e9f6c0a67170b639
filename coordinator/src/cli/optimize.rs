//! `optimize`: the search alone, over standard input and output. Reads lines, prints answers, keeps the state file;
//! what they mean is [`::search::dialogue`]'s.

use super::{Failure, Optimize, exit, folder};
use common::run::study::{self, Direction, StudyPlan};
use search::dialogue::{Dialogue, Saved, Study};
use std::io::{BufRead, Write};
use std::path::Path;

pub(super) fn optimize(args: &Optimize) -> Result<u8, Failure> {
    let plan = args.space.as_deref().map(|path| read_plan(path, args)).transpose()?;
    let study = open(args, plan)?;
    let directions: Vec<Direction> = study.plan().objectives.iter().map(|(_, d)| *d).collect();
    // A file may name the direction, and so may the command: that both are right is not for us to guess.
    if (args.maximize && directions.contains(&Direction::Minimize))
        || (args.minimize && directions != [Direction::Minimize])
    {
        let flag = if args.maximize { "--maximize" } else { "--minimize" };
        return Err(Failure::Usage(format!("{flag} is not what this search was set up for: leave it out")));
    }
    talk(Dialogue::new(study), args.state.as_deref())
}

fn read_plan(path: &Path, args: &Optimize) -> Result<StudyPlan, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| {
        Failure::Usage(format!("cannot read {name}: {e}; give a file that describes the space"))
    })?;
    study::parse(&name, &text, &args.overrides, args.minimize).map_err(|e| Failure::Usage(e.to_string()))
}

/// The study in the state file, or a new one.
fn open(args: &Optimize, plan: Option<StudyPlan>) -> Result<Study, Failure> {
    let shown = args.state.as_deref().map(|p| p.display().to_string()).unwrap_or_default();
    let text = match args.state.as_deref().map(std::fs::read_to_string) {
        Some(Ok(text)) => Some(text),
        Some(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::Folder(format!("cannot read {shown}: {e}")));
        }
        Some(Err(_)) | None => None,
    };
    match (text, plan) {
        (Some(text), plan) => {
            let saved = Saved::from_text(&text);
            let study = saved.and_then(|saved| Study::restore(saved, plan));
            study.map_err(|e| Failure::Folder(format!("{shown}: {e}")))
        }
        (None, Some(plan)) => Ok(Study::new(plan)),
        (None, None) => Err(Failure::Usage(
            "nothing to search: give a file that describes the space, or --state FILE of a search that has begun"
                .into(),
        )),
    }
}

/// Until the input ends or nobody reads the output. What an answer says stands in the state file before it leaves.
fn talk(mut dialogue: Dialogue, state: Option<&Path>) -> Result<u8, Failure> {
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.split(b'\n') {
        // What is not UTF-8 is no JSON either: it gets its error line.
        let line = String::from_utf8_lossy(&line?).into_owned();
        let Some(answer) = dialogue.answer(&line) else { continue };
        if let (true, Some(path)) = (answer.changed, state) {
            save(dialogue.study(), path)?;
        }
        if writeln!(output, "{}", answer.text).and_then(|()| output.flush()).is_err() {
            break;
        }
    }
    Ok(exit::DONE)
}

fn save(study: &Study, path: &Path) -> Result<(), Failure> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|n| n.to_str());
    let name =
        name.ok_or_else(|| Failure::Usage(format!("--state {}: not a file's name", path.display())))?;
    folder::write(parent, name, &study.save().to_text())
}
