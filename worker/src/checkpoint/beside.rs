//! Files of a model folder that are passed on with what is made of it: tokenizer, licence, code that loaders need.
//!
//! Whoever publishes the result publishes these with it. A folder from elsewhere, such as a cloned repository, may hold
//! links to anything that its reader can read; so what a link outside of the folder leads to is not passed on. Files of a
//! hub's cache are links to `blobs` beside their `snapshots` folder, and are.

use super::error::{Error, Result};
use common::bounded;
use std::path::Path;

/// The content of the file `name` in `folder`; nothing where there is none.
///
/// # Errors
/// [`Error::Malformed`] for a link that leaves the folder; [`Error::Io`], also for more than
/// [`bounded::TOKENIZER_BYTES`].
pub(crate) fn content(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let target = path.canonicalize().map_err(Error::io("resolve", &path))?;
    let home = folder.canonicalize().map_err(Error::io("resolve", folder))?;
    if !target.starts_with(&home) && !is_blob(&home, &target) {
        return Err(Error::Malformed {
            file: path,
            field: "link".into(),
            fault: format!("it leads to {}, out of the model's folder", target.display()),
            remedy: "what is made of a model is passed on with such files: put the file itself there, or remove the link",
        });
    }
    bounded::read(&path, bounded::TOKENIZER_BYTES).map(Some).map_err(Error::io("read", path))
}

/// Whether `target` is the content of a file of the snapshot `home` in a hub's cache.
fn is_blob(home: &Path, target: &Path) -> bool {
    let snapshots = home.parent().filter(|p| p.ends_with("snapshots"));
    snapshots.and_then(Path::parent).is_some_and(|cache| target.parent() == Some(&cache.join("blobs")))
}

#[cfg(all(test, unix))]
mod tests {
    use super::content;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_leave_the_folder_are_not_passed_on() {
        let home = tempfile::tempdir().unwrap();
        let model = home.path().join("model");
        fs::create_dir(&model).unwrap();
        fs::write(home.path().join("id_ed25519"), "private").unwrap();
        fs::write(model.join("tokenizer.json"), "{}").unwrap();
        symlink("tokenizer.json", model.join("vocab.json")).unwrap();
        symlink("../id_ed25519", model.join("LICENSE")).unwrap();
        assert_eq!(content(&model, "vocab.json").unwrap().unwrap(), b"{}");
        assert!(content(&model, "merges.txt").unwrap().is_none());
        let refused = content(&model, "LICENSE").unwrap_err().to_string();
        assert!(refused.contains("model/LICENSE") && refused.contains("id_ed25519"), "{refused}");
        assert!(!refused.contains("private"));
        // The folder itself may be a link.
        symlink(&model, home.path().join("other")).unwrap();
        assert!(content(&home.path().join("other"), "vocab.json").is_ok());
    }

    #[test]
    fn a_hubs_cache_keeps_contents_beside_its_snapshots() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = cache.path().join("snapshots/0123");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir(cache.path().join("blobs")).unwrap();
        fs::write(cache.path().join("blobs/abc"), "{}").unwrap();
        fs::write(cache.path().join("refs"), "main").unwrap();
        symlink("../../blobs/abc", snapshot.join("config.json")).unwrap();
        symlink("../../refs", snapshot.join("NOTICE")).unwrap();
        assert_eq!(content(&snapshot, "config.json").unwrap().unwrap(), b"{}");
        assert!(content(&snapshot, "NOTICE").is_err());
    }
}
