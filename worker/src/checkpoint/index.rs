//! The index of a sharded checkpoint: which file holds which tensor.

use super::error::{Error, Result};
use common::bounded;
use std::collections::BTreeMap;
use std::path::{Component, Path};

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the index at `path`: file name → tensors that it must hold. Every file must be a plain name in the
/// same folder that ends in `extension`.
pub(crate) fn read(path: &Path, extension: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let text = bounded::read(path, bounded::TOKENIZER_BYTES).map_err(Error::io("read", path))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|e| Error::malformed(path, "weight_map", format!("not the expected JSON: {e}")))?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        if !plain(&file) || Path::new(&file).extension().is_none_or(|e| e != extension) {
            return Err(Error::Malformed {
                file: path.into(),
                field: format!("weight_map.{tensor}"),
                fault: format!("{file:?} is not the name of a .{extension} file beside the index"),
                remedy: "do not use this model unless you trust where it came from; put its shards beside the index",
            });
        }
        files.entry(file).or_default().push(tensor);
    }
    if files.is_empty() {
        return Err(Error::malformed(path, "weight_map", "names no file"));
    }
    if let Some(missing) = files.keys().find(|f| !path.with_file_name(f).is_file()) {
        return Err(Error::malformed(path, "weight_map", format!("names {missing}, which is not there")));
    }
    Ok(files)
}

/// Whether `name` is one path component, so that it cannot lead out of the folder on any system.
fn plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    one && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_cannot_leave_the_folder() {
        assert!(plain("model-00001-of-00002.safetensors"));
        for bad in ["../x.bin", "/etc/x.bin", "a/b.bin", "..", ".", "", "a\\b.bin", "c:x.bin", "x/"] {
            assert!(!plain(bad), "{bad}");
        }
    }
}
