//! Names and digests of the files that a run depends on.
//!
//! Beside `bounded` this is the one module of the crate that reads the disk: both programs must list, name and digest the
//! same files in the same way, or a good worker would be turned away.

use crate::bounded;
use crate::dataset::Reference;
use crate::digest::{FileDigest, IMAGES};
use crate::run::{DatasetPlan, RunPlan, ScoringPlan};
use std::collections::{BTreeMap, BTreeSet};
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

/// Files beside the weights that decide what a model says, where they are there: they are fetched from a hub, pinned by
/// digest and counted among a model's files. Read-me files, licences and code are fetched but decide nothing here.
pub const BESIDE: [&str; 14] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "jradievo.json",
];

/// The forms that weights come in, as (single file, index, extension), in the order in which they are looked for: the
/// first that is there is read, whatever else lies beside it.
const FORMS: [(&str, &str, &str); 2] = [
    ("model.safetensors", "model.safetensors.index.json", "safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "bin"),
];

/// Names of the weight files that are read from a folder that holds `names`: one file, or an index with the shards that
/// it names. None where no form is there.
fn weight_files(folder: &Path, names: &[String]) -> Result<Vec<String>, FilesError> {
    let has = |name: &str| names.iter().any(|n| n == name);
    for (single, index, extension) in FORMS {
        if has(single) {
            return Ok(vec![single.into()]);
        }
        if has(index) {
            let mut files = shards(&folder.join(index), extension)?;
            files.push(index.into());
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

/// The shards that an index names, each once, sorted.
fn shards(index: &Path, extension: &str) -> Result<Vec<String>, FilesError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let fault = |message: String| FilesError { path: index.to_path_buf(), message };
    let text = bounded::read(index, bounded::TOKENIZER_BYTES).map_err(|e| FilesError::io(index, &e))?;
    let read: Index = serde_json::from_slice(&text)
        .map_err(|e| fault(format!("not an index of shards ({e}); download it again")))?;
    let files: BTreeSet<String> = read.weight_map.into_values().collect();
    let beside = |name: &&String| {
        let plain = !name.contains(['/', '\\', ':', '\0']);
        plain && Path::new(name).extension().is_some_and(|e| e == extension)
    };
    match files.iter().find(|f| !beside(f)) {
        Some(odd) => Err(fault(format!(
            "names {odd:?}, which is not a .{extension} file beside it; put its shards beside the index"
        ))),
        None => Ok(files.into_iter().collect()),
    }
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
    let weights = weight_files(folder, &names)?;
    names.retain(|n| BESIDE.contains(&n.as_str()));
    names.extend(weights);
    names.sort();
    if !names.iter().any(|n| n == "config.json") {
        let message = "no config.json; point this model at a folder in Hugging Face's layout".into();
        return Err(FilesError { path: folder.to_path_buf(), message });
    }
    Ok(names.into_iter().map(|n| folder.join(n)).collect())
}

/// Digests a regular file by memory map, on all cores.
pub fn digest_file(name: String, path: &Path) -> Result<FileDigest, FilesError> {
    let bytes = bounded::regular(path).map_err(|e| FilesError::io(path, &e))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path).map_err(|e| FilesError::io(path, &e))?;
    Ok(FileDigest { name, bytes, digest: hasher.finalize().into() })
}

/// Digests the deciding files of the model called `name` as `models/<name>/<file>`.
pub fn digest_model(name: &str, folder: &Path) -> Result<Vec<FileDigest>, FilesError> {
    digest_opened_model(name, folder, |_| None, &|| true)
}

/// Bytes between which [`digest_opened_model`] asks whether to go on.
const PIECE_BYTES: usize = 256 << 20;

/// The same where some files are mapped already: `mapped` gives the content of the file of a name. To map them once more would cost
/// as much as to digest them. Gives up, with an error that nobody need see, once `go_on` says no.
pub fn digest_opened_model<'a>(
    name: &str,
    folder: &Path,
    mapped: impl Fn(&str) -> Option<&'a [u8]>,
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<FileDigest>, FilesError> {
    let digest = |path: PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("models/{name}/{file}");
        let Some(content) = mapped(&file) else { return digest_file(name, &path) };
        let mut hasher = blake3::Hasher::new();
        for piece in content.chunks(PIECE_BYTES) {
            if !go_on() {
                return Err(FilesError { path, message: "not digested: stopped on request".into() });
            }
            hasher.update_rayon(piece);
        }
        Ok(FileDigest { name, bytes: content.len() as u64, digest: hasher.finalize().into() })
    };
    model_files(folder)?.into_iter().map(digest).collect()
}

/// Digests a dataset: the file itself as `dataset/<file>` and each sample's image as `dataset/images/<path>`. Errors name
/// samples by position, from 1.
pub fn digest_dataset(plan: &DatasetPlan, samples: &[Reference]) -> Result<Vec<FileDigest>, FilesError> {
    let file = Path::new(&plan.file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut digests = vec![digest_file(format!("dataset/{name}"), file)?];
    for (position, sample) in samples.iter().enumerate().filter(|(_, s)| !s.image.is_empty()) {
        let path = Path::new(&plan.images).join(&sample.image);
        // The file's name may be a patient's.
        let without_name = |e: FilesError| {
            let message = format!("the image of sample {}: {}", position + 1, e.message);
            FilesError { path: PathBuf::from(&plan.images), message }
        };
        let digest = digest_file(format!("{IMAGES}{}", sample.image), &path);
        digests.push(digest.map_err(without_name)?);
    }
    Ok(digests)
}

/// Digests the lexicons and the dictionary that scoring reads from files; of those that come with the program `score`
/// knows the digests.
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

/// Digests the files of the commands that the plan makes workers run, as `external/<metric>/<file>` and
/// `evaluator/<file>`. A program that is found on PATH is each node's own.
pub fn digest_programs(plan: &RunPlan) -> Result<Vec<FileDigest>, FilesError> {
    let mut digests = Vec::new();
    for (name, program) in plan.programs() {
        for path in program.files.iter().map(Path::new) {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            digests.push(digest_file(format!("{name}/{file}"), path)?);
        }
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let name = |p: PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
        model_files(folder.path()).unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn only_the_weights_that_are_read_count() {
        let index = r#"{"weight_map":{"a":"model-2.safetensors","b":"model-1.safetensors","c":"model-2.safetensors"}}"#;
        let bin_index = r#"{"weight_map":{"a":"pytorch_model-1.bin"}}"#;
        let all = [
            ("config.json", "{}"),
            ("README.md", ""),
            ("tokenizer.json", "{}"),
            ("training_args.bin", ""),
            ("consolidated.safetensors", ""),
            ("pytorch_model-1.bin", ""),
            ("pytorch_model.bin.index.json", bin_index),
            ("model-1.safetensors", ""),
            ("model-2.safetensors", ""),
            ("model.safetensors.index.json", index),
            ("model.safetensors", ""),
        ];
        assert_eq!(names(&folder(&all)), ["config.json", "model.safetensors", "tokenizer.json"]);
        let sharded = [
            "config.json",
            "model-1.safetensors",
            "model-2.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(names(&folder(&all[..10])), sharded);
        // A safetensors file that no loader reads does not hide the torch files that are read.
        let torch = ["config.json", "pytorch_model-1.bin", "pytorch_model.bin.index.json", "tokenizer.json"];
        assert_eq!(names(&folder(&all[..7])), torch);
    }

    #[test]
    fn what_decides_how_images_and_texts_are_read_is_pinned() {
        let all = [
            ("config.json", "{}"),
            ("preprocessor_config.json", "{}"),
            ("tokenizer.model", ""),
            ("chat_template.jinja", ""),
            ("modeling_x.py", ""),
            ("LICENSE", ""),
            ("model.safetensors", ""),
        ];
        let expected = [
            "chat_template.jinja",
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "tokenizer.model",
        ];
        assert_eq!(names(&folder(&all)), expected);
    }

    #[test]
    fn an_index_cannot_lead_elsewhere() {
        for (text, expected) in [
            (r#"{"weight_map":{"a":"../x.safetensors"}}"#, "not a .safetensors file beside it"),
            (r#"{"weight_map":{"a":"/etc/passwd"}}"#, "not a .safetensors file beside it"),
            (r#"{"weight_map":3}"#, "not an index of shards"),
        ] {
            let folder = folder(&[("config.json", "{}"), ("model.safetensors.index.json", text)]);
            let e = model_files(folder.path()).unwrap_err().to_string();
            assert!(e.contains("model.safetensors.index.json") && e.contains(expected), "{e}");
        }
    }

    #[test]
    fn a_folder_without_config_is_named() {
        let e = model_files(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
        assert!(e.to_string().contains("no config.json"), "{e}");
        let e = model_files(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(e.to_string().starts_with("/nowhere/at/all"), "{e}");
    }
}
