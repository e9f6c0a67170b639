//! Names and digests of the files that a run depends on.
//!
//! This is the one module of the crate that reads the disk: both programs must list, name and digest the same
//! files in the same way, or a good worker would be turned away.

use crate::dataset::Reference;
use crate::digest::FileDigest;
use crate::run::{DatasetPlan, ScoringPlan};
use std::path::{Path, PathBuf};

/// A file or folder could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FilesError {
    /// What was to be read.
    pub path: PathBuf,
    /// Why it could not be, and what to do.
    pub message: String,
}

impl FilesError {
    fn io(path: &Path, e: &std::io::Error) -> FilesError {
        FilesError { path: path.to_path_buf(), message: e.to_string() }
    }
}

/// Whether a file in a model's folder decides what the model says: weights, their index, configuration and
/// tokenizer. Read-me files, licences and code do not.
fn decides(name: &str, has_safetensors: bool) -> bool {
    const JSON: [&str; 5] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ];
    // Folders that hold both forms are read from safetensors, so the torch files do not count.
    let torch = !has_safetensors && name != "training_args.bin";
    JSON.contains(&name)
        || name.ends_with(".safetensors")
        || name.ends_with(".safetensors.index.json")
        || (torch && (name.ends_with(".bin") || name.ends_with(".bin.index.json")))
}

/// Paths of the files in `folder` that decide what the model says, sorted by name.
pub fn model_files(folder: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| FilesError::io(folder, &e))? {
        let entry = entry.map_err(|e| FilesError::io(folder, &e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    let has_safetensors = names.iter().any(|n| n.ends_with(".safetensors"));
    names.retain(|n| decides(n, has_safetensors));
    names.sort();
    if !names.iter().any(|n| n == "config.json") {
        let message = "no config.json; point this model at a folder in Hugging Face's layout".into();
        return Err(FilesError { path: folder.to_path_buf(), message });
    }
    Ok(names.into_iter().map(|n| folder.join(n)).collect())
}

/// Digests a file by memory map, on all cores.
pub fn digest_file(name: String, path: &Path) -> Result<FileDigest, FilesError> {
    let bytes = std::fs::metadata(path).map_err(|e| FilesError::io(path, &e))?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path).map_err(|e| FilesError::io(path, &e))?;
    Ok(FileDigest { name, bytes, digest: hasher.finalize().into() })
}

/// Digests the deciding files of the model called `name` as `models/<name>/<file>`.
pub fn digest_model(name: &str, folder: &Path) -> Result<Vec<FileDigest>, FilesError> {
    let digest = |path: PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        digest_file(format!("models/{name}/{file}"), &path)
    };
    model_files(folder)?.into_iter().map(digest).collect()
}

/// Digests a dataset: the file itself as `dataset/<file>` and each sample's image as `dataset/images/<path>`.
pub fn digest_dataset(plan: &DatasetPlan, samples: &[Reference]) -> Result<Vec<FileDigest>, FilesError> {
    let file = Path::new(&plan.file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut digests = vec![digest_file(format!("dataset/{name}"), file)?];
    for sample in samples {
        let path = Path::new(&plan.images).join(&sample.image);
        digests.push(digest_file(format!("dataset/images/{}", sample.image), &path)?);
    }
    Ok(digests)
}

/// Digests the lexicons and the dictionary that scoring reads from files; built-in ones come with the program,
/// whose version is agreed otherwise.
pub fn digest_scoring(plan: &ScoringPlan) -> Result<Vec<FileDigest>, FilesError> {
    let mut digests = Vec::new();
    let named = [("lexicon", &plan.lexicon), ("extend_lexicon", &plan.extend_lexicon)];
    for (name, path) in named.into_iter().filter_map(|(n, p)| p.as_ref().map(|p| (n, p))) {
        digests.push(digest_file(format!("scoring/{name}"), Path::new(path))?);
    }
    if Path::new(&plan.tokenizer).is_absolute() {
        let path = Path::new(&plan.tokenizer);
        let mut dictionary = vec![path.to_path_buf()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| FilesError::io(path, &e))?;
            dictionary = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_file()).collect();
            dictionary.sort();
        }
        for file in dictionary {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            digests.push(digest_file(format!("scoring/tokenizer/{name}"), &file)?);
        }
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torch_files_count_only_where_there_is_nothing_else() {
        assert!(decides("model-00001-of-00002.safetensors", true));
        assert!(decides("model.safetensors.index.json", true));
        assert!(decides("pytorch_model-00001-of-00002.bin", false));
        assert!(!decides("pytorch_model-00001-of-00002.bin", true));
        assert!(!decides("README.md", false));
        assert!(!decides("training_args.bin", false));
    }

    #[test]
    fn a_folder_without_config_is_named() {
        let e = model_files(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
        assert!(e.to_string().contains("no config.json"), "{e}");
        let e = model_files(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(e.to_string().starts_with("/nowhere/at/all"), "{e}");
    }
}
