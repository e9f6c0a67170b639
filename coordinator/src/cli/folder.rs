//! The files of a state folder beside the store.
//!
//! | file | what |
//! |---|---|
//! | `store/` | everything durable, see [`crate::store`] |
//! | `committed` | how many commits were acknowledged, see [`crate::store::witness`] |
//! | `run.json` | run id and plan, for people |
//! | `address` | URL of the coordinator that is serving the run; absent while there is none |
//! | `operator` | folder of the operator's certificate, for commands on this machine; there while `address` is |
//! | `finalists.json` | what the last round found, once it was recorded |
//! | `listen` | address that was last listened on, so that `resume` is found by workers that wait for it |

use super::Failure;
use crate::state::Identity;
use crate::store::Store;
use crate::store::sled::{FOLDER as STORE, Sled, private_folder};
use crate::store::witness::FILE as WITNESS;
use score::finalists::Finalists;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const ADDRESS: &str = "address";
const LISTEN: &str = "listen";
const OPERATOR: &str = "operator";
const RUN: &str = "run.json";
const FINALISTS: &str = "finalists.json";

/// Makes the folder of a new run. Refuses one that holds anything.
pub fn create(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            // A start that was killed before its first record left a store without a run: that is no run.
            if folder.join(STORE).exists() && Sled::open_or_create(folder)?.load()?.is_some() {
                let error = crate::store::Error::NotEmpty { folder: folder.to_path_buf() };
                return Err(Failure::Folder(error.to_string()));
            }
            match entries.flatten().any(|e| e.file_name() != STORE && e.file_name() != WITNESS) {
                true => Err(Failure::Folder(format!("{shown} is not empty; choose a new folder"))),
                false => close(folder),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => close(folder),
        Err(e) => Err(Failure::Folder(format!("cannot read {shown}: {e}"))),
    }
}

/// Makes a run's folder, or closes one that is there to others: ids, scores and reports are its owner's business.
pub fn close(folder: &Path) -> Result<(), Failure> {
    let cannot = |e| Failure::Folder(format!("cannot create {}: {e}", folder.display()));
    private_folder(folder).map_err(cannot)
}

/// Writes the plan where people look for it.
pub fn write_run(folder: &Path, identity: &Identity) -> Result<(), Failure> {
    let plan: serde_json::Value =
        serde_json::from_str(&identity.plan_json).map_err(|e| Failure::Failed(e.to_string()))?;
    let mut run = serde_json::json!({
        "run": identity.run,
        "program_version": identity.program_version,
        "created_unix_ms": identity.created,
        "plan": plan,
    });
    if let Some(from) = &identity.refined_from {
        run["refined_from"] = serde_json::json!(from);
    }
    write(folder, RUN, &format!("{run:#}\n"))
}

/// The run id that `run.json` names.
pub fn run_id(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(RUN)).ok()?;
    let run: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(run.get("run")?.as_str()?.to_string())
}

/// The recorded last round, where there is one.
///
/// # Errors
/// A file that is there and cannot be used, by its name.
pub fn finalists(folder: &Path) -> Result<Option<Finalists>, Failure> {
    let path = folder.join(FINALISTS);
    match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::Failed(format!("cannot read {}: {e}", path.display()))),
        Ok(text) => match Finalists::parse(&text) {
            Ok(finalists) => Ok(Some(finalists)),
            Err(e) => Err(Failure::Failed(format!("{}: {e}; record the finalists again", path.display()))),
        },
    }
}

/// Records a last round, in place of an earlier one.
pub fn record_finalists(folder: &Path, finalists: &Finalists) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(finalists).map_err(|e| Failure::Failed(e.to_string()))?;
    write(folder, FINALISTS, &(text + "\n"))
}

/// URL of the coordinator that serves this folder, if there is one (or was, and was killed).
pub fn address(folder: &Path) -> Option<String> {
    Some(std::fs::read_to_string(folder.join(ADDRESS)).ok()?.trim().to_string())
}

/// Address that was last listened on.
pub fn last_listen(folder: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(folder.join(LISTEN)).ok()?.trim().parse().ok()
}

/// Folder of the operator's certificate that commands on this machine may use.
pub fn operator(folder: &Path) -> Option<PathBuf> {
    Some(PathBuf::from(std::fs::read_to_string(folder.join(OPERATOR)).ok()?.trim()))
}

/// `address` and `operator`, there for as long as this lives.
#[derive(Debug)]
pub struct Announced {
    paths: [PathBuf; 2],
}

impl Announced {
    /// Writes where the coordinator listens, under which URL it is reached from here, and by which certificate.
    pub fn new(
        folder: &Path,
        listening: SocketAddr,
        url: &str,
        operator: Option<&Path>,
    ) -> Result<Announced, Failure> {
        write(folder, LISTEN, &format!("{listening}\n"))?;
        let announced = Announced { paths: [folder.join(ADDRESS), folder.join(OPERATOR)] };
        if let Some(operator) = operator {
            write(folder, OPERATOR, &format!("{}\n", operator.display()))?;
        }
        write(folder, ADDRESS, &format!("{url}\n"))?;
        Ok(announced)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Stale files do no harm: whoever reads them finds nobody there.
        self.paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Writes a file whole or not at all.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let (path, draft) = (folder.join(name), folder.join(format!(".{name}.new")));
    let failed = |e: std::io::Error| Failure::Failed(format!("cannot write {}: {e}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&draft, &path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Durable;
    use crate::testing::{manifest, plan};
    use common::time::Millis;

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_enter_is_closed_to_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        create(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn only_an_empty_folder_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path()).unwrap();
        create(&dir.path().join("new/deep")).unwrap();
        let e = create(dir.path()).unwrap_err();
        assert!(e.to_string().contains("not empty"), "{e}");
        // A store without a run is no run; one with a run is.
        let state = dir.path().join("state");
        std::fs::create_dir_all(state.join("store")).unwrap();
        create(&state).unwrap();
        let durable = Durable::new(&plan(&[]), manifest(), Millis(7));
        Sled::open(&state).unwrap().commit(&durable.records()).unwrap();
        let e = create(&state).unwrap_err();
        assert!(e.to_string().contains("jradievo resume"), "{e}");
        assert_eq!(e.code(), super::super::exit::FOLDER);
    }

    #[test]
    fn the_address_is_there_while_announced() {
        let dir = tempfile::tempdir().unwrap();
        let listening: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        let (url, certificate) = ("https://127.0.0.1:4711", Path::new("/pki/operator"));
        let announced = Announced::new(dir.path(), listening, url, Some(certificate)).unwrap();
        assert_eq!(address(dir.path()).unwrap(), url);
        assert_eq!(operator(dir.path()).unwrap(), certificate);
        drop(announced);
        assert_eq!((address(dir.path()), operator(dir.path())), (None, None));
        assert_eq!(last_listen(dir.path()), Some(listening));
    }
}
