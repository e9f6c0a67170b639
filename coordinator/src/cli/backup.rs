//! `jradievo backup`: a consistent copy of a run, live or at rest, that is checked before it is called one.

use super::look::{print, refused};
use super::{Failure, Target, exit, folder, json, reach};
use crate::backup::{self, Copied};
use crate::fsck;
use crate::store::copy::Draft;
use crate::store::sled::{FOLDER as STORE, Sled, private_folder};
use crate::store::{Error, Store, witness};
use clap::Args;
use proto::wire;
use std::path::{Path, PathBuf};

/// Where the copy is made, within its folder: what is not whole is no state folder.
const DRAFT: &str = ".copying";

#[derive(Debug, Args)]
pub(super) struct Backup {
    #[command(flatten)]
    target: Target,
    /// Folder for the copy: new, or empty
    #[arg(long, value_name = "DIR2")]
    to: PathBuf,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

pub(super) async fn backup(args: Backup) -> Result<u8, Failure> {
    let live = reach::live(&args.target).await?;
    let drafted = Drafted::new(&args.to)?;
    let mut draft = Draft::new(&drafted.path)?;
    let copied = match (live, &args.target.state) {
        (Some(channel), _) => {
            let request = wire::BackupRequest {};
            let stream = proto::operate_client(channel).backup(request).await.map_err(refused)?.into_inner();
            backup::receive(stream, &mut draft).await.map_err(Failure::Failed)?
        }
        (None, Some(folder)) => backup::copy(&Sled::open(folder)?, &mut draft)?,
        (None, None) => return Err(Failure::Usage("give a state folder, or --coordinator URL".into())),
    };
    draft.finish()?;
    let report = checked(&drafted.path)?;
    let finalists = args.target.state.as_deref().map(folder::finalists).transpose()?.flatten();
    if let Some(finalists) = finalists.filter(|f| Some(&f.run) == report.run.as_ref()) {
        folder::record_finalists(&drafted.path, &finalists)?;
    }
    drafted.keep()?;
    show(&args, &report, copied);
    Ok(exit::DONE)
}

/// What the copy is worth.
fn checked(folder: &Path) -> Result<fsck::Report, Failure> {
    let store = Sled::open(folder)?;
    let report = fsck::check(folder, &store)?;
    if let Some(first) = report.findings.first() {
        let more = report.findings.len() as u64 + report.more - 1;
        return Err(Failure::Failed(format!(
            "what was copied is not sound ({}: {}; {more} more), so that no copy was left; stop the coordinator and look \
             at its folder with `jradievo fsck`",
            first.record, first.problem
        )));
    }
    let identity = store.load()?.ok_or_else(|| Error::Empty { folder: folder.to_path_buf() })?.identity;
    folder::write_run(folder, &identity)?;
    Ok(report)
}

fn show(args: &Backup, report: &fsck::Report, copied: Copied) {
    if args.json {
        print(&json::backup(&args.to, report, copied));
        return;
    }
    let run = report.run.as_deref().unwrap_or_default();
    let (mib, to) = (copied.bytes as f64 / f64::from(1 << 20), args.to.display());
    print(&format!(
        "{run}: {} candidates, {} records, {mib:.1} MiB copied to {to} and found sound",
        report.candidates, copied.records
    ));
    print(&format!("go on from it with: jradievo resume {to}"));
}

/// A folder in which a copy is being made; gone, with what was made of it, unless it is kept.
struct Drafted {
    to: PathBuf,
    path: PathBuf,
    made: bool,
    kept: bool,
}

impl Drafted {
    fn new(to: &Path) -> Result<Drafted, Failure> {
        let shown = to.display();
        let made = match std::fs::read_dir(to) {
            Ok(mut entries) => {
                // A copy that was killed left its draft.
                let other = |e: std::io::Result<std::fs::DirEntry>| e.is_ok_and(|e| e.file_name() != DRAFT);
                if entries.any(other) {
                    return Err(Failure::Folder(format!("{shown} is not empty; choose a new folder")));
                }
                false
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            Err(e) => return Err(Failure::Folder(format!("cannot read {shown}: {e}"))),
        };
        let path = to.join(DRAFT);
        let _ = std::fs::remove_dir_all(&path);
        private_folder(&path).map_err(|e| Failure::Folder(format!("cannot create {shown}: {e}")))?;
        Ok(Drafted { to: to.to_path_buf(), path, made, kept: false })
    }

    /// Makes the folder a state folder: the store comes last.
    fn keep(mut self) -> Result<(), Failure> {
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if name != STORE && name != witness::FILE {
                std::fs::rename(self.path.join(&name), self.to.join(&name))?;
            }
        }
        // A store from before commits were counted has no witness.
        if self.path.join(witness::FILE).exists() {
            std::fs::rename(self.path.join(witness::FILE), self.to.join(witness::FILE))?;
        }
        std::fs::rename(self.path.join(STORE), self.to.join(STORE))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Drafted {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
        if self.made && !self.kept {
            // Only where nothing else came to be in it.
            let _ = std::fs::remove_dir(&self.to);
        }
    }
}
